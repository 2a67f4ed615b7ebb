//! Settings: connections, schedules and switches that are entered in the pages rather than in the configuration file.

use sea_orm::entity::prelude::*;

/// A row of `settings`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "settings")]
pub struct Model {
    /// Name of the setting.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// JSON text, or a sealed text.
    #[sea_orm(column_type = "Text")]
    pub value: String,
    /// True when only the vault can read the value.
    pub sealed: bool,
    /// Milliseconds since 1970, UTC.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
