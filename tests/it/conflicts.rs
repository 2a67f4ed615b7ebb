//! Both sides changed, one-way directions, and what does not take part.

use serde_json::json;

use crate::support::{Setup, World};

/// The same field of a pair is changed on both sides while the service is away; EspoCRM first when `espo_first`.
fn collide(priority: &str, espo_first: bool) -> (World, String, String) {
    let rules = json!({ "meeting": { "direction": "both", "priority": priority } });
    let mut world = Setup::default().rules(rules).start();
    let (id, event) = world.pair("Agreed", json!({}));
    world.crash();
    let edit = |espo: bool| match espo {
        true => world.espo_update(&id, json!({ "name": "By EspoCRM" })),
        false => world.outlook_update("anna", &event, json!({ "subject": "By Outlook" })),
    };
    edit(espo_first);
    // EspoCRM counts in seconds.
    let first = simulators::plumbing::SimClock::system().now();
    let clock = simulators::plumbing::SimClock::system();
    world.eventually("a later second", || clock.now() - first > chrono::Duration::milliseconds(2100));
    edit(!espo_first);
    world.serve();
    world.settle();
    (world, id, event)
}

fn agrees_on(world: &World, id: &str, event: &str, winner: &str, loser: &str) {
    assert_eq!(world.record(id)["name"], winner);
    assert_eq!(world.event("anna", event)["subject"], winner);
    let entries = world.history(&format!("record_id={id}&type=update"));
    let lost = entries.iter().flat_map(|entry| entry["changes"].as_array().cloned().unwrap_or_default());
    let lost: Vec<_> = lost.filter(|change| change["field"] == "title").map(|change| change["lost"].clone()).collect();
    assert!(lost.contains(&json!(loser)), "the loser is not kept: {entries:?}");
}

#[test]
fn espocrm_wins_a_conflict_when_it_has_the_priority() {
    let (world, id, event) = collide("espo", true);
    agrees_on(&world, &id, &event, "By EspoCRM", "By Outlook");
}

#[test]
fn outlook_wins_a_conflict_when_it_has_the_priority() {
    let (world, id, event) = collide("outlook", false);
    agrees_on(&world, &id, &event, "By Outlook", "By EspoCRM");
}

#[test]
fn the_later_change_wins_a_conflict_when_it_is_outlooks() {
    let (world, id, event) = collide("newest", true);
    agrees_on(&world, &id, &event, "By Outlook", "By EspoCRM");
}

#[test]
fn the_later_change_wins_a_conflict_when_it_is_espocrms() {
    let (world, id, event) = collide("newest", false);
    agrees_on(&world, &id, &event, "By EspoCRM", "By Outlook");
}

#[test]
fn different_fields_changed_on_both_sides_are_merged() {
    let mut world = World::start();
    let (id, event) = world.pair("Merge", json!({ "description": "old" }));
    world.crash();
    world.espo_update(&id, json!({ "name": "Merged" }));
    world.outlook_update("anna", &event, json!({ "body": { "contentType": "text", "content": "new" } }));
    world.serve();
    world.settle();
    let record = world.record(&id);
    assert_eq!(record["name"], "Merged");
    assert_eq!(record["description"].as_str().map(str::trim), Some("new"));
    assert_eq!(world.event("anna", &event)["subject"], "Merged");
}

#[test]
fn deleted_here_and_edited_there_goes_as_the_priority_says() {
    for (priority, survives) in [("espo", false), ("outlook", true)] {
        let rules = json!({ "meeting": { "direction": "both", "priority": priority } });
        let mut world = Setup::default().rules(rules).start();
        let (id, event) = world.pair("Contested", json!({}));
        world.crash();
        world.espo_delete(&id);
        world.outlook_update("anna", &event, json!({ "subject": "Contested, edited" }));
        world.serve();
        world.settle();
        let here = world.records("Contested, edited").len();
        let there = world.events("anna", "Contested, edited").len();
        assert_eq!((here, there), (usize::from(survives), usize::from(survives)), "priority {priority}");
    }
}

