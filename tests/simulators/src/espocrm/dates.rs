//! The date filters of `where`: in a time zone and over date-times where the item says `dateTime`, else over plain dates.

use chrono::{Datelike, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;

use super::time;

/// Moments as the date filters see them: whole days in a zone, or plain dates where `dateTime` is not set.
pub(super) struct Range {
    pub zone: Tz,
    pub with_time: bool,
    pub now: NaiveDateTime,
}

impl Range {
    fn utc(&self, local: NaiveDateTime) -> String {
        time::stamp(time::to_utc(local, self.zone))
    }

    /// A value as it is compared; of a bare date the day's end where `end`, else its start.
    pub fn bound(&self, text: &str, end: bool) -> String {
        if !self.with_time {
            return text.to_owned();
        }
        let local = time::parse(text).or_else(|| {
            let at = if end { NaiveTime::from_hms_opt(23, 59, 59)? } else { NaiveTime::MIN };
            time::date(text).map(|day| day.and_time(at))
        });
        local.map_or_else(|| text.to_owned(), |local| self.utc(local))
    }

    pub fn holds(&self, left: &str, from: NaiveDate, to: NaiveDate) -> bool {
        if self.with_time {
            let end = to.succ_opt().unwrap_or(to).and_time(NaiveTime::MIN);
            return left >= self.utc(from.and_time(NaiveTime::MIN)).as_str() && left < self.utc(end).as_str();
        }
        left >= from.to_string().as_str() && left <= to.to_string().as_str()
    }

    pub fn this_moment(&self) -> String {
        if self.with_time { self.utc(self.now) } else { self.now.date().to_string() }
    }

    pub fn relative(&self, kind: &str, days: i64) -> Option<(NaiveDate, NaiveDate)> {
        let today = self.now.date();
        let month = today.with_day(1)?;
        let month_at = |start: NaiveDate| Some((start, start.checked_add_months(Months::new(1))?.pred_opt()?));
        let year = |year: i32| Some((NaiveDate::from_ymd_opt(year, 1, 1)?, NaiveDate::from_ymd_opt(year, 12, 31)?));
        let by = |days: i64| today.checked_add_signed(Duration::try_days(days)?);
        match kind {
            "today" => Some((today, today)),
            "lastSevenDays" => Some((by(-7)?, today)),
            "lastXDays" => Some((by(-days)?, today)),
            "nextXDays" => Some((today, by(days)?)),
            "olderThanXDays" => Some((NaiveDate::from_ymd_opt(1000, 1, 1)?, by(-days - 1)?)),
            "afterXDays" => Some((by(days + 1)?, NaiveDate::from_ymd_opt(9999, 12, 30)?)),
            "currentMonth" => month_at(month),
            "lastMonth" => month_at(month.checked_sub_months(Months::new(1))?),
            "nextMonth" => month_at(month.checked_add_months(Months::new(1))?),
            "currentYear" => year(today.year()),
            "lastYear" => year(today.year() - 1),
            _ => None,
        }
    }
}
