//! Sessions: who is signed in to the pages.

use sea_orm::entity::prelude::*;

/// A row of `sessions`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    /// Hash of the cookie.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// EspoCRM's id of the user; null for the holder of the admin token.
    pub user_id: Option<String>,
    /// Login name.
    pub user_name: String,
    /// Full name.
    pub name: String,
    /// Whether the user is an administrator.
    pub is_admin: bool,
    /// Ids of EspoCRM roles, as JSON text.
    #[sea_orm(column_type = "Text")]
    pub roles: String,
    /// What the browser calls itself.
    #[sea_orm(column_type = "Text")]
    pub agent: String,
    /// When it began.
    pub created: i64,
    /// When it was last used.
    pub seen: i64,
    /// When EspoCRM last confirmed the user.
    pub checked: i64,
    /// After that it is worth nothing.
    pub expires: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
