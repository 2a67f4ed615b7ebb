//! The link: the pairing of one record with one logical item, and the base.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Answer, Field, Kind, Known, Side, Status, Value, Values};

/// Where a link stands. Transitions are made by [`crate::absorb`] and by [`Link`]'s methods alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LinkState {
    /// The intent to create the missing end is stored; the request may or may not have arrived.
    Creating {
        /// The side on which something is being created.
        side: Side,
        /// When the intent was stored: nothing of ours is older.
        since: DateTime<Utc>,
    },
    /// Both ends are there.
    Live,
    /// One end is gone; the other is deleted when the grace is over.
    Deleting {
        /// The side on which the end is gone.
        gone: Side,
        /// When that was first seen.
        since: DateTime<Utc>,
    },
    /// Both ends are gone, or one is gone and the other is left alone: kept so that a late message resurrects nothing.
    Tombstone {
        /// Since when.
        since: DateTime<Utc>,
    },
}

impl LinkState {
    /// The name in our API and database.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Creating { side: Side::Espo, .. } => "creating_record",
            Self::Creating { side: Side::Outlook, .. } => "creating_item",
            Self::Live => "live",
            Self::Deleting { .. } => "deleting",
            Self::Tombstone { .. } => "tombstone",
        }
    }
}

/// The last agreed value of a field, as each side shows it. Lossy pairs differ here by right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// As EspoCRM shows it.
    pub espo: Value,
    /// As Outlook shows it.
    pub outlook: Value,
}

impl Agreed {
    /// The value on a side.
    #[must_use]
    pub const fn on(&self, side: Side) -> &Value {
        match side {
            Side::Espo => &self.espo,
            Side::Outlook => &self.outlook,
        }
    }
}

/// The last agreed value of every synchronised field.
pub type Base = BTreeMap<Field, Agreed>;

/// Whose copy a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaRole {
    /// The organizer's copy, the one that is written.
    Master,
    /// A copy that Exchange made for a bound attendee.
    Attendee,
    /// A copy that we made because attendees are not written.
    Private,
}

/// One mailbox's copy of the linked item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// EspoCRM id of the bound user.
    pub user: String,
    /// Graph's id in that mailbox.
    pub item_id: String,
    /// To Do: the list.
    pub list: Option<String>,
    /// Whose copy.
    pub role: ReplicaRole,
    /// The etag last seen or written: a notification that names it is an echo.
    pub etag: Option<String>,
    /// A private copy: what was written last, by [`crate::digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
}

/// A write to a field, remembered for an hour to notice that two parties fight over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swing {
    /// The field.
    pub field: Field,
    /// Of files, which one: that others come and go is no fight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The side that was written.
    pub side: Side,
    /// When.
    pub at: DateTime<Utc>,
}

/// The pairing of one record with one logical item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Our id; it is the marker left on both ends.
    pub id: String,
    /// Kind of the record.
    pub kind: Kind,
    /// Where it stands.
    pub state: LinkState,
    /// EspoCRM id of the bound user whose mailbox holds the master copy.
    pub owner: String,
    /// Id of the record, once known.
    pub record_id: Option<String>,
    /// The copies of the item; the master first. Empty while the item is being created.
    pub replicas: Vec<Replica>,
    /// The same for all copies of one event.
    pub ical_uid: Option<String>,
    /// The series and the original start, for an occurrence: the key under which it is found again.
    pub occurrence: Option<(String, Option<DateTime<Utc>>)>,
    /// True when the event is organised outside: content comes from Outlook only.
    pub outside: bool,
    /// True when the record's own field said that it is not synchronised, when it was seen last: a record that is deleted then
    /// takes nothing with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub switched_off: bool,
    /// Answers seen on attendees' own copies, by address. A copy that its owner deleted is a `Declined`.
    #[serde(default)]
    pub answers: BTreeMap<String, Answer>,
    /// Which file each remote id is, by side: an id that is known is never read again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<Side, BTreeMap<String, Known>>,
    /// The ends that are known not to exist: a direct read said so, or we deleted them. Of a tombstone, one that is there again
    /// has come back by somebody's hand (restored, or an occurrence of a series that was made longer again).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<Side>,
    /// The last agreed values.
    pub base: Base,
    /// By side, the pairs that a write to it was to bring about and whose answer was not seen: stored before the request, so
    /// that after a crash our own write is not taken for an edit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sent: BTreeMap<Side, Base>,
    /// Equal for two unlinked ends that should be matched; see [`crate::fingerprint`].
    pub fingerprint: String,
    /// `modifiedAt` of the record when it was last seen or written.
    pub record_modified: Option<DateTime<Utc>>,
    /// When the last look at the record began: an earlier hint at it has nothing to tell.
    pub record_read: Option<DateTime<Utc>>,
    /// When the last look at the item began.
    pub item_read: Option<DateTime<Utc>>,
    /// When the last look at both ends began.
    pub reconciled: Option<DateTime<Utc>>,
    /// Writes of the last hour.
    pub swings: Vec<Swing>,
    /// Fields that two parties fight over, left alone since then.
    pub frozen: BTreeMap<Field, DateTime<Utc>>,
}

