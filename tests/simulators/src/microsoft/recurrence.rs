//! `patternedRecurrence`: what Graph accepts, and the dates it stands for.
//!
//! Facts: the enums of `recurrencePattern` and `recurrenceRange` (v1.0 metadata); `range.startDate` must equal the
//! date of the event's start; the first day of the week is Sunday unless named.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value, json};

use super::times::BadTime;

const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// Exchange's own horizon for endless series is longer; nobody looks further than this in a simulator.
const MAX_OCCURRENCES: usize = 1000;

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(map: &Map<String, Value>, name: &str) -> i64 {
    map.get(name).and_then(Value::as_i64).unwrap_or_default()
}

fn weekdays(pattern: &Map<String, Value>) -> Vec<u32> {
    let names = pattern.get("daysOfWeek").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut days: Vec<u32> = names.iter().filter_map(|d| day_number(d.as_str().unwrap_or_default())).collect();
    days.sort_unstable();
    days
}

fn day_number(name: &str) -> Option<u32> {
    DAYS.iter().position(|d| d.eq_ignore_ascii_case(name)).and_then(|n| u32::try_from(n).ok())
}

fn date(map: &Map<String, Value>, name: &str) -> Result<Option<NaiveDate>, BadTime> {
    match text(map, name) {
        "" | "0001-01-01" => Ok(None),
        value => value.parse().map(Some).map_err(|_| BadTime(format!("{name} is not a date"))),
    }
}

fn only(map: &Map<String, Value>, names: &[&str]) -> Result<(), BadTime> {
    match map.keys().find(|k| !k.contains("@odata") && !names.contains(&k.as_str())) {
        Some(name) => Err(BadTime(format!("unknown property {name}"))),
        None => Ok(()),
    }
}

/// Refuses what Graph refuses and fills in what it fills in.
pub fn check(value: &mut Value, start: NaiveDateTime, zone: &str) -> Result<(), BadTime> {
    let parts = value.as_object_mut().ok_or_else(|| BadTime("must be an object".into()))?;
    only(parts, &["pattern", "range"])?;
    let pattern = parts.get("pattern").and_then(Value::as_object).ok_or_else(|| BadTime("needs a pattern".into()))?;
    only(pattern, &["type", "interval", "month", "dayOfMonth", "daysOfWeek", "firstDayOfWeek", "index"])?;
    let kind = text(pattern, "type");
    if !["daily", "weekly", "absoluteMonthly", "relativeMonthly", "absoluteYearly", "relativeYearly"].contains(&kind) {
        return Err(BadTime("pattern type is not known".into()));
    }
    if number(pattern, "interval") < 1 {
        return Err(BadTime("interval must be at least 1".into()));
    }
    let named = pattern.get("daysOfWeek").and_then(Value::as_array).map_or(0, Vec::len);
    if weekdays(pattern).len() != named {
        return Err(BadTime("daysOfWeek has an unknown day".into()));
    }
    if ["weekly", "relativeMonthly", "relativeYearly"].contains(&kind) && named == 0 {
        return Err(BadTime("daysOfWeek is required".into()));
    }
    if kind.starts_with("absolute") && !(1..=31).contains(&number(pattern, "dayOfMonth")) {
        return Err(BadTime("dayOfMonth is required".into()));
    }
    if !["", "first", "second", "third", "fourth", "last"].contains(&text(pattern, "index")) {
        return Err(BadTime("index is not known".into()));
    }
    if kind.ends_with("Yearly") && !(1..=12).contains(&number(pattern, "month")) {
        return Err(BadTime("month is required".into()));
    }
    let range = parts.get_mut("range").and_then(Value::as_object_mut);
    check_range(range.ok_or_else(|| BadTime("needs a range".into()))?, start, zone)
}

fn check_range(range: &mut Map<String, Value>, start: NaiveDateTime, zone: &str) -> Result<(), BadTime> {
    only(range, &["type", "startDate", "endDate", "numberOfOccurrences", "recurrenceTimeZone"])?;
    match text(range, "type") {
        "noEnd" => {}
        "endDate" if date(range, "endDate")?.is_some() => {}
        "endDate" => return Err(BadTime("endDate is required".into())),
        "numbered" if number(range, "numberOfOccurrences") >= 1 => {}
        "numbered" => return Err(BadTime("numberOfOccurrences is required".into())),
        _ => return Err(BadTime("range type is not known".into())),
    }
    if date(range, "startDate")?.is_some_and(|first| first != start.date()) {
        return Err(BadTime("range startDate must equal the date of the event's start".into()));
    }
    for (name, value) in [
        ("startDate", json!(start.date().to_string())),
        ("recurrenceTimeZone", json!(zone)),
        ("endDate", json!("0001-01-01")),
        ("numberOfOccurrences", json!(0)),
    ] {
        range.entry(name).or_insert(value);
    }
    Ok(())
}

