//! A database for a test, and things to put into it.

use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database};
use store::messages::NewMessage;
use store::{Store, Transaction};
use sync::{Cause, Change, Kind, Target};

static MADE: AtomicU32 = AtomicU32::new(0);

pub struct World {
    pub store: Store,
    pub url: String,
    _folder: tempfile::TempDir,
    _server: Option<Made>,
}

/// A database of its own on the server that `TEST_DATABASE_URL` names.
struct Made {
    server: String,
    name: String,
}

impl Made {
    async fn new(server: String) -> Self {
        let name = format!("store_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // Sorted as people sort, which is not how we do.
        let locale =
            if server.starts_with("mysql") { "" } else { "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'" };
        execute(&server, &format!("CREATE DATABASE {name} {locale}")).await;
        Self { server, name }
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server.rsplit_once('/').unwrap().0, self.name)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let force = if self.server.starts_with("mysql") { "" } else { "WITH (FORCE)" };
        let (server, drop) = (self.server.clone(), format!("DROP DATABASE {} {force}", self.name));
        // There is no waiting in here on the runtime of the test.
        let done = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(execute(&server, &drop));
        });
        done.join().ok();
    }
}

async fn execute(server: &str, statement: &str) {
    let mut options = ConnectOptions::new(server);
    options.max_connections(1).sqlx_logging(false);
    let connection = Database::connect(options).await.unwrap();
    connection.execute_unprepared(statement).await.unwrap();
    connection.close().await.unwrap();
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Ok(server) = std::env::var("TEST_DATABASE_URL") {
            let made = Made::new(server).await;
            let url = made.url();
            let store = Store::open(&url).await.unwrap();
            store.migrate_up().await.unwrap();
            return Self { store, url, _folder: folder, _server: Some(made) };
        }
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("test.db").display());
        let store = Store::open(&url).await.unwrap();
        store.migrate_up().await.unwrap();
        Self { store, url, _folder: folder, _server: None }
    }

    /// True on SQLite, where a transaction that is held stops everybody who writes.
    pub fn has_one_writer(&self) -> bool {
        self.url.starts_with("sqlite")
    }

    pub async fn begin(&self) -> Transaction {
        self.store.begin().await.unwrap()
    }
}

/// So many seconds into the day on which these tests take place.
pub fn at(seconds: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 8, 0, 0).unwrap() + TimeDelta::seconds(seconds)
}

pub fn event(id: &str, user: &str, item: &str, received: i64) -> NewMessage {
    message(id, Target::Event { user: user.to_owned(), id: item.to_owned() }, received)
}

pub fn record(id: &str, record: &str, received: i64) -> NewMessage {
    message(id, Target::Record { kind: Kind::Meeting, id: record.to_owned() }, received)
}

pub fn message(id: &str, target: Target, received: i64) -> NewMessage {
    let change = Change {
        id: id.to_owned(),
        target,
        cause: Cause::Webhook,
        received: at(received),
        version: None,
        job: None,
        trace: None,
        reminder: None,
    };
    NewMessage::new(change, "webhook")
}
