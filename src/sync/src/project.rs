//! What a value of one side looks like on the other: the only place that knows which pairs are lossy.
//!
//! Law: projecting twice is projecting once (`project(s, project(s, v)) == project(s, v)`), so that what was put and read
//! back is not a change.

use chrono::{Duration, SubsecRound};
use chrono_tz::Tz;

use crate::{
    Answer, Day, Field, Importance, Kind, NotHeld, People, Person, Rules, Side, Status, Value, When, text, time,
};

/// What projecting depends on besides the value.
#[derive(Debug, Clone, Copy)]
pub struct Projection {
    /// Zone of the mailbox: a due moment becomes the date that it is there.
    pub zone: Tz,
    /// What `Not Held` does in Outlook.
    pub not_held: NotHeld,
}

impl Default for Projection {
    fn default() -> Self {
        Self { zone: Tz::UTC, not_held: NotHeld::Keep }
    }
}

impl Projection {
    /// The projection of a mailbox under rules.
    #[must_use]
    pub const fn new(zone: Tz, rules: &Rules) -> Self {
        Self { zone, not_held: rules.not_held }
    }
}

/// `value` of `field` as `target` would hold it.
#[must_use]
pub fn project(kind: Kind, field: &Field, value: &Value, target: Side, with: &Projection) -> Value {
    match (field, value) {
        (Field::Title, Value::Text(title)) => Value::Text(match target {
            Side::Espo => text::espo_name(title),
            Side::Outlook => text::outlook_subject(title),
        }),
        (Field::Body, Value::Text(body)) => Value::Text(text::plain(body)),
        (Field::Location, Value::Text(place)) => Value::Text(place.trim().chars().take(text::NAME_MAX).collect()),
        (_, Value::Time(when)) => Value::Time(match target {
            Side::Espo => seconds(when),
            Side::Outlook => outlook_time(&seconds(when), with.zone),
        }),
        (_, Value::Status(status)) => Value::Status(match target {
            Side::Espo => espo_status(status),
            Side::Outlook => outlook_status(kind, status, with.not_held),
        }),
        (_, Value::Importance(Importance::Urgent)) if target == Side::Outlook => Value::Importance(Importance::High),
        (_, Value::People(people)) => Value::People(named(people)),
        (_, Value::Files(files)) => Value::Files(files.plain()),
        _ => value.clone(),
    }
}

/// EspoCRM and we keep whole seconds.
fn seconds(when: &When) -> When {
    match when {
        When::Timed { start, end } => {
            When::Timed { start: start.trunc_subsecs(0), end: end.map(|end| end.trunc_subsecs(0)) }
        }
        other => other.clone(),
    }
}

fn outlook_time(when: &When, zone: Tz) -> When {
    let date = |day: Day| match day {
        Day::At(at) => Day::On(time::local_date(at, zone)),
        Day::On(date) => Day::On(date),
    };
    match when {
        // Outlook has no event without an end.
        When::Timed { start, end: None } => {
            When::Timed { start: *start, end: start.checked_add_signed(Duration::hours(1)) }
        }
        When::Due { due, start } => When::Due { due: due.map(date), start: start.map(date) },
        other => other.clone(),
    }
}

fn espo_status(status: &Status) -> Status {
    match status {
        Status::Active => Status::Planned,
        Status::Cancelled => Status::NotHeld,
        Status::Waiting => Status::Deferred,
        other => other.clone(),
    }
}

fn outlook_status(kind: Kind, status: &Status, not_held: NotHeld) -> Status {
    if kind.is_event() {
        return match status {
            Status::Cancelled => Status::Cancelled,
            Status::NotHeld if not_held == NotHeld::Cancel => Status::Cancelled,
            _ => Status::Active,
        };
    }
    match status {
        Status::Canceled => Status::Completed,
        // An option that an administrator added means nothing to To Do.
        Status::Other(_) => Status::NotStarted,
        other => other.clone(),
    }
}

fn named(people: &People) -> People {
    People(people.0.iter().map(|(address, person)| (text::address(address), person.clone())).collect())
}

impl People {
    /// People by address, none of whom has answered.
    pub fn of<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        Self(addresses.into_iter().map(|a| (text::address(a), Person { name: None, answer: Answer::None })).collect())
    }
}
