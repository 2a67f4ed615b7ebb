//! The plan: what is to be done, and for everything that is not, why.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::{Answer, Base, Field, Kind, Priority, Side, Value};

/// What was decided about a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The outcome in one word.
    pub verdict: Verdict,
    /// Writes, in order.
    pub steps: Vec<Step>,
    /// Values on which both ends agree without a write: the base takes them over.
    pub agreed: Base,
    /// What was considered and left undone.
    pub notes: Vec<Reason>,
}

impl Plan {
    /// A plan without writes.
    #[must_use]
    pub fn nothing(verdict: Verdict) -> Self {
        Self { verdict, steps: Vec::new(), agreed: Base::new(), notes: Vec::new() }
    }

    /// A plan of one write.
    #[must_use]
    pub fn one(action: Action, reason: Reason) -> Self {
        Self { steps: vec![Step { action, reason }], ..Self::nothing(Verdict::Write) }
    }

    /// True when nothing has to be written or waited for.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.steps.is_empty() && matches!(self.verdict, Verdict::InStep | Verdict::LeaveAlone(_))
    }
}

/// The outcome in one word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "reason", rename_all = "snake_case")]
pub enum Verdict {
    /// Both ends are as they should be.
    InStep,
    /// There is something to write.
    Write,
    /// Not ours to touch.
    LeaveAlone(Reason),
    /// One end is gone: look again at that time.
    Wait {
        /// The side on which the end is gone.
        gone: Side,
        /// When to look again.
        until: DateTime<Utc>,
    },
    /// An administrator is to decide.
    Hold(Reason),
    /// Nothing is left to keep in step.
    Bury(Reason),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// A write. Ids and versions are those of the ends that were seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Create the item in the owner's mailbox.
    CreateItem {
        /// Its fields.
        writes: Writes,
    },
    /// Change the item.
    UpdateItem {
        /// The fields to change, no others.
        writes: Writes,
    },
    /// Delete the item.
    DeleteItem,
    /// Create the record, assigned to the owner.
    CreateRecord {
        /// What it becomes.
        kind: Kind,
        /// Its fields.
        writes: Writes,
    },
    /// Change the record.
    UpdateRecord {
        /// The fields to change, no others.
        writes: Writes,
    },
    /// Delete the record.
    DeleteRecord,
    /// Answer the invitation from a bound participant's own mailbox.
    Respond {
        /// Whose.
        address: String,
        /// What.
        answer: Answer,
    },
}

impl Action {
    /// The side that it writes to.
    #[must_use]
    pub const fn side(&self) -> Side {
        match self {
            Self::CreateItem { .. } | Self::UpdateItem { .. } | Self::DeleteItem | Self::Respond { .. } => {
                Side::Outlook
            }
            Self::CreateRecord { .. } | Self::UpdateRecord { .. } | Self::DeleteRecord => Side::Espo,
        }
    }

    /// The fields that it writes.
    #[must_use]
    pub const fn writes(&self) -> Option<&Writes> {
        match self {
            Self::CreateItem { writes }
            | Self::UpdateItem { writes }
            | Self::CreateRecord { writes, .. }
            | Self::UpdateRecord { writes } => Some(writes),
            Self::DeleteItem | Self::DeleteRecord | Self::Respond { .. } => None,
        }
    }
}

/// Fields to write.
pub type Writes = BTreeMap<Field, Write>;

/// One field to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The value, as the written side holds it.
    pub value: Value,
    /// The value as the other side has it: the base remembers the pair.
    pub source: Value,
    /// What stands there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The value that lost a conflict, kept in history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Value>,
}

