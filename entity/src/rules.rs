//! Rules: the organisation's patch and the users' patches.

use sea_orm::entity::prelude::*;

/// A row of `rules`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rules")]
pub struct Model {
    /// `organisation`, or `user:` and the user's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub scope: String,
    /// `sync::RulesPatch` as JSON text.
    #[sea_orm(column_type = "Text")]
    pub patch: String,
    /// Milliseconds since 1970, UTC.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
