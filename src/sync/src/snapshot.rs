//! What was seen of the two ends: the fetched, canonical form of a record and of an item.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Kind, Values};

/// The result of looking at one end. `Unknown` (could not look) is never treated as `Gone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// It exists.
    Present(T),
    /// A direct read of that one thing answered "not found". Absence from a list, a page or an error is never `Gone`.
    Gone,
    /// It was not looked at, or the look failed.
    Unknown,
}

impl<T> Seen<T> {
    /// The thing, when it is there.
    pub const fn present(&self) -> Option<&T> {
        if let Self::Present(thing) = self { Some(thing) } else { None }
    }
}

/// An EspoCRM record as seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// EspoCRM's id, opaque, at most 36 characters.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Id of the assigned user, whose mailbox holds the master copy.
    pub owner: Option<String>,
    /// The "Synchronize with Outlook" field, when the entity has one.
    pub switch: Option<bool>,
    /// The marker field, when the entity has one and it is filled: the id of a link.
    pub marker: Option<String>,
    /// `modifiedAt`, to the second (a record never modified: `createdAt`).
    pub modified: DateTime<Utc>,
    /// `createdAt`.
    pub created: DateTime<Utc>,
    /// Names of participants that have no e-mail address: they stay in EspoCRM.
    pub without_address: Vec<String>,
    /// The synchronised fields.
    pub values: Values,
}

/// An item (event or To Do task) as seen in one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Graph's id: immutable for events, list-bound for To Do tasks.
    pub id: String,
    /// EspoCRM id of the bound user in whose mailbox it was seen.
    pub user: String,
    /// To Do: the list.
    pub list: Option<String>,
    /// The same for all copies of one event.
    pub ical_uid: Option<String>,
    /// `@odata.etag`.
    pub etag: Option<String>,
    /// The kind that it becomes in EspoCRM (by category for events).
    pub kind: Kind,
    /// Whose copy it is.
    pub role: Role,
    /// Where it stands in a series.
    pub series: Series,
    /// `private` or `confidential`.
    pub private: bool,
    /// The link id that we left on it: only a hint until the ids agree (a dragged copy carries a foreign marker).
    pub marker: Option<String>,
    /// `lastModifiedDateTime`.
    pub modified: DateTime<Utc>,
    /// `createdDateTime`.
    pub created: DateTime<Utc>,
    /// The mailbox owner's own answer, on an attendee's copy.
    pub own_answer: crate::Answer,
    /// The organizer's name, where the mailbox knows one.
    pub organizer_name: Option<String>,
    /// Rooms and equipment that take part: they are nobody.
    pub resources: Vec<String>,
    /// Something in the body that we cannot reproduce (an online-meeting block, formatting): only our part is rewritten.
    pub body_is_rich: bool,
    /// The synchronised fields.
    pub values: Values,
}

/// Whose copy of an event an item is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Role {
    /// The mailbox's own: it may be written.
    Organizer,
    /// A copy that Exchange made; content is the organizer's.
    Attendee {
        /// Address of the organizer, lower case.
        organizer: String,
    },
}

/// Where an item stands in a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Series {
    /// No series.
    Single,
    /// A To Do task that repeats: one record, whose due date moves on. Without a due date it cannot be.
    Repeating,
    /// The series itself: never a record; it is expanded into occurrences.
    Master,
    /// One occurrence or exception.
    Occurrence {
        /// Id of the series master in this mailbox.
        master: String,
        /// The start that the series gives it.
        original_start: Option<DateTime<Utc>>,
    },
}
