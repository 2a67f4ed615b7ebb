//! Deletions that wait for a word: how many there are, the hold that is raised for them, and what becomes of them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use store::holds::{self, HoldKind, HoldState};
use sync::{Cause, Deletions, LinkState, Reason, Target};

use super::error::WorkError;
use super::handle::target_of;
use crate::app::App;
use crate::schedule::preview::Line;

/// At most so many deletions are told one by one.
const LINES: usize = 100;
/// Deletions of a user within this time are looked at together.
const TOGETHER: TimeDelta = TimeDelta::minutes(10);
/// What is found so soon after a hold was confirmed belongs to it.
const ON_ITS_WAY: TimeDelta = TimeDelta::minutes(1);

/// Raises a hold for the deletions of a user, once.
pub(super) async fn raise(app: &App, user: &str, reason: &Reason) -> Result<(), WorkError> {
    // Many deletions come at once, to several workers: each would find no hold, and raise its own.
    let _alone = app.locks().acquire(format!("hold:{user}")).await?;
    let now = app.clock().now();
    let waiting = waiting(app, user, now).await?;
    let lines: Vec<Line> = waiting.values().filter_map(Line::deletion).take(LINES).collect();
    let summary = json!({ "reason": reason.to_string(), "deletes": waiting.len(), "lines": lines });
    let write = app.store().write();
    match holds::latest(write, user, HoldKind::MassDeletion).await? {
        Some(hold) if hold.state == HoldState::Open => {
            holds::restate(write, &hold.id, &summary).await?;
        }
        _ => {
            tracing::warn!(user.id = user, %reason, "a hold was raised");
            holds::open(write, &app.ids().next(), HoldKind::MassDeletion, user, &summary, now).await?;
        }
    }
    Ok(())
}

/// The deletions of a user that wait together: those of the last ten minutes, or since ten minutes before the open hold. What
/// is confirmed and only still to be carried out does not count. Of a deleted series there is one, however many occurrences it
/// had.
async fn waiting(app: &App, user: &str, now: DateTime<Utc>) -> Result<BTreeMap<String, sync::Link>, WorkError> {
    let hold = holds::latest(app.store().read(), user, HoldKind::MassDeletion).await?;
    let links = store::links::of_user_in(app.store().read(), user, &["deleting"]).await?;
    let first = match &hold {
        Some(hold) if hold.state == HoldState::Open => hold.created.min(now) - TOGETHER,
        _ => now - TOGETHER,
    };
    let open = |link: &sync::Link| {
        let is_new = |since: DateTime<Utc>| since > first && !hold.as_ref().is_some_and(|hold| covers(hold, since));
        matches!(link.state, LinkState::Deleting { since, .. } if is_new(since))
    };
    let unit =
        |link: &sync::Link| link.occurrence.as_ref().map_or_else(|| link.id.clone(), |(series, _)| series.clone());
    Ok(links.into_iter().filter(open).map(|link| (unit(&link), link)).collect())
}

/// The deletions of a user that wait together, and whether an administrator has confirmed them.
///
/// # Errors
/// When the database cannot be read.
pub async fn deletions(app: &App, link: &sync::Link, now: DateTime<Utc>) -> Result<Deletions, WorkError> {
    let (read, user) = (app.store().read(), link.owner.as_str());
    let hold = holds::latest(read, user, HoldKind::MassDeletion).await?;
    let since = if let LinkState::Deleting { since, .. } = link.state { since } else { now };
    Ok(Deletions {
        waiting: waiting(app, user, now).await?.len() as u64,
        links: store::links::count_of_user(read, user).await?,
        held: hold.as_ref().is_some_and(|hold| hold.state == HoldState::Open),
        confirmed: hold.as_ref().is_some_and(|hold| covers(hold, since)),
    })
}

/// True when that hold was confirmed for a deletion that was found at that time: for what waited then, and for what was on its
/// way with it.
fn covers(hold: &holds::Hold, since: DateTime<Utc>) -> bool {
    hold.state == HoldState::Confirmed && hold.decided.is_some_and(|decided| since < decided + ON_ITS_WAY)
}

/// Looks again at everything that a confirmed hold kept back.
///
/// # Errors
/// When the queue or the database cannot be written.
pub async fn release(app: &App, user: &str) -> Result<(), WorkError> {
    let links = store::links::of_user_in(app.store().read(), user, &["deleting"]).await?;
    let targets = links.iter().filter_map(|link| match (&link.record_id, link.master()) {
        (Some(id), _) => Some(Target::Record { kind: link.kind, id: id.clone() }),
        (None, Some(master)) => Some(target_of(master)),
        (None, None) => None,
    });
    crate::schedule::publish(app, targets.collect::<Vec<_>>(), Cause::Manual, None).await
}

/// Gives up the deletions that a hold kept back until it was discarded: what is gone stays gone, what is left stays, and the pairs are parted.
///
/// # Errors
/// When the database cannot be written.
pub async fn discard(app: &App, user: &str, decided: DateTime<Utc>) -> Result<(), WorkError> {
    let now = app.clock().now();
    for link in store::links::of_user_in(app.store().read(), user, &["deleting"]).await? {
        if matches!(link.state, LinkState::Deleting { since, .. } if since > decided) {
            continue;
        }
        let parted = sync::Link { state: LinkState::Tombstone { since: now }, ..link };
        store::links::save_alone(app.store(), &parted, now).await?;
    }
    Ok(())
}
