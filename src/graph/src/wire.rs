//! JSON as Graph sends it. Everything that a page of the documentation shows as null or leaves out is optional here.
//!
//! Facts: `dateTime` of a dateTimeTimeZone has no offset and mostly seven fraction digits; a DateTimeOffset has none to seven
//! with trailing zeros cut, so both are parsed and never compared as text; an empty time is `0001-01-01T00:00:00Z`
//! (learn.microsoft.com/graph/api/resources/event, .../datetimetimezone).

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::error::Error;

/// A collection, paged.
#[derive(Debug, Deserialize)]
pub(crate) struct Collection<T> {
    pub value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    pub next: Option<String>,
    #[serde(rename = "@odata.deltaLink")]
    pub delta: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    pub id: String,
    pub mail: Option<String>,
    pub user_principal_name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    pub id: String,
    #[serde(rename = "@odata.etag")]
    pub etag: Option<String>,
    #[serde(rename = "iCalUId")]
    pub ical_uid: Option<String>,
    pub created_date_time: Option<String>,
    pub last_modified_date_time: Option<String>,
    pub subject: Option<String>,
    pub body: Option<Body>,
    pub start: Option<Moment>,
    pub end: Option<Moment>,
    pub is_all_day: Option<bool>,
    pub is_cancelled: Option<bool>,
    pub is_organizer: Option<bool>,
    pub is_reminder_on: Option<bool>,
    pub reminder_minutes_before_start: Option<i64>,
    pub location: Option<Location>,
    pub attendees: Option<Vec<Attendee>>,
    pub organizer: Option<Recipient>,
    pub categories: Option<Vec<String>>,
    pub sensitivity: Option<String>,
    pub importance: Option<String>,
    pub show_as: Option<String>,
    pub response_status: Option<Response>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub series_master_id: Option<String>,
    pub original_start: Option<String>,
    pub recurrence: Option<Json>,
    pub single_value_extended_properties: Option<Vec<Property>>,
    #[serde(rename = "@removed")]
    pub removed: Option<Json>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body {
    pub content_type: Option<String>,
    pub content: Option<String>,
}

impl Body {
    pub fn is_html(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("html"))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Location {
    pub display_name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attendee {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub status: Option<Response>,
    pub email_address: Option<Address>,
}

impl Attendee {
    /// Rooms and equipment.
    pub fn is_resource(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("resource"))
    }

    /// The address in the form in which addresses are compared; none for what has no SMTP address.
    pub fn address(&self) -> Option<String> {
        let address = self.email_address.as_ref()?.address.as_deref()?;
        address.contains('@').then(|| sync::text::address(address))
    }

    /// The name, where it is one.
    pub fn name(&self) -> Option<&str> {
        self.email_address.as_ref()?.name()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recipient {
    pub email_address: Option<Address>,
}

impl Recipient {
    /// The name, where it is one.
    pub fn name(&self) -> Option<&str> {
        self.email_address.as_ref()?.name()
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Address {
    pub name: Option<String>,
    pub address: Option<String>,
}

impl Address {
    /// The name, where it is one: Exchange repeats the address where it knows no name.
    fn name(&self) -> Option<&str> {
        let name = self.name.as_deref().map(str::trim).filter(|name| !name.is_empty())?;
        (!self.address.as_deref().is_some_and(|address| name.eq_ignore_ascii_case(address.trim()))).then_some(name)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Response {
    pub response: Option<String>,
}

impl Response {
    /// `none` and `notResponded` are the same (learn.microsoft.com/graph/api/resources/responsestatus).
    pub fn answer(&self) -> sync::Answer {
        match self.response.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
            "accepted" => sync::Answer::Accepted,
            "tentativelyaccepted" => sync::Answer::Tentative,
            "declined" => sync::Answer::Declined,
            _ => sync::Answer::None,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Property {
    pub id: String,
    pub value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Task {
    pub id: String,
    #[serde(rename = "@odata.etag")]
    pub etag: Option<String>,
    pub created_date_time: Option<String>,
    pub last_modified_date_time: Option<String>,
    pub title: Option<String>,
    pub body: Option<Body>,
    pub categories: Option<Vec<String>>,
    pub importance: Option<String>,
    pub status: Option<String>,
    pub due_date_time: Option<Moment>,
    pub start_date_time: Option<Moment>,
    pub is_reminder_on: Option<bool>,
    pub reminder_date_time: Option<Moment>,
    pub linked_resources: Option<Vec<LinkedResource>>,
    pub recurrence: Option<Json>,
    pub has_attachments: Option<bool>,
    #[serde(rename = "@removed")]
    pub removed: Option<Json>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkedResource {
    pub application_name: Option<String>,
    pub external_id: Option<String>,
    pub web_url: Option<String>,
}

/// A dateTimeTimeZone.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Moment {
    pub date_time: String,
    pub time_zone: Option<String>,
}

impl Moment {
    /// The wall clock time as it stands there.
    pub fn local(&self) -> Result<NaiveDateTime, Error> {
        let text = self.date_time.trim_end_matches('Z');
        text.parse::<NaiveDateTime>()
            .or_else(|_| text.parse::<NaiveDate>().map(|date| date.and_time(NaiveTime::MIN)))
            .map_err(|_| Error::unreadable(format!("the dateTime `{}`", self.date_time)))
    }

    /// The moment, to the second.
    pub fn utc(&self) -> Result<DateTime<Utc>, Error> {
        let local = self.local()?.trunc_subsecs(0);
        let zone = match self.time_zone.as_deref() {
            None | Some("") => Tz::UTC,
            Some(name) => sync::time::zone(name).ok_or_else(|| Error::unreadable(format!("the time zone `{name}`")))?,
        };
        at_zone(local, zone).ok_or_else(|| Error::unreadable(format!("the dateTime `{}`", self.date_time)))
    }

    /// The calendar date that is meant. A date comes as midnight in the stated zone, or (made in the apps of Microsoft) as
    /// midnight of the mailbox's zone converted to UTC: what is no midnight is rounded to the nearest midnight over there.
    pub fn date(&self, zone: Tz) -> Result<NaiveDate, Error> {
        let local = self.local()?;
        if local.time() == NaiveTime::MIN {
            return Ok(local.date());
        }
        let there = self.utc()?.with_timezone(&zone).naive_local();
        Ok(there.checked_add_signed(TimeDelta::hours(12)).unwrap_or(there).date())
    }
}

/// A wall clock time in a zone: of two the first, and what a clock skips lies one hour later.
pub(crate) fn at_zone(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    zone.from_local_datetime(&local)
        .earliest()
        .or_else(|| zone.from_local_datetime(&local.checked_add_signed(TimeDelta::hours(1))?).earliest())
        .map(|at| at.with_timezone(&Utc))
}

/// A DateTimeOffset.
pub(crate) fn offset(text: &str) -> Option<DateTime<Utc>> {
    let parsed = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    // Graph's "never".
    (parsed.naive_utc().date() > NaiveDate::from_ymd_opt(1, 1, 2)?).then_some(parsed)
}

/// A moment as we write it.
pub(crate) fn moment(at: DateTime<Utc>) -> Json {
    json!({"dateTime": at.format("%Y-%m-%dT%H:%M:%S").to_string(), "timeZone": "UTC"})
}

/// Midnight of a date as we write it.
pub(crate) fn midnight(date: NaiveDate) -> Json {
    json!({"dateTime": format!("{date}T00:00:00"), "timeZone": "UTC"})
}

/// The day after, for exclusive ends.
pub(crate) fn next_day(date: NaiveDate) -> NaiveDate {
    date.checked_add_days(Days::new(1)).unwrap_or(date)
}

/// A moment in a query.
pub(crate) fn query_moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment_of(date_time: &str, zone: &str) -> Moment {
        Moment { date_time: date_time.to_owned(), time_zone: Some(zone.to_owned()) }
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn moments_with_none_to_seven_fraction_digits_are_read() {
        for text in
            ["2017-04-15T12:00:00", "2017-04-15T12:00:00.5", "2017-04-15T12:00:00.0000000", "2017-04-15T12:00:00Z"]
        {
            assert_eq!(moment_of(text, "UTC").utc().unwrap(), utc("2017-04-15T12:00:00Z"), "{text}");
        }
        assert!(moment_of("15.04.2017", "UTC").utc().is_err());
    }

    #[test]
    fn offsets_with_none_to_seven_fraction_digits_are_read_and_never_is_none() {
        assert_eq!(offset("2017-04-15T03:00:51.245372Z"), Some(utc("2017-04-15T03:00:51.245372Z")));
        assert_eq!(offset("2017-04-15T03:00:50.7579581Z"), Some(utc("2017-04-15T03:00:50.7579581Z")));
        assert_eq!(offset("2021-12-31T16:16:44.9907405+05:30"), Some(utc("2021-12-31T10:46:44.9907405Z")));
        assert_eq!(offset("0001-01-01T00:00:00Z"), None);
    }

    #[test]
    fn windows_names_of_zones_are_understood_and_unknown_ones_refused() {
        let moment = moment_of("2017-04-15T11:00:00.0000000", "Pacific Standard Time");
        assert_eq!(moment.utc().unwrap(), utc("2017-04-15T18:00:00Z"));
        assert!(moment_of("2017-04-15T11:00:00", "tzone://Microsoft/Custom").utc().is_err());
    }

    #[test]
    fn a_time_that_the_clock_skips_is_read_an_hour_later() {
        let moment = moment_of("2026-03-29T02:30:00", "W. Europe Standard Time");
        assert_eq!(moment.utc().unwrap(), utc("2026-03-29T01:30:00Z"));
    }

    #[test]
    fn dates_of_tasks_are_midnight_in_utc_or_local_midnight_in_utc() {
        let date = |text: &str| text.parse::<NaiveDate>().unwrap();
        let read = |text: &str, zone: Tz| moment_of(text, "UTC").date(zone).unwrap();
        assert_eq!(read("2026-01-05T00:00:00.0000000", Tz::Pacific__Kiritimati), date("2026-01-05"));
        assert_eq!(read("2026-01-05T00:00:00.0000000", Tz::America__Los_Angeles), date("2026-01-05"));
        assert_eq!(read("2024-10-23T10:00:00.0000000", Tz::Pacific__Kiritimati), date("2024-10-24"));
        assert_eq!(read("2020-08-25T04:00:00.0000000", Tz::America__New_York), date("2020-08-25"));
        assert_eq!(read("2026-06-30T22:00:00.0000000", Tz::Europe__Berlin), date("2026-07-01"));
        // The zone's own rule for summer time moved midnight: still that day.
        assert_eq!(read("2026-06-30T23:00:00.0000000", Tz::Europe__Berlin), date("2026-07-01"));
    }
}
