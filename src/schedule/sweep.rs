//! The sweep: whole mailboxes and their records are compared with the links, and what differs is hinted at.
//!
//! It finds what left no trace elsewhere: EspoCRM 9.3 neither bumps `modifiedAt` nor sends a webhook when somebody accepts or
//! is related through a panel, and restoring a record tells nobody.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use croner::Cron;
use store::bindings::{self, Binding, BindingState};
use store::links;
use sync::{Cause, Direction, Kind, Side, Target};

use super::{mailbox, publish_of, todo};
use crate::app::App;
use crate::work::context::rules_of;
use crate::work::error::WorkError;
use crate::work::pair::is_unchanged;

/// Rows per page.
const PAGE: u32 = 200;
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

pub(super) async fn run(app: App) {
    let mut last = app.clock().now();
    loop {
        tokio::select! {
            () = app.shutdown().cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = app.clock().now();
        let kinds = due(&app, last, now);
        if !kinds.is_empty() {
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

/// Sweeps. A user whose ends cannot be read is left out; the others go on.
///
/// # Errors
/// When the database or the queue fails, or when not a single user could be swept.
pub async fn sweep(app: &App, scope: &Scope) -> Result<Found, WorkError> {
    let mut found = Found::default();
    let mut failure = None;
    for binding in bindings::enabled_in(app.store().read(), &[BindingState::Active]).await? {
        let asked = scope.user.as_ref().is_none_or(|user| *user == binding.user_id);
        let first = scope.cause == Cause::FirstSync;
        if !asked || (!binding.first_sync_done && !first) {
            continue;
        }
        match user(app, scope, &binding).await {
            Ok(one) => {
                found.hinted += one.hinted;
                found.in_step += one.in_step;
            }
            Err(error @ (WorkError::Store(_) | WorkError::Queue)) => return Err(error),
            Err(error) => {
                tracing::warn!(user.id = binding.user_id, error = error.sentence(), "a user could not be swept");
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if found == Found::default() => Err(error),
        _ => Ok(found),
    }
}

async fn user(app: &App, scope: &Scope, binding: &Binding) -> Result<Found, WorkError> {
    let rules = rules_of(app, Some(&binding.user_id)).await?;
    let wanted = |kind: &&Kind| rules.of(**kind).direction != Direction::Disabled;
    let kinds: Vec<Kind> = scope.kinds.iter().filter(wanted).copied().collect();
    let mut found = Found::default();
    for kind in &kinds {
        let one = records(app, scope, binding, *kind).await?;
        found.hinted += one.hinted;
        found.in_step += one.in_step;
    }
    if scope.full && app.config().server.public_url.is_some() {
        super::subscriptions::verify(app, binding).await?;
    }
    let (user, job) = (&binding.user_id, scope.job.as_deref());
    if kinds.iter().any(|kind| kind.is_event()) && scope.to != Some(Side::Outlook) {
        if scope.full {
            mailbox::forget(app, user).await?;
        }
        found.hinted += mailbox::read_delta(app, user, scope.cause, job).await?;
    }
    if kinds.contains(&Kind::Task) && scope.to != Some(Side::Outlook) {
        if scope.full {
            todo::forget(app, user).await?;
        }
        found.hinted += todo::read_delta(app, user, scope.cause, job).await?;
    }
    if scope.cause == Cause::FirstSync {
        bindings::set_first_sync_done(app.store().write(), &binding.user_id, true).await?;
    }
    Ok(found)
}

/// The records of a user: what has no link, or differs from its base, and what has a link and was not listed.
async fn records(app: &App, scope: &Scope, binding: &Binding, kind: Kind) -> Result<Found, WorkError> {
    let connection = app.connections().espocrm().ok_or(WorkError::NotConfigured("EspoCRM"))?;
    let schema = connection.schema().await?;
    let from = first_day(app, scope, binding);
    let mut found = Found::default();
    let mut listed = BTreeSet::new();
    let mut after = None;
    loop {
        let page = connection.client.owned(&schema, kind, &binding.user_id, from, after.as_ref(), PAGE).await?;
        let mut targets = Vec::new();
        for fetched in page.items {
            let record = fetched.record;
            listed.insert(record.id.clone());
            let link = links::by_record(app.store().read(), kind, &record.id).await?;
            let same =
                link.as_ref().is_some_and(|link| link.is_buried() || is_unchanged(link, Side::Espo, &record.values));
            if same || (link.is_none() && scope.to == Some(Side::Espo)) {
                found.in_step += 1;
            } else {
                targets.push(Target::Record { kind, id: record.id });
            }
        }
        found.hinted += hint(app, scope, binding, targets).await?;
        after = page.last;
        if !page.more {
            break;
        }
    }
    let lost = unlisted(app, &binding.user_id, kind, from, &listed).await?;
    found.hinted += hint(app, scope, binding, lost).await?;
    Ok(found)
}

async fn hint(app: &App, scope: &Scope, binding: &Binding, targets: Vec<Target>) -> Result<u64, WorkError> {
    let count = targets.len() as u64;
    if let Some(job) = &scope.job {
        store::jobs::add_total(app.store().write(), job, count, false).await?;
    }
    publish_of(app, Some(&binding.user_id), targets, scope.cause, scope.job.as_deref()).await?;
    Ok(count)
}

/// A scheduled sweep looks at what is still to come; a full one at everything since the start date.
fn first_day(app: &App, scope: &Scope, binding: &Binding) -> NaiveDate {
    let yesterday = (app.clock().now() - TimeDelta::days(1)).date_naive();
    if scope.full { binding.sync_from } else { binding.sync_from.max(yesterday) }
}

/// Linked records that should have been listed and were not: deleted, moved away, given to somebody else.
async fn unlisted(
    app: &App,
    user: &str,
    kind: Kind,
    from: NaiveDate,
    listed: &BTreeSet<String>,
) -> Result<Vec<Target>, WorkError> {
    let mut targets = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = links::live_of_user(app.store().read(), user, after.as_deref(), 500).await?;
        let Some(last) = page.last() else { return Ok(targets) };
        after = Some(last.id.clone());
        for link in page.iter().filter(|link| link.kind == kind) {
            let day = link.base.get(&sync::Field::Time).and_then(|agreed| agreed.espo.as_when()?.first_day());
            if let Some(id) =
                link.record_id.as_ref().filter(|id| !listed.contains(*id) && day.is_some_and(|day| day >= from))
            {
                targets.push(Target::Record { kind, id: id.clone() });
            }
        }
    }
}
