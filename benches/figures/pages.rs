//! Each page and list of the administration on a large database: `pages [LINKS [HISTORY]]`.
//!
//! 100,000 pairs of 1,000 users and 1,000,000 entries of history, unless told otherwise, on SQLite; EspoCRM and Microsoft answer
//! at once. Held against: 50 ms at the median. The first request of each is not counted.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Instant;

use anyhow::Context as _;
use chrono::TimeDelta;
use espo_outlook::app::{self, App};
use espo_outlook::clock::Clock;
use espo_outlook::http::session::COOKIE;
use espo_outlook::vault::digest;
use store::history::{ChangeType, Direction, Entry, FieldChange};
use store::messages::{NewMessage, Turn};
use store::sessions::Session;
use sync::{Cause, Change, Field, Kind, Target, Value};

use crate::process::Role;
use crate::stub::{KINDS, record, user};
use crate::table::{self, Series, verdict};
use crate::world;

/// The slowest that a page may be, in milliseconds.
const HELD: f64 = 50.0;
/// Requests of each.
const TIMES: usize = 9;
/// The cookie of the administrator who looks.
const SECRET: &str = "bench-session-0123456789";
/// Messages in the archive.
const MESSAGES: u64 = 100_000;

fn entry(n: u64, all: u64, users: u64, now: chrono::DateTime<chrono::Utc>) -> Entry {
    let (kind, count) = KINDS
        .iter()
        .zip(Kind::ALL)
        .map(|((word, each), kind)| ((kind, *word), each * users))
        .nth(usize::try_from(n % 3).unwrap_or_default())
        .unwrap_or(((Kind::Meeting, "Meeting"), users));
    let of = n % count.max(1);
    let text = |text: String| Some(Value::Text(text));
    Entry {
        id: format!("{n:032x}"),
        at: now - TimeDelta::seconds(i64::try_from((all - n) * 3).unwrap_or_default()),
        cause: if n.is_multiple_of(5) { Cause::Sweep } else { Cause::Webhook },
        direction: if n.is_multiple_of(2) { Direction::ToEspo } else { Direction::ToOutlook },
        kind: kind.0,
        change_type: match n % 40 {
            0 => ChangeType::Delete,
            1..=9 => ChangeType::Create,
            _ => ChangeType::Update,
        },
        user_id: Some(user(of % users)),
        link_id: None,
        record_id: Some(record(kind.1, of)),
        item_id: Some(record(kind.1, of)),
        changes: vec![FieldChange {
            field: if n.is_multiple_of(3) { Field::Title } else { Field::Body },
            old: text(format!("what it was before, number {n}")),
            new: text(format!("what it is now, number {n}")),
            lost: None,
            other: None,
        }],
        reverted_by: None,
        revert_of: None,
    }
}

fn message(n: u64, now: chrono::DateTime<chrono::Utc>) -> NewMessage {
    let received = now - TimeDelta::seconds(i64::try_from(MESSAGES - n).unwrap_or_default());
    let change = Change {
        id: format!("{n:036x}"),
        target: Target::Record { kind: Kind::Meeting, id: record("Meeting", n) },
        cause: Cause::Webhook,
        received,
        version: None,
        job: None,
        trace: None,
        reminder: None,
    };
    NewMessage { excerpt: Some("{\"id\":\"x\"}".to_owned()), lane: user(n % 100), ..NewMessage::new(change, "webhook") }
}

/// Adds history, the archive of messages and a session to a database of pairs.
pub async fn seed(stub: &str, folder: &str, entries: u64, users: u64) -> anyhow::Result<()> {
    let app = world::app(stub, folder).await?;
    let now = app.clock().now();
    let all: Vec<u64> = (0..entries).collect();
    for part in all.chunks(20_000) {
        let transaction = app.store().begin().await?;
        let rows: Vec<Entry> = part.iter().map(|n| entry(*n, entries, users, now)).collect();
        store::history::insert_many(&transaction, &rows).await?;
        transaction.commit().await?;
    }
    let all: Vec<u64> = (0..MESSAGES).collect();
    for part in all.chunks(5_000) {
        let transaction = app.store().begin().await?;
        let rows: Vec<NewMessage> = part.iter().map(|n| message(*n, now)).collect();
        store::messages::insert_many(&transaction, &rows).await?;
        let turn = Turn { lease: "bench", now, until: now, units: 5_000, per_lane: 5_000, after_lane: None };
        for unit in store::messages::lease_due(&transaction, &turn).await? {
            if unit.ids().first().is_some_and(|id| id.ends_with("77")) {
                store::messages::bury(&transaction, &unit, "refused", now).await?;
            } else {
                store::messages::finish(&transaction, &unit, now).await?;
            }
        }
        transaction.commit().await?;
    }
    let session = Session {
        id: digest(SECRET),
        user_id: None,
        user_name: "administrator".to_owned(),
        name: "Administrator".to_owned(),
        is_admin: true,
        roles: Vec::new(),
        agent: "bench".to_owned(),
        created: now,
        seen: now,
        checked: now,
        expires: now + TimeDelta::hours(12),
    };
    store::sessions::insert(app.store().write(), &session).await?;
    println!("seeded");
    Ok(())
}

/// The service as it stands, without workers.
pub fn serve(stub: &str, folder: &str) -> anyhow::Result<()> {
    crate::threads(2)?.block_on(async {
        let app = App::build(world::config(stub, folder)?, Clock::System).await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("http://{}", listener.local_addr()?);
        Ok(app::serve(app, listener, BTreeSet::from([app::Role::Receiver])).await?)
    })
}