/// The local dates of a series from its first date up to and including `until`.
pub fn dates(recurrence: &Value, first: NaiveDate, until: NaiveDate) -> Vec<NaiveDate> {
    let empty = Map::new();
    let pattern = recurrence.get("pattern").and_then(Value::as_object).unwrap_or(&empty);
    let range = recurrence.get("range").and_then(Value::as_object).unwrap_or(&empty);
    let limit = match text(range, "type") {
        "numbered" => usize::try_from(number(range, "numberOfOccurrences")).unwrap_or(0),
        _ => MAX_OCCURRENCES,
    };
    let end = match text(range, "type") {
        "endDate" => date(range, "endDate").ok().flatten().map_or(until, |end| end.min(until)),
        _ => until,
    };
    let mut out = Vec::new();
    let mut step = 0;
    while out.len() < limit {
        let Some((from, days)) = period(pattern, first, step) else { break };
        if from > end {
            break;
        }
        out.extend(days.into_iter().filter(|d| *d >= first && *d <= end));
        step += 1;
    }
    out.truncate(limit);
    out
}

/// The dates of the pattern's n-th day, week, month or year, with the first date of that period.
fn period(pattern: &Map<String, Value>, first: NaiveDate, step: u32) -> Option<(NaiveDate, Vec<NaiveDate>)> {
    let interval = u32::try_from(number(pattern, "interval")).unwrap_or(1).max(1);
    let ahead = u64::from(step) * u64::from(interval);
    match text(pattern, "type") {
        "daily" => {
            let day = first.checked_add_days(Days::new(ahead))?;
            Some((day, vec![day]))
        }
        "weekly" => {
            let week_start = day_number(text(pattern, "firstDayOfWeek")).unwrap_or(0);
            let back = (first.weekday().num_days_from_sunday() + 7 - week_start) % 7;
            let week = first
                .checked_sub_days(Days::new(u64::from(back)))?
                .checked_add_days(Days::new(ahead.checked_mul(7)?))?;
            let wanted = weekdays(pattern);
            let days = (0..7).filter_map(|n| week.checked_add_days(Days::new(n)));
            Some((week, days.filter(|d| wanted.contains(&d.weekday().num_days_from_sunday())).collect()))
        }
        kind => {
            let yearly = kind.ends_with("Yearly");
            let months = if yearly { 12 * ahead } else { ahead };
            let base = if yearly { u32::try_from(number(pattern, "month")).ok()? } else { first.month() };
            let start = NaiveDate::from_ymd_opt(first.year(), base, 1)?;
            let start = start.checked_add_months(chrono::Months::new(u32::try_from(months).ok()?))?;
            Some((start, in_month(pattern, kind, start)))
        }
    }
}

fn in_month(pattern: &Map<String, Value>, kind: &str, start: NaiveDate) -> Vec<NaiveDate> {
    let days: Vec<NaiveDate> = start.iter_days().take_while(|d| d.month() == start.month()).collect();
    if kind.starts_with("absolute") {
        let wanted = usize::try_from(number(pattern, "dayOfMonth")).unwrap_or(1).max(1);
        return days.get(wanted.min(days.len()) - 1).copied().into_iter().collect();
    }
    let wanted = weekdays(pattern);
    let mut hits = days.into_iter().filter(|d| wanted.contains(&d.weekday().num_days_from_sunday()));
    let hit = match text(pattern, "index") {
        "last" => hits.next_back(),
        "second" => hits.nth(1),
        "third" => hits.nth(2),
        "fourth" => hits.nth(3),
        _ => hits.next(),
    };
    hit.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(pattern: Value, range: Value, first: &str) -> Vec<String> {
        let rule = json!({"pattern": pattern, "range": range});
        let until = NaiveDate::from_ymd_opt(2028, 12, 31).unwrap();
        dates(&rule, first.parse().unwrap(), until).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_second_week_counts_from_sunday() {
        let got = expand(
            json!({"type": "weekly", "interval": 2, "daysOfWeek": ["monday", "friday"]}),
            json!({"type": "numbered", "numberOfOccurrences": 4}),
            "2026-12-04",
        );
        assert_eq!(got, ["2026-12-04", "2026-12-14", "2026-12-18", "2026-12-28"]);
    }

    #[test]
    fn the_thirty_first_is_the_last_day_of_a_shorter_month() {
        let got = expand(
            json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 31}),
            json!({"type": "endDate", "endDate": "2027-03-31"}),
            "2027-01-31",
        );
        assert_eq!(got, ["2027-01-31", "2027-02-28", "2027-03-31"]);
    }

    #[test]
    fn the_last_friday_of_november_each_year() {
        let got = expand(
            json!({"type": "relativeYearly", "interval": 1, "month": 11, "index": "last", "daysOfWeek": ["friday"]}),
            json!({"type": "noEnd"}),
            "2026-11-27",
        );
        assert_eq!(got, ["2026-11-27", "2027-11-26", "2028-11-24"]);
    }

    #[test]
    fn a_range_that_starts_on_another_day_is_refused() {
        let mut rule =
            json!({"pattern": {"type": "daily", "interval": 1}, "range": {"type": "noEnd", "startDate": "2026-12-02"}});
        let start = "2026-12-01T10:00:00".parse().unwrap();
        assert!(check(&mut rule, start, "UTC").is_err());
        rule["range"]["startDate"] = json!("2026-12-01");
        assert!(check(&mut rule, start, "UTC").is_ok());
        assert_eq!(rule["range"]["recurrenceTimeZone"], "UTC");
    }
}
