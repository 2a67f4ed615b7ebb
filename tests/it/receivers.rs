//! What arrives from outside: signatures, sizes and forms, and the handshakes of Microsoft.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::espocrm::signatures;
use simulators::plumbing::Fault;
use store::messages::{self, Filter, MessageState};

use crate::support::{Setup, World, without_servers};

struct Hook {
    id: String,
    secret: String,
}

fn hook(world: &World, event: &str) -> Hook {
    let hooks = world.espo.webhooks();
    let hook =
        hooks.iter().find(|hook| hook["event"] == event).unwrap_or_else(|| panic!("no webhook {event}: {hooks:?}"));
    let text = |name: &str| hook[name].as_str().unwrap().to_owned();
    Hook { id: text("id"), secret: text("secretKey") }
}

fn post(world: &World, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers);
    world.http("POST", "/webhooks/espocrm", &all, Some(body.to_vec())).0
}

fn post_signed(world: &World, hook: &Hook, body: &[u8]) -> u16 {
    let (current, legacy) = signatures(&hook.id, &hook.secret, body);
    post(world, &[("Signature", &current), ("X-Signature", &legacy)], body)
}

/// The ids of the records that messages name.
fn enqueued(world: &World) -> Vec<String> {
    let messages = world.items("/messages?limit=500");
    messages.iter().filter_map(|message| message["target"]["id"].as_str().map(str::to_owned)).collect()
}

const BODY: &[u8] = br#"[{"id":"65a0f0c0000000001","name":"x"}]"#;
const ID: &str = "65a0f0c0000000001";

#[test]
fn a_wrong_missing_or_foreign_signature_is_401_and_enqueues_nothing() {
    let world = World::start();
    let (own, foreign) = (hook(&world, "Meeting.update"), hook(&world, "Meeting.create"));
    let sign = |id: &str, secret: &str| signatures(id, secret, BODY);
    let (good, good_legacy) = sign(&own.id, &own.secret);
    let (mixed, mixed_legacy) = sign(&own.id, &foreign.secret);
    let (unknown, _) = sign("65a0f0c00000000ff", &own.secret);
    let (other_body, _) = signatures(&own.id, &own.secret, b"[]");
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("none", &[]),
        ("no base64", &[("Signature", "%%%")]),
        ("empty", &[("Signature", "")]),
        ("another webhook's secret", &[("Signature", &mixed), ("X-Signature", &mixed_legacy)]),
        ("an unknown webhook", &[("Signature", &unknown)]),
        ("of another body", &[("Signature", &other_body)]),
        ("a wrong legacy one beside a good one", &[("Signature", &good), ("X-Signature", &mixed_legacy)]),
        ("a good legacy one beside a wrong one", &[("Signature", &mixed), ("X-Signature", &good_legacy)]),
    ];
    for (what, headers) in cases {
        assert_eq!(post(&world, headers, BODY), 401, "{what}");
    }
    world.settle();
    assert!(!enqueued(&world).contains(&ID.to_owned()));
    assert_eq!(post(&world, &[("Signature", &good), ("X-Signature", &good_legacy)], BODY), 200);
    assert!(enqueued(&world).contains(&ID.to_owned()));
}

#[test]
fn the_legacy_signature_alone_is_accepted() {
    let world = World::start();
    let hook = hook(&world, "Meeting.update");
    let (_, legacy) = signatures(&hook.id, &hook.secret, BODY);
    assert_eq!(post(&world, &[("X-Signature", &legacy)], BODY), 200);
    assert!(enqueued(&world).contains(&ID.to_owned()));
}

#[test]
fn signed_bodies_that_are_no_arrays_of_objects_are_400() {
    let world = World::start();
    let hook = hook(&world, "Meeting.update");
    for body in ["[{\"id\":", "not json", "", "{\"id\":\"65a0f0c0000000001\"}", "null", "5", "\"text\"", "[1,"] {
        assert_eq!(post_signed(&world, &hook, body.as_bytes()), 400, "{body:?}");
    }
    let bad_utf8 = [b"[{\"id\":\"".as_slice(), &[0xff, 0xfe], b"\"}]"].concat();
    assert_eq!(post_signed(&world, &hook, &bad_utf8), 400);
    world.settle();
    assert!(!enqueued(&world).contains(&ID.to_owned()));
}

