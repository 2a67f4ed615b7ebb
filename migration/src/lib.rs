//! The history of the schema, forward only in production; `down` is for development.
//!
//! Each migration runs in a transaction of its own. MySQL commits every DDL statement by itself, so there a migration that
//! was cut short leaves tables behind, and `IF NOT EXISTS` lets it be run again.

pub use sea_orm_migration::MigrationStatus as Status;
pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::*;

mod columns;
mod m20261122_000001_initial;
mod m20261123_000001_instances;
mod m20261123_000003_audit;
mod m20261123_000005_web;
mod m20261128_000005_people;
mod m20261128_000007_traffic;
mod m20261129_000001_history_lists;
mod m20261129_000002_inbox;

/// Applies and reverts the migrations.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_initial::Migration),
            Box::new(m20261123_000001_instances::Migration),
            Box::new(m20261123_000003_audit::Migration),
            Box::new(m20261123_000005_web::Migration),
            Box::new(m20261128_000005_people::Migration),
            Box::new(m20261128_000007_traffic::Migration),
            Box::new(m20261129_000001_history_lists::Migration),
            Box::new(m20261129_000002_inbox::Migration),
        ]
    }
}
