//! A mailbox by delta: what was touched since the last round becomes hints.
//!
//! The window of a delta link is frozen (Graph v1.0), so a link older than a day is given up for a new full round: the window
//! rolls. After a full round, which lists what exists and not what was deleted, linked items that it did not list are hinted
//! at, and the direct look says what became of them.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use graph::TouchedKind;
use serde::{Deserialize, Serialize};
use store::{bindings, cursors, links};
use sync::{Cause, Direction, Kind, Link, Series, Target};

use super::publish;
use crate::app::App;
use crate::work::context::{Context, mailbox, rules_of};
use crate::work::error::WorkError;

/// How long the window of a delta link is used.
const WINDOW_LIVES: TimeDelta = TimeDelta::days(1);
/// Graph shows at most 1,825 days of a calendar at once (learn.microsoft.com/graph/api/calendar-list-calendarview).
const SHOWN_AT_ONCE: TimeDelta = TimeDelta::days(1825);
/// Events that were over longer ago are not read again and again.
const LOOK_BACK: TimeDelta = TimeDelta::days(62);

/// Where a mailbox was left.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cursor {
    link: String,
    since: DateTime<Utc>,
}

fn cursor_name(user: &str) -> String {
    format!("delta:{user}")
}

/// Reads what was touched in a user's calendar and in the To Do list, where these kinds are synchronised.
///
/// # Errors
/// When the mailbox cannot be read; the round is done again next time.
pub async fn read_all(app: &App, user: &str, cause: Cause, job: Option<&str>) -> Result<u64, WorkError> {
    let events = read_delta(app, user, cause, job).await?;
    Ok(events + super::todo::read_delta(app, user, cause, job).await?)
}

/// Reads the delta of a user's calendar and hints at what differs from the links.
///
/// # Errors
/// When the mailbox cannot be read; the round is done again next time.
pub async fn read_delta(app: &App, user: &str, cause: Cause, job: Option<&str>) -> Result<u64, WorkError> {
    let read = app.store().read();
    let Some(binding) = bindings::by_user(read, user).await? else { return Ok(0) };
    if !binding.first_sync_done && cause != Cause::FirstSync {
        // Nothing that was there before is taken in ahead of the first synchronisation, which may be held.
        return Ok(0);
    }
    let rules = rules_of(app, Some(user)).await?;
    if [Kind::Meeting, Kind::Call].into_iter().all(|kind| rules.of(kind).direction == Direction::Disabled) {
        return Ok(0);
    }
    let mailbox = mailbox(app, &binding, &rules)?;
    let graph = app.connections().graph().ok_or(WorkError::NotConfigured("Microsoft"))?;
    let now = app.clock().now();
    let stored = cursors::get(read, &cursor_name(user)).await?;
    let cursor =
        stored.and_then(|text| serde_json::from_str::<Cursor>(&text).ok()).filter(|c| now - c.since < WINDOW_LIVES);
    let window = window(app, &binding, now, reach(cause));
    let full = cursor.is_none();
    let round = match graph.delta(&mailbox, cursor.as_ref().map(|c| c.link.as_str()), window).await {
        Err(graph::Error::ResyncNeeded) if !full => {
            tracing::info!(user.id = user, "the delta state was forgotten; a full round follows");
            cursors::delete(app.store().write(), &cursor_name(user)).await?;
            return Box::pin(read_delta(app, user, cause, job)).await;
        }
        round => round?,
    };
    let mut listed = BTreeSet::new();
    let mut targets = Vec::new();
    for touched in &round.items {
        listed.insert(touched.id.clone());
        let link = links::by_item(read, user, &touched.id).await?;
        let known = link.as_ref().and_then(|link| link.replicas.iter().find(|replica| replica.item_id == touched.id));
        let wanted = match known {
            Some(replica) => touched.removed || replica.etag.is_none() || replica.etag != touched.etag,
            None if touched.removed => !links::of_series(read, user, &touched.id).await?.is_empty(),
            // A series is expanded by its master; bare occurrences come along with it.
            None => touched.kind != TouchedKind::Occurrence || !full,
        };
        if wanted {
            targets.push(Target::Event { user: user.to_owned(), id: touched.id.clone() });
        }
    }
    if full {
        for item in graph.events_from(&mailbox, window.1).await? {
            if listed.insert(item.id.clone()) && links::by_item(read, user, &item.id).await?.is_none() {
                targets.push(Target::Event { user: user.to_owned(), id: item.id });
            }
        }
        targets.extend(missing(app, user, &listed, window, None).await?);
    }
    let count = targets.len() as u64;
    if let Some(job) = job {
        store::jobs::add_total(app.store().write(), job, count, false).await?;
    }
    publish(app, targets, cause, job).await?;
    let since = cursor.map_or(now, |cursor| cursor.since);
    let text = serde_json::to_string(&Cursor { link: round.delta_link, since }).unwrap_or_default();
    cursors::put(app.store().write(), &cursor_name(user), &text, now).await?;
    bindings::synced(app.store().write(), user, now).await?;
    Ok(count)
}

