//! The database: what the service knows between two runs.
//!
//! Free functions over `&impl ConnectionTrait`, one module an aggregate; there is no layer above sea-orm, which is the
//! portability layer already. A caller that has several things to do begins a transaction ([`Store::begin`]), hands it to each of
//! them, and begins anew where the database gives it up ([`insist`]); nothing in here begins one, [`writer`], [`settle`] and
//! [`inbox::empty`] aside.
//!
//! # One writer
//! SQLite lets one connection write at a time. [`Store`] therefore has a pool of readers, which are told to refuse writes
//! (`PRAGMA query_only`), and exactly one writing connection. Transactions begin `IMMEDIATE`: they take the write lock before
//! they read, so none of them ever has to be rolled back because another one wrote in between (SQLite, "Transactions":
//! upgrading a read transaction fails with `SQLITE_BUSY`). Inside this process writers wait in line for the connection;
//! against other processes a busy time-out helps. On other databases both sides are one pool.
//!
//! Two rules follow. Who holds a transaction must not begin another one, nor wait for [`writer::Writer`] or
//! [`Store::settle`]: there is no second writing connection to give. And nobody keeps a transaction open across a request to EspoCRM or Graph.
//!
//! # Time and ids
//! Both are parameters. Moments are kept as milliseconds; what must be exact to the microsecond lives in JSON documents.

mod backend;
mod convert;
mod error;
mod page;
#[macro_use]
mod words;

pub mod audit;
pub mod bindings;
pub mod cursors;
pub mod directory;
pub mod espo_webhooks;
pub mod history;
pub mod holds;
pub mod inbox;
pub mod instances;
pub mod jobs;
pub mod leases;
pub mod links;
pub mod locks;
pub mod messages;
pub mod oauth;
pub mod roles;
pub mod rules;
pub mod sealed;
pub mod sessions;
pub mod settings;
pub mod settle;
pub mod signals;
pub mod subscriptions;
pub mod switches;
pub mod tokens;
pub mod traffic;
pub mod writer;

use std::sync::{Arc, PoisonError, RwLock};

use backend::Connected;
use migration::{Migrator, MigratorTrait};
pub use sea_orm::ConnectionTrait;

pub use backend::{Connection, Later, Transaction};
pub use error::{Result, StoreError};
pub use page::Page;

/// The open database.
#[derive(Clone)]
pub struct Store {
    url: Arc<str>,
    reader: Connection,
    writer: Connection,
    pulse: Connection,
    holder: Arc<RwLock<Holder>>,
    lines: settle::Lines,
    directory: directory::Kept,
}

/// As whom this process holds locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Holder {
    /// Nobody else serves on this database: locks within the process do.
    #[default]
    Alone,
    /// A registered process ([`instances`]).
    Instance(Arc<str>),
    /// The others have given it up, and nothing that rests on a lock may be written until it has registered anew.
    Lost,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a password.
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// What a database is called in a complaint: the file, or the kind of server. No password is in it.
#[must_use]
pub fn called(url: &str) -> String {
    backend::called(url)
}

/// A step of the schema's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its name, which begins with its date.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
}

impl Store {
    /// Opens `sqlite://`, `postgres://` or `mysql://`. A SQLite file that is not there is created.
    ///
    /// # Errors
    /// When the address makes no sense or the database cannot be reached.
    pub async fn open(url: &str) -> Result<Self> {
        let Connected { reader, writer, pulse } = backend::connect(url).await?;
        let lines = backend::lines(&writer);
        let store = Self {
            url: url.into(),
            reader,
            writer,
            pulse,
            holder: Arc::default(),
            lines: settle::Lines::default(),
            directory: Arc::default(),
        };
        // The tasks have a store without lines, or they would keep themselves alive.
        Ok(Self { lines: settle::Lines::start(&store, lines), ..store })
    }

    const fn kept(&self) -> &directory::Kept {
        &self.directory
    }

    const fn lines(&self) -> &settle::Lines {
        &self.lines
    }

    /// For reading; on SQLite it refuses to write.
    #[must_use]
    pub const fn read(&self) -> &Connection {
        &self.reader
    }

    /// For a single write that needs no transaction.
    #[must_use]
    pub const fn write(&self) -> &Connection {
        &self.writer
    }

    /// Begins a transaction that writes. Dropped without a commit, it is rolled back. The write lock of a file is taken by its first
    /// statement.
    ///
    /// # Errors
    /// When the database is gone, or no connection is to be had in time.
    pub async fn begin(&self) -> Result<Transaction> {
        backend::begin(&self.writer).await
    }

