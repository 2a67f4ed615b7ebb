//! Concurrency, throttling, batches, faults and the pages, over real HTTP.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use simulators::plumbing::{Fault, Request};

use crate::support::*;

struct Served {
    g: Graph,
    url: String,
    client: reqwest::Client,
    token: String,
}

impl Served {
    async fn new() -> Self {
        let g = Graph::new();
        let url = g.sim.start(0).await.unwrap();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let token = g.sim.mint_token(ANNA).unwrap();
        Self { g, url, client, token }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("{}/v1.0{path}", self.url)).bearer_auth(&self.token)
    }

    async fn status(&self, path: &str) -> u16 {
        self.request("GET", path).send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn the_fifth_request_at_a_time_is_429_with_retry_after() {
    let s = Served::new().await;
    s.g.sim.set_service_time(Duration::from_millis(400));
    let asked = (0..7).map(|_| async {
        let answer = s.request("GET", "/me/events").send().await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    });
    let mut answers = futures::future::join_all(asked).await;
    answers.sort();
    assert_eq!(answers, [[(200, false)].repeat(4), [(429, true)].repeat(3)].concat());
    let report = s.g.sim.throttle_report()[ANNA].clone();
    assert_eq!((report.max_in_flight, report.refused), (5, 3));
    assert_eq!(s.g.sim.throttle_report()[BORIS].max_in_flight, 0);
    s.g.sim.stop().await;
}

#[tokio::test]
async fn requests_before_retry_after_has_passed_are_reported() {
    let g = Graph::new();
    g.sim.throttle(ANNA, 1, 5);
    let refused = g.get(ANNA, "/me/events").await.ok(429);
    assert_eq!((refused.code(), refused.response.get_header("Retry-After")), ("ApplicationThrottled", Some("5")));
    g.clock.advance(TimeDelta::seconds(2));
    g.get(ANNA, "/me/events").await.ok(200);
    g.clock.advance(TimeDelta::seconds(3));
    g.get(ANNA, "/me/events").await.ok(200);
    let early = g.sim.throttle_report()[ANNA].early.clone();
    assert_eq!(early.len(), 1);
    assert_eq!((early[0].early_by, early[0].after_refusal), (Duration::from_secs(3), Duration::from_secs(2)));
}

#[tokio::test]
async fn too_many_requests_in_ten_minutes_are_429_until_they_are_over() {
    let g = Graph::new();
    g.sim.limit_requests(Some(2));
    g.get(ANNA, "/me/events").await.ok(200);
    g.get(ANNA, "/me/events").await.ok(200);
    let refused = g.get(ANNA, "/me/events").await.ok(429);
    assert_eq!((refused.code(), refused.response.get_header("Retry-After")), ("TooManyRequests", Some("600")));
    g.get(BORIS, "/me/events").await.ok(200);
    g.clock.advance(TimeDelta::minutes(10));
    g.get(ANNA, "/me/events").await.ok(200);
}

#[tokio::test]
async fn a_person_at_the_keyboard_is_neither_throttled_nor_counted() {
    let s = Served::new().await;
    s.g.sim.throttle(ANNA, 1, 5);
    let mark = s.g.sim.wire().mark();
    let person =
        s.request("POST", "/me/events").header("X-Simulator-Person", "1").json(&event("E")).send().await.unwrap();
    assert_eq!(person.status(), 201);
    assert_eq!(s.status("/me/events").await, 429);
    let rows = s.g.sim.wire().since(mark);
    assert_eq!((rows.len(), rows[0].mailbox.as_deref()), (1, Some(ANNA)));
    s.g.sim.stop().await;
}

#[tokio::test]
async fn faults_strike_and_a_lost_answer_leaves_its_event_behind() {
    let s = Served::new().await;
    s.g.sim.wire().push(Fault::status("GET", "/me/events", 503).times(2));
    assert_eq!(
        [s.status("/me/events").await, s.status("/me/events").await, s.status("/me/events").await],
        [503, 503, 200]
    );
    s.g.sim.wire().push(Fault::drop_after("POST", "/me/events"));
    assert!(s.request("POST", "/me/events").json(&event("ghost")).send().await.is_err());
    assert_eq!(s.g.sim.person(ANNA).events().len(), 1);
    s.g.sim.stop().await;
}

#[tokio::test]
async fn next_links_lead_back_to_the_simulator_itself() {
    let s = Served::new().await;
    for n in 0..3 {
        s.g.sim.person(ANNA).create_event(event(&format!("e{n}"))).unwrap();
    }
    let first = s.request("GET", "/me/events?$top=2&$filter=isAllDay%20eq%20false").send().await.unwrap();
    let page: Value = first.json().await.unwrap();
    let next = page["@odata.nextLink"].as_str().unwrap();
    let second: Value = s.client.get(next).bearer_auth(&s.token).send().await.unwrap().json().await.unwrap();
    assert_eq!(second["value"].as_array().unwrap().len(), 1);
    s.g.sim.stop().await;
}

#[tokio::test]
async fn batches_have_at_most_twenty_steps_with_unique_ids_and_no_nesting() {
    let g = Graph::new();
    let step = |id: usize| json!({"id": id.to_string(), "method": "GET", "url": "/me"});
    let batch = |steps: Vec<Value>| g.send(ANNA, "POST", "/$batch", json!({"requests": steps}));
    batch((0..21).map(step).collect()).await.ok(400);
    batch(vec![step(1), step(1)]).await.ok(400);
    batch(Vec::new()).await.ok(400);
    batch(vec![json!({"id": "1", "method": "GET", "url": "/me", "dependsOn": ["9"]})]).await.ok(400);
    let answers =
        batch(vec![json!({"id": "1", "method": "POST", "url": "/$batch", "body": {}}), step(2)]).await.ok(200);
    let of = |id: &str| answers.body["responses"].as_array().unwrap().iter().find(|r| r["id"] == id).unwrap().clone();
    assert_eq!((of("1")["status"].as_u64(), of("2")["status"].as_u64()), (Some(400), Some(200)));
    batch((0..20).map(step).collect()).await.ok(200);
}

#[tokio::test]
async fn a_failed_dependency_is_424_and_a_body_needs_its_content_type() {
    let g = Graph::new();
    let json_type = json!({"Content-Type": "application/json"});
    let steps = json!([
        {"id": "1", "method": "POST", "url": "/me/events", "headers": json_type, "body": event("b")},
        {"id": "2", "method": "GET", "url": "/me/events/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "dependsOn": ["1"]},
        {"id": "3", "method": "GET", "url": "/me", "dependsOn": ["2"]},
        {"id": "4", "method": "POST", "url": "/me/events", "body": event("c")},
    ]);
    let answer = g.send(ANNA, "POST", "/$batch", json!({"requests": steps})).await.ok(200);
    let statuses: Vec<u64> =
        answer.body["responses"].as_array().unwrap().iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 404, 424, 415]);
    assert_eq!(g.sim.batch_steps().len(), 3, "the step that was not tried is not logged");
}

