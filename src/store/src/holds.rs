//! Holds: plans that wait for somebody's word.

use chrono::{DateTime, Utc};
use entity::holds::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::Value;

use crate::convert::{json, millis, moment, read};
use crate::error::{Result, StoreError};

words! {
    /// What waits.
    HoldKind, "kind of hold" {
        /// Many deletions of one user at once.
        MassDeletion = "mass_deletion",
        /// A first synchronisation that would invite people or create a lot.
        FirstSync = "first_sync",
    }
}

words! {
    /// Where a hold stands. It is decided once.
    HoldState, "state of a hold" {
        /// It waits.
        Open = "open",
        /// It may be done.
        Confirmed = "confirmed",
        /// It must not be done.
        Discarded = "discarded",
    }
}

/// A plan that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Our id.
    pub id: String,
    /// What waits.
    pub kind: HoldKind,
    /// Whose.
    pub user_id: String,
    /// Where it stands.
    pub state: HoldState,
    /// When it was raised.
    pub created: DateTime<Utc>,
    /// What it would do.
    pub summary: Value,
    /// When it was decided.
    pub decided: Option<DateTime<Utc>>,
    /// By whom.
    pub decided_by: Option<String>,
}

fn hold(row: Model) -> Result<Hold> {
    Ok(Hold {
        kind: row.kind.parse()?,
        state: row.state.parse()?,
        summary: read("summary of hold", &row.id, &row.summary)?,
        id: row.id,
        user_id: row.user_id,
        created: moment(row.created),
        decided: row.decided.map(moment),
        decided_by: row.decided_by,
    })
}

/// Raises a hold.
///
/// # Errors
/// When the database fails.
pub async fn open(
    conn: &impl ConnectionTrait,
    id: &str,
    kind: HoldKind,
    user_id: &str,
    summary: &Value,
    now: DateTime<Utc>,
) -> Result<()> {
    let row = ActiveModel {
        id: Set(id.to_owned()),
        kind: Set(kind.as_str().to_owned()),
        user_id: Set(user_id.to_owned()),
        state: Set(HoldState::Open.as_str().to_owned()),
        created: Set(millis(now)),
        summary: Set(json("summary of a hold", summary)?),
        decided: Set(None),
        decided_by: Set(None),
    };
    Entity::insert(row).exec_without_returning(conn).await?;
    Ok(())
}

/// The hold with that id.
///
/// # Errors
/// When the database fails or the row cannot be read.
pub async fn get(conn: &impl ConnectionTrait, id: &str) -> Result<Option<Hold>> {
    Entity::find_by_id(id).one(conn).await?.map(hold).transpose()
}

/// The newest hold of a user and kind: what it says holds until the next one is raised.
///
/// # Errors
/// When the database fails or the row cannot be read.
pub async fn latest(conn: &impl ConnectionTrait, user_id: &str, kind: HoldKind) -> Result<Option<Hold>> {
    let query = Entity::find().filter(Column::UserId.eq(user_id)).filter(Column::Kind.eq(kind.as_str()));
    query.order_by_desc(Column::Created).order_by_desc(Column::Id).one(conn).await?.map(hold).transpose()
}

/// Holds in a state (all when none is named), newest first.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn list(conn: &impl ConnectionTrait, state: Option<HoldState>) -> Result<Vec<Hold>> {
    let mut query = Entity::find();
    if let Some(state) = state {
        query = query.filter(Column::State.eq(state.as_str()));
    }
    query.order_by_desc(Column::Created).order_by_desc(Column::Id).all(conn).await?.into_iter().map(hold).collect()
}

/// How many wait.
///
/// # Errors
/// When the database fails.
pub async fn open_count(conn: &impl ConnectionTrait) -> Result<u64> {
    Ok(Entity::find().filter(Column::State.eq(HoldState::Open.as_str())).count(conn).await?)
}

/// Changes what an open hold says, as more comes in; false when it is no longer open.
///
/// # Errors
/// When the database fails.
pub async fn restate(conn: &impl ConnectionTrait, id: &str, summary: &Value) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::Summary, Expr::value(json("summary of a hold", summary)?))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(HoldState::Open.as_str()))
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

/// Decides an open hold.
///
/// # Errors
/// When the database fails, there is no such hold, or it is decided already.
pub async fn decide(
    conn: &impl ConnectionTrait,
    id: &str,
    decision: HoldState,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Hold> {
    let missing = || StoreError::Missing { what: "hold", id: id.to_owned() };
    let refuse = |from: HoldState| StoreError::Transition { what: "hold", from: from.as_str(), to: decision.as_str() };
    if decision == HoldState::Open {
        return Err(refuse(get(conn, id).await?.ok_or_else(missing)?.state));
    }
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(decision.as_str()))
        .col_expr(Column::Decided, Expr::value(millis(now)))
        .col_expr(Column::DecidedBy, Expr::value(by))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(HoldState::Open.as_str()))
        .exec(conn)
        .await?;
    let hold = get(conn, id).await?.ok_or_else(missing)?;
    if done.rows_affected == 0 { Err(refuse(hold.state)) } else { Ok(hold) }
}

/// Removes a user's open holds, when the binding goes.
///
/// # Errors
/// When the database fails.
pub async fn delete_open_of(conn: &impl ConnectionTrait, user_id: &str) -> Result<u64> {
    let query = Entity::delete_many().filter(Column::UserId.eq(user_id));
    Ok(query.filter(Column::State.eq(HoldState::Open.as_str())).exec(conn).await?.rows_affected)
}
