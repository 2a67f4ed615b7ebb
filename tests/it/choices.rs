//! Rules that somebody may choose, and what each of them does: meetings that are not held or were cancelled, private events.

use serde_json::{Value, json};

use crate::support::{Setup, World, at, espo, mail};

const KINDS: [&str; 2] = ["Meeting", "Call"];

/// A record of Anna's and Boris's that is in step: its id, and that of the event.
fn pair(world: &World, kind: &str, name: &str) -> (String, String) {
    let id = world.make(kind, "anna", name, json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    let event = world.one_event("anna", name)["id"].as_str().unwrap().to_owned();
    world.settle();
    (id, event)
}

fn cancellations(world: &World) -> usize {
    world.mails().iter().filter(|(kind, _)| kind == "cancellation").count()
}

#[test]
fn what_is_not_held_is_left_alone_in_outlook_unless_the_rule_cancels_it() {
    for (rule, cancels) in [("keep", false), ("cancel", true)] {
        let world = Setup::default().rules(json!({ "not_held": rule })).start();
        let pairs = KINDS.map(|kind| (kind, pair(&world, kind, kind)));
        for (kind, (id, _)) in &pairs {
            world.change(kind, id, json!({ "status": "Held" }));
        }
        world.settle();
        assert_eq!(world.person("anna").events().len(), 2, "what was held stays: {rule}");
        for (kind, (id, _)) in &pairs {
            world.change(kind, id, json!({ "status": "Not Held" }));
        }
        let gone = || pairs.iter().filter(|(_, (_, event))| world.person("anna").event(event).is_none()).count();
        world.eventually("the rule is followed", || gone() == if cancels { 2 } else { 0 });
        world.is_at_rest();
        assert_eq!((gone(), cancellations(&world)), if cancels { (2, 2) } else { (0, 0) }, "{rule}");
        for (kind, (id, _)) in &pairs {
            assert_eq!(world.record_of(kind, id)["status"], "Not Held", "{rule}");
            // It is to be held after all.
            world.change(kind, id, json!({ "status": "Planned" }));
            world.one_event("anna", kind);
        }
        world.is_at_rest();
        assert_eq!((world.person("anna").events().len(), world.mails().len()), (2, if cancels { 6 } else { 2 }));
    }
}

#[test]
fn what_is_not_held_from_the_start_gets_no_event_where_the_rule_cancels() {
    let world = Setup::default().rules(json!({ "not_held": "cancel" })).start();
    let id = world.espo_create("anna", "Never", json!({ "status": "Not Held" }));
    world.is_at_rest();
    assert!(world.person("anna").events().is_empty());
    world.espo_update(&id, json!({ "status": "Planned" }));
    world.one_event("anna", "Never");
}

#[test]
fn what_its_outside_organizer_cancels_is_not_held_or_deleted_as_the_rule_says() {
    for (kind, new_events) in [("Meeting", "meeting"), ("Call", "call")] {
        for rule in ["not_held", "delete"] {
            let world = Setup::default().rules(json!({ "cancelled": rule, "new_events": new_events })).start();
            let copy =
                world.person("anna").invited("Visit", "boss@partner.example", at(7, 10), at(7, 11), &[]).unwrap();
            world.eventually("the record", || world.espo.records(kind).len() == 1);
            world.settle();
            let mark = world.mark();
            world.person("anna").organizer_cancels(&copy).unwrap();
            let done = || {
                let records = world.espo.records(kind);
                if rule == "delete" { records.is_empty() } else { records[0]["status"] == "Not Held" }
            };
            world.eventually(rule, done);
            world.settle();
            let (_, graph) = world.writes_since(mark);
            assert!(graph.is_empty() && world.mails().is_empty(), "the copy is left alone: {graph:?}");
            world.is_at_rest();
            assert!(done(), "{kind} {rule}: {:?}", world.espo.records(kind));
        }
    }
}

const TEXT: &str = "What only the two of them know";

fn set_sensitivity(world: &World, event: &str, word: &str) {
    world.outlook_update("anna", event, json!({ "sensitivity": word }));
    world.settle();
}

/// A pair with a text and a place.
fn open(mode: &str) -> (World, String, String) {
    let setup = Setup::default().rules(json!({ "private_events": mode }));
    let world = setup.seeds(|espo, _| espo.add_field("Meeting", "cLocation", "varchar", &Value::Null)).start();
    let (id, event) = world.pair("Talk", json!({ "description": TEXT, "cLocation": "Room 7" }));
    (world, id, event)
}

fn shown(world: &World, id: &str) -> Vec<Value> {
    let record = world.record(id);
    ["name", "description", "cLocation", "dateStart"].map(|name| record[name].clone()).to_vec()
}

#[test]
fn an_event_that_becomes_private_stays_as_it_was_in_espocrm_and_goes_on_when_it_is_public_again() {
    let (world, id, event) = open("none");
    let before = shown(&world, &id);
    set_sensitivity(&world, &event, "private");
    let mark = world.mark();
    world.outlook_update("anna", &event, json!({ "subject": "Secret" }));
    world.espo_update(&id, json!({ "description": "Said in EspoCRM" }));
    world.is_at_rest();
    world.no_writes_since(mark);
    assert_eq!((&shown(&world, &id)[0], &shown(&world, &id)[3]), (&before[0], &before[3]));
    let page = world.get(&format!("/records/meeting/{id}"));
    assert!(page["summary"].as_str().unwrap().contains("private"), "{page}");
    set_sensitivity(&world, &event, "normal");
    world.one_record("Secret");
    let text = || world.event("anna", &event)["body"]["content"].to_string();
    world.eventually("the text is there", || text().contains("Said in EspoCRM"));
    world.is_at_rest();
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (1, 1));
}

