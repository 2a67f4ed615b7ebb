//! A system that is away as a whole: work waits whole and uncounted, a single request at a time finds out, health says what is
//! wrong, and everything goes on by itself.

use std::time::Duration;

use serde_json::json;
use simulators::plumbing::{Fault, Wire};

use crate::support::{Setup, World, at, espo, graph_time, title};

/// Work that is given up early, so that a counted attempt would show; and short pauses.
fn world() -> World {
    Setup::default().env("WORKER__MAX_ATTEMPTS", "4").env("CIRCUIT__LONGEST_PAUSE", "2s").start()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Espo,
    Graph,
}

impl System {
    fn wire(self, world: &World) -> &Wire {
        match self {
            Self::Espo => world.espo.wire(),
            Self::Graph => world.graph.wire(),
        }
    }

    /// Its label in metrics, and its part of the readiness probe.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Espo => ("espocrm", "espocrm"),
            Self::Graph => ("graph", "microsoft"),
        }
    }
}

fn part(world: &World, name: &str) -> serde_json::Value {
    let (_, _, text) = world.http("GET", "/readyz", &[], None);
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["parts"][name].clone()
}

fn is_open(world: &World, system: &str) -> bool {
    world.metric("circuit", &format!("system=\"{system}\"")) > 0.0
}

