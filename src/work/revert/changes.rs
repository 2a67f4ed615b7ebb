//! An update or a creation, taken back.

use store::history::{self, ChangeType, Entry};
use store::{links, switches};
use sync::{Link, LinkState, Obstacle, Plan, Seen, Side, Undo, Values};

use super::{Pair, ROUNDS, Revert, RevertError, Then, refused, undo};
use crate::work::context::Context;
use crate::work::error::WorkError;
use crate::work::execute::record_as_seen;
use crate::work::switch;

impl Revert<'_> {
    pub(super) async fn update(&self) -> Result<Vec<String>, RevertError> {
        let id = self.link_id().await?;
        let _lock = self.task.locks.acquire(format!("link:{id}")).await?;
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

    pub(super) async fn creation(&self) -> Result<Vec<String>, RevertError> {
        let id = self.link_id().await?;
        let _lock = self.task.locks.acquire(format!("link:{id}")).await?;
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
        store::insist(|| async {
            let transaction = self.app().store().begin_held().await?;
            links::save(&transaction, link, context.now()).await?;
            if let Some(record_id) = &link.record_id {
                switches::put(&transaction, link.kind, record_id, false, context.now()).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await?;
        self.task.private_copies(context, link, None).await?;
        if let Some(record_id) = link.record_id.as_ref().filter(|_| record_stays) {
            switch::turn(self.app(), context.acting(), link.kind, record_id, false).await?;
        }
        Ok(())
    }
}

fn is_of(entry: &Entry, side: Side) -> bool {
    entry.direction == history::Direction::from(side)
}
