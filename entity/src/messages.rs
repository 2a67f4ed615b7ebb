//! Messages: what was received, which is the archive and the embedded queue in one.

use sea_orm::entity::prelude::*;

/// A row of `messages`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "messages")]
pub struct Model {
    /// Our id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// When.
    pub received: i64,
    /// Who said so.
    pub source: String,
    /// The mailbox in whose turn it is taken, or `espo`.
    pub lane: String,
    /// Hash of the target: equal targets are taken together.
    pub target_key: String,
    /// `sync::Change` as JSON text.
    #[sea_orm(column_type = "Text")]
    pub change: String,
    /// `queued`, `leased`, `parked`, `done`, `dead` or `superseded`.
    pub state: String,
    /// How often it failed.
    pub attempts: i32,
    /// Not before.
    pub due: i64,
    /// When the lease ends.
    pub lease_until: Option<i64>,
    /// The lease.
    pub leased_by: Option<String>,
    /// Why it failed last.
    #[sea_orm(column_type = "Text", nullable)]
    pub last_error: Option<String>,
    /// When it was done, dead or superseded.
    pub finished: Option<i64>,
    /// The message that it repeats.
    pub replay_of: Option<String>,
    /// What was received, in part.
    #[sea_orm(column_type = "Text", nullable)]
    pub excerpt: Option<String>,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
