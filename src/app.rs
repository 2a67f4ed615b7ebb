//! The composition root: configuration in, [`App`] out. The only place that knows every module.

pub mod circuits;
pub mod connections;
pub mod doctor;
pub mod instance;
mod places;
pub mod provision;
pub mod secrets;
mod serve;
pub mod settings;
pub mod tokens;
pub mod traffic;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret as _, SecretString};
use store::writer::Writer;
use store::{Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::circuits::Circuits;
pub use self::connections::{ConnectionError, Connections, EspoConnection, Microsoft};
pub use self::instance::{InHand, Membership};
pub use self::serve::{Role, ServeError, serve};
use crate::clock::Clock;
use crate::config::Config;
use crate::id::Ids;
use crate::queue::{Parts, Queue, Rabbit};
use crate::vault::{Vault, VaultError};
use crate::work::locks::Locks;

/// So many requests may wait for the next commit; more are told to come back.
const LINE: usize = 4096;

/// Everything that a part of the process may need. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    ids: Ids,
    vault: Vault,
    store: Store,
    queue: Queue,
    shutdown: CancellationToken,
    tracker: TaskTracker,
    connections: Connections,
    metrics: PrometheusHandle,
    admin_token: AdminToken,
    schedule_wake: Arc<Notify>,
    circuits: Circuits,
    runtime: tokio::runtime::Handle,
    locks: Locks,
    membership: Membership,
}

/// The token of the admin API, and whether it was made just now.
struct AdminToken {
    token: SecretString,
    is_new: bool,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error("the database cannot be used; check database.url ({called})")]
    Open {
        /// What it is called.
        called: String,
        /// Why.
        source: StoreError,
    },
    /// It failed later.
    #[error("the database cannot be used; check database.url")]
    Database(#[source] StoreError),
    /// It lacks steps of the schema, and nobody wanted them to be made.
    #[error("the database schema lacks {0} steps; run `espo-outlook migrate up`, or leave out --no-migrate")]
    Behind(usize),
    /// The schema could not be brought up to date.
    #[error("the database schema cannot be brought up to date")]
    Migration(#[source] StoreError),
    /// There is no key to seal secrets with.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Settings cannot be read or make no connection.
    #[error(transparent)]
    Connections(#[from] ConnectionError),
    /// What is stored cannot be used.
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    /// The queue cannot be used.
    #[error("queue.url is neither embedded: nor the address of a RabbitMQ like amqp://user:password@host:5672/vhost")]
    Queue,
    /// The metrics cannot be set up.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// How an [`App`] is built, where it is not as usual.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Whether the database schema is brought up to date.
    pub migrate: bool,
    /// Where ids come from; from the machine when none are given.
    pub ids: Option<Ids>,
    /// The client of both systems; its own when none is given. To make one means to read all root certificates.
    pub http: Option<reqwest::Client>,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { migrate: true, ids: None, http: None }
    }
}

impl App {
    /// Opens the database, brings its schema up to date and builds everything else.
    ///
    /// # Errors
    ///
    /// When the database, the key or the stored settings cannot be used.
    pub async fn build(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::build_with(config, clock, BuildOptions::default()).await
    }

    /// The same, in another way than usual.
    ///
    /// # Errors
    ///
    /// When the database, the key or the stored settings cannot be used.
    pub async fn build_with(config: Config, clock: Clock, options: BuildOptions) -> Result<Self, StartError> {
        // A second service in one process has installed it already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let metrics = crate::telemetry::metrics()?;
        let url = config.database.url.expose_secret();
        let away = |source| StartError::Open { called: store::called(url), source };
        let store = Store::open(url).await.map_err(away)?;
        if options.migrate {
            store.migrate_up().await.map_err(StartError::Migration)?;
        } else {
            let pending = store.migrate_status().await.map_err(StartError::Migration)?;
            match pending.iter().filter(|one| !one.applied).count() {
                0 => {}
                pending => return Err(StartError::Behind(pending)),
            }
        }
        let vault = Vault::open(&config)?;
        let ids = options.ids.unwrap_or_else(|| Ids::system(clock.clone()));
        check_key(&store, &vault, &clock).await?;
        let admin_token = admin_token(&config, &store, &vault, &ids, &clock).await?;
        let locks = Locks::new(&store, &clock);
        let membership = Membership::new(store.clone(), ids.clone(), config.server.silence);
        // The task ends when the last clone of the writer is dropped.
        let (writer, _) = Writer::spawn(store.clone(), LINE);
        let shutdown = CancellationToken::new();
        let queue = queue(&config, writer.clone(), &clock, &ids, &shutdown)?;
        let schedule_wake = Arc::new(Notify::new());
        let circuits = Circuits::new(config.circuit, &[writer.wake(), &schedule_wake]);
        let parts = connections::Parts {
            clock: &clock,
            ids: &ids,
            vault: &vault,
            store: &store,
            locks: &locks,
            circuits: &circuits,
        };
        let connections = Connections::open(&config, &parts, options.http).await?;
        let tracker = TaskTracker::new();
        Ok(Self(Arc::new(Inner {
            config,
            clock,
            ids,
            vault,
            store,
            queue,
            shutdown,
            tracker,
            connections,
            metrics,
            admin_token,
            schedule_wake,
            circuits,
            runtime: tokio::runtime::Handle::current(),
            locks,
            membership,
        })))
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Ids and secrets.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.0.ids
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    /// Cancelled when the process is to stop: finish what is in hand, take nothing new.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Tasks that are waited for when the process stops.
    #[must_use]
    pub fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    /// Connections to EspoCRM and Microsoft.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// Metrics as Prometheus reads them.
    #[must_use]
    pub fn metrics(&self) -> &PrometheusHandle {
        &self.0.metrics
    }

    /// Woken when the scheduler has something to do before its next turn: a job, a renewal, a new binding.
    #[must_use]
    pub fn schedule_wake(&self) -> &Notify {
        &self.0.schedule_wake
    }

    /// Locks of pairs, shared by the workers and by what an administrator does to a pair.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.0.locks
    }

    /// Which of the other systems answer.
    #[must_use]
    pub fn circuits(&self) -> &Circuits {
        &self.0.circuits
    }

    /// This process among the others.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.0.membership
    }

    /// Wakes the scheduler, all of its tasks, in whichever process it is.
    pub fn wake_schedule(&self) {
        self.wake_own_schedule();
        if self.0.store.is_shared() {
            let store = self.0.store.clone();
            self.0.runtime.spawn(async move {
                if let Err(error) = store::signals::raise(store.write(), store::signals::SCHEDULE).await {
                    tracing::warn!(%error, "the scheduler could not be woken; it looks by itself soon");
                }
            });
        }
    }

    pub(crate) fn wake_own_schedule(&self) {
        self.0.schedule_wake.notify_waiters();
        // For a task that is busy at the moment.
        self.0.schedule_wake.notify_one();
    }

    /// Runs something on the runtime of the process rather than on that of an HTTP worker: pooled connections to the other
    /// systems then outlive the HTTP server. None when it panicked or the process is ending.
    pub async fn on_main<F>(&self, work: F) -> Option<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.runtime.spawn(crate::trace::carried(work)).await.ok()
    }

    /// Works in the context of the runtime of the process: connections to the database that are opened by it belong to that, and
    /// outlive the HTTP worker that polls it.
    pub async fn within<F: Future>(&self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| {
            let _entered = self.0.runtime.enter();
            work.as_mut().poll(context)
        })
        .await
    }

    /// The token of the admin API.
    #[must_use]
    pub fn admin_token(&self) -> &SecretString {
        &self.0.admin_token.token
    }

    /// True when the token was made just now: it has to be told to the operator.
    #[must_use]
    pub fn admin_token_is_new(&self) -> bool {
        self.0.admin_token.is_new
    }
}

