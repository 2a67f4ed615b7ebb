//! Links: the pairing of one record with one logical item. The columns beside the document are there to be searched.

use sea_orm::entity::prelude::*;

/// A row of `links`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "links")]
pub struct Model {
    /// Our id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `meeting`, `call` or `task`.
    pub kind: String,
    /// Id of the record.
    pub record_id: Option<String>,
    /// User whose mailbox holds the master copy.
    pub owner: String,
    /// `sync::LinkState` as a word.
    pub state: String,
    /// Since when it stands there, unless live.
    pub since: Option<i64>,
    /// iCalendar id, cut to 255 characters.
    pub ical_uid: Option<String>,
    /// `sync::fingerprint`.
    pub fingerprint: String,
    /// Series of an occurrence, cut to 255 characters.
    pub series: Option<String>,
    /// Original start of an occurrence.
    pub original_start: Option<i64>,
    /// Start of the agreed time.
    pub starts_at: Option<i64>,
    /// The whole `sync::Link` as JSON text.
    #[sea_orm(column_type = "Text")]
    pub document: String,
    /// When it was saved.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
