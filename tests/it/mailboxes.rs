//! One meeting in several bound mailboxes whose organizer is outside, what attendees do to their copies, and a user whose mailbox
//! is changed for another.

use serde_json::{Value, json};

use crate::support::{Setup, World, at, mail};

fn answer(world: &World, record: &str, user: &str) -> String {
    let columns = &world.record(record)["usersColumns"][world.id(user)];
    columns["status"].as_str().unwrap_or("nobody").to_owned()
}

/// A meeting of an outside organizer in the mailboxes of Anna and Boris: the record, and the two copies.
fn visit(world: &World) -> (String, [String; 2]) {
    let others = mail("boris");
    let annas =
        world.person("anna").invited("Visit", "boss@partner.example", at(7, 10), at(7, 11), &[&others]).unwrap();
    let boriss = world.person("boris").invited_as_well(&mail("anna"), &annas).unwrap();
    let record = world.one_record("Visit");
    world.settle();
    (record["id"].as_str().unwrap().to_owned(), [annas, boriss])
}

fn two() -> Setup {
    Setup::default().bound(&["anna", "boris"])
}

#[test]
fn a_meeting_of_an_outside_organizer_is_one_record_however_many_mailboxes_tell_of_it_at_once() {
    let world = two().start();
    for round in 0..5 {
        let subject = format!("Visit {round}");
        let others = mail("boris");
        let anna = world.person("anna");
        let id =
            anna.invited(&subject, "boss@partner.example", at(7 + round, 10), at(7 + round, 11), &[&others]).unwrap();
        world.person("boris").invited_as_well(&mail("anna"), &id).unwrap();
    }
    for round in 0..5 {
        world.one_record(&format!("Visit {round}"));
    }
    world.settle();
    world.sync();
    world.settle();
    assert_eq!(world.espo.records("Meeting").len(), 5);
    for record in world.espo.records("Meeting") {
        let users: Vec<&str> = record["usersIds"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(users.contains(&&*world.id("anna")) && users.contains(&&*world.id("boris")), "{record}");
    }
    assert!(world.mails().is_empty(), "{:?}", world.mails());
}

#[test]
fn whoever_deletes_a_copy_of_an_outside_meeting_has_declined_and_the_others_copy_is_followed() {
    for first in ["anna", "boris"] {
        let world = two().start();
        let (record, copies) = visit(&world);
        let (last, copy_of) = if first == "anna" { ("boris", &copies[1]) } else { ("anna", &copies[0]) };
        let first_copy = if first == "anna" { &copies[0] } else { &copies[1] };
        world.person(first).delete_event(first_copy).unwrap();
        world.eventually(&format!("{first} has declined"), || answer(&world, &record, first) == "Declined");
        world.settle();
        world.person(last).organizer_changes(copy_of, json!({ "subject": "Visit, moved" })).unwrap();
        assert_eq!(world.one_record("Visit, moved")["id"], record.as_str());
        world.settle();
        world.person(last).delete_event(copy_of).unwrap();
        world.eventually(&format!("{last} has declined"), || answer(&world, &record, last) == "Declined");
        world.settle();
        world.sync();
        world.settle();
        assert_eq!(world.records("Visit, moved").len(), 1, "a declined meeting is no deleted one");
        assert!(world.dead().is_empty() && world.mails().is_empty(), "{:?} {:?}", world.dead(), world.mails());
    }
}

#[test]
fn a_declined_outside_meeting_that_is_sent_again_is_the_same_record() {
    let world = two().start();
    let (record, copies) = visit(&world);
    world.person("boris").delete_event(&copies[1]).unwrap();
    world.eventually("Boris has declined", || answer(&world, &record, "boris") == "Declined");
    world.settle();
    // Only Anna's copy is left, which the next one is made of; then hers goes.
    let again = world.person("boris").invited_as_well(&mail("anna"), &copies[0]).unwrap();
    world.settle();
    world.person("anna").delete_event(&copies[0]).unwrap();
    world.eventually("Anna has declined", || answer(&world, &record, "anna") == "Declined");
    world.settle();
    world.person("boris").organizer_changes(&again, json!({ "subject": "Visit, again" })).unwrap();
    assert_eq!(world.one_record("Visit, again")["id"], record.as_str());
    world.settle();
    assert_eq!(world.espo.records("Meeting").len(), 1);
}

#[test]
fn an_answer_in_outlook_that_declines_an_outside_meeting_keeps_its_record() {
    let world = World::start();
    let id = world.person("anna").invited("Visit", "boss@partner.example", at(7, 10), at(7, 11), &[]).unwrap();
    let record = world.one_record("Visit")["id"].as_str().unwrap().to_owned();
    world.settle();
    world.person("anna").respond(&id, "decline").unwrap();
    world.eventually("it is declined", || answer(&world, &record, "anna") == "Declined");
    world.settle();
    world.sync();
    world.settle();
    assert_eq!(world.records("Visit").len(), 1);
    // Sent once more, it is taken up where it was left: the copy is new, the meeting and its record are not.
    let page = world.get(&format!("/records/meeting/{record}"));
    assert!(page["summary"].as_str().unwrap().contains("Not synchronised"), "{page}");
}

#[test]
fn a_copy_of_what_the_organizer_cancelled_may_be_cleared_away_without_an_answer() {
    let world = World::start();
    let id = world.person("anna").invited("Visit", "boss@partner.example", at(7, 10), at(7, 11), &[]).unwrap();
    let record = world.one_record("Visit")["id"].as_str().unwrap().to_owned();
    world.settle();
    world.person("anna").organizer_cancels(&id).unwrap();
    world.eventually("it is not held", || world.record(&record)["status"] == "Not Held");
    world.settle();
    let mark = world.mark();
    world.person("anna").delete_event(&id).unwrap();
    world.settle();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(world.record(&record)["status"], "Not Held");
}

#[test]
fn whoever_deletes_a_private_copy_has_declined_and_does_not_get_it_again_until_he_accepts() {
    let world = two().rules(json!({ "attendees": "none" })).start();
    let (record, _) = world.pair("Quiet", json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    let copy = world.one_event("boris", "Quiet")["id"].as_str().unwrap().to_owned();
    world.person("boris").delete_event(&copy).unwrap();
    world.eventually("Boris has declined", || answer(&world, &record, "boris") == "Declined");
    world.espo_update(&record, json!({ "name": "Still quiet" }));
    world.one_event("anna", "Still quiet");
    world.settle();
    world.sync();
    world.settle();
    assert!(world.person("boris").events().is_empty(), "it came back");
    world.espo.set_acceptance("boris", "Meeting", &record, "Accepted").unwrap();
    world.sync();
    world.one_event("boris", "Still quiet");
    world.settle();
    assert!(world.mails().is_empty() && world.dead().is_empty(), "{:?} {:?}", world.mails(), world.dead());
}

#[test]
fn a_user_who_gets_another_mailbox_loses_no_record_and_the_old_mailbox_nothing() {
    for unbinds_first in [false, true] {
        let world = World::start();
        let (record, _) = world.pair("Plan", json!({}));
        let theirs = world.outlook_create("anna", "Theirs", json!({}));
        let other = world.one_record("Theirs")["id"].as_str().unwrap().to_owned();
        world.settle();
        let binding = format!("/users/{}/binding", world.id("anna"));
        if unbinds_first {
            world.delete(&binding);
        }
        let wanted = json!({ "enabled": true, "mailbox": mail("boris"), "sync_from": crate::support::day(-60) });
        world.put(&binding, &wanted);
        assert_eq!(world.sign_in("anna", "boris").status, 200);
        world.becomes("anna", "active");
        world.one_event("boris", "Plan");
        world.one_event("boris", "Theirs");
        world.settle();
        world.sync();
        world.settle();
        assert_eq!(
            (world.record(&record)["name"].as_str(), world.record(&other)["name"].as_str()),
            (Some("Plan"), Some("Theirs"))
        );
        assert_eq!(world.event("anna", &theirs)["subject"], "Theirs");
        assert_eq!((world.person("anna").events().len(), world.person("boris").events().len()), (2, 2));
        world.espo_update(&record, json!({ "name": "Plan B" }));
        world.one_event("boris", "Plan B");
    }
}
