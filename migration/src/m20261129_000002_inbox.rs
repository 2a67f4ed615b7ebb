//! What was received and is on its way into `messages`.
//!
//! Rows are appended and deleted, and nothing is looked up in it but the oldest: there is no index beside the key.

use sea_orm_migration::prelude::*;

use crate::columns::table;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The text comes last: whoever reads the numbers alone does not walk through it.
        let create = table("inbox", manager.get_database_backend())
            .serial("id")
            .number("received")
            .number("count")
            .text("hints")
            .keyed();
        manager.create_table(create).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("inbox").if_exists().take()).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
