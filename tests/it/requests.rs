//! What a change costs: one read of each side and one write; its echo at most one read.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::plumbing::Logged;

use crate::support::{Setup, World, at, day, espo, mail};

/// Requests since a mark that are about records and items: polls, the look after subscriptions and webhooks, and people apart.
fn traffic(world: &World, mark: (usize, usize)) -> Vec<(&'static str, Logged)> {
    const APART: [&str; 14] = [
        "modifiedAt",
        "/delta",
        "/subscriptions",
        "/App/",
        "/mailboxSettings",
        "/Webhook",
        "/Metadata",
        "/Settings",
        "/oauth2/",
        "/User",
        "/Contact",
        "/Lead",
        "/todo/lists?",
        "/Preferences",
    ];
    let ours = |row: &Logged| !row.person && !APART.iter().any(|part| row.path.contains(part));
    let espo = world.espo.wire().log().into_iter().skip(mark.0).filter(ours).map(|row| ("espo", row));
    let graph = world.graph.wire().log().into_iter().skip(mark.1).filter(ours).map(|row| ("graph", row));
    let mut rows: Vec<_> = espo.chain(graph).collect();
    rows.sort_by_key(|(_, row)| row.at);
    rows
}

/// A poll that comes between a write and its record asks for one more look.
fn unpolled() -> Setup {
    Setup::default().env("SYNC__POLL_INTERVAL", "1h")
}

fn told(rows: &[(&str, Logged)]) -> Vec<String> {
    rows.iter().map(|(side, row)| format!("{side} {} {}", row.method, row.path)).collect()
}

/// Holds the traffic of one change against the budget.
fn within_budget(rows: &[(&str, Logged)], written: &str) {
    let write = rows.iter().position(|(_, row)| row.is_write()).unwrap_or_else(|| panic!("a write: {:?}", told(rows)));
    let (before, after) = rows.split_at(write);
    let reads = |side: &str| before.iter().filter(|(of, _)| *of == side).count();
    assert!(reads("espo") <= 1 && reads("graph") <= 1, "before the write: {:?}", told(before));
    let (write, echo) = after.split_first().unwrap();
    assert_eq!(write.0, written, "{:?}", told(rows));
    assert!(
        echo.len() <= 1 && !echo.iter().any(|(_, row)| row.is_write()),
        "its echo: {:?} of {:?}",
        told(echo),
        told(rows)
    );
}

/// The traffic of what `act` does, its echoes included.
fn of(world: &World, act: impl FnOnce(), done: impl FnMut() -> bool) -> Vec<(&'static str, Logged)> {
    world.settle();
    let mark = world.mark();
    act();
    world.eventually("it has arrived", done);
    world.settle();
    traffic(world, mark)
}

#[test]
fn a_change_in_outlook_costs_one_read_of_each_side_and_one_write() {
    let world = unpolled().start();
    let people = json!([world.id("anna"), world.id("boris")]);
    let (id, event) = world.pair("Counted", json!({ "usersIds": people }));
    let act = || world.outlook_update("anna", &event, json!({ "subject": "Counted again" }));
    let rows = of(&world, act, || world.record(&id)["name"] == "Counted again");
    within_budget(&rows, "espo");
}

#[test]
fn a_change_in_espocrm_costs_one_read_of_each_side_and_one_write() {
    let world = unpolled().start();
    let (id, event) = world.pair("Counted", json!({}));
    let act = || world.espo_update(&id, json!({ "name": "Counted again" }));
    let rows = of(&world, act, || world.event("anna", &event)["subject"] == "Counted again");
    within_budget(&rows, "graph");
}