/// The queue that the configuration names. A broker is not connected to yet.
fn queue(
    config: &Config,
    table: Writer,
    clock: &Clock,
    ids: &Ids,
    stopping: &CancellationToken,
) -> Result<Queue, StartError> {
    let url = config.queue.url.expose_secret();
    if url == "embedded:" {
        return Ok(Queue::Embedded(table));
    }
    let parts = Parts { table, line: LINE, clock: clock.clone(), ids: ids.clone(), stopping: stopping.clone() };
    Rabbit::new(url, &config.queue.prefix, parts).map(Queue::Rabbit).ok_or(StartError::Queue)
}

async fn admin_token(
    config: &Config,
    store: &Store,
    vault: &Vault,
    ids: &Ids,
    clock: &Clock,
) -> Result<AdminToken, StartError> {
    if let Some(token) = &config.server.admin_token {
        return Ok(AdminToken { token: token.clone(), is_new: false });
    }
    let name = settings::ADMIN_TOKEN;
    let stored = store::settings::get_sealed(store.read(), name).await.map_err(StartError::Database)?;
    if let Some(sealed) = stored {
        return Ok(AdminToken { token: vault.open_secret(name, &sealed)?, is_new: false });
    }
    let token = ids.secret();
    let sealed = vault.seal(name, &token)?;
    let put = store::settings::put_sealed_once(store.write(), name, &sealed, clock.now()).await;
    let kept = put.map_err(StartError::Database)?;
    // Of several processes that start at once one makes the token.
    Ok(AdminToken { token: vault.open_secret(name, &kept)?, is_new: kept == sealed })
}

/// Whether this process has the key with which the others seal. The first one leaves a word for them to open.
async fn check_key(store: &Store, vault: &Vault, clock: &Clock) -> Result<(), StartError> {
    let name = settings::KEY_CHECK;
    let kept = match store::settings::get_sealed(store.read(), name).await.map_err(StartError::Database)? {
        Some(kept) => kept,
        None => {
            let sealed = vault.seal(name, name)?;
            let put = store::settings::put_sealed_once(store.write(), name, &sealed, clock.now()).await;
            put.map_err(StartError::Database)?
        }
    };
    vault.open_secret(name, &kept).map(drop).map_err(|_| VaultError::Other.into())
}