/// Hints at what differs from the links among a user's events of one kind, the whole window at once. The delta is left as it
/// is: it has still to tell of the other kind.
///
/// # Errors
/// When the mailbox cannot be read.
pub async fn read_kind(app: &App, user: &str, kind: Kind, cause: Cause, job: Option<&str>) -> Result<u64, WorkError> {
    let read = app.store().read();
    let context = Context::of(app, Some(user)).await?;
    let Some(binding) = context.binding.as_ref().filter(|binding| binding.first_sync_done) else { return Ok(0) };
    let mailbox = context.mailbox()?;
    let window = window(app, binding, context.now(), reach(cause));
    let mut items = context.graph.window(&mailbox, window.0, window.1).await?;
    items.extend(context.graph.events_from(&mailbox, window.1).await?);
    let (mut listed, mut targets) = (BTreeSet::new(), Vec::new());
    for item in items {
        let wanted = match links::by_item(read, user, &item.id).await? {
            Some(link) => {
                let replica = link.replicas.iter().find(|replica| replica.item_id == item.id);
                let is_known = replica.is_some_and(|replica| replica.etag.is_some() && replica.etag == item.etag);
                link.kind == kind && !is_known
            }
            None => item.series != Series::Master && context.kind_of(&item) == kind,
        };
        if listed.insert(item.id.clone()) && wanted {
            targets.push(Target::Event { user: user.to_owned(), id: item.id });
        }
    }
    targets.extend(missing(app, user, &listed, window, Some(kind)).await?);
    let count = targets.len() as u64;
    if let Some(job) = job {
        store::jobs::add_total(app.store().write(), job, count, false).await?;
    }
    publish(app, targets, cause, job).await?;
    bindings::synced(app.store().write(), user, context.now()).await?;
    Ok(count)
}

/// Forgets where a mailbox was left: the next round is a full one.
///
/// # Errors
/// When the database cannot be written.
pub async fn forget(app: &App, user: &str) -> Result<(), WorkError> {
    cursors::delete(app.store().write(), &cursor_name(user)).await?;
    Ok(())
}

/// How far back a mailbox is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the binding's start date.
    Whole,
    /// What was over long ago is known, and is left out.
    Recent,
}

/// What somebody asks for is looked at as a whole.
const fn reach(cause: Cause) -> Reach {
    match cause {
        Cause::FirstSync | Cause::Manual => Reach::Whole,
        _ => Reach::Recent,
    }
}

/// From the binding's start date to the horizon, as far as Graph shows it at once.
#[must_use]
pub fn window(
    app: &App,
    binding: &bindings::Binding,
    now: DateTime<Utc>,
    reach: Reach,
) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = binding.sync_from.and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::days(1);
    let end = now + TimeDelta::days(i64::from(app.config().sync.horizon_days));
    let first = match reach {
        Reach::Whole => end - SHOWN_AT_ONCE,
        Reach::Recent => now - LOOK_BACK,
    };
    (start.max(first), end)
}

/// Linked items of a mailbox inside the window that a full round did not list.
async fn missing(
    app: &App,
    user: &str,
    listed: &BTreeSet<String>,
    window: (DateTime<Utc>, DateTime<Utc>),
    only: Option<Kind>,
) -> Result<Vec<Target>, WorkError> {
    let mut targets = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = links::in_mailbox(app.store().read(), user, after.as_deref(), 500).await?;
        let Some(last) = page.last() else { return Ok(targets) };
        after = Some(last.id.clone());
        let of_kind = |link: &&Link| only.map_or(link.kind.is_event(), |kind| link.kind == kind);
        for link in page.iter().filter(of_kind).filter(|link| !link.is_buried() && starts_in(link, window)) {
            if let Some(replica) = link.replica_of(user).filter(|replica| !listed.contains(&replica.item_id)) {
                targets.push(Target::Event { user: user.to_owned(), id: replica.item_id.clone() });
            }
        }
    }
}

fn starts_in(link: &Link, (from, to): (DateTime<Utc>, DateTime<Utc>)) -> bool {
    let when = link.base.get(&sync::Field::Time).and_then(|agreed| agreed.outlook.as_when());
    when.and_then(sync::When::first_day).is_some_and(|day| {
        let start = day.and_time(chrono::NaiveTime::MIN).and_utc();
        start >= from && start <= to
    })
}
