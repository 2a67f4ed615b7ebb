//! Subscriptions and what is delivered to a real receiver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt;
use serde_json::{Value, json};
use simulators::microsoft::Mode;
use simulators::plumbing::{Request, Response, Running, SimClock, Wire, serve};

use crate::support::*;

/// A receiver that answers handshakes and takes notifications with a status that a test may change.
struct Receiver {
    running: Running,
    status: Arc<Mutex<u16>>,
    got: Arc<Mutex<Vec<(String, Value)>>>,
}

async fn receiver(answer: fn(&str) -> Response) -> Receiver {
    let (status, got) = (Arc::new(Mutex::new(202)), Arc::new(Mutex::new(Vec::new())));
    let (asked_status, taken) = (status.clone(), got.clone());
    let handler = Arc::new(move |request: Request| {
        let response = match request.query("validationToken") {
            Some(token) => answer(token),
            None => {
                taken.lock().unwrap().push((request.target(), request.json().unwrap()));
                Response::empty(*asked_status.lock().unwrap())
            }
        };
        async move { response }.boxed()
    });
    let running = serve(0, Wire::new(SimClock::system()), handler).await.unwrap();
    Receiver { running, status, got }
}

fn honest(token: &str) -> Response {
    Response { status: 200, body: token.as_bytes().to_vec(), ..Response::default() }
        .header("Content-Type", "text/plain")
}

impl Receiver {
    fn items(&self) -> Vec<Value> {
        let got = self.got.lock().unwrap();
        got.iter().flat_map(|(_, body)| body["value"].as_array().cloned().unwrap_or_default()).collect()
    }

    fn changes(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for item in self.items() {
            *out.entry(item["changeType"].as_str().unwrap_or("lifecycle").to_owned()).or_default() += 1;
        }
        out
    }

    fn clear(&self) {
        self.got.lock().unwrap().clear();
    }
}

fn wanted(g: &Graph, r: &Receiver, minutes: i64) -> Value {
    let until = g.clock.now() + TimeDelta::minutes(minutes);
    json!({"changeType": "created,updated,deleted", "notificationUrl": format!("{}/n?x=1", r.running.url),
        "lifecycleNotificationUrl": format!("{}/l", r.running.url), "resource": "/me/events",
        "expirationDateTime": until.to_rfc3339(), "clientState": "secret"})
}

async fn subscribe(g: &Graph, body: Value) -> Answer {
    g.send(ANNA, "POST", "/subscriptions", body).await
}

#[tokio::test]
async fn subscriptions_that_graph_refuses_are_refused() {
    let g = Graph::new();
    let r = receiver(honest).await;
    let late = (g.clock.now() + TimeDelta::minutes(10_200)).to_rfc3339();
    let past = (g.clock.now() - TimeDelta::minutes(1)).to_rfc3339();
    for (name, value, status) in [
        ("expirationDateTime", json!(late), 400),
        ("expirationDateTime", json!(past), 400),
        ("expirationDateTime", json!("soon"), 400),
        ("notificationUrl", json!("http://example.com/x"), 400),
        ("notificationUrl", Value::Null, 400),
        ("resource", json!("/me/messages"), 400),
        ("changeType", json!("moved"), 400),
        ("clientState", json!("x".repeat(129)), 400),
        ("bogus", json!(1), 400),
        ("includeResourceData", json!(true), 400),
        ("resource", json!(format!("/users/{BORIS}/events")), 403),
        ("resource", json!("/me/todo/lists/nope/tasks"), 404),
    ] {
        let answer = subscribe(&g, with(wanted(&g, &r, 60), name, value.clone())).await;
        assert_eq!(answer.status, status, "{name} {value}");
    }
    assert!(g.sim.subscriptions().is_empty());
}

