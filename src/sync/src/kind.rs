//! The kinds of record, the two sides, and the fields that are kept in step.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an EspoCRM record is. Written in lower case, read in any case (the HTTP contract).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// A Meeting, paired with a calendar event.
    Meeting,
    /// A Call, paired with a calendar event that carries the Call category.
    Call,
    /// A Task, paired with a Microsoft To Do task.
    Task,
}

impl Kind {
    /// All kinds, in the order in which they are listed everywhere.
    pub const ALL: [Self; 3] = [Self::Meeting, Self::Call, Self::Task];

    /// The name of the entity type in EspoCRM's API: `Meeting`, `Call`, `Task`.
    #[must_use]
    pub const fn entity(self) -> &'static str {
        match self {
            Self::Meeting => "Meeting",
            Self::Call => "Call",
            Self::Task => "Task",
        }
    }

    /// The name in our API and database: `meeting`, `call`, `task`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meeting => "meeting",
            Self::Call => "call",
            Self::Task => "task",
        }
    }

    /// True for the kinds that pair with calendar events.
    #[must_use]
    pub const fn is_event(self) -> bool {
        matches!(self, Self::Meeting | Self::Call)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no kind.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is not a kind: meeting, call or task")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "meeting" => Ok(Self::Meeting),
            "call" => Ok(Self::Call),
            "task" => Ok(Self::Task),
            _ => Err(UnknownKind(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Kind {
    type Error = UnknownKind;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.as_str().to_owned()
    }
}

/// One of the two systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// EspoCRM: records.
    Espo,
    /// Microsoft 365: items.
    Outlook,
}

impl Side {
    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Espo => Self::Outlook,
            Self::Outlook => Self::Espo,
        }
    }

    /// The name in our API and database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Espo => "espo",
            Self::Outlook => "outlook",
        }
    }
}

/// A canonical field. History entries, bases and reasons name fields by these words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Field {
    /// name / subject / title
    Title,
    /// description / body, as plain text
    Body,
    /// start and end, all-day or timed; due and start dates of a task
    Time,
    /// status / isCancelled / status
    Status,
    /// priority / importance (tasks)
    Importance,
    /// a varchar field of the record / location.displayName
    Location,
    /// users, contacts, leads / attendees
    Participants,
    /// first of reminders / isReminderOn and minutes
    Reminder,
    /// attachments of a task, by name and content hash
    Attachments,
    /// a configured pair, by its name
    Extra(String),
}

impl Field {
    /// The name in history, bases and reasons.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Title => "title",
            Self::Body => "body",
            Self::Time => "time",
            Self::Status => "status",
            Self::Importance => "importance",
            Self::Location => "location",
            Self::Participants => "participants",
            Self::Reminder => "reminder",
            Self::Attachments => "attachments",
            Self::Extra(name) => name,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for Field {
    fn from(name: String) -> Self {
        match name.as_str() {
            "title" => Self::Title,
            "body" => Self::Body,
            "time" => Self::Time,
            "status" => Self::Status,
            "importance" => Self::Importance,
            "location" => Self::Location,
            "participants" => Self::Participants,
            "reminder" => Self::Reminder,
            "attachments" => Self::Attachments,
            _ => Self::Extra(name),
        }
    }
}

impl From<Field> for String {
    fn from(field: Field) -> Self {
        field.as_str().to_owned()
    }
}