#[tokio::test]
async fn steps_of_a_batch_run_four_at_a_time_and_each_carries_its_own_retry_after() {
    let g = Graph::new();
    g.sim.set_service_time(Duration::from_millis(5));
    let steps: Vec<Value> =
        (0..12).map(|n| json!({"id": n.to_string(), "method": "GET", "url": "/me/events"})).collect();
    let answer = g.send(ANNA, "POST", "/$batch", json!({"requests": steps.clone()})).await.ok(200);
    assert!(answer.body["responses"].as_array().unwrap().iter().all(|r| r["status"] == 200));
    assert_eq!(g.sim.throttle_report()[ANNA].max_in_flight, 4);
    g.sim.throttle(ANNA, 1, 7);
    let answer = g.send(ANNA, "POST", "/$batch", json!({"requests": steps})).await.ok(200);
    let refused: Vec<Value> =
        answer.body["responses"].as_array().unwrap().iter().filter(|r| r["status"] == 429).cloned().collect();
    assert_eq!((refused.len(), &refused[0]["headers"]["Retry-After"]), (1, &json!("7")));
}

#[tokio::test]
async fn the_request_ids_of_the_client_come_back() {
    let g = Graph::new();
    let refused =
        g.ask(g.request(ANNA, "GET", "/me/events/short").with_header("client-request-id", "mine")).await.ok(400);
    assert_eq!(refused.body["error"]["innerError"]["client-request-id"], "mine");
    assert_eq!(refused.response.get_header("client-request-id"), Some("mine"));
    assert!(refused.response.get_header("request-id").is_some());
}

