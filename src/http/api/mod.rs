//! The admin API, JSON below `/api/v1`.
//!
//! PUT merges: keys left out keep their value, unknown keys are refused by name. Lists answer `{items, next_cursor}`. Kinds
//! are written in lower case and read in any. Secrets are write-only.

pub mod audit;
pub mod bindings;
pub mod doctor;
pub mod history;
pub mod log;
pub mod messages;
pub mod overview;
pub mod records;
pub mod rules;
pub mod sessions;
pub mod settings;
pub mod subscriptions;
pub mod sync;
pub mod users;

use actix_web::web::ServiceConfig;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;

type Answer<T> = Result<actix_web::web::Json<T>, Problem>;

pub(super) fn configure(routes: &mut ServiceConfig) {
    settings::configure(routes);
    rules::configure(routes);
    bindings::configure(routes);
    users::configure(routes);
    sync::configure(routes);
    history::configure(routes);
    records::configure(routes);
    messages::configure(routes);
    subscriptions::configure(routes);
    audit::configure(routes);
    doctor::configure(routes);
    overview::configure(routes);
    sessions::configure(routes);
    log::configure(routes);
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// To be given as `cursor` for the next page; null when this is the last.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// How many items a page has.
fn limit(wanted: Option<u64>) -> u64 {
    wanted.unwrap_or(50).clamp(1, 500)
}

/// A moment in a query or body: RFC 3339, or a date, which is its midnight in UTC.
pub(in crate::http) fn moment(name: &str, text: Option<&str>) -> Result<Option<DateTime<Utc>>, Problem> {
    // A plus sign of an offset that was not escaped arrives as a space.
    let Some(text) = text.map(|text| text.trim().replace(' ', "+")).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if let Ok(at) = DateTime::parse_from_rfc3339(&text) {
        return Ok(Some(at.to_utc()));
    }
    let date = text.parse::<NaiveDate>().map(|date| date.and_time(NaiveTime::MIN).and_utc());
    let wrong = |_| Problem::bad_request(format!("{name}: expected a moment like 2026-11-22T10:00:00Z or a date"));
    date.map(Some).map_err(wrong)
}

/// A word of a closed set.
pub(in crate::http) fn word<T: std::str::FromStr>(
    name: &str,
    text: Option<&str>,
    known: &[&str],
) -> Result<Option<T>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let text = text.to_ascii_lowercase().replace('-', "_");
    let wrong = |_| Problem::bad_request(format!("{name}: expected one of {}", known.join(", ")));
    text.parse().map(Some).map_err(wrong)
}

/// Tells `null` from a key that was left out.
fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_or_dates() {
        let at = moment("since", Some("2026-11-22T10:00:00+01:00")).unwrap().unwrap();
        assert_eq!(at.to_rfc3339(), "2026-11-22T09:00:00+00:00");
        assert_eq!(moment("since", Some("2026-11-22T10:00:00 01:00")).unwrap().unwrap(), at);
        assert_eq!(moment("since", Some("2026-11-22")).unwrap().unwrap().to_rfc3339(), "2026-11-22T00:00:00+00:00");
        assert_eq!(moment("since", None).unwrap(), None);
        let problem = moment("since", Some("yesterday")).unwrap_err();
        assert!(problem.detail.contains("since"), "{problem}");
    }

    #[test]
    fn pages_have_a_sensible_length() {
        assert_eq!([limit(None), limit(Some(0)), limit(Some(7)), limit(Some(100_000))], [50, 1, 7, 500]);
    }
}
