//! Bindings: which EspoCRM user goes with which mailbox.

use sea_orm::entity::prelude::*;

/// A row of `bindings`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bindings")]
pub struct Model {
    /// EspoCRM id of the user.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// EspoCRM user name.
    pub user_name: String,
    /// E-mail address in EspoCRM.
    pub email: Option<String>,
    /// Whether the user wants it.
    pub enabled: bool,
    /// Address of the mailbox, lower case.
    pub mailbox: Option<String>,
    /// Microsoft's id of the mailbox's user.
    pub graph_user_id: Option<String>,
    /// Time zone of the mailbox, as read.
    pub zone: Option<String>,
    /// Start date, `YYYY-MM-DD`.
    pub sync_from: String,
    /// Graph id of the To Do list.
    #[sea_orm(column_type = "Text", nullable)]
    pub todo_list: Option<String>,
    /// Where the binding stands.
    pub state: String,
    /// That, as a sentence.
    #[sea_orm(column_type = "Text")]
    pub reason: String,
    /// When it is tried again.
    pub next_try: Option<i64>,
    /// Last reconciliation.
    pub last_sync: Option<i64>,
    /// Whether the first synchronisation is over.
    pub first_sync_done: bool,
    /// When it was made.
    pub created: i64,
    /// When it was last changed.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
