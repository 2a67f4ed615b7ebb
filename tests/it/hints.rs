//! What a hint is worth that comes beside a look: before it, during it, after it.

use serde_json::{Value, json};
use simulators::plumbing::{Fault, Logged};
use sync::Side;

use crate::support::{Setup, World};

/// One hand, and nobody who finds what a hint failed to tell.
fn one_hand() -> World {
    Setup::default().env("WORKER__CONCURRENCY", "1").env("SYNC__POLL_INTERVAL", "1h").start()
}

/// How many hints were received that name something on a side: only those at items name a mailbox.
fn received(world: &World, side: Side) -> usize {
    let named = |message: &&Value| message["target"].get("user").is_some() == (side == Side::Outlook);
    world.items("/messages").iter().filter(named).count()
}

fn read(rows: &[Logged], path: &str) -> Vec<String> {
    let ours = rows.iter().filter(|row| !row.person && row.method == "GET" && row.path.contains(path));
    ours.map(|row| format!("{} {}", row.at, row.path)).collect()
}

/// Makes edits of which hints are received, one after the other, and none is worked on yet.
fn while_off(world: &World, edits: &[(Side, &dyn Fn())]) {
    world.put("/settings", &json!({ "enabled": false }));
    for (side, edit) in edits {
        let before = received(world, *side);
        edit();
        world.eventually("it is received", || received(world, *side) > before);
    }
}

#[test]
fn what_is_edited_in_espocrm_while_its_event_is_looked_for_is_not_lost() {
    let world = one_hand();
    world.graph.wire().push(Fault::held_before("GET", "/calendarView?"));
    let id = world.espo_create("anna", "First", json!({}));
    world.eventually("an equal event is looked for", || world.graph.wire().pending_faults() == Some(0));
    let before = received(&world, Side::Espo);
    world.espo_update(&id, json!({ "name": "Second" }));
    world.eventually("the edit is told of", || received(&world, Side::Espo) > before);
    world.graph.wire().release();
    world.one_event("anna", "Second");
    world.is_at_rest();
}

#[test]
fn what_is_edited_in_outlook_while_its_record_is_looked_for_is_not_lost() {
    let world = one_hand();
    world.espo.wire().push(Fault::held_before("GET", "/Meeting?"));
    let event = world.outlook_create("anna", "First", json!({}));
    world.eventually("an equal record is looked for", || world.espo.wire().pending_faults() == Some(0));
    let before = received(&world, Side::Outlook);
    world.outlook_update("anna", &event, json!({ "subject": "Second" }));
    world.eventually("the edit is told of", || received(&world, Side::Outlook) > before);
    world.espo.wire().release();
    world.one_record("Second");
    world.is_at_rest();
}

#[test]
fn a_change_older_than_the_last_look_costs_no_request() {
    let world = one_hand();
    let (id, event) = world.pair("Twice", json!({}));
    world.settle();
    let in_outlook = || world.outlook_update("anna", &event, json!({ "subject": "Twice in Outlook" }));
    let in_espo = || world.espo_update(&id, json!({ "description": "Twice in EspoCRM" }));
    while_off(&world, &[(Side::Outlook, &in_outlook), (Side::Espo, &in_espo)]);
    let mark = world.mark();
    world.put("/settings", &json!({ "enabled": true }));
    world.one_record("Twice in Outlook");
    world.settle();
    assert!(world.event("anna", &event)["body"]["content"].as_str().unwrap().contains("Twice in EspoCRM"));
    // The look at both ends, then the echo of what was written to the record; the second of the hints is worth nothing.
    let graph = read(&world.graph.wire().since(mark.1), "/events/");
    let espo = read(&world.espo.wire().since(mark.0), &format!("/Meeting/{id}"));
    assert!(graph.len() == 1 && espo.len() <= 2, "{graph:?} {espo:?} {:?}", world.items("/messages"));
}

#[test]
fn a_reminder_that_a_webhook_shows_is_worth_a_look_though_another_came_first() {
    let world = one_hand();
    let (id, event) = world.pair("Reminded", json!({ "reminders": [{ "type": "Popup", "seconds": 600 }] }));
    world.settle();
    let in_outlook =
        || world.outlook_update("anna", &event, json!({ "body": { "contentType": "text", "content": "A" } }));
    let reminders = json!({ "reminders": [{ "type": "Popup", "seconds": 1800 }] });
    let in_espo = || {
        let edit: Result<Value, _> = world.espo.write_as("anna", "PUT", "Meeting", Some(&id), &reminders);
        assert!(edit.is_ok());
    };
    while_off(&world, &[(Side::Outlook, &in_outlook), (Side::Espo, &in_espo)]);
    world.put("/settings", &json!({ "enabled": true }));
    let shown = || {
        let event = world.event("anna", &event);
        event["isReminderOn"] == true && event["reminderMinutesBeforeStart"] == 30
    };
    world.eventually("the reminder is in Outlook", shown);
    world.is_at_rest();
}
