//! The inbox: what was received and is on its way into `messages`.

use sea_orm::entity::prelude::*;

/// A row of `inbox`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "inbox")]
pub struct Model {
    /// Grows from row to row.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// When the first of them was received.
    pub received: i64,
    /// How many there are; less than none when the row was set aside.
    pub count: i64,
    /// The messages as a JSON array.
    #[sea_orm(column_type = "Text")]
    pub hints: String,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
