//! EspoCRM's webhooks, as received: signature and ids.
//!
//! Facts (EspoCRM 9.3, `Tools/Webhook/Sender`): `Signature: base64(id ":" hex(HMAC-SHA256(secret, body)))` and, until 11.0,
//! `X-Signature: base64(id ":" HMAC-SHA256(secret, body))`, over the raw body (8.4 and older send the second one only). The
//! body is an array with one object per event; the event itself is known from the webhook's id alone.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// A signature that is missing or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// Neither header is there.
    #[error("the request is not signed")]
    Missing,
    /// A header is not of the documented form.
    #[error("the signature cannot be read")]
    Malformed,
    /// A header does not fit the body and the secret.
    #[error("the signature does not fit")]
    Mismatch,
    /// The two headers name different webhooks.
    #[error("the two signatures are of different webhooks")]
    TwoIds,
}

/// A body that is no JSON array.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON.
    #[error("the body is not JSON")]
    Json(#[source] serde_json::Error),
    /// Not an array.
    #[error("the body is not a JSON array")]
    NotAnArray,
}

/// The records that a delivery is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// Ids of the records, each once, in order.
    pub ids: Vec<String>,
    /// What was told of each of them.
    pub entries: Vec<Value>,
    /// How many entries had no usable id.
    pub skipped: usize,
}

/// The webhook that a signature header (of either form) claims to be from, to look up its secret.
#[must_use]
pub fn webhook_id(header: &str) -> Option<String> {
    split(header).ok().map(|(id, _)| id)
}

/// Checks a delivery; the result is the webhook's id. When both headers are there both must be right; the legacy one alone
/// is accepted.
pub fn verify(
    secret: &[u8],
    body: &[u8],
    signature: Option<&str>,
    legacy: Option<&str>,
) -> Result<String, BadSignature> {
    let mut mac = <Hmac<Sha256>>::new_from_slice(secret).map_err(|_| BadSignature::Mismatch)?;
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let hex = hex::encode(digest);
    let current = signature.map(|header| check(header, hex.as_bytes())).transpose()?;
    let legacy = legacy.map(|header| check(header, &digest)).transpose()?;
    match (current, legacy) {
        (Some(current), Some(legacy)) if current != legacy => Err(BadSignature::TwoIds),
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(BadSignature::Missing),
    }
}

fn check(header: &str, expected: &[u8]) -> Result<String, BadSignature> {
    let (id, given) = split(header)?;
    if bool::from(given.as_slice().ct_eq(expected)) { Ok(id) } else { Err(BadSignature::Mismatch) }
}

fn split(header: &str) -> Result<(String, Vec<u8>), BadSignature> {
    let bytes = STANDARD.decode(header.trim()).map_err(|_| BadSignature::Malformed)?;
    // The raw digest may hold colons, the id does not: the first one counts.
    let colon = bytes.iter().position(|&byte| byte == b':').ok_or(BadSignature::Malformed)?;
    let (id, digest) = bytes.split_at(colon);
    let id = std::str::from_utf8(id).ok().filter(|id| is_id(id)).ok_or(BadSignature::Malformed)?;
    Ok((id.to_owned(), digest.get(1..).unwrap_or_default().to_vec()))
}

/// The ids in a delivery.
pub fn ids(body: &[u8]) -> Result<Ids, Malformed> {
    let Value::Array(entries) = serde_json::from_slice(body).map_err(Malformed::Json)? else {
        return Err(Malformed::NotAnArray);
    };
    let mut found = Ids::default();
    let mut known = HashSet::new();
    for entry in entries {
        match entry.get("id").and_then(Value::as_str).filter(|id| is_id(id)) {
            Some(id) if known.contains(id) => {}
            Some(id) => {
                known.insert(id.to_owned());
                found.ids.push(id.to_owned());
                found.entries.push(entry);
            }
            None => found.skipped += 1,
        }
    }
    Ok(found)
}

/// The assigned user, where an entry tells: all is told of a new record, of others what has changed.
#[must_use]
pub fn owner(entry: &Value) -> Option<&str> {
    entry.get("assignedUserId").and_then(Value::as_str).filter(|owner| is_id(owner))
}

