//! Each page of administrators, doing its main thing.

use std::time::Duration;

use serde_json::json;
use simulators::plumbing::Fault;

use super::without_browser;
use crate::support::{Setup, World, day, mail};

#[test]
fn a_change_is_looked_at_and_taken_back_in_the_history() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let (id, _) = world.pair("Quarterly review", json!({}));
    world.espo_update(&id, json!({ "name": "Yearly review" }));
    world.one_event("anna", "Yearly review");
    world.settle();
    let tab = world.admin_tab();
    tab.menu("History");
    tab.choose("What", "Changed");
    tab.follow("button", "Filter");
    tab.sees("Yearly review");
    tab.follow_in("table tbody tr a");
    tab.sees("Quarterly review");
    tab.follow("button", "Take back");
    tab.sees("Taken back.");
    world.one_event("anna", "Quarterly review");
    assert_eq!(world.record(&id)["name"], "Quarterly review");
}

#[test]
fn all_changes_of_a_record_are_previewed_and_taken_back_together() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let (id, _) = world.pair("One", json!({}));
    let from = world.history(&format!("record_id={id}"))[0]["at"].clone();
    for name in ["Two", "Three"] {
        world.espo_update(&id, json!({ "name": name }));
        world.one_event("anna", name);
        world.settle();
    }
    assert!(from.is_string());
    let tab = world.admin_tab();
    tab.open("/history");
    tab.fill("Record ID", &id);
    tab.choose("What", "Changed");
    tab.follow("button", "Filter");
    tab.follow("link", "Take all of these back…");
    tab.sees("This would be done");
    assert_eq!(world.record(&id)["name"], "Three", "a preview does nothing");
    tab.follow("button", "Take all of them back");
    tab.sees("Taken back, by");
    world.settle();
    assert_ne!(world.espo.get_record("Meeting", &id).map(|record| record["name"].clone()), Some(json!("Three")));
}

#[test]
fn a_dead_letter_is_looked_into_and_replayed() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let refusal = json!({ "error": { "code": "ErrorInvalidRequest", "message": "The request is invalid." } });
    world.graph.wire().push(Fault::status("POST", "/events", 400).body(refusal).times(-1));
    let id = world.espo_create("anna", "Refused", json!({}));
    world.eventually("a dead letter", || world.dead().iter().any(|one| one["target"]["id"] == id.as_str()));
    world.settle();
    let tab = world.admin_tab();
    tab.sees("failed for good.");
    tab.menu("Messages");
    tab.choose("State", "Failed for good");
    tab.follow("button", "Filter");
    tab.follow_in("table tbody td a");
    tab.sees("The request is invalid.");
    tab.sees("What was received");
    world.graph.wire().clear();
    tab.follow("button", "Look again");
    world.one_event("anna", "Refused");
    // Those that told of the same are done with as well.
    world.eventually("no dead letter is left", || world.dead().is_empty());
    tab.open("/messages?state=dead");
    tab.sees("Nothing has failed for good.");
}

#[test]
fn chosen_messages_are_discarded_together() {
    if without_browser() {
        return;
    }
    let world = World::start();
    world.pair("Told", json!({}));
    let tab = world.admin_tab();
    tab.open("/messages?state=done");
    let before = tab.value("document.querySelectorAll('tbody tr').length").as_u64().unwrap();
    assert!(before > 0);
    tab.click_in("#all");
    tab.until("all are chosen", "[...document.querySelectorAll('input[name=id]')].every((box) => box.checked)");
    tab.follow("button", "Discard the chosen");
    assert!(world.items("/messages?state=done").is_empty());
}

#[test]
fn what_is_held_back_is_looked_at_and_let_happen() {
    if without_browser() {
        return;
    }
    let world = Setup::default().bound(&[]).start();
    world.espo_create("anna", "With guests", json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    let wanted = json!({ "enabled": true, "mailbox": mail("anna"), "sync_from": day(-60) });
    world.put(&format!("/users/{}/binding", world.id("anna")), &wanted);
    assert_eq!(world.sign_in("anna", "anna").status, 200);
    world.eventually("a hold", || !world.items("/holds").is_empty());
    world.settle();
    let tab = world.admin_tab();
    tab.sees("for a decision.");
    tab.menu("Held back");
    tab.sees("Anna Test");
    tab.sees("invitations");
    // One by one, too.
    tab.sees("With guests");
    assert!(world.person("anna").events().is_empty());
    tab.follow("button", "Let it happen");
    tab.sees("It is being done.");
    world.one_event("anna", "With guests");
    tab.follow("link", "Decided ones too");
    tab.sees("Confirmed");
}

#[test]
fn everything_is_previewed_then_synchronised_while_its_progress_is_shown() {
    if without_browser() {
        return;
    }
    // Nothing tells of changes, so that only what is asked for by hand finds them.
    let world = Setup::default().unreachable().env("SYNC__POLL_INTERVAL", "1h").start();
    for n in 0..6 {
        world.espo_create("anna", &format!("Visit {n}"), json!({}));
    }
    let tab = world.admin_tab();
    tab.menu("Synchronise");
    tab.choose("User", "Anna Test");
    tab.follow("button", "Preview");
    tab.sees("Nothing was changed.");
    tab.sees("Visit 3");
    assert!(world.person("anna").events().is_empty(), "a preview does nothing");
    world.graph.set_service_time(Duration::from_millis(700));
    tab.follow("button", "Do it");
    tab.until("a bar of the progress", "document.querySelector('progress')");
    tab.value("window.isSamePage = true");
    tab.sees("Done:");
    tab.until("the page was not loaded anew", "window.isSamePage");
    tab.until("the bar is gone", "!document.querySelector('progress')");
    world.graph.set_service_time(Duration::ZERO);
    for n in 0..6 {
        world.one_event("anna", &format!("Visit {n}"));
    }
    tab.menu("Synchronise");
    tab.sees("Latest runs");
}

#[test]
fn settings_are_changed_and_a_service_that_is_switched_off_says_so() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.admin_tab();
    tab.menu("Settings");
    tab.sees("Given by the configuration.");
    tab.fill("Number of events per iteration", "25");
    tab.click("field", "Enabled: synchronise at all");
    tab.follow("button", "Save");
    tab.sees("Saved.");
    let settings = world.get("/settings");
    assert_eq!((&settings["events_per_iteration"], &settings["enabled"]), (&json!(25), &json!(false)));
    tab.menu("Overview");
    tab.sees("Synchronisation is switched off in the settings.");
    world.espo_create("anna", "Not now", json!({}));
    tab.menu("Settings");
    tab.click("field", "Enabled: synchronise at all");
    tab.follow("button", "Save");
    world.one_event("anna", "Not now");
}

