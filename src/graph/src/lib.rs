//! Microsoft Graph v1.0 and the identity platform v2.0, as much of them as keeping two calendars and task lists in step needs.
//!
//! [`Client`] sends one request per call, knows the mailbox's limits ([`Client`] keeps at most four requests in flight per
//! mailbox and stays away for as long as a 429 says) and turns what comes back into the core's words: [`sync::Item`] and
//! [`Error`], whose [`Error::disposition`] says what the caller may do. Nothing is retried here but one thing: a request whose
//! access token was refused (401) is sent once more with a new token.
//!
//! - `wire` is the JSON as it travels, `map` and `task` turn it into [`sync::Item`] and back, `body` keeps what is not ours
//!   in an HTML body;
//! - `events`, `todo`, `delta`, `subscription`, `batch`, `attachment` are the requests;
//! - [`auth`] is the sign-in; [`notification`] reads what Microsoft posts to us.
//!
//! Facts are those of learn.microsoft.com/graph (v1.0, read in 2026); each place names the page that it rests on.

mod attachment;
pub mod auth;
mod batch;
mod body;
pub mod certificate;
pub mod claims;
mod client;
mod delta;
mod error;
mod events;
mod extra;
mod map;
mod marked;
pub mod notification;
mod recent;
mod registration;
mod request;
mod subscription;
mod task;
mod throttle;
mod todo;
mod wire;

pub use attachment::{Attachment, Download, IN_ONE_PIECE, NewFile, PIECE, Upload};
pub use auth::{AuthError, Authority, TokenSet};
pub use client::{Client, Config, Ids, Mailbox, Mode, Now, Profile, Tokens, Trace};
pub use delta::{Batch as DeltaBatch, Next, Round as DeltaRound, TaskRound, Touched, TouchedKind, TouchedTask};
pub use error::{Disposition, Error};
pub use events::{Deletion, MARKER, NewEvent, Page, Patch, RECORD};
pub use marked::Named;
pub use registration::Credential;
pub use subscription::{NewSubscription, Resource, Subscription};
pub use throttle::{NoPlace, Place, Places};
pub use todo::{APPLICATION, List, NewTask};

/// What every request answers.
pub type Result<T> = std::result::Result<T, Error>;
