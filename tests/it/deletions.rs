//! What is deleted, held back or left: the brake on many deletions, and bindings that are switched off or taken away.

use serde_json::{Value, json};

use crate::support::{Setup, World, at, day, graph_time};

fn many(world: &World, count: usize) -> Vec<(String, String)> {
    let names: Vec<String> = (0..count).map(|n| format!("Meeting {n:02}")).collect();
    let ids: Vec<String> = names.iter().map(|name| world.espo_create("anna", name, json!({}))).collect();
    world.eventually("all are in Outlook", || world.person("anna").events().len() == count);
    world.settle();
    let event = |name: &String| world.one_event("anna", name)["id"].as_str().unwrap().to_owned();
    ids.into_iter().zip(names.iter().map(event)).collect()
}

#[test]
fn what_a_discarded_hold_kept_back_stays_and_is_not_asked_about_again() {
    let world = World::start();
    let pairs = many(&world, 12);
    for (record, _) in &pairs {
        world.espo_delete(record);
    }
    let hold = world.eventually_some("a hold", || world.items("/holds").first().cloned());
    world.settle();
    world.post(&format!("/holds/{}/discard", hold["id"].as_str().unwrap()), &json!({}));
    world.is_at_rest();
    assert!(world.items("/holds").is_empty(), "{:?}", world.items("/holds"));
    assert_eq!((world.person("anna").events().len(), world.espo.records("Meeting").len()), (12, 0));
    // One that is edited or deleted in Outlook later brings nothing back and takes nothing along.
    world.outlook_update("anna", &pairs[0].1, json!({ "subject": "Edited" }));
    world.person("anna").delete_event(&pairs[1].1).unwrap();
    world.is_at_rest();
    assert!(world.items("/holds").is_empty() && world.espo.records("Meeting").is_empty());
    assert_eq!(world.person("anna").events().len(), 11);
    // What comes afterwards is as ever: a few go at once, many are asked about again.
    let (record, event) = world.pair("Later", json!({}));
    world.espo_delete(&record);
    world.eventually("it is deleted", || world.person("anna").event(&event).is_none());
    world.settle();
    assert!(world.items("/holds").is_empty());
}

/// A daily series of Anna's, of so many days from the day after tomorrow, and its records.
fn series(world: &World, subject: &str, count: usize) -> String {
    let recurrence = json!({ "pattern": { "type": "daily", "interval": 1 },
        "range": { "type": "numbered", "startDate": day(2), "numberOfOccurrences": count } });
    let body = json!({ "start": graph_time(at(2, 9)), "end": graph_time(at(2, 10)), "recurrence": recurrence });
    let master = world.outlook_create("anna", subject, body);
    world.eventually("its records", || world.records(subject).len() == count);
    world.settle();
    master
}

#[test]
fn a_series_that_is_deleted_counts_once_and_needs_nobodys_word() {
    let world = World::start();
    let master = series(&world, "From Outlook", 25);
    world.person("anna").delete_event(&master).unwrap();
    world.eventually("its records go", || world.espo.records("Meeting").is_empty());
    world.is_at_rest();
    assert!(world.items("/holds").is_empty(), "{:?}", world.items("/holds"));
    series(&world, "From EspoCRM", 25);
    for record in world.records("From EspoCRM") {
        world.espo_delete(record["id"].as_str().unwrap());
    }
    world.eventually("its occurrences go", || world.person("anna").view(at(0, 0), at(60, 0)).is_empty());
    world.is_at_rest();
    assert!(world.items("/holds").is_empty(), "{:?}", world.items("/holds"));
}

/// Every kind, in step, from either side.
fn stock(world: &World) -> (String, String) {
    let pair = world.pair("Meeting here", json!({}));
    world.make("Call", "anna", "Call here", json!({}));
    world.make("Task", "anna", "Task here", json!({}));
    world.outlook_create("anna", "Meeting there", json!({}));
    world.person("anna").create_task(json!({ "title": "Task there" })).unwrap();
    world.one_event("anna", "Call here");
    world.one_task("Task here");
    world.one_record("Meeting there");
    world.eventually("the task is there", || world.espo.records("Task").len() == 2);
    world.settle();
    pair
}

fn counts(world: &World) -> [usize; 5] {
    let records = |kind: &str| world.espo.records(kind).len();
    let person = world.person("anna");
    [records("Meeting"), records("Call"), records("Task"), person.events().len(), person.tasks().len()]
}

#[test]
fn a_binding_that_is_switched_off_deletes_nothing_and_merges_when_it_is_switched_on_again() {
    let world = World::start();
    let (record, event) = stock(&world);
    let before = counts(&world);
    let binding = format!("/users/{}/binding", world.id("anna"));
    world.put(&binding, &json!({ "enabled": false }));
    world.settle();
    let mark = world.mark();
    world.espo_update(&record, json!({ "description": "Said here" }));
    world.outlook_update("anna", &event, json!({ "subject": "Named there" }));
    world.settle();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(counts(&world), before);
    world.put(&binding, &json!({ "enabled": true }));
    world.becomes("anna", "active");
    world.sync();
    assert_eq!(world.one_record("Named there")["id"], record.as_str());
    let text = || world.event("anna", &event)["body"]["content"].to_string();
    world.eventually("the text is there", || text().contains("Said here"));
    world.is_at_rest();
    assert_eq!(counts(&world), before);
}

#[test]
fn a_binding_that_is_taken_away_deletes_nothing_and_doubles_nothing_when_it_is_made_again() {
    let world = World::start();
    let (record, event) = stock(&world);
    let before = counts(&world);
    world.delete(&format!("/users/{}/binding", world.id("anna")));
    world.settle();
    let mark = world.mark();
    world.espo_update(&record, json!({ "description": "Said here" }));
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(counts(&world), before);
    world.bind("anna");
    world.is_at_rest();
    assert_eq!(counts(&world), before);
    assert_eq!(world.event("anna", &event)["subject"], "Meeting here");
}

#[test]
fn a_guest_whose_binding_is_taken_away_keeps_the_private_copy() {
    let world = Setup::default().bound(&["anna", "boris"]).rules(json!({ "attendees": "none" })).start();
    let people: Value = json!([world.id("anna"), world.id("boris")]);
    world.pair("Quiet", json!({ "usersIds": people }));
    world.one_event("boris", "Quiet");
    world.settle();
    world.delete(&format!("/users/{}/binding", world.id("boris")));
    world.is_at_rest();
    assert_eq!((world.events("boris", "Quiet").len(), world.records("Quiet").len()), (1, 1));
}
