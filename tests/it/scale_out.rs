//! Several processes on one database: one receives, two work and may schedule.
//!
//! They need a database server: `TEST_DATABASE_URL`, or else `TEST_POSTGRES_URL`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulators::plumbing::{Fault, Logged};

use crate::support::{Setup, World, broker_url, mail, title, without_broker, without_servers};

const PROCESSES: &[&str] = &["receiver", "worker,scheduler", "worker,scheduler"];

fn setup() -> Setup {
    Setup::default().processes(PROCESSES).env("SERVER__SILENCE", "5s")
}

/// Titles on both sides, each with how often it is there.
fn both(world: &World) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let count = |ends: &[Value]| {
        let mut titles = BTreeMap::new();
        for end in ends {
            *titles.entry(title(end).to_owned()).or_insert(0) += 1;
        }
        titles
    };
    (count(&world.espo.records("Meeting")), count(&world.person("anna").events()))
}

fn agree(world: &World, expected: usize) {
    world.eventually("both sides agree", || {
        let (here, there) = both(world);
        here == there && here.len() == expected
    });
    world.settle_within(90);
    let (here, there) = both(world);
    assert_eq!(here, there);
    assert_eq!(here.len(), expected);
    assert!(here.values().all(|count| *count == 1), "something is there twice: {here:?}");
}

/// Writes to one and the same address that were under way at once.
fn overlaps(rows: &[Logged]) -> Vec<String> {
    let mut by_path: BTreeMap<&str, Vec<&Logged>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.method != "POST") {
        by_path.entry(row.path.split('?').next().unwrap_or_default()).or_default().push(row);
    }
    let mut found = Vec::new();
    for (path, mut rows) in by_path {
        rows.sort_by_key(|row| row.at);
        for pair in rows.windows(2) {
            let end = pair[0].at + chrono::Duration::from_std(pair[0].took).unwrap();
            if pair[1].at < end {
                found.push(format!(
                    "{path}: {} at {}, {} at {}",
                    pair[0].method, pair[0].at, pair[1].method, pair[1].at
                ));
            }
        }
    }
    found
}

/// Which of the further processes schedules, by its own words.
fn leads(world: &World, at: usize) -> usize {
    world.beside[at].0.log().matches("this process schedules").count()
}

#[test]
fn each_process_is_killed_in_turn_under_load_and_nothing_is_lost_or_doubled() {
    if !without_servers() {
        killed_in_turn(setup());
    }
}

#[test]
fn so_it_is_with_a_broker_in_between() {
    if !without_servers() && !without_broker() {
        killed_in_turn(setup().broker(&broker_url()));
    }
}

fn killed_in_turn(setup: Setup) {
    let mut world = setup.start();
    let mut count = 0;
    let load = |world: &World, count: &mut usize, n: usize| {
        for _ in 0..n {
            *count += 1;
            // Every third with somebody who gets a mail of it, once.
            let people = if (*count).is_multiple_of(3) {
                json!({ "usersIds": [world.id("anna"), world.id("boris")] })
            } else {
                json!({})
            };
            world.espo_create("anna", &format!("E{count}"), people);
            *count += 1;
            world.outlook_create("anna", &format!("O{count}"), json!({}));
        }
    };
    for victim in 0..3 {
        load(&world, &mut count, 6);
        match victim {
            0 => world.crash(),
            at => world.beside[at - 1].0.crash(),
        }
        load(&world, &mut count, 4);
        match victim {
            0 => world.serve(),
            at => world.serve_beside(at - 1),
        }
        load(&world, &mut count, 2);
    }
    agree(&world, count);
    let invited = (1..=count).filter(|n| n % 2 == 1 && n % 3 == 0).count();
    let invitations = world.mails().iter().filter(|(kind, to)| kind == "invitation" && *to == mail("boris")).count();
    assert_eq!(invitations, invited, "{:?}", world.mails());
    assert!(world.dead().is_empty(), "{:?}", world.dead());
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
}

