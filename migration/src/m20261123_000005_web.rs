//! Sessions of the web pages.

use sea_orm_migration::prelude::*;

use crate::columns::table;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sessions = table("sessions", manager.get_database_backend())
            .id("id")
            .maybe_id("user_id")
            .word("user_name", 255)
            .word("name", 255)
            .flag("is_admin")
            .text("roles")
            .text("agent")
            .number("created")
            .number("seen")
            .number("checked")
            .number("expires")
            .key(&["id"]);
        manager.create_table(sessions).await?;
        if !manager.has_index("sessions", "sessions_user").await? {
            let index = Index::create().name("sessions_user").table("sessions").col("user_id").take();
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("sessions").if_exists().take()).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
