//! Values of fields in canonical form.
//!
//! A value is kept as its own side has it: an EspoCRM status stays `Held`, an event's stays `Active`. What one side's
//! value looks like on the other is said in one place, [`crate::project`].

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize, Serializer};

use crate::files::Files;

/// Values of an end, by field. A field that is absent could not be read or does not exist there: it is left alone.
pub type Values = BTreeMap<crate::Field, Value>;

/// The value of one field on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Value {
    /// Title, body, location and most configured pairs.
    Text(String),
    /// Start and end.
    Time(When),
    /// Status.
    Status(Status),
    /// Importance or priority of a task.
    Importance(Importance),
    /// Participants but the organizer.
    People(People),
    /// Minutes before the start (tasks: before the due moment); none when switched off.
    Reminder(Option<u32>),
    /// A yes or no of a configured pair.
    Flag(bool),
    /// Attachments of a task.
    Files(Files),
}

impl Value {
    /// The text of a text value.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The time of a time value.
    #[must_use]
    pub const fn as_when(&self) -> Option<&When> {
        if let Self::Time(when) = self { Some(when) } else { None }
    }

    /// The files of an attachments value.
    #[must_use]
    pub const fn as_files(&self) -> Option<&Files> {
        if let Self::Files(files) = self { Some(files) } else { None }
    }

    /// The people of a participants value.
    #[must_use]
    pub const fn as_people(&self) -> Option<&People> {
        if let Self::People(people) = self { Some(people) } else { None }
    }
}

/// When something takes place. Moments are UTC; dates have no zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum When {
    /// From one moment to another. A record may have no end (EspoCRM accepts that for a Meeting).
    Timed {
        /// Start, UTC.
        start: DateTime<Utc>,
        /// End, UTC, exclusive.
        end: Option<DateTime<Utc>>,
    },
    /// Whole days, both inclusive.
    AllDay {
        /// First day.
        first: NaiveDate,
        /// Last day, inclusive.
        last: NaiveDate,
    },
    /// A task: when it is due and when work on it starts.
    Due {
        /// Due moment or date.
        due: Option<Day>,
        /// Start moment or date.
        start: Option<Day>,
    },
}

impl When {
    /// The day from which on it counts, for start dates of bindings; none for a task without a due date.
    #[must_use]
    pub fn first_day(&self) -> Option<NaiveDate> {
        match self {
            Self::Timed { start, .. } => Some(start.date_naive()),
            Self::AllDay { first, .. } => Some(*first),
            Self::Due { due, .. } => due.as_ref().map(|day| match day {
                Day::At(at) => at.date_naive(),
                Day::On(date) => *date,
            }),
        }
    }

    /// True when the end lies before the start: such a thing cannot be written to Outlook.
    #[must_use]
    pub fn ends_before_it_starts(&self) -> bool {
        match self {
            Self::Timed { start, end: Some(end) } => end < start,
            Self::AllDay { first, last } => last < first,
            Self::Timed { end: None, .. } | Self::Due { .. } => false,
        }
    }
}

/// A moment or a whole day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// A moment, UTC.
    At(DateTime<Utc>),
    /// A date without a zone.
    On(NaiveDate),
}

/// Status of any kind, of either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Status {
    /// Meeting, Call
    Planned,
    /// Meeting, Call
    Held,
    /// Meeting, Call
    NotHeld,
    /// an event that stands
    Active,
    /// an event with `isCancelled`
    Cancelled,
    /// Task / notStarted
    NotStarted,
    /// Task: Started / inProgress
    Started,
    /// Task / completed
    Completed,
    /// Task: Canceled
    Canceled,
    /// Task / deferred
    Deferred,
    /// waitingOnOthers
    Waiting,
    /// an option that an administrator has added to EspoCRM
    Other(String),
}

