//! How far something has been read: poll cursors, delta links of a user or a list.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::cursors::{ActiveModel, Column, Entity};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::convert::millis;
use crate::error::Result;

/// How far, or none when it was never read.
///
/// # Errors
/// When the database fails.
pub async fn get(conn: &impl ConnectionTrait, name: &str) -> Result<Option<String>> {
    Ok(Entity::find_by_id(name).one(conn).await?.map(|row| row.value))
}

/// Notes how far. Names are ours and at most 255 characters long.
///
/// # Errors
/// When the database fails.
pub async fn put(conn: &impl ConnectionTrait, name: &str, value: &str, now: DateTime<Utc>) -> Result<()> {
    let row = ActiveModel { name: Set(name.to_owned()), value: Set(value.to_owned()), updated: Set(millis(now)) };
    let update = OnConflict::column(Column::Name).update_columns([Column::Value, Column::Updated]).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(conn).await?;
    Ok(())
}

/// Forgets one: the next read begins at the beginning. False when there was none.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, name: &str) -> Result<bool> {
    Ok(Entity::delete_by_id(name).exec(conn).await?.rows_affected > 0)
}

/// All cursors whose name begins so.
///
/// # Errors
/// When the database fails.
pub async fn starting_with(conn: &impl ConnectionTrait, prefix: &str) -> Result<BTreeMap<String, String>> {
    // A few per user: told apart here, as patterns and collations differ between databases.
    let rows = Entity::find().all(conn).await?;
    Ok(rows.into_iter().filter(|row| row.name.starts_with(prefix)).map(|row| (row.name, row.value)).collect())
}

/// Forgets all cursors whose name begins so.
///
/// # Errors
/// When the database fails.
pub async fn delete_starting_with(conn: &impl ConnectionTrait, prefix: &str) -> Result<u64> {
    let names: Vec<String> = Entity::find().select_only().column(Column::Name).into_tuple().all(conn).await?;
    let names: Vec<String> = names.into_iter().filter(|name| name.starts_with(prefix)).collect();
    if names.is_empty() {
        return Ok(0);
    }
    Ok(Entity::delete_many().filter(Column::Name.is_in(names)).exec(conn).await?.rows_affected)
}
