//! Time zones by the names that Microsoft and the tz database use.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use windows_timezones::WindowsTimezone;

/// The zone of a name: an IANA name, a Windows name (`W. Europe Standard Time`), or `tzone://Microsoft/Utc`. None for
/// `tzone://Microsoft/Custom` and for anything else: the caller falls back to UTC and says so.
#[must_use]
pub fn zone(name: &str) -> Option<Tz> {
    let name = name.trim();
    if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("tzone://Microsoft/Utc") {
        return Some(Tz::UTC);
    }
    if let Ok(zone) = Tz::from_str(name) {
        return Some(zone);
    }
    let windows = WindowsTimezone::from_str(name).ok()?;
    Tz::from_str(windows.tzdb_id()).ok()
}

/// The calendar date of a moment in a zone.
#[must_use]
pub fn local_date(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}
