//! Graph subscriptions.

use sea_orm::entity::prelude::*;

/// A row of `subscriptions`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscriptions")]
pub struct Model {
    /// Microsoft's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Whose mailbox.
    pub user_id: String,
    /// What is watched.
    pub resource: String,
    /// To Do list.
    #[sea_orm(column_type = "Text", nullable)]
    pub list_id: Option<String>,
    /// Sealed secret that notifications must bring.
    #[sea_orm(column_type = "Text")]
    pub client_state: String,
    /// `active`, `lapsed` or `failed`.
    pub state: String,
    /// Why it failed.
    #[sea_orm(column_type = "Text", nullable)]
    pub error: Option<String>,
    /// When it was made.
    pub created: i64,
    /// When it ends.
    pub expires: i64,
    /// When it is renewed.
    pub renew_at: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
