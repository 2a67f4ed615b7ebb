//! The connector's own per-record switch, for records whose entity has no field for it. What was never switched is on.

use chrono::{DateTime, Utc};
use entity::switches::{ActiveModel, Column, Entity};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use sync::Kind;

use crate::convert::millis;
use crate::error::Result;

/// Where the switch stands; none when it was never touched.
///
/// # Errors
/// When the database fails.
pub async fn get(conn: &impl ConnectionTrait, kind: Kind, record_id: &str) -> Result<Option<bool>> {
    let key = (kind.as_str().to_owned(), record_id.to_owned());
    Ok(Entity::find_by_id(key).one(conn).await?.map(|row| row.enabled))
}

/// Whether a record takes part.
///
/// # Errors
/// When the database fails.
pub async fn is_enabled(conn: &impl ConnectionTrait, kind: Kind, record_id: &str) -> Result<bool> {
    Ok(get(conn, kind, record_id).await?.unwrap_or(true))
}

/// Switches a record on or off.
///
/// # Errors
/// When the database fails.
pub async fn put(
    conn: &impl ConnectionTrait,
    kind: Kind,
    record_id: &str,
    enabled: bool,
    now: DateTime<Utc>,
) -> Result<()> {
    let row = ActiveModel {
        kind: Set(kind.as_str().to_owned()),
        record_id: Set(record_id.to_owned()),
        enabled: Set(enabled),
        updated: Set(millis(now)),
    };
    let update = OnConflict::columns([Column::Kind, Column::RecordId])
        .update_columns([Column::Enabled, Column::Updated])
        .to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(conn).await?;
    Ok(())
}
