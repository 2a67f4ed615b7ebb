//! EspoCRM and Microsoft as thin as they can be, in a process of their own: they answer from arithmetic, wait as long as they
//! are told to, and count. They refuse nothing: what is right is shown by the integration tests, here only the cost is.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use url::form_urlencoded;

/// Records and items of one user, by kind.
pub const KINDS: [(&str, u64); 3] = [("Meeting", 60), ("Call", 20), ("Task", 20)];
/// Rows of a page.
const PAGE: u64 = 200;

/// How large the world is, and how slow.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub users: u64,
    pub espo: Duration,
    pub graph: Duration,
}

/// What was asked.
#[derive(Debug, Default)]
struct Counts {
    espo: AtomicU64,
    graph: AtomicU64,
    tokens: AtomicU64,
    writes: AtomicU64,
    /// Microseconds that were spent on answers, waiting included.
    spent: AtomicU64,
    /// Subjects that were written.
    subjects: Mutex<HashMap<String, String>>,
}

#[must_use]
pub fn user(n: u64) -> String {
    format!("{n:017x}")
}

#[must_use]
pub fn address(n: u64) -> String {
    format!("user{n}@bench.example")
}

/// A record's id tells its number.
#[must_use]
pub fn record(kind: &str, n: u64) -> String {
    let of = KINDS.iter().position(|(known, _)| *known == kind).unwrap_or_default() as u64 + 1;
    format!("{of:x}{n:016x}")
}

