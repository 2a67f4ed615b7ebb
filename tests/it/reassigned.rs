//! A record that is given to somebody else: its one event moves along.

use serde_json::{Value, json};

use crate::support::{Setup, World, mail};

const ALL: [&str; 3] = ["anna", "boris", "dora"];

fn world() -> World {
    Setup::default().users(&ALL).bound(&["anna", "boris"]).start()
}

fn give(world: &World, id: &str, to: &str) {
    world.espo.write_as("anna", "PUT", "Meeting", Some(id), &json!({ "assignedUserId": world.id(to) })).unwrap();
}

/// Who organises an event of that subject, one name for each event.
fn masters(world: &World, subject: &str) -> Vec<&'static str> {
    let own = |name: &&str| {
        let events = world.events(name, subject);
        events.iter().filter(|event| event["isOrganizer"] == true).count()
    };
    ALL.into_iter().flat_map(|name| vec![name; own(&name)]).collect()
}

fn moves(world: &World, subject: &str, to: &[&str]) {
    world.eventually(&format!("{to:?} has it"), || masters(world, subject) == to);
    world.settle();
    assert_eq!(masters(world, subject), to);
}

fn own(world: &World, name: &str, subject: &str) -> Value {
    world.events(name, subject).into_iter().find(|event| event["isOrganizer"] == true).unwrap()
}

fn addresses(event: &Value) -> Vec<String> {
    let attendees = event["attendees"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<String> =
        attendees.iter().map(|a| a["emailAddress"]["address"].as_str().unwrap_or_default().to_owned()).collect();
    all.sort();
    all
}

/// What was mailed since so many, sorted.
fn mails(world: &World, since: usize) -> Vec<(String, String)> {
    let mut all = world.mails().split_off(since);
    all.sort();
    all
}

fn said(kind: &str, to: &str) -> (String, String) {
    (kind.to_owned(), if to.contains('@') { to.to_owned() } else { mail(to) })
}

#[test]
fn a_record_that_is_given_away_and_back_has_one_event_in_the_mailbox_of_whom_it_is_assigned_to() {
    let world = world();
    let (id, _) = world.pair("Alone", json!({ "description": "words" }));
    for to in ["boris", "anna", "boris"] {
        give(&world, &id, to);
        moves(&world, "Alone", &[to]);
    }
    world.is_at_rest();
    // EspoCRM keeps whom it was assigned to as a participant: that one is invited, and had accepted on making it.
    let wanted = [
        [said("invitation", "anna"), said("response", "boris")].to_vec(),
        [said("cancellation", "anna"), said("invitation", "boris")].to_vec(),
        [said("cancellation", "boris"), said("invitation", "anna"), said("response", "boris")].to_vec(),
    ];
    assert_eq!(world.mails(), wanted.concat());
    assert_eq!(world.one_record("Alone")["id"], id.as_str());
    let event = own(&world, "boris", "Alone");
    assert!(event["body"]["content"].as_str().unwrap().contains("words"), "{event}");
    // Both sides go on from here.
    world.espo_update(&id, json!({ "name": "Alone still" }));
    world.one_event("boris", "Alone still");
    world.outlook_update("boris", event["id"].as_str().unwrap(), json!({ "subject": "And back" }));
    assert_eq!(world.one_record("And back")["id"], id.as_str());
}

#[test]
fn a_meeting_with_guests_that_is_given_away_is_cancelled_once_and_sent_once() {
    let world = world();
    let carla =
        world.espo.seed("Contact", &json!({ "firstName": "Carla", "lastName": "C", "emails": ["c@c.example"] }));
    let people = json!({ "usersIds": [world.id("anna"), world.id("boris")], "contactsIds": [carla] });
    let (id, _) = world.pair("Guests", people);
    assert_eq!(mails(&world, 0), [said("invitation", "boris"), said("invitation", "c@c.example")]);
    let mut before = 2;
    // Anna had accepted on making it, which Boris is told.
    for (to, other, answers) in [("boris", "anna", &["boris"][..]), ("anna", "boris", &[])] {
        give(&world, &id, to);
        moves(&world, "Guests", &[to]);
        let mut wanted = vec![
            said("cancellation", to),
            said("cancellation", "c@c.example"),
            said("invitation", "c@c.example"),
            said("invitation", other),
        ];
        wanted.extend(answers.iter().map(|to| said("response", to)));
        wanted.sort();
        assert_eq!(mails(&world, before), wanted, "given to {to}");
        before += wanted.len();
        let event = own(&world, to, "Guests");
        let mut invited = vec!["c@c.example".to_owned(), mail(other)];
        invited.sort();
        assert_eq!(addresses(&event), invited);
    }
    world.is_at_rest();
    assert_eq!(world.mails().len(), before);
    assert_eq!(world.espo.records("Meeting").len(), 1);
}

#[test]
fn a_record_that_is_given_to_somebody_unbound_leaves_outlook_and_comes_back_with_it() {
    let world = world();
    let (id, _) = world.pair("Away", json!({}));
    give(&world, &id, "dora");
    moves(&world, "Away", &[]);
    world.is_at_rest();
    assert!(world.person("dora").events().is_empty() && world.records("Away").len() == 1);
    world.espo_update(&id, json!({ "name": "Away, edited" }));
    world.is_at_rest();
    give(&world, &id, "anna");
    moves(&world, "Away, edited", &["anna"]);
    world.is_at_rest();
    assert_eq!((world.mails(), world.espo.records("Meeting").len()), (vec![said("invitation", "dora")], 1));
}

#[test]
fn what_is_edited_on_either_side_while_a_record_is_given_away_arrives() {
    let mut world = world();
    let (id, event) = world.pair("Edited", json!({ "description": "old" }));
    world.crash();
    world.outlook_update("anna", &event, json!({ "subject": "Edited there" }));
    give(&world, &id, "boris");
    world.espo_update(&id, json!({ "description": "Edited here" }));
    world.serve();
    moves(&world, "Edited there", &["boris"]);
    world.is_at_rest();
    assert_eq!(world.record(&id)["name"], "Edited there");
    let moved = world.one_event("boris", "Edited there");
    assert!(moved["body"]["content"].as_str().unwrap().contains("Edited here"), "{moved}");
    assert_eq!(mails(&world, 0), [said("invitation", "anna"), said("response", "boris")]);
}

#[test]
fn a_task_that_is_given_away_and_back_is_one_task_in_the_list_of_whom_it_is_assigned_to() {
    let world = world();
    let id = world.make("Task", "anna", "Errand", json!({}));
    world.one_task("Errand");
    world.settle();
    let count = |name: &str| world.person(name).tasks().iter().filter(|task| task["title"] == "Errand").count();
    for (to, wanted) in [("boris", (0, 1)), ("anna", (1, 0)), ("dora", (0, 0))] {
        world.change("Task", &id, json!({ "assignedUserId": world.id(to) }));
        world.eventually(&format!("{to} has it"), || (count("anna"), count("boris")) == wanted);
        world.is_at_rest();
        assert_eq!((count("anna"), count("boris")), wanted, "{to}");
    }
}
