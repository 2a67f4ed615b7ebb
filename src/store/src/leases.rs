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
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::convert::{cut, millis};
use crate::error::Result;

/// The end of a lease that nobody has.
const FREE: i64 = 0;

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
    let lease = Lease { name: cut(name, 255), holder: holder.to_owned(), fence: 0 };
    if let Some(fence) = take(conn, &lease, now, now + ttl).await? {
        return Ok(Some(Lease { fence, ..lease }));
    }
    if Entity::find_by_id(lease.name.as_str()).one(conn).await?.is_some() {
        return Ok(None);
    }
    // The row is made free and then taken like any other: an insert that finds the row there is reported differently by each
    // database, an update is not.
    let free = ActiveModel {
        name: Set(lease.name.clone()),
        holder: Set(String::new()),
        fence: Set(millis(now)),
        until: Set(FREE),
    };
    let nothing = OnConflict::column(Column::Name).do_nothing_on([Column::Name]).to_owned();
    Entity::insert(free).on_conflict(nothing).try_insert().exec_without_returning(conn).await?;
    let fence = take(conn, &lease, now, now + ttl).await?;
    Ok(fence.map(|fence| Lease { fence, ..lease }))
}

/// Takes a lease that is over; the new fence, or none when it is held or unknown.
async fn take(
    conn: &impl ConnectionTrait,
    lease: &Lease,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<i64>> {
    let taken = Entity::update_many()
        .col_expr(Column::Holder, Expr::value(lease.holder.as_str()))
        .col_expr(Column::Until, Expr::value(millis(until)))
        .col_expr(Column::Fence, Expr::col(Column::Fence).add(1))
        .filter(Column::Name.eq(lease.name.as_str()))
        .filter(Column::Until.lte(millis(now)))
        .exec(conn)
        .await?;
    if taken.rows_affected == 0 {
        return Ok(None);
    }
    let ours = Entity::find_by_id(lease.name.as_str()).filter(Column::Holder.eq(lease.holder.as_str()));
    Ok(ours.one(conn).await?.map(|row| row.fence))
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
        .col_expr(Column::Until, Expr::value(FREE))
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
