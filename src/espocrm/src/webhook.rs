//! EspoCRM's webhooks, as received: signature and ids.
//!
//! Facts (EspoCRM 9.3, `Tools/Webhook/Sender`): `Signature: base64(id ":" hex(HMAC-SHA256(secret, body)))` and, until 11.0,
//! `X-Signature: base64(id ":" HMAC-SHA256(secret, body))`, over the raw body (8.4 and older send the second one only). The
//! body is an array with one object per event; the event itself is known from the webhook's id alone.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use sync::ShownReminder;

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
    /// Not text.
    #[error("the body is not UTF-8")]
    Text(#[source] std::str::Utf8Error),
    /// Not an array.
    #[error("the body is not a JSON array")]
    NotAnArray,
}

/// What a delivery tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// One for each record, in order.
    pub entries: Vec<Entry<'a>>,
    /// How many had no usable id.
    pub skipped: usize,
}

/// What is told of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its id.
    pub id: String,
    /// The assigned user, where it tells: all is told of a new record, of others what has changed.
    pub owner: Option<String>,
    /// The first reminder of whoever wrote the record. An update always tells.
    pub reminder: Option<ShownReminder>,
    /// All of it, as it was sent.
    pub text: &'a str,
}

/// Whom a delivery claims to be from, and how it proves that.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    first: Header,
    /// The legacy header, where both are there.
    second: Option<Header>,
    is_first_legacy: bool,
}

impl Claim {
    /// Reads the headers, of which one is enough: the legacy one alone is all that older ones send.
    ///
    /// # Errors
    /// When there is none, or one is not of the documented form.
    pub fn read(signature: Option<&str>, legacy: Option<&str>) -> Result<Self, BadSignature> {
        let signature = signature.map(Header::read).transpose()?;
        let legacy = legacy.map(Header::read).transpose()?;
        match (signature, legacy) {
            (Some(first), second) => Ok(Self { first, second, is_first_legacy: false }),
            (None, Some(first)) => Ok(Self { first, second: None, is_first_legacy: true }),
            (None, None) => Err(BadSignature::Missing),
        }
    }

    /// The webhook's id, to look up its secret.
    #[must_use]
    pub fn id(&self) -> &str {
        self.first.id()
    }

    /// Checks it. When both headers are there both must be right, and of one webhook.
    ///
    /// # Errors
    /// When one is not.
    pub fn verify(&self, secret: &[u8], body: &[u8]) -> Result<(), BadSignature> {
        let mut mac = <Hmac<Sha256>>::new_from_slice(secret).map_err(|_| BadSignature::Mismatch)?;
        mac.update(body);
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let is_right = if self.is_first_legacy { self.first.is(&digest) } else { self.first.is_hex_of(&digest) };
        if !is_right || self.second.is_some_and(|second| !second.is(&digest)) {
            return Err(BadSignature::Mismatch);
        }
        if self.second.is_some_and(|second| second.id() != self.id()) {
            return Err(BadSignature::TwoIds);
        }
        Ok(())
    }
}

/// What a header holds at most: an id, a colon, and 64 hexadecimal digits.
const HEADER: usize = 128;

/// A header, decoded: `id ":" digest`.
#[derive(Debug, Clone, Copy)]
struct Header {
    bytes: [u8; HEADER],
    colon: usize,
    length: usize,
}

impl Header {
    fn read(text: &str) -> Result<Self, BadSignature> {
        let mut bytes = [0; HEADER];
        let length = STANDARD.decode_slice(text.trim(), &mut bytes).map_err(|_| BadSignature::Malformed)?;
        // The raw digest may hold colons, the id does not: the first one counts.
        let colon = bytes.iter().take(length).position(|&byte| byte == b':').ok_or(BadSignature::Malformed)?;
        let header = Self { bytes, colon, length };
        if is_id(header.id()) { Ok(header) } else { Err(BadSignature::Malformed) }
    }

    fn id(&self) -> &str {
        self.bytes.get(..self.colon).and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default()
    }

    fn digest(&self) -> &[u8] {
        self.bytes.get(self.colon + 1..self.length).unwrap_or_default()
    }

    fn is(&self, digest: &[u8; 32]) -> bool {
        bool::from(self.digest().ct_eq(digest))
    }

    fn is_hex_of(&self, digest: &[u8; 32]) -> bool {
        let mut given = [0; 32];
        hex::decode_to_slice(self.digest(), &mut given).is_ok() && bool::from(given.ct_eq(digest))
    }
}

