//! Indexes for lists: of the history, whatever they are narrowed to; and of how many pairs each user has.
//!
//! A list by kind, type and direction is taken from `history_facet`, which is in the order of the list within each. What belongs
//! to a user is narrowed further without a look at the rows, because the index has the words.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const USER: &str = "history_user";
const FACET: &str = "history_facet";
const COUNT: &str = "links_count";

fn create(name: &'static str, table: &'static str, columns: &'static [&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        index.col(*column);
    }
    index
}

fn drop(name: &'static str, table: &'static str) -> IndexDropStatement {
    let mut index = Index::drop();
    index.name(name).table(table);
    index
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(drop(USER, "history")).await?;
        manager
            .create_index(create(USER, "history", &["user_id", "at", "id", "kind", "change_type", "direction"]))
            .await?;
        manager.create_index(create(FACET, "history", &["kind", "change_type", "direction", "at", "id"])).await?;
        manager.create_index(create(COUNT, "links", &["owner", "kind", "state"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(drop(COUNT, "links")).await?;
        manager.drop_index(drop(FACET, "history")).await?;
        manager.drop_index(drop(USER, "history")).await?;
        manager.create_index(create(USER, "history", &["user_id", "at"])).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
