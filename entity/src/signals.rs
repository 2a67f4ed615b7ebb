//! Signals: numbers that grow when there is something for the other processes to notice.

use sea_orm::entity::prelude::*;

/// A row of `signals`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signals")]
pub struct Model {
    /// Of what.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Grows with every change.
    pub version: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
