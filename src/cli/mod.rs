//! The command line.

pub mod changes;
mod client;
mod columns;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
mod list;
pub mod look;
pub mod messages;
pub mod operate;
pub mod people;
pub mod secrets;
pub mod serve;
pub mod settings;
pub mod setup;
pub mod sync;

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

Commands that talk to the running service (all but serve, demo, setup, doctor, migrate, secrets, openapi and completions) use
server.bind and server.admin_token of the configuration; without a configured token the one that the service made for itself.";

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
    Sync(sync::SyncArgs),
    /// Lists what was synchronised by hand, or tells of one run.
    Jobs(sync::JobsArgs),
    /// Lists plans that wait for a word, and gives it: `holds confirm ID`, `holds discard ID`.
    Holds(sync::HoldsArgs),
    /// Rebuilds links, after a lost database, from the marks that both systems keep; writes nothing else.
    Relink(look::RelinkArgs),
    /// Tells why a record is or is not synchronised.
    Explain(look::ExplainArgs),
    /// Switches one record on or off.
    Switch(sync::SwitchArgs),
    /// Lists the changes that were applied, or shows one with what stood there before.
    History(changes::HistoryArgs),
    /// Takes a change back, all of a record, or all of a span of time.
    Revert(changes::RevertArgs),
    /// Lists what was received, or shows one message.
    Messages(messages::MessagesArgs),
    /// Has messages looked at again.
    Replay(messages::ReplayArgs),
    /// Discards messages.
    Discard(messages::DiscardArgs),
    /// Lists users with their mailboxes, or shows one.
    Users(people::UsersArgs),
    /// Binds a user to a mailbox, or changes that.
    Bind(people::BindArgs),
    /// Unbinds a user; what was copied stays on both sides.
    Unbind(people::UserArgs),
    /// Makes a one-time link with which a user signs in with Microsoft.
    Authorize(people::UserArgs),
    /// Shows or changes the rules of everybody, or of a user.
    Rules(people::RulesArgs),
    /// Shows or changes the settings.
    Settings(settings::SettingsArgs),
    /// Shows or changes when everything is looked at.
    Schedules(settings::SchedulesArgs),
    /// Shows or changes what users of an EspoCRM role may do with their own preferences.
    Roles(settings::RolesArgs),
    /// Tells how every part stands, what failed last, and what ends soon.
    Status(operate::PlainArgs),
    /// Lists Microsoft's subscriptions.
    Subscriptions(operate::PlainArgs),
    /// Renews one subscription now, or all of them.
    Renew(operate::RenewArgs),
    /// Lists who has done what.
    Audit(operate::AuditArgs),
    /// Lists who is signed in to the pages, and ends a session: `sessions end ID`.
    Sessions(operate::SessionsArgs),
    /// Prints the end of the running service's log.
    Log(operate::LogArgs),
    /// Changes or shows the database schema.
    Migrate {
        #[command(subcommand)]
        way: Migrate,
        /// Prints JSON.
        #[arg(long, global = true)]
        json: bool,
    },
    /// The key with which tokens and secrets are sealed at rest.
    Secrets(secrets::Args),
    /// Succeeds when the running service is ready, and names the failing part when it is not.
    Health {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
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
            Command::Sync(args) => sync::sync(&config, &args).await,
            Command::Jobs(args) => sync::jobs(&config, &args).await,
            Command::Holds(args) => sync::holds(&config, &args).await,
            Command::Switch(args) => sync::switch(&config, &args).await,
            Command::Relink(args) => look::relink(&config, &args).await,
            Command::Explain(args) => look::explain(&config, &args).await,
            Command::History(args) => changes::history(&config, &args).await,
            Command::Revert(args) => changes::revert(&config, &args).await,
            Command::Messages(args) => messages::messages(&config, &args).await,
            Command::Replay(args) => messages::replay(&config, &args).await,
            Command::Discard(args) => messages::discard(&config, &args).await,
            Command::Users(args) => people::users(&config, &args).await,
            Command::Bind(args) => people::bind(&config, &args).await,
            Command::Unbind(args) => people::unbind(&config, &args).await,
            Command::Authorize(args) => people::authorize(&config, &args).await,
            Command::Rules(args) => people::rules(&config, &args).await,
            Command::Settings(args) => settings::settings(&config, &args).await,
            Command::Schedules(args) => settings::schedules(&config, &args).await,
            Command::Roles(args) => settings::roles(&config, &args).await,
            Command::Status(args) => operate::status(&config, &args).await,
            Command::Subscriptions(args) => operate::subscriptions(&config, &args).await,
            Command::Renew(args) => operate::renew(&config, &args).await,
            Command::Audit(args) => operate::audit(&config, &args).await,
            Command::Sessions(args) => operate::sessions(&config, &args).await,
            Command::Log(args) => operate::log(&config, &args).await,
            Command::Migrate { way, json } => migrate(&config, way, json).await,
            Command::Secrets(args) => secrets::run(&config, &args).await,
            Command::Health { json } => look::health(&config, json).await,
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

async fn migrate(config: &Config, way: Migrate, as_json: bool) -> anyhow::Result<()> {
    let store = store::Store::open(config.database.url.expose_secret()).await;
    let store = store.context("the database cannot be used; check database.url")?;
    match way {
        Migrate::Up => store.migrate_up().await?,
        Migrate::Down => store.migrate_down(1).await?,
        Migrate::Status => {}
    }
    let migrations = store.migrate_status().await?;
    if as_json {
        let one = |one: &store::Migration| serde_json::json!({ "name": one.name, "applied": one.applied });
        say(&serde_json::to_string_pretty(&migrations.iter().map(one).collect::<Vec<_>>())?)?;
    } else {
        for migration in &migrations {
            say(&format!("{}  {}", if migration.applied { "applied" } else { "pending" }, migration.name))?;
        }
    }
    store.close().await?;
    Ok(())
}
