//! Sign-ins under way: one-time tickets that begin one, and what its callback must match. Each can be taken once.

use chrono::{DateTime, Utc};
use entity::sign_ins::{ActiveModel, Column, Entity};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::convert::{millis, moment};
use crate::error::Result;

words! {
    /// What it is good for.
    Purpose, "purpose" {
        /// Begins a sign-in.
        Ticket = "ticket",
        /// Ends one: the callback brings its state.
        SignIn = "sign_in",
    }
}

/// A ticket, or a sign-in that waits for its callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The ticket or state, better a hash of it: who reads the database must not be able to use it.
    pub id: String,
    /// What it is good for.
    pub purpose: Purpose,
    /// Who is to sign in.
    pub user_id: String,
    /// PKCE verifier, sealed.
    pub verifier: Option<String>,
    /// Hash of the cookie that the callback must bring.
    pub cookie_hash: Option<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// After that it is worth nothing.
    pub expires: DateTime<Utc>,
}

/// Keeps it until it is taken.
///
/// # Errors
/// When the database fails, or the id was there before (a conflict).
pub async fn put(conn: &impl ConnectionTrait, pending: &Pending) -> Result<()> {
    let row = ActiveModel {
        id: Set(pending.id.clone()),
        purpose: Set(pending.purpose.as_str().to_owned()),
        user_id: Set(pending.user_id.clone()),
        verifier: Set(pending.verifier.clone()),
        cookie_hash: Set(pending.cookie_hash.clone()),
        created: Set(millis(pending.created)),
        expires: Set(millis(pending.expires)),
    };
    Entity::insert(row).exec_without_returning(conn).await?;
    Ok(())
}

/// Takes it; none when it was never made, was taken before, is for something else, or has expired.
///
/// # Errors
/// When the database fails.
pub async fn take(
    conn: &impl ConnectionTrait,
    purpose: Purpose,
    id: &str,
    now: DateTime<Utc>,
) -> Result<Option<Pending>> {
    let found = Entity::find_by_id(id).filter(Column::Purpose.eq(purpose.as_str())).one(conn).await?;
    let Some(row) = found else { return Ok(None) };
    // Of two that found it, the one that deletes it has taken it.
    if Entity::delete_by_id(id).exec(conn).await?.rows_affected == 0 || row.expires <= millis(now) {
        return Ok(None);
    }
    Ok(Some(Pending {
        id: row.id,
        purpose,
        user_id: row.user_id,
        verifier: row.verifier,
        cookie_hash: row.cookie_hash,
        created: moment(row.created),
        expires: moment(row.expires),
    }))
}

/// Removes all that a user has begun.
///
/// # Errors
/// When the database fails.
pub async fn delete_of(conn: &impl ConnectionTrait, user_id: &str) -> Result<u64> {
    Ok(Entity::delete_many().filter(Column::UserId.eq(user_id)).exec(conn).await?.rows_affected)
}

/// Removes what has expired.
///
/// # Errors
/// When the database fails.
pub async fn prune(conn: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<u64> {
    Ok(Entity::delete_many().filter(Column::Expires.lte(millis(now))).exec(conn).await?.rows_affected)
}
