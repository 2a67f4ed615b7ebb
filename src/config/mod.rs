//! Configuration: a TOML file overlaid by environment variables `ESPO_OUTLOOK_<SECTION>__<KEY>`.
//!
//! An unknown key is an error that names the key, where it stands and the nearest known key; a value that cannot be read is
//! an error that names the key, where it stands and what is expected. All of them are reported at once. Secrets are
//! [`SecretString`]s from the moment of parsing: the `Debug` form of [`Config`] shows none.

mod pairs;
pub mod parse;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use graph::certificate::Certificate;
use secrecy::SecretString;
use url::Url;

use sources::Reader;
pub use sources::{ConfigError, KEYS, load};

/// The name of the file that is read from the working folder when no other is named.
pub const DEFAULT_FILE: &str = "espo-outlook.toml";

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[database]`
    pub database: Database,
    /// `[queue]`
    pub queue: Queue,
    /// `[security]`
    pub security: Security,
    /// `[espocrm]`
    pub espocrm: Espocrm,
    /// `[microsoft]`
    pub microsoft: Microsoft,
    /// `[sync]`
    pub sync: Sync,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[worker]`
    pub worker: Worker,
    /// `[circuit]`
    pub circuit: ::circuit::Limits,
    /// `[log]`
    pub log: Log,
    /// `[[pairs]]`
    pub pairs: Vec<::sync::Pair>,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// Where to listen.
    pub bind: SocketAddr,
    /// The address that EspoCRM and Microsoft reach, without a slash at its end.
    pub public_url: Option<Url>,
    /// Bearer token of the admin API.
    pub admin_token: Option<SecretString>,
    /// Largest accepted body of a webhook, in bytes.
    pub max_body: usize,
    /// A process that gives no sign of life for that long is given up by the others on the same database.
    pub silence: Duration,
}

/// `[database]`
#[derive(Debug, Clone)]
pub struct Database {
    /// `sqlite://`, `postgres://` or `mysql://`; it may hold a password.
    pub url: SecretString,
}

/// `[queue]`
#[derive(Debug, Clone)]
pub struct Queue {
    /// `embedded:`, `amqp://` or `amqps://`; it may hold a password.
    pub url: SecretString,
    /// How the names of our queues in RabbitMQ begin: installations that share a virtual host have different ones.
    pub prefix: String,
}

/// `[security]`
#[derive(Debug, Clone)]
pub struct Security {
    /// 32 bytes in base64.
    pub encryption_key: Option<SecretString>,
    /// A file that holds them.
    pub encryption_key_file: Option<PathBuf>,
    /// Keys that `encryption_key` has replaced: what was sealed with them can still be opened.
    pub previous_encryption_keys: Vec<SecretString>,
}

/// `[espocrm]`; what is left out here may be entered in the pages.
#[derive(Debug, Clone)]
pub struct Espocrm {
    /// Address of EspoCRM.
    pub url: Option<Url>,
    /// API key of the API user.
    pub api_key: Option<SecretString>,
    /// Secret key of the API user: turns on HMAC authentication.
    pub secret_key: Option<SecretString>,
    /// Optional admin account.
    pub admin_username: Option<String>,
    /// Its password.
    pub admin_password: Option<SecretString>,
    /// Name of the "Synchronize with Outlook" field.
    pub switch_field: String,
    /// Name of the marker field.
    pub marker_field: String,
    /// Names of fields that hold a location; the first that exists counts.
    pub location_fields: Vec<String>,
}

/// How Microsoft lets us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each user signs in.
    Delegated,
    /// One consent for the organisation.
    Application,
}

/// `[microsoft]`; what is left out here may be entered in the pages.
#[derive(Debug, Clone)]
pub struct Microsoft {
    /// Tenant: an id or a domain.
    pub tenant: Option<String>,
    /// The Application (client) ID.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<SecretString>,
    /// A certificate that serves instead of the secret.
    pub client_certificate: Option<Certificate>,
    /// Delegated unless said otherwise.
    pub mode: Option<Mode>,
    /// Where users sign in.
    pub authority: Url,
    /// Graph, with its version.
    pub graph_url: Url,
}

/// `[sync]`
#[derive(Debug, Clone)]
pub struct Sync {
    /// Records of one mailbox that are taken in one iteration.
    pub events_per_iteration: u32,
    /// How often EspoCRM is asked for modified records, and Graph where there is no subscription.
    pub poll_interval: Duration,
    /// How far ahead series are unrolled.
    pub horizon_days: u32,
    /// How long one end may be gone before the other is deleted.
    pub deletion_grace: Duration,
    /// A first synchronisation with more creations than this waits for a word.
    pub first_sync_hold_over: u64,
    /// How long received messages are kept.
    pub keep_messages: Duration,
    /// How long it is kept who has done what.
    pub keep_audit: Duration,
    /// Mailboxes that a sweep or poll reads at the same time.
    pub mailboxes_at_once: usize,
    /// Whether what was done about a record is told on its stream in EspoCRM, where it notifies the record's followers.
    pub stream_notes: bool,
}

/// `[schedule]`: cron expressions of the sweeps, checked.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Meetings.
    pub meeting: String,
    /// Calls.
    pub call: String,
    /// Tasks.
    pub task: String,
}

