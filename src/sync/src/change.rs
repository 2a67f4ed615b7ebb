//! A change: the message "look at this again". It carries no values to apply, only where to look.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::Kind;

/// Why something was looked at, written into history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An EspoCRM webhook.
    Webhook,
    /// A Graph change notification.
    Notification,
    /// The poll by `modifiedAt` or delta.
    Poll,
    /// The scheduled sweep.
    Sweep,
    /// A first synchronisation.
    FirstSync,
    /// Somebody asked for it.
    Manual,
    /// A replayed message.
    Replay,
    /// A revert.
    Revert,
}

impl Cause {
    /// The name in our API and database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Notification => "notification",
            Self::Poll => "poll",
            Self::Sweep => "sweep",
            Self::FirstSync => "first_sync",
            Self::Manual => "manual",
            Self::Replay => "replay",
            Self::Revert => "revert",
        }
    }
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum Target {
    /// An EspoCRM record.
    Record {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// A calendar event in a bound user's mailbox.
    Event {
        /// EspoCRM id of the bound user.
        user: String,
        /// Graph's (immutable) id.
        id: String,
    },
    /// A To Do task in a bound user's mailbox.
    Todo {
        /// EspoCRM id of the bound user.
        user: String,
        /// Its list.
        list: String,
        /// Graph's id.
        id: String,
    },
    /// A whole mailbox: its delta is to be read.
    Mailbox {
        /// EspoCRM id of the bound user.
        user: String,
    },
}

/// A hint that something may have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Our id of the message.
    pub id: String,
    /// Where to look.
    pub target: Target,
    /// Who said so.
    pub cause: Cause,
    /// When it was received, UTC.
    pub received: DateTime<Utc>,
    /// Version of what is seen there, when the hint names one (an etag): an echo is told by it without a read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The job that asked for it, whose counters it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// W3C trace context of who said so: what is done about it belongs to the same trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The only value that a hint carries: what nobody but its user can read (EspoCRM facts, "reminders").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reminder: Option<ShownReminder>,
}

/// The reminder that whoever wrote a record last sees of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownReminder {
    /// Minutes before; none when there is no reminder.
    pub minutes: Option<u32>,
    /// Who wrote then, where the hint says so: it does when somebody else had written before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
