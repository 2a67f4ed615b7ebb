//! Signals between processes: numbers that grow when there is something to notice. Everybody looks once a second.

use std::collections::BTreeMap;

use entity::signals::{Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::Transaction;
use crate::error::Result;

/// Settings were changed: connections are to be made anew.
pub const SETTINGS: &str = "settings";
/// There is something for the scheduler to do.
pub const SCHEDULE: &str = "schedule";
/// Bindings or rules were changed: what is kept of them is to be read anew ([`crate::directory`]).
pub const PEOPLE: &str = "people";
/// Held while messages are leased.
const TURN: &str = "turn";

/// Tells the others.
///
/// # Errors
/// When the database fails.
pub async fn raise(conn: &impl ConnectionTrait, name: &str) -> Result<()> {
    let more = Entity::update_many().col_expr(Column::Version, Expr::col(Column::Version).add(1));
    more.filter(Column::Name.eq(name)).exec(conn).await?;
    Ok(())
}

/// How one of the numbers stands.
///
/// # Errors
/// When the database fails.
pub async fn number(conn: &impl ConnectionTrait, name: &str) -> Result<Option<i64>> {
    let query = Entity::find_by_id(name).select_only().column(Column::Version);
    Ok(query.into_tuple().one(conn).await?)
}

/// How the numbers stand.
///
/// # Errors
/// When the database fails.
pub async fn all(conn: &impl ConnectionTrait) -> Result<BTreeMap<String, i64>> {
    Ok(Entity::find().all(conn).await?.into_iter().map(|row| (row.name, row.version)).collect())
}

/// Waits until no other process leases messages, until the end of the transaction: two that choose at once would choose the
/// same, and each lane gives only so many at a time.
///
/// # Errors
/// When the database fails.
pub async fn take_turn(transaction: &Transaction) -> Result<()> {
    Entity::find_by_id(TURN).lock_exclusive().one(transaction).await?;
    Ok(())
}