#[tokio::test]
async fn the_handshake_wants_the_decoded_token_as_plain_text_with_200() {
    let g = Graph::new();
    let liars: [fn(&str) -> Response; 4] = [
        |token| Response::html(200, token.to_owned()),
        |token| honest(&token.replace(' ', "%20")),
        |token| Response { status: 202, ..honest(token) },
        |_| Response::empty(500),
    ];
    for liar in liars {
        let r = receiver(liar).await;
        assert_eq!(subscribe(&g, wanted(&g, &r, 60)).await.status, 400);
    }
    let r = receiver(honest).await;
    subscribe(&g, wanted(&g, &r, 60)).await.ok(201);
    let asked: Vec<String> = g.sim.deliveries().iter().rev().take(2).map(|d| d.url.clone()).collect();
    assert!(asked.iter().any(|url| url.ends_with("/l")) && asked.iter().any(|url| url.ends_with("/n?x=1")));
}

#[tokio::test]
async fn a_second_subscription_of_the_same_kind_is_409_until_the_first_is_gone() {
    let g = Graph::new();
    let r = receiver(honest).await;
    let first = subscribe(&g, wanted(&g, &r, 60)).await.ok(201);
    let again = subscribe(&g, with(wanted(&g, &r, 60), "changeType", json!("deleted,created,updated"))).await;
    assert_eq!(again.status, 409);
    assert_eq!(g.get(ANNA, "/subscriptions").await.rows().len(), 1);
    assert!(g.get(BORIS, "/subscriptions").await.rows().is_empty());
    g.get(BORIS, &format!("/subscriptions/{}", first.id())).await.ok(404);
    g.delete(ANNA, &format!("/subscriptions/{}", first.id())).await.ok(204);
    subscribe(&g, wanted(&g, &r, 60)).await.ok(201);
}

#[tokio::test]
async fn a_short_life_is_raised_to_45_minutes_renewed_by_patch_and_ends_by_the_clock() {
    let g = Graph::new();
    let r = receiver(honest).await;
    let sub = subscribe(&g, wanted(&g, &r, 5)).await.ok(201);
    assert_eq!(sub.body["expirationDateTime"], "2026-11-22T12:45:00Z");
    let path = format!("/subscriptions/{}", sub.id());
    let until = json!({"expirationDateTime": "2026-11-25T12:00:00Z"});
    assert_eq!(
        g.send(ANNA, "PATCH", &path, until.clone()).await.ok(200).body["expirationDateTime"],
        "2026-11-25T12:00:00Z"
    );
    let lifecycle = json!({"lifecycleNotificationUrl": format!("{}/other", r.running.url)});
    assert_eq!(g.send(ANNA, "PATCH", &path, lifecycle).await.status, 400, "cannot be added later");
    g.sim.age_subscriptions(10);
    g.clock.advance(TimeDelta::minutes(11));
    assert_eq!(g.send(ANNA, "PATCH", &path, until).await.status, 404);
    assert!(g.sim.subscriptions().is_empty());
}

#[tokio::test]
async fn tasks_live_shorter_and_are_per_list() {
    let g = Graph::new();
    let r = receiver(honest).await;
    let list = g.sim.person(ANNA).lists()[0].0.clone();
    let body = |minutes| with(wanted(&g, &r, minutes), "resource", json!(format!("/me/todo/lists/{list}/tasks")));
    assert_eq!(subscribe(&g, body(5000)).await.status, 400);
    subscribe(&g, body(4000)).await.ok(201);
    let task = g.sim.person(ANNA).create_task(json!({"title": "t"})).unwrap();
    g.sim.deliver_now().await;
    let items = r.items();
    assert_eq!((items.len(), &items[0]["resourceData"]["id"]), (1, &task["id"]));
}

