//! The fingerprint: equal for two unlinked ends that are one and the same.

use crate::{Field, Kind, Projection, Side, Value, When, project, text};

/// A short text, equal for a record and an item of one owner that have the same title, start and end in the space that both
/// sides share. It matches ends at a first sync, finds the record that a crash left unrecorded, and names the lease under
/// which an unlinked end is taken in, so that two workers never create the other end twice.
#[must_use]
pub fn fingerprint(owner: &str, kind: Kind, title: &str, when: Option<&When>, projection: &Projection) -> String {
    let title = text::espo_name(title).to_lowercase();
    let family = if kind.is_event() { "event" } else { "task" };
    let when = when.map(|when| project(kind, &Field::Time, &Value::Time(when.clone()), Side::Outlook, projection));
    let time = when.map(|value| value.to_string()).unwrap_or_default();
    let whole = format!("{owner}\n{family}\n{title}\n{time}");
    format!("{:016x}{:016x}", fnv(whole.bytes(), 0), fnv(whole.bytes().rev(), 1))
}

/// A short text that differs when the values differ: it tells whether a copy that is only ever written is up to date.
#[must_use]
pub fn digest(values: &crate::Values) -> String {
    let whole = format!("{values:?}");
    format!("{:016x}{:016x}", fnv(whole.bytes(), 0), fnv(whole.bytes().rev(), 1))
}

/// A short text that stands for a longer one, such as an id that does not fit into a field.
#[must_use]
pub fn short(text: &str) -> String {
    format!("{:016x}", fnv(text.bytes(), 0))
}

/// FNV-1a: stable across builds, which the standard library's hasher does not promise, and no secret depends on it.
fn fnv(bytes: impl Iterator<Item = u8>, seed: u64) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