    /// The same for what rests on a lock: nothing is written when this process was given up meanwhile, and as long as the
    /// transaction lasts it is not.
    ///
    /// # Errors
    /// When it was given up, the database is gone, or the write lock is not to be had in time.
    pub async fn begin_held(&self) -> Result<Transaction> {
        self.held(self.begin()).await
    }

    /// The same for what is done again if it is lost, such as a lease: it outlives this process, and on a SQLite file a power cut may
    /// take it, with nothing that was committed before. What is committed later keeps it too.
    ///
    /// # Errors
    /// As above.
    pub async fn begin_held_lightly(&self) -> Result<Transaction> {
        self.held(backend::begin_lightly(&self.writer)).await
    }

    async fn held(&self, begin: impl Future<Output = Result<Transaction>>) -> Result<Transaction> {
        let id = match self.holder() {
            Holder::Alone => return begin.await,
            Holder::Lost => return Err(StoreError::Superseded),
            Holder::Instance(id) => id,
        };
        let transaction = begin.await?;
        if backend::is_registered(&transaction, &id).await? {
            return Ok(transaction);
        }
        self.lose(&id);
        Err(StoreError::Superseded)
    }

    /// As whom this process holds locks.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on locks are held as that.
    pub fn hold_as(&self, holder: Holder) {
        *self.holder.write().unwrap_or_else(PoisonError::into_inner) = holder;
    }

    /// That process was given up by the others.
    pub fn lose(&self, id: &str) {
        let mut holder = self.holder.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*holder, Holder::Instance(known) if &**known == id) {
            *holder = Holder::Lost;
        }
    }

    /// Whether other processes may serve on the same database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        backend::is_shared(&self.writer)
    }

    /// The exclusive right to be a part of the service on a SQLite file; `WouldBlock` while another process has it. None on a
    /// database that several processes share.
    ///
    /// # Errors
    /// When another process has it, or no file can be made beside the database.
    pub fn claim(&self, part: &str) -> std::io::Result<Option<std::fs::File>> {
        backend::claim(&self.url, part)
    }

    /// Writes something small, for good: a disk that is full is found out by a commit only.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn try_write(&self, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
        settings::put(&self.writer, "written", &now.timestamp(), now).await
    }

    /// For signs of life, which must not wait for anybody.
    #[must_use]
    pub const fn pulse(&self) -> &Connection {
        &self.pulse
    }

    /// Asks both sides for a sign of life.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn ping(&self) -> Result<()> {
        self.reader.ping().await?;
        self.writer.ping().await?;
        Ok(())
    }

    /// Closes all connections; what was committed is on the disk.
    ///
    /// # Errors
    /// When a connection cannot be closed in order.
    pub async fn close(self) -> Result<()> {
        self.reader.close().await?;
        self.writer.close().await?;
        self.pulse.close().await?;
        Ok(())
    }

    /// Applies the migrations that are missing. Several processes may ask at once.
    ///
    /// # Errors
    /// When a step fails; the steps before it stay applied.
    pub async fn migrate_up(&self) -> Result<()> {
        let lock = backend::migration_lock(&self.url, &self.writer).await?;
        let schema = backend::schema(&self.url, &self.writer).await?;
        let done = Migrator::up(&schema, None).await;
        if let Some(lock) = lock {
            lock.close().await?;
        }
        Ok(done?)
    }

    /// Takes back the last `steps` migrations, and the data with them.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn migrate_down(&self, steps: u32) -> Result<()> {
        let schema = backend::schema(&self.url, &self.writer).await?;
        Ok(Migrator::down(&schema, Some(steps)).await?)
    }

    /// All migrations, and whether they are applied. Writes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn migrate_status(&self) -> Result<Vec<Migration>> {
        let schema = backend::schema(&self.url, &self.writer).await?;
        let all = Migrator::get_migration_with_status_read_only(&schema).await?;
        let applied = |one: &migration::Status| *one == migration::Status::Applied;
        Ok(all.iter().map(|one| Migration { name: one.name().to_owned(), applied: applied(&one.status()) }).collect())
    }
}

/// Does something with a transaction of its own, again and from the beginning where the database gives it up in favour of somebody
/// else, a few times at most. So it must do nothing that is not taken back with the transaction.
///
/// # Errors
/// Those of `work`.
pub async fn insist<T, F>(work: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    backend::insist(work, StoreError::is_given_up).await
}
