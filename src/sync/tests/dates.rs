//! Dates and moments over all offsets and over the days on which clocks change.
#![expect(clippy::expect_used, reason = "a test that cannot build its dates has failed")]

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use sync::{Day, Field, Kind, Projection, Rules, Side, Value, When, agree, project};

fn zone(name: &str) -> Tz {
    sync::time::zone(name).expect("a zone")
}

/// `Etc/GMT-14` is UTC+14: the sign of these names is the other way round.
fn offsets() -> Vec<(i32, Tz)> {
    (-12..=14)
        .map(|hours: i32| {
            let name = if hours == 0 { "Etc/GMT".to_owned() } else { format!("Etc/GMT{:+}", -hours) };
            (hours, zone(&name))
        })
        .collect()
}

fn due(day: Day) -> Value {
    Value::Time(When::Due { due: Some(day), start: None })
}

fn date(y: i32, m: u32, d: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(y, m, d).expect("a date")
}

fn in_outlook(value: &Value, zone: Tz) -> Value {
    project(Kind::Task, &Field::Time, value, Side::Outlook, &Projection::new(zone, &Rules::default()))
}

#[test]
fn a_due_moment_becomes_the_date_that_it_is_in_the_mailbox_whatever_the_offset() {
    for (hours, zone) in offsets() {
        for hour in 0..24 {
            let local = date(2026, 12, 1).and_hms_opt(hour, 30, 0).expect("a time");
            let at = zone.from_local_datetime(&local).single().expect("one moment").with_timezone(&Utc);
            assert_eq!(in_outlook(&due(Day::At(at)), zone), due(Day::On(date(2026, 12, 1))), "UTC{hours:+} {hour} h");
        }
    }
}

#[test]
fn a_due_time_whose_date_still_stands_in_to_do_is_unchanged() {
    for (hours, zone) in offsets() {
        let with = Projection::new(zone, &Rules::default());
        for hour in 0..24 {
            let at = date(2026, 12, 1).and_hms_opt(hour, 0, 0).expect("a time").and_utc();
            let shown = in_outlook(&due(Day::At(at)), zone);
            assert!(agree(Kind::Task, &Field::Time, &due(Day::At(at)), &shown, &with), "UTC{hours:+} {hour} h");
            let Value::Time(When::Due { due: Some(Day::On(day)), .. }) = shown else { panic!("no date") };
            let next = due(Day::On(day + Days::new(1)));
            assert!(!agree(Kind::Task, &Field::Time, &due(Day::At(at)), &next, &with), "the day after is another one");
        }
    }
}

#[test]
fn a_date_without_a_time_is_the_same_date_at_every_offset_both_ways() {
    for (_, zone) in offsets() {
        let with = Projection::new(zone, &Rules::default());
        let day = due(Day::On(date(2026, 2, 28)));
        let all_day = Value::Time(When::AllDay { first: date(2028, 2, 28), last: date(2028, 3, 1) });
        for side in [Side::Espo, Side::Outlook] {
            assert_eq!(project(Kind::Task, &Field::Time, &day, side, &with), day);
            assert_eq!(project(Kind::Meeting, &Field::Time, &all_day, side, &with), all_day);
        }
    }
}

#[test]
fn the_days_on_which_clocks_change_have_one_date_from_midnight_to_midnight() {
    for (name, changes) in [
        ("Europe/Berlin", [date(2027, 3, 28), date(2027, 10, 31)]),
        ("America/New_York", [date(2027, 3, 14), date(2027, 11, 7)]),
        ("Australia/Lord_Howe", [date(2027, 4, 4), date(2027, 10, 3)]),
    ] {
        let zone = zone(name);
        for day in changes {
            let midnight = |day: NaiveDate| -> DateTime<Utc> {
                zone.from_local_datetime(&day.and_time(NaiveTime::MIN))
                    .earliest()
                    .expect("a midnight")
                    .with_timezone(&Utc)
            };
            let (first, end) = (midnight(day), midnight(day + Days::new(1)));
            assert_ne!((end - first).num_minutes(), 24 * 60, "{name} {day} is a day on which the clocks change");
            let mut at = first;
            while at < end {
                assert_eq!(in_outlook(&due(Day::At(at)), zone), due(Day::On(day)), "{name} {at}");
                at += chrono::Duration::minutes(15);
            }
            assert_eq!(in_outlook(&due(Day::At(end)), zone), due(Day::On(day + Days::new(1))), "{name}");
        }
    }
}

#[test]
fn zones_are_known_by_windows_names_iana_names_and_microsofts_own() {
    for name in [
        "W. Europe Standard Time",
        "Eastern Standard Time",
        "Asia/Kolkata",
        "Europe/Kyiv",
        "tzone://Microsoft/Utc",
        "UTC",
        " Pacific Standard Time ",
    ] {
        assert!(sync::time::zone(name).is_some(), "{name}");
    }
    for name in ["tzone://Microsoft/Custom", "", "Mars/Olympus"] {
        assert!(sync::time::zone(name).is_none(), "{name}");
    }
}
