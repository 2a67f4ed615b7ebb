//! What is published to RabbitMQ: a document of the version that it names.
//!
//! ```json
//! {
//!   "version": 1,
//!   "changes": [
//!     {
//!       "change": {
//!         "id": "01933b2e-8c1a-7d3e-9f00-3f6a5b0c1d2e",
//!         "target": { "at": "record", "kind": "meeting", "id": "65a0f0c0000000001" },
//!         "cause": "webhook",
//!         "received": "2026-11-28T10:00:00.123456Z",
//!         "version": "an etag, where the hint names one",
//!         "job": "the job that asked for it, where one did",
//!         "trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
//!         "reminder": { "minutes": 15, "by": "id of the user who wrote, where that is known" }
//!       },
//!       "lane": "id of the user in whose turn it is taken, where that is known",
//!       "excerpt": "the beginning of what was received, for people to read",
//!       "subscription": { "id": "Graph's id", "plight": "ends" }
//!     }
//!   ]
//! }
//! ```
//!
//! `target.at` is `record` (`kind`, `id`), `event` (`user`, `id`), `todo` (`user`, `list`, `id`) or `mailbox` (`user`);
//! `subscription.plight` is `ends` or `removed`. The id of a change is that of its message in the archive: a message that the
//! broker delivers twice is put there once.
//!
//! Properties: `message_id` (a UUID, of this group), `type` (`espo-outlook.changes`), `content_type`, `app_id`, `timestamp`
//! (seconds), `delivery_mode` 2, and the headers `version`, `changes` (how many) and `traceparent` (of the first change).
//!
//! A version may gain keys, which older programs leave alone. What an older program would misread is a new version: receivers
//! are updated after the workers.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};
use serde::{Deserialize, Serialize};
use store::messages::NewMessage;
use store::subscriptions::Plight;
use sync::Change;

use super::Hint;

/// The version that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// The `type` of a message.
pub const TYPE: &str = "espo-outlook.changes";
const PERSISTENT: u8 = 2;

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no document of ours.
    #[error("it is not JSON as this program writes it: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("it is of version {0}, and this program reads version {VERSION}; update the workers, then replay it")]
    Version(u32),
    /// There is nothing in it.
    #[error("it holds no changes")]
    Empty,
}

#[derive(Serialize)]
struct EntryOut<'a> {
    change: &'a Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<Subscription<'a>>,
}

#[derive(Serialize)]
struct Subscription<'a> {
    id: &'a str,
    plight: Plight,
}

#[derive(Deserialize)]
struct Entry {
    change: Change,
    #[serde(default)]
    lane: Option<String>,
    #[serde(default)]
    excerpt: Option<String>,
    #[serde(default)]
    subscription: Option<Concerned>,
}

#[derive(Deserialize)]
struct Concerned {
    id: String,
    plight: Plight,
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Deserialize)]
struct Document {
    changes: Vec<Entry>,
}

/// One element of `changes`.
///
/// # Errors
/// Never in fact: all of it can be written as JSON.
pub fn entry(hint: &Hint) -> serde_json::Result<String> {
    let subscription = hint.plight.as_ref().map(|(id, plight)| Subscription { id, plight: *plight });
    let (lane, excerpt) = (hint.lane.as_deref(), hint.excerpt.as_deref());
    let mut text = Vec::with_capacity(excerpt.map_or(0, |excerpt| excerpt.len() + excerpt.len() / 4) + 512);
    serde_json::to_writer(&mut text, &EntryOut { change: &hint.change, lane, excerpt, subscription })?;
    // JSON is UTF-8: nothing is ever replaced.
    Ok(String::from_utf8(text).unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()))
}

/// The document of elements, each of which is one or several, with commas in between.
pub fn document<'a>(entries: impl Iterator<Item = &'a str> + Clone) -> Vec<u8> {
    let length: usize = entries.clone().map(|entry| entry.len() + 1).sum();
    let mut text = String::with_capacity(length + 32);
    text.push_str(r#"{"version":1,"changes":["#);
    for (at, entry) in entries.enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(entry);
    }
    text.push_str("]}");
    text.into_bytes()
}

