//! The database of a world: a SQLite file, or a database of its own on the server that `TEST_DATABASE_URL` names.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection, DbErr, Statement};
use tempfile::TempDir;
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
            Err(_) => Self::file(folder),
        }
    }

    /// A SQLite file in that folder.
    pub fn file(folder: &Path) -> Self {
        Self { url: format!("sqlite://{}/espo-outlook.db?mode=rwc", folder.display()), server: None }
    }

    /// Where several processes can meet: on the server that `TEST_DATABASE_URL` names, or else `TEST_POSTGRES_URL`.
    pub fn shared(runtime: &Handle) -> Self {
        let server = ["TEST_DATABASE_URL", "TEST_POSTGRES_URL"].iter().find_map(|name| std::env::var(name).ok());
        Self::on(
            runtime,
            &server.expect(
                "TEST_POSTGRES_URL names no server: `tests/run` starts one, and so does `tests/servers/postgres.sh start DIR`; \
                 TEST_WITHOUT_DATABASE_SERVERS=1 leaves these tests out",
            ),
        )
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

    /// Whatever somebody does to it beside the service.
    pub async fn execute(&self, statement: &str) {
        connect(&self.url).await.unwrap().execute_unprepared(statement).await.unwrap();
    }

    /// All that the database keeps: its file and the journal, or the text of every column of every table.
    pub fn contents(&self, folder: &Path) -> Vec<u8> {
        let Some((runtime, ..)) = &self.server else {
            let mut kept = std::fs::read(folder.join("espo-outlook.db")).unwrap();
            kept.extend(std::fs::read(folder.join("espo-outlook.db-wal")).unwrap_or_default());
            return kept;
        };
        runtime.block_on(async {
            let connection = connect(&self.url).await.unwrap();
            let backend = connection.get_database_backend();
            let (quote, text) = if self.is_mysql() { ('`', "CHAR") } else { ('"', "TEXT") };
            let here = if self.is_mysql() { "DATABASE()" } else { "'public'" };
            let all = async |statement: String| {
                connection.query_all_raw(Statement::from_string(backend, statement)).await.unwrap()
            };
            let columns = format!(
                "SELECT table_name AS of_table, column_name AS of_column FROM information_schema.columns \
                 WHERE table_schema = {here}"
            );
            let mut kept = String::new();
            for row in all(columns).await {
                let [table, column] = ["of_table", "of_column"].map(|name| row.try_get::<String>("", name).unwrap());
                let values = format!(
                    "SELECT CAST({quote}{column}{quote} AS {text}) AS kept FROM {quote}{table}{quote} \
                     WHERE {quote}{column}{quote} IS NOT NULL"
                );
                for row in all(values).await {
                    kept.push_str(&row.try_get::<String>("", "kept").unwrap());
                    kept.push('\n');
                }
            }
            kept.into_bytes()
        })
    }

    /// Until it is dropped nobody can write settings, messages or the inbox; reading goes on.
    pub fn closed_to_writers(&self, runtime: &Handle) -> DatabaseConnection {
        let statement = match (&self.server, self.is_mysql()) {
            (None, _) => "BEGIN IMMEDIATE",
            (Some(_), false) => "BEGIN; LOCK TABLE settings, messages, inbox IN SHARE MODE",
            (Some(_), true) => "LOCK TABLES settings READ, messages READ, inbox READ",
        };
        runtime.block_on(async {
            let connection = connect(&self.url).await.unwrap();
            connection.execute_unprepared(statement).await.unwrap();
            connection
        })
    }

    fn is_mysql(&self) -> bool {
        self.url.starts_with("mysql")
    }
}

/// Whether tests that need a database server are left out on purpose.
pub fn without_servers() -> bool {
    let is_left_out = std::env::var("TEST_WITHOUT_DATABASE_SERVERS").is_ok_and(|value| !value.is_empty());
    if is_left_out {
        eprintln!("left out: TEST_WITHOUT_DATABASE_SERVERS is set");
    }
    is_left_out
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some((runtime, connection, name)) = &self.server else { return };
        let force = if self.is_mysql() { "" } else { "WITH (FORCE)" };
        // The server may have been ended by the test.
        runtime.block_on(async {
            connection.execute_unprepared(&format!("DROP DATABASE {name} {force}")).await.ok();
        });
    }
}

/// A server of a test's own, which it may end.
pub struct Server {
    script: &'static str,
    folder: TempDir,
    pub url: String,
}

impl Server {
    /// The kind that `TEST_DATABASE_URL` names; PostgreSQL when it names none.
    pub fn start() -> Self {
        let is_mysql = std::env::var("TEST_DATABASE_URL").is_ok_and(|url| url.starts_with("mysql"));
        let script = if is_mysql { "mariadb.sh" } else { "postgres.sh" };
        let folder = tempfile::tempdir().unwrap();
        // The server runs as a user of its own.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let url = run(script, &["start"], folder.path());
        Self { script, folder, url }
    }

    /// A RabbitMQ.
    pub fn broker() -> Self {
        let (script, folder) = ("rabbitmq.sh", tempfile::tempdir().unwrap());
        let url = run(script, &["start"], folder.path());
        Self { script, folder, url }
    }

    /// A RabbitMQ that speaks TLS too: its address so, and the file of the root that signs for it.
    pub fn broker_with_tls() -> (Self, String, String) {
        let (script, folder) = ("rabbitmq.sh", tempfile::tempdir().unwrap());
        run("certificate.sh", &["make"], folder.path());
        let url = run(script, &["start"], folder.path());
        let tls = folder.path().join("server/tls");
        let port = std::fs::read_to_string(tls.join("port")).unwrap();
        let encrypted = format!("amqps://guest:guest@localhost:{}/%2f", port.trim());
        let root = tls.join("root.pem").display().to_string();
        (Self { script, folder, url }, encrypted, root)
    }

    /// SIGKILL.
    pub fn kill(&self) {
        run(self.script, &["kill"], self.folder.path());
    }

    /// An administrator's command (RabbitMQ).
    pub fn control(&self, arguments: &[&str]) {
        run(self.script, &[&["ctl"], arguments].concat(), self.folder.path());
    }

    /// At the address that it had.
    pub fn start_again(&self) {
        assert_eq!(run(self.script, &["start"], self.folder.path()), self.url);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By a test that has failed it may have been killed already.
        let command = if self.script == "rabbitmq.sh" { "stop" } else { "kill" };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(self.script);
        Command::new(script).arg(command).arg(self.folder.path().join("server")).stdin(Stdio::null()).output().ok();
    }
}

/// The first of the arguments is the command.
fn run(script: &str, arguments: &[&str], folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(script);
    let (command, rest) = arguments.split_first().unwrap();
    let server = folder.join("server");
    let done = Command::new(script).arg(command).arg(server).args(rest).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