/// Both sides are edited, and things are created on both, while a system is away.
fn survives(system: System, fault: Fault) {
    let world = world();
    let (id, _) = world.pair("Pair", json!({}));
    let (_, event) = world.pair("Other", json!({ "dateStart": espo(at(5, 9)), "dateEnd": espo(at(5, 10)) }));
    let (label, name) = system.names();
    let wire = system.wire(&world);
    // A notification shows nothing of what is away: Graph's own requests to us go on, as do EspoCRM's.
    wire.push(fault.clone().times(-1));
    world.espo_update(&id, json!({ "name": "Pair, by EspoCRM" }));
    world.outlook_update("anna", &event, json!({ "subject": "Other, by Outlook" }));
    for n in 0..6 {
        let times = json!({ "dateStart": espo(at(7, 1 + n)), "dateEnd": espo(at(7, 2 + n)) });
        world.espo_create("anna", &format!("New in EspoCRM {n}"), times);
        let times = json!({ "start": graph_time(at(8, 1 + n)), "end": graph_time(at(8, 2 + n)) });
        world.outlook_create("anna", &format!("New in Outlook {n}"), times);
    }
    world.eventually("health tells of it", || part(&world, name)["state"] == "away");
    assert!(part(&world, name)["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{}", part(&world, name));
    assert!(is_open(&world, label));
    // Time for far more than the four attempts, were they counted and taken; the first second belongs to what was under way.
    world.never("nothing is under way any more", 1, || false);
    let mark = wire.mark();
    world.never("it is hammered, or work is given up", 6, || {
        wire.since(mark).len() > 12 || world.metric("dead_letters", "") > 0.0
    });
    assert!(wire.since(mark).len() > 1, "nobody finds out whether it is back");
    wire.clear();
    world.eventually("it is found to be back", || !is_open(&world, label) && part(&world, name)["state"] != "away");
    world.eventually("both edits have arrived", || {
        world.events("anna", "Pair, by EspoCRM").len() == 1 && world.records("Other, by Outlook").len() == 1
    });
    for n in 0..6 {
        world.one_event("anna", &format!("New in EspoCRM {n}"));
        world.one_record(&format!("New in Outlook {n}"));
    }
    world.settle();
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (14, 14), "{fault:?}");
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

const PAGE: &str = "<!doctype html><title>Maintenance</title><p>EspoCRM is being updated.</p>";

#[test]
fn espocrm_answering_500_for_a_while_loses_and_doubles_nothing() {
    survives(System::Espo, Fault::status("", "", 500));
}

#[test]
fn espocrm_answering_a_page_with_200_for_a_while_loses_and_doubles_nothing() {
    survives(System::Espo, Fault::page("", "", PAGE));
}

#[test]
fn espocrm_whose_answers_break_off_for_a_while_loses_and_doubles_nothing() {
    survives(System::Espo, Fault::cut("", ""));
}

#[test]
fn espocrm_that_closes_connections_for_a_while_loses_and_doubles_nothing() {
    survives(System::Espo, Fault::drop_before("", ""));
}

#[test]
fn a_storm_of_503_from_graph_loses_and_doubles_nothing() {
    survives(System::Graph, Fault::status("", "/v1.0/", 503));
}

#[test]
fn graph_whose_answers_break_off_for_a_while_loses_and_doubles_nothing() {
    survives(System::Graph, Fault::cut("", "/v1.0/"));
}

#[test]
fn graph_that_does_everything_and_answers_nothing_doubles_nothing() {
    survives(System::Graph, Fault::drop_after("", "/v1.0/"));
}

#[test]
fn a_storm_of_429_from_graph_wears_nothing_out() {
    let world = world();
    let (id, _) = world.pair("Pair", json!({}));
    world.graph.wire().push(Fault::status("", "/v1.0/", 429).header("Retry-After", "1").times(-1));
    world.espo_update(&id, json!({ "name": "Pair, edited" }));
    for n in 0..4 {
        world.espo_create("anna", &format!("New {n}"), json!({}));
    }
    let mark = world.graph.wire().mark();
    world.never("work is given up, or throttling is taken for an outage", 8, || {
        world.metric("dead_letters", "") > 0.0 || is_open(&world, "graph")
    });
    // Four at a time may have been on their way, once a second.
    assert!(world.graph.wire().since(mark).len() <= 40, "the mailbox is hammered");
    assert!(world.metric("throttled_total", "") >= 2.0);
    world.graph.wire().clear();
    world.eventually("the edit arrives", || world.events("anna", "Pair, edited").len() == 1);
    for n in 0..4 {
        world.one_event("anna", &format!("New {n}"));
    }
    world.settle();
    assert_eq!(world.person("anna").events().len(), 5);
}

#[test]
fn a_sign_in_that_is_away_changes_no_users_state_and_work_goes_on_when_it_is_back() {
    let world = world();
    let (id, _) = world.pair("Pair", json!({}));
    world.graph.wire().push(Fault::status("POST", "/oauth2/v2.0/token", 503).times(-1));
    world.graph.expire_access_tokens();
    world.espo_update(&id, json!({ "name": "Pair, edited" }));
    world.eventually("health tells of it", || {
        let part = part(&world, "microsoft");
        part["state"] == "away" && part["system"] == "sign_in"
    });
    let mark = world.graph.wire().mark();
    world.never("work is given up, or the user is bothered", 5, || {
        world.metric("dead_letters", "") > 0.0 || world.user("anna")["state"] != "active"
    });
    let asked = world.graph.wire().since(mark).into_iter().filter(|row| row.path.contains("/token")).count();
    assert!((1..=10).contains(&asked), "asked {asked} times");
    world.graph.wire().clear();
    world.eventually("the edit arrives", || world.events("anna", "Pair, edited").len() == 1);
    assert!(!is_open(&world, "sign_in"));
}

#[test]
fn slow_answers_of_both_systems_lose_and_double_nothing() {
    let world = world();
    let (id, event) = world.pair("Pair", json!({}));
    world.espo.wire().set_latency(Duration::from_millis(1200));
    world.graph.wire().set_latency(Duration::from_millis(1200));
    world.espo_update(&id, json!({ "name": "Slow" }));
    world.espo_create("anna", "New in EspoCRM", json!({}));
    world.outlook_create("anna", "New in Outlook", json!({}));
    world.eventually("the edit arrives", || title(&world.event("anna", &event)) == "Slow");
    world.one_event("anna", "New in EspoCRM");
    world.one_record("New in Outlook");
    world.espo.wire().set_latency(Duration::ZERO);
    world.graph.wire().set_latency(Duration::ZERO);
    world.settle();
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (3, 3));
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn one_record_that_always_fails_opens_no_circuit_for_long_and_is_given_up() {
    let world = world();
    let (id, _) = world.pair("Poison", json!({}));
    world.espo.wire().push(Fault::status("GET", &format!("Meeting/{id}"), 500).times(-1));
    world.espo_update(&id, json!({ "name": "Poison, edited" }));
    world.espo_create("anna", "Healthy", json!({}));
    world.one_event("anna", "Healthy");
    let letters = || world.dead().into_iter().filter(|one| one["target"]["id"] == id.as_str()).collect::<Vec<_>>();
    world.eventually("it is given up", || !letters().is_empty());
    // A hint of the poll that came meanwhile was given up with the webhook's, after fewer attempts.
    let attempts = letters().iter().filter_map(|one| one["attempts"].as_u64()).max();
    assert_eq!(attempts, Some(4), "{:?}", letters());
    world.eventually("everything else goes on", || !is_open(&world, "espocrm"));
}