#[test]
fn what_has_no_text_for_an_id_is_skipped_and_counted_and_the_rest_is_taken() {
    let world = World::start();
    let hook = hook(&world, "Meeting.update");
    let body = json!([{ "name": "no id" }, { "id": 5 }, { "id": null }, "text", 7, null, [], { "id": "" }, { "id": ID }, { "id": "65a0f0c0000000002" }]);
    assert_eq!(post_signed(&world, &hook, body.to_string().as_bytes()), 200);
    let ids = enqueued(&world);
    for id in [ID, "65a0f0c0000000002"] {
        assert_eq!(ids.iter().filter(|one| *one == id).count(), 1, "{ids:?}");
    }
    assert_eq!(ids.iter().filter(|one| one.is_empty()).count(), 0);
    assert!(world.metric("webhook_items_skipped_total", "") >= 7.0);
    assert_eq!(post_signed(&world, &hook, b"[]"), 200);
}

#[test]
fn a_body_over_the_limit_is_413_signed_or_not() {
    let world = Setup::default().env("SERVER__MAX_BODY", "64KiB").start();
    let hook = hook(&world, "Meeting.update");
    let body = json!([{ "id": ID, "description": "x".repeat(64 * 1024) }]).to_string();
    assert_eq!(post_signed(&world, &hook, body.as_bytes()), 413);
    assert_eq!(post(&world, &[], body.as_bytes()), 413);
    assert!(!enqueued(&world).contains(&ID.to_owned()));
    let body = json!([{ "id": ID, "description": "x".repeat(60 * 1024) }]).to_string();
    assert_eq!(post_signed(&world, &hook, body.as_bytes()), 200);
}

/// The subscription of Anna's calendar.
fn calendar(world: &World) -> Value {
    let all = world.graph.subscriptions();
    all.into_iter().find(|one| one["resource"].as_str().is_some_and(|text| text.contains("/events"))).unwrap()
}

fn notice(subscription: &Value, client_state: &Value, item: &str) -> Value {
    let resource = format!("Users/0/Events/{item}");
    json!({ "value": [{
        "subscriptionId": subscription, "clientState": client_state, "changeType": "updated", "resource": resource,
        "subscriptionExpirationDateTime": "2030-01-01T00:00:00Z", "tenantId": "0",
        "resourceData": { "@odata.type": "#Microsoft.Graph.Event", "@odata.id": resource, "id": item },
    }] })
}

#[test]
fn a_notification_of_unknown_client_state_is_202_counted_and_not_enqueued() {
    let world = World::start();
    let subscription = calendar(&world)["id"].clone();
    let cases = [
        (subscription.clone(), json!("guessed"), "wrong-state"),
        (subscription.clone(), json!(null), "no-state"),
        (subscription, json!(7), "odd-state"),
        (json!("00000000-0000-0000-0000-000000000000"), json!("guessed"), "unknown-subscription"),
    ];
    for path in ["/webhooks/graph", "/webhooks/graph/lifecycle"] {
        for (subscription, state, item) in &cases {
            let body = notice(subscription, state, item).to_string().into_bytes();
            let (status, _, text) = world.http("POST", path, &[("Content-Type", "application/json")], Some(body));
            assert_eq!(status, 202, "{path} {item}: {text}");
        }
    }
    world.settle();
    let ids = enqueued(&world);
    assert!(cases.iter().all(|(_, _, item)| !ids.contains(&(*item).to_owned())), "{ids:?}");
    assert!(world.metric("notifications_dropped_total", "client_state") >= 2.0);
}

#[test]
fn a_real_notification_of_something_unknown_does_no_harm() {
    let world = World::start();
    world.outlook_create("anna", "Known", json!({}));
    world.one_record("Known");
    world.settle();
    let mark = world.mark();
    // Only a delivery tells the secret of a subscription.
    let sent = world.graph.deliveries().into_iter().rev().find(|one| one.kind == "notification").unwrap();
    let (subscription, state) =
        (sent.body["value"][0]["subscriptionId"].clone(), sent.body["value"][0]["clientState"].clone());
    for item in ["AAkALgNobodyKnowsThis=", "..%2F..%2Fme", "a b?c#d", "ünïcode"] {
        let body = notice(&subscription, &state, item).to_string().into_bytes();
        assert_eq!(
            world.http("POST", "/webhooks/graph", &[("Content-Type", "application/json")], Some(body)).0,
            202,
            "{item}"
        );
    }
    world.outlook_create("anna", "Afterwards", json!({}));
    world.one_record("Afterwards");
    world.settle();
    let (_, graph) = world.writes_since(mark);
    assert!(graph.is_empty(), "{graph:?}");
}

