//! Instances: the processes that serve on this database at the moment, and what they have in hand.
//!
//! A process registers under an id of its own and counts a number up ([`beat`]). Who looks at the others ([`list`]) and sees a
//! number stand still for long enough gives that process up ([`remove`]): in one transaction its registration goes, its locks
//! go with it, and what it had leased is queued again. Nobody's clock is compared with anybody else's.
//!
//! The registration is the fencing token. Whatever rests on a lock is written in a transaction that asks for it and keeps it
//! there until the commit ([`crate::Store::begin_held`]); one that comes after the removal finds nothing and writes nothing,
//! one that came before is waited for by the removal.

use chrono::{DateTime, Utc};
use entity::instances::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::convert::{cut, millis};
use crate::error::Result;
use crate::{Transaction, messages};

/// A registered process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Of no other run of the service, ever.
    pub id: String,
    /// Where it runs; empty when that is not known.
    pub node: String,
    /// Grows with every sign of life.
    pub beat: i64,
}

fn instance(row: Model) -> Instance {
    Instance { id: row.id, node: row.node, beat: row.beat }
}

/// Registers a process. One that was registered for the same place before cannot be alive any more and is removed.
/// `node` names the place: two that have the same cannot be alive together. Empty when that is not known.
///
/// # Errors
/// When the database fails.
pub async fn register(transaction: &Transaction, id: &str, node: &str, now: DateTime<Utc>) -> Result<()> {
    let node = cut(node, 255);
    if !node.is_empty() {
        for old in Entity::find().filter(Column::Node.eq(node.as_str())).all(transaction).await? {
            remove(transaction, &instance(old)).await?;
        }
    }
    let row = ActiveModel { id: Set(id.to_owned()), node: Set(node), beat: Set(0), started: Set(millis(now)) };
    Entity::insert(row).exec_without_returning(transaction).await?;
    Ok(())
}

/// Gives a sign of life; false when the process was given up.
///
/// # Errors
/// When the database fails.
pub async fn beat(conn: &impl ConnectionTrait, id: &str) -> Result<bool> {
    let beat = Entity::update_many().col_expr(Column::Beat, Expr::col(Column::Beat).add(1)).filter(Column::Id.eq(id));
    Ok(beat.exec(conn).await?.rows_affected > 0)
}

/// All that are registered.
///
/// # Errors
/// When the database fails.
pub async fn list(conn: &impl ConnectionTrait) -> Result<Vec<Instance>> {
    Ok(Entity::find().all(conn).await?.into_iter().map(instance).collect())
}

/// Removes a process as it was seen: its locks are free, and what it had leased is queued again. False when it has given a
/// sign of life since, or is gone.
///
/// # Errors
/// When the database fails.
pub async fn remove(transaction: &Transaction, seen: &Instance) -> Result<bool> {
    let gone = Entity::delete_many().filter(Column::Id.eq(seen.id.as_str())).filter(Column::Beat.eq(seen.beat));
    if gone.exec(transaction).await?.rows_affected == 0 {
        return Ok(false);
    }
    messages::requeue_of(transaction, &seen.id).await?;
    Ok(true)
}

/// A process ends in order.
///
/// # Errors
/// When the database fails.
pub async fn leave(transaction: &Transaction, id: &str) -> Result<()> {
    Entity::delete_by_id(id).exec(transaction).await?;
    messages::requeue_of(transaction, id).await?;
    Ok(())
}
