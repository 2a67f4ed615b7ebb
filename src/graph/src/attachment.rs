//! Attachments of To Do tasks.
//!
//! Facts (learn.microsoft.com/graph/api/todotask-post-attachments, taskfileattachment-createuploadsession): under 3 MB in one
//! POST; up to 25 MB through an upload session, in pieces of at most 4 MB, sent to an address at Graph itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::json;

use crate::Result;
use crate::client::{Client, Mailbox};
use crate::error::Error;
use crate::events::Deletion;
use crate::request::{Call, with_query};

/// The largest attachment of a task, in bytes.
pub const LARGEST: usize = 25 * 1024 * 1024;
/// From here on an upload session is needed.
const IN_ONE_PIECE: usize = 3 * 1024 * 1024 - 1024;
/// A piece of an upload: a multiple of 320 KiB below 4 MB.
const PIECE: usize = 12 * 320 * 1024;

/// An attachment of a task, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// File name.
    #[serde(default)]
    pub name: String,
    /// Media type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Bytes, as Graph counts them.
    #[serde(default)]
    pub size: u64,
}

impl Client {
    /// The attachments of a task.
    pub async fn attachments(&self, mailbox: &Mailbox, list: &str, task: &str) -> Result<Vec<Attachment>> {
        let url = self.task_address(mailbox, list, &[task, "attachments"])?;
        self.collect(mailbox, with_query(url, &[("$top", "100")]), "odata.maxpagesize=100").await
    }

    /// The content of an attachment.
    pub async fn attachment(&self, mailbox: &Mailbox, list: &str, task: &str, id: &str) -> Result<Vec<u8>> {
        let url = self.task_address(mailbox, list, &[task, "attachments", id, "$value"])?;
        Ok(self.send(mailbox, Call::get(url).large()).await?.body)
    }

    /// Adds an attachment. Not more than [`LARGEST`] bytes.
    pub async fn add_attachment(
        &self,
        mailbox: &Mailbox,
        list: &str,
        task: &str,
        name: &str,
        content_type: &str,
        content: &[u8],
    ) -> Result<()> {
        if content.len() > LARGEST {
            return Err(Error::Unwritable { field: sync::Field::Attachments, why: "it is larger than 25 MB" });
        }
        if content.len() >= IN_ONE_PIECE {
            return self.upload(mailbox, list, task, name, content).await;
        }
        let body = json!({
            "@odata.type": "#microsoft.graph.taskFileAttachment",
            "name": name,
            "contentType": content_type,
            "contentBytes": STANDARD.encode(content),
        });
        let url = self.task_address(mailbox, list, &[task, "attachments"])?;
        self.send(mailbox, Call::new(Method::POST, url).body(body)).await.map(drop)
    }

    async fn upload(&self, mailbox: &Mailbox, list: &str, task: &str, name: &str, content: &[u8]) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Session {
            upload_url: String,
        }
        let url = self.task_address(mailbox, list, &[task, "attachments", "createUploadSession"])?;
        let body = json!({"attachmentInfo": {"attachmentType": "file", "name": name, "size": content.len()}});
        let session: Session = self.send(mailbox, Call::new(Method::POST, url).body(body)).await?.json()?;
        let target = self.link(&session.upload_url)?;
        let mut sent = 0;
        for piece in content.chunks(PIECE) {
            let range = format!("bytes {}-{}/{}", sent, sent + piece.len() - 1, content.len());
            let call = Call::new(Method::PUT, target.clone()).bytes(&range, piece);
            self.send(mailbox, call).await?;
            sent += piece.len();
        }
        Ok(())
    }

    /// Deletes an attachment.
    pub async fn delete_attachment(&self, mailbox: &Mailbox, list: &str, task: &str, id: &str) -> Result<Deletion> {
        let url = self.task_address(mailbox, list, &[task, "attachments", id])?;
        self.delete(mailbox, Call::new(Method::DELETE, url)).await
    }
}

/// The body of a piece of an upload.
pub(crate) struct Piece<'a> {
    pub range: String,
    pub bytes: &'a [u8],
}

impl Piece<'_> {
    pub fn attach(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request
            .header(CONTENT_RANGE, &self.range)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(self.bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Mode;
    use crate::client::tests::{client, mailbox};

    #[tokio::test]
    async fn an_attachment_over_25_mb_is_refused_before_anything_is_sent() {
        let content = vec![0; LARGEST + 1];
        let outcome = client(Mode::Delegated).add_attachment(&mailbox(), "L", "T", "a.bin", "x/y", &content).await;
        assert!(matches!(outcome, Err(Error::Unwritable { .. })));
    }

    #[test]
    fn an_attachment_is_read() {
        let json = r##"{"@odata.type":"#microsoft.graph.taskFileAttachment","id":"1","name":"a.txt","contentType":"text/plain","size":12}"##;
        let attachment: Attachment = serde_json::from_str(json).unwrap();
        assert_eq!((attachment.name.as_str(), attachment.size), ("a.txt", 12));
    }
}
