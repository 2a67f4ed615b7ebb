//! Copies of an event that tell of themselves: those of attendees whose notification comes first, and those that somebody made in
//! Outlook, which take our marks along.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::microsoft::Mode;

use crate::support::{Setup, World, at, graph_time, mail};

fn both(mode: &str) -> World {
    Setup::default().bound(&["anna", "boris"]).env("MICROSOFT__MODE", mode).start()
}

fn id_of(event: &Value) -> String {
    event["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_attendees_copy_that_is_told_of_first_makes_no_record_and_joins_that_of_its_organizer() {
    for mode in ["delegated", "application"] {
        let world = both(mode);
        world.graph.set_notifications(Mode::Drop, 1, false, Duration::ZERO);
        let attendees = json!([world.attendee("boris", "Boris Test")]);
        let event = world.outlook_create("anna", "Together", json!({ "attendees": attendees }));
        let copy = id_of(&world.one_event("boris", "Together"));
        world.graph.set_notifications(Mode::Normal, 1, false, Duration::ZERO);
        world.person("boris").touch_event(&copy).unwrap();
        world.never("the copy became a record", 2, || !world.records("Together").is_empty());
        world.settle();
        world.person("anna").touch_event(&event).unwrap();
        let record = world.one_record("Together");
        world.is_at_rest();
        assert_eq!(world.one_record("Together")["assignedUserId"], world.id("anna").as_str(), "{mode}");
        assert_eq!(world.mails(), [("invitation".to_owned(), mail("boris"))], "{mode}");
        world.person("boris").respond(&copy, "accept").unwrap();
        let id = id_of(&record);
        let answer = || world.record(&id)["usersColumns"][world.id("boris")]["status"].clone();
        world.eventually("his answer is there", || answer() == "Accepted");
        world.settle();
        assert_eq!(world.espo.records("Meeting").len(), 1, "{mode}");
    }
}

#[test]
fn what_an_attendee_edits_in_the_own_copy_does_not_travel_and_the_organizers_next_change_puts_it_right() {
    for mode in ["delegated", "application"] {
        let world = both(mode);
        let people = json!([world.id("anna"), world.id("boris")]);
        let (record, event) = world.pair("Ours", json!({ "usersIds": people, "description": "words" }));
        let copy = id_of(&world.one_event("boris", "Ours"));
        let mark = world.mark();
        let own = json!({ "subject": "Boris calls it so", "start": graph_time(at(9, 10)), "end": graph_time(at(9, 11)),
            "body": { "contentType": "text", "content": "his own" } });
        world.outlook_update("boris", &copy, own);
        world.is_at_rest();
        world.no_writes_since(mark);
        assert_eq!(world.record(&record)["name"], "Ours", "{mode}");
        assert_eq!(world.event("anna", &event)["subject"], "Ours", "{mode}");
        assert_eq!(world.event("boris", &copy)["subject"], "Boris calls it so", "{mode}");
        world.espo_update(&record, json!({ "name": "Ours again" }));
        world.one_event("anna", "Ours again");
        world.settle();
        assert_eq!(world.event("boris", &copy)["subject"], "Ours again", "{mode}");
        assert_eq!(world.espo.records("Meeting").len(), 1, "{mode}");
    }
}

/// What somebody else's event is told of by when it is copied in Outlook.
fn marks(world: &World, event: &str) -> Value {
    let kept = [graph::MARKER, graph::RECORD].into_iter().filter_map(|id| {
        let value = world.person("anna").extended(event, id)?;
        Some(json!({ "id": id, "value": value }))
    });
    kept.collect()
}

#[test]
fn a_copy_of_an_event_that_outlook_makes_with_our_marks_is_a_new_item_and_stays_one() {
    let world =
        Setup::default().seeds(|espo, _| espo.add_field("Meeting", "cOutlookMarker", "varchar", &Value::Null)).start();
    let (first, event) = world.pair("Original", json!({ "description": "words" }));
    let marks = marks(&world, &event);
    assert!(!marks.as_array().unwrap().is_empty(), "the event carries no mark");
    let times = |days| json!({ "start": graph_time(at(days, 10)), "end": graph_time(at(days, 11)), "singleValueExtendedProperties": marks });
    // Moved to another day, and, below, of the same time: only the id tells the two apart.
    let copies = [8, 7].map(|days| world.outlook_create("anna", "Original", times(days)));
    world.eventually("two more records", || world.records("Original").len() == 3);
    world.is_at_rest();
    assert_eq!((world.records("Original").len(), world.events("anna", "Original").len()), (3, 3));
    for (at, copy) in copies.iter().enumerate() {
        let name = format!("Copy {at}");
        world.outlook_update("anna", copy, json!({ "subject": name }));
        assert_ne!(world.one_record(&name)["id"], first.as_str());
    }
    world.espo_update(&first, json!({ "name": "Original, edited" }));
    assert_eq!(world.one_event("anna", "Original, edited")["id"], event.as_str());
    world.person("anna").delete_event(&copies[0]).unwrap();
    world.eventually("its record goes", || world.records("Copy 0").is_empty());
    world.is_at_rest();
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (2, 2));
}

#[test]
fn an_event_with_the_marks_of_another_installation_is_a_new_item() {
    let world = World::start();
    let marks = json!([
        { "id": graph::MARKER, "value": "0190f0d2-7c1e-7d31-9d52-3a4f0f1c2b3a" },
        { "id": graph::RECORD, "value": "meeting:6a0000000000abcde" },
    ]);
    let event = world.outlook_create("anna", "Dragged here", json!({ "singleValueExtendedProperties": marks }));
    let record = id_of(&world.one_record("Dragged here"));
    world.is_at_rest();
    world.outlook_update("anna", &event, json!({ "subject": "Dragged and named" }));
    assert_eq!(world.one_record("Dragged and named")["id"], record.as_str());
    world.is_at_rest();
}