/// Why something is done or left undone. Displayed as a sentence on the record's page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// A new record.
    NewRecord,
    /// A new item.
    NewItem,
    /// Fields changed on one side.
    Changed {
        /// Where.
        side: Side,
        /// Which.
        fields: Vec<Field>,
    },
    /// Both sides changed a field to different values.
    Conflict {
        /// Which field.
        field: Field,
        /// Who won.
        winner: Side,
        /// By which rule.
        priority: Priority,
    },
    /// Changed on a side from which nothing is taken.
    DirectionOff {
        /// Which field; none for the whole pair.
        field: Option<Field>,
        /// The side that is not written.
        to: Side,
    },
    /// The user has no active binding.
    NotBound,
    /// The first synchronisation of the user has not begun.
    FirstSyncPending,
    /// Switched off for this record.
    SwitchedOff,
    /// It starts before the binding's start date.
    BeforeStartDate {
        /// The binding's start date.
        start_date: NaiveDate,
    },
    /// It ends before it starts; Outlook refuses such an event.
    EndsBeforeItStarts,
    /// Private in Outlook.
    Private,
    /// The text of a private event is never written.
    BusyBlock {
        /// The field.
        field: Field,
    },
    /// A copy of a meeting whose organizer is bound: the organizer's copy counts.
    CopyOfBoundOrganizer {
        /// Who organises it.
        organizer: String,
    },
    /// Organised outside: content comes from Outlook only.
    OrganizedOutside,
    /// The copy of a meeting organised outside was deleted from its owner's mailbox, which declines it.
    OwnCopyGone,
    /// A bound participant has deleted the private copy, which declines the meeting.
    PrivateCopyGone,
    /// A series as such is no record; its occurrences are.
    SeriesMaster,
    /// An occurrence beyond the horizon, or before the start.
    BeyondHorizon,
    /// Cancelled before it was ever synchronised.
    AlreadyCancelled,
    /// Both ends were gone, or parted for good.
    Buried,
    /// Gone on one side.
    Deleted {
        /// Where.
        side: Side,
    },
    /// Gone on one side, edited on the other: the edit won.
    EditBeatsDelete {
        /// Where it is gone.
        gone: Side,
    },
    /// A meeting that is not held is cancelled in Outlook by rule.
    NotHeld,
    /// Cancelled by its organizer.
    Cancelled,
    /// Too many deletions at once.
    MassDeletion {
        /// How many wait.
        waiting: u64,
    },
    /// Two parties write a field back and forth.
    Frozen {
        /// The field.
        field: Field,
    },
    /// A field cannot be read on a side.
    CannotRead {
        /// The field.
        field: Field,
        /// The side.
        side: Side,
    },
    /// One end could not be looked at.
    CannotSee {
        /// The side.
        side: Side,
    },
    /// An answer can only be given from the participant's own mailbox.
    AnswerNeedsOwnMailbox {
        /// Whose answer.
        address: String,
    },
    /// An answer was given in EspoCRM by somebody whose mailbox is bound.
    Answered {
        /// Whose answer.
        address: String,
    },
    /// "No answer yet" does not take back an answer.
    AnswerKept {
        /// Whose answer.
        address: String,
    },
    /// Attendees are not written: by rule, or because the event is over.
    AttendeesLeftOut {
        /// True when it is over.
        past: bool,
    },
    /// Participants without an address stay in EspoCRM.
    WithoutAddress {
        /// Their names.
        names: Vec<String>,
    },
    /// Rooms and equipment are no participants.
    Resources {
        /// Their names.
        names: Vec<String>,
    },
    /// Exchange takes no more attendees.
    TooManyAttendees {
        /// How many the record has.
        count: usize,
    },
    /// A call has a time of day.
    AllDayCall,
    /// A task that repeats has a due date.
    RepeatingTask,
    /// It carries the marker of a pair that is not known (any more), and the other end was not found.
    Unpaired {
        /// The side on which nothing was found.
        missing: Side,
    },
    /// Files that stay where they are.
    FilesLeftOut {
        /// Where they are.
        side: Side,
        /// Their names.
        names: Vec<String>,
        /// Whether that is because of their size; else their content cannot be read.
        too_large: bool,
    },
    /// Files that the other side did not take.
    FilesNotTaken {
        /// Where they are.
        side: Side,
        /// Their names.
        names: Vec<String>,
    },
    /// Somebody takes a change back.
    Reverted,
    /// A write was refused.
    Refused {
        /// What the other system said, and what to do.
        sentence: String,
    },
}

const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Espo => "EspoCRM",
        Side::Outlook => "Outlook",
    }
}

