//! Attachments of To Do tasks.
//!
//! Facts: under 3 MB in one POST; up to 25 MB by an upload session, in order, in chunks of at most 4 MB.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::error::{Outcome, fail, not_found, unreadable};
use super::event_write::only;
use super::request::Call;
use super::state::State;
use super::times;
use super::todo::{Attachment, Task, UploadSession, invalid};
use crate::plumbing::Response;

const SMALL: usize = 3 << 20;
const LARGE: usize = 25 << 20;
const CHUNK: usize = 4 << 20;
const KIND: &str = "#microsoft.graph.taskFileAttachment";

impl Attachment {
    pub fn json(&self, content: bool) -> Value {
        let mut out = json!({"@odata.type": KIND, "id": self.id, "name": self.name, "contentType": self.content_type,
            "size": self.bytes.len(), "lastModifiedDateTime": times::stamp(self.modified)});
        if content {
            out["contentBytes"] = json!(STANDARD.encode(&self.bytes));
        }
        out
    }
}

impl State {
    pub fn attach(&self, task: &mut Task, name: &str, content_type: Option<&str>, bytes: Vec<u8>) -> Attachment {
        let attachment = Attachment {
            id: self.ids.uuid(),
            name: name.to_owned(),
            content_type: content_type.unwrap_or("application/octet-stream").to_owned(),
            bytes,
            modified: self.now(),
        };
        task.attachments.push(attachment.clone());
        attachment
    }

    pub fn attachments_route(
        &mut self,
        call: &Call,
        index: usize,
        (list, id): (&str, &str),
        rest: &[&str],
    ) -> Outcome<Response> {
        let mut task = self.task(index, list, id)?;
        match rest {
            [] if call.method() == "GET" => {
                let rows: Vec<Value> = task.attachments.iter().map(|a| a.json(false)).collect();
                Ok(Response::json(200, &json!({"value": rows})))
            }
            [] => {
                call.allow(&["GET", "POST"])?;
                let attachment = self.small(call, &mut task)?;
                self.store_task(index, list, task)?;
                Ok(Response::json(201, &attachment.json(true)))
            }
            ["createUploadSession"] => {
                call.allow(&["POST"])?;
                self.open_session(call, index, list, task)
            }
            [attachment, rest @ ..] => {
                call.allow(&["GET", "DELETE"])?;
                let found = task.attachments.iter().find(|a| a.id == *attachment).cloned().ok_or_else(not_found)?;
                if call.method() == "DELETE" {
                    task.attachments.retain(|a| a.id != found.id);
                    self.store_task(index, list, task)?;
                    return Ok(Response::empty(204));
                }
                if rest == ["$value"] {
                    let raw = Response { status: 200, body: found.bytes, ..Response::default() };
                    return Ok(raw.header("Content-Type", &found.content_type));
                }
                Ok(Response::json(200, &found.json(true)))
            }
        }
    }

    fn small(&self, call: &Call, task: &mut Task) -> Outcome<Attachment> {
        let body = call.body()?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        if text("@odata.type") != Some(KIND) {
            return Err(invalid(format!("@odata.type must be {KIND}")));
        }
        only(&body, &["name", "contentBytes", "contentType", "size"], "microsoft.graph.taskFileAttachment")?;
        let name = text("name").ok_or_else(|| invalid("name is required"))?;
        let bytes = STANDARD.decode(text("contentBytes").unwrap_or_default());
        let bytes = bytes.map_err(|_| unreadable("contentBytes must be base64"))?;
        if bytes.len() >= SMALL {
            return Err(fail(413, "RequestTooLarge", "Use an upload session for attachments of 3 MB and more."));
        }
        Ok(self.attach(task, name, text("contentType"), bytes))
    }

    fn open_session(&mut self, call: &Call, index: usize, list: &str, mut task: Task) -> Outcome<Response> {
        let body = call.body()?;
        let info = body.get("attachmentInfo").and_then(Value::as_object);
        let info = info.ok_or_else(|| invalid("attachmentInfo is required"))?;
        let text = |name: &str| info.get(name).and_then(Value::as_str);
        let size = info.get("size").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let (Some("file"), Some(name), Some(size)) = (text("attachmentType"), text("name"), size) else {
            return Err(invalid("attachmentInfo needs attachmentType file, name and size"));
        };
        if size > LARGE {
            return Err(invalid("The attachment exceeds 25 MB."));
        }
        let session = self.ids.base64url(24);
        let content_type = text("contentType").map(str::to_owned);
        task.sessions
            .insert(session.clone(), UploadSession { name: name.to_owned(), content_type, size, bytes: Vec::new() });
        let place = self.list_mut(index, list)?.tasks.iter_mut().find(|t| t.id == task.id).ok_or_else(not_found)?;
        *place = task;
        let path = call.request.raw_path.trim_end_matches("/attachments/createUploadSession");
        let url = format!("{}{path}/attachmentSessions/{session}", call.request.base);
        let expires = times::stamp(self.now() + TimeDelta::hours(1));
        Ok(Response::json(200, &json!({"uploadUrl": url, "expirationDateTime": expires, "nextExpectedRanges": ["0-"]})))
    }

    pub fn upload(&mut self, call: &Call, index: usize, (list, id): (&str, &str), session: &str) -> Outcome<Response> {
        call.allow(&["PUT"])?;
        let mut task = self.task(index, list, id)?;
        let mut open = task.sessions.remove(session).ok_or_else(not_found)?;
        let sent = &call.request.body;
        let range = call.request.header("Content-Range").and_then(content_range);
        let expected = Some((open.bytes.len(), open.bytes.len() + sent.len(), open.size));
        let in_step =
            range == expected && !sent.is_empty() && sent.len() <= CHUNK && open.bytes.len() + sent.len() <= open.size;
        if !in_step {
            return Err(fail(416, "InvalidRange", "Content-Range does not fit."));
        }
        open.bytes.extend_from_slice(sent);
        if open.bytes.len() < open.size {
            let next = format!("{}-", open.bytes.len());
            task.sessions.insert(session.to_owned(), open);
            let place = self.list_mut(index, list)?.tasks.iter_mut().find(|t| t.id == task.id).ok_or_else(not_found)?;
            *place = task;
            let expires = times::stamp(self.now() + TimeDelta::hours(1));
            return Ok(Response::json(200, &json!({"expirationDateTime": expires, "nextExpectedRanges": [next]})));
        }
        let attachment = self.attach(&mut task, &open.name, open.content_type.as_deref(), open.bytes);
        self.store_task(index, list, task)?;
        let path = call.request.raw_path.split("/attachmentSessions").next().unwrap_or_default();
        let location = format!("{}{path}/attachments/{}", call.request.base, attachment.id);
        Ok(Response::empty(201).header("Location", &location))
    }
}

/// `bytes first-last/total` as (first, one past the last, total).
fn content_range(text: &str) -> Option<(usize, usize, usize)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1, total.parse().ok()?))
}
