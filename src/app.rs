//! The composition root: configuration in, [`App`] out. The only place that knows every module.

pub mod connections;
pub mod tokens;

use std::collections::BTreeSet;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret as _, SecretString};
use store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::connections::{Connections, EspoConnection};
use crate::clock::Clock;
use crate::config::Config;
use crate::id::Ids;
use crate::queue::Queue;
use crate::vault::Vault;

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
    admin_token: SecretString,
}

impl App {
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
}