fn list(fields: &[Field]) -> String {
    fields.iter().map(Field::as_str).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewRecord => f.write_str("A new record in EspoCRM: its event or task is created in Outlook."),
            Self::NewItem => f.write_str("A new item in Outlook: its record is created in EspoCRM."),
            Self::Changed { side, fields } => write!(f, "Changed in {}: {}.", side_name(*side), list(fields)),
            Self::Conflict { field, winner, priority } => write!(
                f,
                "Both sides changed {field}; {} won by priority {}.",
                side_name(*winner),
                match priority {
                    Priority::Espo => "espo",
                    Priority::Outlook => "outlook",
                    Priority::Newest => "newest",
                }
            ),
            Self::DirectionOff { field: Some(field), to } => {
                write!(f, "{field} changed, but the direction does not allow writing to {}.", side_name(*to))
            }
            Self::DirectionOff { field: None, to } => {
                write!(f, "The direction does not allow writing to {}.", side_name(*to))
            }
            Self::NotBound => f.write_str("The assigned user has no active binding to a mailbox."),
            Self::FirstSyncPending => f.write_str(
                "The first synchronisation of the user has not begun; it may wait for the confirmation of a hold.",
            ),
            Self::SwitchedOff => f.write_str("Synchronisation is switched off for this record."),
            Self::BeforeStartDate { start_date } => {
                write!(f, "It starts before {start_date}, the start date of the binding.")
            }
            Self::EndsBeforeItStarts => f.write_str("It ends before it starts; correct the dates in EspoCRM."),
            Self::Private => {
                f.write_str("It is private in Outlook; choose `busy` or `full` for private events to copy it.")
            }
            Self::BusyBlock { field } => write!(f, "{field} of a busy block is not written to the private event."),
            Self::CopyOfBoundOrganizer { organizer } => {
                write!(f, "This is a copy of a meeting of {organizer}, who is bound: the organizer's copy counts.")
            }
            Self::OrganizedOutside => {
                f.write_str("The event is organised outside: its content comes from Outlook only.")
            }
            Self::OwnCopyGone => f.write_str(
                "Its organizer is outside, and the copy in the mailbox was deleted: that declines the meeting, and the record stays.",
            ),
            Self::PrivateCopyGone => {
                f.write_str("A participant has deleted the private copy of it: that declines the meeting.")
            }
            Self::SeriesMaster => {
                f.write_str("A series is no record itself; each occurrence inside the horizon is one.")
            }
            Self::BeyondHorizon => f.write_str("The occurrence lies outside the horizon."),
            Self::AlreadyCancelled => f.write_str("The event was cancelled before it was ever synchronised."),
            Self::Buried => f.write_str("The pair was deleted or parted; a late message does not bring it back."),
            Self::Deleted { side } => write!(f, "Deleted in {}.", side_name(*side)),
            Self::EditBeatsDelete { gone } => {
                write!(f, "Deleted in {}, but edited on the other side since: the edit won.", side_name(*gone))
            }
            Self::NotHeld => f.write_str("The meeting is not held, and the rule says to cancel it in Outlook."),
            Self::Cancelled => f.write_str("The organizer cancelled the event."),
            Self::MassDeletion { waiting } => {
                write!(f, "{waiting} deletions wait for this user; an administrator has to confirm the hold.")
            }
            Self::Frozen { field } => {
                write!(f, "{field} was written back and forth more than three times within an hour; it is left alone.")
            }
            Self::CannotRead { field, side } => write!(f, "{field} cannot be read in {}.", side_name(*side)),
            Self::CannotSee { side } => write!(f, "{} could not be read; the pair is left as it is.", side_name(*side)),
            Self::AnswerNeedsOwnMailbox { address } => {
                write!(f, "The answer of {address} can only be given from that mailbox, which is not bound.")
            }
            Self::Answered { address } => {
                write!(f, "{address} answered in EspoCRM: the answer is sent to the organizer.")
            }
            Self::AnswerKept { address } => {
                write!(
                    f,
                    "The answer of {address} in EspoCRM is kept: Outlook has none yet, and none takes nothing back."
                )
            }
            Self::AttendeesLeftOut { past: true } => {
                f.write_str("The event is over: no attendees are written, nobody gets mail.")
            }
            Self::AttendeesLeftOut { past: false } => f.write_str("Attendees are not written to Outlook by rule."),
            Self::WithoutAddress { names } => write!(f, "No e-mail address, so not in Outlook: {}.", names.join(", ")),
            Self::Resources { names } => {
                write!(f, "Rooms and equipment are no participants in EspoCRM: {}.", names.join(", "))
            }
            Self::TooManyAttendees { count } => {
                write!(f, "It has {count} participants; an Outlook event takes 500, so some are not in Outlook.")
            }
            Self::AllDayCall => f.write_str(
                "A call in EspoCRM cannot last all day: the time that the event has in Outlook is not taken over.",
            ),
            Self::RepeatingTask => f.write_str(
                "A task that repeats in To Do needs a due date: it keeps its own, although the record has none.",
            ),
            Self::Unpaired { missing } => write!(
                f,
                "It carries the mark of a pair that is not known any more, and its other end was not found in {}: it is left alone. Run relink.",
                side_name(*missing)
            ),
            Self::FilesLeftOut { side, names, too_large: true } => write!(
                f,
                "Larger than 25 MB, so left out and only in {}: {}. The rest of the task is synchronised.",
                side_name(*side),
                names.join(", ")
            ),
            Self::FilesLeftOut { side, names, too_large: false } => write!(
                f,
                "The content cannot be read in {}, so left out: {}. The rest of the task is synchronised.",
                side_name(*side),
                names.join(", ")
            ),
            Self::FilesNotTaken { side, names } => {
                write!(f, "Only in {}, because the other side refused it: {}.", side_name(*side), names.join(", "))
            }
            Self::Reverted => f.write_str("A change is taken back."),
            Self::Refused { sentence } => f.write_str(sentence),
        }
    }
}
