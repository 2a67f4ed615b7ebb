//! Connections to a SQLite file, kept for as long as the process lives.
//!
//! A pool for servers asks each connection that comes back whether it still lives, in a task of its own, as a server may have gone
//! (sqlx 0.9, `PoolConnection::return_to_pool`). A file does not go, and the question takes two switches between threads: with most of
//! our statements more than the statement. So these are handed out and taken back without one.
//!
//! What may have been left in the middle of something, because whoever used it went away or met an error, is rolled back before it
//! is used again. Transactions are begun and ended by statements of ours, and SQLite alone knows whether one is open: when a disk is
//! full it rolls back by itself, and sqlx, which counts them, would go on with a savepoint whose "commit" answers well and keeps
//! nothing.
//!
//! A statement is a way to the connection's thread and back, which takes longer than most of them. So in a transaction what nobody
//! waits for goes along with what is asked next, or with the commit ([`Writing::later`]); its beginning is the first of these. As on
//! PostgreSQL, nothing else is done in a transaction after something in it was refused.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions as _, Connection as _, SqliteConnection};
use sea_orm::{ConnAcquireErr, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Value};
use sea_query_sqlx::SqlxValues;
use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// It has the write lock from its beginning (SQLite, "Transactions").
const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
/// A commit that is not flushed (SQLite, "PRAGMA synchronous": in WAL mode a power cut may take it, and nothing else can; the next one
/// that is flushed keeps it too).
const BEGIN_LIGHTLY: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";
const COMMIT_LIGHTLY: &str = "COMMIT; PRAGMA synchronous = FULL";
const FLUSHED: &str = "PRAGMA synchronous = FULL";
const ROLLBACK: &str = "ROLLBACK";
/// So many statements go together: each such text is kept prepared, and those of many rarely come again.
const TOGETHER: usize = 8;
/// What SQLite says to a roll-back where no transaction is open (`SQLITE_ERROR`).
const NOTHING_TO_DO: &str = "1";

/// So many connections to one file, opened when they are needed. Whoever finds none waits in line.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    options: SqliteConnectOptions,
    /// How long anybody waits for one.
    patience: Duration,
    most: u32,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: SqliteConnection,
    /// Whether it may have been left in the middle of something.
    is_doubtful: bool,
}

/// A connection in somebody's hands; it goes back when it is dropped.
struct Session {
    home: Connections,
    /// None only while it is dropped.
    connection: Option<SqliteConnection>,
    is_doubtful: bool,
    // Given back after the connection.
    _place: OwnedSemaphorePermit,
}

/// A transaction that writes. Dropped without a commit, it is rolled back.
pub struct Writing {
    open: Turn<Open>,
    is_light: bool,
}

struct Open {
    session: Session,
    /// What goes along with the next statement.
    pending: Vec<Statement>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has been sent.
    Fresh,
    Begun,
    /// Something was refused, or may not have been done.
    Broken,
    /// Committed or rolled back.
    Over,
}

fn closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

fn failed(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(Arc::new(error))
}

fn broken() -> DbErr {
    DbErr::Custom("a statement of the transaction was not done; it is rolled back".to_owned())
}

fn plain(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

/// Several statements as one text. Their values follow each other, as each takes as many as it has marks.
fn together(mut all: Vec<Statement>) -> Statement {
    if all.len() == 1
        && let Some(only) = all.pop()
    {
        return only;
    }
    let sql = all.iter().map(|one| one.sql.as_str()).collect::<Vec<_>>().join("; ");
    let values: Vec<Value> = all.into_iter().filter_map(|one| one.values).flat_map(|values| values.0).collect();
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

fn query(statement: Statement) -> sqlx::query::Query<'static, sqlx::Sqlite, SqlxValues> {
    let values = statement.values.unwrap_or(sea_orm::sea_query::Values(Vec::new()));
    sqlx::query_with(sqlx::AssertSqlSafe(statement.sql), SqlxValues(values))
}

/// A connection as it was at first: without a transaction, and with commits that are flushed.
async fn cleared(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    match sqlx::query(ROLLBACK).execute(&mut *connection).await {
        Ok(_) => {}
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NOTHING_TO_DO) => {}
        Err(error) => return Err(error),
    }
    sqlx::query(FLUSHED).execute(connection).await.map(drop)
}

impl Connections {
    /// Opens the first one.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn open(options: SqliteConnectOptions, most: u32, patience: Duration) -> Result<Self, DbErr> {
        let options = options.disable_statement_logging();
        let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1)));
        let all = Self(Arc::new(Inner { options, patience, most, places, idle: Mutex::default() }));
        drop(all.take().await?);
        Ok(all)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        let places = &self.0.places;
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => Ok(place),
            Err(TryAcquireError::Closed) => Err(closed()),
            Err(TryAcquireError::NoPermits) => {
                match tokio::time::timeout(self.0.patience, Arc::clone(places).acquire_owned()).await {
                    Ok(place) => place.map_err(|_| closed()),
                    Err(_) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
                }
            }
        }
    }

    async fn take(&self) -> Result<Session, DbErr> {
        let place = self.place().await?;
        let connection = loop {
            let next = self.idle().pop();
            match next {
                None => break self.0.options.connect().await.map_err(|error| DbErr::Conn(failed(error)))?,
                Some(Idle { connection, is_doubtful: false }) => break connection,
                Some(Idle { mut connection, .. }) => match cleared(&mut connection).await {
                    Ok(()) => break connection,
                    Err(error) => tracing::warn!(%error, "a connection to the database file is of no use any more"),
                },
            }
        };
        Ok(Session { home: self.clone(), connection: Some(connection), is_doubtful: false, _place: place })
    }

    pub async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.take().await?.execute(statement).await
    }

    pub async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.take().await?.execute_unprepared(sql).await
    }

    pub async fn query_one(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.take().await?.query_one(statement).await
    }

    pub async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.take().await?.query_all(statement).await
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> Result<Writing, DbErr> {
        let open = Open { session: self.take().await?, pending: vec![plain(BEGIN)], state: State::Fresh };
        Ok(Writing { open: Turn::new(open), is_light: false })
    }

    /// Begins one that a power cut may take.
    pub async fn begin_lightly(&self) -> Result<Writing, DbErr> {
        let mut session = self.take().await?;
        // By itself: what is prepared once changes such a setting once (SQLite, "PRAGMA Statements").
        session.execute_unprepared(BEGIN_LIGHTLY).await?;
        let open = Open { session, pending: Vec::new(), state: State::Begun };
        Ok(Writing { open: Turn::new(open), is_light: true })
    }

    /// Asks one for a sign of life.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let mut session = self.take().await?;
        session.run(async |connection| connection.ping().await).await?.map_err(|error| DbErr::Conn(failed(error)))
    }

    /// Closes all of them, when each has come back.
    pub async fn close(&self) -> Result<(), DbErr> {
        // Who has them closed already has closed them.
        let Ok(all) = self.0.places.acquire_many(self.0.most).await else { return Ok(()) };
        self.0.places.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            connection.close().await.map_err(|error| DbErr::Conn(failed(error)))?;
        }
        Ok(())
    }
}

