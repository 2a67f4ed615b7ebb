//! What nobody told: the scheduler asks both systems in turn and hints at what differs. It mends nothing itself.
//!
//! - [`poll`] asks EspoCRM every `sync.poll_interval` for records modified since its cursor, and Graph for the delta of
//!   mailboxes that have no live subscription;
//! - [`sweep`] compares whole mailboxes and their records with the links, on a cron;
//! - [`subscriptions`] keeps one Graph subscription alive per bound mailbox;
//! - [`jobs`] are sweeps that somebody asked for, with progress; [`first`] is the first one of a binding;
//! - [`tend`] forgets what is old.
//!
//! Each task takes no input: it finds out by itself what is to be done, so that it may be run at any time.

pub mod first;
pub mod jobs;
pub mod mailbox;
pub mod poll;
pub mod preview;
pub mod subscriptions;
pub mod sweep;
pub mod tend;

use std::time::Duration;

use sync::{Cause, Change, Target};

pub use self::first::binding_activated;
use crate::app::App;
use crate::work::error::{WorkError, sentence};

/// How often subscriptions are looked at.
const SUBSCRIPTIONS: Duration = Duration::from_secs(5);
/// How often what is old is forgotten.
const TEND: Duration = Duration::from_secs(600);
/// At most this many changes are handed to the queue at once.
const PORTION: usize = 500;

/// Runs all tasks until the service stops.
pub async fn run(app: App) {
    let tracker = app.tracker().clone();
    tracker.spawn(poll::run(app.clone()));
    tracker.spawn(sweep::run(app.clone()));
    tracker.spawn(every(app.clone(), SUBSCRIPTIONS, "subscriptions", |app| async move { subscriptions::tick(&app).await }));
    tracker.spawn(every(app.clone(), TEND, "tend", |app| async move { tend::tick(&app).await }));
    if let Err(error) = jobs::resume(&app).await {
        tracing::error!(error = error.sentence(), "jobs of the last run could not be taken up again");
    }
}

/// Runs a task at once and then again and again: after an interval, or earlier when somebody wakes the scheduler.
async fn every<F, W>(app: App, interval: Duration, name: &'static str, work: W)
where
    F: Future<Output = Result<(), WorkError>>,
    W: Fn(App) -> F,
{
    loop {
        if let Err(error) = work(app.clone()).await {
            tracing::warn!(task = name, error = error.sentence(), "a task of the scheduler failed; it is tried again");
        }
        tokio::select! {
            () = app.shutdown().cancelled() => return,
            () = app.schedule_wake().notified() => {}
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Hands hints to the queue.
///
/// # Errors
/// When the queue does not take them.
pub async fn publish(
    app: &App,
    targets: impl IntoIterator<Item = Target>,
    cause: Cause,
    job: Option<&str>,
) -> Result<(), WorkError> {
    let received = app.clock().now();
    let change = |target| Change { id: app.ids().next(), target, cause, received, version: None, job: job.map(str::to_owned) };
    let mut changes: Vec<Change> = targets.into_iter().map(change).collect();
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(PORTION));
        app.queue().publish(changes, cause, None).await.map_err(|error| {
            tracing::warn!(error = sentence(&error), "the queue does not take the hints of the scheduler");
            WorkError::Queue
        })?;
        changes = rest;
    }
    Ok(())
}
