//! Traffic: how much was sent to each system, by hour, by all processes together.

use sea_orm::entity::prelude::*;

/// A row of `traffic`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "traffic")]
pub struct Model {
    /// When the hour began.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: i64,
    /// Which system.
    #[sea_orm(primary_key, auto_increment = false)]
    pub system: String,
    /// Requests.
    pub requests: i64,
    /// Of these, refused because there were too many.
    pub throttled: i64,
    /// Of these, failed.
    pub failed: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
