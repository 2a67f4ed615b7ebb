//! Series: each occurrence inside the horizon is a record of its own; what becomes of them when the series changes.

use chrono::{DateTime, Duration, TimeZone as _, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::support::{Setup, World, at, day, espo, graph_time};

fn daily(count: u32, from: &str) -> Value {
    json!({ "pattern": { "type": "daily", "interval": 1 },
            "range": { "type": "numbered", "startDate": from, "numberOfOccurrences": count } })
}

/// A daily series of Anna's from the day after tomorrow at nine. Gives the id of the master.
fn series(world: &World, subject: &str, count: u32) -> String {
    let (start, end) = (graph_time(at(2, 9)), graph_time(at(2, 10)));
    world.outlook_create("anna", subject, json!({ "start": start, "end": end, "recurrence": daily(count, &day(2)) }))
}

/// The records of a name in the order of their starts, once there are so many and nothing moves any more.
fn records(world: &World, name: &str, count: usize) -> Vec<Value> {
    world.eventually(&format!("{count} records '{name}'"), || world.records(name).len() == count);
    world.settle();
    let mut records = world.records(name);
    assert_eq!(records.len(), count, "{records:?}");
    records.sort_by_key(|record| record["dateStart"].as_str().unwrap_or_default().to_owned());
    records
}

fn ids(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["id"].as_str().unwrap()).collect()
}

fn starts(records: &[Value]) -> Vec<String> {
    records.iter().map(|record| record["dateStart"].as_str().unwrap().to_owned()).collect()
}

/// Occurrences as the calendar shows them.
fn occurrences(world: &World) -> Vec<Value> {
    world.person("anna").view(at(-400, 0), at(1400, 0))
}

fn occurrence(world: &World, index: usize) -> String {
    occurrences(world)[index]["id"].as_str().unwrap().to_owned()
}

