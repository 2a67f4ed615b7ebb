//! Jobs: sweeps that somebody asked for, with progress. A job of a process that ended is started anew: a sweep may be
//! repeated at any time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use store::jobs;
use sync::{Cause, Kind, Side};

use super::preview;
use super::sweep::{Scope, sweep};
use crate::app::App;
use crate::work::error::WorkError;
use crate::work::relink;

/// What is asked for, as the job keeps it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// Only this kind.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// Only towards that side: `to_outlook` or `to_espo`.
    #[serde(default)]
    pub direction: Option<Towards>,
    /// Only this user.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Only a preview.
    #[serde(default)]
    pub dry_run: bool,
    /// The first synchronisation of a binding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// Only rebuild links from the marks on both sides; with `dry_run` only tell which.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relink: bool,
}

/// Towards which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Towards {
    /// EspoCRM is copied to Outlook.
    #[serde(alias = "to-outlook", alias = "espo_to_outlook")]
    ToOutlook,
    /// Outlook is copied to EspoCRM.
    #[serde(alias = "to-espo", alias = "outlook_to_espo")]
    ToEspo,
}

/// Jobs that this process has taken up.
pub(super) type Known = BTreeSet<String>;

/// Takes up the jobs that wait, and those that were running when the last process ended.
pub(super) async fn tick(app: &App, known: &mut Known) -> Result<(), WorkError> {
    let open = jobs::unfinished(app.store().read()).await?;
    known.retain(|id| open.iter().any(|job| job.id == *id));
    for job in open {
        if known.insert(job.id.clone()) {
            let request: Request = serde_json::from_value(job.request).unwrap_or_default();
            launch(app, job.id, request);
        }
    }
    Ok(())
}

/// Starts the first synchronisation of a user.
pub(super) async fn first_sync(app: &App, user: &str) -> Result<(), WorkError> {
    let request = Request { user_id: Some(user.to_owned()), first: true, ..Request::default() };
    let text = serde_json::to_value(request).unwrap_or_default();
    jobs::insert(app.store().write(), &app.ids().next(), &text, app.clock().now()).await?;
    Ok(())
}

/// True while a first synchronisation of a user waits or runs.
pub(super) async fn first_sync_is_under_way(app: &App, user: &str) -> Result<bool, WorkError> {
    let of_user = |job: &jobs::Job| {
        let request: Request = serde_json::from_value(job.request.clone()).unwrap_or_default();
        request.first && request.user_id.as_deref() == Some(user)
    };
    Ok(jobs::unfinished(app.store().read()).await?.iter().any(of_user))
}

fn launch(app: &App, id: String, request: Request) {
    let app = app.clone();
    let tracker = app.tracker().clone();
    tracker.spawn(async move {
        if let Err(error) = carry_out(&app, &id, &request).await {
            let text = error.sentence();
            tracing::warn!(job.id = id, error = text, "a job failed");
            if let Err(error) = jobs::finish(app.store().write(), &id, Some(&text), app.clock().now()).await {
                tracing::error!(job.id = id, %error, "the end of a job could not be recorded");
            }
        }
    });
}

async fn carry_out(app: &App, id: &str, request: &Request) -> Result<(), WorkError> {
    let write = app.store().write();
    jobs::start(write, id, app.clock().now()).await?;
    let kinds = request.kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    if request.relink {
        let relinked = relink::of_all(app, request.user_id.as_deref(), request.dry_run).await?;
        let (paired, left) = (relinked.paired, relinked.left);
        jobs::set_preview(write, id, &json!(relinked)).await?;
        jobs::bump(write, id, jobs::Counters { done: paired + left, skipped: left, ..jobs::Counters::default() })
            .await?;
        jobs::add_total(write, id, paired + left, true).await?;
        jobs::finish(write, id, None, app.clock().now()).await?;
        return Ok(());
    }
    let to = request.direction.map(|towards| match towards {
        Towards::ToOutlook => Side::Outlook,
        Towards::ToEspo => Side::Espo,
    });
    if request.dry_run {
        let preview = preview::of_all(app, request.user_id.as_deref(), &kinds, to).await?;
        jobs::set_preview(write, id, &json!(preview)).await?;
        jobs::finish(write, id, None, app.clock().now()).await?;
        return Ok(());
    }
    if !app.connections().settings().enabled {
        return Err(WorkError::Refused("synchronisation is switched off in the settings".to_owned()));
    }
    let cause = if request.first { Cause::FirstSync } else { Cause::Manual };
    let scope = Scope { kinds, to, user: request.user_id.clone(), full: true, cause, job: Some(id.to_owned()) };
    let found = sweep(app, &scope).await?;
    let counters = jobs::Counters { done: found.in_step, skipped: found.in_step, ..jobs::Counters::default() };
    jobs::bump(write, id, counters).await?;
    jobs::add_total(write, id, found.in_step, true).await?;
    if jobs::finish_if_complete(write, id, app.clock().now()).await? {
        finished(app, id).await?;
    }
    Ok(())
}

/// A job has come to its end.
///
/// # Errors
/// When the database cannot be read.
pub async fn finished(app: &App, id: &str) -> Result<(), WorkError> {
    if let Some(job) = jobs::get(app.store().read(), id).await? {
        let jobs::Counters { created, updated, deleted, skipped, failed, .. } = job.counters;
        tracing::info!(job.id = id, created, updated, deleted, skipped, failed, "a job is done");
    }
    Ok(())
}
