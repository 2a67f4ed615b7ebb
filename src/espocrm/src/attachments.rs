//! Attachments of Tasks.
//!
//! Facts (EspoCRM 9.3): `POST Attachment` with a `data:` URL, then `attachmentsIds` of the task as the full set; the content is
//! at `GET Attachment/file/ID`; attachments that nothing refers to are removed by a clean-up job.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{MutexGuard, SemaphorePermit};

use crate::auth::Identity;
use crate::client::{Acting, Client};
use crate::wire::{Call, Opened, Rows, failed};
use crate::{Error, Result};

/// A file at a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// Its file name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its MIME type.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Its size in bytes.
    #[serde(default)]
    pub size: Option<u64>,
}

impl Client {
    /// The attachments of a task.
    pub async fn attachments(&self, task: &str) -> Result<Vec<Attachment>> {
        let rows: Rows = self.send(&Call::get(&["Task", task, "attachments"])).await?.json()?;
        let parse = |row| {
            serde_json::from_value(row).map_err(|error| crate::error::unexpected(format!("an attachment: {error}")))
        };
        rows.list.into_iter().map(|row| parse(row.into())).collect()
    }

    /// The content of an attachment; none when it is not there, or hidden from the API user.
    pub async fn download(&self, id: &str) -> Result<Option<Download<'_>>> {
        let call = Call::get(&["Attachment", "file", id]);
        match self.open(&call).await? {
            Opened::Content(response, permit) => {
                Ok(Some(Download { call, response, left: sync::LARGEST_FILE, _permit: permit }))
            }
            Opened::Refusal(answer) if matches!(answer.status, 403 | 404) => Ok(None),
            Opened::Refusal(answer) => Err(answer.refusal()),
        }
    }

    /// Uploads a file for a task; it belongs to none until a write of the task names it, as the same user: who names a file
    /// must be able to read it, and a file that belongs to none is its author's.
    pub async fn upload(&self, content: Content, acting: Acting<'_>) -> Result<Attachment> {
        let identity = match acting {
            Acting::User { name, .. } if self.can_act_as_users() => Identity::AdminAs(name),
            Acting::User { .. } | Acting::Connector => Identity::Key,
            Acting::Admin => Identity::Admin,
        };
        let call = Call::new(Method::POST, &["Attachment"]);
        let request = self.request(&call, identity)?.header(CONTENT_TYPE, "application/json").body(content.end());
        self.deliver(&call, identity, request).await?.json()
    }

    /// Held while a large file is sent: EspoCRM takes a file as one JSON text, and only one is built at a time.
    pub async fn one_large_file(&self) -> MutexGuard<'_, ()> {
        self.large().lock().await
    }
}

/// A content that is read piece by piece.
pub struct Download<'a> {
    call: Call,
    response: reqwest::Response,
    left: u64,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Download<'_> {
    /// Its media type.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        self.response.headers().get(CONTENT_TYPE)?.to_str().ok()
    }

    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(chunk) = self.response.chunk().await.map_err(|error| failed(&self.call, error))? else {
            return Ok(None);
        };
        let too_large = || Error::TooLarge {
            request: self.call.shown(),
            limit: usize::try_from(sync::LARGEST_FILE).unwrap_or(usize::MAX),
            write: false,
        };
        self.left = self.left.checked_sub(chunk.len() as u64).ok_or_else(too_large)?;
        Ok(Some(chunk.to_vec()))
    }
}

/// The body of an upload while it grows: JSON with the content as base64, encoded piece by piece.
#[derive(Debug)]
pub struct Content {
    body: Vec<u8>,
    /// Up to two bytes that do not fill a group of base64 yet.
    rest: Vec<u8>,
}

impl Content {
    /// The beginning of a file of some size.
    #[must_use]
    pub fn begin(name: &str, kind: &str, size: u64) -> Self {
        let told = json!({
            "name": name, "type": kind, "role": "Attachment", "relatedType": "Task", "field": "attachments",
        });
        let told = told.to_string();
        let head = format!("{},\"file\":\"data:{};base64,", told.trim_end_matches('}'), media_type(kind));
        let encoded = usize::try_from(size.div_ceil(3) * 4).unwrap_or_default();
        let mut body = Vec::with_capacity(head.len() + encoded + 4);
        body.extend_from_slice(head.as_bytes());
        Self { body, rest: Vec::new() }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let missing = (3 - self.rest.len()) % 3;
        let (first, bytes) = bytes.split_at(missing.min(bytes.len()));
        self.rest.extend_from_slice(first);
        if self.rest.len() == 3 {
            let group = std::mem::take(&mut self.rest);
            self.encode(&group);
        }
        let whole = bytes.len() - bytes.len() % 3;
        let (whole, rest) = bytes.split_at(whole);
        self.encode(whole);
        self.rest.extend_from_slice(rest);
    }

    fn encode(&mut self, bytes: &[u8]) {
        // A piece at a time: the encoder makes a text of its own.
        for piece in bytes.chunks(3 * 16 * 1024) {
            self.body.extend_from_slice(STANDARD.encode(piece).as_bytes());
        }
    }

    fn end(mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.rest);
        self.encode(&rest);
        self.body.extend_from_slice(b"\"}");
        self.body
    }
}

/// A media type that can stand in a `data:` URL.
fn media_type(kind: &str) -> &str {
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b));
    let is_type = kind.split_once('/').is_some_and(|(family, kind)| fits(family) && fits(kind));
    if is_type { kind } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_body_that_grew_in_pieces_of_any_length_is_the_json_of_the_whole() {
        let content: Vec<u8> = (0..100_u8).collect();
        for length in [1, 2, 3, 4, 7, 50, 100] {
            let mut body = Content::begin("a \"b\" }.txt", "text/plain", 100);
            content.chunks(length).for_each(|piece| body.push(piece));
            let json: Value = serde_json::from_slice(&body.end()).expect("JSON");
            assert_eq!(json["file"], format!("data:text/plain;base64,{}", STANDARD.encode(&content)), "{length}");
            assert_eq!(json["name"], "a \"b\" }.txt");
            assert_eq!(json["relatedType"], "Task");
        }
    }

    #[test]
    fn what_is_no_media_type_does_not_break_the_url() {
        for kind in ["", "text", "text/pl\"ain", "a/b;c=d"] {
            assert_eq!(media_type(kind), "application/octet-stream");
        }
        assert_eq!(media_type("application/vnd.ms-excel"), "application/vnd.ms-excel");
    }
}