/// The entries of a delivery. Of each only that is read which says where to look: many come at once, and their sender waits.
///
/// # Errors
/// When the body is no JSON array.
pub fn entries(body: &[u8]) -> Result<Delivery<'_>, Malformed> {
    let text = std::str::from_utf8(body).map_err(Malformed::Text)?;
    let wrong = || match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Malformed::NotAnArray,
        Err(error) => Malformed::Json(error),
    };
    let mut rest = past(text.trim_start_matches(SPACE), "[").ok_or_else(wrong)?;
    let mut found = Delivery::default();
    if !rest.starts_with(']') {
        loop {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Brief>();
            let brief = values.next().ok_or_else(wrong)?.map_err(|_| wrong())?;
            let (entry, after) = rest.split_at_checked(values.byte_offset()).ok_or_else(wrong)?;
            found.take(brief, entry);
            rest = after.trim_start_matches(SPACE);
            match past(rest, ",") {
                Some(next) => rest = next,
                None => break,
            }
        }
    }
    if past(rest, "]").is_none_or(|rest| !rest.is_empty()) {
        return Err(wrong());
    }
    Ok(found)
}

/// What JSON calls white space.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn past<'a>(text: &'a str, sign: &str) -> Option<&'a str> {
    text.strip_prefix(sign).map(|rest| rest.trim_start_matches(SPACE))
}

impl<'a> Delivery<'a> {
    fn take(&mut self, mut brief: Brief, text: &'a str) {
        let Some(id) = brief.id.take().filter(|id| is_id(id)) else {
            self.skipped += 1;
            return;
        };
        if !self.entries.iter().any(|entry| entry.id == id) {
            let Brief { owner, reminder, by, .. } = brief;
            let reminder = reminder.map(|minutes| ShownReminder { minutes, by: by.filter(|by| is_id(by)) });
            self.entries.push(Entry { id, owner: owner.filter(|owner| is_id(owner)), reminder, text });
        }
    }
}

/// Of an entry what is read. What is no object has none of it.
#[derive(Debug, Default)]
struct Brief {
    id: Option<String>,
    owner: Option<String>,
    /// What the first says, where any are shown.
    reminder: Option<Option<u32>>,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Key {
    #[serde(rename = "id")]
    Id,
    #[serde(rename = "assignedUserId")]
    Owner,
    #[serde(rename = "reminders")]
    Reminders,
    #[serde(rename = "createdById")]
    Creator,
    #[serde(rename = "modifiedById")]
    Modifier,
    #[serde(other)]
    Other,
}

/// A text, if it is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Is(String),
    IsNot(IgnoredAny),
}

impl From<Text> for Option<String> {
    fn from(text: Text) -> Self {
        match text {
            Text::Is(text) => Some(text),
            Text::IsNot(_) => None,
        }
    }
}

/// Reminders, if they are some.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reminders {
    Are(Vec<Reminder>),
    AreNot(IgnoredAny),
}

#[derive(Deserialize)]
struct Reminder {
    seconds: u64,
}

impl Reminders {
    /// Minutes of the first.
    fn first(self) -> Option<Option<u32>> {
        let Self::Are(all) = self else { return None };
        Some(all.first().and_then(|first| u32::try_from(first.seconds / 60).ok()))
    }
}

