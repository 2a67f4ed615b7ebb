//! Leases due messages and hands each to a task, a bounded number at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use store::inbox::{self, Portion};
use store::messages::{self, Turn};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::error::sentence;
use super::handle::handle;
use super::locks::Locks;
use crate::app::App;
use crate::app::circuits::Readiness;
use crate::app::instance::LEASE;

/// How long to rest when nothing is due and nobody wakes us: parked messages become due by themselves.
const REST: Duration = Duration::from_millis(500);
/// The same where another process may have received something.
const REST_BESIDE_OTHERS: Duration = Duration::from_millis(100);

/// How long to wait for more hands to be free, under load.
const GATHER: Duration = Duration::from_millis(3);

/// How long what was received may wait for a worker that has no hand free, before it is in the archive.
const UNSEEN: Duration = Duration::from_secs(1);

/// What a worker shares with the others of this process.
#[derive(Clone)]
pub struct Worker {
    /// The service.
    pub app: App,
    /// Locks of this process.
    pub locks: Locks,
    /// Others of the same lane are worked on at the same time.
    pub beside_others: bool,
}

impl Worker {
    /// A worker of a service.
    #[must_use]
    pub fn new(app: App) -> Self {
        let locks = app.locks().clone();
        Self { app, locks, beside_others: false }
    }
}

/// Takes up what the last process had in hand when it ended. Where one process serves, what was leased then is nobody's; where
/// others do, whoever has it is alive, or it is taken over from him ([`crate::app::instance`]).
///
/// # Errors
/// When the database fails.
pub async fn take_up(app: &App) -> store::Result<u64> {
    inbox::look_again(app.store().write()).await?;
    if app.store().is_shared() { Ok(0) } else { messages::requeue_all(app.store().write()).await }
}

/// Leases up to so many units that are due and works on them to their end, one after the other. Tells how many there were.
///
/// # Errors
/// When the database fails.
pub async fn step(worker: &Worker, units: usize) -> store::Result<usize> {
    let units = turn(&worker.app, units, None).await?;
    let count = units.len();
    for unit in units {
        let _in_hand = worker.app.membership().hold(&unit.lease, worker.app.clock().now() + LEASE);
        handle(worker, unit).await;
    }
    Ok(count)
}

/// Works until the service stops; what is in hand then is finished.
pub async fn run(app: App) {
    let worker = Worker::new(app.clone());
    if let Err(error) = take_up(&app).await {
        tracing::error!(error = sentence(&error), "messages of the last run could not be taken up again");
    }
    let most = app.config().worker.concurrency.max(1);
    let permits = Arc::new(Semaphore::new(most));
    let mut after_lane: Option<String> = None;
    while !app.shutdown().is_cancelled() {
        let Ok(permit) = a_hand(&app, &permits).await else { return };
        drop(permit);
        gather(&permits, most).await;
        let free = permits.available_permits().max(1);
        // While a system is away its work stays where it is, whole and uncounted; one piece finds out when it is back.
        let readiness = app.circuits().readiness(app.clock().now());
        let free = match readiness {
            Readiness::Ready => free,
            Readiness::Probe => 1,
            Readiness::Wait => {
                take_in(&app).await;
                rest(&app).await;
                continue;
            }
        };
        let units = match turn(&app, free, after_lane.as_deref()).await {
            Ok(units) => units,
            Err(error) => {
                tracing::error!(error = sentence(&error), "no messages could be leased");
                Vec::new()
            }
        };
        if units.is_empty() {
            // Nobody waited, so nobody's turn is next.
            after_lane = None;
            rest(&app).await;
            continue;
        }
        let mut lanes = HashMap::<String, usize>::new();
        for unit in &units {
            *lanes.entry(unit.lane.clone()).or_default() += 1;
        }
        after_lane = units.last().map(|unit| unit.lane.clone());
        for unit in units {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let beside_others = lanes.get(&unit.lane).is_some_and(|count| *count > 1);
            let worker = Worker { beside_others, ..worker.clone() };
            let in_hand = app.membership().hold(&unit.lease, app.clock().now() + LEASE);
            app.tracker().spawn(async move {
                handle(&worker, unit).await;
                drop((permit, in_hand));
            });
        }
        if readiness == Readiness::Probe {
            rest(&app).await;
        }
    }
}

/// Waits for a hand to be free. What is received meanwhile is taken into the archive, though nobody works on it yet.
async fn a_hand(app: &App, permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, AcquireError> {
    let permit = Arc::clone(permits).acquire_owned();
    tokio::pin!(permit);
    loop {
        tokio::select! {
            biased;
            permit = &mut permit => return permit,
            () = tokio::time::sleep(UNSEEN) => take_in(app).await,
        }
    }
}

async fn take_in(app: &App) {
    if let Err(error) = inbox::empty(app.store()).await {
        tracing::error!(error = sentence(&error), "what was received cannot be taken in");
    }
}

/// Under load, waits a little for more hands to be free: to lease costs the same for one unit and for many.
async fn gather(permits: &Semaphore, most: usize) {
    let wanted = u32::try_from(most / 4).unwrap_or(u32::MAX).max(1);
    drop(tokio::time::timeout(GATHER, permits.acquire_many(wanted)).await);
}

async fn turn(app: &App, units: usize, after_lane: Option<&str>) -> store::Result<Vec<messages::Unit>> {
    // While the others may have given this process up, what it takes up would only be refused.
    if app.membership().check().is_err() {
        return Ok(Vec::new());
    }
    // Looked at without the write lock first: an idle service writes nothing.
    let now = app.clock().now();
    let received = inbox::portion(app.store().read(), inbox::PORTION).await?;
    if received.is_none() && !messages::is_due(app.store().read(), now).await? {
        return Ok(Vec::new());
    }
    let lease = app.membership().lease();
    let _in_hand = app.membership().hold(&lease, now + LEASE);
    let per_lane = usize::try_from(app.connections().settings().events_per_iteration).unwrap_or(10).max(1);
    let turn = Turn { lease: &lease, now, until: now + LEASE, units, per_lane, after_lane };
    let leased = lease_due(app, received, &turn).await;
    if let Err(error) = &leased {
        // It may have been leased all the same.
        app.membership().lead_astray(&lease);
        if received.is_some() && !error.is_busy_or_gone() {
            // What the archive refuses must not keep the rest from it.
            take_in(app).await;
        }
    }
    leased
}

/// What was received is taken in by the same commit: at little load it costs none of its own. A power cut may take it: what was
/// received is in the inbox still, and nobody works on it any more.
async fn lease_due(app: &App, received: Option<Portion>, turn: &Turn<'_>) -> store::Result<Vec<messages::Unit>> {
    store::insist(|| async {
        let transaction = app.store().begin_held_lightly().await?;
        if app.store().is_shared() {
            store::signals::take_turn(&transaction).await?;
        }
        if let Some(received) = &received {
            inbox::take_in(&transaction, received).await?;
        }
        let units = messages::lease_due(&transaction, turn).await?;
        transaction.commit().await?;
        Ok(units)
    })
    .await
}

async fn rest(app: &App) {
    tokio::select! {
        () = app.shutdown().cancelled() => {}
        () = app.queue().wake().notified() => {}
        () = tokio::time::sleep(if app.membership().has_company() { REST_BESIDE_OTHERS } else { REST }) => {}
    }
}
