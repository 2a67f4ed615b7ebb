//! The command line.

pub mod admin;
mod columns;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod look;
pub mod secrets;
pub mod serve;
pub mod setup;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use secrecy::ExposeSecret as _;

use crate::app::{App, BuildOptions};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, or a check of `doctor` or a step of `demo --tour` did; the last line says why
  2  the command line is wrong

Commands that talk to the running service (sync, relink, explain, history, revert, messages, replay) use server.bind and
server.admin_token of the configuration; without a configured token the one that the service made for itself.";

/// Keeps EspoCRM and Microsoft 365 in step: meetings, calls and tasks, both ways.
#[derive(Debug, Parser)]
#[command(name = "espo-outlook", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// The configuration file; without it `espo-outlook.toml` in the working folder, if there.
    #[arg(long, global = true, value_name = "FILE", env = "ESPO_OUTLOOK_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service: receiver, workers and scheduler in one process.
    Serve(serve::Args),
    /// The whole service beside a simulated EspoCRM and a simulated Microsoft, to play with.
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    /// Provisions what the other systems need.
    Setup {
        #[command(subcommand)]
        system: SetUp,
    },
    /// Checks configuration, database, queue, EspoCRM, Microsoft and the public address.
    Doctor(doctor::Args),
    /// Synchronises now; with `--dry-run` it only tells what would be done.
    Sync(admin::SyncArgs),
    /// Rebuilds links, after a lost database, from the marks that both systems keep; writes nothing else.
    Relink(look::RelinkArgs),
    /// Tells why a record is or is not synchronised.
    Explain(look::ExplainArgs),
    /// Lists the changes that were applied.
    History(admin::HistoryArgs),
    /// Takes a change back.
    Revert(admin::RevertArgs),
    /// Lists what was received.
    Messages(admin::MessagesArgs),
    /// Has messages looked at again.
    Replay(admin::ReplayArgs),
    /// Changes or shows the database schema.
    Migrate {
        #[command(subcommand)]
        way: Migrate,
    },
    /// The key with which tokens and secrets are sealed at rest.
    Secrets(secrets::Args),
    /// Succeeds when the running service is ready, and names the failing part when it is not.
    Health,
    /// Prints the OpenAPI document.
    Openapi,
    /// Prints completions for a shell: `source <(espo-outlook completions bash)`.
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum SetUp {
    /// Webhooks for the three kinds, the "Synchronize with Outlook" switch and the marker field. May be run again.
    Espocrm(setup::Args),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Migrate {
    /// Brings the schema up to date.
    Up,
    /// Takes back the last migration, and the data with it.
    Down,
    /// Lists migrations.
    Status,
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    ///
    /// When it could not be done; the message says what to do about it.
    pub async fn run(self) -> anyhow::Result<()> {
        let outcome = self.obey().await;
        crate::telemetry::flush().await;
        outcome
    }

    async fn obey(self) -> anyhow::Result<()> {
        let command = self.command.unwrap_or_else(|| Command::Serve(serve::Args::default()));
        match command {
            Command::Openapi => return say(&crate::http::openapi::json()?),
            Command::Completions { shell } => return completions(shell),
            _ => {}
        }
        // It has a configuration of its own and must not touch the operator's.
        #[cfg(feature = "demo")]
        if let Command::Demo(args) = command {
            return demo::run(args).await;
        }
        let config = match (load(self.config.as_deref()), &command) {
            (Err(error), Command::Doctor(args)) => return doctor::wrong_configuration(&error, args),
            (config, _) => config?,
        };
        crate::telemetry::init(&config.log);
        match command {
            Command::Serve(args) => serve::run(config, args).await,
            Command::Setup { system: SetUp::Espocrm(args) } => setup::espocrm(config, &args).await,
            Command::Doctor(args) => doctor::run(config, &args).await,
            Command::Sync(args) => admin::sync(&config, &args).await,
            Command::Relink(args) => look::relink(&config, &args).await,
            Command::Explain(args) => look::explain(&config, &args).await,
            Command::History(args) => admin::history(&config, &args).await,
            Command::Revert(args) => admin::revert(&config, &args).await,
            Command::Messages(args) => admin::messages(&config, &args).await,
            Command::Replay(args) => admin::replay(&config, &args).await,
            Command::Migrate { way } => migrate(&config, way).await,
            Command::Secrets(args) => secrets::run(&config, &args).await,
            Command::Health => look::health(&config).await,
            Command::Openapi | Command::Completions { .. } => Ok(()),
            #[cfg(feature = "demo")]
            Command::Demo(_) => Ok(()),
        }
    }
}

fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let default = Path::new(config::DEFAULT_FILE);
    let file = file.or_else(|| default.exists().then_some(default));
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    config::load(file, variables)
}

/// Builds the service for a command that does not serve.
async fn app(config: Config) -> anyhow::Result<App> {
    let app = App::build_with(config, Clock::System, BuildOptions::default()).await?;
    tell_new_token(&app);
    Ok(app)
}

/// A token that was made just now is told, or nobody would ever know it.
fn tell_new_token(app: &App) {
    if app.admin_token_is_new() {
        eprintln!("admin token (shown once, kept encrypted in the database): {}", app.admin_token().expose_secret());
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "espo-outlook", &mut text);
    say(String::from_utf8_lossy(&text).trim_end())
}

/// Prints a line; whoever has closed the pipe wants no more.
fn say(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

async fn migrate(config: &Config, way: Migrate) -> anyhow::Result<()> {
    let store = store::Store::open(config.database.url.expose_secret()).await;
    let store = store.context("the database cannot be used; check database.url")?;
    match way {
        Migrate::Up => store.migrate_up().await?,
        Migrate::Down => store.migrate_down(1).await?,
        Migrate::Status => {}
    }
    for migration in store.migrate_status().await? {
        say(&format!("{}  {}", if migration.applied { "applied" } else { "pending" }, migration.name))?;
    }
    store.close().await?;
    Ok(())
}
