//! What is measured: every metric that is promised is there with its labels, and what watches them names no other.

use std::collections::BTreeSet;

use serde_json::json;
use simulators::plumbing::Fault;

use crate::support::World;

/// Names of metrics in a text, without the parts of a histogram.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let found = text.match_indices("espo_outlook_").map(|(at, _)| {
        let name: String = text[at..].chars().take_while(|c| is_part(*c)).collect();
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        bare.unwrap_or(&name).to_owned()
    });
    found.collect()
}

#[test]
fn the_overview_still_counts_what_was_sent_before_a_restart() {
    let mut world = World::start();
    world.pair("Sent", json!({}));
    let graph = |world: &World| {
        let told = world.get("/overview")["traffic"].clone();
        let one = told.as_array().unwrap().iter().find(|one| one["system"] == "graph").cloned();
        one.unwrap_or_else(|| panic!("{told}"))["requests"].as_f64().unwrap()
    };
    let before = graph(&world);
    assert!(before >= 1.0);
    assert!(world.product.stop(), "it does not stop when it is asked to");
    // A connection of an HTTP worker that has ended would be of no use to what is told at the end.
    assert!(!world.product.log().contains("being shutdown"), "{}", world.product.log());
    world.serve();
    let after = graph(&world);
    assert!(after >= before, "{after} of {before}");
    assert!(world.metric("http_client_requests_total", "system=\"graph\"") < before, "the process itself is new");
}

#[test]
fn every_metric_is_there_with_its_labels_and_what_watches_them_names_no_other() {
    let world = World::start();
    let body = json!({ "error": { "code": "TooManyRequests", "message": "no" } });
    world.graph.wire().push(Fault::status("POST", "/events", 429).header("Retry-After", "1").body(body));
    let record = world.espo_create("anna", "Measured", json!({}));
    world.one_event("anna", "Measured");
    world.outlook_create("anna", "Measured too", json!({}));
    world.one_record("Measured too");
    world.settle();
    let text = world.http("GET", "/metrics", &[], None).2;
    for sample in [
        "changes_received_total{source=\"webhook\"}",
        "changes_received_total{source=\"notification\"}",
        "changes_processed_total{outcome=",
        "sync_lag_seconds_bucket{le=",
        "queue_depth ",
        "dead_letters ",
        "http_client_requests_total{system=\"espocrm\",status=\"200\"}",
        "http_client_requests_total{system=\"graph\",status=\"201\"}",
        "throttled_total{system=\"graph\"}",
        "subscriptions{state=\"active\"}",
        "subscription_expiry_seconds ",
        "bindings{state=\"active\"}",
        "bindings{state=\"needs_authorization\"}",
        "holds ",
    ] {
        let sample = format!("espo_outlook_{sample}");
        assert!(text.lines().any(|line| line.starts_with(&sample)), "{sample} is not measured ({record}):\n{text}");
    }
    let mut known = names(&text);
    // These are there once something is wrong, or where RabbitMQ is the queue.
    known.extend(
        ["operator_alarm", "notifications_dropped_total", "queue_broker_up", "queue_unreadable"]
            .map(|name| format!("espo_outlook_{name}")),
    );
    for (file, watching) in [
        ("alerts.yaml", include_str!("../../deploy/alerts.yaml")),
        ("grafana.json", include_str!("../../deploy/grafana.json")),
    ] {
        let unknown: Vec<String> = names(watching).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{file} watches what is not measured: {unknown:?}");
    }
}