impl<'de> Deserialize<'de> for Brief {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Brief;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Brief, A::Error> {
        let mut brief = Brief::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Id => brief.id = map.next_value::<Text>()?.into(),
                Key::Owner => brief.owner = map.next_value::<Text>()?.into(),
                Key::Reminders => brief.reminder = map.next_value::<Reminders>()?.first(),
                Key::Creator => brief.by = brief.by.or(map.next_value::<Text>()?.into()),
                Key::Modifier => brief.by = Option::from(map.next_value::<Text>()?).or(brief.by),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(brief)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Brief, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Brief::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Brief, E> {
        Ok(Brief::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Brief, E> {
        Ok(Brief::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Brief, E> {
        Ok(Brief::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Brief, E> {
        Ok(Brief::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Brief, E> {
        Ok(Brief::default())
    }

    fn visit_unit<E>(self) -> Result<Brief, E> {
        Ok(Brief::default())
    }
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

    fn verify(
        secret: &[u8],
        body: &[u8],
        signature: Option<&str>,
        legacy: Option<&str>,
    ) -> Result<String, BadSignature> {
        let claim = Claim::read(signature, legacy)?;
        claim.verify(secret, body).map(|()| claim.id().to_owned())
    }

    #[test]
    fn a_recorded_delivery_verifies_by_either_header_and_by_both() {
        for (signature, legacy) in [(Some(SIGNATURE), None), (None, Some(LEGACY)), (Some(SIGNATURE), Some(LEGACY))] {
            assert_eq!(verify(SECRET, BODY, signature, legacy).as_deref(), Ok("6b033b67e20bdbfa3"));
        }
        assert_eq!(verify(SECRET, BODY, Some(LEGACY), None), Err(BadSignature::Mismatch));
        assert_eq!(verify(SECRET, BODY, None, Some(SIGNATURE)), Err(BadSignature::Mismatch));
    }

    #[test]
    fn one_changed_byte_anywhere_is_refused() {
        let mut body = BODY.to_vec();
        body[5] ^= 1;
        assert_eq!(verify(SECRET, &body, Some(SIGNATURE), None), Err(BadSignature::Mismatch));
        assert_eq!(verify(b"2a4ff39c17694329337cb0a9347ba8d7", BODY, None, Some(LEGACY)), Err(BadSignature::Mismatch));
        let signed = STANDARD.decode(SIGNATURE).expect("base64");
        for at in "6b033b67e20bdbfa3:".len()..signed.len() {
            let mut other = signed.clone();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = STANDARD.encode(other);
            assert_eq!(verify(SECRET, BODY, Some(&other), None), Err(BadSignature::Mismatch), "{at}");
        }
    }

    #[test]
    fn a_wrong_header_beside_a_right_one_is_refused() {
        let other = STANDARD.encode("6b033b67e20bdbfa3:00");
        assert_eq!(verify(SECRET, BODY, Some(SIGNATURE), Some(&other)), Err(BadSignature::Mismatch));
        assert_eq!(verify(SECRET, BODY, Some(&other), Some(LEGACY)), Err(BadSignature::Mismatch));
        assert_eq!(verify(SECRET, BODY, None, None), Err(BadSignature::Missing));
    }

    #[test]
    fn a_header_of_another_form_is_malformed() {
        let long = STANDARD.encode("6b033b67e20bdbfa3:".to_owned() + &"0".repeat(200));
        let strange = STANDARD.encode("../Admin:00");
        let words = STANDARD.encode("no colon");
        for wrong in ["%%", "", &long, &strange, &words] {
            for (signature, legacy) in [(Some(wrong), None), (None, Some(wrong)), (Some(SIGNATURE), Some(wrong))] {
                assert_eq!(verify(SECRET, BODY, signature, legacy), Err(BadSignature::Malformed), "{wrong}");
            }
        }
    }

    #[test]
    fn two_webhooks_with_the_same_secret_are_told_apart() {
        let digest = STANDARD.decode(LEGACY).expect("base64").split_off("6b033b67e20bdbfa3:".len());
        let foreign = STANDARD.encode([b"6b033b67bd0c61212:".as_slice(), &digest].concat());
        assert_eq!(verify(SECRET, BODY, Some(SIGNATURE), Some(&foreign)), Err(BadSignature::TwoIds));
    }

    #[test]
    fn entries_are_taken_from_an_array_only_and_strange_ones_are_counted() {
        let body = br#" [ {"id":"a1" , "assignedUserId":"u1","x":[{"id":"no"}]},{"id":7},"x,]",{"id":"a1","name":"n"},
            {"id":"../Admin"},{"id":""},-1.5,null,[["b3"]],{"assignedUserId":null,"id":"b\u0032"} ] "#;
        let found = entries(body).expect("an array");
        let told: Vec<_> = found.entries.iter().map(|one| (one.id.as_str(), one.owner.as_deref())).collect();
        assert_eq!((told, found.skipped), (vec![("a1", Some("u1")), ("b2", None)], 7));
        assert_eq!(found.entries[0].text, r#"{"id":"a1" , "assignedUserId":"u1","x":[{"id":"no"}]}"#);
        assert_eq!(found.entries[0].reminder, None);
        let shown = |reminders: &str| {
            let body = format!(r#"[{{"reminders":{reminders},"id":"a1"}}]"#);
            entries(body.as_bytes()).expect("an array").entries.remove(0).reminder.map(|shown| shown.minutes)
        };
        assert_eq!(shown("[]"), Some(None));
        assert_eq!(shown(r#"[{"type":"Popup","seconds":900},{"type":"Email","seconds":60}]"#), Some(Some(15)));
        assert_eq!((shown("null"), shown(r#"[{"seconds":-1}]"#)), (None, None));
        let by = |writers: &str| {
            let body = format!(r#"[{{{writers}"reminders":[],"id":"a1"}}]"#);
            entries(body.as_bytes()).expect("an array").entries.remove(0).reminder.expect("shown").by
        };
        assert_eq!(by(""), None);
        assert_eq!(by(r#""createdById":"u1","modifiedById":null,"#).as_deref(), Some("u1"));
        assert_eq!(by(r#""modifiedById":"u2","createdById":"u1","#).as_deref(), Some("u2"));
        assert_eq!(by(r#""modifiedById":"../u2","#), None);
        assert_eq!(entries(b"[]").expect("an array"), Delivery::default());
        assert_eq!(entries(b"[ ] ").expect("an array"), Delivery::default());
        assert!(matches!(entries(br#"{"id":"a1"}"#), Err(Malformed::NotAnArray)));
        assert!(matches!(entries(b"[\"\xff\"]"), Err(Malformed::Text(_))));
        for broken in
            ["", "[", "[{", "[{}", "[{},]", "[,]", "[{}]]", "[{}] x", "[{}{}]", "[1 2]", "[tru]", r#"[{"id":}]"#]
        {
            assert!(matches!(entries(broken.as_bytes()), Err(Malformed::Json(_))), "{broken}");
        }
    }
}
