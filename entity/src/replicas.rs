//! Replicas: one mailbox's copy of a linked item.

use sea_orm::entity::prelude::*;

/// A row of `replicas`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "replicas")]
pub struct Model {
    /// EspoCRM id of the bound user.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// Graph's id in that mailbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub item_id: String,
    /// The link.
    pub link_id: String,
    /// To Do list.
    #[sea_orm(column_type = "Text", nullable)]
    pub list_id: Option<String>,
    /// `master`, `attendee` or `private`.
    pub role: String,
    /// Etag last seen or written.
    #[sea_orm(column_type = "Text", nullable)]
    pub etag: Option<String>,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