/// The properties of a message. `at` in seconds.
pub fn properties(id: String, at: u64, changes: usize, trace: Option<String>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("version".into(), AMQPValue::LongLongInt(VERSION.into()));
    headers.insert("changes".into(), AMQPValue::LongLongInt(i64::try_from(changes).unwrap_or(i64::MAX)));
    if let Some(trace) = trace {
        headers.insert("traceparent".into(), AMQPValue::LongString(LongString::from(trace)));
    }
    BasicProperties::default()
        .with_message_id(id.into())
        .with_type(TYPE.into())
        .with_app_id("espo-outlook".into())
        .with_content_type("application/json".into())
        .with_timestamp(at)
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// The changes of a message.
///
/// # Errors
/// When it is no document of this version.
pub fn read(body: &[u8]) -> Result<Vec<NewMessage>, Unreadable> {
    let Head { version } = serde_json::from_slice(body)?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let Document { changes } = serde_json::from_slice(body)?;
    if changes.is_empty() {
        return Err(Unreadable::Empty);
    }
    let message = |Entry { change, lane, excerpt, subscription }| {
        let plight = subscription.map(|Concerned { id, plight }| (id, plight));
        Hint { change, lane, excerpt, plight }.into_message()
    };
    Ok(changes.into_iter().map(message).collect())
}

#[cfg(test)]
mod tests {
    use sync::{Cause, Kind, Target};

    use super::*;

    fn hint(id: &str, target: Target) -> Hint {
        let received = chrono::DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let (version, trace) = (Some("W/\"1\"".to_owned()), Some("00-1-2-01".to_owned()));
        Hint::new(Change {
            id: id.to_owned(),
            target,
            cause: Cause::Notification,
            received,
            version,
            job: None,
            trace,
            reminder: None,
        })
    }

    #[test]
    fn what_is_written_is_read_with_nothing_lost() {
        let user = "u1".to_owned();
        let record = Target::Record { kind: Kind::Task, id: "r\"1\u{1F600}".to_owned() };
        let hints = [
            Hint { lane: Some("u2".to_owned()), excerpt: Some("{\"a\":1}".to_owned()), ..hint("1", record) },
            Hint {
                plight: Some(("s1".to_owned(), Plight::Removed)),
                ..hint("2", Target::Mailbox { user: user.clone() })
            },
            hint("3", Target::Todo { user, list: "l".to_owned(), id: "t".to_owned() }),
        ];
        let entries: Vec<String> = hints.iter().map(|hint| entry(hint).unwrap()).collect();
        // The second and the third came from one caller.
        let parts = [entries[0].clone(), entries[1..].join(",")];
        let read = read(&document(parts.iter().map(String::as_str))).unwrap();
        let wanted: Vec<NewMessage> = hints.into_iter().map(Hint::into_message).collect();
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_another_version_wrote_is_not_guessed_at() {
        for (body, says) in [
            (r#"{"version":2,"changes":[],"more":1}"#, "version 2"),
            (r#"{"version":1,"changes":[]}"#, "no changes"),
            (r#"{"changes":[]}"#, "missing field `version`"),
            (r#"{"version":1,"changes":[{"change":{"id":"1"}}]}"#, "missing field"),
            ("\u{0}", "JSON"),
        ] {
            let error = read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{body}: {error}");
        }
    }

    #[test]
    fn keys_that_are_not_known_yet_are_left_alone() {
        let known = entry(&hint("1", Target::Mailbox { user: "u".to_owned() })).unwrap();
        let entry = known.replacen('{', r#"{"later":true,"#, 1);
        let body = format!(r#"{{"version":1,"later":[1],"changes":[{entry}]}}"#);
        assert_eq!(read(body.as_bytes()).unwrap().len(), 1);
    }
}
