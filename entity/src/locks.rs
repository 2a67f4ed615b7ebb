//! Locks: what only one process may do, and which one does it.

use sea_orm::entity::prelude::*;

/// A row of `locks`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "locks")]
pub struct Model {
    /// What is locked.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The instance that has it.
    pub holder: String,
    /// Since when.
    pub since: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
