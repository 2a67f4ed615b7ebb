//! One thread that writes: everything that has arrived while the last commit ran goes into the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::web::Bytes;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// So many go into one commit at most.
const GROUP: usize = 1024;

const SCHEMA: &str = "
    create table if not exists q(id integer primary key, src text not null, state int not null default 0, at int not null, body blob not null);
    create table if not exists link(espo text primary key, graph text not null, hash text not null, at int not null) without rowid;
    create table if not exists history(id integer primary key, espo text not null, what text not null, at int not null);";
const INSERT: &str = "insert into q(src, at, body) values('espo', ?1, ?2)";
const LINK: &str =
    "insert into link values(?1, ?2, ?3, ?4) on conflict(espo) do update set hash = excluded.hash, at = excluded.at";
const HISTORY: &str = "insert into history(espo, what, at) values(?1, 'update', ?2)";
const DONE: &str = "delete from q where id = ?1";

enum Job {
    Put(Bytes, oneshot::Sender<i64>),
    Done { queued: Option<i64>, record: String, event: String, answer: oneshot::Sender<()> },
}

#[derive(Clone)]
pub struct Writer {
    line: mpsc::Sender<Job>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    pub fn open(path: &str) -> anyhow::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        let (line, jobs) = mpsc::channel(8192);
        let commits = Arc::new(AtomicU64::new(0));
        let counted = commits.clone();
        std::thread::spawn(move || {
            if let Err(error) = write(&connection, jobs, &counted) {
                eprintln!("the floor's writer has failed: {error}");
            }
        });
        Ok(Self { line, commits })
    }

    /// None when it could not be written.
    pub async fn put(&self, body: Bytes) -> Option<i64> {
        let (answer, answered) = oneshot::channel();
        self.line.send(Job::Put(body, answer)).await.ok()?;
        answered.await.ok()
    }

    pub async fn done(&self, queued: Option<i64>, record: String, event: String) -> bool {
        let (answer, answered) = oneshot::channel();
        self.line.send(Job::Done { queued, record, event, answer }).await.is_ok() && answered.await.is_ok()
    }

    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

fn write(connection: &Connection, mut jobs: mpsc::Receiver<Job>, commits: &AtomicU64) -> rusqlite::Result<()> {
    let mut group = Vec::new();
    let mut at = 0_i64;
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        let (mut put, mut done) = (Vec::new(), Vec::new());
        connection.prepare_cached("begin immediate")?.execute([])?;
        for job in group.drain(..) {
            at += 1;
            match job {
                Job::Put(body, answer) => {
                    connection.prepare_cached(INSERT)?.execute((at, &body[..]))?;
                    put.push((answer, connection.last_insert_rowid()));
                }
                Job::Done { queued, record, event, answer } => {
                    connection.prepare_cached(LINK)?.execute((&record, &event, "h", at))?;
                    connection.prepare_cached(HISTORY)?.execute((&record, at))?;
                    if let Some(id) = queued {
                        connection.prepare_cached(DONE)?.execute([id])?;
                    }
                    done.push(answer);
                }
            }
        }
        connection.prepare_cached("commit")?.execute([])?;
        commits.fetch_add(1, Ordering::Relaxed);
        for (answer, id) in put {
            answer.send(id).ok();
        }
        for answer in done {
            answer.send(()).ok();
        }
    }
    Ok(())
}
