//! History: every change that was applied.

use sea_orm::entity::prelude::*;

/// A row of `history`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "history")]
pub struct Model {
    /// Our id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// When.
    pub at: i64,
    /// `sync::Cause` as a word.
    pub cause: String,
    /// `to_espo` or `to_outlook`.
    pub direction: String,
    /// Kind of the record.
    pub kind: String,
    /// `create`, `update` or `delete`.
    pub change_type: String,
    /// Bound user.
    pub user_id: Option<String>,
    /// The link.
    pub link_id: Option<String>,
    /// The record.
    pub record_id: Option<String>,
    /// The item.
    pub item_id: Option<String>,
    /// Per field the old, the new and the lost value, as JSON text.
    #[sea_orm(column_type = "Text")]
    pub changes: String,
    /// The entry that took it back.
    pub reverted_by: Option<String>,
    /// The entry that it took back.
    pub revert_of: Option<String>,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
