//! Switches: records that are not to be synchronised, where EspoCRM has no field for it.

use sea_orm::entity::prelude::*;

/// A row of `switches`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "switches")]
pub struct Model {
    /// Kind of the record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_id: String,
    /// Whether it takes part.
    pub enabled: bool,
    /// When it was switched.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
