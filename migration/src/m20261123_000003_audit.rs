//! The audit: what administrators and users have done.

use sea_orm_migration::prelude::*;

use crate::columns::table;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = table("audit", manager.get_database_backend())
            .id("id")
            .number("at")
            .word("actor", 128)
            .word("action", 64)
            .word("subject", 255)
            .text("detail")
            .maybe_small("status")
            .key(&["id"]);
        manager.create_table(create).await?;
        if !manager.has_index("audit", "audit_at").await? {
            manager.create_index(Index::create().name("audit_at").table("audit").col("at").col("id").take()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("audit").if_exists().take()).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
