//! Instances: the processes that serve at the moment.

use sea_orm::entity::prelude::*;

/// A row of `instances`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "instances")]
pub struct Model {
    /// Of no other run of the service, ever.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Where it runs: two with the same cannot be alive together. Empty when that is not known.
    pub node: String,
    /// Grows with every sign of life.
    pub beat: i64,
    /// Since when.
    pub started: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