/// Ids are 17 hexadecimal digits or UUIDs; any short word is taken, and nothing that could alter a path.
fn is_id(text: &str) -> bool {
    (1..=36).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A delivery of EspoCRM 9.3.10.
    const SECRET: &[u8] = b"2a4ff39c17694329337cb0a9347ba8d6";
    const BODY: &[u8] = br#"[{"name":"Kick-off v2","reminders":[],"modifiedById":"6b033b3e54905d985","modifiedByName":"connector","id":"6b033b8a988926618"}]"#;
    const SIGNATURE: &str = "NmIwMzNiNjdlMjBiZGJmYTM6NjA1NjlkNTdiNmJkNTk0ZGM3ZTA2ODdmOTFiY2FkNWNjY2Y2Y2ZjYmUyOGY2ZGUwZjU0M2U2ODI0ZTM1ZGM3Ng==";
    const LEGACY: &str = "NmIwMzNiNjdlMjBiZGJmYTM6YFadV7a9WU3H4Gh/kbytXMz2z8vij23g9UPmgk413HY=";

    #[test]
    fn a_recorded_delivery_verifies_by_either_header_and_by_both() {
        for (signature, legacy) in [(Some(SIGNATURE), None), (None, Some(LEGACY)), (Some(SIGNATURE), Some(LEGACY))] {
            assert_eq!(verify(SECRET, BODY, signature, legacy).as_deref(), Ok("6b033b67e20bdbfa3"));
        }
        assert_eq!(webhook_id(SIGNATURE).as_deref(), Some("6b033b67e20bdbfa3"));
        assert_eq!(webhook_id(LEGACY).as_deref(), Some("6b033b67e20bdbfa3"));
    }

    #[test]
    fn one_changed_byte_anywhere_is_refused() {
        let mut body = BODY.to_vec();
        body[5] ^= 1;
        assert_eq!(verify(SECRET, &body, Some(SIGNATURE), None), Err(BadSignature::Mismatch));
        assert_eq!(verify(b"2a4ff39c17694329337cb0a9347ba8d7", BODY, None, Some(LEGACY)), Err(BadSignature::Mismatch));
    }

    #[test]
    fn a_wrong_header_beside_a_right_one_is_refused() {
        let other = STANDARD.encode("6b033b67e20bdbfa3:00");
        assert_eq!(verify(SECRET, BODY, Some(SIGNATURE), Some(&other)), Err(BadSignature::Mismatch));
        assert_eq!(verify(SECRET, BODY, Some(&other), Some(LEGACY)), Err(BadSignature::Mismatch));
        assert_eq!(verify(SECRET, BODY, Some("%%"), Some(LEGACY)), Err(BadSignature::Malformed));
        assert_eq!(verify(SECRET, BODY, None, None), Err(BadSignature::Missing));
    }

    #[test]
    fn two_webhooks_with_the_same_secret_are_told_apart() {
        let (_, digest) = split(LEGACY).expect("a signature");
        let foreign = STANDARD.encode([b"6b033b67bd0c61212:".as_slice(), &digest].concat());
        assert_eq!(verify(SECRET, BODY, Some(SIGNATURE), Some(&foreign)), Err(BadSignature::TwoIds));
    }

    #[test]
    fn ids_are_taken_from_an_array_only_and_strange_entries_are_counted() {
        let body = br#"[{"id":"a1"},{"id":7},"x",{"id":"a1","name":"n"},{"id":"../Admin"},{"id":""},{"id":"b2"}]"#;
        let found = ids(body).expect("an array");
        assert_eq!((found.ids.as_slice(), found.skipped), (["a1".to_owned(), "b2".to_owned()].as_slice(), 4));
        assert_eq!(found.entries.len(), 2);
        assert!(matches!(ids(br#"{"id":"a1"}"#), Err(Malformed::NotAnArray)));
        assert!(matches!(ids(b"[{"), Err(Malformed::Json(_))));
    }
}
