//! The core of espo-outlook: what becomes of two ends that may have changed.
//!
//! Pure: no I/O, no async, no clock, no randomness. Two functions are the product:
//!
//! - [`decide`] looks at a link, at what was seen of both ends, at the rules and the time, and makes a [`Plan`]: the writes to
//!   do, and for everything that is not done the [`Reason`].
//! - [`absorb`] rewrites the link from the confirmed outcomes of those writes, and from nothing else.
//!
//! Each field is merged three ways against the base, the last agreed pair of values ([`Agreed`]). A pair, because the two
//! sides are not equally rich: `Canceled` agrees with `completed`, and stays agreed although the two differ. What one side's
//! value looks like on the other is said by [`project`].
//!
//! The laws are tested in `tests/laws.rs`, one property each.
#![deny(missing_docs)]

mod absorb;
mod change;
mod decide;
mod files;
mod fingerprint;
mod kind;
mod link;
mod merge;
mod pair;
mod plan;
mod project;
mod revert;
mod rules;
mod snapshot;
pub mod text;
pub mod time;
mod value;

pub use absorb::{Outcome, Refusal, absorb};
pub use change::{Cause, Change, ShownReminder, Target};
pub use decide::{Deletions, Owner, View, decide, masked};
pub use files::{File, Files, Known, LARGEST_FILE, LeftOut};
pub use fingerprint::{digest, fingerprint, short};
pub use kind::{Field, Kind, Side, UnknownKind};
pub use link::{Agreed, Base, Link, LinkState, Replica, ReplicaRole, Swing};
pub use merge::{Merged, agree, merge_field};
pub use pair::{Directions, Pair, Part, is_blank, same_word};
pub use plan::{Action, Plan, Reason, Step, Verdict, Write, Writes};
pub use project::{Projection, project};
pub use revert::{Obstacle, Undo, revert_create, revert_update, revived};
pub use rules::{
    Attendees, Cancelled, CreateParticipantAs, Direction, KindPatch, KindRules, NewEvents, NotHeld, Priority,
    PrivateEvents, Rules, RulesPatch,
};
pub use snapshot::{Item, Record, Role, Seen, Series};
pub use value::{Answer, Day, Importance, People, Person, Shown, Status, Value, Values, When};
