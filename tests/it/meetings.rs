//! Meetings, both ways: what travels, what stays, and how little is written for it.

use serde_json::{Value, json};

use crate::support::{Setup, World, at, day, espo, espo_day, graph_day, graph_time};

fn body_of(event: &Value) -> &str {
    event["body"]["content"].as_str().unwrap_or_default()
}

fn span(event: &Value) -> (String, String) {
    let part = |name: &str| event[name]["dateTime"].as_str().unwrap_or_default()[..16].to_owned();
    (part("start"), part("end"))
}

#[test]
fn a_meeting_made_in_espocrm_is_made_in_outlook_once() {
    let world = World::start();
    let id = world.espo_create("anna", "Kick-off", json!({}));
    let event = world.one_event("anna", "Kick-off");
    let minute = |hour| at(7, hour).format("%Y-%m-%dT%H:%M").to_string();
    assert_eq!(span(&event), (minute(10), minute(11)));
    world.settle();
    assert_eq!(world.one_event("anna", "Kick-off")["id"], event["id"]);
    assert_eq!(world.one_record("Kick-off")["id"], id.as_str());
    assert!(world.mails().is_empty(), "nobody was invited: {:?}", world.mails());
}

#[test]
fn a_meeting_made_in_outlook_is_made_in_espocrm_for_its_owner_once() {
    let world = World::start();
    world.outlook_create("anna", "Review", json!({}));
    let record = world.one_record("Review");
    assert_eq!(record["assignedUserId"], world.id("anna").as_str());
    assert_eq!((&record["dateStart"], &record["dateEnd"]), (&espo(at(7, 10)).into(), &espo(at(7, 11)).into()));
    world.settle();
    world.one_record("Review");
    world.one_event("anna", "Review");
    assert!(world.espo.records("Call").is_empty(), "it became a call as well");
}

#[test]
fn title_and_time_changed_in_espocrm_change_the_same_event() {
    let world = World::start();
    let (id, event) = world.pair("Before", json!({}));
    world.espo_update(&id, json!({ "name": "After", "dateStart": espo(at(9, 15)), "dateEnd": espo(at(9, 17)) }));
    let after = world.one_event("anna", "After");
    assert_eq!(after["id"], event.as_str(), "the event was replaced");
    let minute = |hour| at(9, hour).format("%Y-%m-%dT%H:%M").to_string();
    assert_eq!(span(&after), (minute(15), minute(17)));
    world.settle();
    assert!(world.events("anna", "Before").is_empty());
}

#[test]
fn title_and_time_changed_in_outlook_change_the_same_record() {
    let world = World::start();
    let (id, event) = world.pair("Before", json!({}));
    let fields = json!({ "subject": "After", "start": graph_time(at(9, 14)), "end": graph_time(at(9, 16)) });
    world.outlook_update("anna", &event, fields);
    let record = world.one_record("After");
    assert_eq!(record["id"], id.as_str(), "the record was replaced");
    assert_eq!((&record["dateStart"], &record["dateEnd"]), (&espo(at(9, 14)).into(), &espo(at(9, 16)).into()));
}

#[test]
fn a_meeting_deleted_in_espocrm_goes_from_outlook_and_does_not_come_back() {
    let world = World::start();
    let (id, _) = world.pair("Short-lived", json!({}));
    world.espo_delete(&id);
    world.eventually("the event is deleted", || world.events("anna", "Short-lived").is_empty());
    world.settle();
    world.sync();
    world.settle();
    assert!(world.events("anna", "Short-lived").is_empty() && world.records("Short-lived").is_empty());
}

#[test]
fn a_meeting_deleted_in_outlook_goes_from_espocrm_and_does_not_come_back() {
    let world = World::start();
    let (_, event) = world.pair("Short-lived", json!({}));
    world.person("anna").delete_event(&event).unwrap();
    world.eventually("the record is deleted", || world.records("Short-lived").is_empty());
    world.settle();
    world.sync();
    world.settle();
    assert!(world.events("anna", "Short-lived").is_empty() && world.records("Short-lived").is_empty());
}

