//! The workers: a hint becomes a look at both ends, a look a plan, a plan writes, and the writes a new base.
//!
//! - [`dispatch`] leases due messages from the store and hands each to a task, a bounded number at a time;
//! - [`received`] has among the messages what the receivers have appended to the inbox;
//! - [`handle`] turns one message into calls of [`reconcile`] and decides what becomes of it: done, later, parked, dead;
//! - [`brake`] is where many deletions wait for a word;
//! - [`intake`] finds or makes the link of an end that has none;
//! - [`reconcile`] holds its lock, reads both ends afresh and decides; [`apply`] executes, absorbs and stores; [`pair`] is what
//!   is told of a pair without asking;
//! - [`copies`] are those in the mailboxes of other bound users;
//! - [`execute`] is one step of a plan against one system; [`items`] gives events and To Do tasks the same verbs; [`people`]
//!   finds out who participants are, [`files`] carries attachments of tasks;
//! - [`explain`] makes the entries of history, [`notes`] tells of them on EspoCRM's streams where that is wanted;
//! - [`series`] knows that each occurrence is a record of its own;
//! - [`moving`] is what becomes of pairs when a user has another mailbox;
//! - [`revert`] takes changes back, and [`switch`] is the switch of one record.
//!
//! Nothing is written to a system before the intent is stored, and nothing is believed that was not seen: after a crash the
//! marker, or the equal content, of what may have been created is looked up before anything is created again.

pub mod apply;
pub mod brake;
pub mod context;
pub mod copies;
pub mod dispatch;
pub mod error;
pub mod execute;
pub mod explain;
pub mod files;
pub mod handle;
pub mod inspect;
pub mod intake;
pub mod items;
pub mod locks;
pub mod moving;
pub mod notes;
pub mod pair;
pub mod people;
pub mod received;
pub mod reconcile;
pub mod relink;
pub mod revert;
pub mod series;
pub mod switch;

pub use dispatch::run;
