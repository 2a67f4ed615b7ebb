//! Changes are taken back, on both sides, and nothing comes back by itself or twice.

use std::io::Write as _;

use serde_json::{Value, json};
use simulators::plumbing::{Fault, FaultMode};

use crate::support::{Setup, World, title};

/// The newest entry of a record of that type.
fn entry(world: &World, record: &str, change_type: &str) -> String {
    let entries = world.history(&format!("record_id={record}&type={change_type}"));
    entries.first().unwrap_or_else(|| panic!("no {change_type} of {record}"))["id"].as_str().unwrap().to_owned()
}

fn revert(world: &World, entry: &str) -> Vec<String> {
    let done = world.post(&format!("/history/{entry}/revert"), &json!({}));
    let reverted = done["reverted"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(done["skipped"], json!([]), "{done}");
    reverted
}

fn refusal(world: &World, path: &str, body: &Value) -> (u16, String) {
    let (status, problem) = world.call("POST", path, Some(body));
    (status, problem["detail"].as_str().unwrap_or_else(|| panic!("no problem: {problem}")).to_owned())
}

/// Every record and event, by name.
fn all(world: &World) -> (Vec<String>, Vec<String>) {
    let names = |ends: Vec<Value>| {
        let mut names: Vec<String> = ends.iter().map(|end| title(end).to_owned()).collect();
        names.sort();
        names
    };
    (names(world.espo.records("Meeting")), names(world.person("anna").events()))
}

fn once(name: &str) -> (Vec<String>, Vec<String>) {
    (vec![name.to_owned()], vec![name.to_owned()])
}

#[test]
fn an_update_is_put_back_on_both_sides_and_stays_there() {
    let world = World::start();
    let (id, event) = world.pair("Right", json!({}));
    world.espo_update(&id, json!({ "name": "Wrong" }));
    world.one_event("anna", "Wrong");
    world.settle();
    let wrong = entry(&world, &id, "update");
    let new = revert(&world, &wrong);
    assert_eq!(
        (world.record(&id)["name"].as_str(), world.event("anna", &event)["subject"].as_str()),
        (Some("Right"), Some("Right"))
    );
    world.is_at_rest();
    let old = world.get(&format!("/history/{wrong}"));
    assert_eq!((&old["revertible"], old["reverted_by"].as_str()), (&json!(false), Some(new[0].as_str())));
    for id in &new {
        let entry = world.get(&format!("/history/{id}"));
        assert_eq!((entry["cause"].as_str(), entry["revert_of"].as_str()), (Some("revert"), Some(wrong.as_str())));
    }
    let (status, detail) = refusal(&world, &format!("/history/{wrong}/revert"), &json!({}));
    assert_eq!(status, 409, "{detail}");
    assert_eq!(refusal(&world, "/history/nothing/revert", &json!({})).0, 404);
    revert(&world, &new[0]);
    assert_eq!(all(&world), once("Wrong"), "a revert is taken back like any other change");
    assert_eq!(world.get(&format!("/history/{wrong}"))["revertible"], true, "it is in force again");
}

#[test]
fn what_was_changed_since_is_put_back_only_by_force() {
    let world = World::start();
    let (id, event) = world.pair("One", json!({}));
    world.espo_update(&id, json!({ "name": "Two" }));
    world.one_event("anna", "Two");
    world.settle();
    let two = entry(&world, &id, "update");
    world.outlook_update("anna", &event, json!({ "subject": "Three" }));
    world.one_record("Three");
    world.settle();
    let (status, detail) = refusal(&world, &format!("/history/{two}/revert"), &json!({}));
    assert!(status == 409 && detail.contains("title") && detail.contains("force"), "{status} {detail}");
    assert_eq!(all(&world), once("Three"));
    let refused = world.product.command(&["revert", &two]);
    assert!(!refused.status.success());
    let forced = world.product.command(&["revert", &two, "--force"]);
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    assert_eq!(all(&world), once("One"));
    world.is_at_rest();
}

#[test]
fn an_event_that_was_created_goes_and_its_record_stays_until_switched_on() {
    let world = World::start();
    let (id, _) = world.pair("Made", json!({}));
    revert(&world, &entry(&world, &id, "create"));
    assert_eq!(all(&world), (vec!["Made".to_owned()], vec![]));
    world.espo_update(&id, json!({ "description": "edited" }));
    world.is_at_rest();
    world.put(&format!("/records/meeting/{id}/sync"), &json!({ "enabled": true }));
    world.one_event("anna", "Made");
    world.settle();
    assert_eq!(all(&world), once("Made"));
}

#[test]
fn the_switch_field_of_espocrm_says_so_and_switches_on_again() {
    let world = Setup::default().admin_account().start();
    let (id, _) = world.pair("Made", json!({}));
    assert_eq!(world.record(&id)["cSyncWithOutlook"], true, "the field was provisioned");
    revert(&world, &entry(&world, &id, "create"));
    assert_eq!(world.record(&id)["cSyncWithOutlook"], false);
    world.is_at_rest();
    world.espo_update(&id, json!({ "cSyncWithOutlook": true }));
    world.one_event("anna", "Made");
    world.settle();
    assert_eq!(all(&world), once("Made"));
}

#[test]
fn a_record_that_was_created_goes_and_its_event_is_not_taken_in_again() {
    let world = World::start();
    let event = world.outlook_create("anna", "From Outlook", json!({}));
    let id = world.one_record("From Outlook")["id"].as_str().unwrap().to_owned();
    world.settle();
    revert(&world, &entry(&world, &id, "create"));
    assert_eq!(all(&world), (vec![], vec!["From Outlook".to_owned()]));
    world.outlook_update("anna", &event, json!({ "subject": "Edited" }));
    world.is_at_rest();
    assert_eq!(all(&world), (vec![], vec!["Edited".to_owned()]));
    world.put(&format!("/records/meeting/{id}/sync"), &json!({ "enabled": true }));
    world.one_record("Edited");
    world.settle();
    assert_eq!(all(&world), once("Edited"));
}

/// A pair that was deleted in Outlook: the entry of that.
fn deleted(world: &World, name: &str) -> String {
    let (id, event) = world.pair(name, json!({ "description": "words" }));
    world.person("anna").delete_event(&event).unwrap();
    world.eventually("the record is deleted", || world.records(name).is_empty());
    world.settle();
    entry(world, &id, "delete")
}

#[test]
fn what_was_deleted_comes_back_on_both_sides() {
    let world = World::start();
    let gone = deleted(&world, "Gone");
    let new = revert(&world, &gone);
    assert_eq!(all(&world), once("Gone"));
    let record = world.one_record("Gone");
    assert_eq!(
        (record["assignedUserId"].as_str(), record["description"].as_str()),
        (Some(world.id("anna").as_str()), Some("words"))
    );
    world.is_at_rest();
    world.espo_update(record["id"].as_str().unwrap(), json!({ "name": "Back" }));
    world.one_event("anna", "Back");
    world.settle();
    let (status, detail) = refusal(&world, &format!("/history/{}/revert", new[0]), &json!({}));
    assert!(status == 409 && detail.contains("since"), "{detail}");
    world.post(&format!("/history/{}/revert", new[0]), &json!({ "force": true }));
    assert_eq!(all(&world), (vec![], vec![]), "both ends that the revert had made");
    world.is_at_rest();
}

#[test]
fn a_creation_without_an_answer_is_found_when_the_revert_is_asked_for_again() {
    for fault in [
        Fault::drop_after("POST", "/Meeting"),
        Fault::drop_before("POST", "/Meeting"),
        Fault::status("POST", "/Meeting", 500),
    ] {
        let world = World::start();
        let gone = deleted(&world, "Gone");
        world.espo.wire().push(fault.clone());
        let (status, _) = world.call("POST", &format!("/history/{gone}/revert"), Some(&json!({})));
        assert!(status == 200 || status >= 500, "{status}");
        let _ = world.call("POST", &format!("/history/{gone}/revert"), Some(&json!({})));
        world.eventually("both ends are there", || all(&world) == once("Gone"));
        world.settle();
        world.is_at_rest();
        assert_eq!(all(&world), once("Gone"), "{fault:?}");
    }
}

#[test]
fn a_revert_that_was_killed_is_finished_and_doubles_nothing() {
    for record_first in [true, false] {
        let mut world = World::start();
        let gone = deleted(&world, "Gone");
        let wire = if record_first { world.espo.wire() } else { world.graph.wire() };
        let path = if record_first { "/Meeting" } else { "/events" };
        wire.push(Fault::new("POST", path, FaultMode::HeldAfter));
        let mut asking = std::net::TcpStream::connect(world.url.trim_start_matches("http://")).unwrap();
        let request = format!(
            "POST /api/v1/history/{gone}/revert HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
            world.token
        );
        asking.write_all(request.as_bytes()).unwrap();
        let is_made =
            || if record_first { !world.records("Gone").is_empty() } else { !world.events("anna", "Gone").is_empty() };
        world.eventually("the half of it is done", is_made);
        world.crash();
        if record_first {
            world.espo.wire().release()
        } else {
            world.graph.wire().release()
        };
        world.serve();
        world.settle();
        let (status, answer) = world.call("POST", &format!("/history/{gone}/revert"), Some(&json!({})));
        assert!([200, 409].contains(&status), "{status} {answer}");
        world.eventually("both ends are there", || all(&world) == once("Gone"));
        world.is_at_rest();
        assert_eq!(all(&world), once("Gone"));
    }
}

#[test]
fn a_record_that_could_not_be_deleted_takes_nothing_along_and_goes_the_next_time() {
    let world = World::start();
    world.outlook_create("anna", "From Outlook", json!({}));
    let id = world.one_record("From Outlook")["id"].as_str().unwrap().to_owned();
    world.settle();
    let made = entry(&world, &id, "create");
    world.espo.wire().push(Fault::status("DELETE", "/Meeting", 503));
    let (status, _) = world.call("POST", &format!("/history/{made}/revert"), Some(&json!({})));
    assert!(status >= 500, "{status}");
    world.settle();
    assert_eq!(all(&world), once("From Outlook"));
    revert(&world, &made);
    world.is_at_rest();
    assert_eq!(all(&world), (vec![], vec!["From Outlook".to_owned()]));
}

#[test]
fn a_span_of_time_is_taken_back_newest_first() {
    let world = World::start();
    let (id, event) = world.pair("A", json!({}));
    world.eventually("a later second", || !world.history(&format!("record_id={id}")).is_empty());
    let since = world.history(&format!("record_id={id}"))[0]["at"].as_str().unwrap().to_owned();
    let since =
        (since.parse::<chrono::DateTime<chrono::Utc>>().unwrap() + chrono::Duration::milliseconds(1)).to_rfc3339();
    for name in ["B", "C"] {
        world.espo_update(&id, json!({ "name": name }));
        world.one_event("anna", name);
        world.settle();
    }
    world.outlook_update("anna", &event, json!({ "subject": "D" }));
    world.one_record("D");
    world.settle();
    world.person("anna").delete_event(&event).unwrap();
    world.eventually("the record is deleted", || world.records("D").is_empty());
    world.settle();
    assert_eq!(refusal(&world, "/history/revert", &json!({})).0, 400);
    let other = world.post("/history/revert", &json!({ "since": since, "user_id": world.id("boris") }));
    assert_eq!(other, json!({ "reverted": [], "skipped": [] }));
    let done = world.post("/history/revert", &json!({ "since": since, "user_id": world.id("anna") }));
    assert_eq!(done["skipped"], json!([]), "{done}");
    assert_eq!(all(&world), once("A"));
    world.is_at_rest();
    let again = world.post("/history/revert", &json!({ "since": since }));
    assert_eq!(again["reverted"], json!([]), "{again}");
    assert_eq!(all(&world), once("A"));
}

#[test]
fn all_of_a_record_is_taken_back_to_before_it_was() {
    let world = World::start();
    let event = world.outlook_create("anna", "X", json!({}));
    let id = world.one_record("X")["id"].as_str().unwrap().to_owned();
    world.settle();
    world.outlook_update("anna", &event, json!({ "subject": "Y" }));
    world.one_record("Y");
    world.settle();
    world.espo_update(&id, json!({ "name": "Z" }));
    world.one_event("anna", "Z");
    world.settle();
    let done = world.post("/history/revert", &json!({ "record_id": id }));
    assert_eq!(done["skipped"], json!([]), "{done}");
    assert_eq!(all(&world), (vec![], vec!["X".to_owned()]));
    world.is_at_rest();
}
