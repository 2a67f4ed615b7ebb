//! What a sweep costs in which nothing has changed: `cargo bench --bench sweep [-- MAILBOXES]`.
//!
//! 1,000 mailboxes with 100 linked records each, unless told otherwise. The stubs run in a process of their own and take 20 ms
//! (EspoCRM) and 100 ms (Graph) for an answer; the database is filled by a third process, so that the peak of memory is that
//! of the sweep alone. Printed: requests, seconds, CPU seconds, peak memory.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::NaiveDate;
use espo_outlook::app::{App, BuildOptions};
use espo_outlook::clock::Clock;
use espo_outlook::config::{Config, Mode};
use espo_outlook::schedule::sweep::{Scope, sweep};
use store::bindings::{Binding, BindingState};
use support::{Role, Size, address, counts, user};
use sync::{Agreed, Cause, Kind, Link, LinkState, Replica, ReplicaRole};

fn config(stub: &str, folder: &str) -> anyhow::Result<Config> {
    let mut config = Config::defaults()?;
    config.database.url = format!("sqlite://{folder}/bench.db?mode=rwc").into();
    config.security.encryption_key = Some("YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2ghISE=".into());
    config.server.admin_token = Some("bench-0123456789abcdef".into());
    config.espocrm.url = Some(stub.parse()?);
    config.espocrm.api_key = Some("bench".into());
    config.microsoft.tenant = Some("bench".to_owned());
    config.microsoft.client_id = Some("bench".to_owned());
    config.microsoft.client_secret = Some("bench".into());
    config.microsoft.mode = Some(Mode::Application);
    config.microsoft.authority = stub.parse()?;
    config.microsoft.graph_url = format!("{stub}/v1.0").parse()?;
    Ok(config)
}

async fn app(stub: &str, folder: &str) -> anyhow::Result<App> {
    Ok(App::build_with(config(stub, folder)?, Clock::System, BuildOptions::default()).await?)
}

fn binding(n: u64) -> Binding {
    let now = Clock::System.now();
    Binding {
        user_id: user(n),
        user_name: format!("user{n}"),
        email: Some(address(n)),
        enabled: true,
        mailbox: Some(address(n)),
        graph_user_id: None,
        zone: Some("UTC".to_owned()),
        sync_from: NaiveDate::from_ymd_opt(2026, 1, 1).unwrap_or_default(),
        todo_list: None,
        state: BindingState::Active,
        reason: String::new(),
        next_try: None,
        last_sync: None,
        first_sync_done: true,
        created: now,
        updated: now,
    }
}

/// A link as it stands when both ends show the same.
fn link(app: &App, record: sync::Record) -> Link {
    let base = record
        .values
        .into_iter()
        .map(|(field, value)| (field, Agreed { espo: value.clone(), outlook: value }))
        .collect();
    let owner = record.owner.unwrap_or_default();
    let replica = Replica {
        user: owner.clone(),
        item_id: record.id.clone(),
        list: (record.kind == Kind::Task).then(|| "L".to_owned()),
        role: ReplicaRole::Master,
        etag: Some("W/\"bench\"".to_owned()),
        written: None,
    };
    let now = app.clock().now();
    let intent = Link::intent(app.ids().next(), record.kind, owner, sync::Side::Outlook, record.id.clone(), now);
    Link {
        state: LinkState::Live,
        record_id: Some(record.id),
        replicas: vec![replica],
        base,
        record_modified: Some(record.modified),
        record_read: Some(now),
        item_read: Some(now),
        reconciled: Some(now),
        ..intent
    }
}

async fn seed(stub: &str, folder: &str, users: u64) -> anyhow::Result<()> {
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
        store::cursors::put(&transaction, &format!("todo:{id}:L"), &tasks, now).await?;
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
async fn measure(stub: &str, folder: &str) -> anyhow::Result<()> {
    let app = app(stub, folder).await?;
    let scope = Scope { kinds: Kind::ALL.to_vec(), to: None, user: None, full: false, cause: Cause::Sweep, job: None };
    // The schema and the token are there in a service that runs.
    app.connections().espocrm().context("there is no EspoCRM")?.schema().await?;
    let (before, cpu, started) = (counts(stub).await?, support::cpu(), Instant::now());
    let found = sweep(&app, &scope).await?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), support::cpu() - cpu);
    let after = counts(stub).await?;
    anyhow::ensure!(found.hinted == 0, "{} hints: the ends are not in step", found.hinted);
    println!(
        "{} {} {} {seconds:.1} {cpu:.1} {:.0}",
        found.in_step,
        after[0] - before[0],
        after[1] - before[1],
        support::memory("VmHWM") as f64 / 1024.0
    );
    Ok(())
}

fn role(name: &str, rest: &[&str]) -> anyhow::Result<Role> {
    Role::start(&std::iter::once(name).chain(rest.iter().copied()).map(str::to_owned).collect::<Vec<_>>())
}

fn orchestrate(users: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = Path::new(folder.path()).display().to_string();
    let number = users.to_string();
    let stub = role("stub", &[&number])?;
    let url = stub.first_line.clone();
    let seeded = role("seed", &[&url, &path, &number])?;
    anyhow::ensure!(seeded.first_line == "seeded", "the database could not be filled");
    println!(
        "{number} mailboxes, {} links; EspoCRM answers in 20 ms, Graph in 100 ms; {}",
        users * 100,
        Clock::System.now().format("%F")
    );
    println!(
        "{:>9} {:>16} {:>14} {:>8} {:>8} {:>9}",
        "compared", "to EspoCRM", "to Graph", "seconds", "CPU s", "peak MB"
    );
    for _ in 0..3 {
        let run = role("run", &[&url, &path])?;
        let figures: Vec<&str> = run.first_line.split_whitespace().collect();
        let [compared, espo, graph, seconds, cpu, peak] = figures.as_slice() else { anyhow::bail!("the sweep failed") };
        println!("{compared:>9} {espo:>16} {graph:>14} {seconds:>8} {cpu:>8} {peak:>9}");
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds a flag of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match args.as_slice() {
        ["stub", users] => {
            let size =
                Size { users: users.parse()?, espo: Duration::from_millis(20), graph: Duration::from_millis(100) };
            actix_web::rt::System::new().block_on(support::serve(size))
        }
        ["seed", stub, folder, users] => runtime()?.block_on(seed(stub, folder, users.parse()?)),
        ["run", stub, folder] => runtime()?.block_on(measure(stub, folder)),
        [] => orchestrate(1000),
        [users] => orchestrate(users.parse()?),
        _ => anyhow::bail!("usage: sweep [MAILBOXES]"),
    }
}
