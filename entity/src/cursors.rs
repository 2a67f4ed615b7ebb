//! Cursors: how far something has been read.

use sea_orm::entity::prelude::*;

/// A row of `cursors`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "cursors")]
pub struct Model {
    /// What is read.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// How far.
    #[sea_orm(column_type = "Text")]
    pub value: String,
    /// When that was noted.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