fn number_of(id: &str) -> u64 {
    id.get(1..).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

/// The first record was created then, each next one a second later.
fn created(n: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap_or_default()
        + TimeDelta::seconds(i64::try_from(n).unwrap_or_default())
}

fn text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Far enough ahead for any year in which this is run.
fn starts(n: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(4_000_000_000 - 4_000_000_000 % 86_400, 0).unwrap_or_default()
        + TimeDelta::hours(i64::try_from(n % 2000).unwrap_or_default())
}

fn row(kind: &str, n: u64, users: u64) -> Value {
    let owner = user(n % users);
    let mut row = json!({
        "id": record(kind, n), "name": format!("{kind} number {n}"), "description": null, "status": if kind == "Task" { "Not Started" } else { "Planned" },
        "dateStart": text(starts(n)), "dateEnd": text(starts(n) + TimeDelta::hours(1)),
        "createdAt": text(created(n)), "modifiedAt": text(created(n)), "assignedUserId": owner,
    });
    if let Some(row) = row.as_object_mut() {
        if kind == "Task" {
            row.insert("priority".to_owned(), json!("Normal"));
        } else {
            for link in ["users", "contacts", "leads"] {
                row.insert(format!("{link}Ids"), if link == "users" { json!([owner]) } else { json!([]) });
                row.insert(format!("{link}Columns"), json!({}));
                row.insert(format!("{link}Names"), json!({}));
            }
        }
    }
    row
}

/// The users that are asked for by id.
fn people(pairs: &[(String, String)]) -> Value {
    let ids = pairs.iter().filter(|(key, _)| key.starts_with("where[0][value][")).map(|(_, id)| id);
    let rows = ids.filter_map(|id| {
        let n = u64::from_str_radix(id, 16).ok()?;
        Some(json!({ "id": id, "name": format!("User {n}"), "emailAddress": address(n) }))
    });
    let rows: Vec<Value> = rows.collect();
    json!({ "total": rows.len(), "list": rows })
}

fn list(kind: &str, query: &str, size: Size) -> Value {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    if kind == "User" {
        return people(&pairs);
    }
    let after = pairs.iter().find(|(_, value)| value == "greaterThan").and_then(|(key, _)| {
        let sibling = key.replace("[type]", "[value]");
        let at = &pairs.iter().find(|(key, _)| *key == sibling)?.1;
        let at = chrono::NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S").ok()?.and_utc();
        u64::try_from((at - created(0)).num_seconds()).ok()
    });
    let count = KINDS.iter().find(|(known, _)| *known == kind).map_or(0, |(_, each)| each * size.users);
    let first = after.map_or(0, |after| after + 1);
    let end = (first + PAGE).min(count);
    let rows: Vec<Value> = (first..end).map(|n| row(kind, n, size.users)).collect();
    json!({ "total": if end < count { -1 } else { -2 }, "list": rows })
}

fn fields(kind: &str) -> Value {
    let mut fields = json!({ "name": { "type": "varchar" }, "description": { "type": "text" }, "status": { "type": "enum" },
        "dateStart": { "type": "datetimeOptional" }, "dateEnd": { "type": "datetimeOptional" }, "assignedUser": { "type": "link" },
        "cSyncWithOutlook": { "type": "bool" }, "cOutlookMarker": { "type": "varchar" } });
    if let Some(fields) = fields.as_object_mut().filter(|_| kind != "Task") {
        for link in ["users", "contacts", "leads"] {
            fields.insert(link.to_owned(), json!({ "type": "linkMultiple" }));
        }
    }
    fields
}

async fn answer(request: HttpRequest, body: Bytes, size: Data<Size>, counts: Data<Counts>) -> HttpResponse {
    let began = Instant::now();
    let (path, query) = (request.path().to_owned(), request.query_string().to_owned());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let is_write = !["GET", "POST"].contains(&request.method().as_str());
    counts.writes.fetch_add(u64::from(is_write), Ordering::Relaxed);
    let response = match parts.as_slice() {
        ["counts"] => {
            let all = [&counts.espo, &counts.graph, &counts.tokens, &counts.writes, &counts.spent];
            return HttpResponse::Ok().json(all.map(|one| one.load(Ordering::Relaxed)));
        }
        ["api", "v1", rest @ ..] => {
            let edit = counts.espo.fetch_add(1, Ordering::Relaxed);
            pause(size.espo).await;
            HttpResponse::Ok().json(espocrm(rest, &query, **size, edit))
        }
        [_, "oauth2", "v2.0", "token"] => {
            counts.tokens.fetch_add(1, Ordering::Relaxed);
            HttpResponse::Ok().json(json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": "bench" }))
        }
        ["v1.0", "users", _, rest @ ..] => {
            counts.graph.fetch_add(1, Ordering::Relaxed);
            pause(size.graph).await;
            let url = format!("{}{path}?{query}", base(&request));
            HttpResponse::Ok().json(graph(rest, &url, &body, &counts.subjects))
        }
        _ => HttpResponse::NotFound().finish(),
    };
    let spent = u64::try_from(began.elapsed().as_micros()).unwrap_or_default();
    counts.spent.fetch_add(spent, Ordering::Relaxed);
    response
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn base(request: &HttpRequest) -> String {
    format!("http://{}", request.connection_info().host())
}

fn espocrm(rest: &[&str], query: &str, size: Size, edit: u64) -> Value {
    match rest {
        ["Settings"] => json!({ "version": "9.3.4", "timeZone": "UTC" }),
        ["Metadata"] => {
            let kind = KINDS.iter().find(|(kind, _)| query.contains(kind)).map_or("Meeting", |(kind, _)| *kind);
            fields(kind)
        }
        [kind, id] => {
            // As after another edit, so that there is something to write each time.
            let mut row = row(kind, number_of(id), size.users);
            row["name"] = json!(format!("{}, edited {edit}", row["name"].as_str().unwrap_or_default()));
            row["modifiedAt"] = json!(text(espo_outlook::clock::Clock::System.now()));
            row
        }
        [kind] => list(kind, query, size),
        _ => json!({}),
    }
}

/// The event of a meeting or call, as it stands beside its record; the id is that of the record.
fn event(id: &str, name: &str) -> Value {
    let n = number_of(id);
    let at = |at: DateTime<Utc>| json!({ "dateTime": at.format("%Y-%m-%dT%H:%M:%S.0000000").to_string(), "timeZone": "UTC" });
    json!({
        "@odata.etag": "W/\"bench\"", "id": id, "changeKey": "bench", "subject": name, "type": "singleInstance", "isAllDay": false, "isCancelled": false,
        "isOrganizer": true, "showAs": "busy", "sensitivity": "normal", "importance": "normal", "isReminderOn": false, "reminderMinutesBeforeStart": 15,
        "start": at(starts(n)), "end": at(starts(n) + TimeDelta::hours(1)), "body": { "contentType": "text", "content": "" }, "iCalUId": id,
        "categories": [], "attendees": [], "location": { "displayName": "" }, "originalStartTimeZone": "UTC", "originalEndTimeZone": "UTC",
        "organizer": { "emailAddress": { "name": "x", "address": address(0) } }, "createdDateTime": "2026-01-01T00:00:00Z", "lastModifiedDateTime": "2026-01-01T00:00:00Z",
    })
}

fn graph(rest: &[&str], url: &str, body: &[u8], subjects: &Mutex<HashMap<String, String>>) -> Value {
    match rest {
        [.., "delta"] => json!({ "value": [], "@odata.deltaLink": url }),
        ["events", id] => {
            let mut subjects = subjects.lock().unwrap_or_else(PoisonError::into_inner);
            let written = serde_json::from_slice::<Value>(body).ok();
            if let Some(subject) = written.and_then(|body| Some(body.get("subject")?.as_str()?.to_owned())) {
                subjects.insert((*id).to_owned(), subject);
            }
            let subject = subjects.get(*id).cloned();
            drop(subjects);
            event(id, &subject.unwrap_or_else(|| format!("Meeting number {}", number_of(id))))
        }
        _ => json!({ "value": [] }),
    }
}

/// Serves until it is killed; its address is the first line that it prints.
pub async fn serve(size: Size) -> anyhow::Result<()> {
    let counts = Data::new(Counts::default());
    let size = Data::new(size);
    let server = HttpServer::new(move || {
        App::new().app_data(size.clone()).app_data(counts.clone()).default_service(web::to(answer))
    });
    let server = server.workers(1).bind(("127.0.0.1", 0))?;
    for address in server.addrs() {
        println!("http://{address}");
    }
    Ok(server.run().await?)
}

/// What was asked of the stubs: EspoCRM, Graph, sign-in, writes; and the microseconds that they spent on it.
pub async fn counts(stub: &str) -> anyhow::Result<[u64; 5]> {
    Ok(reqwest::get(format!("{stub}/counts")).await?.json().await?)
}
