//! Time zones and the date formats of Graph.
//!
//! Facts: `dateTimeTimeZone` carries a local time without offset and a Windows or IANA zone name; Graph answers with
//! seven fraction digits, while `DateTimeOffset` properties have nought to seven, trailing zeros cut.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use windows_timezones::WindowsTimezone;

/// What is wrong with a date, in words for the error message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTime(pub String);

/// A parsed `dateTimeTimeZone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub at: DateTime<Utc>,
    pub local: NaiveDateTime,
    pub zone: String,
}

/// The zone of a Windows or IANA name. `tzone://Microsoft/Custom` is readable in answers and refused in requests.
pub fn zone(name: &str) -> Result<Tz, BadTime> {
    if ["utc", "etc/utc", "etc/gmt", "tzone://microsoft/utc"].contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(Tz::UTC);
    }
    if let Ok(windows) = name.parse::<WindowsTimezone>() {
        return windows.tzdb_id().parse().map_err(|_| BadTime(format!("unknown time zone {name}")));
    }
    match name.contains('/').then(|| name.parse::<Tz>()) {
        Some(Ok(tz)) => Ok(tz),
        _ => Err(BadTime(format!("unknown time zone '{name}'"))),
    }
}

/// The zone of a name that was checked when it was stored.
pub fn known_zone(name: &str) -> Tz {
    zone(name).unwrap_or(Tz::UTC)
}

/// Local wall time to an instant: the first of two in autumn, one hour later in the gap of spring.
pub fn to_utc(local: NaiveDateTime, tz: Tz) -> DateTime<Utc> {
    let found = tz.from_local_datetime(&local).earliest();
    let found = found.or_else(|| tz.from_local_datetime(&(local + chrono::Duration::hours(1))).earliest());
    found.map_or_else(|| local.and_utc(), |moment| moment.with_timezone(&Utc))
}

pub fn local(at: DateTime<Utc>, zone_name: &str) -> NaiveDateTime {
    at.with_timezone(&known_zone(zone_name)).naive_local()
}

/// `DateTimeOffset` as Graph writes it.
pub fn stamp(at: DateTime<Utc>) -> String {
    let mut text = at.format("%Y-%m-%dT%H:%M:%S").to_string();
    let ticks = at.timestamp_subsec_nanos() / 100;
    if ticks > 0 {
        text.push('.');
        text.push_str(format!("{ticks:07}").trim_end_matches('0'));
    }
    text + "Z"
}

fn seven_digits(local: NaiveDateTime) -> String {
    let ticks = local.and_utc().timestamp_subsec_nanos() / 100;
    format!("{}.{ticks:07}", local.format("%Y-%m-%dT%H:%M:%S"))
}

/// A `dateTimeTimeZone` of an instant in the zone asked for.
pub fn in_zone(at: DateTime<Utc>, zone_name: &str) -> Value {
    json!({"dateTime": seven_digits(local(at, zone_name)), "timeZone": zone_name})
}

/// A `dateTimeTimeZone` at midnight of a date, whatever the zone.
pub fn midnight(day: NaiveDate, zone_name: &str) -> Value {
    json!({"dateTime": format!("{}T00:00:00.0000000", day.format("%Y-%m-%d")), "timeZone": zone_name})
}

/// The `dateTime` member: no offset, up to nine fraction digits; a trailing `Z` is told apart.
fn parse_local(text: &str) -> Result<(NaiveDateTime, bool), BadTime> {
    let (bare, zulu) = text.strip_suffix('Z').map_or((text, false), |bare| (bare, true));
    let wrong = || BadTime(format!("'{text}' is not a dateTime"));
    if let Ok(day) = NaiveDate::parse_from_str(bare, "%Y-%m-%d") {
        return Ok((day.and_hms_opt(0, 0, 0).ok_or_else(wrong)?, zulu));
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(value) = NaiveDateTime::parse_from_str(bare, format) {
            return Ok((value, zulu));
        }
    }
    Err(wrong())
}

/// Reads a `dateTimeTimeZone` and refuses what Graph refuses.
pub fn parse(value: &Value) -> Result<Moment, BadTime> {
    let Some(map) = value.as_object() else { return Err(BadTime("dateTimeTimeZone must be an object".into())) };
    if let Some(name) = map.keys().find(|k| !["dateTime", "timeZone", "@odata.type"].contains(&k.as_str())) {
        return Err(BadTime(format!("unknown property {name}")));
    }
    let zone_name = map.get("timeZone").and_then(Value::as_str).unwrap_or_default();
    if zone_name.is_empty() {
        return Err(BadTime("timeZone is missing".into()));
    }
    let text = map.get("dateTime").and_then(Value::as_str).ok_or_else(|| BadTime("dateTime is missing".into()))?;
    let (naive, zulu) = parse_local(text)?;
    let tz = zone(zone_name)?;
    if zulu && tz != Tz::UTC {
        return Err(BadTime("dateTime has an offset that is not the time zone's".into()));
    }
    Ok(Moment { at: to_utc(naive, tz), local: naive, zone: zone_name.to_owned() })
}

/// A moment of a query string: with offset, or UTC.
pub fn parse_offset(text: &str) -> Result<DateTime<Utc>, BadTime> {
    // A plus sign that was not percent-encoded arrives as a space.
    let fixed = text.replace(' ', "+");
    if let Ok(moment) = DateTime::parse_from_rfc3339(&fixed) {
        return Ok(moment.with_timezone(&Utc));
    }
    parse_local(&fixed).map(|(naive, _)| naive.and_utc()).map_err(|_| BadTime(format!("'{text}' is not a date")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_iana_names_are_the_same_zone_and_custom_is_refused() {
        assert_eq!(zone("W. Europe Standard Time"), zone("Europe/Berlin"));
        assert!(zone("tzone://Microsoft/Custom").is_err());
        assert!(zone("Mars/Base").is_err());
    }

    #[test]
    fn stamps_cut_trailing_zeros_and_event_times_keep_seven_digits() {
        let at = "2026-12-01T10:00:00.5000000Z".parse().unwrap();
        assert_eq!(stamp(at), "2026-12-01T10:00:00.5Z");
        assert_eq!(in_zone(at, "Europe/Berlin")["dateTime"], "2026-12-01T11:00:00.5000000");
    }

    #[test]
    fn a_time_in_the_gap_of_spring_moves_by_an_hour() {
        let moment = parse(&json!({"dateTime": "2027-03-28T02:30:00", "timeZone": "Europe/Berlin"})).unwrap();
        assert_eq!(stamp(moment.at), "2027-03-28T01:30:00Z");
    }

    #[test]
    fn an_offset_inside_date_time_is_refused_unless_the_zone_is_utc() {
        assert!(parse(&json!({"dateTime": "2027-03-28T02:30:00Z", "timeZone": "Europe/Berlin"})).is_err());
        assert!(parse(&json!({"dateTime": "2027-03-28T02:30:00Z", "timeZone": "UTC"})).is_ok());
        assert!(parse(&json!({"dateTime": "2027-03-28T02:30:00"})).is_err());
    }
}
