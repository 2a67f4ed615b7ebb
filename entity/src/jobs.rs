//! Jobs: full sweeps that somebody asked for.

use sea_orm::entity::prelude::*;

/// A row of `jobs`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    /// Our id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `queued`, `running`, `done` or `failed`.
    pub state: String,
    /// What was asked, as JSON text.
    #[sea_orm(column_type = "Text")]
    pub request: String,
    /// How many there are to look at.
    pub total: i64,
    /// Whether all of them have been counted.
    pub total_known: bool,
    /// How many were looked at.
    pub done: i64,
    /// How many were created.
    pub created: i64,
    /// How many were updated.
    pub updated: i64,
    /// How many were deleted.
    pub deleted: i64,
    /// How many were left alone.
    pub skipped: i64,
    /// How many failed.
    pub failed: i64,
    /// What it would do, as JSON text.
    #[sea_orm(column_type = "Text", nullable)]
    pub preview: Option<String>,
    /// Why it failed.
    #[sea_orm(column_type = "Text", nullable)]
    pub error: Option<String>,
    /// When it was asked for.
    pub requested: i64,
    /// When it began.
    pub started: Option<i64>,
    /// When it ended.
    pub finished: Option<i64>,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
