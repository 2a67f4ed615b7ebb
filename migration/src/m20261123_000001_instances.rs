//! Several processes on one database: who is alive, who has which lock, and what was changed for the others to notice.

use sea_orm_migration::prelude::*;

use crate::columns::table;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        let instances = table("instances", backend).id("id").word("node", 255).number("beat").number("started");
        manager.create_table(instances.key(&["id"])).await?;
        let mut locks = table("locks", backend).word("name", 255).id("holder").number("since").key(&["name"]);
        // Locks end with their holder, and nobody who was given up gets one.
        locks.foreign_key(
            ForeignKey::create()
                .name("locks_holder")
                .from("locks", "holder")
                .to("instances", "id")
                .on_delete(ForeignKeyAction::Cascade),
        );
        manager.create_table(locks).await?;
        if !manager.has_index("locks", "locks_of").await? {
            manager.create_index(Index::create().name("locks_of").table("locks").col("holder").take()).await?;
        }
        manager.create_table(table("signals", backend).word("name", 64).number("version").key(&["name"])).await?;
        for name in ["schedule", "settings", "turn"] {
            let row = Query::insert()
                .into_table("signals")
                .columns(["name", "version"])
                .values_panic([name.into(), 0_i64.into()])
                .on_conflict(OnConflict::column("name").do_nothing_on(["name"]).to_owned())
                .to_owned();
            manager.execute(row).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in ["signals", "locks", "instances"] {
            manager.drop_table(Table::drop().table(name).if_exists().take()).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
