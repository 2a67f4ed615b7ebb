//! Our own side: database, key, queue.

use secrecy::ExposeSecret as _;
use store::messages::NewMessage;
use store::{Store, StoreError};
use sync::{Cause, Change, Target};

use super::Report;
use crate::app::connections::PROBE;
use crate::app::{App, BuildOptions, secrets};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::problem::Chain;
use crate::queue::Rabbit;
use crate::vault::Vault;

const WRITABLE: &str = "make room on the disk, and let the service's account write the database";

/// What is tried, as long as somebody may be kept waiting; else why it failed.
async fn in_time(trial: impl Future<Output = Result<(), StoreError>>) -> Result<(), String> {
    match tokio::time::timeout(PROBE, trial).await {
        Ok(done) => done.map_err(|error| Chain(&error).to_string()),
        Err(_) => Err(format!("it takes longer than {} s; somebody else may hold it", PROBE.as_secs())),
    }
}

/// Opens what the service stands on; none when it could not start.
pub(super) async fn open(config: &Config, report: &mut Report) -> Option<App> {
    let store = match Store::open(config.database.url.expose_secret()).await {
        Ok(store) => store,
        Err(error) => {
            report.fail("database", Chain(&error).to_string(), "check database.url, and that the server runs");
            report.skip("encryption_key", "not looked at: the database cannot be used");
            return None;
        }
    };
    let is_fresh = database(&store, report).await;
    match (Vault::open(config), is_fresh) {
        (Ok(vault), false) => key(&store, &vault, report).await,
        (Ok(vault), true) => report.ok("encryption_key", format!("the key {} can be read", vault.key_id())),
        (Err(error), _) => report.error("encryption_key", &error),
    }
    store.close().await.ok();
    if report.failed() > 0 {
        return None;
    }
    // A database without a schema is given one: there is nothing in it that an older version might still need.
    let options = BuildOptions { migrate: is_fresh, ..BuildOptions::default() };
    match App::build_with(config.clone(), Clock::System, options).await {
        Ok(app) => Some(app),
        Err(error) => {
            report.error("start", &error);
            None
        }
    }
}

/// True when the database is empty.
pub(super) async fn database(store: &Store, report: &mut Report) -> bool {
    let pending = match store.migrate_status().await {
        Ok(all) if all.iter().any(|one| one.applied) => all.iter().filter(|one| !one.applied).count(),
        Ok(_) | Err(_) => {
            report.warn("database", "reachable, but it has no schema yet", "`serve` and `migrate up` make it");
            return true;
        }
    };
    match (in_time(tried(store)).await, pending) {
        (Err(why), _) => report.fail("database", format!("it cannot be written: {why}"), WRITABLE),
        (Ok(()), 0) => report.ok("database", "it can be written, and its schema is up to date"),
        (Ok(()), pending) => {
            let detail = format!("its schema lacks {pending} steps");
            report.fail("database", detail, "run `espo-outlook migrate up`, or start the service, which does it");
        }
    }
    false
}

/// Writes something small.
async fn tried(store: &Store) -> Result<(), StoreError> {
    store.try_write(Clock::System.now()).await
}

pub(super) async fn key(store: &Store, vault: &Vault, report: &mut Report) {
    match secrets::survey(store, vault).await {
        Ok((by_key, closed)) if closed.is_empty() => {
            let count: usize = by_key.values().sum();
            report.ok("encryption_key", format!("the key {} is in force; all {count} stored secrets open", vault.key_id()));
        }
        Ok((_, closed)) => report.fail(
            "encryption_key",
            format!("the key {} does not open {}", vault.key_id(), closed.join(", ")),
            "give the key with which they were sealed (security.encryption_key, security.encryption_key_file), or enter them \
             again and let users sign in again",
        ),
        Err(error) => report.error("encryption_key", &error),
    }
}

pub(super) async fn queue(app: &App, report: &mut Report) {
    if let Some(broker) = app.queue().broker() {
        self::broker(broker, report).await;
    }
    if let Err(why) = in_time(queued(app)).await {
        return report.fail("queue", format!("it takes no messages: {why}"), WRITABLE);
    }
    match store::inbox::waiting(app.store().read()).await {
        Ok(waiting) if waiting.aside > 0 => {
            return report.warn(
                "queue",
                format!("{} received messages could not be read or stored and are kept in the inbox", waiting.aside),
                "the log of the worker says why; bring workers and receivers to one version, and restart a worker: it tries again",
            );
        }
        Ok(_) => {}
        Err(error) => return report.error("queue", &error),
    }
    match store::messages::depth(app.store().read()).await {
        Ok(depth) if depth.dead > 0 => report.warn(
            "queue",
            format!("it takes messages; {} failed for good", depth.dead),
            "see `espo-outlook messages --state dead`, then `espo-outlook replay --all-dead`",
        ),
        Ok(depth) => {
            let detail = format!("it takes messages; {} waiting, {} parked, none dead", depth.queued, depth.parked);
            report.ok("queue", detail);
        }
        Err(error) => report.error("queue", &error),
    }
}

/// RabbitMQ: reachable, the queues are there, and a message goes there and back.
async fn broker(broker: &Rabbit, report: &mut Report) {
    let name = "broker";
    match broker.examine().await {
        Ok(depth) if depth.dead > 0 => report.warn(
            name,
            format!(
                "RabbitMQ at {} confirms messages; {} in the queue `{}` could not be read",
                broker.address(),
                depth.dead,
                broker.dead_queue()
            ),
            "their header x-error says why; bring workers and receivers to one version, then `espo-outlook replay --all-dead` \
             puts them back, or purge that queue",
        ),
        Ok(depth) => {
            let detail = format!("RabbitMQ at {} confirms messages; {} waiting there", broker.address(), depth.ready);
            report.ok(name, detail);
        }
        Err(fault) => report.error(name, &fault),
    }
}

/// Queues a message and takes it back.
async fn queued(app: &App) -> Result<(), StoreError> {
    let target = Target::Mailbox { user: "doctor".to_owned() };
    let received = app.clock().now();
    let change = Change {
        id: app.ids().next(),
        target,
        cause: Cause::Manual,
        received,
        version: None,
        job: None,
        trace: None,
        reminder: None,
    };
    let transaction = app.store().begin().await?;
    store::messages::insert_many(&transaction, &[NewMessage::new(change, Cause::Manual.as_str())]).await?;
    transaction.rollback().await.map_err(StoreError::from)
}
