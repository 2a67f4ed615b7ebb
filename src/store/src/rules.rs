//! The organisation's rules and the users' overrides, as patches.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::rules::{ActiveModel, Column, Entity};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use sync::{Rules, RulesPatch};

use crate::convert::{json, millis, read};
use crate::error::Result;
use crate::signals;

const ORGANISATION: &str = "organisation";
const USER: &str = "user:";

fn scope(user: Option<&str>) -> String {
    user.map_or_else(|| ORGANISATION.to_owned(), |user| format!("{USER}{user}"))
}

/// The patch of a user, or of the organisation when none is named.
///
/// # Errors
/// When the database fails or the patch cannot be read.
pub async fn get(conn: &impl ConnectionTrait, user: Option<&str>) -> Result<Option<RulesPatch>> {
    let scope = scope(user);
    let row = Entity::find_by_id(scope.as_str()).one(conn).await?;
    row.map(|row| read("rules of", &scope, &row.patch)).transpose()
}

/// Replaces the patch of a user, or of the organisation. Merging ([`RulesPatch::merged`]) is the caller's.
///
/// # Errors
/// When the database fails.
pub async fn put(
    conn: &impl ConnectionTrait,
    user: Option<&str>,
    patch: &RulesPatch,
    now: DateTime<Utc>,
) -> Result<()> {
    let row = ActiveModel { scope: Set(scope(user)), patch: Set(json("rules", patch)?), updated: Set(millis(now)) };
    let update = OnConflict::column(Column::Scope).update_columns([Column::Patch, Column::Updated]).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(conn).await?;
    signals::raise(conn, signals::PEOPLE).await
}

/// Removes the patch of a user, or of the organisation; false when there was none.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, user: Option<&str>) -> Result<bool> {
    let done = Entity::delete_by_id(scope(user)).exec(conn).await?;
    signals::raise(conn, signals::PEOPLE).await?;
    Ok(done.rows_affected > 0)
}

/// The patches of all users that have one, by user.
///
/// # Errors
/// When the database fails or a patch cannot be read.
pub async fn of_users(conn: &impl ConnectionTrait) -> Result<BTreeMap<String, RulesPatch>> {
    let rows = Entity::find().all(conn).await?;
    rows.iter()
        .filter_map(|row| row.scope.strip_prefix(USER).map(|user| (user, row)))
        .map(|(user, row)| Ok((user.to_owned(), read("rules of", user, &row.patch)?)))
        .collect()
}

/// What holds for a user: the user's patch over the organisation's over the defaults.
///
/// # Errors
/// When the database fails or a patch cannot be read.
pub async fn effective(conn: &impl ConnectionTrait, user: &str) -> Result<Rules> {
    let organisation = get(conn, None).await?.unwrap_or_default().over(&Rules::default());
    Ok(get(conn, Some(user)).await?.unwrap_or_default().over(&organisation))
}
