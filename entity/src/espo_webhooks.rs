//! EspoCRM webhooks.

use sea_orm::entity::prelude::*;

/// A row of `espo_webhooks`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "espo_webhooks")]
pub struct Model {
    /// EspoCRM's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `Meeting.create` and the like.
    pub event: String,
    /// Sealed secret key.
    #[sea_orm(column_type = "Text")]
    pub secret: String,
    /// When it was made.
    pub created: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
