//! Roles: what users of an EspoCRM role may do with their own preferences.

use sea_orm::entity::prelude::*;

/// A row of `roles`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "roles")]
pub struct Model {
    /// EspoCRM id of the role.
    #[sea_orm(primary_key, auto_increment = false)]
    pub role_id: String,
    /// Access, in all and by field, as JSON text.
    #[sea_orm(column_type = "Text")]
    pub document: String,
    /// When it was set.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
