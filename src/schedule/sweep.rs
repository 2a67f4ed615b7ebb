//! The sweep: whole mailboxes and their records are compared with the links, and what differs is hinted at.
//!
//! What it costs when nothing has changed: of EspoCRM one request per 200 records that are still to come, however many users
//! there are; of Graph one per mailbox and kind of list, several mailboxes at a time.
//!
//! It finds what left no trace elsewhere: EspoCRM 9.3 neither bumps `modifiedAt` nor sends a webhook when somebody accepts or
//! is related through a panel, and restoring a record tells nobody.

mod records;

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use croner::Cron;
use futures::StreamExt as _;
use store::bindings::{self, Binding, BindingState};
use store::cursors;
use sync::{Cause, Direction, Kind, Side};

use super::{mailbox, publish, todo};
use crate::app::App;
use crate::work::context::rules_of;
use crate::work::error::WorkError;
use crate::work::received;

/// How often the cron expressions are looked at.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// What is swept.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Which kinds.
    pub kinds: Vec<Kind>,
    /// Only towards that side; both when there is none.
    pub to: Option<Side>,
    /// Only this user.
    pub user: Option<String>,
    /// Everything since the start date of the binding, and the calendar from scratch.
    pub full: bool,
    /// Why.
    pub cause: Cause,
    /// The job that asked.
    pub job: Option<String>,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Hints that were made.
    pub hinted: u64,
    /// Ends that are as they should be.
    pub in_step: u64,
}

/// When the last sweep began: one that fell due while no process scheduled is made up for.
const CURSOR: &str = "sweep";

async fn last_sweep(app: &App) -> Option<DateTime<Utc>> {
    cursors::get(app.store().read(), CURSOR).await.ok().flatten()?.parse().ok()
}