#[test]
fn the_validation_token_is_given_back_decoded_once_as_text() {
    let world = World::start();
    let token = "Validation: a+b &%é<script>alert(1)</script> %2B 100% \"ü\"";
    let encoded: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    for path in ["/webhooks/graph", "/webhooks/graph/lifecycle"] {
        let (status, kind, text) =
            world.http("POST", &format!("{path}?validationToken={encoded}"), &[], Some(Vec::new()));
        assert_eq!((status, text.as_str()), (200, token), "{path}");
        assert!(kind.starts_with("text/plain"), "{kind}");
    }
}

#[test]
fn nonsense_at_the_graph_receiver_is_refused_without_harm() {
    let world = World::start();
    for body in ["", "null", "[]", "{\"value\": 5}", "{\"value\": [5, null, {}]}", "{\"value\":["] {
        let (status, ..) =
            world.http("POST", "/webhooks/graph", &[("Content-Type", "application/json")], Some(body.into()));
        assert!(status == 202 || status == 400, "{body:?}: {status}");
    }
    world.outlook_create("anna", "Afterwards", json!({}));
    world.one_record("Afterwards");
}

/// What the API says of the messages about that record.
fn states(world: &World) -> Vec<String> {
    let messages = world.items("/messages?limit=500");
    let about = messages.iter().filter(|message| message["target"]["id"] == ID);
    about.map(|message| message["state"].as_str().unwrap().to_owned()).collect()
}

fn received_apart(setup: Setup) {
    let mut world = setup.processes(&["receiver", "worker,scheduler"]).start();
    let hook = hook(&world, "Meeting.update");
    world.settle();
    assert!(world.beside[0].0.stop(), "it does not stop when it is asked to");
    assert_eq!(post_signed(&world, &hook, BODY), 200);
    assert!(world.metric("queue_depth", "") >= 1.0);
    assert_eq!(states(&world), ["queued"]);
    assert_eq!(post_signed(&world, &hook, BODY), 200);
    let (_, ready) = world.readiness();
    assert_eq!(ready["parts"]["queue"]["queued"], 2, "{ready}");
    // One was listed before and one was not: both are there after a crash.
    world.crash();
    world.serve();
    assert_eq!(states(&world), ["queued", "queued"]);
    assert_eq!(post_signed(&world, &hook, BODY), 200);
    world.crash();
    world.serve_beside(0);
    world.serve();
    world.eventually("all of them are done", || states(&world) == ["done"; 3]);
}

#[test]
fn what_a_process_without_workers_has_received_is_shown_by_it_and_done_later_by_one_with_workers() {
    received_apart(Setup::default().file());
}

#[test]
fn so_it_is_on_a_database_server() {
    if !without_servers() {
        received_apart(Setup::default());
    }
}

#[test]
fn what_was_received_can_be_discarded_before_anybody_has_listed_it() {
    let mut world = Setup::default().file().processes(&["receiver", "worker,scheduler"]).start();
    let hook = hook(&world, "Meeting.update");
    world.settle();
    assert!(world.beside[0].0.stop(), "it does not stop when it is asked to");
    assert_eq!(post_signed(&world, &hook, BODY), 200);
    assert_eq!(world.post("/messages/discard", &json!({ "state": "queued" }))["discarded"], 1);
    assert_eq!(states(&world), [""; 0]);
}

#[test]
fn what_is_received_while_no_worker_has_a_hand_free_is_in_the_archive_all_the_same() {
    // A poll would tell of the same change, and either one or two messages would be in that hand.
    let world = Setup::default().env("WORKER__CONCURRENCY", "1").env("SYNC__POLL_INTERVAL", "1h").start();
    let hook = hook(&world, "Meeting.update");
    let (record, _) = world.pair("Slow", json!({}));
    world.settle();
    world.espo.wire().push(Fault::latency("GET", &format!("/Meeting/{record}"), Duration::from_secs(20)));
    world.espo_update(&record, json!({ "name": "Slower" }));
    // The API would take in what was received; nobody asks it from here on.
    let store = world.wait_for(store::Store::open(&world.database.url)).unwrap();
    let count = |state: Option<MessageState>, target: Option<sync::Target>| {
        let filter = Filter { state, target, ..Filter::default() };
        world.wait_for(messages::page(store.read(), &filter, None, 500)).unwrap().items.len()
    };
    world.eventually("the only hand is busy", || count(Some(MessageState::Leased), None) == 1);
    assert_eq!(post_signed(&world, &hook, BODY), 200);
    let target = || Some(sync::Target::Record { kind: sync::Kind::Meeting, id: ID.to_owned() });
    world.eventually("it is in the archive", || count(None, target()) == 1);
    assert_eq!(count(Some(MessageState::Leased), None), 1, "the hand is free again");
    world.settle();
}
