//! An end without a link: matched with the other end where that exists, given a new one, or left alone for a reason.
//!
//! An unlinked end is taken in under the lock of its content, which the other end shares: a record and an item that are one
//! and the same come here one after the other, and the second finds what the first has made. So do the copies of one event in
//! several mailboxes, under the lock of its iCalUId.

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use store::bindings::BindingState;
use store::links;
use sync::{
    Action, Base, Cause, Field, Item, Kind, Link, LinkState, Reason, Record, ReplicaRole, Seen, Series, Side, Value,
};

use super::context::Context;
use super::copies;
use super::error::WorkError;
use super::files::{self, Depth};
use super::items::{self, Place};
use super::pair::{fingerprint_of, intended, is_outside, left_alone, replica};
use super::reconcile::{Report, Task};
use super::relink;

impl Task<'_> {
    /// A hint at a record.
    ///
    /// # Errors
    /// See [`WorkError`].
    pub async fn record(&self, kind: Kind, id: &str) -> Result<Report, WorkError> {
        let read = self.app.store().read();
        if let Some(link) = links::by_record(read, kind, id).await? {
            if link.may_return(Side::Espo) || link.was_not_held() {
                return self.restored_record(link, id).await;
            }
            // A deletion waits for its grace: its hint is older than the look that found it.
            let read_since = link.state == LinkState::Live && link.record_read.is_some_and(|at| at > self.received);
            if read_since && !self.shows_more(&link).await? {
                return Ok(Report::Old);
            }
            return self.linked(&link.id, Some(Side::Espo)).await;
        }
        let _record = self.locks.acquire(format!("record:{kind}:{id}")).await?;
        // What is told after this moment may not have been seen, however long the rest takes.
        let read_at = self.app.clock().now();
        // The hint may tell whose it is: read as that user, it need not be read again.
        let told = self.unit.map(|ending| ending.unit.lane.as_str());
        let context = Context::of(self.app, told).await?;
        let mut fetched = match context.espo.client.record(&context.schema, kind, id, context.acting()).await? {
            Seen::Present(fetched) => fetched,
            Seen::Gone | Seen::Unknown => return Ok(Report::Idle(None)),
        };
        self.show_reminder(&mut fetched, None);
        let Some(owner) = fetched.record.owner.clone() else { return Ok(Report::Idle(Some(Reason::NotBound))) };
        let is_told = context.binding.as_ref().is_some_and(|binding| binding.user_id == owner);
        let (context, fetched) = if is_told {
            (context, fetched)
        } else {
            let context = Context::of(self.app, Some(&owner)).await?;
            let fetched = self.as_owner(&context, fetched).await?;
            (context, fetched)
        };
        let fingerprint = fingerprint_of(&context, &owner, kind, &fetched.record.values);
        let _content = self.locks.acquire(format!("content:{fingerprint}")).await?;
        if let Some(link) = links::by_record(read, kind, id).await? {
            return self.linked(&link.id, Some(Side::Espo)).await;
        }
        for link in links::by_fingerprint_creating(read, &fingerprint).await? {
            if link.record_id.is_none() && link.kind == kind {
                return self.adopt_record(&link, id).await;
            }
        }
        self.take_in_record(&context, (fetched, read_at), &owner, fingerprint).await
    }

    /// True when the hint shows a reminder that no look could have seen.
    async fn shows_more(&self, link: &Link) -> Result<bool, WorkError> {
        let Some(shown) = &self.reminder else { return Ok(false) };
        let known = link.base.get(&Field::Reminder).map(|base| &base.espo);
        let by_another = shown.by.as_ref().is_some_and(|by| *by != link.owner);
        let says_nothing =
            by_another || known.map_or(shown.minutes.is_none(), |known| *known == Value::Reminder(shown.minutes));
        Ok(!says_nothing && self.context(&link.owner).await?.acting() == espocrm::Acting::Connector)
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

    /// A record that was deleted together with its item: when it is there again, somebody has restored it. So it is with one
    /// whose event was cancelled because it was not held, when it is to be held again.
    async fn restored_record(&self, link: Link, id: &str) -> Result<Report, WorkError> {
        let context = Context::of(self.app, Some(&link.owner)).await?;
        let acting = espocrm::Acting::Connector;
        if let Seen::Present(fetched) = context.espo.client.record(&context.schema, link.kind, id, acting).await?
            && (link.may_return(Side::Espo) || link.is_planned_again(&fetched.record.values))
        {
            tracing::info!(link.id = link.id, record.id = id, "a record is there again");
            self.forget(&link).await?;
            return Box::pin(self.record(link.kind, id)).await;
        }
        Ok(Report::Idle(Some(Reason::Buried)))
    }

    /// An item that was deleted together with its record: when it is there again and has been touched since, somebody has
    /// restored it, or made its series longer.
    async fn restored_item(&self, link: Link, user: &str, place: Place<'_>) -> Result<Report, WorkError> {
        let context = Context::of(self.app, Some(user)).await?;
        let LinkState::Tombstone { since } = link.state else { return Ok(Report::Idle(None)) };
        match items::read(&context, place, None).await? {
            Seen::Present(item) if item.modified > since => {
                tracing::info!(link.id = link.id, item.id = item.id, "a deleted item is there again");
                self.forget(&link).await?;
                Box::pin(self.item(user, place)).await
            }
            _ => Ok(Report::Idle(Some(Reason::Buried))),
        }
    }

    /// Takes a tombstone away.
    async fn forget(&self, link: &Link) -> Result<(), WorkError> {
        let _lock = self.locks.acquire(format!("link:{}", link.id)).await?;
        let forgotten = store::insist(|| async {
            let transaction = self.app.store().begin_held().await?;
            if links::by_id(&transaction, &link.id).await?.is_some_and(|link| link.is_buried()) {
                links::delete(&transaction, &link.id).await?;
            }
            Ok(transaction.commit().await?)
        });
        Ok(forgotten.await?)
    }

    async fn adopt_record(&self, link: &Link, id: &str) -> Result<Report, WorkError> {
        let _lock = self.locks.acquire(format!("link:{}", link.id)).await?;
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
        (fetched, read_at): (Fetched, DateTime<Utc>),
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
        let _lock = self.locks.acquire(format!("link:{}", link.id)).await?;
        self.carry_out(context, link, (Some(fetched), None, read_at), plan).await
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
            if link.may_return(Side::Outlook) && link.owner == user {
                return self.restored_item(link, user, place).await;
            }
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
        let _item = self.locks.acquire(format!("item:{user}:{id}")).await?;
        let context = self.context(user).await?;
        let read_at = context.now();
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
        // Copies of one event in several mailboxes are told of at the same time: one of them makes the link, the others find it.
        let _event = match &item.ical_uid {
            Some(uid) => Some(self.locks.acquire(format!("event:{uid}")).await?),
            None => None,
        };
        if let Some(report) = self.no_series_any_more(&item).await? {
            return Ok(report);
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
        let _content = self.locks.acquire(format!("content:{fingerprint}")).await?;
        if let Some(link) = links::by_item(read, user, id).await? {
            return self.linked(&link.id, Some(Side::Outlook)).await;
        }
        self.take_in_item(&context, (item, read_at), fingerprint).await
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
        let _lock = self.locks.acquire(format!("link:{link}")).await?;
        let Some(mut link) = links::by_id(self.app.store().read(), link).await? else { return Ok(Report::Idle(None)) };
        if link.replica_of(&item.user).is_none() {
            link.replicas.push(replica(item, &link.owner));
            if link.is_buried() && self.is_declined_only(&mut link).await? {
                // The organizer has invited once more.
                link.state = LinkState::Live;
                link.owner.clone_from(&item.user);
                link.replicas = vec![replica(item, &item.user)];
                link.answers.clear();
            }
            links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        }
        if link.owner == item.user { self.locked(link, None).await } else { Ok(Report::Idle(None)) }
    }

    /// True for the tombstone of a meeting organised outside whose record is there still: its owner had declined.
    async fn is_declined_only(&self, link: &mut Link) -> Result<bool, WorkError> {
        if !link.outside || link.record_id.is_none() {
            return Ok(false);
        }
        let context = Context::of(self.app, Some(&link.owner)).await?;
        Ok(matches!(self.read_record(&context, link).await?, Seen::Present(_)))
    }

    /// An item without a link: matched with an equal record, or given a new one, or left alone.
    async fn take_in_item(
        &self,
        context: &Context,
        (item, read_at): (Item, DateTime<Utc>),
        fingerprint: String,
    ) -> Result<Report, WorkError> {
        let seen = Seen::Present(item.clone());
        let plan = self.decide(context, None, &Seen::Unknown, &seen).await?;
        let Some(Action::CreateRecord { kind, writes }) = plan.steps.first().map(|step| &step.action) else {
            return Ok(Report::Idle(left_alone(&plan)));
        };
        let now = context.now();
        let lost = self.lost(item.marker.as_ref().filter(|_| !relink::is_copied(&item))).await?;
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
        let _lock = self.locks.acquire(format!("link:{}", link.id)).await?;
        self.carry_out(context, link, (None, Some(item), read_at), plan).await
    }

    /// A record of the title, time and owner that `link` intends, without a link of its own.
    pub(super) async fn equal_record(
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
}
