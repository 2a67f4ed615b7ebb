//! The audit: what administrators and users have done, who, when, with which values.
//!
//! An entry is written before its action begins ([`begin`]) and told afterwards what came of it ([`end`]), so that nothing is
//! done of which there is no trace. Values are the caller's to rid of secrets.

use chrono::{DateTime, Utc};
use entity::audit::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;

use crate::convert::{cut, json, millis, moment, read};
use crate::error::Result;
use crate::page::{Page, Place};

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Our id.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What, such as `rules.update`.
    pub action: String,
    /// To what: a path, an id.
    pub subject: String,
    /// With which values.
    pub detail: Value,
    /// What came of it: a status of HTTP; none while it is under way, or when the process ended in between.
    pub status: Option<u16>,
}

fn entry(row: Model) -> Result<Entry> {
    Ok(Entry {
        detail: read("detail of the audit", &row.id, &row.detail)?,
        id: row.id,
        at: moment(row.at),
        actor: row.actor,
        action: row.action,
        subject: row.subject,
        status: row.status.and_then(|status| u16::try_from(status).ok()),
    })
}

/// Notes that something is about to be done.
///
/// # Errors
/// When the database fails: then it should not be done.
pub async fn begin(conn: &impl ConnectionTrait, entry: &Entry) -> Result<()> {
    let row = ActiveModel {
        id: Set(entry.id.clone()),
        at: Set(millis(entry.at)),
        actor: Set(cut(&entry.actor, 128)),
        action: Set(cut(&entry.action, 64)),
        subject: Set(cut(&entry.subject, 255)),
        detail: Set(json("detail of the audit", &entry.detail)?),
        status: Set(entry.status.map(i32::from)),
    };
    Entity::insert(row).exec_without_returning(conn).await?;
    Ok(())
}

/// Notes what came of it.
///
/// # Errors
/// When the database fails.
pub async fn end(conn: &impl ConnectionTrait, id: &str, status: u16) -> Result<()> {
    let update = Entity::update_many().col_expr(Column::Status, Expr::value(i32::from(status)));
    update.filter(Column::Id.eq(id)).exec(conn).await?;
    Ok(())
}

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// By that actor.
    pub actor: Option<String>,
    /// Of that action.
    pub action: Option<String>,
    /// From then on.
    pub since: Option<DateTime<Utc>>,
    /// Before that.
    pub until: Option<DateTime<Utc>>,
}

/// Entries, newest first.
///
/// # Errors
/// When the database fails, an entry cannot be read, or the cursor is none of this list.
pub async fn page(
    conn: &impl ConnectionTrait,
    filter: &Filter,
    cursor: Option<&str>,
    limit: u64,
) -> Result<Page<Entry>> {
    let mut query = Entity::find();
    if let Some(actor) = &filter.actor {
        query = query.filter(Column::Actor.eq(actor.as_str()));
    }
    if let Some(action) = &filter.action {
        query = query.filter(Column::Action.eq(action.as_str()));
    }
    if let Some(since) = filter.since {
        query = query.filter(Column::At.gte(millis(since)));
    }
    if let Some(until) = filter.until {
        query = query.filter(Column::At.lt(millis(until)));
    }
    if let Some(cursor) = cursor {
        query = query.filter(Place::parse(cursor)?.before(Column::At, Column::Id));
    }
    let query = query.order_by_desc(Column::At).order_by_desc(Column::Id).limit(limit.saturating_add(1));
    let Page { items, next } =
        Page::cut(query.all(conn).await?, limit, |row: &Model| Place::of(moment(row.at), &row.id));
    Ok(Page { items: items.into_iter().map(entry).collect::<Result<_>>()?, next })
}

/// Deletes what is older. Tells how many.
///
/// # Errors
/// When the database fails.
pub async fn prune(conn: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64> {
    Ok(Entity::delete_many().filter(Column::At.lt(millis(before))).exec(conn).await?.rows_affected)
}
