//! What statements are sent through: sea-orm's pool to a server, or the [`Connections`] to a SQLite file.

use sea_orm::prelude::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, QueryTrait,
    Statement,
};

use super::sqlite::{Connections, Writing};
use super::{insist, is_given_up};

/// Connections to the database. Cheap to clone.
#[derive(Clone)]
pub enum Connection {
    /// To a server.
    Server(DatabaseConnection),
    /// To a SQLite file.
    File(Connections),
}

/// A transaction that writes. Dropped without a commit, it is rolled back.
pub enum Transaction {
    /// On a server.
    Server(DatabaseTransaction),
    /// In a SQLite file.
    File(Writing),
}

impl Connection {
    /// Asks for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), DbErr> {
        match self {
            Self::Server(pool) => pool.ping().await,
            Self::File(file) => file.ping().await,
        }
    }

    /// Closes all of them, when nobody uses them any more.
    ///
    /// # Errors
    /// When one cannot be closed in order.
    pub async fn close(&self) -> Result<(), DbErr> {
        match self {
            Self::Server(pool) => pool.clone().close().await,
            Self::File(file) => file.close().await,
        }
    }
}

/// What takes statements whose outcome nobody needs to know at once.
pub trait Later: ConnectionTrait {
    /// Does something, in a transaction on a file together with what comes next; what is refused is told then, by the commit at the
    /// latest.
    fn later(&self, query: impl QueryTrait + Send) -> impl Future<Output = Result<(), DbErr>> + Send;
}

impl Later for Connection {
    async fn later(&self, query: impl QueryTrait + Send) -> Result<(), DbErr> {
        self.execute_raw(query.build(self.get_database_backend())).await.map(drop)
    }
}

impl Later for Transaction {
    async fn later(&self, query: impl QueryTrait + Send) -> Result<(), DbErr> {
        let statement = query.build(self.get_database_backend());
        match self {
            Self::Server(transaction) => transaction.execute_raw(statement).await.map(drop),
            Self::File(transaction) => transaction.later(statement).await,
        }
    }
}

impl Transaction {
    /// Keeps what was written.
    ///
    /// # Errors
    /// When it was not kept, or it is not known whether it was.
    pub async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Server(transaction) => transaction.commit().await,
            Self::File(transaction) => transaction.commit().await,
        }
    }

    /// Takes back what was written, and waits for that.
    ///
    /// # Errors
    /// When the database is gone; nothing is kept then either.
    pub async fn rollback(self) -> Result<(), DbErr> {
        match self {
            Self::Server(transaction) => transaction.rollback().await,
            Self::File(transaction) => transaction.rollback().await,
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Server(pool) => pool.get_database_backend(),
            Self::File(_) => DbBackend::Sqlite,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            // By itself it is a transaction of its own.
            Self::Server(pool) => insist(|| pool.execute_raw(statement.clone()), is_given_up).await,
            Self::File(file) => file.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Server(pool) => pool.execute_unprepared(sql).await,
            Self::File(file) => file.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Server(pool) => pool.query_one_raw(statement).await,
            Self::File(file) => file.query_one(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Server(pool) => pool.query_all_raw(statement).await,
            Self::File(file) => file.query_all(statement).await,
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Server(transaction) => transaction.get_database_backend(),
            Self::File(_) => DbBackend::Sqlite,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Server(transaction) => transaction.execute_raw(statement).await,
            Self::File(transaction) => transaction.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Server(transaction) => transaction.execute_unprepared(sql).await,
            Self::File(transaction) => transaction.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Server(transaction) => transaction.query_one_raw(statement).await,
            Self::File(transaction) => transaction.query_one(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Server(transaction) => transaction.query_all_raw(statement).await,
            Self::File(transaction) => transaction.query_all(statement).await,
        }
    }
}