#[test]
fn an_all_day_record_becomes_an_all_day_event_whose_end_is_exclusive() {
    let world = World::start();
    let (id, event) = world.pair("Fair", espo_day(7, 8));
    let shown = world.event("anna", &event);
    assert_eq!(shown["isAllDay"], true);
    let midnight = |days| format!("{}T00:00", day(days));
    assert_eq!(span(&shown), (midnight(7), midnight(9)));
    world.espo_update(&id, espo_day(8, 8));
    world.eventually("the event moves", || span(&world.event("anna", &event)) == (midnight(8), midnight(9)));
    let timed =
        json!({ "dateStartDate": null, "dateEndDate": null, "dateStart": espo(at(8, 9)), "dateEnd": espo(at(8, 10)) });
    world.espo_update(&id, timed);
    world.eventually("the event gets a time", || world.event("anna", &event)["isAllDay"] == false);
    world.settle();
    assert_eq!(world.record(&id)["dateStart"], espo(at(8, 9)).as_str());
}

#[test]
fn an_all_day_event_becomes_an_all_day_record_whose_end_is_inclusive() {
    let world = World::start();
    let event = world.outlook_create("anna", "Holiday", graph_day(7, 10));
    let record = world.one_record("Holiday");
    assert_eq!((&record["dateStartDate"], &record["dateEndDate"]), (&day(7).into(), &day(9).into()));
    world.settle();
    let timed = json!({ "isAllDay": false, "start": graph_time(at(8, 9)), "end": graph_time(at(8, 10)) });
    world.outlook_update("anna", &event, timed);
    world.eventually("the record gets a time", || world.one_record("Holiday")["dateStart"] == espo(at(8, 9)).as_str());
    assert_eq!(world.one_record("Holiday")["dateStartDate"], Value::Null);
}

#[test]
fn text_travels_both_ways_and_leaves_no_markup_in_espocrm() {
    let world = World::start();
    let (id, event) = world.pair("Text", json!({ "description": "First line\nSecond & last" }));
    assert!(body_of(&world.event("anna", &event)).contains("Second &amp; last"), "{}", world.event("anna", &event));
    let html = json!({ "body": { "contentType": "html", "content": "<html><body><p>New <b>words</b> &amp; more</p></body></html>" } });
    world.outlook_update("anna", &event, html);
    world.eventually("the text is in EspoCRM", || {
        world.record(&id)["description"].as_str().is_some_and(|t| t.contains("words"))
    });
    let text = world.record(&id)["description"].as_str().unwrap().to_owned();
    assert!(!text.contains("<p>") && !text.contains("&amp;") && text.contains("& more"), "markup is left: {text}");
    world.settle();
    world.espo_update(&id, json!({ "description": "Third" }));
    world.eventually("the text is in Outlook", || body_of(&world.event("anna", &event)).contains("Third"));
    world.settle();
    assert_eq!(world.record(&id)["description"], "Third");
}

#[test]
fn the_place_travels_both_ways_when_espocrm_has_a_field_for_it() {
    let setup = Setup::default().seeds(|espo, _| espo.add_field("Meeting", "cLocation", "varchar", &Value::Null));
    let world = setup.start();
    let (id, event) = world.pair("Where", json!({ "cLocation": "Room 1" }));
    assert_eq!(world.event("anna", &event)["location"]["displayName"], "Room 1");
    world.outlook_update("anna", &event, json!({ "location": { "displayName": "Room 2" } }));
    world.eventually("the place is in EspoCRM", || world.record(&id)["cLocation"] == "Room 2");
}

#[test]
fn held_and_not_held_leave_outlook_alone() {
    let world = World::start();
    let (id, _) = world.pair("Status", json!({}));
    let mark = world.mark();
    world.espo_update(&id, json!({ "status": "Held" }));
    world.settle();
    world.espo_update(&id, json!({ "status": "Not Held" }));
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(world.record(&id)["status"], "Not Held");
    assert_eq!(world.one_event("anna", "Status")["isCancelled"], false);
}

#[test]
fn only_the_changed_field_is_sent_to_outlook() {
    let world = World::start();
    let people = json!([world.id("anna"), world.id("boris")]);
    let (id, _) = world.pair("Small", json!({ "description": "keep", "usersIds": people }));
    let mark = world.mark();
    world.espo_update(&id, json!({ "name": "Small change" }));
    world.one_event("anna", "Small change");
    world.settle();
    let (espo, graph) = world.writes_since(mark);
    assert!(espo.is_empty(), "{espo:?}");
    assert_eq!(graph.len(), 1, "{graph:?}");
    let body: Value = serde_json::from_str(graph[0].body.as_deref().unwrap()).unwrap();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["subject"], "{body}");
}