#[test]
fn espo_to_outlook_copies_one_way_only() {
    let rules = json!({ "meeting": { "direction": "espo_to_outlook" } });
    let world = Setup::default().rules(rules).start();
    world.outlook_create("anna", "Stays in Outlook", json!({}));
    let (id, event) = world.pair("One way", json!({}));
    world.outlook_update("anna", &event, json!({ "subject": "Edited there" }));
    world.settle();
    world.sync();
    world.settle();
    assert!(world.records("Stays in Outlook").is_empty());
    assert_eq!(world.record(&id)["name"], "One way");
    assert_eq!(world.event("anna", &event)["subject"], "Edited there", "the target's own edit stays");
    world.espo_update(&id, json!({ "name": "Edited here" }));
    world.eventually("the source's edit goes over it", || world.event("anna", &event)["subject"] == "Edited here");
    world.settle();
    world.person("anna").delete_event(&event).unwrap();
    world.settle();
    assert_eq!(world.record(&id)["name"], "Edited here", "a deletion there does not travel");
}

#[test]
fn outlook_to_espo_copies_one_way_only() {
    let rules = json!({ "meeting": { "direction": "outlook_to_espo" } });
    let world = Setup::default().rules(rules).start();
    world.espo_create("anna", "Stays in EspoCRM", json!({}));
    let event = world.outlook_create("anna", "One way", json!({}));
    let id = world.one_record("One way")["id"].as_str().unwrap().to_owned();
    world.settle();
    world.espo_update(&id, json!({ "name": "Edited here" }));
    world.settle();
    world.sync();
    world.settle();
    assert!(world.events("anna", "Stays in EspoCRM").is_empty());
    assert_eq!(world.event("anna", &event)["subject"], "One way");
    assert_eq!(world.record(&id)["name"], "Edited here", "the target's own edit stays");
    world.outlook_update("anna", &event, json!({ "subject": "Edited there" }));
    world.eventually("the source's edit goes over it", || world.record(&id)["name"] == "Edited there");
}

#[test]
fn a_disabled_kind_is_left_alone_on_both_sides() {
    let world = Setup::default().rules(json!({ "meeting": { "direction": "disabled" } })).start();
    let mark = world.mark();
    world.espo_create("anna", "Here", json!({}));
    world.outlook_create("anna", "There", json!({}));
    world.settle();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    world.put("/rules", &json!({ "meeting": { "direction": "both" } }));
    world.sync();
    world.one_event("anna", "Here");
    world.one_record("There");
}

#[test]
fn a_private_event_is_not_copied_unless_the_user_says_so() {
    let world = World::start();
    for (subject, sensitivity) in [("Doctor", "private"), ("Salary", "confidential")] {
        world.outlook_create("anna", subject, json!({ "sensitivity": sensitivity }));
    }
    world.outlook_create("anna", "Plain", json!({}));
    world.one_record("Plain");
    world.settle();
    world.sync();
    world.settle();
    assert_eq!(world.espo.records("Meeting").len(), 1);
    world.put(&format!("/users/{}/rules", world.id("anna")), &json!({ "private_events": "busy" }));
    let event = world.outlook_create(
        "anna",
        "Dentist",
        json!({ "sensitivity": "private", "body": { "contentType": "text", "content": "teeth" } }),
    );
    world.eventually("a busy block", || world.records("Private").len() == 1 || world.espo.records("Meeting").len() > 2);
    world.settle();
    let all = format!("{:?}", world.espo.records("Meeting"));
    assert!(!all.contains("Dentist") && !all.contains("teeth"), "what is private was told: {all}");
    assert_eq!(world.event("anna", &event)["subject"], "Dentist", "the private event itself was changed");
}

