//! The database of a world: a SQLite file, or a database of its own on the server that `TEST_DATABASE_URL` names.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection, DbErr, Statement};
use tokio::runtime::Handle;

static MADE: AtomicU32 = AtomicU32::new(0);

/// A database that goes when it is dropped.
pub struct Database {
    pub url: String,
    server: Option<(Handle, DatabaseConnection, String)>,
}

async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await
}

impl Database {
    /// Where `TEST_DATABASE_URL` says; else a file in that folder.
    pub fn new(runtime: &Handle, folder: &Path) -> Self {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(server) => Self::on(runtime, &server),
            Err(_) => Self { url: format!("sqlite://{}/espo-outlook.db?mode=rwc", folder.display()), server: None },
        }
    }

    /// On a server.
    pub fn on(runtime: &Handle, server: &str) -> Self {
        let name = format!("it_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let connection = runtime.block_on(async {
            let connection = connect(server).await.unwrap();
            // Sorted as people sort, which is not how we do.
            let locale = if server.starts_with("mysql") {
                ""
            } else {
                "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
            };
            connection.execute_unprepared(&format!("CREATE DATABASE {name} {locale}")).await.unwrap();
            connection
        });
        let (base, _) = server.rsplit_once('/').unwrap();
        Self { url: format!("{base}/{name}"), server: Some((runtime.clone(), connection, name)) }
    }

    /// What the database keeps of secrets: on SQLite all of its file, else the rows that are meant to hold some.
    pub fn secrets(&self, folder: &Path) -> Vec<u8> {
        let Some((runtime, ..)) = &self.server else {
            return std::fs::read(folder.join("espo-outlook.db")).unwrap();
        };
        runtime.block_on(async {
            let connection = connect(&self.url).await.unwrap();
            let mut kept = String::new();
            for statement in [
                "SELECT CONCAT(access, refresh) AS text FROM tokens",
                "SELECT value AS text FROM settings",
                "SELECT secret AS text FROM espo_webhooks",
                "SELECT client_state AS text FROM subscriptions",
            ] {
                let rows =
                    connection.query_all_raw(Statement::from_string(connection.get_database_backend(), statement));
                for row in rows.await.unwrap() {
                    kept.push_str(&row.try_get::<String>("", "text").unwrap());
                }
            }
            kept.into_bytes()
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some((runtime, connection, name)) = &self.server else { return };
        let force = if self.url.starts_with("mysql") { "" } else { "WITH (FORCE)" };
        // The server may have been ended by the test.
        runtime.block_on(async {
            connection.execute_unprepared(&format!("DROP DATABASE {name} {force}")).await.ok();
        });
    }
}
