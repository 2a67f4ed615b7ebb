//! What differs between SQLite, PostgreSQL and MySQL. Nothing outside of this module asks which of them it is.
//!
//! SQLite: `WAL` lets readers read while one writes; `synchronous = FULL` makes a commit survive a power cut (SQLite, "PRAGMA
//! synchronous": `NORMAL` may lose the last commits in WAL mode).

use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::{
    ConnAcquireErr, ConnectOptions, Database, DatabaseConnection, DbBackend, DbErr, IsolationLevel, RuntimeErr,
    SqliteTransactionMode, TransactionOptions,
};

use crate::error::{Result, StoreError};

/// How long a writer waits for another process's write lock.
const BUSY: Duration = Duration::from_secs(10);
/// How long anybody waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(30);
/// Readers of a SQLite file; more than cores bring nothing.
const SQLITE_READERS: u32 = 4;
/// Connections to a database server.
const SERVER_CONNECTIONS: u32 = 16;

/// Connects: first what reads, then what writes.
pub async fn connect(url: &str) -> Result<(DatabaseConnection, DatabaseConnection)> {
    if url.starts_with("sqlite:") {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(StoreError::Address("a database in memory keeps nothing; name a file"));
        }
        // The writer comes first: it creates the file and turns on WAL.
        let writer = Database::connect(sqlite(url, 1, false)).await?;
        let reader = Database::connect(sqlite(url, SQLITE_READERS, true)).await?;
        return Ok((reader, writer));
    }
    if !(url.starts_with("postgres:") || url.starts_with("postgresql:") || url.starts_with("mysql:")) {
        return Err(StoreError::Address("it begins with none of sqlite://, postgres:// and mysql://"));
    }
    let mut options = quiet(url, SERVER_CONNECTIONS);
    options.test_before_acquire(true);
    let pool = Database::connect(options).await?;
    Ok((pool.clone(), pool))
}

fn quiet(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    // Statements carry sealed secrets and people's data: they belong in no log.
    options.sqlx_logging(false).record_stmt_in_spans(false).max_connections(connections).acquire_timeout(ACQUIRE);
    options
}

fn sqlite(url: &str, connections: u32, read_only: bool) -> ConnectOptions {
    let mut options = quiet(url, connections);
    options.min_connections(1).idle_timeout(None).max_lifetime(None).test_before_acquire(false).map_sqlx_sqlite_opts(
        move |sqlite| {
            let sqlite = sqlite
                .create_if_missing(true)
                .foreign_keys(true)
                .busy_timeout(BUSY)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
                .pragma("journal_size_limit", "67108864");
            if read_only { sqlite.pragma("query_only", "ON") } else { sqlite }
        },
    );
    options
}

/// How a transaction begins that is going to write.
pub fn transaction_options(connection: &DatabaseConnection) -> TransactionOptions {
    match connection.get_database_backend() {
        DbBackend::Sqlite => {
            TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() }
        }
        // MySQL's default would show a snapshot that is older than what an update in the same transaction finds.
        _ => TransactionOptions { isolation_level: Some(IsolationLevel::ReadCommitted), ..Default::default() },
    }
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

fn is_passing_sqlx(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// SQLite: busy, locked, I/O error, full, cannot open (primary result codes are the low byte). PostgreSQL: serialization
/// failure, deadlock, connection trouble, out of resources, shutdown. MySQL: `1040` too many connections, `1205` lock wait,
/// `1213` deadlock arrive as SQLSTATE `08004`, `HY000` and `40001`.
fn is_passing_code(code: &str) -> bool {
    if code.len() < 5 {
        return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14));
    }
    matches!(code, "40001" | "40P01" | "55P03") || ["08", "53", "57"].iter().any(|class| code.starts_with(class))
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

    #[tokio::test]
    async fn an_address_of_something_else_is_refused_without_repeating_it() {
        let error = connect("redis://user:secret@host").await.unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(connect("sqlite::memory:").await.is_err());
    }
}