#[tokio::test]
async fn one_creation_gives_several_notifications_with_the_id_form_of_the_subscription() {
    let g = Graph::new();
    let r = receiver(honest).await;
    let request = g.request(ANNA, "POST", "/subscriptions").with_header("Prefer", "IdType=\"ImmutableId\"");
    let sub = g.ask(request.with_json(&wanted(&g, &r, 60))).await.ok(201);
    let made = g.post_event(event("E")).await.ok(201);
    assert!(g.sim.pending_notifications() > 0);
    g.sim.deliver_now().await;
    assert_eq!(g.sim.pending_notifications(), 0);
    assert_eq!(r.changes(), BTreeMap::from([("created".to_owned(), 1), ("updated".to_owned(), 1)]));
    let item = &r.items()[0];
    assert_eq!((&item["clientState"], &item["subscriptionId"]), (&json!("secret"), &sub.body["id"]));
    assert_ne!(item["resourceData"]["id"], made.body["id"]);
    let path = format!("/me/events/{}", item["resourceData"]["id"].as_str().unwrap());
    assert_eq!(g.get(ANNA, &path).await.id(), made.id());
    assert_eq!(r.got.lock().unwrap()[0].0, "/n?x=1", "the query of the URL is kept");
}

#[tokio::test]
async fn a_refused_notification_comes_again_later_and_a_dropped_one_never() {
    let g = Graph::new();
    let r = receiver(honest).await;
    subscribe(&g, wanted(&g, &r, 600)).await.ok(201);
    *r.status.lock().unwrap() = 503;
    let made = g.post_event(event("E")).await.ok(201);
    g.sim.deliver_now().await;
    r.clear();
    *r.status.lock().unwrap() = 202;
    assert_eq!(g.sim.deliver_now().await, 0, "not yet");
    g.clock.advance(TimeDelta::seconds(2));
    g.sim.deliver_now().await;
    assert_eq!(r.items().len(), 2);
    r.clear();
    g.sim.set_notifications(Mode::Drop, 1, false, Duration::ZERO);
    let path = format!("/me/events/{}", made.id());
    g.send(ANNA, "PATCH", &path, json!({"subject": "x"})).await.ok(200);
    g.sim.set_notifications(Mode::Hold, 3, true, Duration::ZERO);
    g.send(ANNA, "PATCH", &path, json!({"subject": "y"})).await.ok(200);
    g.sim.deliver_now().await;
    assert!(r.items().is_empty());
    assert_eq!((g.sim.held_notifications(), g.sim.pending_notifications()), (3, 0));
    g.sim.set_notifications(Mode::Normal, 1, false, Duration::ZERO);
    g.sim.deliver_now().await;
    assert_eq!(r.items().len(), 3, "copies of the one that was held");
}

#[tokio::test]
async fn lifecycle_events_pause_and_remove_and_reauthorizing_resumes() {
    let g = Graph::new();
    let r = receiver(honest).await;
    let sub = subscribe(&g, wanted(&g, &r, 600)).await.ok(201);
    assert_eq!(g.sim.lifecycle("reauthorizationRequired", None).await, 1);
    assert_eq!(r.items()[0]["lifecycleEvent"], "reauthorizationRequired");
    r.clear();
    g.post_event(event("lost")).await.ok(201);
    g.sim.deliver_now().await;
    assert!(r.items().is_empty(), "paused");
    g.send(ANNA, "POST", &format!("/subscriptions/{}/reauthorize", sub.id()), json!({})).await.ok(202);
    g.post_event(event("seen")).await.ok(201);
    g.sim.deliver_now().await;
    assert_eq!(r.items().len(), 2);
    g.sim.lifecycle("missed", Some(&sub.id())).await;
    assert_eq!(g.sim.subscriptions().len(), 1);
    g.sim.lifecycle("subscriptionRemoved", None).await;
    assert!(g.sim.subscriptions().is_empty());
    g.get(ANNA, &format!("/subscriptions/{}", sub.id())).await.ok(404);
}

#[tokio::test]
async fn a_served_simulator_delivers_in_the_background() {
    let g = Graph::new();
    g.sim.start(0).await.unwrap();
    let r = receiver(honest).await;
    subscribe(&g, wanted(&g, &r, 60)).await.ok(201);
    g.sim.person(ANNA).create_event(event("E")).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while r.items().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nothing came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    g.sim.stop().await;
}