#[tokio::test]
async fn the_page_shows_a_calendar_and_its_forms_do_what_outlook_does() {
    let s = Served::new().await;
    let form = |path: &'static str, fields: Vec<(&'static str, String)>| {
        let (client, url) = (s.client.clone(), s.url.clone());
        async move {
            let mut all = vec![("mailbox", ANNA.to_owned())];
            all.extend(fields);
            client.post(format!("{url}{path}")).form(&all).send().await.unwrap()
        }
    };
    let fields = |subject: &str, start: &str, attendees: &str| {
        vec![
            ("subject", subject.to_owned()),
            ("start", format!("{start}T10:00")),
            ("end", format!("{start}T11:00")),
            ("location", "Room <1>".to_owned()),
            ("attendees", attendees.to_owned()),
            ("body", "Line 1\r\nLine 2".to_owned()),
        ]
    };
    let answer = form("/ui/event", fields("Lunch", "2026-11-24", BORIS)).await;
    assert_eq!(answer.status(), 303);
    let made = s.g.sim.person(ANNA).events().remove(0);
    assert_eq!(made["start"]["dateTime"], "2026-11-24T09:00:00.0000000", "the time of the mailbox's zone");
    let page = s.client.get(format!("{}/?mailbox={ANNA}", s.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Lunch") && page.contains("Room &lt;1&gt;") && page.contains("10:00"));
    let id = |value: &Value| ("id", value["id"].as_str().unwrap().to_owned());
    let save = |subject: &str, day: &str| [vec![id(&made)], fields(subject, day, BORIS)].concat();
    form("/ui/event/save", save("Lunch", "2026-11-24")).await;
    assert_eq!(s.g.sim.mails().len(), 1, "saving without a change mails nobody");
    form("/ui/event/save", save("Late lunch", "2026-11-25")).await;
    assert_eq!(s.g.sim.mails().len(), 2);
    let copy = s.g.sim.person(BORIS).events().remove(0);
    let answer = [("answer", "accept".to_owned()), id(&copy), ("mailbox", BORIS.to_owned())];
    let answered = s.client.post(format!("{}/ui/event/respond", s.url)).form(&answer).send().await.unwrap();
    assert_eq!(answered.status(), 303);
    assert_eq!(s.g.sim.mails().last().unwrap().kind, "response");
    form("/ui/task", vec![("title", "Call back".to_owned()), ("due", "2026-11-30".to_owned())]).await;
    let task = s.g.sim.person(ANNA).tasks().remove(0);
    assert_eq!(task["dueDateTime"]["dateTime"], "2026-11-29T23:00:00.0000000");
    form("/ui/task/status", vec![id(&task), ("status", "completed".to_owned())]).await;
    assert_eq!(s.g.sim.person(ANNA).tasks()[0]["status"], "completed");
    form("/ui/event/delete", vec![id(&made)]).await;
    assert!(s.g.sim.person(ANNA).events().is_empty());
    let refused = form("/ui/event", fields("", "not a day", "")).await;
    assert!(refused.headers()["location"].to_str().unwrap().contains("problem="));
    assert!(s.g.sim.wire().since(0).is_empty(), "all of it was a person's doing");
    s.g.sim.stop().await;
}

#[tokio::test]
async fn the_same_seed_and_clock_give_the_same_ids() {
    let (a, b) = (Graph::new(), Graph::new());
    assert_eq!(a.post_event(event("E")).await.body["id"], b.post_event(event("E")).await.body["id"]);
    let put = a.ask(Request::new("PUT", "/ui/event")).await;
    assert_eq!(put.status, 405);
}
