//! Holds: plans that wait for somebody's word.

use sea_orm::entity::prelude::*;

/// A row of `holds`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "holds")]
pub struct Model {
    /// Our id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `mass_deletion` or `first_sync`.
    pub kind: String,
    /// Whose.
    pub user_id: String,
    /// `open`, `confirmed` or `discarded`.
    pub state: String,
    /// When it was raised.
    pub created: i64,
    /// What it would do, as JSON text.
    #[sea_orm(column_type = "Text")]
    pub summary: String,
    /// When it was decided.
    pub decided: Option<i64>,
    /// By whom.
    pub decided_by: Option<String>,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
