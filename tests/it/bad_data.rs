//! Data that one side has and the other refuses: it ends as a valid write or as a reason, never as a loop, and stops nothing else.

use serde_json::{Value, json};

use crate::support::{World, at, espo, graph_time};

#[test]
fn titles_that_espocrm_refuses_become_names_and_stay_as_they_are_in_outlook() {
    let world = World::start();
    let titles = [
        "a <b> = c".to_owned(),
        "<>=".to_owned(),
        "T".repeat(300),
        String::new(),
        "   ".to_owned(),
        "nu\0ll".to_owned(),
        "one\r\ntwo".to_owned(),
        "\u{202e}שלום 😀".to_owned(),
    ];
    let mut events = Vec::new();
    for (hour, title) in (6..).zip(&titles) {
        let times = json!({ "start": graph_time(at(4, hour)), "end": graph_time(at(4, hour + 1)) });
        events.push(world.outlook_create("anna", title, times));
        world.person("anna").create_task(json!({ "title": title })).unwrap();
    }
    let kept: Vec<Value> = events.iter().map(|id| world.event("anna", id)["subject"].clone()).collect();
    for kind in ["Meeting", "Task"] {
        world.eventually(&format!("every {kind} is there"), || world.espo.records(kind).len() == titles.len());
        for record in world.espo.records(kind) {
            let name = record["name"].as_str().unwrap();
            assert!(!name.trim().is_empty() && !name.contains(['<', '>', '=', '\0']) && name.chars().count() <= 255);
        }
    }
    world.is_at_rest();
    let now: Vec<Value> = events.iter().map(|id| world.event("anna", id)["subject"].clone()).collect();
    assert_eq!(now, kept);
}

#[test]
fn a_megabyte_of_html_and_one_nested_without_end_become_texts_and_hold_nobody_up() {
    let world = World::start();
    let lines: String =
        (0..12_000).map(|n| format!("<p>Line {n} <b>bold</b> text &amp; more, padded to some length</p>")).collect();
    let deep = format!("{}core{}", "<div>".repeat(20_000), "</div>".repeat(20_000));
    for (subject, html) in [("Long", lines), ("Deep", deep)] {
        let body = json!({ "body": { "contentType": "html", "content": html } });
        world.outlook_create("anna", subject, body);
    }
    world.outlook_create("anna", "Beside", json!({}));
    for name in ["Beside", "Long", "Deep"] {
        world.one_record(name);
    }
    let text = |name: &str| world.one_record(name)["description"].as_str().unwrap_or_default().to_owned();
    assert!(text("Long").contains("Line 11999 bold text & more"));
    assert_eq!(text("Deep"), "core");
    world.is_at_rest();
}

#[test]
fn five_hundred_attendees_are_taken_in_with_few_questions() {
    let world = World::start();
    world.put("/rules", &json!({ "create_participant_as": "none" }));
    let attendees: Vec<Value> =
        (0..500).map(|n| world.attendee(&format!("p{n}@many.example"), &format!("Person {n}"))).collect();
    let mark = world.espo.wire().mark();
    world.outlook_create("anna", "Crowd", json!({ "attendees": attendees }));
    world.one_record("Crowd");
    world.settle();
    let asked = world.espo.wire().log().into_iter().skip(mark).filter(|row| row.path.contains("emailAddress")).count();
    assert!(asked <= 60, "{asked} look-ups");
    world.is_at_rest();
}

#[test]
fn a_record_without_an_end_has_an_hour_in_outlook_and_gets_no_end_by_that() {
    let world = World::start();
    // EspoCRM's form asks for an end; what is imported or comes from a formula may have none.
    let id = world.espo.seed(
        "Meeting",
        &json!({ "name": "Open-ended", "assignedUserId": world.id("anna"), "dateStart": espo(at(7, 10)) }),
    );
    world.sync();
    let event = world.one_event("anna", "Open-ended");
    let shown = |event: &Value, end: &str| event[end]["dateTime"].as_str().unwrap_or_default()[..16].to_owned();
    let minute = |hour| at(7, hour).format("%Y-%m-%dT%H:%M").to_string();
    assert_eq!((shown(&event, "start"), shown(&event, "end")), (minute(10), minute(11)));
    let item = event["id"].as_str().unwrap();
    world.outlook_update("anna", item, json!({ "subject": "Renamed" }));
    assert!(world.one_record("Renamed")["dateEnd"].is_null(), "the hour came back");
    world.outlook_update("anna", item, json!({ "end": graph_time(at(7, 13)) }));
    world.eventually("an end that somebody gave is in EspoCRM", || {
        world.record(&id)["dateEnd"] == espo(at(7, 13)).as_str()
    });
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}
