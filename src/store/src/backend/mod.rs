//! What differs between SQLite, PostgreSQL and MySQL or MariaDB. Nothing outside of this module asks which of them it is.
//!
//! SQLite: `WAL` lets readers read while one writes; `synchronous = FULL` makes a commit survive a power cut (SQLite, "PRAGMA
//! synchronous": `NORMAL` may lose the last commits in WAL mode).
//!
//! Servers: every session is `READ COMMITTED`, so that an update finds what a look in the same transaction has shown (MySQL's
//! default shows an older snapshot, and locks the gaps between rows as well). Nobody waits long for a row, and a session that
//! sleeps inside a transaction is ended by the server: a process that was stopped must not keep others from what it has locked.

mod connection;
mod sqlite;

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, IsolationLevel,
    RuntimeErr, Statement, TransactionOptions, TransactionTrait as _,
};

pub use self::connection::{Connection, Later, Transaction};
use self::sqlite::Connections;
use crate::error::{Result, StoreError};

/// How long a writer waits for another process's write lock.
const BUSY: Duration = Duration::from_secs(10);
/// How long anybody waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(30);
/// Readers of a SQLite file; more than cores bring nothing.
const SQLITE_READERS: u32 = 4;
/// What each connection keeps of the file in memory, if it needs as much. KiB, with a minus sign (SQLite, "PRAGMA cache_size").
const CACHE: &str = "-8192";
/// So many statements each connection keeps ready: some differ by how many they are about.
const STATEMENTS: usize = 400;
/// Connections to a database server.
const SERVER_CONNECTIONS: u32 = 16;
/// A connection that was used so lately is not asked whether it lives: that is a way to and fro for each statement. One that dies
/// within that time fails the statement that gets it, like any death in the middle of one: work is tried again, and a sender is told
/// to come again.
const IDLE: Duration = Duration::from_secs(1);
/// What a session of PostgreSQL is told first. Milliseconds.
const POSTGRES_SESSION: &str = "SET default_transaction_isolation TO 'read committed'; SET lock_timeout TO 10000; \
    SET idle_in_transaction_session_timeout TO 15000";
/// What a session of MySQL or MariaDB is told first. Seconds. MySQL takes what only MariaDB knows for a comment.
const MYSQL_SESSION: &str =
    "SET SESSION transaction_isolation = 'READ-COMMITTED', SESSION innodb_lock_wait_timeout = 10";
const MARIADB_SESSION: &str = "SET SESSION tx_isolation = 'READ-COMMITTED', SESSION innodb_lock_wait_timeout = 10, \
    SESSION idle_transaction_timeout = 15";
/// How often something is tried that a server gave up in favour of somebody else.
const TRIES: u32 = 5;
/// Numbers of MySQL's and MariaDB's errors: nobody waits longer for a row, two waited for each other, and what MariaDB 11.6 says of a
/// row that another has changed meanwhile.
const LOCK_WAIT: u16 = 1205;
const DEADLOCK: u16 = 1213;
const ROW_CHANGED: u16 = 1020;
/// The number of the lock under which the schema is changed.
const MIGRATION: i64 = 0x0e59_0001;

/// The connections of a store.
pub struct Connected {
    /// What reads.
    pub reader: Connection,
    /// What writes.
    pub writer: Connection,
    /// What nobody else uses, for signs of life: under load the others make everybody wait.
    pub pulse: Connection,
}

/// Connects.
pub async fn connect(url: &str) -> Result<Connected> {
    if url.starts_with("sqlite:") {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(StoreError::Address("a database in memory keeps nothing; name a file"));
        }
        // The writer comes first: it creates the file and turns on WAL.
        let writer = Connection::File(Connections::open(sqlite(url)?, 1, ACQUIRE).await?);
        let reader = sqlite(url)?.pragma("query_only", "ON");
        let reader = Connection::File(Connections::open(reader, SQLITE_READERS, ACQUIRE).await?);
        return Ok(Connected { reader, pulse: writer.clone(), writer });
    }
    if !["postgres:", "postgresql:", "mysql:", "mariadb:"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(StoreError::Address("it begins with none of sqlite://, postgres:// and mysql://"));
    }
    let url = &url.replacen("mariadb:", "mysql:", 1);
    let pool = Connection::Server(Database::connect(server(url, SERVER_CONNECTIONS)).await?);
    let mut alone = server(url, 1);
    alone.connect_lazy(true);
    let pulse = Connection::Server(Database::connect(alone).await?);
    Ok(Connected { reader: pool.clone(), writer: pool, pulse })
}

/// What the schema is changed and looked at with; sea-orm's migrations want a connection of its own kind.
pub async fn schema(url: &str, connection: &Connection) -> Result<DatabaseConnection> {
    match connection {
        Connection::Server(pool) => Ok(pool.clone()),
        Connection::File(_) => {
            let mut options = quiet(url, 1);
            options.map_sqlx_sqlite_opts(settled);
            Ok(Database::connect(options).await?)
        }
    }
}

