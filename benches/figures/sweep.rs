//! What a sweep costs in which nothing has changed: `sweep [MAILBOXES]`.
//!
//! 1,000 mailboxes with 100 linked records each, unless told otherwise. The stubs run in a process of their own and take 20 ms
//! (EspoCRM) and 100 ms (Graph) for an answer; the database is filled by a third process, so that the peak of memory is that
//! of the sweep alone. Printed: requests, seconds, CPU seconds, peak memory.

use std::time::Instant;

use anyhow::Context as _;
use chrono::NaiveDate;
use espo_outlook::schedule::sweep::{Scope, sweep};
use sync::{Cause, Kind};

use crate::process::{self, Role};
use crate::stub::{address, counts, user};
use crate::table;
use crate::world::{app, binding, link};

/// Fills the database.
pub async fn seed(stub: &str, folder: &str, users: u64) -> anyhow::Result<()> {
    let app = app(stub, folder).await?;
    let now = app.clock().now();
    let transaction = app.store().begin().await?;
    for n in 0..users {
        store::bindings::upsert(&transaction, &binding(n), now).await?;
        let id = user(n);
        let events = format!("{stub}/v1.0/users/{}/calendarView/delta?$deltatoken=0", address(n));
        let tasks = format!("{stub}/v1.0/users/{}/todo/lists/L/tasks/delta?$deltatoken=0", address(n));
        let cursor = serde_json::json!({ "link": events, "since": now }).to_string();
        store::cursors::put(&transaction, &format!("delta:{id}"), &cursor, now).await?;
        store::cursors::put(&transaction, &format!("todo-list:{id}"), r#"{"wanted":null,"id":"L"}"#, now).await?;
        let cursor = serde_json::json!({ "link": tasks, "since": now, "read": now }).to_string();
        store::cursors::put(&transaction, &format!("todo:{id}:L"), &cursor, now).await?;
    }
    transaction.commit().await?;
    let espo = app.connections().espocrm().context("there is no EspoCRM")?;
    let schema = espo.schema().await?;
    let from = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap_or_default();
    for kind in Kind::ALL {
        let mut after = None;
        loop {
            let page = espo.client.owned_by_any(&schema, kind, &[], from, after.as_ref()).await?;
            anyhow::ensure!(page.unreadable.is_empty(), "the stub's rows cannot be read");
            let transaction = app.store().begin().await?;
            for fetched in page.items {
                store::links::save(&transaction, &link(&app, fetched.record), now).await?;
            }
            transaction.commit().await?;
            after = page.last;
            if !page.more {
                break;
            }
        }
    }
    println!("seeded");
    Ok(())
}

/// One sweep; a line of figures.
pub async fn measure(stub: &str, folder: &str) -> anyhow::Result<()> {
    let app = app(stub, folder).await?;
    let scope = Scope { kinds: Kind::ALL.to_vec(), to: None, user: None, full: false, cause: Cause::Sweep, job: None };
    // The schema and the token are there in a service that runs.
    app.connections().espocrm().context("there is no EspoCRM")?.schema().await?;
    let (before, cpu, started) = (counts(stub).await?, process::cpu(), Instant::now());
    let found = sweep(&app, &scope).await?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), process::cpu() - cpu);
    let after = counts(stub).await?;
    anyhow::ensure!(found.hinted == 0, "{} hints: the ends are not in step", found.hinted);
    println!(
        "{} {} {} {seconds:.1} {cpu:.1} {:.0}",
        found.in_step,
        after[0] - before[0],
        after[1] - before[1],
        process::memory("VmHWM") as f64 / 1024.0
    );
    Ok(())
}

/// Prints the table.
pub fn orchestrate(users: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    let number = users.to_string();
    let stub = Role::start(&["role", "stub", &number, "20", "100"])?;
    let url = stub.first_line.clone();
    let seeded = Role::start(&["role", "sweep-seed", &url, &path, &number])?;
    anyhow::ensure!(seeded.first_line == "seeded", "the database could not be filled");
    println!("{}", table::machine());
    println!("{number} mailboxes, {} links; EspoCRM answers in 20 ms, Graph in 100 ms\n", users * 100);
    let mut rows = Vec::new();
    for _ in 0..3 {
        let run = Role::start(&["role", "sweep", &url, &path])?;
        rows.push(run.first_line.split_whitespace().map(str::to_owned).collect());
    }
    table::print(&["compared", "requests to EspoCRM", "to Graph", "seconds", "CPU s", "peak MB"], &rows);
    Ok(())
}