/// What is looked at.
fn addresses(entries: u64) -> Vec<String> {
    let someone = user(7);
    let meeting = record("Meeting", 7);
    let (late, early) = (format!("{:032x}", entries - 1), format!("{:032x}", entries / 2));
    let mut pages: Vec<String> = [
        "/",
        "/users",
        "/history",
        "/audit",
        "/records",
        "/messages",
        "/subscriptions",
        "/holds",
        "/sync",
        "/schedules",
        "/rules",
        "/roles",
        "/settings",
        "/log",
        "/sessions",
        "/messages?state=dead",
        "/messages?state=queued",
        "/history?kind=task",
        "/history?type=delete",
        "/history?direction=to_espo",
        "/history?kind=call&type=create&direction=to_espo",
        "/history?kind=meeting&type=delete&direction=to_outlook",
    ]
    .map(str::to_owned)
    .to_vec();
    pages.extend([
        format!("/users/{someone}"),
        format!("/history?user_id={someone}"),
        format!("/history?user_id={someone}&kind=task&type=delete"),
        format!("/history?record_id={meeting}"),
        format!("/history?record_id={}", record("Meeting", 99_999_999)),
        "/history?since=2026-01-01T00:00:00Z&until=2026-11-01T00:00:00Z".to_owned(),
        format!("/history/{late}"),
        format!("/history/{early}"),
        format!("/history/revert?record_id={meeting}"),
        format!("/records/meeting/{meeting}"),
        format!("/messages/{:036x}", MESSAGES - 3),
    ]);
    let api = [
        "users",
        "history",
        "history?kind=task",
        "history?type=delete&direction=to_espo",
        "history?limit=200",
        "messages",
        "messages?state=dead",
        "messages?state=done&limit=200",
        "subscriptions",
        "holds",
        "rules",
        "roles",
        "schedules",
        "settings",
        "audit",
        "jobs",
    ];
    pages.extend(api.map(|path| format!("/api/v1/{path}")));
    pages.extend([
        format!("/api/v1/users/{someone}"),
        format!("/api/v1/users/{someone}/rules"),
        format!("/api/v1/history?user_id={someone}&limit=200"),
        format!("/api/v1/history/{early}"),
        format!("/api/v1/records/meeting/{meeting}"),
        "/metrics".to_owned(),
        "/readyz".to_owned(),
    ]);
    pages
}

struct Looked {
    path: String,
    status: u16,
    bytes: usize,
    millis: Series,
}

async fn look(http: &reqwest::Client, url: &str, path: &str) -> anyhow::Result<Looked> {
    let mut looked = Looked { path: path.to_owned(), status: 0, bytes: 0, millis: Series::default() };
    for n in 0..=TIMES {
        let started = Instant::now();
        let request = http.get(format!("{url}{path}"));
        let request = if path.starts_with("/api/") {
            request.bearer_auth("bench-0123456789abcdef")
        } else {
            request.header("Cookie", format!("{COOKIE}={SECRET}"))
        };
        let answer = request.send().await?;
        looked.status = answer.status().as_u16();
        looked.bytes = answer.bytes().await?.len();
        if n > 0 {
            looked.millis.push(started.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(looked)
}

/// Where the lists go on, far from their beginning.
async fn deep(http: &reqwest::Client, url: &str, list: &str) -> anyhow::Result<Option<String>> {
    let mut path = format!("/api/v1/{list}?limit=200");
    for _ in 0..20 {
        let answer = http.get(format!("{url}{path}")).bearer_auth("bench-0123456789abcdef").send().await?;
        let answer: serde_json::Value = answer.error_for_status()?.json().await?;
        let Some(cursor) = answer["next_cursor"].as_str() else { return Ok(None) };
        let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        path = format!("/api/v1/{list}?limit=200&cursor={cursor}");
    }
    Ok(Some(path))
}

/// Prints the table, the slowest first.
pub fn orchestrate(links: u64, entries: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    let users = (links / 100).max(1).to_string();
    let stub = Role::start(&["role", "stub", &users, "0", "0"])?;
    let url = stub.first_line.clone();
    for args in [
        vec!["role", "sweep-seed", &url, &path, &users],
        vec!["role", "pages-seed", &url, &path, &entries.to_string(), &users],
    ] {
        let seeded = Role::start(&args)?;
        anyhow::ensure!(seeded.first_line == "seeded", "the database could not be filled");
    }
    let served = Role::start(&["role", "pages", &url, &path])?;
    println!("{}", table::machine());
    println!(
        "{links} pairs of {users} users, {entries} entries of history, {MESSAGES} messages; SQLite; {TIMES} requests each\n"
    );
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().context("no client")?;
    let looked = crate::threads(1)?.block_on(async {
        let mut all = Vec::new();
        let mut paths = addresses(entries);
        for list in ["history", "messages"] {
            paths.extend(deep(&http, &served.first_line, list).await?);
        }
        for path in paths {
            all.push(look(&http, &served.first_line, &path).await?);
        }
        anyhow::Ok(all)
    });
    let mut looked = looked?;
    looked.sort_by(|a, b| b.millis.median().total_cmp(&a.millis.median()));
    let row = |one: &Looked| {
        let held = one.millis.median() < HELD && one.status < 400;
        vec![
            one.path.chars().take(70).collect(),
            one.status.to_string(),
            one.bytes.to_string(),
            one.millis.spread(1),
            verdict(held).to_owned(),
        ]
    };
    table::print(&["page", "status", "bytes", "ms", "under 50"], &looked.iter().map(row).collect::<Vec<_>>());
    println!("\nThe slowest: {:.1} ms at the median.", looked.first().map_or(0.0, |one| one.millis.median()));
    Ok(())
}
