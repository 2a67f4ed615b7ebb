//! Sign-ins under way: one-time tickets, and what a callback must match.

use sea_orm::entity::prelude::*;

/// A row of `sign_ins`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_ins")]
pub struct Model {
    /// Ticket or state, or a hash of it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `ticket` or `sign_in`.
    pub purpose: String,
    /// Who is to sign in.
    pub user_id: String,
    /// Sealed PKCE verifier.
    #[sea_orm(column_type = "Text", nullable)]
    pub verifier: Option<String>,
    /// Hash of the cookie that the callback must bring.
    pub cookie_hash: Option<String>,
    /// When it was made.
    pub created: i64,
    /// After that it is worth nothing.
    pub expires: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