#[test]
fn schedules_are_set_and_told_in_words_and_a_wrong_one_is_refused() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.admin_tab();
    tab.menu("Schedules");
    tab.fill_in("#meeting", "30 6 * * *");
    tab.follow("button", "Save");
    tab.sees("06:30");
    assert_eq!(world.get("/schedules")["meeting"], "30 6 * * *");
    tab.fill_in("#call", "whenever");
    tab.follow("button", "Save");
    tab.until("it is refused", "document.querySelector('.flash.bad')");
    assert_ne!(world.get("/schedules")["call"], "whenever");
}

#[test]
fn rules_are_set_for_everybody_and_for_one_user() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.admin_tab();
    tab.menu("Rules");
    tab.choose("Unknown participants become", "Contacts");
    tab.follow("button", "Save");
    tab.sees("Saved.");
    assert_eq!(world.get("/rules")["create_participant_as"], "contact");
    tab.menu("Users");
    tab.follow("link", "Anna Test");
    tab.follow_near("link", "Rules", "has set instead of the rules for everybody");
    tab.choose("Unknown participants become", "Leads");
    tab.follow("button", "Save");
    let rules = world.get(&format!("/users/{}/rules", world.id("anna")));
    assert_eq!(rules["effective"]["create_participant_as"], "lead");
}

#[test]
fn subscriptions_are_renewed_one_and_all() {
    if without_browser() {
        return;
    }
    let world = World::start();
    world.graph.age_subscriptions(600);
    let renewals = || {
        let log = world.graph.wire().log();
        log.iter().filter(|row| row.method == "PATCH" && row.path.contains("/subscriptions/")).count()
    };
    let tab = world.admin_tab();
    tab.menu("Subscriptions");
    let rows = tab.value("document.querySelectorAll('tbody tr').length").as_u64().unwrap();
    assert!(rows >= 1);
    let before = renewals();
    tab.follow_near("button", "Renew", "Calendar");
    tab.sees("Being renewed.");
    world.eventually("one is renewed", || renewals() > before);
    let before = renewals();
    tab.follow("button", "Renew all");
    world.eventually("all are renewed", || renewals() as u64 >= before as u64 + rows);
}

#[test]
fn the_log_shows_what_is_written_meanwhile() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.admin_tab();
    tab.menu("Log");
    tab.sees("live");
    let lines = "[...document.querySelectorAll('#log li')]";
    let count = &format!("{lines}.filter((line) => line.innerText.includes('somebody has signed in')).length");
    let before = tab.value(count).as_u64().unwrap();
    drop(world.user_site("anna"));
    tab.until("the new line", &format!("{count} > {before}"));
}

#[test]
fn a_record_is_explained_switched_off_and_on() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let (id, event) = world.pair("Explained", json!({}));
    let tab = world.admin_tab();
    tab.menu("Records");
    // The address out of the browser will do.
    tab.fill("ID or address of the record", &format!("{}/#Meeting/view/{id}", world.espo.url().unwrap()));
    tab.follow_near("button", "Ask", "ID or address of the record");
    tab.sees("Synchronised");
    tab.sees("Last agreed");
    tab.follow("button", "Switch off");
    tab.sees("This record is left alone on both sides.");
    world.espo_update(&id, json!({ "name": "Left alone" }));
    world.settle();
    assert_eq!(world.event("anna", &event)["subject"], "Explained");
    tab.follow("button", "Switch on");
    world.one_event("anna", "Left alone");
    tab.open("/records");
    tab.fill("ID of the item", &event);
    tab.follow_near("button", "Ask", "ID of the item");
    tab.sees("Left alone");
}

#[test]
fn a_user_is_found_and_unbound_after_a_question_and_the_audit_tells_of_it() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.admin_tab();
    tab.menu("Users");
    tab.fill("Name or address", "ann");
    tab.follow("button", "Filter");
    tab.sees_no("Boris Test");
    tab.follow("link", "Anna Test");
    tab.confirm("Unbind");
    tab.sees("Unbound. What was copied stays on both sides.");
    assert_eq!(world.user("anna")["state"], "unbound");
    tab.menu("Audit");
    tab.sees("/unbind");
}
