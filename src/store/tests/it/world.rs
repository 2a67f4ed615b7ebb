//! A database for a test, and things to put into it.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use store::messages::NewMessage;
use store::{Store, Transaction};
use sync::{Cause, Change, Kind, Target};
use tokio::sync::{Mutex, MutexGuard};

static SERVER: Mutex<()> = Mutex::const_new(());

pub struct World {
    pub store: Store,
    pub url: String,
    _folder: tempfile::TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
            let turn = SERVER.lock().await;
            let store = Store::open(&url).await.unwrap();
            let applied = store.migrate_status().await.unwrap().iter().filter(|one| one.applied).count();
            store.migrate_down(applied as u32).await.unwrap();
            store.migrate_up().await.unwrap();
            return Self { store, url, _folder: folder, _turn: Some(turn) };
        }
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("test.db").display());
        let store = Store::open(&url).await.unwrap();
        store.migrate_up().await.unwrap();
        Self { store, url, _folder: folder, _turn: None }
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
    let change =
        Change { id: id.to_owned(), target, cause: Cause::Webhook, received: at(received), version: None, job: None };
    NewMessage::new(change, "webhook")
}