/// Begins a transaction that writes.
pub async fn begin(connection: &Connection) -> Result<Transaction> {
    match connection {
        Connection::Server(pool) => {
            let committed = Some(IsolationLevel::ReadCommitted);
            let options = TransactionOptions { isolation_level: committed, ..TransactionOptions::default() };
            // Begun to the end, whether or not anybody still waits for it. One that is given up in the middle would leave a session
            // in the pool with a transaction that nobody knows of (sqlx counts it once it has begun), and what is written through
            // that session by itself later would not be kept.
            let pool = pool.clone();
            let begun = tokio::spawn(async move { pool.begin_with_options(options).await });
            Ok(Transaction::Server(begun.await.map_err(|_| StoreError::Stopped)??))
        }
        Connection::File(file) => Ok(Transaction::File(file.begin().await?)),
    }
}

/// The same for what is done again if it is lost: on a file that one process serves, a power cut may take it. Of a server several
/// processes may have seen it.
pub async fn begin_lightly(connection: &Connection) -> Result<Transaction> {
    match connection {
        Connection::Server(_) => begin(connection).await,
        Connection::File(file) => Ok(Transaction::File(file.begin_lightly().await?)),
    }
}

/// The file of a SQLite database.
fn file(url: &str) -> Option<PathBuf> {
    let options = url.starts_with("sqlite:").then(|| SqliteConnectOptions::from_str(url).ok())??;
    Some(options.get_filename().to_owned())
}

/// What a database is called in a complaint: never with its password.
pub fn called(url: &str) -> String {
    match file(url) {
        Some(path) => path.display().to_string(),
        None => url.split(':').next().unwrap_or_default().to_owned(),
    }
}

/// The exclusive right to be something on a database that one process serves: it ends with the file, or with the process. None
/// where processes register instead. The lock is the operating system's: after a crash nothing is left of it.
pub fn claim(url: &str, part: &str) -> std::io::Result<Option<std::fs::File>> {
    let Some(path) = file(url) else { return Ok(None) };
    let mut name = path.into_os_string();
    name.push(format!(".{part}.lock"));
    let file = std::fs::File::options().create(true).append(true).open(name)?;
    file.try_lock()?;
    Ok(Some(file))
}

/// Whether other processes may work on the same database: a SQLite file has one process.
pub fn is_shared(connection: &Connection) -> bool {
    connection.get_database_backend() != DbBackend::Sqlite
}

/// How many may write at the same time what workers leave behind: SQLite has one writer, and on servers the way to and fro of a
/// statement is what takes time.
pub fn lines(connection: &Connection) -> usize {
    if is_shared(connection) { 4 } else { 1 }
}

fn server(url: &str, connections: u32) -> ConnectOptions {
    let mut options = quiet(url, connections);
    options
        .test_before_acquire_if_idle_for(IDLE)
        .map_sqlx_postgres_pool_opts(|pool| {
            pool.after_connect(|session, _| {
                Box::pin(async move { sqlx::Executor::execute(session, POSTGRES_SESSION).await.map(drop) })
            })
        })
        .map_sqlx_mysql_pool_opts(|pool| {
            pool.after_connect(|session, _| {
                Box::pin(async move {
                    // Each knows the level under a name of its own.
                    match sqlx::Executor::execute(&mut *session, MARIADB_SESSION).await {
                        Err(sqlx::Error::Database(_)) => {
                            sqlx::Executor::execute(session, MYSQL_SESSION).await.map(drop)
                        }
                        other => other.map(drop),
                    }
                })
            })
        });
    options
}

/// The right to change the schema: one process at a time. Ends when it is closed, or with the process.
pub async fn migration_lock(url: &str, connection: &Connection) -> Result<Option<DatabaseConnection>> {
    let statement = match connection.get_database_backend() {
        DbBackend::Postgres => format!("SELECT pg_advisory_lock({MIGRATION})"),
        DbBackend::MySql => format!("SELECT GET_LOCK('espo-outlook {MIGRATION}', 300)"),
        // Its transactions exclude each other.
        _ => return Ok(None),
    };
    let mut options = quiet(&url.replacen("mariadb:", "mysql:", 1), 1);
    options.min_connections(1);
    let lock = Database::connect(options).await?;
    lock.query_one_raw(Statement::from_string(lock.get_database_backend(), statement)).await?;
    Ok(Some(lock))
}

