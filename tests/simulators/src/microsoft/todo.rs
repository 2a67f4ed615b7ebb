//! Microsoft To Do: lists, tasks, linked resources and their delta.
//!
//! Facts: due, start and completed are dates, the time is dropped; only the reminder has a time; there is no change key
//! but an etag; linked resources come in a POST or by their own route; the lists are told apart by wellknownListName.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::calendar::{comparison, is_delta};
use super::delta::{Token, gone, removed};
use super::error::{Outcome, Refusal, fail, not_found, unknown_property, unreadable};
use super::event_write::only;
use super::request::Call;
use super::state::{Change, State};
use super::times;
use crate::plumbing::{Response, SimIds};

const WRITABLE: [&str; 12] = [
    "title",
    "body",
    "importance",
    "status",
    "isReminderOn",
    "reminderDateTime",
    "dueDateTime",
    "startDateTime",
    "completedDateTime",
    "recurrence",
    "categories",
    "linkedResources",
];
const READ_ONLY: [&str; 5] =
    ["id", "createdDateTime", "lastModifiedDateTime", "bodyLastModifiedDateTime", "hasAttachments"];
const LINKED: [&str; 4] = ["webUrl", "applicationName", "displayName", "externalId"];
const WRITE: [&str; 2] = ["Tasks.ReadWrite", "Tasks.ReadWrite.All"];

/// Who writes a task: Graph's API, or a person in the To Do app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    Api,
    App,
}