impl Status {
    /// The word as its own system writes it (EspoCRM's labels; `Active` and `Cancelled` are ours for `isCancelled`).
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Planned => "Planned",
            Self::Held => "Held",
            Self::NotHeld => "Not Held",
            Self::Active => "Active",
            Self::Cancelled => "Cancelled",
            Self::NotStarted => "Not Started",
            Self::Started => "Started",
            Self::Completed => "Completed",
            Self::Canceled => "Canceled",
            Self::Deferred => "Deferred",
            Self::Waiting => "Waiting on others",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Planned" => Self::Planned,
            "Held" => Self::Held,
            "Not Held" => Self::NotHeld,
            "Active" => Self::Active,
            "Cancelled" => Self::Cancelled,
            "Not Started" => Self::NotStarted,
            "Started" => Self::Started,
            "Completed" => Self::Completed,
            "Canceled" => Self::Canceled,
            "Deferred" => Self::Deferred,
            "Waiting on others" => Self::Waiting,
            _ => Self::Other(word),
        }
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        status.as_str().to_owned()
    }
}

/// Importance of a task; `Urgent` exists in EspoCRM only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Importance {
    /// Low / low
    Low,
    /// Normal / normal
    Normal,
    /// High / high
    High,
    /// Urgent; high in To Do
    Urgent,
}

impl Importance {
    /// EspoCRM's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Normal => "Normal",
            Self::High => "High",
            Self::Urgent => "Urgent",
        }
    }
}

/// An answer to an invitation. `None` stands for "no answer yet" of both systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// None / none, notResponded
    #[default]
    None,
    /// Accepted / accepted
    Accepted,
    /// Tentative / tentativelyAccepted
    Tentative,
    /// Declined / declined
    Declined,
}

/// One participant. Names are for people to read and do not count when two participants are compared.
#[derive(Debug, Clone, Default, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Display name, where the side knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The answer to the invitation.
    #[serde(default)]
    pub answer: Answer,
}

impl PartialEq for Person {
    fn eq(&self, other: &Self) -> bool {
        self.answer == other.answer
    }
}

/// Participants by e-mail address (lower case), without the organizer (EspoCRM: the assigned user; Outlook: the mailbox
/// that owns the master copy). Who has a name only in Outlook is there by [`crate::text::key_of_name`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct People(pub BTreeMap<String, Person>);

impl People {
    /// True when both name the same addresses, whatever was answered.
    #[must_use]
    pub fn same_addresses(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }
}

/// A value as history and pages show it: text, dates and lists instead of tagged forms.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a Value);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Text(text) => serializer.serialize_str(text),
            Value::Time(when) => serializer.collect_map(when_parts(when)),
            Value::Status(status) => serializer.serialize_str(status.as_str()),
            Value::Importance(importance) => serializer.serialize_str(importance.as_str()),
            Value::People(people) => serializer.collect_seq(people.0.iter().map(|(address, person)| {
                BTreeMap::from([
                    ("address", address.clone()),
                    ("answer", format!("{:?}", person.answer).to_lowercase()),
                ])
            })),
            Value::Reminder(minutes) => minutes.serialize(serializer),
            Value::Flag(flag) => serializer.serialize_bool(*flag),
            Value::Files(files) => serializer.collect_seq(files.names()),
        }
    }
}

fn when_parts(when: &When) -> Vec<(&'static str, Option<String>)> {
    fn day(day: Day) -> String {
        match day {
            Day::At(at) => moment(at),
            Day::On(date) => date.to_string(),
        }
    }
    match when {
        When::Timed { start, end } => vec![("start", Some(moment(*start))), ("end", end.map(moment))],
        When::AllDay { first, last } => {
            vec![("first_day", Some(first.to_string())), ("last_day", Some(last.to_string()))]
        }
        When::Due { due, start } => vec![("due", due.map(day)), ("start", start.map(day))],
    }
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Time(when) => {
                let parts: Vec<String> = when_parts(when).into_iter().filter_map(|(_, text)| text).collect();
                f.write_str(&parts.join(" to "))
            }
            Self::Status(status) => f.write_str(status.as_str()),
            Self::Importance(importance) => f.write_str(importance.as_str()),
            Self::People(people) => f.write_str(&people.0.keys().cloned().collect::<Vec<_>>().join(", ")),
            Self::Reminder(Some(minutes)) => write!(f, "{minutes} minutes before"),
            Self::Reminder(None) => f.write_str("none"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Files(files) => f.write_str(&files.names().join(", ")),
        }
    }
}
