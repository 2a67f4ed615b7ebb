//! Attachments of To Do tasks.
//!
//! Facts (learn.microsoft.com/graph/api/todotask-post-attachments, taskfileattachment-createuploadsession): under 3 MB in one
//! POST; up to 25 MB through an upload session, in pieces of at most 4 MB, in order, to `content` below the session's address at
//! Graph itself (learn.microsoft.com/graph/todo-attachments). Contents come and go piece by piece: none is held as a whole that
//! is not small.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::Result;
use crate::client::{Client, Mailbox};
use crate::error::Error;
use crate::events::Deletion;
use crate::request::{Call, unreachable, with_query};
use crate::throttle::Permit;

/// From here on an upload session is needed.
pub const IN_ONE_PIECE: usize = 3 * 1024 * 1024 - 1024;
/// A piece of an upload: a multiple of 320 KiB below 4 MB.
pub const PIECE: usize = 12 * 320 * 1024;

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

/// A content that is read piece by piece.
pub struct Download {
    answer: reqwest::Response,
    left: u64,
    _permit: Permit,
}

impl Download {
    /// Its media type.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        self.answer.headers().get(CONTENT_TYPE)?.to_str().ok()
    }

    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(chunk) = self.answer.chunk().await.map_err(|source| unreachable(false, source))? else {
            return Ok(None);
        };
        self.left =
            self.left.checked_sub(chunk.len() as u64).ok_or_else(|| Error::unreadable("it is larger than 25 MB"))?;
        Ok(Some(chunk.to_vec()))
    }
}

/// An upload that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    target: Url,
    size: u64,
    sent: u64,
}

/// A new file.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its media type.
    pub content_type: &'a str,
    /// Its size in bytes, at most [`sync::LARGEST_FILE`].
    pub size: u64,
}

impl Client {
    /// The attachments of a task.
    pub async fn attachments(&self, mailbox: &Mailbox, list: &str, task: &str) -> Result<Vec<Attachment>> {
        let url = self.task_address(mailbox, list, &[task, "attachments"])?;
        self.collect(mailbox, with_query(url, &[("$top", "100")]), "odata.maxpagesize=100").await
    }

    /// The content of an attachment.
    pub async fn download(&self, mailbox: &Mailbox, list: &str, task: &str, id: &str) -> Result<Download> {
        let url = self.task_address(mailbox, list, &[task, "attachments", id, "$value"])?;
        let opened = self.try_open(mailbox, &Call::get(url)).await.map_err(|failure| self.error(failure))?;
        let (answer, permit) = opened.answered();
        Ok(Download { answer, left: sync::LARGEST_FILE, _permit: permit })
    }

    /// Adds an attachment of less than [`IN_ONE_PIECE`] bytes.
    pub async fn add_attachment(
        &self,
        mailbox: &Mailbox,
        list: &str,
        task: &str,
        new: NewFile<'_>,
        content: &[u8],
    ) -> Result<()> {
        let body = json!({
            "@odata.type": "#microsoft.graph.taskFileAttachment",
            "name": new.name,
            "contentType": new.content_type,
            "contentBytes": STANDARD.encode(content),
        });
        let url = self.task_address(mailbox, list, &[task, "attachments"])?;
        self.send(mailbox, Call::new(Method::POST, url).body(body)).await.map(drop)
    }

    /// Begins the upload of an attachment of any size up to 25 MB. The file is there with its last piece and not before.
    pub async fn open_upload(&self, mailbox: &Mailbox, list: &str, task: &str, new: NewFile<'_>) -> Result<Upload> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Session {
            upload_url: String,
        }
        if new.size > sync::LARGEST_FILE {
            return Err(Error::Unwritable { field: sync::Field::Attachments, why: "it is larger than 25 MB" });
        }
        let url = self.task_address(mailbox, list, &[task, "attachments", "createUploadSession"])?;
        let info =
            json!({"attachmentType": "file", "name": new.name, "size": new.size, "contentType": new.content_type});
        let call = Call::new(Method::POST, url).body(json!({ "attachmentInfo": info }));
        let session: Session = self.send(mailbox, call).await?.json()?;
        let mut target = self.link(&session.upload_url)?;
        if !target.path().ends_with("/content") {
            target.path_segments_mut().map_err(|()| Error::unreadable("the upload's address"))?.push("content");
        }
        Ok(Upload { target, size: new.size, sent: 0 })
    }

    /// Sends the next piece, of [`PIECE`] bytes or what is left.
    pub async fn upload_piece(&self, mailbox: &Mailbox, upload: &mut Upload, piece: &[u8]) -> Result<()> {
        let end = upload.sent + piece.len() as u64;
        if piece.is_empty() || piece.len() > PIECE || end > upload.size {
            return Err(Error::Unwritable {
                field: sync::Field::Attachments,
                why: "its size is not the one that was told",
            });
        }
        let range = format!("bytes {}-{}/{}", upload.sent, end - 1, upload.size);
        self.send(mailbox, Call::new(Method::PUT, upload.target.clone()).bytes(&range, piece)).await?;
        upload.sent = end;
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

    fn of_size(size: u64) -> NewFile<'static> {
        NewFile { name: "a.bin", content_type: "x/y", size }
    }

    #[tokio::test]
    async fn an_attachment_over_25_mb_is_refused_before_anything_is_sent() {
        let outcome = client(Mode::Delegated).open_upload(&mailbox(), "L", "T", of_size(sync::LARGEST_FILE + 1)).await;
        assert!(matches!(outcome, Err(Error::Unwritable { .. })));
    }

    #[tokio::test]
    async fn a_piece_beyond_the_told_size_is_not_sent() {
        let target = Url::parse("https://graph.microsoft.com/v1.0/x/content").unwrap();
        let mut upload = Upload { target, size: 3, sent: 2 };
        let outcome = client(Mode::Delegated).upload_piece(&mailbox(), &mut upload, b"ab").await;
        assert!(matches!(outcome, Err(Error::Unwritable { .. })));
        assert_eq!(upload.sent, 2);
    }

    #[test]
    fn an_attachment_is_read() {
        let json = r##"{"@odata.type":"#microsoft.graph.taskFileAttachment","id":"1","name":"a.txt","contentType":"text/plain","size":12}"##;
        let attachment: Attachment = serde_json::from_str(json).unwrap();
        assert_eq!((attachment.name.as_str(), attachment.size), ("a.txt", 12));
    }
}
