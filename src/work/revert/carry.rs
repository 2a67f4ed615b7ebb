//! What all reverts share: the look at a pair, and a plan that is carried out with the end of the reverted entry.

use store::history::{self, Entry};
use store::links;
use sync::{Link, LinkState, Outcome, Plan, Record, Seen, Side, View, absorb};

use super::{Carried, Pair, Revert, RevertError, Then};
use crate::work::context::Context;
use crate::work::error::WorkError;
use crate::work::execute::{Ends, execute, record_as_seen};
use crate::work::explain;
use crate::work::notes;
use crate::work::pair::is_outside;

impl Revert<'_> {
    pub(super) fn look<T>(&self, context: &Context, link: &Link, pair: &Pair, then: impl FnOnce(&View<'_>) -> T) -> T {
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
    pub(super) async fn carry(
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
        let shown = pair.record.present().map(|fetched| record_as_seen(context, next.outside, fetched));
        let seen = (shown.as_ref(), pair.item.present());
        let mut entries = explain::entries(&self.task, context, link, &next, plan, (&outcomes, seen));
        for entry in &mut entries {
            entry.revert_of = Some(self.entry.id.clone());
        }
        let complete = failure.is_none() && !is_stale;
        self.store(&next, &entries, complete, matches!(then, Then::Forget) && complete).await?;
        notes::post(context, &entries).await;
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
        let stored = store::insist(|| async {
            let transaction = self.app().store().begin_held().await?;
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
            Ok(transaction.commit().await?)
        });
        Ok(stored.await?)
    }
}
