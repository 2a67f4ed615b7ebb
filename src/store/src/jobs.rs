//! Jobs: full sweeps that somebody asked for, with counters that workers move.

use chrono::{DateTime, Utc};
use entity::jobs::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;

use crate::convert::{json, millis, moment, read};
use crate::error::Result;

words! {
    /// Where a job stands.
    JobState, "state of a job" {
        /// It waits.
        Queued = "queued",
        /// It is under way.
        Running = "running",
        /// It is over.
        Done = "done",
        /// It could not be carried through.
        Failed = "failed",
    }
}

/// What became of what was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Looked at, whatever came of it.
    pub done: u64,
    /// Created.
    pub created: u64,
    /// Updated.
    pub updated: u64,
    /// Deleted.
    pub deleted: u64,
    /// Left alone.
    pub skipped: u64,
    /// Failed.
    pub failed: u64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Our id.
    pub id: String,
    /// Where it stands.
    pub state: JobState,
    /// What was asked for.
    pub request: Value,
    /// How many there are to look at, as far as they have been counted.
    pub total: u64,
    /// Whether all of them have been counted.
    pub total_known: bool,
    /// What became of them.
    pub counters: Counters,
    /// What a dry run found.
    pub preview: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub requested: DateTime<Utc>,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished: Option<DateTime<Utc>>,
}

fn job(row: Model) -> Result<Job> {
    Ok(Job {
        state: row.state.parse()?,
        request: read("request of job", &row.id, &row.request)?,
        preview: row.preview.as_deref().map(|text| read("preview of job", &row.id, text)).transpose()?,
        id: row.id,
        total: row.total.unsigned_abs(),
        total_known: row.total_known,
        counters: Counters {
            done: row.done.unsigned_abs(),
            created: row.created.unsigned_abs(),
            updated: row.updated.unsigned_abs(),
            deleted: row.deleted.unsigned_abs(),
            skipped: row.skipped.unsigned_abs(),
            failed: row.failed.unsigned_abs(),
        },
        error: row.error,
        requested: moment(row.requested),
        started: row.started.map(moment),
        finished: row.finished.map(moment),
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Notes that a job was asked for.
///
/// # Errors
/// When the database fails.
pub async fn insert(conn: &impl ConnectionTrait, id: &str, request: &Value, now: DateTime<Utc>) -> Result<()> {
    let row = ActiveModel {
        id: Set(id.to_owned()),
        state: Set(JobState::Queued.as_str().to_owned()),
        request: Set(json("request of a job", request)?),
        total: Set(0),
        total_known: Set(false),
        done: Set(0),
        created: Set(0),
        updated: Set(0),
        deleted: Set(0),
        skipped: Set(0),
        failed: Set(0),
        preview: Set(None),
        error: Set(None),
        requested: Set(millis(now)),
        started: Set(None),
        finished: Set(None),
    };
    Entity::insert(row).exec_without_returning(conn).await?;
    Ok(())
}

/// The job with that id.
///
/// # Errors
/// When the database fails or the row cannot be read.
pub async fn get(conn: &impl ConnectionTrait, id: &str) -> Result<Option<Job>> {
    Entity::find_by_id(id).one(conn).await?.map(job).transpose()
}

/// The newest jobs.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn list(conn: &impl ConnectionTrait, limit: u64) -> Result<Vec<Job>> {
    let query = Entity::find().order_by_desc(Column::Requested).order_by_desc(Column::Id);
    query.limit(limit).all(conn).await?.into_iter().map(job).collect()
}

/// Jobs that are not over, the oldest first: after a restart they are taken up again.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn unfinished(conn: &impl ConnectionTrait) -> Result<Vec<Job>> {
    let query = Entity::find().filter(is_unfinished());
    query.order_by_asc(Column::Requested).all(conn).await?.into_iter().map(job).collect()
}

fn is_unfinished() -> sea_orm::sea_query::SimpleExpr {
    Column::State.is_in([JobState::Queued.as_str(), JobState::Running.as_str()])
}

/// Begins a job; false when it is under way or over already.
///
/// # Errors
/// When the database fails.
pub async fn start(conn: &impl ConnectionTrait, id: &str, now: DateTime<Utc>) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(JobState::Running.as_str()))
        .col_expr(Column::Started, Expr::value(millis(now)))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(JobState::Queued.as_str()))
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

/// Adds to what there is to look at; `last` says that all of it has been counted now.
///
/// # Errors
/// When the database fails.
pub async fn add_total(conn: &impl ConnectionTrait, id: &str, more: u64, last: bool) -> Result<()> {
    let mut update = Entity::update_many().col_expr(Column::Total, Expr::col(Column::Total).add(signed(more)));
    if last {
        update = update.col_expr(Column::TotalKnown, Expr::value(true));
    }
    update.filter(Column::Id.eq(id)).exec(conn).await?;
    Ok(())
}

/// Adds to the counters, in one statement: no count of another worker is lost.
///
/// # Errors
/// When the database fails.
pub async fn bump(conn: &impl ConnectionTrait, id: &str, by: Counters) -> Result<()> {
    let counters = [
        (Column::Done, by.done),
        (Column::Created, by.created),
        (Column::Updated, by.updated),
        (Column::Deleted, by.deleted),
        (Column::Skipped, by.skipped),
        (Column::Failed, by.failed),
    ];
    let mut update = Entity::update_many();
    for (column, by) in counters {
        if by > 0 {
            update = update.col_expr(column, Expr::col(column).add(signed(by)));
        }
    }
    if by != Counters::default() {
        update.filter(Column::Id.eq(id)).exec(conn).await?;
    }
    Ok(())
}

/// Counts what was counted as failed and has come to something after all.
///
/// # Errors
/// When the database fails.
pub async fn mend(conn: &impl ConnectionTrait, id: &str, by: Counters) -> Result<()> {
    let mended = Entity::update_many()
        .col_expr(Column::Failed, Expr::col(Column::Failed).sub(1))
        .filter(Column::Id.eq(id))
        .filter(Column::Failed.gt(0));
    mended.exec(conn).await?;
    bump(conn, id, Counters { done: 0, failed: 0, ..by }).await
}

/// Ends a job whose last item has been looked at; true for the one call that ended it.
///
/// # Errors
/// When the database fails.
pub async fn finish_if_complete(conn: &impl ConnectionTrait, id: &str, now: DateTime<Utc>) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(JobState::Done.as_str()))
        .col_expr(Column::Finished, Expr::value(millis(now)))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(JobState::Running.as_str()))
        .filter(Column::TotalKnown.eq(true))
        .filter(Expr::col(Column::Done).gte(Expr::col(Column::Total)))
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

/// Keeps what a dry run found.
///
/// # Errors
/// When the database fails.
pub async fn set_preview(conn: &impl ConnectionTrait, id: &str, preview: &Value) -> Result<()> {
    let update = Entity::update_many().col_expr(Column::Preview, Expr::value(json("preview of a job", preview)?));
    update.filter(Column::Id.eq(id)).exec(conn).await?;
    Ok(())
}

/// Ends a job, as failed when there is an error; false when it was over already.
///
/// # Errors
/// When the database fails.
pub async fn finish(conn: &impl ConnectionTrait, id: &str, error: Option<&str>, now: DateTime<Utc>) -> Result<bool> {
    let state = if error.is_some() { JobState::Failed } else { JobState::Done };
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(state.as_str()))
        .col_expr(Column::Error, Expr::value(error))
        .col_expr(Column::Finished, Expr::value(millis(now)))
        .filter(Column::Id.eq(id))
        .filter(is_unfinished())
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}
