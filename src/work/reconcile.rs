//! One pair, brought into step.
//!
//! The order is always the same: find the link (or what stands for one), hold its lock, read, decide, store the intent where
//! something is to be created, write, absorb, and store link, history and the end of the message in one transaction.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use store::bindings::BindingState;
use store::history::Entry;
use store::links;
use store::messages::Unit;
use store::settle::Settlement;
use sync::{
    Action, Answer, Cause, Field, Item, Link, LinkState, Owner, Plan, Reason, Record, Replica, ReplicaRole, Seen,
    ShownReminder, Side, View, decide,
};

use super::apply::Round;
use super::context::Context;
use super::copies;
use super::error::WorkError;
use super::execute::record_as_seen;
use super::files::{self, Depth};
use super::items::{self, Place};
use super::locks::Locks;
use super::pair::{LATE, as_seen, is_unchanged, moved, prepare, settled};
use crate::app::App;

/// How often both ends are read again because one of them changed while it was written.
const ROUNDS: usize = 4;

/// What came of a hint.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Both ends are as they should be, or were left alone for a reason.
    Idle(Option<Reason>),
    /// The hint is older than the last look, or tells of our own write: nothing was looked at.
    Old,
    /// Something was written: what, per step.
    Wrote(Vec<Written>),
    /// A deletion waits for its grace.
    Later(DateTime<Utc>),
    /// An administrator has to decide.
    Held(Reason),
    /// The hint named a series: these occurrences are to be looked at.
    Series(Vec<String>),
}

/// What kind of write was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Something was created.
    Created,
    /// Something was changed.
    Updated,
    /// Something was deleted.
    Deleted,
}

/// A hint while it is worked on.
pub struct Task<'a> {
    /// The service.
    pub app: &'a App,
    /// Locks of this process.
    pub locks: &'a Locks,
    /// Why.
    pub cause: Cause,
    /// When the last of the hints was received.
    pub received: DateTime<Utc>,
    /// The version that the hint named.
    pub version: Option<String>,
    /// The reminder that the hint showed.
    pub reminder: Option<ShownReminder>,
    /// The messages that end with it.
    pub unit: Option<&'a Ending<'a>>,
    /// Others of the same mailbox are in hand beside it, and none is in a hurry.
    pub in_bulk: bool,
}

/// Messages that end with the look for which they asked: in the transaction that stores what came of it.
pub struct Ending<'a> {
    /// The messages.
    pub unit: &'a Unit,
    ended: AtomicBool,
}

impl<'a> Ending<'a> {
    /// They are in hand.
    #[must_use]
    pub const fn new(unit: &'a Unit) -> Self {
        Self { unit, ended: AtomicBool::new(false) }
    }

    /// True when they have been ended already.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Task<'_> {
    /// A linked pair. `hinted` is the side that the hint named: when nothing has changed there, the other is not read.
    pub(super) async fn linked(&self, link: &str, hinted: Option<Side>) -> Result<Report, WorkError> {
        let _lock = self.locks.acquire(format!("link:{link}")).await?;
        match links::by_id(self.app.store().read(), link).await? {
            Some(link) => self.locked(link, hinted).await,
            None => Ok(Report::Idle(None)),
        }
    }

