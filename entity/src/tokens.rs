//! Tokens: sealed access and refresh tokens.

use sea_orm::entity::prelude::*;

/// A row of `tokens`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    /// Whose they are: a user's id, or the name of the application's own token.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: String,
    /// Sealed access token.
    #[sea_orm(column_type = "Text")]
    pub access: String,
    /// Sealed refresh token.
    #[sea_orm(column_type = "Text", nullable)]
    pub refresh: Option<String>,
    /// When the access token ends.
    pub expires: i64,
    /// Grows with every replacement, also across a deletion.
    pub version: i64,
    /// When it was replaced.
    pub updated: i64,
}

/// Rows are put together in queries.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