pub(super) async fn run(app: App) {
    let mut last = last_sweep(&app).await.unwrap_or_else(|| app.clock().now());
    loop {
        tokio::select! {
            () = app.shutdown().cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = app.clock().now();
        let kinds = due(&app, last, now);
        if !kinds.is_empty() {
            if let Err(error) = cursors::put(app.store().write(), CURSOR, &now.to_rfc3339(), now).await {
                tracing::warn!(%error, "the time of a sweep could not be noted");
            }
            scheduled(&app, kinds).await;
        }
        last = now;
    }
}

/// The kinds whose sweep fell due between two moments.
fn due(app: &App, last: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Kind> {
    let settings = app.connections().settings();
    if !settings.enabled {
        return Vec::new();
    }
    let fell_due = |kind: &Kind| {
        let Some(text) = settings.schedules.get(kind) else { return false };
        match Cron::from_str(text) {
            Ok(cron) => cron.find_next_occurrence(&last, false).is_ok_and(|next| next <= now),
            Err(error) => {
                tracing::warn!(%kind, %error, schedule = text, "the schedule cannot be read");
                false
            }
        }
    };
    Kind::ALL.into_iter().filter(fell_due).collect()
}

async fn scheduled(app: &App, kinds: Vec<Kind>) {
    if let Err(error) = crate::app::provision::webhooks(app, false).await {
        tracing::warn!(%error, "the webhooks in EspoCRM could not be looked at");
    }
    let scope = Scope { kinds, to: None, user: None, full: false, cause: Cause::Sweep, job: None };
    match sweep(app, &scope).await {
        Ok(found) => tracing::info!(found.hinted, found.in_step, "swept"),
        Err(error) => tracing::warn!(error = error.sentence(), "a sweep was given up; the next one starts anew"),
    }
}

/// A user that is swept.
struct Swept {
    binding: Binding,
    kinds: Vec<Kind>,
}

/// Sweeps. A user whose mailbox cannot be read is left out; the others go on.
///
/// # Errors
/// When the database, the queue or EspoCRM fails, or when not a single mailbox could be swept.
pub async fn sweep(app: &App, scope: &Scope) -> Result<Found, WorkError> {
    let began = app.clock().now();
    let users = users(app, scope).await?;
    let mut found = Found::default();
    // What goes to EspoCRM alone is found in the mailboxes.
    for kind in scope.kinds.iter().filter(|_| scope.to != Some(Side::Espo)) {
        let owners: BTreeMap<String, NaiveDate> = users
            .iter()
            .filter(|user| user.kinds.contains(kind))
            .map(|user| (user.binding.user_id.clone(), first_day(app, scope, &user.binding)))
            .collect();
        let one = records::compare(app, scope, *kind, &owners).await?;
        found.hinted += one.hinted;
        found.in_step += one.in_step;
    }
    let at_once = app.config().sync.mailboxes_at_once;
    let mut outcomes = futures::stream::iter(users.into_iter().map(|user| {
        let (app, scope) = (app.clone(), scope.clone());
        async move {
            let outcome = async {
                let hinted = mailboxes(&app, &scope, &user).await?;
                if scope.cause == Cause::FirstSync {
                    let id = &user.binding.user_id;
                    bindings::set_first_sync_done(app.store().write(), id, true).await?;
                    look_again(&app, id, began).await?;
                }
                Ok(hinted)
            };
            let outcome = outcome.await;
            (user.binding.user_id, outcome)
        }
    }))
    .buffer_unordered(at_once);
    let mut failure = None;
    while let Some((user, outcome)) = outcomes.next().await {
        match outcome {
            Ok(hinted) => found.hinted += hinted,
            Err(error @ (WorkError::Store(_) | WorkError::Queue)) => return Err(error),
            Err(error) => {
                tracing::warn!(user.id = user, error = error.sentence(), "a mailbox could not be swept");
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if found == Found::default() => Err(error),
        _ => Ok(found),
    }
}

/// Who is swept, and of which kinds.
async fn users(app: &App, scope: &Scope) -> Result<Vec<Swept>, WorkError> {
    let mut users = Vec::new();
    for binding in bindings::enabled_in(app.store().read(), &[BindingState::Active]).await? {
        let asked = scope.user.as_ref().is_none_or(|user| *user == binding.user_id);
        let first = scope.cause == Cause::FirstSync;
        if !asked || (!binding.first_sync_done && !first) {
            continue;
        }
        let rules = rules_of(app, Some(&binding.user_id)).await?;
        let wanted = |kind: &&Kind| rules.of(**kind).direction != Direction::Disabled;
        let kinds = scope.kinds.iter().filter(wanted).copied().collect();
        users.push(Swept { binding, kinds });
    }
    Ok(users)
}

async fn mailboxes(app: &App, scope: &Scope, user: &Swept) -> Result<u64, WorkError> {
    let Swept { binding, kinds } = user;
    let mut hinted = 0;
    if scope.full && app.config().server.public_url.is_some() {
        super::subscriptions::verify(app, binding).await?;
    }
    let (user, job) = (&binding.user_id, scope.job.as_deref());
    if kinds.iter().any(|kind| kind.is_event()) && scope.to != Some(Side::Outlook) {
        let asked: Vec<Kind> = scope.kinds.iter().filter(|kind| kind.is_event()).copied().collect();
        if let ([kind], true) = (asked.as_slice(), scope.full) {
            hinted += mailbox::read_kind(app, user, *kind, scope.cause, job).await?;
        } else {
            if scope.full {
                mailbox::forget(app, user).await?;
            }
            hinted += mailbox::read_delta(app, user, scope.cause, job).await?;
        }
    }
    if kinds.contains(&Kind::Task) && scope.to != Some(Side::Outlook) {
        if scope.full {
            todo::forget(app, user).await?;
        }
        hinted += todo::read_delta(app, user, scope.cause, job).await?;
    }
    Ok(hinted)
}

/// What was told while a first synchronisation made its lists was left alone, and may be on none of them.
async fn look_again(app: &App, user: &str, since: DateTime<Utc>) -> Result<(), WorkError> {
    received::take_in(app).await?;
    let lanes = [user, store::messages::ESPO_LANE];
    let targets = store::messages::told_since(app.store().read(), &lanes, since).await?;
    publish(app, targets, Cause::FirstSync, None).await
}

/// A scheduled sweep looks at what is still to come; a full one at everything since the start date.
fn first_day(app: &App, scope: &Scope, binding: &Binding) -> NaiveDate {
    let yesterday = (app.clock().now() - TimeDelta::days(1)).date_naive();
    if scope.full { binding.sync_from } else { binding.sync_from.max(yesterday) }
}
