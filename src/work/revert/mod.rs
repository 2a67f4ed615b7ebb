//! Taking changes back.
//!
//! A revert runs in the request that asks for it, because whoever asks wants to hear what became of it, and holds the same
//! locks as the workers ([`App::locks`]): a hint that comes meanwhile waits and then finds both ends in step. What it takes is
//! said by the core ([`sync::revert_update`], [`sync::revert_create`], [`sync::revived`]); writing, absorbing and history go
//! the way that every change goes, so that a revert is an entry like any other and can be taken back itself.
//!
//! A crash in between leaves nothing that the usual rules do not mend, or that asking again does not finish:
//! - of an update, the side that was put back counts as changed and travels to the other;
//! - of a creation, the tombstone is stored before anything is deleted, so that no deletion travels to what is to stay;
//! - of a deletion, the intent is stored before anything is created, under an id that follows from the entry: whoever meets
//!   the record first, the record's own webhook or the same revert once more, goes on with that intent.

mod carry;
mod changes;
mod deletion;
pub mod preview;

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use store::history::{self, ChangeType, Direction, Entry, Filter};
use store::links;
use sync::{Cause, Item, Link, Obstacle, Seen, Side, Undo};

use super::context::Context;
use super::error::{WorkError, sentence};
use super::reconcile::Task;
use crate::app::App;

/// How often both ends are read again because one of them changed while it was written.
const ROUNDS: usize = 4;
/// How often a pair can have been brought back.
const LIVES: usize = 32;
/// Entries that are read at once.
const PAGE: u64 = 200;
/// Why a change and its revert, both among those to be taken back, are left alone.
const OF_THESE: &str = "it is a revert of a change among these";

/// What became of a revert of several changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The new entries.
    pub reverted: Vec<String>,
    /// The entries that were not taken back, and why.
    pub skipped: Vec<(String, String)>,
}

/// Why a change was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum RevertError {
    /// There is no such entry.
    #[error("there is no history entry `{0}`")]
    Unknown(String),
    /// It was taken back before.
    #[error("the change was taken back already, by {0}")]
    Already(String),
    /// It has been changed since, or is as it was.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// It cannot be taken back as things stand.
    #[error("{0}")]
    Refused(String),
    /// It could not be done now.
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<store::StoreError> for RevertError {
    fn from(error: store::StoreError) -> Self {
        Self::Work(error.into())
    }
}

fn refused<T>(sentence: impl Into<String>) -> Result<T, RevertError> {
    Err(RevertError::Refused(sentence.into()))
}

/// Takes one change back. Tells the ids of the new entries.
///
/// # Errors
/// When it cannot be taken back; `force` overcomes a change that was made since.
pub async fn one(app: &App, id: &str, force: bool) -> Result<Vec<String>, RevertError> {
    let Some(entry) = history::get(app.store().read(), id).await? else {
        return Err(RevertError::Unknown(id.to_owned()));
    };
    let task = Task {
        app,
        locks: app.locks(),
        cause: Cause::Revert,
        received: app.clock().now(),
        version: None,
        reminder: None,
        unit: None,
        in_bulk: false,
    };
    let revert = Revert { task, entry, force };
    revert.is_open().await?;
    match revert.entry.change_type {
        ChangeType::Update => revert.update().await,
        ChangeType::Create => revert.creation().await,
        ChangeType::Delete => revert.deletion().await,
    }
}

/// Takes changes back, the newest first. One that cannot be taken back does not stop the others. A change and the revert of
/// it, both among them, cancel each other out.
///
/// # Errors
/// When history cannot be read.
pub async fn many(app: &App, filter: &Filter, force: bool) -> Result<Done, WorkError> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    loop {
        let page = history::page(app.store().read(), filter, cursor.as_deref(), PAGE).await?;
        entries.extend(page.items.into_iter().map(|entry| (entry.id, entry.revert_of)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let known: std::collections::BTreeSet<&String> = entries.iter().map(|(id, _)| id).collect();
    let mut done = Done::default();
    for (id, revert_of) in &entries {
        if app.shutdown().is_cancelled() {
            done.skipped.push((id.clone(), "the service is stopping; ask again for the rest".to_owned()));
            continue;
        }
        if revert_of.as_ref().is_some_and(|of| known.contains(of)) {
            done.skipped.push((id.clone(), OF_THESE.to_owned()));
            continue;
        }
        match one(app, id, force).await {
            Ok(new) => done.reverted.extend(new),
            Err(error) => done.skipped.push((id.clone(), sentence(&error))),
        }
    }
    Ok(done)
}

/// An entry while it is taken back.
struct Revert<'a> {
    task: Task<'a>,
    entry: Entry,
    force: bool,
}

/// Both ends as they were read.
struct Pair {
    record: Seen<Fetched>,
    item: Seen<Item>,
    at: DateTime<Utc>,
}

/// What becomes of the link when a plan was carried out.
enum Then {
    /// It is kept as it is.
    Keep,
    /// Its record is there again: next comes the item.
    AwaitItem(DateTime<Utc>),
    /// It stays buried.
    Bury(DateTime<Utc>),
    /// It is forgotten.
    Forget,
}

/// What came of a plan.
struct Carried {
    link: Link,
    entries: Vec<String>,
    is_stale: bool,
}
impl Revert<'_> {
    const fn app(&self) -> &App {
        self.task.app
    }

    /// The side that was written.
    const fn written(&self) -> Side {
        match self.entry.direction {
            Direction::ToEspo => Side::Espo,
            Direction::ToOutlook => Side::Outlook,
        }
    }

    /// The same entry may be taken back by two people at once: who comes second finds it done.
    async fn is_open(&self) -> Result<(), RevertError> {
        match history::get(self.app().store().read(), &self.entry.id).await?.and_then(|entry| entry.reverted_by) {
            Some(by) => Err(RevertError::Already(by)),
            None => Ok(()),
        }
    }

    /// The link of the entry's pair, or of what the pair became when a deletion was taken back.
    async fn link_id(&self) -> Result<String, RevertError> {
        let read = self.app().store().read();
        let mut next = self.entry.link_id.clone();
        let mut buried = None;
        for _ in 0..LIVES {
            let Some(id) = next else { break };
            match links::by_id(read, &id).await? {
                Some(link) if !link.is_buried() => return Ok(link.id),
                Some(link) => buried = Some(link.id),
                None => {}
            }
            next = history::reverted_deletion(read, &id).await?;
        }
        if let Some(record_id) = &self.entry.record_id
            && let Some(link) = links::by_record(read, self.entry.kind, record_id).await?
        {
            return Ok(link.id);
        }
        buried.map_or_else(|| refused("the record and the item are not linked any more"), Ok)
    }

    async fn read(&self, context: &Context, link: &mut Link) -> Result<Pair, RevertError> {
        let at = context.now();
        let record = self.task.read_record(context, link).await?;
        let item = self.task.read_item(context, link).await?;
        match (&record, &item) {
            (Seen::Unknown, _) => refused("the record cannot be read at the moment"),
            (_, Seen::Unknown) => refused("the item cannot be read at the moment"),
            _ => Ok(Pair { record, item, at }),
        }
    }
}

fn undo(entry: &Entry) -> Vec<Undo> {
    let undo = |change: &history::FieldChange| Undo {
        field: change.field.clone(),
        old: change.old.clone(),
        new: change.new.clone(),
        other: change.other.clone(),
    };
    entry.changes.iter().map(undo).collect()
}
