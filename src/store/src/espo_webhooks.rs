//! The webhooks that we have in EspoCRM, and the secrets that sign what they send.

use chrono::{DateTime, Utc};
use entity::espo_webhooks::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, QueryOrder};

use crate::convert::{millis, moment};
use crate::error::Result;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// EspoCRM's id; the signature names it.
    pub id: String,
    /// `Meeting.create` and the like: the body does not say it.
    pub event: String,
    /// Secret key, sealed.
    pub secret: String,
    /// When it was made.
    pub created: DateTime<Utc>,
}

fn webhook(row: Model) -> Webhook {
    Webhook { id: row.id, event: row.event, secret: row.secret, created: moment(row.created) }
}

/// Keeps a webhook, in place of one with the same id.
///
/// # Errors
/// When the database fails.
pub async fn put(conn: &impl ConnectionTrait, webhook: &Webhook) -> Result<()> {
    let row = ActiveModel {
        id: Set(webhook.id.clone()),
        event: Set(webhook.event.clone()),
        secret: Set(webhook.secret.clone()),
        created: Set(millis(webhook.created)),
    };
    let update =
        OnConflict::column(Column::Id).update_columns([Column::Event, Column::Secret, Column::Created]).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(conn).await?;
    Ok(())
}

/// The webhook with that id.
///
/// # Errors
/// When the database fails.
pub async fn get(conn: &impl ConnectionTrait, id: &str) -> Result<Option<Webhook>> {
    Ok(Entity::find_by_id(id).one(conn).await?.map(webhook))
}

/// All of them, by event.
///
/// # Errors
/// When the database fails.
pub async fn list(conn: &impl ConnectionTrait) -> Result<Vec<Webhook>> {
    let rows = Entity::find().order_by_asc(Column::Event).order_by_asc(Column::Id).all(conn).await?;
    Ok(rows.into_iter().map(webhook).collect())
}

/// Forgets one; false when it was not known.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, id: &str) -> Result<bool> {
    Ok(Entity::delete_by_id(id).exec(conn).await?.rows_affected > 0)
}
