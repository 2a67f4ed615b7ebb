//! Sealed access and refresh tokens.
//!
//! Microsoft may answer a refresh with a new refresh token, and two processes may refresh at once; so a refresh replaces what
//! it was made from and nothing else ([`replace_if`]). Versions grow across deletions too, since they begin at the time of
//! the first: a refresh that was under way while a user was unbound and bound again writes nothing.

use chrono::{DateTime, Utc};
use entity::tokens::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::convert::{millis, moment};
use crate::error::Result;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Access token, sealed.
    pub access: String,
    /// Refresh token, sealed.
    pub refresh: Option<String>,
    /// When the access token ends.
    pub expires: DateTime<Utc>,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The token.
    pub token: Token,
    /// For [`replace_if`].
    pub version: i64,
    /// When it was put there.
    pub updated: DateTime<Utc>,
}

fn kept(row: Model) -> Kept {
    let token = Token { access: row.access, refresh: row.refresh, expires: moment(row.expires) };
    Kept { token, version: row.version, updated: moment(row.updated) }
}

fn row(user_id: &str, token: &Token, version: i64, now: DateTime<Utc>) -> ActiveModel {
    ActiveModel {
        user_id: Set(user_id.to_owned()),
        access: Set(token.access.clone()),
        refresh: Set(token.refresh.clone()),
        expires: Set(millis(token.expires)),
        version: Set(version),
        updated: Set(millis(now)),
    }
}

/// The token of a user (or of the application, under a name of the caller's).
///
/// # Errors
/// When the database fails.
pub async fn get(conn: &impl ConnectionTrait, user_id: &str) -> Result<Option<Kept>> {
    Ok(Entity::find_by_id(user_id).one(conn).await?.map(kept))
}

/// When each token was put there last, by whose it is.
///
/// # Errors
/// When the database fails.
pub async fn updated(conn: &impl ConnectionTrait) -> Result<Vec<(String, DateTime<Utc>)>> {
    let query = Entity::find().select_only().columns([Column::UserId, Column::Updated]);
    let rows: Vec<(String, i64)> = query.into_tuple().all(conn).await?;
    Ok(rows.into_iter().map(|(user, at)| (user, moment(at))).collect())
}

/// Keeps a token, whatever was there: somebody has just signed in. To be called in a transaction.
///
/// # Errors
/// When the database fails.
pub async fn put(conn: &impl ConnectionTrait, user_id: &str, token: &Token, now: DateTime<Utc>) -> Result<i64> {
    let before = get(conn, user_id).await?.map_or(0, |kept| kept.version);
    let version = millis(now).max(before + 1);
    let update = OnConflict::column(Column::UserId)
        .update_columns([Column::Access, Column::Refresh, Column::Expires, Column::Version, Column::Updated])
        .to_owned();
    Entity::insert(row(user_id, token, version, now)).on_conflict(update).exec_without_returning(conn).await?;
    Ok(version)
}

/// Replaces the token of that version; false, and nothing done, when another one has taken its place or it is gone.
///
/// # Errors
/// When the database fails.
pub async fn replace_if(
    conn: &impl ConnectionTrait,
    user_id: &str,
    version: i64,
    token: &Token,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = Entity::update_many()
        .set(row(user_id, token, millis(now).max(version + 1), now))
        .filter(Column::UserId.eq(user_id))
        .filter(Column::Version.eq(version))
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

/// Forgets a token; false when there was none.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, user_id: &str) -> Result<bool> {
    Ok(Entity::delete_by_id(user_id).exec(conn).await?.rows_affected > 0)
}
