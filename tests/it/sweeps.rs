//! What a sweep costs when nothing has changed, counted in the simulators' logs.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{Setup, World, at, espo};

const USERS: [&str; 6] = ["anna", "boris", "carla", "dora", "emil", "frida"];

fn sweeps(world: &World) -> usize {
    world.product.log().lines().filter(|line| line.contains("\"swept\"")).count()
}

fn world(bound: &[&'static str]) -> World {
    let world = Setup::default().users(&USERS).bound(bound).env("SYNC__POLL_INTERVAL", "1h").start();
    for (n, name) in bound.iter().enumerate() {
        for part in 0..2 {
            let (begin, end) = (espo(at(7, 8 + part)), espo(at(7, 9 + part)));
            world.espo_create(name, &format!("Of {name} {n} {part}"), json!({ "dateStart": begin, "dateEnd": end }));
        }
    }
    for (n, name) in bound.iter().enumerate() {
        (0..2).for_each(|part| drop(world.one_event(name, &format!("Of {name} {n} {part}"))));
    }
    world.settle();
    world
}

/// Requests of one sweep: to EspoCRM, and to Graph by mailbox.
fn requests(world: &World) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let every = json!({ "meeting": "*/4 * * * * *", "call": "*/4 * * * * *", "task": "*/4 * * * * *" });
    world.put("/schedules", &every);
    // The first one still sees what was written by us.
    let next = |count: usize| world.eventually("a sweep ends", || sweeps(world) >= count);
    let done = sweeps(world);
    next(done + 1);
    let mark = world.mark();
    let done = sweeps(world);
    next(done + 1);
    let espo = world.espo.wire().since(mark.0).iter().map(|row| format!("{} {}", row.method, row.path)).collect();
    let mut graph = BTreeMap::<String, Vec<String>>::new();
    for row in world.graph.wire().since(mark.1) {
        graph.entry(row.mailbox.clone().unwrap_or_default()).or_default().push(format!("{} {}", row.method, row.path));
    }
    (espo, graph)
}

#[test]
fn an_idle_sweep_costs_one_graph_request_per_mailbox_and_list_and_as_many_of_espocrm_for_two_users_as_for_six() {
    let mut counts = Vec::new();
    for bound in [&USERS[..2], &USERS[..6]] {
        let world = world(bound);
        let (espo, graph) = requests(&world);
        assert_eq!(graph.len(), bound.len(), "{graph:#?}");
        for (mailbox, requests) in &graph {
            let of = |part: &str| requests.iter().filter(|request| request.contains(part)).count();
            assert_eq!(
                (requests.len(), of("/calendarView/delta"), of("/tasks/delta")),
                (2, 1, 1),
                "{mailbox}: {requests:#?}"
            );
        }
        assert!(espo.iter().all(|request| request.starts_with("GET ")), "{espo:#?}");
        counts.push(espo.len());
        drop(world);
        assert!(espo.len() <= 5, "one a kind, and one for the webhooks: {espo:#?}");
    }
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn a_record_that_cannot_be_read_does_not_keep_a_sweep_from_the_others() {
    let world = Setup::default().bound(&["anna"]).env("SYNC__POLL_INTERVAL", "1h").start();
    world.espo.lose_webhooks(true);
    let good = world.espo.seed("Meeting", &json!({
        "name": "Good", "assignedUserId": world.id("anna"), "dateStart": espo(at(7, 10)), "dateEnd": espo(at(7, 11)),
    }));
    let row =
        json!({ "id": "65a0f0c0000000001", "name": { "odd": 1 }, "assignedUserId": world.id("anna"), "dateStart": 17 });
    let good = world.espo.get_record("Meeting", &good).unwrap();
    let page = json!({ "total": -2, "list": [row, good] });
    world.espo.wire().push(simulators::plumbing::Fault::status("GET", "/Meeting?", 200).body(page));
    world.post("/sync", &json!({ "kind": "meeting" }));
    world.one_event("anna", "Good");
}
