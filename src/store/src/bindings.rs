//! Bindings: which EspoCRM user goes with which mailbox, and whether that works.
//!
//! The settings of a binding are put as a whole ([`upsert`]); its state moves by [`set_state`] alone, and what workers learn
//! is noted by functions that touch nothing else, so that a worker and a page do not undo each other's work.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use entity::bindings::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::convert::{millis, moment};
use crate::error::{Result, StoreError};
use crate::{Later, signals};

words! {
    /// Where a binding stands.
    BindingState, "state of a binding" {
        /// There is none, or it is switched off for good.
        Unbound = "unbound",
        /// The user has to sign in.
        NeedsAuthorization = "needs_authorization",
        /// It works.
        Active = "active",
        /// Somebody stopped it, or it waits for somebody's word.
        Paused = "paused",
        /// It does not work; it is tried again.
        Error = "error",
    }
}

impl BindingState {
    /// The state after a step, if there is such a step. What is unbound has nothing that could be stopped or fail, and what
    /// is stopped is not tried and so cannot fail.
    ///
    /// # Errors
    /// When there is no such step.
    pub const fn step(self, to: Self) -> Result<Self> {
        match (self, to) {
            (Self::Unbound, Self::Paused | Self::Error) | (Self::Paused, Self::Error) => {
                Err(StoreError::Transition { what: "binding", from: self.as_str(), to: to.as_str() })
            }
            _ => Ok(to),
        }
    }
}

/// A user's binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// EspoCRM id of the user.
    pub user_id: String,
    /// EspoCRM user name.
    pub user_name: String,
    /// E-mail address in EspoCRM.
    pub email: Option<String>,
    /// Whether it is wanted.
    pub enabled: bool,
    /// Address of the mailbox, lower case; none until the sign-in says it.
    pub mailbox: Option<String>,
    /// Microsoft's id of the mailbox's user.
    pub graph_user_id: Option<String>,
    /// Time zone of the mailbox, as it was read.
    pub zone: Option<String>,
    /// What starts earlier does not take part.
    pub sync_from: NaiveDate,
    /// To Do list.
    pub todo_list: Option<String>,
    /// Where it stands.
    pub state: BindingState,
    /// That, as a sentence.
    pub reason: String,
    /// When it is tried again.
    pub next_try: Option<DateTime<Utc>>,
    /// Last reconciliation.
    pub last_sync: Option<DateTime<Utc>>,
    /// Whether the first synchronisation is over.
    pub first_sync_done: bool,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it was last changed.
    pub updated: DateTime<Utc>,
}

fn binding(row: Model) -> Result<Binding> {
    let unreadable =
        || StoreError::Unreadable { what: "start date of a binding", text: row.sync_from.clone(), source: None };
    Ok(Binding {
        sync_from: row.sync_from.parse().map_err(|_| unreadable())?,
        state: row.state.parse()?,
        user_id: row.user_id,
        user_name: row.user_name,
        email: row.email,
        enabled: row.enabled,
        mailbox: row.mailbox,
        graph_user_id: row.graph_user_id,
        zone: row.zone,
        todo_list: row.todo_list,
        reason: row.reason,
        next_try: row.next_try.map(moment),
        last_sync: row.last_sync.map(moment),
        first_sync_done: row.first_sync_done,
        created: moment(row.created),
        updated: moment(row.updated),
    })
}

/// All bindings, by user name.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn list(conn: &impl ConnectionTrait) -> Result<Vec<Binding>> {
    let rows = Entity::find().order_by_asc(Column::UserName).order_by_asc(Column::UserId).all(conn).await?;
    rows.into_iter().map(binding).collect()
}

/// Bindings that are wanted and in one of these states.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn enabled_in(conn: &impl ConnectionTrait, states: &[BindingState]) -> Result<Vec<Binding>> {
    let words = states.iter().map(|state| state.as_str());
    let query = Entity::find().filter(Column::Enabled.eq(true)).filter(Column::State.is_in(words));
    query.order_by_asc(Column::UserId).all(conn).await?.into_iter().map(binding).collect()
}