#[test]
fn two_workers_never_write_one_pair_at_once_and_a_mailbox_never_has_more_than_four_requests() {
    if without_servers() {
        return;
    }
    let world = setup().start();
    let pairs: Vec<(String, String)> = (0..4).map(|n| world.pair(&format!("P{n}"), json!({}))).collect();
    world.graph.set_service_time(Duration::from_millis(60));
    world.espo.wire().set_latency(Duration::from_millis(40));
    let mark = world.mark();
    for round in 0..8 {
        for (n, (record, event)) in pairs.iter().enumerate() {
            world.espo_update(record, json!({ "name": format!("P{n} {round}") }));
            world.outlook_update(
                "anna",
                event,
                json!({ "body": { "contentType": "text", "content": format!("{round}") } }),
            );
        }
        for n in 0..3 {
            world.espo_create("anna", &format!("N{round}-{n}"), json!({}));
        }
    }
    agree(&world, 4 + 8 * 3);
    let (espo, graph) = world.writes_since(mark);
    let found: Vec<String> = overlaps(&espo).into_iter().chain(overlaps(&graph)).collect();
    assert!(found.is_empty(), "{found:#?}");
    for (n, (record, event)) in pairs.iter().enumerate() {
        assert_eq!(world.record(record)["name"], format!("P{n} 7"));
        assert_eq!(world.event("anna", event)["subject"], format!("P{n} 7"));
    }
    let report = &world.graph.throttle_report()[&mail("anna")];
    assert!(report.max_in_flight > 1 && report.max_in_flight <= 4, "{report:?}");
    assert_eq!(report.refused, 0, "{report:?}");
    let worked = |at: usize| world.beside[at].0.log().lines().count();
    assert!(worked(0) > 0 && worked(1) > 0);
}

#[test]
fn two_workers_that_read_many_events_of_one_mailbox_together_wait_for_each_other_and_finish() {
    const EVENTS: usize = 60;
    if without_servers() {
        return;
    }
    let world = setup().bound(&[]).start();
    world.graph.set_service_time(Duration::from_millis(20));
    for n in 0..EVENTS {
        world.outlook_create("anna", &format!("Event {n:02}"), json!({}));
    }
    let mark = world.mark();
    world.bind("anna");
    agree(&world, EVENTS);
    let asked = world.graph.wire().since(mark.1);
    assert!(asked.iter().any(|row| row.path.contains("/$batch")), "none were read together");
    let report = &world.graph.throttle_report()[&mail("anna")];
    assert!(report.max_in_flight <= 4 && report.refused == 0, "{report:?}");
}

#[test]
fn a_worker_that_was_stopped_writes_nothing_when_it_wakes_up_and_then_goes_on() {
    if without_servers() {
        return;
    }
    let mut world = setup().start();
    let (record, event) = world.pair("Stopped", json!({}));
    // The second one is alone, and stopped while its request to Outlook is under way.
    world.beside[1].0.stop();
    world.graph.wire().push(Fault::latency("PATCH", "/events/", Duration::from_millis(1500)));
    world.espo_update(&record, json!({ "name": "First" }));
    world.eventually("it writes", || world.graph.wire().pending_faults() == Some(0));
    world.beside[0].0.pause();
    world.eventually("the request arrives", || world.event("anna", &event)["subject"] == "First");
    world.serve_beside(1);
    world.espo_update(&record, json!({ "name": "Second" }));
    world.eventually("the other takes over", || world.event("anna", &event)["subject"] == "Second");
    world.settle_within(60);
    let page = world.get(&format!("/records/meeting/{record}"));
    let mark = world.mark();
    world.beside[0].0.resume();
    world.eventually("it starts anew", || world.beside[0].0.log().contains("it has started anew"));
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(world.get(&format!("/records/meeting/{record}"))["link"]["base"], page["link"]["base"]);
    // Alone, it works again.
    world.beside[1].0.stop();
    world.espo_update(&record, json!({ "name": "Third" }));
    world.eventually("it works again", || world.event("anna", &event)["subject"] == "Third");
    assert_eq!(world.records("Third").len(), 1);
}

