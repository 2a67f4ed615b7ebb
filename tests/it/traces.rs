//! One trace from a webhook to the writes that it leads to, across the queue.

use serde_json::{Value, json};
use simulators::espocrm::signatures;

use crate::support::{Setup, World};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A delivery of EspoCRM, which comes with a trace context as a proxy in front would add it.
fn deliver(world: &World, event: &str, record: &str, traceparent: &str) {
    let webhooks = world.espo.webhooks();
    let webhook = webhooks.iter().find(|webhook| webhook["event"] == event).unwrap();
    let body = json!([{ "id": record }]).to_string().into_bytes();
    let (id, secret) = (webhook["id"].as_str().unwrap(), webhook["secretKey"].as_str().unwrap());
    let (signature, _) = signatures(id, secret, &body);
    let headers = [("Signature", signature.as_str()), ("traceparent", traceparent)];
    assert_eq!(world.http("POST", "/webhooks/espocrm", &headers, Some(body)).0, 200);
}

#[test]
fn the_trace_of_a_webhook_goes_on_across_the_queue_to_both_systems_and_the_log() {
    let world = Setup::default().env("LOG__LEVEL", "debug").start();
    world.espo.stop_webhook_job();
    let mark = world.mark();
    let record = world.espo_create("anna", "Traced", json!({}));
    deliver(&world, "Meeting.create", &record, &format!("00-{TRACE}-00f067aa0ba902b7-01"));
    world.one_event("anna", "Traced");
    let mut requests = world.espo.wire().since(mark.0);
    requests.extend(world.graph.wire().since(mark.1));
    let traced: Vec<_> =
        requests.iter().filter(|row| row.traceparent.as_deref().is_some_and(|at| at.contains(TRACE))).collect();
    assert!(
        traced.iter().any(|row| row.path.contains(&record) && row.method == "GET"),
        "the record is read: {traced:?}"
    );
    assert!(
        traced.iter().any(|row| row.method == "POST" && row.path.contains("/events")),
        "the event is made: {traced:?}"
    );
    for row in &traced {
        let parts: Vec<&str> = row.traceparent.as_deref().unwrap().split('-').collect();
        assert!(parts.len() == 4 && parts[2].len() == 16 && parts[2] != "00f067aa0ba902b7", "{row:?}");
    }
    let log = world.product.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.into_iter().find(|line| line["span"]["trace.id"] == TRACE);
    let line = line.unwrap_or_else(|| panic!("no line of the log names the trace"));
    assert_eq!((&line["span"]["record.id"], &line["span"]["kind"]), (&json!(record), &json!("meeting")), "{line}");
    assert!(line["span"]["message.id"].is_string(), "{line}");
}

#[test]
fn a_request_without_a_context_or_with_a_broken_one_begins_a_trace() {
    let world = World::start();
    world.espo.stop_webhook_job();
    for (n, given) in ["", "00-nonsense-01"].into_iter().enumerate() {
        let mark = world.graph.wire().mark();
        let name = format!("Untraced {n}");
        let record = world.espo_create("anna", &name, json!({}));
        deliver(&world, "Meeting.create", &record, given);
        world.one_event("anna", &name);
        let made = world.graph.wire().writes_since(mark);
        let made = made.iter().find(|row| row.path.contains("/events")).unwrap();
        let parts: Vec<String> = made.traceparent.as_deref().unwrap().split('-').map(str::to_owned).collect();
        assert!(parts[1].len() == 32 && parts[1] != TRACE, "{parts:?}");
    }
}
