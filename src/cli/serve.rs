//! `serve`.

use std::collections::BTreeSet;
use std::net::TcpListener;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use secrecy::ExposeSecret as _;
use tokio::signal;

use super::say;
use crate::app::{self, App, BuildOptions, Role};
use crate::clock::Clock;
use crate::config::Config;

/// What to serve.
#[derive(Debug, Default, ClapArgs)]
pub struct Args {
    /// Runs some parts only, to scale out: receiver, worker, scheduler.
    #[arg(long, value_delimiter = ',', value_name = "ROLE,...")]
    roles: Vec<Role>,
    /// Leaves the database schema as it is.
    #[arg(long)]
    no_migrate: bool,
}

pub(super) async fn run(config: Config, args: Args) -> anyhow::Result<()> {
    let bind = config.server.bind;
    let roles = if args.roles.is_empty() { Role::all() } else { args.roles.into_iter().collect::<BTreeSet<_>>() };
    let options = BuildOptions { migrate: !args.no_migrate, ..BuildOptions::default() };
    let app = App::build_with(config, Clock::System, options).await?;
    let listener = TcpListener::bind(bind).with_context(|| format!("cannot listen on {bind}; change server.bind"))?;
    if app.admin_token_is_new() {
        say(&format!(
            "admin token (shown once, kept encrypted in the database): {}",
            app.admin_token().expose_secret()
        ))?;
    }
    tracing::info!(address = %bind, ?roles, "listening");
    let shutdown = app.shutdown().clone();
    tokio::spawn(async move {
        terminated().await;
        tracing::info!("stopping: what is in hand is finished");
        shutdown.cancel();
    });
    app::serve(app, listener, roles).await?;
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
pub(super) async fn terminated() {
    #[cfg(unix)]
    {
        let mut term = match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(term) => term,
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be watched for");
                signal::ctrl_c().await.ok();
                return;
            }
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    signal::ctrl_c().await.ok();
}
