//! Series: a master is no record itself, each of its occurrences inside the horizon is one.
//!
//! An event may become a series, and a series one event again: Outlook keeps the id for the master. The record that was there
//! stays, as the first occurrence or as the single event.

use chrono::{DateTime, Duration, NaiveTime, Utc};
use store::links;
use sync::{Cause, Field, Item, Link, Series, Side, Value, When};

use super::context::Context;
use super::error::WorkError;
use super::reconcile::{Report, Task};
use crate::app::App;

/// Occurrences of a known series that were over longer ago are not looked at again and again.
const LOOK_BACK: Duration = Duration::days(62);
/// Graph expands at most 1,825 days at once (learn.microsoft.com/graph/api/calendar-list-calendarview).
const EXPANDED_AT_ONCE: Duration = Duration::days(1825);

impl Task<'_> {
    /// The occurrences of a series from the binding's start date to the horizon, and those that have a link already.
    pub(super) async fn expand(
        &self,
        context: &Context,
        mailbox: &graph::Mailbox,
        master: &Item,
    ) -> Result<Report, WorkError> {
        let known = self.known_of_series(&master.user, &master.id).await?;
        let instances = self.instances(context, mailbox, &master.id, known.is_empty()).await?;
        let mut ids: Vec<String> = instances.into_iter().map(|item| item.id).collect();
        ids.extend(known.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
        Ok(Report::Series(ids))
    }

    async fn instances(
        &self,
        context: &Context,
        mailbox: &graph::Mailbox,
        master: &str,
        is_new: bool,
    ) -> Result<Vec<Item>, WorkError> {
        let (now, horizon) = (context.now(), context.horizon());
        let start = context.owner().map_or(now, |owner| owner.start_date.and_time(NaiveTime::MIN).and_utc());
        let whole = is_new || matches!(self.cause, Cause::FirstSync | Cause::Manual);
        let from = if whole { start.max(horizon - EXPANDED_AT_ONCE) } else { start.max(now - LOOK_BACK) };
        Ok(context.graph.instances(mailbox, master, from, horizon).await?)
    }

    /// The occurrences of a series that have a link.
    pub(super) async fn known_of_series(&self, user: &str, series: &str) -> Result<Vec<String>, WorkError> {
        let known = links::of_series(self.app.store().read(), user, series).await?;
        Ok(known.iter().filter_map(|link| link.replica_of(user)).map(|replica| replica.item_id.clone()).collect())
    }

    /// A linked single event that has become a series: its record becomes the occurrence of the same start. None when the series
    /// has no such occurrence, so that the event that was linked exists no more.
    pub(super) async fn became_series(
        &self,
        context: &Context,
        link: &mut Link,
        master: &Item,
    ) -> Result<Option<Item>, WorkError> {
        let agreed = link.base.get(&Field::Time).and_then(|agreed| start_of(agreed.on(Side::Outlook)));
        let wanted = agreed.or_else(|| master.values.get(&Field::Time).and_then(start_of));
        let instances = self.instances(context, &context.mailbox()?, &master.id, true).await?;
        let occurrence = instances.into_iter().find(|item| item.values.get(&Field::Time).and_then(start_of) == wanted);
        let Some(occurrence) = occurrence else { return Ok(None) };
        tracing::info!(link.id = link.id, series = master.id, item.id = occurrence.id, "an event became a series");
        rekey(link, &occurrence);
        links::save_alone(self.app.store(), link, self.app.clock().now()).await?;
        // The others are to be found by the master, which has no link any more.
        let target = sync::Target::Event { user: master.user.clone(), id: master.id.clone() };
        crate::schedule::publish(self.app, [target], self.cause, None).await?;
        Ok(Some(occurrence))
    }

    /// A single event that was a series: the record of the occurrence that it stands for becomes its record, the others are gone.
    pub(super) async fn no_series_any_more(&self, item: &Item) -> Result<Option<Report>, WorkError> {
        if item.series != Series::Single {
            return Ok(None);
        }
        let known = links::of_series(self.app.store().read(), &item.user, &item.id).await?;
        if known.is_empty() {
            return Ok(None);
        }
        let start = item.values.get(&Field::Time).and_then(start_of);
        let at = |link: &Link| link.base.get(&Field::Time).and_then(|agreed| start_of(agreed.on(Side::Outlook)));
        let (mut kept, mut others) = (None, Vec::new());
        for link in known {
            if kept.is_none() && !link.is_buried() && at(&link) == start {
                kept = Some(link);
            } else {
                others.extend(link.replica_of(&item.user).map(|replica| replica.item_id.clone()));
            }
        }
        if let Some(link) = kept {
            tracing::info!(link.id = link.id, item.id = item.id, "a series became one event");
            let _lock = self.locks.acquire(format!("link:{}", link.id)).await?;
            if let Some(mut link) = links::by_id(self.app.store().read(), &link.id).await? {
                rekey(&mut link, item);
                links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
                Box::pin(self.locked(link, None)).await?;
            }
            return Ok(Some(Report::Series(others)));
        }
        publish(self.app, &item.user, others, self.cause).await?;
        Ok(None)
    }
}

async fn publish(app: &App, user: &str, ids: Vec<String>, cause: Cause) -> Result<(), WorkError> {
    let targets = ids.into_iter().map(|id| sync::Target::Event { user: user.to_owned(), id });
    crate::schedule::publish(app, targets, cause, None).await
}

/// The owner's copy is that item from now on.
fn rekey(link: &mut Link, item: &Item) {
    for replica in link.replicas.iter_mut().filter(|replica| replica.user == item.user) {
        replica.item_id.clone_from(&item.id);
        replica.etag = None;
    }
    link.ical_uid.clone_from(&item.ical_uid);
    link.occurrence = match &item.series {
        Series::Occurrence { master, original_start } => Some((master.clone(), *original_start)),
        Series::Single | Series::Repeating | Series::Master => None,
    };
}

fn start_of(value: &Value) -> Option<DateTime<Utc>> {
    match value.as_when()? {
        When::Timed { start, .. } => Some(*start),
        When::AllDay { first, .. } => Some(first.and_time(NaiveTime::MIN).and_utc()),
        When::Due { .. } => None,
    }
}