impl Session {
    /// Does something with the connection, and notes when that was not done to its end.
    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<Result<T, sqlx::Error>, DbErr> {
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        self.is_doubtful = true;
        let done = work(connection).await;
        self.is_doubtful = done.is_err();
        Ok(done)
    }

    async fn statement(&mut self, sql: &'static str) -> Result<(), DbErr> {
        let done = self.run(async |connection| sqlx::query(sql).execute(connection).await).await?;
        done.map(drop).map_err(|error| DbErr::Exec(failed(error)))
    }

    async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let done = self.run(async |connection| query(statement).execute(connection).await).await?;
        done.map(ExecResult::from).map_err(|error| DbErr::Exec(failed(error)))
    }

    async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        let done = self.run(async |connection| sql.execute(connection).await).await?;
        done.map(ExecResult::from).map_err(|error| DbErr::Exec(failed(error)))
    }

    async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let found = self.run(async |connection| query(statement).fetch_optional(connection).await).await?;
        found.map(|row| row.map(QueryResult::from)).map_err(|error| DbErr::Query(failed(error)))
    }

    async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let found = self.run(async |connection| query(statement).fetch_all(connection).await).await?;
        let rows = found.map_err(|error| DbErr::Query(failed(error)))?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.is_doubtful {
            // A transaction may be open, or about to be, and others need not wait for the next one who takes the connection: the
            // first step hands the statement to its thread, behind what is there.
            let rollback = pin!(sqlx::query(ROLLBACK).execute(&mut connection));
            drop(rollback.poll(&mut Context::from_waker(Waker::noop())));
        }
        self.home.idle().push(Idle { connection, is_doubtful: self.is_doubtful });
    }
}

impl Open {
    /// Sends a statement after those that have waited for one.
    async fn send<T>(
        &mut self,
        statement: Statement,
        send: impl AsyncFnOnce(&mut Session, Statement) -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        self.pending.push(statement);
        let all = together(std::mem::take(&mut self.pending));
        if !matches!(self.state, State::Fresh | State::Begun) {
            return Err(broken());
        }
        self.state = State::Broken;
        let done = send(&mut self.session, all).await?;
        self.state = State::Begun;
        Ok(done)
    }

    /// Sends what has waited.
    async fn flush(&mut self) -> Result<(), DbErr> {
        match self.pending.pop() {
            Some(last) => self.send(last, Session::execute).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Writing {
    /// Does something that nobody waits for: with the next statement, or with the commit, which says when it was refused.
    pub async fn later(&self, statement: Statement) -> Result<(), DbErr> {
        let mut open = self.open.lock().await;
        open.pending.push(statement);
        if open.pending.len() >= TOGETHER { open.flush().await } else { Ok(()) }
    }

    pub async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut open = self.open.lock().await;
        // What SQLite tells of how many rows were changed is about the last statement that changed any.
        open.flush().await?;
        open.send(statement, Session::execute).await
    }

    pub async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut open = self.open.lock().await;
        open.flush().await?;
        open.send(plain(sql), async |session: &mut Session, all: Statement| session.execute_unprepared(&all.sql).await)
            .await
    }

    pub async fn query_one(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.open.lock().await.send(statement, Session::query_one).await
    }

    pub async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.open.lock().await.send(statement, Session::query_all).await
    }

    pub async fn commit(mut self) -> Result<(), DbErr> {
        let open = self.open.get_mut();
        match open.state {
            State::Fresh if open.pending.len() <= 1 => return Ok(()),
            State::Broken | State::Over => return Err(broken()),
            State::Fresh | State::Begun => {}
        }
        if self.is_light {
            open.flush().await?;
            open.session.execute_unprepared(COMMIT_LIGHTLY).await?;
        } else {
            open.send(plain(COMMIT), Session::execute).await?;
        }
        open.state = State::Over;
        Ok(())
    }

    pub async fn rollback(mut self) -> Result<(), DbErr> {
        let open = self.open.get_mut();
        if open.state != State::Fresh {
            open.session.statement(ROLLBACK).await?;
            if self.is_light {
                open.session.statement(FLUSHED).await?;
            }
        }
        open.state = State::Over;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let open = self.open.get_mut();
        if matches!(open.state, State::Begun | State::Broken) {
            open.session.is_doubtful = true;
        }
    }
}

#[cfg(test)]
mod tests;