#[test]
fn the_edit_that_lost_against_a_deletion_is_in_history_and_comes_back_with_a_revert() {
    for (priority, edited_in_espo) in [("espo", false), ("outlook", true)] {
        let rules = json!({ "meeting": { "direction": "both", "priority": priority } });
        let mut world = Setup::default().rules(rules).start();
        let (id, event) = world.pair("Contested", json!({}));
        world.crash();
        if edited_in_espo {
            world.espo_update(&id, json!({ "name": "Edited" }));
            world.person("anna").delete_event(&event).unwrap();
        } else {
            world.outlook_update("anna", &event, json!({ "subject": "Edited" }));
            world.espo_delete(&id);
        }
        world.serve();
        world.eventually("both ends are gone", || {
            world.espo.records("Meeting").is_empty() && world.person("anna").events().is_empty()
        });
        world.settle();
        let entry = world.history("type=delete")[0].clone();
        let title = entry["changes"].as_array().unwrap().iter().find(|change| change["field"] == "title").unwrap();
        assert_eq!((title["old"].as_str(), title["lost"].as_str()), (Some("Edited"), Some("Edited")), "{entry}");
        world.post(&format!("/history/{}/revert", entry["id"].as_str().unwrap()), &json!({}));
        world.one_event("anna", "Edited");
        world.one_record("Edited");
        world.settle();
    }
}

#[test]
fn a_busy_block_goes_with_its_private_event_whatever_it_is_called_in_espocrm() {
    let world = Setup::default().rules(json!({ "private_events": "busy" })).start();
    let event = world.outlook_create("anna", "Dentist", json!({ "sensitivity": "private" }));
    let record = world.one_record("Private")["id"].as_str().unwrap().to_owned();
    world.settle();
    world.espo_update(&record, json!({ "name": "Something of Anna's" }));
    world.settle();
    assert_eq!(world.event("anna", &event)["subject"], "Dentist");
    world.person("anna").delete_event(&event).unwrap();
    world.eventually("the block is gone", || world.espo.records("Meeting").is_empty());
    world.settle();
    assert!(world.person("anna").events().is_empty(), "the deletion was taken back");
    let history = serde_json::to_string(&world.history("")).unwrap();
    assert!(!history.contains("Dentist"), "what is private is in history");
}

#[test]
fn the_targets_own_edit_travels_once_the_direction_is_both() {
    let world = Setup::default().rules(json!({ "meeting": { "direction": "espo_to_outlook" } })).start();
    let (id, event) = world.pair("Before", json!({}));
    world.outlook_update("anna", &event, json!({ "subject": "Own" }));
    world.settle();
    assert_eq!(world.record(&id)["name"], "Before");
    world.put("/rules", &json!({ "meeting": { "direction": "both" } }));
    world.sync();
    world.one_record("Own");
    world.settle();
    assert_eq!(world.event("anna", &event)["subject"], "Own");
}

#[test]
fn the_same_edit_on_both_sides_is_agreed_and_writes_nothing() {
    let world = World::start();
    let (id, event) = world.pair("Before", json!({}));
    world.put("/settings", &json!({ "enabled": false }));
    world.espo_update(&id, json!({ "name": "After" }));
    world.outlook_update("anna", &event, json!({ "subject": "After" }));
    let mark = world.mark();
    world.put("/settings", &json!({ "enabled": true }));
    world.settle();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert!(world.history(&format!("record_id={id}&type=update")).is_empty(), "nothing was changed by us");
    // It is what both have agreed upon: the next edit is one of one side.
    world.espo_update(&id, json!({ "name": "Later" }));
    world.eventually("it travels", || world.event("anna", &event)["subject"] == "Later");
}

#[test]
fn a_field_that_somebody_puts_back_each_time_is_left_alone_and_its_page_says_so() {
    let world = World::start();
    let (id, event) = world.pair("Ours", json!({}));
    let frozen = || world.reasons("meeting", &id).contains("back and forth");
    for round in 0..6 {
        if frozen() {
            break;
        }
        world.outlook_update("anna", &event, json!({ "subject": format!("Theirs {round}") }));
        let arrived = || world.record(&id)["name"] != "Ours" || frozen();
        world.eventually("it arrives, or is left alone", arrived);
        world.espo_update(&id, json!({ "name": "Ours" }));
        let put_back = || world.event("anna", &event)["subject"] == "Ours" || frozen();
        world.eventually("it is put back, or left alone", put_back);
        world.settle();
    }
    assert!(frozen(), "{}", world.reasons("meeting", &id));
    // The other fields travel.
    world.espo_update(&id, json!({ "description": "Still heard" }));
    let heard = || world.event("anna", &event)["body"]["content"].to_string().contains("Still heard");
    world.eventually("the text travels", heard);
}
