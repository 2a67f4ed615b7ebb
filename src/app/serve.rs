//! Serving: the parts of the process, and their ordered end.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::str::FromStr;
use std::time::Duration;

use super::App;

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
}

/// How often a part that does not receive looks what was entered in the settings of one that does.
const FOLLOW: Duration = Duration::from_secs(3);

async fn follow_settings(app: App) {
    while !app.shutdown().is_cancelled() {
        tokio::select! {
            () = app.shutdown().cancelled() => return,
            () = tokio::time::sleep(FOLLOW) => {}
        }
        if let Err(error) = app.connections().reload().await {
            tracing::warn!(%error, "the settings cannot be read; the last known stay in force");
        }
    }
}

/// Runs the service until its [`App::shutdown`] is cancelled: then it accepts nothing any more, finishes what is in hand, and
/// returns. Whoever calls it decides which signals cancel it.
///
/// # Errors
///
/// When the HTTP server cannot run.
pub async fn serve(app: App, listener: TcpListener, roles: BTreeSet<Role>) -> Result<(), ServeError> {
    let server = crate::http::server(&app, listener, &roles).map_err(ServeError::Http)?;
    let handle = server.handle();
    if roles.contains(&Role::Worker) {
        let app = app.clone();
        app.clone().tracker().spawn(async move { crate::work::run(app).await });
    }
    if roles.contains(&Role::Scheduler) {
        let app = app.clone();
        app.clone().tracker().spawn(async move { crate::schedule::run(app).await });
    }
    if !roles.contains(&Role::Receiver) {
        let app = app.clone();
        app.clone().tracker().spawn(follow_settings(app));
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
    if let Err(error) = app.store().clone().close().await {
        tracing::warn!(%error, "the database could not be closed in order");
    }
    tracing::info!("stopped");
    outcome.map_err(ServeError::Http)
}