    /// Stores a link and what was done, and ends the messages with it where they are dealt with, in one transaction.
    pub(super) async fn settle(
        &self,
        link: &Link,
        entries: &[Entry],
        (finished, wrote): (bool, bool),
    ) -> Result<(), WorkError> {
        let ending = self.unit.filter(|_| finished);
        let in_step = ending.and_then(|ending| {
            let newest = ending.unit.newest()?;
            Some((super::handle::targets_of(&newest.target, Some(link)), newest.received))
        });
        let settlement = Settlement {
            link: Some(link.clone()),
            entries: entries.to_vec(),
            ends: ending.map(|ending| ending.unit.end()),
            in_step,
            synced: (ending.is_some() && wrote).then(|| link.owner.clone()),
            ..Settlement::at(self.app.clock().now())
        };
        self.app.store().settle(settlement).await?;
        if let Some(ending) = ending {
            ending.ended.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What is at hand for a user.
    pub(super) async fn context(&self, user: &str) -> Result<Context, WorkError> {
        Ok(Context { in_bulk: self.in_bulk, ..Context::of(self.app, Some(user)).await? })
    }

    pub(super) async fn locked(&self, mut link: Link, hinted: Option<Side>) -> Result<Report, WorkError> {
        if link.is_buried() {
            return Ok(Report::Idle(Some(Reason::Buried)));
        }
        let context = self.context(&link.owner).await?;
        if context.binding.as_ref().is_some_and(|binding| binding.enabled && binding.state != BindingState::Active) {
            context.mailbox()?;
        }
        for _ in 0..ROUNDS {
            let now = context.now();
            let (record, item) = self.read(&context, &mut link, hinted, now).await?;
            let (Some(record), Some(mut item)) = (record, item) else { return Ok(Report::Idle(None)) };
            if let Seen::Present(master) = &item
                && master.series == sync::Series::Master
            {
                item =
                    self.became_series(&context, &mut link, &master.clone()).await?.map_or(Seen::Gone, Seen::Present);
            }
            if item == Seen::Gone && self.hand_over(&context, &mut link).await? {
                return Box::pin(self.locked(link, None)).await;
            }
            if let Some(owner) = moved(&context, &link, &record) {
                match self.bring_along(&context, &link, (&record, &item), now).await? {
                    Some(next) => link = *next,
                    None => return self.reassign(&context, link, &item, owner).await,
                }
                continue;
            }
            if record == Seen::Unknown || item == Seen::Unknown {
                let side = if record == Seen::Unknown { Side::Espo } else { Side::Outlook };
                return Ok(Report::Idle(Some(Reason::CannotSee { side })));
            }
            let seen_record = as_seen(&context, &link, &item, &record);
            let plan = self.decide_at(&context, Some(&link), &seen_record, &item, now).await?;
            let fetched = if let Seen::Present(fetched) = record { Some(fetched) } else { None };
            prepare(&mut link, &plan, now);
            let is_update =
                |step: &sync::Step| matches!(step.action, Action::UpdateItem { .. } | Action::UpdateRecord { .. });
            if plan.steps.iter().any(|step| !is_update(step)) {
                links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
            } else if !plan.steps.is_empty() {
                links::save_lightly(self.app.store(), &link, self.app.clock().now()).await?;
            }
            let item = if let Seen::Present(item) = item { Some(item) } else { None };
            match self.try_out(&context, link.clone(), fetched, item, plan, now).await? {
                Round::Done(report) => return Ok(report),
                Round::Again(next) => link = *next,
            }
        }
        Err(WorkError::Restless)
    }

    /// The copy of a meeting organised outside was deleted by the one whose copy was followed, who has declined by that: from
    /// now on that of another attendee is followed. False when there is none.
    async fn hand_over(&self, context: &Context, link: &mut Link) -> Result<bool, WorkError> {
        if !link.outside || link.state != LinkState::Live {
            return Ok(false);
        }
        let follows = |replica: &Replica| {
            let active = |binding: &store::bindings::Binding| {
                binding.user_id == replica.user && binding.enabled && binding.state == BindingState::Active
            };
            replica.role == ReplicaRole::Attendee && context.bindings.iter().any(active)
        };
        let Some(next) = link.replicas.iter_mut().find(|replica| follows(replica)) else { return Ok(false) };
        next.role = ReplicaRole::Master;
        let before = std::mem::replace(&mut link.owner, next.user.clone());
        link.replicas.retain(|replica| replica.user != before);
        if let Some(address) = context.address() {
            link.answers.insert(address, Answer::Declined);
        }
        tracing::info!(link.id = link.id, from = before, to = link.owner, "the copy of another attendee is followed");
        links::save_alone(self.app.store(), link, context.now()).await?;
        Ok(true)
    }

    /// What was edited in the mailbox that is about to lose the master copy: the record takes it along. None when there is
    /// nothing to take.
    async fn bring_along(
        &self,
        context: &Context,
        link: &Link,
        (record, item): (&Seen<Fetched>, &Seen<Item>),
        now: DateTime<Utc>,
    ) -> Result<Option<Box<Link>>, WorkError> {
        let (Seen::Present(fetched), Seen::Present(present)) = (record, item) else { return Ok(None) };
        let mut plan = self.decide_at(context, Some(link), &as_seen(context, link, item, record), item, now).await?;
        // The old copy goes: to write to it would only send mail.
        plan.steps.retain(|step| matches!(step.action, Action::UpdateRecord { .. }));
        if plan.steps.is_empty() {
            return Ok(None);
        }
        let mut link = link.clone();
        prepare(&mut link, &plan, now);
        links::save_alone(self.app.store(), &link, now).await?;
        let task = Task { unit: None, version: self.version.clone(), reminder: self.reminder.clone(), ..*self };
        match task.try_out(context, link.clone(), Some(fetched.clone()), Some(present.clone()), plan, now).await? {
            Round::Again(next) => Ok(Some(next)),
            Round::Done(_) => Ok(links::by_id(self.app.store().read(), &link.id).await?.map(Box::new)),
        }
    }

    /// The record was given to somebody else: the master copy moves to that mailbox, or goes when there is none.
    async fn reassign(
        &self,
        context: &Context,
        mut link: Link,
        item: &Seen<Item>,
        owner: String,
    ) -> Result<Report, WorkError> {
        let now = context.now();
        tracing::info!(link.id = link.id, from = link.owner, to = owner, "a record was reassigned");
        if let Seen::Present(item) = item {
            items::delete(context, item).await?;
        }
        link.replicas.retain(|replica| replica.role == ReplicaRole::Private);
        self.private_copies(context, &mut link, None).await?;
        let next = Context::of(self.app, Some(&owner)).await?;
        if next.owner().is_none_or(|owner| !owner.active) {
            // Whoever gets it next starts anew.
            links::delete_alone(self.app.store(), &link.id).await?;
            return Ok(Report::Wrote(vec![Written::Deleted]));
        }
        link.owner = owner;
        link.ical_uid = None;
        link.answers.clear();
        link.base.clear();
        // Nothing has been sent for this intent, so nothing can be under way.
        link.state = LinkState::Creating { side: Side::Outlook, since: now - LATE };
        links::save_alone(self.app.store(), &link, now).await?;
        Box::pin(self.locked(link, None)).await
    }

    /// Reads the ends: the hinted one first. None, when nothing has changed there and the other need not be read.
    async fn read(
        &self,
        context: &Context,
        link: &mut Link,
        hinted: Option<Side>,
        now: DateTime<Utc>,
    ) -> Result<(Option<Seen<Fetched>>, Option<Seen<Item>>), WorkError> {
        let quick = matches!(link.state, LinkState::Live);
        if quick && hinted == Some(Side::Espo) {
            let record = self.record_with_files(context, link).await?;
            if let Seen::Present(fetched) = &record
                && is_unchanged(link, Side::Espo, &record_as_seen(context, link.outside, fetched).values)
                && fetched.record.owner.as_deref() == Some(&link.owner)
                && link.switched_off == (fetched.record.switch == Some(false))
            {
                link.record_modified = Some(fetched.record.modified);
                link.record_read = Some(now);
                link.note_files(Side::Espo, &fetched.record.values);
                self.settle(link, &[], (true, false)).await?;
                return Ok((None, None));
            }
            return Ok((Some(record), Some(self.item_with_files(context, link).await?)));
        }
        let item = self.item_with_files(context, link).await?;
        if item == Seen::Gone {
            settled(context, link, Side::Outlook)?;
        }
        if quick
            && hinted == Some(Side::Outlook)
            && let Seen::Present(item) = &item
            && item.series != sync::Series::Master
            && is_unchanged(link, Side::Outlook, &sync::masked(item, &context.rules))
        {
            if let Some(replica) = link.replicas.iter_mut().find(|replica| replica.item_id == item.id) {
                replica.etag.clone_from(&item.etag);
            }
            link.item_read = Some(now);
            link.note_files(Side::Outlook, &item.values);
            self.settle(link, &[], (true, false)).await?;
            return Ok((None, None));
        }
        let record = self.record_with_files(context, link).await?;
        if record == Seen::Gone {
            settled(context, link, Side::Espo)?;
        }
        Ok((Some(record), Some(item)))
    }

    async fn record_with_files(&self, context: &Context, link: &mut Link) -> Result<Seen<Fetched>, WorkError> {
        let mut seen = self.read_record(context, link).await?;
        if let Seen::Present(fetched) = &mut seen {
            files::of_record(context, Some(link), fetched, Depth::Read).await?;
        }
        Ok(seen)
    }

    async fn item_with_files(&self, context: &Context, link: &Link) -> Result<Seen<Item>, WorkError> {
        let mut seen = self.read_item(context, link).await?;
        if let Seen::Present(item) = &mut seen {
            files::of_item(context, Some(link), item, Depth::Read).await?;
        }
        Ok(seen)
    }

    pub(super) async fn read_record(&self, context: &Context, link: &mut Link) -> Result<Seen<Fetched>, WorkError> {
        let (client, schema) = (&context.espo.client, &context.schema);
        if let Some(id) = &link.record_id {
            let mut seen = client.record(schema, link.kind, id, context.acting()).await?;
            if let Seen::Present(fetched) = &mut seen {
                self.show_reminder(fetched, Some(link));
            }
            return Ok(seen);
        }
        // The intent to create it is stored; the request may have arrived.
        if let Some(fetched) = client.find_by_marker(schema, link.kind, &link.id).await? {
            link.record_id = Some(fetched.record.id.clone());
            return Ok(Seen::Present(fetched));
        }
        let LinkState::Creating { since, .. } = link.state else { return Ok(Seen::Unknown) };
        match self.equal_record(context, link, Some(since)).await? {
            Some(fetched) => {
                link.record_id = Some(fetched.record.id.clone());
                Ok(Seen::Present(fetched))
            }
            None => Ok(Seen::Gone),
        }
    }

    /// Without an administrator's account a reminder is only known from the hint that the owner's own edit gave rise to. That there
    /// is none says something only where there was one: everything that is made in Outlook has none in EspoCRM.
    pub(super) fn show_reminder(&self, fetched: &mut Fetched, link: Option<&Link>) {
        let Some(shown) = &self.reminder else { return };
        if shown.minutes.is_some() || link.is_some_and(|link| link.base.contains_key(&Field::Reminder)) {
            fetched.show_reminder(shown);
        }
    }

    pub(super) async fn read_item(&self, context: &Context, link: &Link) -> Result<Seen<Item>, WorkError> {
        match link.replicas.iter().find(|replica| replica.user == link.owner) {
            Some(replica) => {
                let place = Place { list: replica.list.as_deref(), id: &replica.item_id };
                let mut seen = items::read(context, place, Some(link)).await?;
                if let Seen::Present(item) = &mut seen {
                    copies::with_answers(link, item);
                }
                Ok(seen)
            }
            None => items::by_marker(context, link).await,
        }
    }

    pub(super) async fn decide(
        &self,
        context: &Context,
        link: Option<&Link>,
        record: &Seen<Record>,
        item: &Seen<Item>,
    ) -> Result<Plan, WorkError> {
        self.decide_at(context, link, record, item, context.now()).await
    }

    /// Asks the core. What it needs from the database is looked up only where it matters.
    /// # Errors
    /// When the database cannot be read.
    pub async fn decide_at(
        &self,
        context: &Context,
        link: Option<&Link>,
        record: &Seen<Record>,
        item: &Seen<Item>,
        now: DateTime<Utc>,
    ) -> Result<Plan, WorkError> {
        let read = self.app.store().read();
        let switched_on =
            match (record.present(), link.and_then(|link| link.record_id.as_deref().map(|id| (link.kind, id)))) {
                (Some(record), _) => store::switches::is_enabled(read, record.kind, &record.id).await?,
                (None, Some((kind, id))) => store::switches::is_enabled(read, kind, id).await?,
                (None, None) => true,
            };
        let one_gone = matches!((record, item), (Seen::Gone, Seen::Present(_)) | (Seen::Present(_), Seen::Gone));
        let deletions = match link {
            Some(link) if one_gone => super::brake::deletions(self.app, link, now).await?,
            _ => sync::Deletions::default(),
        };
        let grace = chrono::Duration::from_std(self.app.config().sync.deletion_grace).unwrap_or_default();
        let owner = context
            .owner()
            .map(|owner| Owner { taking_in: owner.taking_in || self.cause == Cause::FirstSync, ..owner });
        Ok(decide(&View {
            link,
            record,
            item,
            owner: owner.as_ref(),
            rules: &context.rules,
            switched_on,
            bound: &context.bound,
            deletions,
            grace,
            horizon: context.horizon(),
            now,
        }))
    }
}
