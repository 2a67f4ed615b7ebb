//! One pair, brought into step.
//!
//! The order is always the same: find the link (or what stands for one), hold its lock, read, decide, store the intent where
//! something is to be created, write, absorb, and store link, history and the end of the message in one transaction.

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use store::bindings::BindingState;
use store::links;
use sync::{
    Action, Agreed, Base, Cause, Field, Item, Kind, Link, LinkState, Outcome, Owner, Plan, Reason, Record, Replica,
    ReplicaRole, Role, Seen, Series, Side, Value, Verdict, View, absorb, decide,
};

use super::context::Context;
use super::copies;
use super::error::WorkError;
use super::execute::record_as_seen;
use super::execute::{Ends, execute};
use super::files::{self, Depth};
use super::items::{self, Place};
use super::locks::Locks;
use super::relink;
use crate::app::App;

/// How late a request may arrive that was under way when the process ended or the connection broke.
const LATE: chrono::TimeDelta = chrono::TimeDelta::seconds(3);
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
    /// The messages that end with it.
    pub unit: Option<&'a store::messages::Unit>,
}

impl Task<'_> {
    /// A hint at a record.
    ///
    /// # Errors
    /// See [`WorkError`].
    pub async fn record(&self, kind: Kind, id: &str) -> Result<Report, WorkError> {
        let read = self.app.store().read();
        if let Some(link) = links::by_record(read, kind, id).await? {
            // A deletion waits for its grace: its hint is older than the look that found it.
            if link.state == LinkState::Live && link.record_read.is_some_and(|at| at > self.received) {
                return Ok(Report::Old);
            }
            return self.linked(&link.id, Some(Side::Espo)).await;
        }
        let _record = self.locks.acquire(format!("record:{kind}:{id}")).await;
        let context = Context::of(self.app, None).await?;
        let fetched = match context.espo.client.record(&context.schema, kind, id, espocrm::Acting::Connector).await? {
            Seen::Present(fetched) => fetched,
            Seen::Gone | Seen::Unknown => return Ok(Report::Idle(None)),
        };
        let Some(owner) = fetched.record.owner.clone() else { return Ok(Report::Idle(Some(Reason::NotBound))) };
        let context = Context::of(self.app, Some(&owner)).await?;
        let fetched = self.as_owner(&context, fetched).await?;
        let fingerprint = fingerprint_of(&context, &owner, kind, &fetched.record.values);
        let _content = self.locks.acquire(format!("content:{fingerprint}")).await;
        if let Some(link) = links::by_record(read, kind, id).await? {
            return self.linked(&link.id, Some(Side::Espo)).await;
        }
        for link in links::by_fingerprint_creating(read, &fingerprint).await? {
            if link.record_id.is_none() && link.kind == kind {
                return self.adopt_record(&link, id).await;
            }
        }
        self.take_in_record(&context, fetched, &owner, fingerprint).await
    }

    /// Reads a record once more as its owner, whose reminders only he can see.
    async fn as_owner(&self, context: &Context, fetched: Fetched) -> Result<Fetched, WorkError> {
        let acting = context.acting();
        if acting == espocrm::Acting::Connector || context.binding.is_none() {
            return Ok(fetched);
        }
        let again =
            context.espo.client.record(&context.schema, fetched.record.kind, &fetched.record.id, acting).await?;
        Ok(if let Seen::Present(again) = again { again } else { fetched })
    }

    async fn adopt_record(&self, link: &Link, id: &str) -> Result<Report, WorkError> {
        let _lock = self.locks.acquire(format!("link:{}", link.id)).await;
        let Some(mut link) = links::by_id(self.app.store().read(), &link.id).await? else {
            return Ok(Report::Idle(None));
        };
        if link.record_id.is_none() {
            link.record_id = Some(id.to_owned());
            links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        }
        self.locked(link, Some(Side::Espo)).await
    }

    /// A record without a link: matched with an equal item, or given a new one, or left alone.
    async fn take_in_record(
        &self,
        context: &Context,
        fetched: Fetched,
        owner: &str,
        fingerprint: String,
    ) -> Result<Report, WorkError> {
        if context.binding.as_ref().is_some_and(|binding| binding.enabled && binding.state != BindingState::Active) {
            // It waits for the sign-in rather than being passed over.
            context.mailbox()?;
        }
        let record = Seen::Present(fetched.record.clone());
        let plan = self.decide(context, None, &record, &Seen::Unknown).await?;
        let Some(Action::CreateItem { .. }) = plan.steps.first().map(|step| &step.action) else {
            return Ok(Report::Idle(left_alone(&plan)));
        };
        if let Some(link) = self.lost_record(context, &fetched).await? {
            return self.linked(&link, None).await;
        }
        let now = context.now();
        let lost = self.lost(fetched.record.marker.as_ref()).await?;
        let id = lost.clone().unwrap_or_else(|| self.app.ids().next());
        let mut link = Link::intent(id, fetched.record.kind, owner.to_owned(), Side::Outlook, fingerprint, now);
        link.record_id = Some(fetched.record.id.clone());
        if let Some(item) = self.equal_item(context, &fetched.record, &link.fingerprint).await? {
            tracing::info!(record.id = fetched.record.id, item.id = item.id, "matched by equal content");
            link.replicas = vec![replica(&item, &link.owner)];
            links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
            return self.linked(&link.id, None).await;
        }
        if lost.is_some() {
            return Ok(Report::Idle(Some(Reason::Unpaired { missing: Side::Outlook })));
        }
        let (mut fetched, mut plan) = (fetched, plan);
        if fetched.record.kind == Kind::Task {
            files::of_record(context, None, &mut fetched, Depth::Read).await?;
            plan = self.decide(context, None, &Seen::Present(fetched.record.clone()), &Seen::Unknown).await?;
        }
        let Some(Action::CreateItem { writes }) = plan.steps.first().map(|step| &step.action) else {
            return Ok(Report::Idle(left_alone(&plan)));
        };
        link.base = intended(writes, Side::Outlook);
        links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        let _lock = self.locks.acquire(format!("link:{}", link.id)).await;
        self.carry_out(context, link, Some(fetched), None, plan).await
    }

    /// The marker of a pair that this database has lost: a second end must not be made for it.
    async fn lost(&self, marker: Option<&String>) -> Result<Option<String>, WorkError> {
        match marker {
            Some(marker) if relink::is_lost(self.app, marker).await? => Ok(Some(marker.clone())),
            _ => Ok(None),
        }
    }

    /// An item of the same title, start and end in the owner's mailbox that no link has yet.
    async fn equal_item(
        &self,
        context: &Context,
        record: &Record,
        fingerprint: &str,
    ) -> Result<Option<Item>, WorkError> {
        let Some(when) = record.values.get(&Field::Time).and_then(Value::as_when) else { return Ok(None) };
        let planned = matches!(self.cause, Cause::FirstSync | Cause::Manual | Cause::Sweep | Cause::Replay);
        if record.kind == Kind::Task && !planned {
            // To Do cannot be asked for one day: the whole list is read where whole mailboxes are compared, and only there.
            return Ok(None);
        }
        for item in items::at(context, record.kind, when).await? {
            let free = item.series != Series::Master
                && !copies::is_copy(&item)
                && links::by_item(self.app.store().read(), &item.user, &item.id).await?.is_none();
            let same = fingerprint_of(context, &item.user, record.kind, &item.values) == fingerprint;
            if free && same && context.kind_of(&item) == record.kind && self.is_unclaimed(&item).await? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// False for a copy of an event that has a link by another copy, and for one whose marker names a link that still waits
    /// for it.
    async fn is_unclaimed(&self, item: &Item) -> Result<bool, WorkError> {
        let read = self.app.store().read();
        if let Some(uid) = &item.ical_uid
            && !links::by_ical_uid(read, uid).await?.is_empty()
        {
            return Ok(false);
        }
        match &item.marker {
            Some(marker) => Ok(links::by_id(read, marker).await?.is_none_or(|link| !link.replicas.is_empty())),
            None => Ok(true),
        }
    }

    /// A hint at an event or a To Do task in a user's mailbox.
    ///
    /// # Errors
    /// See [`WorkError`].
    pub async fn item(&self, user: &str, place: Place<'_>) -> Result<Report, WorkError> {
        let (read, id) = (self.app.store().read(), place.id);
        if let Some(link) = links::by_item(read, user, id).await? {
            let known = link.replicas.iter().find(|replica| replica.user == user && replica.item_id == id);
            let is_live = link.state == LinkState::Live;
            let echo = is_live && self.version.is_some() && known.is_some_and(|replica| replica.etag == self.version);
            let read_since = is_live && link.item_read.is_some_and(|at| at > self.received);
            let foreign = known.is_some_and(|replica| replica.role != ReplicaRole::Master);
            if echo || read_since {
                return Ok(Report::Old);
            }
            if foreign {
                return self.copy(&link.id, user, place).await;
            }
            return self.linked(&link.id, Some(Side::Outlook)).await;
        }
        let _item = self.locks.acquire(format!("item:{user}:{id}")).await;
        let context = Context::of(self.app, Some(user)).await?;
        let item = match items::read(&context, place, None).await? {
            Seen::Present(item) => item,
            Seen::Gone => return Ok(Report::Series(self.known_of_series(user, id).await?)),
            Seen::Unknown => return Ok(Report::Idle(None)),
        };
        if item.series == Series::Master {
            return self.expand(&context, &context.mailbox()?, &item).await;
        }
        if copies::is_copy(&item) {
            return Ok(Report::Idle(None));
        }
        if let Some(report) = self.known_otherwise(&item).await? {
            return Ok(report);
        }
        if let Some(marker) = self.lost(item.marker.as_ref()).await?
            && let Some(link) = self.lost_item(&context, &item, &marker).await?
        {
            return self.linked(&link, None).await;
        }
        let item = Item { kind: context.kind_of(&item), ..item };
        let fingerprint = fingerprint_of(&context, user, item.kind, &item.values);
        let _content = self.locks.acquire(format!("content:{fingerprint}")).await;
        if let Some(link) = links::by_item(read, user, id).await? {
            return self.linked(&link.id, Some(Side::Outlook)).await;
        }
        self.take_in_item(&context, item, fingerprint).await
    }

    /// The occurrences of a series inside the horizon, and those that have a link already.
    async fn expand(&self, context: &Context, mailbox: &graph::Mailbox, master: &Item) -> Result<Report, WorkError> {
        let from = context
            .owner()
            .map_or_else(|| context.now(), |owner| owner.start_date.and_time(chrono::NaiveTime::MIN).and_utc());
        let from = from.max(context.now() - chrono::Duration::days(31));
        let instances = context.graph.instances(mailbox, &master.id, from, context.horizon()).await?;
        let mut ids: Vec<String> = instances.into_iter().map(|item| item.id).collect();
        for id in self.known_of_series(&master.user, &master.id).await? {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(Report::Series(ids))
    }

    /// The occurrences of a series that have a link.
    async fn known_of_series(&self, user: &str, series: &str) -> Result<Vec<String>, WorkError> {
        let known = links::of_series(self.app.store().read(), user, series).await?;
        Ok(known.iter().filter_map(|link| link.replica_of(user)).map(|replica| replica.item_id.clone()).collect())
    }

    /// An item that is known by its marker, or as the copy of an event in another mailbox.
    async fn known_otherwise(&self, item: &Item) -> Result<Option<Report>, WorkError> {
        let read = self.app.store().read();
        if let Some(marker) = &item.marker
            && let Some(link) = links::by_id(read, marker).await?
            && link.replicas.is_empty()
            && link.owner == item.user
        {
            // What a crash, or a lost answer, left unrecorded.
            return self.attach(&link.id, item).await.map(Some);
        }
        if let Some(uid) = &item.ical_uid {
            for link in links::by_ical_uid(read, uid).await? {
                if link.replica_of(&item.user).is_none() {
                    return self.attach(&link.id, item).await.map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Adds a copy to a link. The owner's own copy is brought into step, others' are only known from then on.
    async fn attach(&self, link: &str, item: &Item) -> Result<Report, WorkError> {
        let _lock = self.locks.acquire(format!("link:{link}")).await;
        let Some(mut link) = links::by_id(self.app.store().read(), link).await? else { return Ok(Report::Idle(None)) };
        if link.replica_of(&item.user).is_none() {
            link.replicas.push(replica(item, &link.owner));
            links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        }
        if link.owner == item.user { self.locked(link, None).await } else { Ok(Report::Idle(None)) }
    }

    /// An item without a link: matched with an equal record, or given a new one, or left alone.
    async fn take_in_item(&self, context: &Context, item: Item, fingerprint: String) -> Result<Report, WorkError> {
        let seen = Seen::Present(item.clone());
        let plan = self.decide(context, None, &Seen::Unknown, &seen).await?;
        let Some(Action::CreateRecord { kind, writes }) = plan.steps.first().map(|step| &step.action) else {
            return Ok(Report::Idle(left_alone(&plan)));
        };
        let now = context.now();
        let lost = self.lost(item.marker.as_ref()).await?;
        let id = lost.clone().unwrap_or_else(|| self.app.ids().next());
        let mut link = Link::intent(id, *kind, item.user.clone(), Side::Espo, fingerprint, now);
        link.replicas = vec![replica(&item, &item.user)];
        link.ical_uid.clone_from(&item.ical_uid);
        link.outside = is_outside(context, &item);
        if let Series::Occurrence { master, original_start } = &item.series {
            link.occurrence = Some((master.clone(), *original_start));
        }
        link.base = intended(writes, Side::Espo);
        if let Some(fetched) = self.equal_record(context, &link, None).await? {
            tracing::info!(record.id = fetched.record.id, item.id = item.id, "matched by equal content");
            link.record_id = Some(fetched.record.id);
            link.base = Base::new();
            links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
            return self.linked(&link.id, None).await;
        }
        if lost.is_some() {
            return Ok(Report::Idle(Some(Reason::Unpaired { missing: Side::Espo })));
        }
        let (mut item, mut plan) = (item, plan);
        if item.kind == Kind::Task {
            files::of_item(context, None, &mut item, Depth::Read).await?;
            plan = self.decide(context, None, &Seen::Unknown, &Seen::Present(item.clone())).await?;
        }
        links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        let _lock = self.locks.acquire(format!("link:{}", link.id)).await;
        self.carry_out(context, link, None, Some(item), plan).await
    }

    /// A record of the title, time and owner that `link` intends, without a link of its own.
    async fn equal_record(
        &self,
        context: &Context,
        link: &Link,
        since: Option<DateTime<Utc>>,
    ) -> Result<Option<Fetched>, WorkError> {
        let (Some(title), Some(time)) = (link.base.get(&Field::Title), link.base.get(&Field::Time)) else {
            return Ok(None);
        };
        let (Some(title), Some(when)) = (title.espo.as_text(), time.espo.as_when()) else { return Ok(None) };
        let oldest = since.unwrap_or_default();
        let found =
            context.espo.client.find_created(&context.schema, link.kind, &link.owner, title, when, oldest).await?;
        for fetched in found {
            if links::by_record(self.app.store().read(), link.kind, &fetched.record.id).await?.is_none() {
                return Ok(Some(fetched));
            }
        }
        Ok(None)
    }

    /// A record that the connector's own user has made since the intent and that has the intended title or time, when a person
    /// has changed the other since.
    async fn made_by_us(
        &self,
        context: &Context,
        link: &Link,
        since: DateTime<Utc>,
    ) -> Result<Option<Fetched>, WorkError> {
        let me = context.espo.me().await?;
        let made = context.espo.client.created_by(&context.schema, link.kind, &link.owner, &me.id, since).await?;
        let intended = |fetched: &Fetched, field: &Field| {
            link.base.get(field).is_some_and(|agreed| fetched.record.values.get(field) == Some(&agreed.espo))
        };
        for fetched in made {
            let ours = intended(&fetched, &Field::Title) || intended(&fetched, &Field::Time);
            if ours && links::by_record(self.app.store().read(), link.kind, &fetched.record.id).await?.is_none() {
                return Ok(Some(fetched));
            }
        }
        Ok(None)
    }

    /// A linked pair. `hinted` is the side that the hint named: when nothing has changed there, the other is not read.
    async fn linked(&self, link: &str, hinted: Option<Side>) -> Result<Report, WorkError> {
        let _lock = self.locks.acquire(format!("link:{link}")).await;
        match links::by_id(self.app.store().read(), link).await? {
            Some(link) => self.locked(link, hinted).await,
            None => Ok(Report::Idle(None)),
        }
    }

    pub(super) async fn locked(&self, mut link: Link, hinted: Option<Side>) -> Result<Report, WorkError> {
        if link.is_buried() {
            return Ok(Report::Idle(Some(Reason::Buried)));
        }
        let context = Context::of(self.app, Some(&link.owner)).await?;
        if context.binding.as_ref().is_some_and(|binding| binding.enabled && binding.state != BindingState::Active) {
            context.mailbox()?;
        }
        for _ in 0..ROUNDS {
            let now = context.now();
            let (record, item) = self.read(&context, &mut link, hinted, now).await?;
            let (Some(record), Some(item)) = (record, item) else { return Ok(Report::Idle(None)) };
            if let Some(owner) = moved(&context, &link, &record) {
                return self.reassign(&context, link, &item, owner).await;
            }
            if record == Seen::Unknown || item == Seen::Unknown {
                let side = if record == Seen::Unknown { Side::Espo } else { Side::Outlook };
                return Ok(Report::Idle(Some(Reason::CannotSee { side })));
            }
            let seen_record = as_seen(&context, &link, &item, &record);
            let plan = self.decide_at(&context, Some(&link), &seen_record, &item, now).await?;
            let fetched = if let Seen::Present(fetched) = record { Some(fetched) } else { None };
            prepare(&mut link, &plan, now);
            if !plan.steps.is_empty() {
                links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
            }
            let item = if let Seen::Present(item) = item { Some(item) } else { None };
            match self.try_out(&context, link.clone(), fetched, item, plan, now).await? {
                Round::Done(report) => return Ok(report),
                Round::Again(next) => link = *next,
            }
        }
        Err(WorkError::Restless)
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
            links::delete(self.app.store().write(), &link.id).await?;
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
            {
                link.record_modified = Some(fetched.record.modified);
                link.record_read = Some(now);
                link.note_files(Side::Espo, &fetched.record.values);
                links::save_alone(self.app.store(), link, now).await?;
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
            && is_unchanged(link, Side::Outlook, &item.values)
        {
            if let Some(replica) = link.replicas.iter_mut().find(|replica| replica.item_id == item.id) {
                replica.etag.clone_from(&item.etag);
            }
            link.item_read = Some(now);
            link.note_files(Side::Outlook, &item.values);
            links::save_alone(self.app.store(), link, now).await?;
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
            return Ok(client.record(schema, link.kind, id, context.acting()).await?);
        }
        // The intent to create it is stored; the request may have arrived.
        if let Some(fetched) = client.find_by_marker(schema, link.kind, &link.id).await? {
            link.record_id = Some(fetched.record.id.clone());
            return Ok(Seen::Present(fetched));
        }
        let LinkState::Creating { since, .. } = link.state else { return Ok(Seen::Unknown) };
        let found = match self.equal_record(context, link, Some(since)).await? {
            Some(fetched) => Some(fetched),
            None => self.made_by_us(context, link, since).await?,
        };
        match found {
            Some(fetched) => {
                link.record_id = Some(fetched.record.id.clone());
                Ok(Seen::Present(fetched))
            }
            None => Ok(Seen::Gone),
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

    /// Executes a plan whose first write creates the missing end.
    async fn carry_out(
        &self,
        context: &Context,
        link: Link,
        record: Option<Fetched>,
        item: Option<Item>,
        plan: Plan,
    ) -> Result<Report, WorkError> {
        let id = link.id.clone();
        match self.try_out(context, link, record, item, plan, context.now()).await? {
            Round::Done(report) => Ok(report),
            Round::Again(link) => {
                tracing::debug!(link.id = id, "an end changed while the other was created");
                Box::pin(self.locked(*link, None)).await
            }
        }
    }

    async fn try_out(
        &self,
        context: &Context,
        link: Link,
        record: Option<Fetched>,
        item: Option<Item>,
        plan: Plan,
        now: DateTime<Utc>,
    ) -> Result<Round, WorkError> {
        let mut outcomes = Vec::new();
        let mut failure = None;
        for step in &plan.steps {
            let ends = Ends { record: record.as_ref(), item: item.as_ref() };
            match execute(context, &link, &ends, &step.action).await {
                Ok(outcome) => {
                    let stop = matches!(outcome, Outcome::Stale);
                    outcomes.push(outcome);
                    if stop {
                        break;
                    }
                }
                Err(error) => {
                    outcomes.push(Outcome::Unsure);
                    failure = Some(error);
                    break;
                }
            }
        }
        let outside = item.as_ref().map_or(link.outside, |item| is_outside(context, item));
        let seen = |fetched: &Fetched| Seen::Present(record_as_seen(context, outside, fetched));
        let seen_record = record.as_ref().map_or(gone_or_unknown(&link, Side::Espo), seen);
        let seen_item = item.map_or(gone_or_unknown(&link, Side::Outlook), Seen::Present);
        let owner = context.owner();
        let view = View {
            link: Some(&link),
            record: &seen_record,
            item: &seen_item,
            owner: owner.as_ref(),
            rules: &context.rules,
            switched_on: true,
            bound: &context.bound,
            deletions: sync::Deletions::default(),
            grace: chrono::Duration::zero(),
            horizon: now,
            now,
        };
        let stale = outcomes.contains(&Outcome::Stale);
        let refused = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        let mut next = absorb(link.clone(), &view, &plan, &outcomes);
        next.outside = outside;
        if failure.is_some() || refused {
            forget_version(&mut next, seen_item.present());
        }
        let entries = super::explain::entries(self, context, &link, &next, &plan, &outcomes);
        let report = report(&plan, &outcomes);
        // Private copies are written after this: the message ends when they are.
        let copies = context.rules.attendees == sync::Attendees::None && next.kind.is_event();
        let finished = failure.is_none() && !stale && !refused && !copies && !matches!(report, Report::Later(_));
        self.store(&next, entries, finished).await?;
        if let Some(error) = failure {
            return Err(error);
        }
        if !stale {
            self.private_copies(context, &mut next, seen_record.present()).await?;
        }
        if let Some(Outcome::Refused(refusal)) = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Refused(_)))
        {
            return Err(WorkError::Refused(refusal.sentence.clone()));
        }
        Ok(if stale { Round::Again(Box::new(next)) } else { Round::Done(report) })
    }

    /// Link, history and the end of the message, in one transaction.
    async fn store(&self, link: &Link, entries: Vec<store::history::Entry>, finished: bool) -> Result<(), WorkError> {
        let transaction = self.app.store().begin().await?;
        links::save(&transaction, link, self.app.clock().now()).await?;
        if !entries.is_empty() {
            store::history::insert_many(&transaction, &entries).await?;
        }
        if let Some(unit) = self.unit.filter(|_| finished) {
            store::messages::finish(&transaction, unit, self.app.clock().now()).await?;
        }
        transaction.commit().await.map_err(store::StoreError::from)?;
        Ok(())
    }

    async fn decide(
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
            Some(link) if one_gone => super::handle::deletions(self.app, &link.owner, now).await?,
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

enum Round {
    Done(Report),
    Again(Box<Link>),
}

/// What was seen of an item has not been dealt with: a hint at that version is no echo when it is tried again.
fn forget_version(link: &mut Link, item: Option<&Item>) {
    for replica in link.replicas.iter_mut().filter(|replica| item.is_some_and(|item| item.id == replica.item_id)) {
        replica.etag = None;
    }
}

/// What the link says of an end that was not there: gone where it was known, else not looked at.
const fn gone_or_unknown<T>(link: &Link, side: Side) -> Seen<T> {
    match (&link.state, side) {
        (LinkState::Creating { side: Side::Espo, .. }, Side::Espo)
        | (LinkState::Creating { side: Side::Outlook, .. }, Side::Outlook) => Seen::Unknown,
        _ => Seen::Gone,
    }
}

/// The record as the core is to see it beside the item.
fn as_seen(context: &Context, link: &Link, item: &Seen<Item>, record: &Seen<Fetched>) -> Seen<Record> {
    let outside = item.present().map_or(link.outside, |item| is_outside(context, item));
    match record {
        Seen::Present(fetched) => Seen::Present(record_as_seen(context, outside, fetched)),
        Seen::Gone => Seen::Gone,
        Seen::Unknown => Seen::Unknown,
    }
}

/// A request that was sent before a crash may arrive after we have looked: only after a while is "not there" believed.
fn settled(context: &Context, link: &Link, gone: Side) -> Result<(), WorkError> {
    let LinkState::Creating { side, since } = link.state else { return Ok(()) };
    if side != gone {
        return Ok(());
    }
    let left = since + LATE - context.now();
    match left.to_std() {
        Ok(after) if !after.is_zero() => Err(WorkError::TooEarly { after }),
        _ => Ok(()),
    }
}

/// The new owner of a record that was given to somebody else, where the move may be made.
fn moved(context: &Context, link: &Link, record: &Seen<Fetched>) -> Option<String> {
    let owner = record.present()?.record.owner.clone()?;
    let ours = link.state == LinkState::Live && !link.outside && link.occurrence.is_none();
    (owner != link.owner && ours && context.rules.of(link.kind).direction.allows_to(Side::Outlook)).then_some(owner)
}

/// True for a copy of an event that nobody bound organises.
pub(super) fn is_outside(context: &Context, item: &Item) -> bool {
    matches!(&item.role, Role::Attendee { organizer } if !context.bound.contains(&sync::text::address(organizer)))
}

/// Turns the link into the intent of what the plan is going to create or change.
fn prepare(link: &mut Link, plan: &Plan, now: DateTime<Utc>) {
    for step in &plan.steps {
        let side = step.action.side();
        if let Action::UpdateItem { writes } | Action::UpdateRecord { writes } = &step.action {
            link.base.extend(plan.agreed.clone());
            let sent = link.sent.entry(side).or_default();
            sent.extend(intended(writes, side));
            // Of what is written on both sides (participants), neither write alone brings about what is to be agreed.
            sent.retain(|field, _| !is_written_to(plan, side.other(), field));
        }
        let (Action::CreateItem { writes } | Action::CreateRecord { writes, .. }) = &step.action else { continue };
        if matches!(link.state, LinkState::Creating { side: known, .. } if known == side) {
            continue;
        }
        link.state = LinkState::Creating { side, since: now };
        link.base = intended(writes, side);
        match side {
            Side::Espo => link.record_id = None,
            Side::Outlook => link.replicas.retain(|replica| replica.user != link.owner),
        }
    }
}

fn is_written_to(plan: &Plan, side: Side, field: &Field) -> bool {
    plan.steps
        .iter()
        .any(|step| step.action.side() == side && step.action.writes().is_some_and(|writes| writes.contains_key(field)))
}

/// What is going to be written, as a base: after a crash it tells what was edited since from what we wrote.
pub(super) fn intended(writes: &sync::Writes, target: Side) -> Base {
    let pair = |(field, write): (&Field, &sync::Write)| {
        let agreed = match target {
            Side::Espo => Agreed { espo: write.value.clone(), outlook: write.source.clone() },
            Side::Outlook => Agreed { espo: write.source.clone(), outlook: write.value.clone() },
        };
        (field.clone(), agreed)
    };
    // Files come one by one: which of them a crash has left is told by their contents alone.
    writes.iter().filter(|(field, _)| **field != Field::Attachments).map(pair).collect()
}

/// True when every value is the one that was agreed last.
#[must_use]
pub fn is_unchanged(link: &Link, side: Side, values: &sync::Values) -> bool {
    values.iter().all(|(field, value)| match link.base.get(field) {
        Some(agreed) => agreed.on(side) == value,
        // A field that the other side does not show has no base.
        None => {
            matches!(field, Field::Reminder | Field::Location | Field::Importance)
                || value.as_files().is_some_and(sync::Files::is_empty)
                // A pair that was configured later and has nothing to say.
                || (matches!(field, Field::Extra(_)) && sync::is_blank(value))
        }
    })
}

pub(super) fn replica(item: &Item, owner: &str) -> Replica {
    let role = if item.user == owner { ReplicaRole::Master } else { ReplicaRole::Attendee };
    Replica {
        user: item.user.clone(),
        item_id: item.id.clone(),
        list: item.list.clone(),
        role,
        etag: item.etag.clone(),
        written: None,
    }
}

/// The fingerprint of an end in its owner's zone and under the owner's rules.
#[must_use]
pub fn fingerprint_of(context: &Context, owner: &str, kind: Kind, values: &sync::Values) -> String {
    let title = values.get(&Field::Title).and_then(Value::as_text).unwrap_or_default();
    let when = values.get(&Field::Time).and_then(Value::as_when);
    let zone = context.owner().map_or(chrono_tz::Tz::UTC, |owner| owner.zone);
    sync::fingerprint(owner, kind, title, when, &sync::Projection::new(zone, &context.rules))
}

fn left_alone(plan: &Plan) -> Option<Reason> {
    match &plan.verdict {
        Verdict::LeaveAlone(reason) | Verdict::Bury(reason) => Some(reason.clone()),
        _ => None,
    }
}

fn report(plan: &Plan, outcomes: &[Outcome]) -> Report {
    match &plan.verdict {
        Verdict::Wait { until, .. } => return Report::Later(*until),
        Verdict::Hold(reason) => return Report::Held(reason.clone()),
        _ => {}
    }
    let written: Vec<Written> = plan
        .steps
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| {
            matches!(outcome, Outcome::Record(_) | Outcome::Item(_) | Outcome::Deleted | Outcome::Answered)
        })
        .map(|(step, _)| match step.action {
            Action::CreateItem { .. } | Action::CreateRecord { .. } => Written::Created,
            Action::UpdateItem { .. } | Action::UpdateRecord { .. } | Action::Respond { .. } => Written::Updated,
            Action::DeleteItem | Action::DeleteRecord => Written::Deleted,
        })
        .collect();
    if written.is_empty() { Report::Idle(left_alone(plan)) } else { Report::Wrote(written) }
}
