//! The signal that bindings or rules were changed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let row = Query::insert()
            .into_table("signals")
            .columns(["name", "version"])
            .values_panic(["people".into(), 0_i64.into()])
            .on_conflict(OnConflict::column("name").do_nothing_on(["name"]).to_owned())
            .to_owned();
        manager.execute(row).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let row = Query::delete().from_table("signals").and_where(Expr::col("name").eq("people")).to_owned();
        manager.execute(row).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
