//! Graph subscriptions: what is watched, until when, and the secret that notifications must bring.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::subscriptions::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::convert::{millis, moment};
use crate::error::Result;

words! {
    /// Where a subscription stands.
    SubscriptionState, "state of a subscription" {
        /// Notifications are expected.
        Active = "active",
        /// It ran out or was removed: it is to be made anew.
        Lapsed = "lapsed",
        /// It could not be renewed.
        Failed = "failed",
    }
}

words! {
    /// What Microsoft says of a subscription itself.
    Plight, "plight of a subscription" {
        /// It is to be renewed now.
        Ends = "ends",
        /// It was removed: it is to be made anew.
        Removed = "removed",
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Microsoft's id.
    pub id: String,
    /// Whose mailbox.
    pub user_id: String,
    /// What is watched.
    pub resource: String,
    /// To Do list.
    pub list_id: Option<String>,
    /// The secret, sealed or as a hash.
    pub client_state: String,
    /// Where it stands.
    pub state: SubscriptionState,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it ends.
    pub expires: DateTime<Utc>,
    /// When it is renewed.
    pub renew_at: DateTime<Utc>,
}

fn subscription(row: Model) -> Result<Subscription> {
    Ok(Subscription {
        state: row.state.parse()?,
        id: row.id,
        user_id: row.user_id,
        resource: row.resource,
        list_id: row.list_id,
        client_state: row.client_state,
        error: row.error,
        created: moment(row.created),
        expires: moment(row.expires),
        renew_at: moment(row.renew_at),
    })
}

/// Keeps a subscription, in place of one with the same id.
///
/// # Errors
/// When the database fails.
pub async fn put(conn: &impl ConnectionTrait, subscription: &Subscription) -> Result<()> {
    let row = ActiveModel {
        id: Set(subscription.id.clone()),
        user_id: Set(subscription.user_id.clone()),
        resource: Set(subscription.resource.clone()),
        list_id: Set(subscription.list_id.clone()),
        client_state: Set(subscription.client_state.clone()),
        state: Set(subscription.state.as_str().to_owned()),
        error: Set(subscription.error.clone()),
        created: Set(millis(subscription.created)),
        expires: Set(millis(subscription.expires)),
        renew_at: Set(millis(subscription.renew_at)),
    };
    let columns = [
        Column::UserId,
        Column::Resource,
        Column::ListId,
        Column::ClientState,
        Column::State,
        Column::Error,
        Column::Created,
        Column::Expires,
        Column::RenewAt,
    ];
    let update = OnConflict::column(Column::Id).update_columns(columns).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(conn).await?;
    Ok(())
}

/// The subscription with that id.
///
/// # Errors
/// When the database fails or the row cannot be read.
pub async fn get(conn: &impl ConnectionTrait, id: &str) -> Result<Option<Subscription>> {
    Entity::find_by_id(id).one(conn).await?.map(subscription).transpose()
}

/// All of them, by user.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn list(conn: &impl ConnectionTrait) -> Result<Vec<Subscription>> {
    let rows = Entity::find().order_by_asc(Column::UserId).order_by_asc(Column::Id).all(conn).await?;
    rows.into_iter().map(subscription).collect()
}

/// Those of a user.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn of_user(conn: &impl ConnectionTrait, user_id: &str) -> Result<Vec<Subscription>> {
    let rows = Entity::find().filter(Column::UserId.eq(user_id)).order_by_asc(Column::Id).all(conn).await?;
    rows.into_iter().map(subscription).collect()
}

/// Those that are to be renewed or made anew, the most urgent first.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn due(conn: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<Subscription>> {
    let query = Entity::find().filter(Column::RenewAt.lte(millis(now)));
    query.order_by_asc(Column::Expires).all(conn).await?.into_iter().map(subscription).collect()
}

/// Notes a renewal; false when the subscription is gone.
///
/// # Errors
/// When the database fails.
pub async fn renewed(
    conn: &impl ConnectionTrait,
    id: &str,
    expires: DateTime<Utc>,
    renew_at: DateTime<Utc>,
) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(SubscriptionState::Active.as_str()))
        .col_expr(Column::Error, Expr::value(None::<String>))
        .col_expr(Column::Expires, Expr::value(millis(expires)))
        .col_expr(Column::RenewAt, Expr::value(millis(renew_at)))
        .filter(Column::Id.eq(id))
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

/// Notes that it lapsed or failed, why, and when to try again; false when the subscription is gone.
///
/// # Errors
/// When the database fails.
pub async fn set_state(
    conn: &impl ConnectionTrait,
    id: &str,
    state: SubscriptionState,
    error: Option<&str>,
    renew_at: DateTime<Utc>,
) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(state.as_str()))
        .col_expr(Column::Error, Expr::value(error))
        .col_expr(Column::RenewAt, Expr::value(millis(renew_at)))
        .filter(Column::Id.eq(id))
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

/// Notes what Microsoft says of it: the scheduler, when it is woken, renews it or makes it anew. False when it is gone.
///
/// # Errors
/// When the database fails.
pub async fn note(conn: &impl ConnectionTrait, id: &str, plight: Plight, now: DateTime<Utc>) -> Result<bool> {
    match plight {
        Plight::Ends => set_state(conn, id, SubscriptionState::Active, None, now).await,
        Plight::Removed => {
            let sentence = "Microsoft has removed it; it is made anew";
            set_state(conn, id, SubscriptionState::Lapsed, Some(sentence), now).await
        }
    }
}

/// Forgets one; false when it was not known.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, id: &str) -> Result<bool> {
    Ok(Entity::delete_by_id(id).exec(conn).await?.rows_affected > 0)
}

/// How many there are in each state.
///
/// # Errors
/// When the database fails or a state cannot be read.
pub async fn counts(conn: &impl ConnectionTrait) -> Result<BTreeMap<SubscriptionState, u64>> {
    let query = Entity::find().select_only().column(Column::State).column_as(Expr::col(Column::Id).count(), "n");
    let rows: Vec<(String, i64)> = query.group_by(Column::State).into_tuple().all(conn).await?;
    rows.into_iter().map(|(state, n)| Ok((state.parse()?, n.unsigned_abs()))).collect()
}
