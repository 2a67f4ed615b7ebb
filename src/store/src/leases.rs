//! Named leases: who may do what only one may do (a link, a person who is missing, a task of the scheduler).
//!
//! A lease ends by itself, so a holder that died blocks nobody for long, and a holder that slept too long must find out.
//! Therefore each acquisition gets a fence, a number that only grows; [`renew`] in the transaction that writes the result
//! fails when somebody else has had the lease since. Fences begin at the time of the first acquisition, so they keep growing
//! when [`prune`] has removed a lease that was long over.
//!
//! A holder's name must differ for every acquisition that excludes others: a lease is not given twice to the same name.

use chrono::{DateTime, TimeDelta, Utc};
use entity::leases::{ActiveModel, Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, TryInsertResult};

use crate::convert::{cut, millis};
use crate::error::Result;

/// A lease that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub name: String,
    /// To whom.
    pub holder: String,
    /// Greater than that of every holder before.
    pub fence: i64,
}

/// Acquires a lease until `now + ttl`; none when somebody holds it.
///
/// # Errors
/// When the database fails.
pub async fn acquire(
    conn: &impl ConnectionTrait,
    name: &str,
    holder: &str,
    now: DateTime<Utc>,
    ttl: TimeDelta,
) -> Result<Option<Lease>> {
    let (name, now, until) = (cut(name, 255), millis(now), millis(now + ttl));
    let lease = |fence| Lease { name: name.clone(), holder: holder.to_owned(), fence };
    let taken = Entity::update_many()
        .col_expr(Column::Holder, Expr::value(holder))
        .col_expr(Column::Until, Expr::value(until))
        .col_expr(Column::Fence, Expr::col(Column::Fence).add(1))
        .filter(Column::Name.eq(name.as_str()))
        .filter(Column::Until.lte(now))
        .exec(conn)
        .await?;
    if taken.rows_affected > 0 {
        let row = Entity::find_by_id(name.as_str()).filter(Column::Holder.eq(holder)).one(conn).await?;
        return Ok(row.map(|row| lease(row.fence)));
    }
    let first =
        ActiveModel { name: Set(name.clone()), holder: Set(holder.to_owned()), fence: Set(now), until: Set(until) };
    let nothing = OnConflict::column(Column::Name).do_nothing_on([Column::Name]).to_owned();
    match Entity::insert(first).on_conflict(nothing).try_insert().exec_without_returning(conn).await? {
        TryInsertResult::Inserted(1..) => Ok(Some(lease(now))),
        _ => Ok(None),
    }
}

/// Holds a lease for longer; false when somebody else has had it since: then nothing that rests on it may be written.
/// In a transaction the answer holds until its end.
///
/// # Errors
/// When the database fails.
pub async fn renew(conn: &impl ConnectionTrait, lease: &Lease, now: DateTime<Utc>, ttl: TimeDelta) -> Result<bool> {
    let done = held(lease).col_expr(Column::Until, Expr::value(millis(now + ttl))).exec(conn).await?;
    Ok(done.rows_affected > 0)
}

/// Gives a lease back; false when it was somebody else's already.
///
/// # Errors
/// When the database fails.
pub async fn release(conn: &impl ConnectionTrait, lease: &Lease) -> Result<bool> {
    let done = held(lease)
        .col_expr(Column::Until, Expr::value(0))
        .col_expr(Column::Holder, Expr::value(""))
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

fn held(lease: &Lease) -> sea_orm::UpdateMany<Entity> {
    Entity::update_many()
        .filter(Column::Name.eq(lease.name.as_str()))
        .filter(Column::Holder.eq(lease.holder.as_str()))
        .filter(Column::Fence.eq(lease.fence))
}

/// Removes leases that ended before that time and that nobody holds.
///
/// # Errors
/// When the database fails.
pub async fn prune(conn: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64> {
    Ok(Entity::delete_many().filter(Column::Until.lt(millis(before))).exec(conn).await?.rows_affected)
}
