//! Serving: the parts of the process, and their ordered end.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::str::FromStr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{App, instance, traffic};

/// A part of the service. One process runs all of them, or some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Webhooks, notifications, sign-in, admin API.
    Receiver,
    /// Handles changes.
    Worker,
    /// Polls, sweeps, renews.
    Scheduler,
}

impl Role {
    /// All of them.
    #[must_use]
    pub fn all() -> BTreeSet<Self> {
        BTreeSet::from([Self::Receiver, Self::Worker, Self::Scheduler])
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "receiver" => Ok(Self::Receiver),
            "worker" => Ok(Self::Worker),
            "scheduler" => Ok(Self::Scheduler),
            _ => Err(format!("`{word}` is not a role: receiver, worker or scheduler")),
        }
    }
}

/// Why the service ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// HTTP.
    #[error("the HTTP server failed")]
    Http(#[source] std::io::Error),
    /// The other processes cannot be told.
    #[error("the database cannot be used; check database.url")]
    Join(#[source] store::StoreError),
    /// Another process is that already.
    #[error(
        "another process is the {part} on this SQLite file already; stop it, or give both a database that processes share: database.url = postgres://... or mysql://..."
    )]
    Taken {
        /// Worker or scheduler.
        part: &'static str,
    },
    /// Nobody could be told.
    #[error("no lock file can be made beside the database")]
    Claim(#[source] std::io::Error),
}

/// A SQLite file has one worker and one scheduler: what keeps two from doing the same is in the memory of the process. One that
/// is just ending is waited for.
async fn claim(app: &App, roles: &BTreeSet<Role>) -> Result<Vec<std::fs::File>, ServeError> {
    const PAUSE: Duration = Duration::from_millis(100);
    const TRIES: u32 = 50;
    let mut claimed = Vec::new();
    for (role, part) in [(Role::Worker, "worker"), (Role::Scheduler, "scheduler")] {
        if !roles.contains(&role) {
            continue;
        }
        let mut tries = 0;
        claimed.extend(loop {
            match app.store().claim(part) {
                Ok(file) => break file,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(ServeError::Claim(error)),
                Err(_) if tries == TRIES => return Err(ServeError::Taken { part }),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(PAUSE).await;
        });
    }
    Ok(claimed)
}

/// Runs the service until its [`App::shutdown`] is cancelled: then it accepts nothing any more, finishes what is in hand, and
/// returns. Whoever calls it decides which signals cancel it.
///
/// # Errors
///
/// When the HTTP server cannot run.
pub async fn serve(app: App, listener: TcpListener, roles: BTreeSet<Role>) -> Result<(), ServeError> {
    let claimed = claim(&app, &roles).await?;
    instance::join(&app, listener.local_addr().ok()).await.map_err(ServeError::Join)?;
    let end = CancellationToken::new();
    let life = tokio::spawn(instance::run(app.clone(), end.clone()));
    let counts = tokio::spawn(traffic::run(app.clone(), end.clone()));
    let server = crate::http::server(&app, listener, &roles).map_err(ServeError::Http)?;
    let handle = server.handle();
    if let Some(broker) = app.queue().broker() {
        if roles.contains(&Role::Receiver) {
            broker.start_publishing();
        }
        if roles.contains(&Role::Worker) {
            let (broker, store, waker) = (broker.clone(), app.store().clone(), app.clone());
            app.tracker().spawn(broker.consume(store, move || waker.wake_schedule()));
        }
    }
    if roles.contains(&Role::Worker) {
        let app = app.clone();
        app.clone().tracker().spawn(async move { crate::work::run(app).await });
    }
    if roles.contains(&Role::Scheduler) {
        let app = app.clone();
        app.clone().tracker().spawn(async move { crate::schedule::run(app).await });
    }
    let stopping = app.shutdown().clone();
    let stop = tokio::spawn(async move {
        stopping.cancelled().await;
        handle.stop(true).await;
    });
    let outcome = server.await;
    // However the server ended, the other parts end with it.
    app.shutdown().cancel();
    stop.await.ok();
    app.tracker().close();
    app.tracker().wait().await;
    // Whoever publishes has been answered by now.
    if let Some(broker) = app.queue().broker() {
        broker.close().await;
    }
    // Until now somebody has had to tell the others that this process lives.
    end.cancel();
    life.await.ok();
    counts.await.ok();
    instance::leave(&app).await;
    if let Err(error) = app.store().clone().close().await {
        tracing::warn!(%error, "the database could not be closed in order");
    }
    drop(claimed);
    tracing::info!("stopped");
    outcome.map_err(ServeError::Http)
}
