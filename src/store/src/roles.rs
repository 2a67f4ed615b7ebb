//! What users of an EspoCRM role may do with their own preferences. What a document says is the caller's business.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::roles::{ActiveModel, Column, Entity};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::Value;

use crate::convert::{json, millis, read};
use crate::error::Result;

/// All roles that something was said about.
///
/// # Errors
/// When the database fails or a document cannot be read.
pub async fn all(conn: &impl ConnectionTrait) -> Result<BTreeMap<String, Value>> {
    let rows = Entity::find().all(conn).await?;
    rows.into_iter().map(|row| Ok((row.role_id.clone(), read("role", &row.role_id, &row.document)?))).collect()
}

/// Sets what holds for a role.
///
/// # Errors
/// When the database fails.
pub async fn put(conn: &impl ConnectionTrait, role_id: &str, document: &Value, now: DateTime<Utc>) -> Result<()> {
    let row = ActiveModel {
        role_id: Set(role_id.to_owned()),
        document: Set(json("role", document)?),
        updated: Set(millis(now)),
    };
    let update = OnConflict::column(Column::RoleId).update_columns([Column::Document, Column::Updated]).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(conn).await?;
    Ok(())
}

/// Forgets a role; false when nothing was said about it.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, role_id: &str) -> Result<bool> {
    Ok(Entity::delete_by_id(role_id).exec(conn).await?.rows_affected > 0)
}
