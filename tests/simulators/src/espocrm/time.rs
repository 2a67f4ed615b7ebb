//! Dates on EspoCRM's wire: date-times are `YYYY-MM-DD HH:MM:SS` in UTC always, dates `YYYY-MM-DD`. ISO 8601 with an
//! offset is taken too and brought to UTC; a form without seconds is kept as it is.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

pub(super) const FORMAT: &str = "%Y-%m-%d %H:%M:%S";

pub(super) fn stamp(at: DateTime<Utc>) -> String {
    at.format(FORMAT).to_string()
}

/// A stored date-time, with or without seconds.
pub(super) fn parse(text: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text, FORMAT).or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M")).ok()
}

/// The stored form of what a client sent; `None` when EspoCRM refuses it.
pub(super) fn normalise(text: &str) -> Option<String> {
    let plain = matches!(text.len(), 16 | 19) && text.as_bytes().get(10) == Some(&b' ');
    if plain {
        return parse(text).map(|_| text.to_owned());
    }
    DateTime::parse_from_rfc3339(text).ok().map(|at| stamp(at.with_timezone(&Utc)))
}

pub(super) fn date(text: &str) -> Option<NaiveDate> {
    (text.len() == 10).then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()).flatten()
}

/// A local time in UTC. In the gap of a clock change PHP moves forward by the gap; in the doubled hour it takes the first.
pub(super) fn to_utc(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    zone.from_local_datetime(&local)
        .earliest()
        .or_else(|| zone.from_local_datetime(&(local + Duration::hours(1))).earliest())
        .map_or_else(|| local.and_utc(), |at| at.with_timezone(&Utc))
}

/// Midnight at the start of `day` in `zone`, as stored.
pub(super) fn midnight(day: NaiveDate, zone: Tz) -> String {
    stamp(to_utc(day.and_time(NaiveTime::MIN), zone))
}

pub(super) fn seconds_between(start: &str, end: &str) -> Option<i64> {
    Some((parse(end)? - parse(start)?).num_seconds())
}

pub(super) fn shift(text: &str, seconds: i64) -> Option<String> {
    parse(text).map(|at| stamp((at + Duration::seconds(seconds)).and_utc()))
}
