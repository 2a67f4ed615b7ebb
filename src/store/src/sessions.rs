//! Sessions of the web pages. A session is named by the hash of its cookie: who reads the database cannot use it.

use chrono::{DateTime, Utc};
use entity::sessions::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::convert::{cut, json, millis, moment, read};
use crate::error::Result;

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Hash of the cookie.
    pub id: String,
    /// EspoCRM's id of the user; none for the holder of the admin token.
    pub user_id: Option<String>,
    /// Login name.
    pub user_name: String,
    /// Full name.
    pub name: String,
    /// Whether the user is an administrator.
    pub is_admin: bool,
    /// Ids of the user's roles in EspoCRM.
    pub roles: Vec<String>,
    /// What the browser calls itself.
    pub agent: String,
    /// When it began.
    pub created: DateTime<Utc>,
    /// When it was last used.
    pub seen: DateTime<Utc>,
    /// When EspoCRM last confirmed the user.
    pub checked: DateTime<Utc>,
    /// After that it is worth nothing.
    pub expires: DateTime<Utc>,
}

fn session(row: Model) -> Result<Session> {
    Ok(Session {
        roles: read("roles of session", &row.id, &row.roles)?,
        id: row.id,
        user_id: row.user_id,
        user_name: row.user_name,
        name: row.name,
        is_admin: row.is_admin,
        agent: row.agent,
        created: moment(row.created),
        seen: moment(row.seen),
        checked: moment(row.checked),
        expires: moment(row.expires),
    })
}

/// Begins a session.
///
/// # Errors
/// When the database fails.
pub async fn insert(conn: &impl ConnectionTrait, session: &Session) -> Result<()> {
    let row = ActiveModel {
        id: Set(session.id.clone()),
        user_id: Set(session.user_id.clone()),
        user_name: Set(cut(&session.user_name, 255)),
        name: Set(cut(&session.name, 255)),
        is_admin: Set(session.is_admin),
        roles: Set(json("roles of session", &session.roles)?),
        agent: Set(cut(&session.agent, 300)),
        created: Set(millis(session.created)),
        seen: Set(millis(session.seen)),
        checked: Set(millis(session.checked)),
        expires: Set(millis(session.expires)),
    };
    Entity::insert(row).exec_without_returning(conn).await?;
    Ok(())
}

/// The session of that hash; none when there never was one, or it is over.
///
/// # Errors
/// When the database fails or the row cannot be read.
pub async fn get(conn: &impl ConnectionTrait, id: &str, now: DateTime<Utc>) -> Result<Option<Session>> {
    let found = Entity::find_by_id(id).filter(Column::Expires.gt(millis(now))).one(conn).await?;
    found.map(session).transpose()
}

/// Notes that a session was used.
///
/// # Errors
/// When the database fails.
pub async fn seen(conn: &impl ConnectionTrait, id: &str, at: DateTime<Utc>, expires: DateTime<Utc>) -> Result<()> {
    let update = Entity::update_many()
        .col_expr(Column::Seen, Expr::value(millis(at)))
        .col_expr(Column::Expires, Expr::value(millis(expires)));
    update.filter(Column::Id.eq(id)).exec(conn).await?;
    Ok(())
}

/// Notes what EspoCRM says now of the session's user.
///
/// # Errors
/// When the database fails.
pub async fn confirmed(
    conn: &impl ConnectionTrait,
    id: &str,
    is_admin: bool,
    roles: &[String],
    at: DateTime<Utc>,
) -> Result<()> {
    let update = Entity::update_many()
        .col_expr(Column::IsAdmin, Expr::value(is_admin))
        .col_expr(Column::Roles, Expr::value(json("roles of session", &roles)?))
        .col_expr(Column::Checked, Expr::value(millis(at)));
    update.filter(Column::Id.eq(id)).exec(conn).await?;
    Ok(())
}

/// The sessions of a user (or of the admin token's holder) that are not over, the one used last first.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn of_user(conn: &impl ConnectionTrait, user: Option<&str>, now: DateTime<Utc>) -> Result<Vec<Session>> {
    let query = Entity::find().filter(whose(user)).filter(Column::Expires.gt(millis(now)));
    query.order_by_desc(Column::Seen).order_by_desc(Column::Id).all(conn).await?.into_iter().map(session).collect()
}

/// The sessions of everybody that are not over, the one used last first.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn all(conn: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<Session>> {
    let query = Entity::find().filter(Column::Expires.gt(millis(now)));
    query.order_by_desc(Column::Seen).order_by_desc(Column::Id).all(conn).await?.into_iter().map(session).collect()
}

fn whose(user: Option<&str>) -> Condition {
    Condition::all().add(match user {
        Some(user) => Column::UserId.eq(user),
        None => Column::UserId.is_null(),
    })
}

/// Ends a session; false when it was over.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, id: &str) -> Result<bool> {
    Ok(Entity::delete_by_id(id).exec(conn).await?.rows_affected > 0)
}

/// Ends all sessions of a user, one aside.
///
/// # Errors
/// When the database fails.
pub async fn delete_others(conn: &impl ConnectionTrait, user: Option<&str>, kept: &str) -> Result<u64> {
    let query = Entity::delete_many().filter(whose(user)).filter(Column::Id.ne(kept));
    Ok(query.exec(conn).await?.rows_affected)
}

/// Removes what is over.
///
/// # Errors
/// When the database fails.
pub async fn prune(conn: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<u64> {
    Ok(Entity::delete_many().filter(Column::Expires.lte(millis(now))).exec(conn).await?.rows_affected)
}