/// The binding of a user.
///
/// # Errors
/// When the database fails or the row cannot be read.
pub async fn by_user(conn: &impl ConnectionTrait, user_id: &str) -> Result<Option<Binding>> {
    Entity::find_by_id(user_id).one(conn).await?.map(binding).transpose()
}

/// The bindings of a mailbox that are wanted and active. The address is compared in lower case.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn by_mailbox(conn: &impl ConnectionTrait, address: &str) -> Result<Vec<Binding>> {
    let query = Entity::find()
        .filter(Column::Mailbox.eq(sync::text::address(address)))
        .filter(Column::Enabled.eq(true))
        .filter(Column::State.eq(BindingState::Active.as_str()));
    query.order_by_asc(Column::UserId).all(conn).await?.into_iter().map(binding).collect()
}

/// The bindings of a mailbox in whatever state: two users must not share one.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn claiming(conn: &impl ConnectionTrait, address: &str) -> Result<Vec<Binding>> {
    let query = Entity::find().filter(Column::Mailbox.eq(sync::text::address(address)));
    query.order_by_asc(Column::UserId).all(conn).await?.into_iter().map(binding).collect()
}

/// The binding of the mailbox whose user Microsoft knows by that id.
///
/// # Errors
/// When the database fails or the row cannot be read.
pub async fn by_graph_user(conn: &impl ConnectionTrait, graph_user_id: &str) -> Result<Option<Binding>> {
    let query = Entity::find().filter(Column::GraphUserId.eq(graph_user_id));
    query.order_by_asc(Column::UserId).one(conn).await?.map(binding).transpose()
}

/// Puts a binding as a whole, its state included: for those who have just read it in the same transaction, or make it.
/// The mailbox is put in lower case; when it was made is kept.
///
/// # Errors
/// When the database fails.
pub async fn upsert(conn: &impl ConnectionTrait, binding: &Binding, now: DateTime<Utc>) -> Result<()> {
    let mut row = ActiveModel {
        user_id: Set(binding.user_id.clone()),
        user_name: Set(binding.user_name.clone()),
        email: Set(binding.email.clone()),
        enabled: Set(binding.enabled),
        mailbox: Set(binding.mailbox.as_deref().map(sync::text::address)),
        graph_user_id: Set(binding.graph_user_id.clone()),
        zone: Set(binding.zone.clone()),
        sync_from: Set(binding.sync_from.to_string()),
        todo_list: Set(binding.todo_list.clone()),
        state: Set(binding.state.as_str().to_owned()),
        reason: Set(binding.reason.clone()),
        next_try: Set(binding.next_try.map(millis)),
        last_sync: Set(binding.last_sync.map(millis)),
        first_sync_done: Set(binding.first_sync_done),
        created: NotSet,
        updated: Set(millis(now)),
    };
    let of_user = Column::UserId.eq(binding.user_id.as_str());
    if Entity::update_many().set(row.clone()).filter(of_user).exec(conn).await?.rows_affected == 0 {
        row.created = Set(millis(binding.created));
        Entity::insert(row).exec_without_returning(conn).await?;
    }
    signals::raise(conn, signals::PEOPLE).await
}