/// Whether a process is still registered; if so it stays so until the end of the transaction, and others may ask the same
/// meanwhile. A sign of life of that process does not wait for it (PostgreSQL, "Row-Level Locks": `FOR KEY SHARE` does not
/// conflict with an update that leaves the key alone).
pub async fn is_registered(transaction: &Transaction, id: &str) -> Result<bool> {
    let backend = transaction.get_database_backend();
    let statement = match backend {
        DbBackend::Postgres => "SELECT id FROM instances WHERE id = $1 FOR KEY SHARE",
        DbBackend::MySql => "SELECT id FROM instances WHERE id = ? LOCK IN SHARE MODE",
        _ => "SELECT id FROM instances WHERE id = ?",
    };
    let found = transaction.query_one_raw(Statement::from_sql_and_values(backend, statement, [id.into()])).await?;
    Ok(found.is_some())
}

fn quiet(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    // Statements carry sealed secrets and people's data: they belong in no log.
    options.sqlx_logging(false).record_stmt_in_spans(false).max_connections(connections).acquire_timeout(ACQUIRE);
    // No task looks after the pool: that of sqlx 0.9.0 may read the number of its idle connections in the middle of a change, as one
    // below zero, and count up to it for ever on a thread of the runtime (transact-rs/sqlx#3645). A session that has ended is found
    // out by whoever takes it next.
    options.idle_timeout(None).max_lifetime(None);
    options
}

fn sqlite(url: &str) -> Result<SqliteConnectOptions> {
    let wrong = |error| DbErr::Conn(RuntimeErr::SqlxError(std::sync::Arc::new(error)));
    Ok(settled(SqliteConnectOptions::from_str(url).map_err(wrong)?))
}

fn settled(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", "67108864")
        .pragma("cache_size", CACHE)
        .statement_cache_capacity(STATEMENTS)
}

/// True when the same statement may succeed later.
pub fn is_passing(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed) | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            is_passing_sqlx(error)
        }
        _ => false,
    }
}

/// True when a server has given this up in favour of somebody else: of two that wait for each other it ends one, which is to try again
/// at once (MariaDB, "InnoDB Lock Modes"; PostgreSQL, "Deadlocks", "Serialization Failure Handling"). Nothing of it was written.
pub fn is_given_up(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "40001" | "40P01")) || mysql_number(error) == Some(ROW_CHANGED)
}

/// Does something until it is not given up in favour of somebody else, a few times at most.
pub async fn insist<T, E, F>(work: impl Fn() -> F, is_given_up: impl Fn(&E) -> bool) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut left = TRIES;
    loop {
        left -= 1;
        match work().await {
            Err(error) if left > 0 && is_given_up(&error) => {
                tracing::debug!("the database has given something up in favour of somebody else; it is done again");
            }
            done => return done,
        }
    }
}

fn mysql_number(error: &sqlx::Error) -> Option<u16> {
    Some(error.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?.number())
}

fn is_passing_sqlx(whole: &sqlx::Error) -> bool {
    match whole {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            mysql_number(whole).is_some_and(|number| matches!(number, LOCK_WAIT | DEADLOCK | ROW_CHANGED))
                || error.code().is_some_and(|code| is_passing_code(&code))
        }
        _ => false,
    }
}

/// SQLite: busy, locked, I/O error, full, cannot open (primary result codes are the low byte). PostgreSQL: serialization
/// failure, deadlock, lock time-out, connection trouble, out of resources, shutdown, a session that was idle for too long.
/// MySQL: `1040` too many connections and `1213` deadlock arrive as SQLSTATE `08004` and `40001`.
fn is_passing_code(code: &str) -> bool {
    if code.len() < 5 {
        return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14));
    }
    matches!(code, "40001" | "40P01" | "55P03" | "25P03")
        || ["08", "53", "57"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_passing_and_a_broken_constraint_is_not() {
        for code in ["5", "517", "261", "6", "13", "40001", "57P01", "08006", "53300"] {
            assert!(is_passing_code(code), "{code}");
        }
        for code in ["1", "19", "2067", "1555", "23505", "42P01", "HY000"] {
            assert!(!is_passing_code(code), "{code}");
        }
    }

    #[test]
    fn a_part_of_a_file_is_claimed_once_and_a_server_never() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/x.db?mode=rwc", folder.path().display());
        let first = claim(&url, "worker").unwrap();
        assert_eq!(claim(&url, "worker").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert!(claim(&url, "scheduler").unwrap().is_some());
        drop(first);
        assert!(claim(&url, "worker").unwrap().is_some());
        assert!(claim("postgres://u:p@host/x", "worker").unwrap().is_none());
        assert_eq!(called("postgres://u:p@host/x"), "postgres");
        assert!(called(&url).ends_with("/x.db"));
    }

    #[test]
    fn no_task_looks_after_a_pool() {
        let options = server("postgres://host/x", 16);
        assert_eq!((options.get_idle_timeout(), options.get_max_lifetime()), (Some(None), Some(None)));
    }

    #[tokio::test]
    async fn an_address_of_something_else_is_refused_without_repeating_it() {
        let error = connect("redis://user:secret@host").await.err().unwrap().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(connect("sqlite::memory:").await.is_err());
    }
}
