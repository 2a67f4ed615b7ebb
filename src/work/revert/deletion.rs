//! A deletion, taken back: what was deleted is made anew, with new ids.

use espocrm::Fetched;
use store::links;
use sync::{Action, Cause, Item, Link, LinkState, Plan, Reason, Seen, Series, Side, Values, Verdict, Writes};

use super::{Pair, Revert, RevertError, Then, refused, undo};
use crate::work::context::Context;
use crate::work::error::{WorkError, sentence};
use crate::work::execute::record_as_seen;
use crate::work::items::{self, Place};
use crate::work::pair::{fingerprint_of, intended, is_outside, replica};
use crate::work::switch;

impl Revert<'_> {
    pub(super) async fn deletion(&self) -> Result<Vec<String>, RevertError> {
        let read = self.app().store().read();
        let Some(owner) = self.entry.user_id.clone() else { return refused("the entry does not say whose it was") };
        let context = Context::of(self.app(), Some(&owner)).await?;
        let zone = context.owner().map_or(chrono_tz::Tz::UTC, |owner| owner.zone);
        let projection = sync::Projection::new(zone, &context.rules);
        let writes = sync::revived(self.entry.kind, self.written(), &undo(&self.entry), &projection);
        let values: Values = writes.iter().map(|(field, write)| (field.clone(), write.value.clone())).collect();
        let fingerprint = fingerprint_of(&context, &owner, self.entry.kind, &values);
        // The locks of the workers, in their order: what is about to appear is met by nobody else.
        let _content = self.task.locks.acquire(format!("content:{fingerprint}")).await?;
        let old = self.entry.link_id.clone().unwrap_or_default();
        let _old = self.task.locks.acquire(format!("link:{old}")).await?;
        let _new = self.task.locks.acquire(format!("link:{}", self.entry.id)).await?;
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
        let replaced = store::insist(|| async {
            let transaction = self.app().store().begin_held().await?;
            if let Some(old) = old.filter(|old| old.id != new.id) {
                links::delete(&transaction, &old.id).await?;
            }
            links::save(&transaction, new, self.app().clock().now()).await?;
            Ok(transaction.commit().await?)
        });
        Ok(replaced.await?)
    }

    async fn hint(&self, link: &Link) -> Result<(), RevertError> {
        let target = link.record_id.clone().map(|id| sync::Target::Record { kind: link.kind, id });
        Ok(crate::schedule::publish(self.app(), target, Cause::Revert, None).await?)
    }
}

/// Why the rules do not let something be brought back.
fn why(plan: &Plan) -> String {
    match &plan.verdict {
        Verdict::LeaveAlone(reason) | Verdict::Bury(reason) | Verdict::Hold(reason) => reason.to_string(),
        _ => "there is nothing to bring back".to_owned(),
    }
}
