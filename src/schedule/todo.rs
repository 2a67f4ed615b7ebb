//! A To Do list by delta: what was touched since the last round becomes hints.
//!
//! Facts (learn.microsoft.com/graph): a delta over a list of tasks has no window; a task that was moved to another list is
//! removed here and new there; lifecycle notifications `missed` do not exist for tasks, so the list is read at every sweep.
//! Nowhere is it said that a round tells of a task which came and went since the one before, so what a sweep does not find in
//! the list though we made it since then is looked at directly; and once a day the list is read from scratch.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use store::{bindings, cursors, links};
use sync::{Cause, Direction, Kind, Target};

use super::publish;
use crate::app::App;
use crate::work::context::{mailbox, rules_of};
use crate::work::error::WorkError;
use crate::work::items;

/// How long a list is read by differences alone.
const ROUNDS_LIVE: TimeDelta = TimeDelta::days(1);

/// Where a list was left.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cursor {
    link: String,
    /// When the list was read from scratch.
    since: DateTime<Utc>,
    /// When it was read last.
    read: DateTime<Utc>,
}

fn cursor_name(user: &str, list: &str) -> String {
    format!("todo:{user}:{list}")
}

/// Reads the delta of a user's To Do list and hints at what differs from the links.
///
/// # Errors
/// When the list cannot be read; the round is done again next time.
pub async fn read_delta(app: &App, user: &str, cause: Cause, job: Option<&str>) -> Result<u64, WorkError> {
    let read = app.store().read();
    let Some(binding) = bindings::by_user(read, user).await? else { return Ok(0) };
    let rules = rules_of(app, Some(user)).await?;
    let ready = binding.first_sync_done || cause == Cause::FirstSync;
    if !ready || rules.of(Kind::Task).direction == Direction::Disabled {
        return Ok(0);
    }
    let graph = app.connections().graph().ok_or(WorkError::NotConfigured("Microsoft"))?;
    let mailbox = mailbox(app, &binding, &rules)?;
    let list = items::list_of(app, &graph, binding.todo_list, &mailbox).await?;
    let name = cursor_name(user, &list);
    let now = app.clock().now();
    let stored = cursors::get(read, &name).await?;
    let cursor =
        stored.and_then(|text| serde_json::from_str::<Cursor>(&text).ok()).filter(|c| now - c.since < ROUNDS_LIVE);
    let round = match graph.task_delta(&mailbox, &list, cursor.as_ref().map(|c| c.link.as_str())).await {
        Err(graph::Error::ResyncNeeded) if cursor.is_some() => {
            tracing::info!(user.id = user, "the delta state of the tasks was forgotten; a full round follows");
            cursors::delete(app.store().write(), &name).await?;
            return Box::pin(read_delta(app, user, cause, job)).await;
        }
        round => round?,
    };
    let mut listed = BTreeSet::new();
    let mut targets = Vec::new();
    for touched in round.items {
        listed.insert(touched.id.clone());
        let known = links::by_item(read, user, &touched.id).await?;
        let known = known.as_ref().and_then(|link| link.replicas.iter().find(|replica| replica.item_id == touched.id));
        let wanted = match known {
            Some(replica) => touched.removed || replica.etag.is_none() || replica.etag != touched.etag,
            None => !touched.removed,
        };
        if wanted {
            targets.push(Target::Todo { user: user.to_owned(), list: list.clone(), id: touched.id });
        }
    }
    if cursor.is_none() || cause != Cause::Poll {
        let since = cursor.as_ref().map(|cursor| cursor.read);
        targets.extend(missing(app, user, &list, &listed, since).await?);
    }
    let count = targets.len() as u64;
    if let Some(job) = job {
        store::jobs::add_total(app.store().write(), job, count, false).await?;
    }
    publish(app, targets, cause, job).await?;
    let since = cursor.map_or(now, |cursor| cursor.since);
    let text = serde_json::to_string(&Cursor { link: round.delta_link, since, read: now }).unwrap_or_default();
    cursors::put(app.store().write(), &name, &text, now).await?;
    Ok(count)
}

/// Forgets where the lists of a user were left: the next round is a full one.
///
/// # Errors
/// When the database cannot be written.
pub async fn forget(app: &App, user: &str) -> Result<(), WorkError> {
    cursors::delete_starting_with(app.store().write(), &format!("todo:{user}:")).await?;
    Ok(())
}

/// Linked tasks of a list that a round did not list; of a round that told differences, those brought into step since the
/// round before.
async fn missing(
    app: &App,
    user: &str,
    list: &str,
    listed: &BTreeSet<String>,
    since: Option<DateTime<Utc>>,
) -> Result<Vec<Target>, WorkError> {
    let mut targets = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = links::in_mailbox(app.store().read(), user, after.as_deref(), 500).await?;
        let Some(last) = page.last() else { return Ok(targets) };
        after = Some(last.id.clone());
        let fresh = |link: &&sync::Link| since.is_none_or(|since| link.reconciled.is_none_or(|at| at >= since));
        for link in page.iter().filter(|link| link.kind == Kind::Task && !link.is_buried()).filter(fresh) {
            let copy = link
                .replica_of(user)
                .filter(|copy| copy.list.as_deref() == Some(list) && !listed.contains(&copy.item_id));
            if let Some(copy) = copy {
                targets.push(Target::Todo { user: user.to_owned(), list: list.to_owned(), id: copy.item_id.clone() });
            }
        }
    }
}