fn subjects(world: &World) -> Vec<String> {
    occurrences(world).iter().map(|event| event["subject"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn each_occurrence_of_a_series_is_one_record_and_the_series_is_none() {
    let world = World::start();
    series(&world, "Daily", 4);
    let records = records(&world, "Daily", 4);
    assert_eq!(starts(&records), [2, 3, 4, 5].map(|days| espo(at(days, 9))));
    assert_eq!(world.person("anna").events().len(), 1, "nothing was added to the calendar");
    world.is_at_rest();
}

#[test]
fn an_occurrence_that_is_renamed_moved_or_deleted_changes_its_record_alone() {
    let world = World::start();
    series(&world, "Daily", 5);
    let before = records(&world, "Daily", 5);
    world.outlook_update("anna", &occurrence(&world, 1), json!({ "subject": "Renamed" }));
    assert_eq!(world.one_record("Renamed")["id"], before[1]["id"]);
    let moved = json!({ "start": graph_time(at(4, 15)), "end": graph_time(at(4, 17)) });
    world.outlook_update("anna", &occurrence(&world, 2), moved);
    let third = ids(&before)[2];
    world.eventually("it is moved", || world.record(third)["dateEnd"] == espo(at(4, 17)));
    world.person("anna").delete_event(&occurrence(&world, 3)).unwrap();
    let left = records(&world, "Daily", 3);
    assert_eq!(ids(&left), [ids(&before)[0], third, ids(&before)[4]]);
    world.is_at_rest();
}

#[test]
fn editing_the_record_of_an_occurrence_edits_that_occurrence_alone() {
    let world = World::start();
    series(&world, "Daily", 4);
    let records = records(&world, "Daily", 4);
    world.espo_update(ids(&records)[2], json!({ "name": "Only this" }));
    world.eventually("it is renamed", || subjects(&world) == ["Daily", "Daily", "Only this", "Daily"]);
    world.espo_update(ids(&records)[1], json!({ "dateStart": espo(at(3, 14)), "dateEnd": espo(at(3, 15)) }));
    world
        .eventually("it is moved", || occurrences(&world)[1]["start"]["dateTime"].as_str().unwrap().contains("T14:00"));
    world.espo_delete(ids(&records)[3]);
    world.eventually("it is cancelled", || subjects(&world) == ["Daily", "Daily", "Only this"]);
    world.is_at_rest();
    assert_eq!(world.person("anna").events()[0]["subject"], "Daily", "the series itself is as it was");
}

#[test]
fn a_change_of_the_series_changes_the_same_records() {
    let world = World::start();
    let master = series(&world, "Daily", 3);
    let before = records(&world, "Daily", 3);
    let changed = json!({ "subject": "Later", "start": graph_time(at(2, 11)), "end": graph_time(at(2, 13)) });
    world.outlook_update("anna", &master, changed);
    let after = records(&world, "Later", 3);
    assert_eq!(ids(&after), ids(&before));
    assert_eq!(starts(&after), [2, 3, 4].map(|days| espo(at(days, 11))));
    world.is_at_rest();
}

#[test]
fn a_series_that_ends_earlier_loses_records_and_gets_them_back_when_it_is_longer_again() {
    let world = World::start();
    let master = series(&world, "Daily", 5);
    records(&world, "Daily", 5);
    world.outlook_update("anna", &master, json!({ "recurrence": daily(3, &day(2)) }));
    records(&world, "Daily", 3);
    world.outlook_update("anna", &master, json!({ "recurrence": daily(4, &day(2)) }));
    records(&world, "Daily", 4);
    world.is_at_rest();
    world.person("anna").delete_event(&master).unwrap();
    records(&world, "Daily", 0);
    world.is_at_rest();
    assert!(world.records("Daily").is_empty() && world.person("anna").events().is_empty(), "it came back");
}

#[test]
fn an_event_that_becomes_a_series_and_one_event_again_keeps_its_record() {
    let world = World::start();
    let times = json!({ "start": graph_time(at(2, 9)), "end": graph_time(at(2, 10)) });
    let event = world.outlook_create("anna", "Once", times);
    let single = records(&world, "Once", 1);
    world.outlook_update("anna", &event, json!({ "recurrence": daily(3, &day(2)) }));
    let three = records(&world, "Once", 3);
    assert_eq!(ids(&three)[0], ids(&single)[0]);
    world.is_at_rest();
    world.outlook_update("anna", &event, json!({ "recurrence": null }));
    let one = records(&world, "Once", 1);
    assert_eq!(ids(&one), ids(&single));
    assert_eq!(world.events("anna", "Once").len(), 1, "the event itself is left alone");
    world.is_at_rest();
}

#[test]
fn only_what_lies_between_start_date_and_horizon_is_taken_and_the_window_rolls() {
    let mut world = Setup::default().sync_from(-5).env("SYNC__HORIZON_DAYS", "6").start();
    let (start, end) = (graph_time(at(-30, 12)), graph_time(at(-30, 13)));
    let for_ever =
        json!({ "pattern": { "type": "daily", "interval": 1 }, "range": { "type": "noEnd", "startDate": day(-30) } });
    world.outlook_create("anna", "Long", json!({ "start": start, "end": end, "recurrence": for_ever }));
    // Noon of the last day is inside or outside, by the time of day at which this runs.
    let last = |days: i64| [espo(at(days - 1, 12)), espo(at(days, 12))];
    let all = |world: &World| {
        let mut all = starts(&world.records("Long"));
        all.sort();
        all
    };
    world.eventually("all are there", || all(&world).last().is_some_and(|start| last(6).contains(start)));
    world.settle();
    let before = all(&world);
    assert_eq!(before[0], espo(at(-5, 12)));
    world.product.env.insert("SYNC__HORIZON_DAYS".to_owned(), "9".to_owned());
    world.restart();
    world.sync();
    world.eventually("the window has rolled", || all(&world).last().is_some_and(|start| last(9).contains(start)));
    world.is_at_rest();
    assert_eq!(all(&world).len(), before.len() + 3);
}

/// The starts in EspoCRM of a daily series at half past nine over a change of the clocks, and what they should be.
fn over_a_change_of_clocks(zone: Tz, first: (i32, u32, u32)) {
    let world = Setup::default().env("SYNC__HORIZON_DAYS", "1500").start();
    let local = |days: i64| -> DateTime<Utc> {
        let date = chrono::NaiveDate::from_ymd_opt(first.0, first.1, first.2).unwrap() + Duration::days(days);
        zone.from_local_datetime(&date.and_hms_opt(9, 30, 0).unwrap()).unwrap().with_timezone(&Utc)
    };
    let date = local(0).with_timezone(&zone).date_naive();
    let moment = |hour: &str| json!({ "dateTime": format!("{date}T{hour}:30:00"), "timeZone": zone.name() });
    let body = json!({ "start": moment("09"), "end": moment("10"), "recurrence": daily(3, &date.to_string()) });
    world.outlook_create("anna", "Clocks", body);
    let records = records(&world, "Clocks", 3);
    assert_eq!(starts(&records), [0, 1, 2].map(|days| espo(local(days))), "{zone}");
    world.espo_update(ids(&records)[2], json!({ "name": "After" }));
    world.eventually("it is renamed", || subjects(&world).last().is_some_and(|subject| subject == "After"));
    world.is_at_rest();
    assert_eq!(world.record(ids(&records)[2])["dateStart"], espo(local(2)));
}

#[test]
fn a_series_keeps_its_time_of_day_when_the_clocks_change_in_berlin() {
    over_a_change_of_clocks(chrono_tz::Europe::Berlin, (2028, 3, 25));
}

#[test]
fn a_series_keeps_its_time_of_day_when_the_clocks_change_in_new_york() {
    over_a_change_of_clocks(chrono_tz::America::New_York, (2028, 11, 4));
}

#[test]
fn a_series_keeps_its_time_of_day_when_the_clocks_change_on_lord_howe_island() {
    over_a_change_of_clocks(chrono_tz::Australia::Lord_Howe, (2028, 4, 1));
}