#[test]
fn of_an_event_that_becomes_private_only_the_times_are_left_where_it_is_to_be_a_busy_block_and_all_comes_back() {
    let (world, id, event) = open("busy");
    let before = shown(&world, &id);
    set_sensitivity(&world, &event, "private");
    world.eventually("it is a block", || world.record(&id)["name"] == "Private");
    world.settle();
    let record = world.record(&id).to_string();
    assert!(!record.contains(TEXT) && !record.contains("Room 7"), "{record}");
    world.is_at_rest();
    let item = world.event("anna", &event);
    let told = (&item["subject"], &item["location"]["displayName"]);
    assert_eq!(told, (&json!("Talk"), &json!("Room 7")), "the private event itself is as it was");
    assert!(item["body"]["content"].as_str().unwrap().contains(TEXT), "{item}");
    // A text of one's own in EspoCRM stays there.
    world.espo_update(&id, json!({ "description": "Own" }));
    world.is_at_rest();
    assert!(world.event("anna", &event)["body"]["content"].as_str().unwrap().contains(TEXT));
    world.outlook_update("anna", &event, json!({ "subject": "Secret" }));
    world.settle();
    assert_eq!(world.record(&id)["name"], "Private");
    world.espo_update(&id, json!({ "description": "" }));
    world.settle();
    world.outlook_update("anna", &event, json!({ "subject": "Talk" }));
    set_sensitivity(&world, &event, "normal");
    world.eventually("all is back", || shown(&world, &id) == before);
    world.is_at_rest();
    assert_eq!(shown(&world, &id), before);
}

#[test]
fn an_event_that_becomes_private_is_copied_like_any_other_where_the_user_says_so() {
    let (world, id, event) = open("full");
    let before = shown(&world, &id);
    let mark = world.mark();
    set_sensitivity(&world, &event, "private");
    world.is_at_rest();
    world.no_writes_since(mark);
    assert_eq!(shown(&world, &id), before);
    world.outlook_update("anna", &event, json!({ "subject": "Secret" }));
    world.one_record("Secret");
    world.espo_update(&id, json!({ "dateStart": espo(at(8, 10)), "dateEnd": espo(at(8, 11)) }));
    let day = at(8, 10).format("%Y-%m-%d").to_string();
    let start = || world.event("anna", &event)["start"]["dateTime"].as_str().unwrap_or_default()[..10].to_owned();
    world.eventually("it is moved", || start() == day);
    assert_eq!(world.event("anna", &event)["sensitivity"], "private", "it stays private");
    set_sensitivity(&world, &event, "normal");
    world.is_at_rest();
    assert_eq!(world.record(&id)["name"], "Secret");
    assert!(world.mails().iter().all(|(_, to)| *to != mail("anna")), "{:?}", world.mails());
}