/// `[worker]`
#[derive(Debug, Clone)]
pub struct Worker {
    /// Changes in hand at once.
    pub concurrency: usize,
    /// First pause after a failure.
    pub retry_base: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// After so many attempts a message is dead.
    pub max_attempts: u32,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// What is logged, in the syntax of tracing's `EnvFilter`: `log.filter`, else the level `log.level`. The variable
    /// `RUST_LOG` goes before both.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The defaults, overlaid by nothing.
    ///
    /// # Errors
    ///
    /// Never in fact: a test reads the defaults.
    pub fn defaults() -> Result<Self, ConfigError> {
        load(None, std::iter::empty())
    }

    /// Our own address as browsers reach it, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        match &self.server.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://localhost:{}", self.server.bind.port()),
        }
    }

    fn read(values: &mut Reader) -> Option<Self> {
        Some(Self {
            server: Server {
                bind: values.or("server.bind", "127.0.0.1:8080", parse::address)?,
                public_url: values.maybe("server.public_url", parse::public_url),
                admin_token: values.maybe("server.admin_token", parse::admin_token),
                max_body: values.or("server.max_body", "4MiB", parse::size)?,
                silence: values.or("server.silence", "10s", parse::silence)?,
            },
            database: Database {
                url: values.or("database.url", "sqlite://espo-outlook.db?mode=rwc", parse::database_url)?,
            },
            queue: Queue {
                url: values.or("queue.url", "embedded:", parse::queue_url)?,
                prefix: values.or("queue.prefix", "espo-outlook", parse::queue_prefix)?,
            },
            security: Security {
                encryption_key: values.maybe("security.encryption_key", parse::encryption_key),
                encryption_key_file: values.maybe("security.encryption_key_file", parse::path),
                previous_encryption_keys: values
                    .maybe("security.previous_encryption_keys", parse::encryption_keys)
                    .unwrap_or_default(),
            },
            espocrm: Self::espocrm(values)?,
            microsoft: Self::microsoft(values)?,
            sync: Sync {
                events_per_iteration: values.or("sync.events_per_iteration", "10", parse::positive)?,
                poll_interval: values.or("sync.poll_interval", "15s", parse::pause)?,
                horizon_days: values.or("sync.horizon_days", "90", parse::positive)?,
                deletion_grace: values.or("sync.deletion_grace", "10s", parse::duration)?,
                first_sync_hold_over: values.or("sync.first_sync_hold_over", "100", parse::number)?,
                keep_messages: values.or("sync.keep_messages", "14d", parse::pause)?,
                keep_audit: values.or("sync.keep_audit", "400d", parse::pause)?,
                mailboxes_at_once: values.or("sync.mailboxes_at_once", "16", parse::positive)?,
                stream_notes: values.or("sync.stream_notes", "false", parse::yes_or_no)?,
            },
            schedule: Schedule {
                meeting: values.or("schedule.meeting", "*/10 * * * *", parse::cron_text)?,
                call: values.or("schedule.call", "*/10 * * * *", parse::cron_text)?,
                task: values.or("schedule.task", "*/10 * * * *", parse::cron_text)?,
            },
            worker: Worker {
                concurrency: values.or("worker.concurrency", "16", parse::positive)?,
                retry_base: values.or("worker.retry_base", "1s", parse::pause)?,
                retry_max: values.or("worker.retry_max", "15m", parse::pause)?,
                max_attempts: values.or("worker.max_attempts", "12", parse::positive)?,
            },
            circuit: ::circuit::Limits {
                failures: values.or("circuit.failures", "5", parse::positive)?,
                pause: values.or("circuit.pause", "1s", parse::pause)?,
                longest: values.or("circuit.longest_pause", "30s", parse::pause)?,
            },
            log: Log {
                filter: match values.maybe("log.filter", parse::text) {
                    Some(filter) => filter,
                    None => values.or("log.level", "info", parse::log_level)?,
                },
                format: values.or("log.format", "auto", parse::log_format)?,
            },
            pairs: values.pairs(),
        })
    }

    fn espocrm(values: &mut Reader) -> Option<Espocrm> {
        Some(Espocrm {
            url: values.maybe("espocrm.url", parse::url),
            api_key: values.maybe("espocrm.api_key", parse::secret),
            secret_key: values.maybe("espocrm.secret_key", parse::secret),
            admin_username: values.maybe("espocrm.admin_username", parse::text),
            admin_password: values.maybe("espocrm.admin_password", parse::secret),
            switch_field: values.or("espocrm.switch_field", "cSyncWithOutlook", parse::text)?,
            marker_field: values.or("espocrm.marker_field", "cOutlookMarker", parse::text)?,
            location_fields: values.or("espocrm.location_fields", "location,cLocation", parse::list)?,
        })
    }

    fn microsoft(values: &mut Reader) -> Option<Microsoft> {
        Some(Microsoft {
            tenant: values.maybe("microsoft.tenant", parse::text),
            client_id: values.maybe("microsoft.client_id", parse::text),
            client_secret: values.maybe("microsoft.client_secret", parse::secret),
            client_certificate: values.maybe("microsoft.client_certificate", parse::certificate),
            mode: values.maybe("microsoft.mode", parse::mode),
            authority: values.or("microsoft.authority", "https://login.microsoftonline.com", parse::url)?,
            graph_url: values.or("microsoft.graph_url", "https://graph.microsoft.com/v1.0", parse::url)?,
        })
    }
}

#[cfg(test)]
mod tests;