#[test]
fn people_and_a_formatted_text_cost_no_further_read() {
    let world = unpolled().start();
    let html = "<p>Agenda <b>bold</b></p><ul><li>one</li></ul>";
    let body = json!({ "body": { "contentType": "html", "content": html } });
    let event = world.outlook_create("anna", "Formatted", body);
    let id = world.one_record("Formatted")["id"].as_str().unwrap().to_owned();
    world.settle();
    let text = format!("{}\nanother", world.record(&id)["description"].as_str().unwrap());
    let shown = || world.event("anna", &event)["body"]["content"].as_str().unwrap_or_default().to_owned();
    let rows = of(&world, || world.espo_update(&id, json!({ "description": text })), || shown().contains("another"));
    within_budget(&rows, "graph");
    assert!(shown().contains("<b>bold</b>"), "{}", shown());
    let invite = || world.espo_update(&id, json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    let rows = of(&world, invite, || !world.event("anna", &event)["attendees"].as_array().unwrap().is_empty());
    within_budget(&rows[..rows.len().min(4)], "graph");
    assert_eq!(rows.iter().filter(|(_, row)| row.is_write()).count(), 1, "{:?}", told(&rows));
}

#[test]
fn a_change_of_a_task_costs_one_read_of_each_side_and_one_write_either_way() {
    let world = unpolled().start();
    let id = world.make("Task", "anna", "Counted", json!({ "dateEnd": espo(at(5, 9)) }));
    let tasks = || world.graph.person(&mail("anna")).tasks();
    world.eventually("it is in To Do", || !tasks().is_empty());
    let task = tasks()[0]["id"].as_str().unwrap().to_owned();
    let record = |name: &str| world.espo.get_record("Task", &id).unwrap()[name].clone();
    let change = json!({ "title": "From To Do" });
    let rows =
        of(&world, || drop(world.person("anna").patch_task(&task, change).unwrap()), || record("name") == "From To Do");
    within_budget(&rows, "espo");
    let write = |fields: Value| world.espo.write_as("anna", "PUT", "Task", Some(&id), &fields).unwrap();
    let due = || tasks()[0]["dueDateTime"]["dateTime"].as_str().unwrap_or_default().starts_with(&day(6));
    let rows = of(&world, || drop(write(json!({ "dateEnd": espo(at(6, 9)) }))), due);
    within_budget(&rows, "graph");
}

#[test]
fn a_first_synchronisation_reads_many_events_in_few_requests_and_each_has_an_outcome_of_its_own() {
    const EVENTS: usize = 100;
    let world = Setup::default().bound(&[]).start();
    world.graph.set_service_time(Duration::from_millis(20));
    for n in 0..EVENTS {
        world.outlook_create("anna", &format!("Event {n:02}"), json!({}));
    }
    let mark = world.mark();
    let count = |method: &str, part: &str| {
        let asked = world.graph.wire().since(mark.1);
        asked.iter().filter(|row| row.method == method && row.path.contains(part)).count()
    };
    world.bind("anna");
    // Some steps of a batch are refused, the others are not.
    world.eventually("a batch", || count("POST", "/$batch") > 0);
    world.graph.throttle(&mail("anna"), 3, 1);
    let arrived = || world.espo.records("Meeting").len() == EVENTS;
    world.eventually("all have arrived", arrived);
    world.settle();
    assert!(arrived(), "one has arrived twice");
    let jobs = world.items("/jobs");
    let job = jobs.iter().find(|job| job["created"] == EVENTS).unwrap_or_else(|| panic!("{jobs:#?}"));
    assert_eq!(job["failed"], 0, "{job}");
    let (batches, alone) = (count("POST", "/$batch"), count("GET", "/me/events/"));
    assert!(batches + alone < EVENTS / 2, "{batches} batches and {alone} single reads");
    let report = &world.graph.throttle_report()[&mail("anna")];
    assert!(report.max_in_flight <= 4 && report.refused >= 3, "{report:?}");
}

/// The items of Anna's of a kind.
fn items(world: &World, kind: &str) -> Vec<Value> {
    if kind == "Task" { world.person("anna").tasks() } else { world.person("anna").events() }
}

#[test]
fn with_an_administrators_account_making_and_changing_in_espocrm_costs_no_more() {
    for kind in ["Meeting", "Call", "Task"] {
        let world = unpolled().admin_account().start();
        let mut id = String::new();
        let reminders = json!([{ "type": "Popup", "seconds": 1800 }]);
        let fields = if kind == "Task" { json!({ "dateEnd": espo(at(5, 9)) }) } else { json!({}) };
        let make = || id = world.make(kind, "anna", "Counted", fields);
        let rows = of(&world, make, || !items(&world, kind).is_empty());
        within_budget(&rows, "graph");
        let change = || world.change(kind, &id, json!({ "name": "Counted again" }));
        let named = |item: &Value| item["subject"] == "Counted again" || item["title"] == "Counted again";
        let rows = of(&world, change, || named(&items(&world, kind)[0]));
        within_budget(&rows, "graph");
        let remind = || world.change(kind, &id, json!({ "reminders": reminders }));
        let rows = of(&world, remind, || items(&world, kind)[0]["isReminderOn"] == true);
        within_budget(&rows, "graph");
    }
}

#[test]
fn with_an_administrators_account_making_and_changing_in_outlook_costs_no_more() {
    for kind in ["Meeting", "Call", "Task"] {
        let world = unpolled().admin_account().start();
        let categories = if kind == "Call" { json!(["Call"]) } else { json!([]) };
        let mut id = String::new();
        let make = || match kind {
            "Task" => {
                let made = world.person("anna").create_task(json!({ "title": "Counted" })).unwrap();
                id = made["id"].as_str().unwrap().to_owned();
            }
            _ => {
                let attendees = json!([world.attendee("boris", "Boris Test")]);
                let fields = json!({ "categories": categories, "attendees": attendees, "isReminderOn": true });
                id = world.outlook_create("anna", "Counted", fields);
            }
        };
        let rows = of(&world, make, || !world.espo.records(kind).is_empty());
        within_budget(&rows, "espo");
        let change = || match kind {
            "Task" => drop(world.person("anna").patch_task(&id, json!({ "title": "Counted again" })).unwrap()),
            _ => world.outlook_update("anna", &id, json!({ "subject": "Counted again" })),
        };
        let rows = of(&world, change, || world.espo.records(kind)[0]["name"] == "Counted again");
        within_budget(&rows, "espo");
    }
}