/// Moves a binding to a state and says why. The binding as it stands then is handed back.
///
/// # Errors
/// When the database fails, there is no such binding, or the step is none.
pub async fn set_state(
    conn: &impl ConnectionTrait,
    user_id: &str,
    to: BindingState,
    reason: &str,
    next_try: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Binding> {
    let missing = || StoreError::Missing { what: "binding", id: user_id.to_owned() };
    let before = by_user(conn, user_id).await?.ok_or_else(missing)?;
    let state = before.state.step(to)?;
    let done = Entity::update_many()
        .col_expr(Column::State, Expr::value(state.as_str()))
        .col_expr(Column::Reason, Expr::value(reason))
        .col_expr(Column::NextTry, Expr::value(next_try.map(millis)))
        .col_expr(Column::Updated, Expr::value(millis(now)))
        .filter(Column::UserId.eq(user_id))
        .filter(Column::State.eq(before.state.as_str()))
        .exec(conn)
        .await?;
    signals::raise(conn, signals::PEOPLE).await?;
    let after = by_user(conn, user_id).await?.ok_or_else(missing)?;
    if done.rows_affected == 0 {
        // Somebody else moved it meanwhile, outside of a transaction of ours.
        return Err(StoreError::Transition { what: "binding", from: after.state.as_str(), to: to.as_str() });
    }
    Ok(after)
}

/// Notes a reconciliation; an earlier one than is known changes nothing.
///
/// # Errors
/// When the database fails.
pub async fn synced(conn: &impl ConnectionTrait, user_id: &str, at: DateTime<Utc>) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::LastSync, Expr::value(millis(at)))
        .filter(Column::UserId.eq(user_id))
        .filter(Column::LastSync.is_null().or(Column::LastSync.lt(millis(at))))
        .exec(conn)
        .await?;
    Ok(())
}

/// The same for several users.
///
/// # Errors
/// When the database fails.
pub async fn synced_all(conn: &impl Later, users: &BTreeSet<&str>, at: DateTime<Utc>) -> Result<()> {
    let note = Entity::update_many()
        .col_expr(Column::LastSync, Expr::value(millis(at)))
        .filter(Column::UserId.is_in(users.iter().copied()))
        .filter(Column::LastSync.is_null().or(Column::LastSync.lt(millis(at))));
    Ok(conn.later(note).await?)
}

/// Notes whether the first synchronisation is over.
///
/// # Errors
/// When the database fails.
pub async fn set_first_sync_done(conn: &impl ConnectionTrait, user_id: &str, done: bool) -> Result<()> {
    let update = Entity::update_many().col_expr(Column::FirstSyncDone, Expr::value(done));
    update.filter(Column::UserId.eq(user_id)).exec(conn).await?;
    signals::raise(conn, signals::PEOPLE).await
}

/// Notes what was read of a mailbox; what is none stays as it was.
///
/// # Errors
/// When the database fails.
pub async fn set_profile(
    conn: &impl ConnectionTrait,
    user_id: &str,
    mailbox: Option<&str>,
    graph_user_id: Option<&str>,
    zone: Option<&str>,
) -> Result<()> {
    let known = [
        (Column::Mailbox, mailbox.map(sync::text::address)),
        (Column::GraphUserId, graph_user_id.map(str::to_owned)),
        (Column::Zone, zone.map(str::to_owned)),
    ];
    let mut update = Entity::update_many().filter(Column::UserId.eq(user_id));
    let mut any = false;
    for (column, value) in known {
        if let Some(value) = value {
            any = true;
            update = update.col_expr(column, Expr::value(value));
        }
    }
    if any {
        update.exec(conn).await?;
        signals::raise(conn, signals::PEOPLE).await?;
    }
    Ok(())
}

/// Removes a binding; links and history stay. False when there was none.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, user_id: &str) -> Result<bool> {
    let done = Entity::delete_by_id(user_id).exec(conn).await?;
    signals::raise(conn, signals::PEOPLE).await?;
    Ok(done.rows_affected > 0)
}

/// How many there are in each state.
///
/// # Errors
/// When the database fails or a state cannot be read.
pub async fn counts(conn: &impl ConnectionTrait) -> Result<BTreeMap<BindingState, u64>> {
    let query = Entity::find().select_only().column(Column::State).column_as(Expr::col(Column::UserId).count(), "n");
    let rows: Vec<(String, i64)> = query.group_by(Column::State).into_tuple().all(conn).await?;
    rows.into_iter().map(|(state, n)| Ok((state.parse()?, n.unsigned_abs()))).collect()
}