#[derive(Debug, Clone)]
pub struct Attachment {
    pub id: String,
    pub name: String,
    pub content_type: String,
    pub bytes: Vec<u8>,
    pub modified: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub struct UploadSession {
    pub name: String,
    pub content_type: Option<String>,
    pub size: usize,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Task {
    pub id: String,
    pub data: Map<String, Value>,
    pub linked: Vec<Value>,
    pub attachments: Vec<Attachment>,
    pub sessions: BTreeMap<String, UploadSession>,
    pub created: DateTime<Utc>,
    pub modified: DateTime<Utc>,
    pub body_modified: Option<DateTime<Utc>>,
    pub version: u64,
}

#[derive(Debug, Clone)]
pub struct TodoList {
    pub id: String,
    pub name: String,
    pub wellknown: String,
    pub version: u64,
    pub tasks: Vec<Task>,
}

pub fn invalid(message: impl Into<String>) -> Refusal {
    fail(400, "invalidRequest", message)
}

impl TodoList {
    pub fn new(ids: &SimIds, name: &str, wellknown: &str) -> Self {
        let id = format!("AAMkLIST{}", ids.base64url(40));
        Self { id, name: name.to_owned(), wellknown: wellknown.to_owned(), version: 1, tasks: Vec::new() }
    }

    pub fn json(&self) -> Value {
        json!({"@odata.etag": format!("W/\"{}\"", self.version), "displayName": self.name, "isOwner": true,
            "isShared": false, "wellknownListName": self.wellknown, "id": self.id})
    }
}

impl Task {
    fn new(ids: &SimIds, now: DateTime<Utc>) -> Self {
        Self {
            id: format!("AAMkTASK{}", ids.base64url(60)),
            data: Map::new(),
            linked: Vec::new(),
            attachments: Vec::new(),
            sessions: BTreeMap::new(),
            created: now,
            modified: now,
            body_modified: None,
            version: ids.below(1 << 30),
        }
    }

    pub fn touch(&mut self, now: DateTime<Utc>) {
        self.version += 1;
        self.modified = if now > self.modified { now } else { self.modified + TimeDelta::microseconds(1) };
    }

    pub fn etag(&self) -> String {
        format!("W/\"{}\"", STANDARD.encode(self.version.to_be_bytes()))
    }

    fn apply(&mut self, ids: &SimIds, now: DateTime<Utc>, body: &Map<String, Value>, creating: bool) -> Outcome<()> {
        if let Some(name) = body
            .keys()
            .find(|k| !k.contains("@odata") && !WRITABLE.contains(&k.as_str()) && !READ_ONLY.contains(&k.as_str()))
        {
            return Err(unknown_property(name, "microsoft.graph.todoTask"));
        }
        if creating && !body.get("title").is_some_and(Value::is_string) {
            return Err(invalid("title is required"));
        }
        for name in WRITABLE {
            let Some(value) = body.get(name) else { continue };
            check_type(name, value)?;
            match name {
                "linkedResources" if !creating => {
                    return Err(invalid("linkedResources are written by their own route once the task exists"));
                }
                "linkedResources" => {
                    for item in value.as_array().map(Vec::as_slice).unwrap_or_default() {
                        self.linked.push(linked(ids, item)?);
                    }
                }
                _ if value.is_null() => {
                    self.data.remove(name);
                }
                "body" => {
                    self.data.insert(name.to_owned(), task_body(value)?);
                    self.body_modified = Some(now);
                }
                "reminderDateTime" => {
                    let moment = times::parse(value).map_err(|e| invalid(format!("{name}: {e}")))?;
                    self.data.insert(name.to_owned(), times::in_zone(moment.at, "UTC"));
                    if !body.contains_key("isReminderOn") {
                        self.data.insert("isReminderOn".to_owned(), json!(true));
                    }
                }
                "dueDateTime" | "startDateTime" | "completedDateTime" => {
                    let moment = times::parse(value).map_err(|e| invalid(format!("{name}: {e}")))?;
                    self.data.insert(name.to_owned(), times::midnight(moment.local.date(), "UTC"));
                }
                _ => {
                    self.data.insert(name.to_owned(), value.clone());
                }
            }
        }
        if self.data.contains_key("recurrence") && !self.data.contains_key("dueDateTime") {
            return Err(invalid("a recurring task needs dueDateTime"));
        }
        self.complete(now, body);
        Ok(())
    }

    /// `completedDateTime` follows the status.
    fn complete(&mut self, now: DateTime<Utc>, body: &Map<String, Value>) {
        if !body.contains_key("status") {
            return;
        }
        if self.data.get("status") == Some(&json!("completed")) {
            let today = times::midnight(now.date_naive(), "UTC");
            self.data.entry("completedDateTime").or_insert(today);
        } else {
            self.data.remove("completedDateTime");
        }
    }

    /// The To Do app stores the local midnight of the date, which is another date in UTC east of Greenwich.
    fn as_local_midnights(&mut self, zone: &str, body: &Map<String, Value>) {
        for name in ["dueDateTime", "startDateTime"].into_iter().filter(|name| body.contains_key(*name)) {
            let stored = self.data.get(name).and_then(|value| times::parse(value).ok());
            if let Some(moment) = stored {
                let midnight = times::to_utc(moment.local, times::known_zone(zone));
                self.data.insert(name.to_owned(), times::in_zone(midnight, "UTC"));
            }
        }
    }

    pub fn json(&self, linked: bool, attachments: bool) -> Value {
        let or = |name: &str, default: Value| self.data.get(name).cloned().unwrap_or(default);
        let mut out = json!({
            "@odata.etag": self.etag(), "id": self.id, "importance": or("importance", json!("normal")),
            "isReminderOn": or("isReminderOn", json!(false)), "status": or("status", json!("notStarted")),
            "title": or("title", json!("")), "createdDateTime": times::stamp(self.created),
            "lastModifiedDateTime": times::stamp(self.modified), "hasAttachments": !self.attachments.is_empty(),
            "categories": or("categories", json!([])), "body": or("body", json!({"content": "", "contentType": "text"})),
        });
        for name in ["dueDateTime", "startDateTime", "completedDateTime", "reminderDateTime", "recurrence"] {
            if let Some(value) = self.data.get(name) {
                out[name] = value.clone();
            }
        }
        if let Some(at) = self.body_modified {
            out["bodyLastModifiedDateTime"] = json!(times::stamp(at));
        }
        if linked {
            out["linkedResources"] = json!(self.linked);
        }
        if attachments {
            out["attachments"] = self.attachments.iter().map(|a| a.json(false)).collect();
        }
        out
    }
}

fn check_type(name: &str, value: &Value) -> Outcome<()> {
    let among = |allowed: &[&str]| value.as_str().is_some_and(|v| allowed.contains(&v));
    let fits = match name {
        "status" => among(&["notStarted", "inProgress", "completed", "waitingOnOthers", "deferred"]),
        "importance" => among(&["low", "normal", "high"]),
        "isReminderOn" => value.is_boolean(),
        "title" => value.is_string(),
        "categories" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        "linkedResources" => value.is_array(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(unreadable(format!("Requested value '{value}' was not found for {name}."))) }
}

fn task_body(value: &Value) -> Outcome<Value> {
    let map = value.as_object().ok_or_else(|| unreadable("body must be an itemBody"))?;
    only(map, &["content", "contentType"], "microsoft.graph.itemBody")?;
    let kind = map.get("contentType").map_or(Some("text"), Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if !["text", "html"].contains(&kind.as_str()) {
        return Err(unreadable("contentType must be text or html"));
    }
    let content = map.get("content").and_then(Value::as_str).unwrap_or_default();
    Ok(json!({"content": content, "contentType": kind}))
}

fn linked(ids: &SimIds, item: &Value) -> Outcome<Value> {
    let map = item.as_object().ok_or_else(|| unreadable("a linked resource must be an object"))?;
    let known: Vec<&str> = LINKED.into_iter().chain(["id"]).collect();
    only(map, &known, "microsoft.graph.linkedResource")?;
    let mut out = json!({"id": ids.uuid()});
    for name in LINKED {
        out[name] = map.get(name).cloned().unwrap_or(Value::Null);
    }
    Ok(out)
}

impl State {
    pub fn list(&self, index: usize, list: &str) -> Outcome<&TodoList> {
        let found = self.mailbox(index).and_then(|m| m.lists.iter().find(|l| l.id == list));
        let malformed = || Refusal { inner_code: Some("ErrorInvalidIdMalformed"), ..invalid("Invalid request") };
        found.ok_or_else(|| if list.len() < 20 { malformed() } else { not_found() })
    }

    pub fn list_mut(&mut self, index: usize, list: &str) -> Outcome<&mut TodoList> {
        self.list(index, list)?;
        let mailbox = self.mailboxes.get_mut(index).ok_or_else(not_found)?;
        mailbox.lists.iter_mut().find(|l| l.id == list).ok_or_else(not_found)
    }

    pub fn task(&self, index: usize, list: &str, task: &str) -> Outcome<Task> {
        self.list(index, list)?.tasks.iter().find(|t| t.id == task).cloned().ok_or_else(not_found)
    }

    /// Stores a changed task under a new etag and tells the subscribers.
    pub fn store_task(&mut self, index: usize, list: &str, mut task: Task) -> Outcome<Task> {
        task.touch(self.now());
        let tasks = &mut self.list_mut(index, list)?.tasks;
        let change = match tasks.iter_mut().find(|t| t.id == task.id) {
            Some(place) => {
                *place = task.clone();
                Change::Updated
            }
            None => {
                tasks.push(task.clone());
                Change::Created
            }
        };
        self.notify_task(index, change, list, &task.id, task.etag());
        Ok(task)
    }

    pub fn new_task(&mut self, index: usize, list: &str, body: &Map<String, Value>, by: Writer) -> Outcome<Task> {
        let (ids, now) = (self.ids.clone(), self.now());
        let mut task = Task::new(&ids, now);
        task.apply(&ids, now, body, true)?;
        self.finish_task(index, list, task, body, by)
    }

    pub fn change_task(
        &mut self,
        index: usize,
        list: &str,
        id: &str,
        body: &Map<String, Value>,
        by: Writer,
    ) -> Outcome<Task> {
        let mut task = self.task(index, list, id)?;
        task.apply(&self.ids.clone(), self.now(), body, false)?;
        self.finish_task(index, list, task, body, by)
    }

    fn finish_task(
        &mut self,
        index: usize,
        list: &str,
        mut task: Task,
        body: &Map<String, Value>,
        by: Writer,
    ) -> Outcome<Task> {
        if by == Writer::App {
            let zone = self.mailbox(index).map(|m| m.zone.clone()).unwrap_or_default();
            task.as_local_midnights(&zone, body);
        }
        self.store_task(index, list, task)
    }

    pub fn remove_task(&mut self, index: usize, list: &str, id: &str) -> Outcome<()> {
        let task = self.task(index, list, id)?;
        self.list_mut(index, list)?.tasks.retain(|t| t.id != id);
        self.notify_task(index, Change::Deleted, list, id, task.etag());
        Ok(())
    }

    pub fn todo_route(&mut self, call: &Call, index: usize, rest: &[&str]) -> Outcome<Response> {
        if call.method() != "GET" {
            call.grant.any(&WRITE)?;
        }
        let shown = |task: &Task| {
            let expand = call.request.query("$expand").unwrap_or_default();
            let created = call.method() == "POST" && !task.linked.is_empty();
            task.json(created || expand.contains("linkedResources"), expand.contains("attachments"))
        };
        match rest {
            ["lists"] => self.lists(call, index),
            ["lists", delta] if is_delta(delta) => self.lists_delta(call, index),
            ["lists", list] => self.one_list(call, index, list),
            ["lists", list, "tasks"] if call.method() == "POST" => {
                self.list(index, list)?;
                let task = self.new_task(index, list, &call.body()?, Writer::Api)?;
                Ok(Response::json(201, &shown(&task)))
            }
            ["lists", list, "tasks"] => self.tasks_page(call, index, list, &shown),
            ["lists", list, "tasks", delta] if is_delta(delta) => self.tasks_delta(call, index, list),
            ["lists", list, "tasks", id] => {
                call.allow(&["GET", "PATCH", "DELETE"])?;
                let task = self.task(index, list, id)?;
                call.check_etag(&task.etag())?;
                match call.method() {
                    "DELETE" => {
                        self.remove_task(index, list, id)?;
                        Ok(Response::empty(204))
                    }
                    "PATCH" => {
                        let task = self.change_task(index, list, id, &call.body()?, Writer::Api)?;
                        Ok(Response::json(200, &shown(&task)))
                    }
                    _ => Ok(Response::json(200, &shown(&task))),
                }
            }
            ["lists", list, "tasks", id, "linkedResources", rest @ ..] => {
                self.linked_route(call, index, (list, id), rest)
            }
            ["lists", list, "tasks", id, "attachments", rest @ ..] => {
                self.attachments_route(call, index, (list, id), rest)
            }
            ["lists", list, "tasks", id, "attachmentSessions", session, ..] => {
                self.upload(call, index, (list, id), session)
            }
            ["lists", list, "tasks", id, "checklistItems"] if call.method() == "GET" => {
                self.task(index, list, id)?;
                Ok(Response::json(200, &json!({"value": []})))
            }
            _ => Err(super::error::no_segment(rest.last().copied().unwrap_or("todo"))),
        }
    }

    fn tasks_page(&self, call: &Call, index: usize, list: &str, shown: &dyn Fn(&Task) -> Value) -> Outcome<Response> {
        call.allow(&["GET", "POST"])?;
        let mut rows: Vec<&Task> = self.list(index, list)?.tasks.iter().collect();
        if let Some(text) = call.request.query("$filter") {
            let test = task_filter(text).ok_or_else(|| invalid("Invalid filter clause"))?;
            rows.retain(|task| test(task));
        }
        let (skip, top) = (call.skip()?, call.top(100, 1000)?);
        let value: Vec<Value> = rows.iter().skip(skip).take(top).map(|t| shown(t)).collect();
        let mut out = json!({"value": value});
        if rows.len() > skip + top {
            out["@odata.nextLink"] = json!(call.next_link(skip + top));
        }
        Ok(Response::json(200, &out))
    }

    fn tasks_delta(&mut self, call: &Call, index: usize, list: &str) -> Outcome<Response> {
        call.allow(&["GET"])?;
        let tasks = &self.list(index, list)?.tasks;
        let now: BTreeMap<String, u64> = tasks.iter().map(|t| (t.id.clone(), t.version)).collect();
        let (rows, seen) = match self.delta_token(call)? {
            None => (tasks.iter().map(|t| t.id.clone()).collect(), now),
            Some(Token::Tasks { list: of, .. }) if of != list => return Err(gone(call)),
            Some(Token::Tasks { rows: Some(rows), seen, .. }) => (rows, seen),
            Some(Token::Tasks { rows: None, seen, .. }) => {
                let fresh = tasks.iter().filter(|t| seen.get(&t.id) != Some(&t.version)).map(|t| t.id.clone());
                let lost = seen.keys().filter(|id| !now.contains_key(*id)).cloned();
                (fresh.chain(lost).collect::<Vec<_>>(), now)
            }
            Some(_) => return Err(gone(call)),
        };
        let size = call.top(call.prefer.page_size.unwrap_or(50), 500)?;
        let (part, rest) = rows.split_at(rows.len().min(size));
        let value: Vec<Value> = part
            .iter()
            .map(|id| match self.task(index, list, id) {
                Ok(task) => {
                    let linked = call.request.query("$expand").is_some_and(|e| e.contains("linkedResources"));
                    let mut row = task.json(linked, false);
                    row["@odata.type"] = json!("#microsoft.graph.todoTask");
                    row
                }
                Err(_) => removed("todoTask", id),
            })
            .collect();
        let more = !rest.is_empty();
        let rest = more.then(|| rest.to_vec());
        let token = self.keep_token(Token::Tasks { list: list.to_owned(), rows: rest, seen });
        let (link, parameter) =
            if more { ("@odata.nextLink", "$skiptoken") } else { ("@odata.deltaLink", "$deltatoken") };
        let url = format!("{}{}?{parameter}={token}", call.request.base, call.request.raw_path);
        Ok(Response::json(200, &json!({"value": value, link: url})))
    }

    fn linked_route(
        &mut self,
        call: &Call,
        index: usize,
        (list, id): (&str, &str),
        rest: &[&str],
    ) -> Outcome<Response> {
        let mut task = self.task(index, list, id)?;
        let [resource] = rest else {
            call.allow(&["GET", "POST"])?;
            if call.method() == "GET" {
                return Ok(Response::json(200, &json!({"value": task.linked})));
            }
            let row = linked(&self.ids, &Value::Object(call.body()?))?;
            task.linked.push(row.clone());
            self.store_task(index, list, task)?;
            return Ok(Response::json(201, &row));
        };
        call.allow(&["GET", "PATCH", "DELETE"])?;
        let found = task.linked.iter().position(|row| row["id"] == json!(resource));
        let place = found.ok_or_else(not_found)?;
        let row = task.linked.get_mut(place).ok_or_else(not_found)?;
        match call.method() {
            "DELETE" => {
                task.linked.remove(place);
                self.store_task(index, list, task)?;
                Ok(Response::empty(204))
            }
            "PATCH" => {
                let body = call.body()?;
                only(&body, &LINKED, "microsoft.graph.linkedResource")?;
                for (name, value) in body.iter().filter(|(name, _)| LINKED.contains(&name.as_str())) {
                    row[name] = value.clone();
                }
                let row = row.clone();
                self.store_task(index, list, task)?;
                Ok(Response::json(200, &row))
            }
            _ => Ok(Response::json(200, row)),
        }
    }
}

type Test = Box<dyn Fn(&Task) -> bool>;

/// `linkedResources/any(r:r/externalId eq '…')`, or a plain comparison of status, title or importance.
fn task_filter(text: &str) -> Option<Test> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix("linkedResources/").and_then(|rest| rest.get(3..)) {
        let inner = inner.trim().strip_prefix('(')?.strip_suffix(')')?;
        let (name, term) = inner.split_once(':')?;
        let (left, op, wanted, quoted) = comparison(term.trim())?;
        let member = left.strip_prefix(name.trim())?.strip_prefix('/')?.to_owned();
        if op != "eq" || !quoted || !LINKED.contains(&member.as_str()) {
            return None;
        }
        return Some(Box::new(move |task| task.linked.iter().any(|row| row[&member] == json!(wanted))));
    }
    let (name, op, wanted, quoted) = comparison(text)?;
    if !quoted || !["status", "title", "importance"].contains(&name.as_str()) || !["eq", "ne"].contains(&op.as_str()) {
        return None;
    }
    Some(Box::new(move |task| (task.json(false, false)[&name] == json!(wanted)) == (op == "eq")))
}
