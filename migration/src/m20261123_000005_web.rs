//! Sessions of the web pages, and indexes for what they ask for.

use sea_orm_migration::prelude::*;

use crate::columns::table;

/// What the pages ask for: one's sessions, pairs by user and kind without reading them, and history by kind and type even where
/// there is none of it.
const INDEXES: &[(&str, &str, &[&str])] = &[
    ("sessions_user", "sessions", &["user_id"]),
    ("links_counts", "links", &["owner", "kind", "state", "id"]),
    ("history_kind", "history", &["kind", "at", "id"]),
    ("history_type", "history", &["change_type", "at", "id"]),
];

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
        for (name, table, columns) in INDEXES {
            if manager.has_index(*table, *name).await? {
                continue;
            }
            let mut create = Index::create();
            create.name(*name).table(*table);
            for column in *columns {
                create.col(*column);
            }
            manager.create_index(create).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table, _) in INDEXES.iter().filter(|(_, table, _)| *table != "sessions") {
            if manager.has_table(*table).await? && manager.has_index(*table, *name).await? {
                manager.drop_index(Index::drop().name(*name).table(*table).to_owned()).await?;
            }
        }
        manager.drop_table(Table::drop().table("sessions").if_exists().take()).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
