//! Audit: what administrators and users have done, and when.

use sea_orm::entity::prelude::*;

/// A row of `audit`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    /// Our id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// When.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What, such as `rules.update`.
    pub action: String,
    /// To what: a path, an id.
    pub subject: String,
    /// With which values, as JSON text; secrets are not among them.
    #[sea_orm(column_type = "Text")]
    pub detail: String,
    /// What came of it: a status of HTTP; none while it is under way, or when the process ended in between.
    pub status: Option<i32>,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