#[test]
fn only_the_changed_field_is_sent_to_espocrm() {
    let world = World::start();
    let (_, event) = world.pair("Small", json!({ "description": "keep" }));
    let mark = world.mark();
    world.outlook_update("anna", &event, json!({ "subject": "Small change" }));
    world.one_record("Small change");
    world.settle();
    let (espo, graph) = world.writes_since(mark);
    assert!(graph.is_empty(), "{graph:?}");
    assert_eq!(espo.len(), 1, "{espo:?}");
    let body: Value = serde_json::from_str(espo[0].body.as_deref().unwrap()).unwrap();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["name"], "{body}");
}

#[test]
fn what_starts_before_the_start_date_is_left_alone() {
    let world = Setup::default().sync_from(0).start();
    let old = json!({ "dateStart": espo(at(-7, 10)), "dateEnd": espo(at(-7, 11)) });
    world.espo_create("anna", "Old in EspoCRM", old);
    let old = json!({ "start": graph_time(at(-7, 10)), "end": graph_time(at(-7, 11)) });
    world.outlook_create("anna", "Old in Outlook", old);
    world.espo_create("anna", "New in EspoCRM", json!({}));
    world.outlook_create(
        "anna",
        "New in Outlook",
        json!({ "start": graph_time(at(8, 10)), "end": graph_time(at(8, 11)) }),
    );
    world.one_event("anna", "New in EspoCRM");
    world.one_record("New in Outlook");
    world.settle();
    world.sync();
    world.settle();
    assert!(world.events("anna", "Old in EspoCRM").is_empty() && world.records("Old in Outlook").is_empty());
}

#[test]
fn an_unbound_user_is_left_alone_on_both_sides() {
    let world = World::start();
    world.espo_create("boris", "Boris alone", json!({}));
    world.outlook_create("boris", "Boris private", json!({}));
    world.espo_create("anna", "Anna's own", json!({}));
    world.one_event("anna", "Anna's own");
    world.settle();
    world.sync();
    world.settle();
    assert!(world.events("boris", "Boris alone").is_empty() && world.records("Boris private").is_empty());
    let boris = crate::support::mail("boris");
    let asked: Vec<_> =
        world.graph.wire().log().into_iter().filter(|row| row.mailbox.as_deref() == Some(&boris)).collect();
    assert!(asked.is_empty(), "the mailbox of an unbound user was asked for: {asked:?}");
}

#[test]
fn a_call_is_an_event_of_the_call_category_both_ways() {
    let world = World::start();
    let body = json!({ "name": "Ring", "assignedUserId": world.id("anna"), "dateStart": espo(at(7, 10)), "dateEnd": espo(at(7, 11)) });
    world.espo.write_as("anna", "POST", "Call", None, &body).unwrap();
    let event = world.one_event("anna", "Ring");
    assert_eq!(event["categories"], json!(["Call"]), "{event}");
    world.outlook_create("anna", "Ring back", json!({ "categories": ["Call"] }));
    world.eventually("a call in EspoCRM", || world.espo.records("Call").iter().any(|call| call["name"] == "Ring back"));
    world.settle();
    assert_eq!(world.espo.records("Call").len(), 2);
    assert!(world.espo.records("Meeting").is_empty(), "a call became a meeting too");
}

#[test]
fn a_title_that_espocrm_refuses_is_made_acceptable_and_outlook_keeps_its_own() {
    let world = World::start();
    let subject = format!("a < b => c {}", "x".repeat(240));
    let event = world.outlook_create("anna", &subject, json!({}));
    assert_eq!(world.event("anna", &event)["subject"], subject.as_str());
    world.eventually("a record", || world.espo.records("Meeting").len() == 1);
    world.settle();
    let record = &world.espo.records("Meeting")[0];
    assert!(!record["name"].as_str().unwrap().contains(['<', '>', '=']), "{record}");
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(world.event("anna", &event)["subject"], subject.as_str());
}

#[test]
fn reminders_travel_both_ways_with_an_administrator_account() {
    let world = Setup::default().admin_account().start();
    let reminders = json!([{ "type": "Popup", "seconds": 1800 }]);
    let (id, event) = world.pair("Remember", json!({ "usersIds": [world.id("anna")], "reminders": reminders }));
    let shown = world.event("anna", &event);
    assert_eq!((&shown["isReminderOn"], &shown["reminderMinutesBeforeStart"]), (&json!(true), &json!(30)), "{shown}");
    world.outlook_update("anna", &event, json!({ "isReminderOn": true, "reminderMinutesBeforeStart": 60 }));
    let seen = || world.espo.reminders_seen_by("anna", "Meeting", &id);
    world.eventually("the reminder is in EspoCRM", || seen()[0]["seconds"] == 3600);
    world.settle();
    assert_eq!(seen().as_array().map(Vec::len), Some(1), "{}", seen());
    world.espo_update(&id, json!({ "reminders": [] }));
    world.eventually("the reminder is gone in Outlook", || world.event("anna", &event)["isReminderOn"] == false);
}

