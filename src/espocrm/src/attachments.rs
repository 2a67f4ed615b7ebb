//! Attachments of Tasks.
//!
//! Facts (EspoCRM 9.3): `POST Attachment` with a `data:` URL, then `attachmentsIds` of the task as the full set; the content is
//! at `GET Attachment/file/ID`; attachments that nothing refers to are removed by a clean-up job.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Acting, Client};
use crate::wire::{Call, Rows};
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

    /// The content of an attachment, at most `limit` bytes.
    pub async fn download(&self, id: &str, limit: usize) -> Result<Vec<u8>> {
        let mut call = Call::get(&["Attachment", "file", id]);
        call.limit = limit;
        let answer = self.send(&call).await?;
        if answer.is_success() { Ok(answer.body) } else { Err(answer.refusal()) }
    }

    /// Uploads a file for a task; it belongs to none until [`Client::set_attachments`] names it.
    pub async fn upload(&self, name: &str, kind: &str, content: &[u8]) -> Result<Attachment> {
        let body = json!({
            "name": name, "type": kind, "role": "Attachment", "relatedType": "Task", "field": "attachments",
            "file": format!("data:{kind};base64,{}", STANDARD.encode(content)),
        });
        self.send(&Call::new(Method::POST, &["Attachment"]).body(body)).await?.json()
    }

    /// Makes these the attachments of a task. This is a PUT: call it only when the set differs.
    pub async fn set_attachments(&self, task: &str, ids: &[String], acting: Acting<'_>) -> Result<()> {
        let call = Call::new(Method::PUT, &["Task", task]).body(json!({ "attachmentsIds": ids }));
        match self.send_as(call, acting).await?.answer {
            Some(answer) if answer.is_success() => Ok(()),
            Some(answer) => Err(answer.refusal()),
            None => Err(Error::BadId(task.to_owned())),
        }
    }
}
