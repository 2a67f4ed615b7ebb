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

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use store::history::{self, ChangeType, Direction, Entry, Filter};
use store::{links, switches};
use sync::{
    Action, Cause, Item, Link, LinkState, Obstacle, Outcome, Plan, Reason, Record, Seen, Series, Side, Undo, Values,
    Verdict, View, Writes, absorb,
};

use super::context::Context;
use super::error::{WorkError, sentence};
use super::execute::{Ends, execute, record_as_seen};
use super::items::{self, Place};
use super::reconcile::{Task, fingerprint_of, intended, is_outside, replica};
use super::{explain, switch};
use crate::app::App;

/// How often both ends are read again because one of them changed while it was written.
const ROUNDS: usize = 4;
/// How often a pair can have been brought back.
const LIVES: usize = 32;
/// Entries that are read at once.
const PAGE: u64 = 200;

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
    let task =
        Task { app, locks: app.locks(), cause: Cause::Revert, received: app.clock().now(), version: None, unit: None };
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
            done.skipped.push((id.clone(), "it is a revert of a change among these".to_owned()));
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

    // Updates.

    async fn update(&self) -> Result<Vec<String>, RevertError> {
        let id = self.link_id().await?;
        let _lock = self.task.locks.acquire(format!("link:{id}")).await;
        self.is_open().await?;
        let Some(mut link) = links::by_id(self.app().store().read(), &id).await? else {
            return refused("the record and the item are not linked any more");
        };
        if link.is_buried() {
            return refused("the pair was deleted or parted since; revert that first");
        }
        let context = Context::of(self.app(), Some(&link.owner)).await?;
        let undo = undo(&self.entry);
        let mut done = Vec::new();
        for _ in 0..ROUNDS {
            let pair = self.read(&context, &mut link).await?;
            let plan = match self
                .look(&context, &link, &pair, |view| sync::revert_update(view, self.written(), &undo, self.force))
            {
                Err(Obstacle::NothingToDo) => return self.finished(done).await,
                plan => plan?,
            };
            let carried = self.carry(&context, &link, pair, &plan, &Then::Keep).await?;
            done.extend(carried.entries);
            if !carried.is_stale {
                return Ok(done);
            }
            link = carried.link;
        }
        Err(WorkError::Restless.into())
    }

    /// Nothing is left to do: either there never was, or an attempt before this one had come so far.
    async fn finished(&self, done: Vec<String>) -> Result<Vec<String>, RevertError> {
        if !done.is_empty() {
            return Ok(done);
        }
        let before = history::reverts_of(self.app().store().read(), &self.entry.id).await?;
        let before: Vec<String> =
            before.into_iter().filter(|entry| entry.reverted_by.is_none()).map(|entry| entry.id).collect();
        let Some(first) = before.first() else { return Err(Obstacle::NothingToDo.into()) };
        history::mark_reverted(self.app().store().write(), &self.entry.id, first).await?;
        Ok(before)
    }

    // Creations.

    async fn creation(&self) -> Result<Vec<String>, RevertError> {
        let id = self.link_id().await?;
        let _lock = self.task.locks.acquire(format!("link:{id}")).await;
        self.is_open().await?;
        let Some(mut link) = links::by_id(self.app().store().read(), &id).await? else {
            return refused("the record and the item are not linked any more");
        };
        let context = Context::of(self.app(), Some(&link.owner)).await?;
        // A revert of a deletion has created both ends: both go again.
        let created = self.siblings().await?;
        let record_goes = created.iter().any(|entry| is_of(entry, Side::Espo));
        for _ in 0..ROUNDS {
            let pair = self.read(&context, &mut link).await?;
            if pair.record == Seen::Gone && pair.item == Seen::Gone {
                return refused("what was created is gone already");
            }
            let plan = self.deletions(&context, &link, &pair, &created)?;
            self.part(&context, &mut link, !record_goes).await?;
            let then = if record_goes { Then::Keep } else { Then::Forget };
            let carried = self.carry(&context, &link, pair, &plan, &then).await?;
            if !carried.is_stale {
                return Ok(carried.entries);
            }
        }
        Err(WorkError::Restless.into())
    }

    /// The creations that are taken back with this entry, itself among them.
    async fn siblings(&self) -> Result<Vec<Entry>, RevertError> {
        let mut all = match &self.entry.revert_of {
            Some(of) => history::reverts_of(self.app().store().read(), of).await?,
            None => Vec::new(),
        };
        all.retain(|entry| {
            entry.change_type == ChangeType::Create && entry.reverted_by.is_none() && entry.id != self.entry.id
        });
        all.push(self.entry.clone());
        Ok(all)
    }

    fn deletions(&self, context: &Context, link: &Link, pair: &Pair, created: &[Entry]) -> Result<Plan, RevertError> {
        let record = pair.record.present().map(|fetched| record_as_seen(context, link.outside, fetched));
        let nothing = Values::new();
        let undos: Vec<(Side, Vec<Undo>)> = [Side::Outlook, Side::Espo]
            .into_iter()
            .filter_map(|side| Some((side, undo(created.iter().find(|entry| is_of(entry, side))?))))
            .collect();
        let seen = |side: Side| match side {
            Side::Espo => record.as_ref().map_or(&nothing, |record| &record.values),
            Side::Outlook => pair.item.present().map_or(&nothing, |item| &item.values),
        };
        let parts: Vec<(Side, &Values, &[Undo])> =
            undos.iter().map(|(side, undo)| (*side, seen(*side), undo.as_slice())).collect();
        Ok(sync::revert_create(&parts, self.force)?)
    }

    /// Parts a pair for good before one of its ends is deleted: the other is to stay.
    async fn part(&self, context: &Context, link: &mut Link, record_stays: bool) -> Result<(), RevertError> {
        link.state = LinkState::Tombstone { since: context.now() };
        let transaction = self.app().store().begin().await?;
        links::save(&transaction, link, context.now()).await?;
        if let Some(record_id) = &link.record_id {
            switches::put(&transaction, link.kind, record_id, false, context.now()).await?;
        }
        transaction.commit().await.map_err(store::StoreError::from)?;
        self.task.private_copies(context, link, None).await?;
        if let Some(record_id) = link.record_id.as_ref().filter(|_| record_stays) {
            switch::turn(self.app(), context.acting(), link.kind, record_id, false).await?;
        }
        Ok(())
    }

    // Deletions.

    async fn deletion(&self) -> Result<Vec<String>, RevertError> {
        let read = self.app().store().read();
        let Some(owner) = self.entry.user_id.clone() else { return refused("the entry does not say whose it was") };
        let context = Context::of(self.app(), Some(&owner)).await?;
        let zone = context.owner().map_or(chrono_tz::Tz::UTC, |owner| owner.zone);
        let projection = sync::Projection::new(zone, &context.rules);
        let writes = sync::revived(self.entry.kind, self.written(), &undo(&self.entry), &projection);
        let values: Values = writes.iter().map(|(field, write)| (field.clone(), write.value.clone())).collect();
        let fingerprint = fingerprint_of(&context, &owner, self.entry.kind, &values);
        // The locks of the workers, in their order: what is about to appear is met by nobody else.
        let _content = self.task.locks.acquire(format!("content:{fingerprint}")).await;
        let old = self.entry.link_id.clone().unwrap_or_default();
        let _old = self.task.locks.acquire(format!("link:{old}")).await;
        let _new = self.task.locks.acquire(format!("link:{}", self.entry.id)).await;
        self.is_open().await?;
        let old = links::by_id(read, &old).await?;
        if old.as_ref().is_some_and(|link| !link.is_buried()) {
            return refused("the pair is there");
        }
        let begun = links::by_id(read, &self.entry.id).await?.filter(|link| !link.is_buried());
        if let Some(link) = begun.as_ref().filter(|link| link.record_id.is_some() || !link.replicas.is_empty()) {
            self.task.locked(link.clone(), None).await?;
            return refused("it is brought back already");
        }
        let (record, item) = (self.left_record(&context).await?, self.left_item(&context, old.as_ref()).await?);
        let mut link = begun.unwrap_or_else(|| {
            Link::intent(self.entry.id.clone(), self.entry.kind, owner, Side::Outlook, fingerprint, context.now())
        });
        if link.base.is_empty() {
            link.base = intended(&writes, Side::Espo);
        }
        match (record, item) {
            (Some(_), Some(_)) => refused("both ends are there"),
            (Some(record), None) => {
                link.record_id = Some(record.record.id.clone());
                self.bring_back_item(&context, link, old.as_ref(), Vec::new()).await
            }
            (None, Some(item)) => self.bring_back_record(&context, link, item, old).await,
            (None, None) => self.bring_back_both(&context, link, old.as_ref(), writes).await,
        }
    }

    /// The record, when it was not deleted: the item alone was, by a rule or a revert.
    async fn left_record(&self, context: &Context) -> Result<Option<Fetched>, RevertError> {
        let Some(id) = &self.entry.record_id else { return Ok(None) };
        match context
            .espo
            .client
            .record(&context.schema, self.entry.kind, id, context.acting())
            .await
            .map_err(WorkError::from)?
        {
            Seen::Present(fetched) => {
                let linked = links::by_record(self.app().store().read(), self.entry.kind, id).await?;
                if linked.is_some_and(|link| !link.is_buried()) {
                    refused("the record has an item again")
                } else {
                    Ok(Some(fetched))
                }
            }
            Seen::Gone => Ok(None),
            Seen::Unknown => refused("the record cannot be read at the moment"),
        }
    }

    /// The item, when it was not deleted: the record alone was, by a rule or a revert.
    async fn left_item(&self, context: &Context, old: Option<&Link>) -> Result<Option<Item>, RevertError> {
        let Some(replica) = old.and_then(|link| link.replica_of(&link.owner)) else { return Ok(None) };
        let place = Place { list: replica.list.as_deref(), id: &replica.item_id };
        match items::read(context, place, None).await? {
            Seen::Present(item) => Ok(Some(item)),
            Seen::Gone => Ok(None),
            Seen::Unknown => refused("the item cannot be read at the moment"),
        }
    }

    async fn bring_back_both(
        &self,
        context: &Context,
        mut link: Link,
        old: Option<&Link>,
        writes: Writes,
    ) -> Result<Vec<String>, RevertError> {
        // The item of an event that was organised outside cannot come back: it would be another event, of our own.
        let outside = old.is_some_and(|old| old.outside);
        links::save_alone(self.app().store(), &link, context.now()).await?;
        let mut entries = Vec::new();
        if self.task.read_record(context, &mut link).await? == Seen::Gone {
            let plan = Plan::one(Action::CreateRecord { kind: link.kind, writes }, Reason::Reverted);
            let now = context.now();
            let then = if outside { Then::Bury(now) } else { Then::AwaitItem(now) };
            let pair = Pair { record: Seen::Gone, item: Seen::Gone, at: now };
            let carried = self.carry(context, &link, pair, &plan, &then).await?;
            link = carried.link;
            entries = carried.entries;
        }
        if outside {
            return Ok(entries);
        }
        self.bring_back_item(context, link, None, entries).await
    }

    /// Creates the item of a record that is there. `entries` are those of what was done before.
    async fn bring_back_item(
        &self,
        context: &Context,
        mut link: Link,
        old: Option<&Link>,
        mut entries: Vec<String>,
    ) -> Result<Vec<String>, RevertError> {
        if let Some(record_id) = &link.record_id {
            switch::turn(self.app(), context.acting(), link.kind, record_id, true).await?;
        }
        let pair = self.read(context, &mut link).await?;
        let seen = match &pair.record {
            Seen::Present(fetched) => Seen::Present(record_as_seen(context, false, fetched)),
            _ => Seen::Gone,
        };
        let plan = self.task.decide_at(context, Some(&link), &seen, &pair.item, pair.at).await?;
        let Some(Action::CreateItem { writes }) = plan.steps.first().map(|step| &step.action) else {
            // The record alone is what the rules allow.
            return if entries.is_empty() { refused(why(&plan)) } else { Ok(entries) };
        };
        link.base = intended(writes, Side::Outlook);
        self.replace(old, &link).await?;
        match self.carry(context, &link, pair, &plan, &Then::Keep).await {
            Ok(carried) => entries.extend(carried.entries),
            // The record is back and its link waits for the item: the workers go on with it.
            Err(error) if !entries.is_empty() => {
                tracing::warn!(
                    error = sentence(&error),
                    link.id = link.id,
                    "the item of a reverted deletion comes later"
                );
                self.hint(&link).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(entries)
    }

    /// Creates the record of an item that is there.
    async fn bring_back_record(
        &self,
        context: &Context,
        mut link: Link,
        item: Item,
        old: Option<Link>,
    ) -> Result<Vec<String>, RevertError> {
        let now = context.now();
        link.state = LinkState::Creating { side: Side::Espo, since: now };
        link.replicas = vec![replica(&item, &link.owner)];
        link.ical_uid.clone_from(&item.ical_uid);
        link.outside = is_outside(context, &item);
        if let Series::Occurrence { master, original_start } = &item.series {
            link.occurrence = Some((master.clone(), *original_start));
        }
        let pair = Pair { record: Seen::Gone, item: Seen::Present(Item { kind: link.kind, ..item }), at: now };
        let plan = self.task.decide_at(context, Some(&link), &Seen::Gone, &pair.item, now).await?;
        let Some(Action::CreateRecord { writes, .. }) = plan.steps.first().map(|step| &step.action) else {
            return refused(why(&plan));
        };
        link.base = intended(writes, Side::Espo);
        self.replace(old.as_ref(), &link).await?;
        Ok(self.carry(context, &link, pair, &plan, &Then::Keep).await?.entries)
    }

    /// The new link in place of the buried one, which holds an end that both would have.
    async fn replace(&self, old: Option<&Link>, new: &Link) -> Result<(), RevertError> {
        let transaction = self.app().store().begin().await?;
        if let Some(old) = old.filter(|old| old.id != new.id) {
            links::delete(&transaction, &old.id).await?;
        }
        links::save(&transaction, new, self.app().clock().now()).await?;
        transaction.commit().await.map_err(store::StoreError::from)?;
        Ok(())
    }

    async fn hint(&self, link: &Link) -> Result<(), RevertError> {
        let target = link.record_id.clone().map(|id| sync::Target::Record { kind: link.kind, id });
        Ok(crate::schedule::publish(self.app(), target, Cause::Revert, None).await?)
    }

    // What they share.

    fn look<T>(&self, context: &Context, link: &Link, pair: &Pair, then: impl FnOnce(&View<'_>) -> T) -> T {
        let outside = pair.item.present().map_or(link.outside, |item| is_outside(context, item));
        let record: Seen<Record> = match &pair.record {
            Seen::Present(fetched) => Seen::Present(record_as_seen(context, outside, fetched)),
            Seen::Gone => Seen::Gone,
            Seen::Unknown => Seen::Unknown,
        };
        let owner = context.owner();
        then(&View {
            link: Some(link),
            record: &record,
            item: &pair.item,
            owner: owner.as_ref(),
            rules: &context.rules,
            switched_on: true,
            bound: &context.bound,
            deletions: sync::Deletions::default(),
            grace: chrono::Duration::zero(),
            horizon: context.horizon(),
            now: pair.at,
        })
    }

    /// Carries a plan out, and stores link, history and the end of the reverted entry in one transaction.
    async fn carry(
        &self,
        context: &Context,
        link: &Link,
        pair: Pair,
        plan: &Plan,
        then: &Then,
    ) -> Result<Carried, RevertError> {
        let ends = Ends { record: pair.record.present(), item: pair.item.present() };
        let (mut outcomes, mut failure) = (Vec::new(), None);
        for step in &plan.steps {
            match execute(context, link, &ends, &step.action).await {
                Ok(Outcome::Refused(refusal)) => failure = Some(WorkError::Refused(refusal.sentence)),
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    outcomes.push(Outcome::Unsure);
                    failure = Some(error);
                }
            }
            if failure.is_some() || outcomes.last() == Some(&Outcome::Stale) {
                break;
            }
        }
        let is_stale = outcomes.contains(&Outcome::Stale);
        let mut next = self.look(context, link, &pair, |view| absorb(link.clone(), view, plan, &outcomes));
        // A revert is no party to a fight.
        (next.swings, next.frozen) = (link.swings.clone(), link.frozen.clone());
        next.outside = pair.item.present().map_or(link.outside, |item| is_outside(context, item));
        let created = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Record(_)));
        match then {
            Then::AwaitItem(since) if created => {
                next.state = LinkState::Creating { side: Side::Outlook, since: *since }
            }
            Then::Bury(since) if created => next.state = LinkState::Tombstone { since: *since },
            _ => {}
        }
        let mut entries = explain::entries(&self.task, context, link, &next, plan, &outcomes);
        for entry in &mut entries {
            entry.revert_of = Some(self.entry.id.clone());
        }
        let complete = failure.is_none() && !is_stale;
        self.store(&next, &entries, complete, matches!(then, Then::Forget) && complete).await?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if !is_stale && !next.is_buried() && !next.replicas.is_empty() {
            let record = outcomes.iter().find_map(|outcome| {
                if let Outcome::Record(record) = outcome { Some(record.as_ref().clone()) } else { None }
            });
            let record =
                record.or_else(|| pair.record.present().map(|fetched| record_as_seen(context, next.outside, fetched)));
            self.task.private_copies(context, &mut next, record.as_ref()).await?;
        }
        Ok(Carried { link: next, entries: entries.into_iter().map(|entry| entry.id).collect(), is_stale })
    }

    async fn store(&self, link: &Link, entries: &[Entry], complete: bool, forget: bool) -> Result<(), RevertError> {
        let transaction = self.app().store().begin().await?;
        if forget {
            links::delete(&transaction, &link.id).await?;
        } else {
            links::save(&transaction, link, self.app().clock().now()).await?;
        }
        if !entries.is_empty() {
            history::insert_many(&transaction, entries).await?;
        }
        if let Some(first) = entries.first().filter(|_| complete) {
            history::mark_reverted(&transaction, &self.entry.id, &first.id).await?;
            if let Some(original) = &self.entry.revert_of {
                // What it had taken back is in force again, and the rest of that revert is undone with it.
                history::unmark_reverted(&transaction, original).await?;
                for sibling in history::reverts_of(&transaction, original).await? {
                    history::mark_reverted(&transaction, &sibling.id, &first.id).await?;
                }
            }
        }
        transaction.commit().await.map_err(store::StoreError::from)?;
        Ok(())
    }
}

fn is_of(entry: &Entry, side: Side) -> bool {
    entry.direction == Direction::from(side)
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

/// Why the rules do not let something be brought back.
fn why(plan: &Plan) -> String {
    match &plan.verdict {
        Verdict::LeaveAlone(reason) | Verdict::Bury(reason) | Verdict::Hold(reason) => reason.to_string(),
        _ => "there is nothing to bring back".to_owned(),
    }
}