impl Link {
    /// A link that stands for the intent to create the end that is missing on `side`.
    #[must_use]
    pub const fn intent(
        id: String,
        kind: Kind,
        owner: String,
        side: Side,
        fingerprint: String,
        since: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            kind,
            state: LinkState::Creating { side, since },
            owner,
            record_id: None,
            replicas: Vec::new(),
            ical_uid: None,
            occurrence: None,
            outside: false,
            switched_off: false,
            answers: BTreeMap::new(),
            files: BTreeMap::new(),
            gone: BTreeSet::new(),
            base: Base::new(),
            sent: BTreeMap::new(),
            fingerprint,
            record_modified: None,
            record_read: None,
            item_read: None,
            reconciled: None,
            swings: Vec::new(),
            frozen: BTreeMap::new(),
        }
    }

    /// The organizer's copy.
    #[must_use]
    pub fn master(&self) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.role == ReplicaRole::Master).or_else(|| self.replicas.first())
    }

    /// The copy in a user's mailbox.
    #[must_use]
    pub fn replica_of(&self, user: &str) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.user == user)
    }

    /// Remembers which file each id of an end is, as far as its files were looked at.
    pub fn note_files(&mut self, side: Side, values: &Values) {
        if let Some(Value::Files(files)) = values.get(&Field::Attachments) {
            let known = files.known();
            if known.is_empty() {
                self.files.remove(&side);
            } else {
                self.files.insert(side, known);
            }
        }
    }

    /// What was sent to a side and is seen to have arrived there.
    pub fn arrived(&self, side: Side, values: &Values) -> impl Iterator<Item = (&Field, &Agreed)> {
        let sent = self.sent.get(&side).into_iter().flatten();
        sent.filter(move |(field, pair)| values.get(*field) == Some(pair.on(side)))
    }

    /// True for a tombstone whose end on `side` was known not to exist: when it is seen there, it is a new one.
    #[must_use]
    pub fn may_return(&self, side: Side) -> bool {
        self.is_buried() && self.gone.contains(&side)
    }

    /// True for a tombstone whose event was cancelled because its record was not held.
    #[must_use]
    pub fn was_not_held(&self) -> bool {
        let status = self.base.get(&Field::Status);
        self.is_buried()
            && !self.outside
            && status.is_some_and(|agreed| {
                agreed.espo == Value::Status(Status::NotHeld) && agreed.outlook == Value::Status(Status::Cancelled)
            })
    }

    /// The same, when the record is to be held again: it gets another event.
    #[must_use]
    pub fn is_planned_again(&self, record: &Values) -> bool {
        self.was_not_held()
            && record.get(&Field::Status).is_some_and(|status| *status != Value::Status(Status::NotHeld))
    }

    /// True when a late message must not bring anything back.
    #[must_use]
    pub const fn is_buried(&self) -> bool {
        matches!(self.state, LinkState::Tombstone { .. })
    }
}
