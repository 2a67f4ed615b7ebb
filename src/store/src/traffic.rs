//! How much was sent to each system. Every process adds what it has sent; what is read is the sum, by the hour.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use entity::traffic::{ActiveModel, Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::convert::millis;
use crate::error::Result;

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// What was sent to a system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Requests.
    pub requests: u64,
    /// Of these, refused because there were too many.
    pub throttled: u64,
    /// Of these, failed.
    pub failed: u64,
}

impl Sent {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            throttled: self.throttled.saturating_add(other.throttled),
            failed: self.failed.saturating_add(other.failed),
        }
    }

    /// What is left without the other.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            throttled: self.throttled.saturating_sub(other.throttled),
            failed: self.failed.saturating_sub(other.failed),
        }
    }
}

const fn hour(at: DateTime<Utc>) -> i64 {
    millis(at) - millis(at).rem_euclid(HOUR)
}

/// Adds what was sent lately.
///
/// # Errors
/// When the database fails.
pub async fn add(conn: &impl ConnectionTrait, system: &str, sent: Sent, now: DateTime<Utc>) -> Result<()> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let more = |column: Column, count: u64| Expr::col(column).add(number(count));
    let update = Entity::update_many()
        .col_expr(Column::Requests, more(Column::Requests, sent.requests))
        .col_expr(Column::Throttled, more(Column::Throttled, sent.throttled))
        .col_expr(Column::Failed, more(Column::Failed, sent.failed))
        .filter(Column::Hour.eq(hour(now)))
        .filter(Column::System.eq(system));
    if update.clone().exec(conn).await?.rows_affected > 0 {
        return Ok(());
    }
    let row = ActiveModel {
        hour: Set(hour(now)),
        system: Set(system.to_owned()),
        requests: Set(0),
        throttled: Set(0),
        failed: Set(0),
    };
    // Another process may begin the same hour.
    let keys = [Column::Hour, Column::System];
    let nothing = OnConflict::columns(keys).do_nothing_on(keys).to_owned();
    Entity::insert(row).on_conflict(nothing).try_insert().exec_without_returning(conn).await?;
    update.exec(conn).await?;
    Ok(())
}

/// What was sent to each system in the last hours, the one that has begun among them.
///
/// # Errors
/// When the database fails.
pub async fn of_hours(conn: &impl ConnectionTrait, hours: u32, now: DateTime<Utc>) -> Result<BTreeMap<String, Sent>> {
    let first = hour(now - TimeDelta::hours(i64::from(hours) - 1));
    let mut all: BTreeMap<String, Sent> = BTreeMap::new();
    for row in Entity::find().filter(Column::Hour.gte(first)).all(conn).await? {
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let sent = Sent { requests: count(row.requests), throttled: count(row.throttled), failed: count(row.failed) };
        let sum = all.entry(row.system).or_default();
        *sum = sum.plus(sent);
    }
    Ok(all)
}

/// Forgets the hours before that; their number.
///
/// # Errors
/// When the database fails.
pub async fn prune(conn: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64> {
    let gone = Entity::delete_many().filter(Column::Hour.lt(hour(before)));
    Ok(gone.exec(conn).await?.rows_affected)
}