#[test]
fn the_scheduler_is_taken_over_when_it_is_killed_and_at_once_when_it_is_stopped() {
    if without_servers() {
        return;
    }
    let mut world = setup().unreachable().start();
    let first = if leads(&world, 0) > 0 { 0 } else { 1 };
    let other = 1 - first;
    assert_eq!((leads(&world, first), leads(&world, other)), (1, 0), "one schedules");
    let killed = Instant::now();
    world.beside[first].0.crash();
    // Without webhooks of Microsoft only a poll of the scheduler tells of it.
    world.outlook_create("anna", "Polled by the other", json!({}));
    world.one_record("Polled by the other");
    assert!(killed.elapsed() < Duration::from_secs(30), "taken over after {:?}", killed.elapsed());
    assert_eq!(leads(&world, other), 1);
    world.serve_beside(first);
    assert!(world.beside[other].0.stop(), "it does not stop when it is asked to");
    let stopped = Instant::now();
    world.eventually("the first schedules again", || leads(&world, first) == 2);
    // At once: long before its silence would have been noticed.
    assert!(stopped.elapsed() < Duration::from_secs(4), "taken over after {:?}", stopped.elapsed());
    world.outlook_create("anna", "Polled by the first", json!({}));
    world.one_record("Polled by the first");
}

#[test]
fn what_is_changed_in_one_process_reaches_the_others() {
    if without_servers() {
        return;
    }
    let world = setup().start();
    let (record, event) = world.pair("Before", json!({}));
    world.put("/settings", &json!({ "enabled": false }));
    let queued = |world: &World| world.items("/messages?state=parked").len();
    world.eventually("the workers have heard of it", || {
        world.espo_update(&record, json!({ "description": format!("{:?}", Instant::now()) }));
        queued(&world) > 0
    });
    // One of them has; the other one looks as often, and ends what it has in hand.
    world.never("it takes longer than a second", 2, || false);
    let mark = world.mark();
    world.espo_update(&record, json!({ "name": "After" }));
    world.never("a worker writes while it is switched off", 2, || world.event("anna", &event)["subject"] == "After");
    assert!(world.writes_since(mark).1.is_empty());
    world.put("/settings", &json!({ "enabled": true }));
    world.eventually("it goes on", || world.event("anna", &event)["subject"] == "After");
    world.put("/rules", &json!({ "meeting": { "direction": "outlook_to_espo" } }));
    world.espo_update(&record, json!({ "name": "Here only" }));
    world.settle();
    assert_eq!(world.event("anna", &event)["subject"], "After");
}

#[test]
fn the_overview_counts_what_the_workers_have_sent_and_not_only_the_process_that_is_asked() {
    if without_servers() {
        return;
    }
    let mut world = setup().start();
    for n in 0..10 {
        world.pair(&format!("Sent by a worker {n}"), json!({}));
    }
    for (process, _) in &mut world.beside {
        assert!(process.stop(), "it does not stop when it is asked to");
    }
    let told = world.get("/overview")["traffic"].clone();
    let graph = told.as_array().unwrap().iter().find(|one| one["system"] == "graph").cloned().unwrap_or_default();
    let of_the_receiver = world.metric("http_client_requests_total", "system=\"graph\"");
    assert!(graph["requests"].as_f64().unwrap_or_default() >= of_the_receiver + 10.0, "{told} {of_the_receiver}");
}

#[test]
fn two_processes_refresh_a_token_once() {
    if without_servers() {
        return;
    }
    let world = setup().start();
    for n in 0..6 {
        world.pair(&format!("T{n}"), json!({}));
    }
    // A refresh token that was used once is spent: a second refresh with it would be refused.
    world.graph.set_refresh_token_uses(Some(1));
    world.graph.expire_access_tokens();
    let mark = world.mark();
    let records = world.espo.records("Meeting");
    for record in &records {
        world.espo_update(record["id"].as_str().unwrap(), json!({ "name": format!("{} again", title(record)) }));
    }
    agree(&world, 6);
    assert!(both(&world).1.keys().all(|title| title.ends_with("again")));
    let asked = world.graph.wire().since(mark.1).into_iter().filter(|row| row.path.ends_with("/token")).count();
    assert_eq!(asked, 1, "refreshes");
    assert_eq!(world.user("anna")["state"], "active");
}