#[test]
fn the_switch_of_a_record_stops_it_deletes_nothing_and_merges_again() {
    let world = World::start();
    let (id, event) = world.pair("Switched", json!({}));
    world.put(&format!("/records/meeting/{id}/sync"), &json!({ "enabled": false }));
    world.settle();
    let mark = world.mark();
    world.espo_update(&id, json!({ "name": "Unseen" }));
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(world.event("anna", &event)["subject"], "Switched");
    world.put(&format!("/records/meeting/{id}/sync"), &json!({ "enabled": true }));
    world.one_event("anna", "Unseen");
}

#[test]
fn what_was_deleted_in_outlook_while_the_record_was_switched_off_goes_when_it_is_switched_on() {
    let world = World::start();
    let (id, event) = world.pair("Switched", json!({}));
    world.put(&format!("/records/meeting/{id}/sync"), &json!({ "enabled": false }));
    world.settle();
    world.person("anna").delete_event(&event).unwrap();
    world.settle();
    assert_eq!(world.record(&id)["name"], "Switched", "switched off, nothing is deleted");
    world.put(&format!("/records/meeting/{id}/sync"), &json!({ "enabled": true }));
    world.eventually("the deletion travels", || world.records("Switched").is_empty());
}

#[test]
fn a_record_that_is_deleted_while_its_field_switches_it_off_takes_no_event_along() {
    let world =
        Setup::default().seeds(|espo, _| espo.add_field("Meeting", "cSyncWithOutlook", "bool", &json!(true))).start();
    let (id, event) = world.pair("Switched", json!({}));
    world.espo_update(&id, json!({ "cSyncWithOutlook": false }));
    world.settle();
    world.espo_delete(&id);
    world.settle();
    world.sync();
    world.settle();
    assert_eq!(world.event("anna", &event)["subject"], "Switched");
    assert!(world.records("Switched").is_empty(), "it was taken in again");
}

#[test]
fn a_call_whose_event_becomes_all_day_keeps_its_time_and_says_so() {
    let world = World::start();
    let event = world.outlook_create("anna", "Ring", json!({ "categories": ["Call"] }));
    let calls = || world.espo.records("Call");
    world.eventually("the call is in EspoCRM", || calls().len() == 1);
    world.settle();
    let mut all_day = crate::support::graph_day(8, 9);
    all_day["subject"] = json!("Ring all day");
    world.outlook_update("anna", &event, all_day);
    world.eventually("the rest travels", || calls()[0]["name"] == "Ring all day");
    world.settle();
    assert_eq!(calls()[0]["dateStart"], crate::support::espo(at(7, 10)));
    let page = world.get(&format!("/records/call/{}", calls()[0]["id"].as_str().unwrap()));
    assert!(page["reasons"].to_string().contains("all day"), "{page}");
    assert!(world.dead().is_empty(), "{:?}", world.dead());
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
}

#[test]
fn a_deleted_record_that_is_restored_gets_an_event_again() {
    let world = World::start();
    let (id, event) = world.pair("Restored", json!({}));
    world.espo_delete(&id);
    world.eventually("the event is gone", || world.person("anna").event(&event).is_none());
    world.settle();
    assert!(world.espo.restore("Meeting", &id));
    world.sync();
    world.one_event("anna", "Restored");
    world.settle();
    assert_eq!(world.records("Restored").len(), 1);
}

#[test]
fn two_reminders_set_by_hand_survive_an_edit_in_outlook() {
    let world = Setup::default().admin_account().start();
    let two = json!([{ "type": "Popup", "seconds": 1800 }, { "type": "Email", "seconds": 7200 }]);
    let (id, event) = world.pair("Remember", json!({ "usersIds": [world.id("anna")], "reminders": two }));
    world.outlook_update("anna", &event, json!({ "subject": "Remember well" }));
    world.one_record("Remember well");
    world.is_at_rest();
    let seen = || world.espo.reminders_seen_by("anna", "Meeting", &id);
    assert_eq!(seen().as_array().map(Vec::len), Some(2), "{}", seen());
}
