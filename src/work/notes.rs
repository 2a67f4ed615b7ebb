//! Notes on a record's EspoCRM stream, where the operator wants them (`sync.stream_notes`): what was done about the record, with
//! a link to the entry of history.
//!
//! A note tells of what is done already and stored: one that cannot be posted stops nothing and is not tried again. It names
//! fields, not their values, because whoever sees the stream may not see the fields. Posting one does not count as a change of
//! the record, so that it leads to no further look.

use store::history::{ChangeType, Direction, Entry};
use sync::Kind;

use super::context::Context;

/// Tells of these entries on the streams of their records.
pub async fn post(context: &Context, entries: &[Entry]) {
    if !context.app.config().sync.stream_notes {
        return;
    }
    for entry in entries {
        let Some((record_id, text)) = note(entry, &context.app.config().base_url()) else { continue };
        if let Err(error) = context.espo.client.post_note(entry.kind, record_id, &text).await {
            tracing::warn!(record.id = record_id, %error, "the note on the record's stream could not be posted");
        }
    }
}

/// The record and the note about an entry, in markdown. None where there is no stream: calls have none, and what is deleted
/// has none any more.
fn note<'a>(entry: &'a Entry, base_url: &str) -> Option<(&'a str, String)> {
    let record_id = entry.record_id.as_deref().filter(|_| entry.kind != Kind::Call)?;
    let done = match (entry.change_type, entry.direction) {
        (ChangeType::Delete, Direction::ToEspo) => return None,
        (ChangeType::Create, Direction::ToEspo) => "Created from Outlook".to_owned(),
        (ChangeType::Create, Direction::ToOutlook) => "Created in Outlook".to_owned(),
        (ChangeType::Delete, Direction::ToOutlook) => "Deleted in Outlook".to_owned(),
        (ChangeType::Update, Direction::ToEspo) => format!("Changed from Outlook: {}", fields(entry)),
        (ChangeType::Update, Direction::ToOutlook) => format!("Changed in Outlook: {}", fields(entry)),
    };
    Some((record_id, format!("{done} ([details]({base_url}/history/{}))", entry.id)))
}

fn fields(entry: &Entry) -> String {
    entry.changes.iter().map(|change| change.field.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use store::history::FieldChange;
    use sync::{Cause, Field, Value};

    use super::*;

    fn entry(kind: Kind, change_type: ChangeType, direction: Direction) -> Entry {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let (old, new) = (text("Secret"), text("Plan"));
        Entry {
            id: "e1".to_owned(),
            at: chrono::DateTime::UNIX_EPOCH,
            cause: Cause::Webhook,
            direction,
            kind,
            change_type,
            user_id: None,
            link_id: None,
            record_id: Some("r1".to_owned()),
            item_id: None,
            changes: vec![FieldChange { field: Field::Title, old, new, lost: None, other: None }],
            reverted_by: None,
            revert_of: None,
        }
    }

    #[test]
    fn a_note_names_fields_and_the_entry_but_no_values() {
        let entry = entry(Kind::Meeting, ChangeType::Update, Direction::ToEspo);
        let (record, text) = note(&entry, "https://sync.example.com").unwrap();
        assert_eq!(record, "r1");
        assert_eq!(text, "Changed from Outlook: title ([details](https://sync.example.com/history/e1))");
    }

    #[test]
    fn where_there_is_no_stream_there_is_no_note() {
        let of = |kind, change_type, direction| note(&entry(kind, change_type, direction), "").is_some();
        assert!(!of(Kind::Call, ChangeType::Update, Direction::ToEspo));
        assert!(!of(Kind::Task, ChangeType::Delete, Direction::ToEspo));
        assert!(of(Kind::Task, ChangeType::Delete, Direction::ToOutlook));
    }
}
