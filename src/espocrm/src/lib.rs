//! The EspoCRM adapter: reads and writes Meetings, Calls and Tasks over EspoCRM's REST API in the vocabulary of [`sync`].
//!
//! Facts are those of EspoCRM 9.3 (`application/Espo`, seen on a running 9.3.10). The ones that shape this package:
//!
//! - Every PUT moves `modifiedAt` and fires webhooks, and one made by somebody who is no attendee adds a copy of each
//!   attendee's default reminders. So [`Client::update`] sends only what differs, nothing when nothing does, and acts as the
//!   record's owner ([`Acting::User`]) where an administrator account is configured.
//! - `usersIds`, `contactsIds` and `leadsIds` replace the whole set. So a read hands out the [`Roster`] beside the record,
//!   and a write keeps those that have no e-mail address.
//! - 404 is believed only when EspoCRM itself says that the record does not exist, not when a proxy says so.
//! - More than ten refused logins a minute lock the address out, valid keys included. So a refused key is tried at most five
//!   times a minute, one request at a time.
//! - There is no idempotency key: a POST without an answer is [`Disposition::Unsure`], and what it may have made is looked up
//!   by marker or by name, owner and time before anything is repeated.
#![deny(missing_docs)]

mod attachments;
mod auth;
mod client;
mod error;
mod extra;
mod map;
mod people;
mod query;
mod records;
mod roster;
mod schema;
mod setup;
mod sign_in;
mod upkeep;
pub mod webhook;
mod wire;

pub use attachments::{Attachment, Content, Download};
pub use auth::Refusals;
pub use client::{Acting, Client, Config, Now, Trace, http};
pub use error::{Disposition, Error, Result};
pub use extra::{Extra, Form};
pub use people::{NewPerson, PersonKind, is_acceptable_address};
pub use records::{Brief, Cursor, Deletion, Edit, Fetched, NewRecord, Page, Updated};
pub use roster::{Entity, Found, Member, Resolved, Roster};
pub use schema::{KindSchema, Me, Schema, User};
pub use setup::{FieldKind, Provision, Webhook};
pub use sign_in::SignIn;
pub use upkeep::{WebhookJob, WebhookSettings};
