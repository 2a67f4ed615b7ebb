//! Between rows and what they mean: moments, JSON texts, keys of limited length.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, StoreError};

/// The longest key that an index on every database can hold, in characters.
const KEY: usize = 255;

/// A moment as a row has it.
pub const fn millis(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

/// A moment from a row.
pub fn moment(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A value as JSON text.
pub fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Unwritable { what, source })
}

/// The same of a value that is long: `room` is about how long.
pub fn json_with_room<T: Serialize>(what: &'static str, value: &T, room: usize) -> Result<String> {
    let mut text = Vec::with_capacity(room);
    serde_json::to_writer(&mut text, value).map_err(|source| StoreError::Unwritable { what, source })?;
    // JSON is UTF-8: nothing is ever replaced.
    Ok(String::from_utf8(text).unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()))
}

/// A value from JSON text.
pub fn read<T: DeserializeOwned>(what: &'static str, id: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| StoreError::Unreadable {
        what,
        text: id.to_owned(),
        source: Some(source),
    })
}

/// The beginning of a text, as far as an indexed column goes: what is found by it is compared in full afterwards.
pub fn key(text: &str) -> String {
    cut(text, KEY)
}

/// At most so many characters of a text, without null characters, which PostgreSQL refuses.
pub fn cut(text: &str, length: usize) -> String {
    text.chars().filter(|&c| c != '\0').take(length).collect()
}
