//! What nobody told: the scheduler asks both systems in turn and hints at what differs. It mends nothing itself.
//!
//! - [`poll`] asks EspoCRM every `sync.poll_interval` for records modified since its cursor, and Graph for the delta of
//!   mailboxes that have no live subscription;
//! - [`sweep`] compares whole mailboxes and their records with the links, on a cron;
//! - [`subscriptions`] keeps one Graph subscription alive per bound mailbox;
//! - [`jobs`] are sweeps that somebody asked for, with progress; [`first`] is the first one of a binding;
//! - [`holds`] goes on with what an administrator has confirmed;
//! - [`surroundings`] notices what was changed or mended: settings, keys, secrets;
//! - [`tend`] forgets what is old.
//!
//! Each task takes no input: it finds out by itself what is to be done, so that it may be run at any time.

pub mod first;
pub mod holds;
pub mod jobs;
pub mod mailbox;
pub mod poll;
pub mod preview;
pub mod subscriptions;
mod surroundings;
pub mod sweep;
pub mod tend;
pub mod todo;

use std::time::Duration;

use sync::{Cause, Change, Target};
use tokio::task::JoinSet;

use crate::app::App;
use crate::queue::Hint;
use crate::work::error::{WorkError, sentence};

/// How often it is looked at what is to be done, when nobody wakes us.
const ATTEND: Duration = Duration::from_secs(5);
/// How often what is old is forgotten.
const TEND: Duration = Duration::from_secs(600);
/// At most this many changes are handed to the queue at once.
const PORTION: usize = 500;

/// The lock of the one process that schedules.
const LEAD: &str = "scheduler";
/// How often it is looked whether it still is this one.
const LOOK: Duration = Duration::from_millis(250);

/// Runs all tasks until the service stops, in one process at a time: the others wait, and the next one goes on as soon as it
/// ends, or is given up.
pub async fn run(app: App) {
    while !app.shutdown().is_cancelled() {
        let lead = tokio::select! {
            () = app.shutdown().cancelled() => return,
            lead = app.locks().acquire(LEAD.to_owned()) => lead,
        };
        match lead {
            Ok(_lead) => serve(&app).await,
            Err(error) => {
                tracing::debug!(%error, "this process does not schedule");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Runs all tasks until the service stops, or others have given this process up.
async fn serve(app: &App) {
    let holder = app.store().holder();
    if app.store().is_shared() {
        tracing::info!("this process schedules");
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(poll::run(app.clone()));
    tasks.spawn(sweep::run(app.clone()));
    tasks.spawn(attend(app.clone()));
    tasks.spawn(forget(app.clone()));
    while !tasks.is_empty() {
        tokio::select! {
            _ = tasks.join_next() => {}
            () = tokio::time::sleep(LOOK) => {
                if app.store().holder() != holder {
                    // What they were at is dropped where it stands, as in a crash: somebody else does it by now.
                    tracing::warn!("another process schedules by now");
                    return;
                }
            }
        }
    }
}

/// What is old is forgotten, now and then.
async fn forget(app: App) {
    while !app.shutdown().is_cancelled() {
        report("tend", tend::tick(&app).await);
        tokio::select! {
            () = app.shutdown().cancelled() => {}
            () = tokio::time::sleep(TEND) => {}
        }
    }
}

/// Looks what is to be done: at once, at an interval, and whenever somebody wakes the scheduler.
async fn attend(app: App) {
    let mut known = Known::default();
    while !app.shutdown().is_cancelled() {
        once(&app, &mut known).await;
        tokio::select! {
            () = app.shutdown().cancelled() => {}
            () = app.schedule_wake().notified() => {}
            () = tokio::time::sleep(ATTEND) => {}
        }
    }
}

/// What this process has taken up.
#[derive(Debug, Default)]
pub struct Known {
    first: first::Known,
    holds: holds::Known,
    jobs: jobs::Known,
    subscriptions: subscriptions::Verified,
    surroundings: surroundings::Known,
}

/// One look at what is to be done.
pub async fn once(app: &App, known: &mut Known) {
    report("surroundings", surroundings::tick(app, &mut known.surroundings).await);
    if !app.connections().settings().enabled {
        report("jobs", jobs::tick(app, &mut known.jobs).await);
        return;
    }
    report("bindings", tend::look_again(app).await);
    report("subscriptions", subscriptions::tick(app, &mut known.subscriptions).await);
    report("first", first::tick(app, &mut known.first).await);
    report("holds", holds::tick(app, &mut known.holds).await);
    report("jobs", jobs::tick(app, &mut known.jobs).await);
}

fn report(task: &'static str, outcome: Result<(), WorkError>) {
    if let Err(error) = outcome {
        tracing::warn!(task, error = error.sentence(), "a task of the scheduler failed; it is tried again");
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
    publish_of(app, None, targets, cause, job).await
}

/// The same for what a user owns, in whose turn it is taken.
///
/// # Errors
/// When the queue does not take them.
pub async fn publish_of(
    app: &App,
    owner: Option<&str>,
    targets: impl IntoIterator<Item = Target>,
    cause: Cause,
    job: Option<&str>,
) -> Result<(), WorkError> {
    let received = app.clock().now();
    let change = |target| Change {
        id: app.ids().next(),
        target,
        cause,
        received,
        version: None,
        job: job.map(str::to_owned),
        trace: crate::trace::current(),
        reminder: None,
    };
    let hint = |target| Hint { lane: owner.map(str::to_owned), ..Hint::new(change(target)) };
    let mut changes: Vec<Hint> = targets.into_iter().map(hint).collect();
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(PORTION));
        app.queue().take(changes, cause).await.map_err(|error| {
            tracing::warn!(error = sentence(&error), "the queue does not take the hints of the scheduler");
            WorkError::Queue
        })?;
        changes = rest;
    }
    Ok(())
}
