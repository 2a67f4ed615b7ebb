//! Attachments: data URLs in, raw bytes out. Facts (EspoCRM 9.3.10): without `field` or type 400, without the prefix
//! `data:` 400, and the field must exist and hold files, else 403.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::defs::def;
use super::refusal::Refusal;
use super::routes::{Answer, Call, Reply, ok};
use super::state::State;
use super::view::{self, Echo};
use super::write::Changed;
use crate::plumbing::Response;

/// `data:TYPE;base64,DATA`
fn data_url(text: &str) -> Option<(&str, Vec<u8>)> {
    let (head, data) = text.strip_prefix("data:")?.split_once(";base64,")?;
    Some((head.split(';').next().unwrap_or_default(), STANDARD.decode(data).ok()?))
}

fn holds_files(state: &State, entity: &str, field: &str) -> bool {
    let spec = state.custom_fields.get(entity).and_then(|fields| fields.get(field)).and_then(|spec| spec.get("type"));
    (field == "attachments" && matches!(entity, "Task" | "Note"))
        || spec.is_some_and(|kind| kind == "attachmentMultiple" || kind == "file")
}

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answer {
    let Some(attachment) = def("Attachment") else { return Err(Refusal::new(500, "")) };
    if state.is_closed(call.actor(), "Attachment", "create") {
        return Err(Refusal::forbidden("No create access."));
    }
    let text = |name: &str| call.body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let related = ["relatedType", "parentType"].into_iter().find(|name| text(name).is_some());
    let (Some(related), Some(field)) = (related, text("field")) else {
        return Err(Refusal::new(400, "No `field` and `parentType`."));
    };
    let entity = text(related).unwrap_or_default();
    if !holds_files(state, entity, field) {
        return Err(Refusal::forbidden(format!("Field '{field}' does not exist.")));
    }
    let (kind, bytes) = text("file").and_then(data_url).ok_or_else(|| Refusal::new(400, "Bad file contents."))?;
    let mut record = state.blank(attachment, &call.actor().id);
    for (name, value) in [
        ("name", text("name").map_or(Value::Null, Value::from)),
        ("type", text("type").unwrap_or(kind).into()),
        ("size", bytes.len().into()),
        ("field", field.into()),
        ("isBeingUploaded", false.into()),
        ("role", text("role").unwrap_or("Attachment").into()),
        ("storage", "EspoUploadDir".into()),
        ("global", false.into()),
        (related, entity.into()),
    ] {
        record.set(name, value);
    }
    let mut sent = Changed::default();
    sent.add(related);
    let shown = view::show(state, attachment, &record, call.actor(), &Echo { created: Some(&sent), ..Echo::default() });
    state.files.insert(record.id().to_owned(), bytes);
    state.put(attachment, record);
    ok(shown)
}

/// A file that a person has uploaded for a task.
pub(super) fn uploaded(state: &mut State, user_id: &str, name: &str, kind: &str, bytes: Vec<u8>) -> Option<String> {
    let attachment = def("Attachment")?;
    let mut record = state.blank(attachment, user_id);
    record.set("name", name);
    record.set("type", kind);
    record.set("size", bytes.len());
    record.set("field", "attachments");
    record.set("role", "Attachment");
    record.set("relatedType", "Task");
    let id = record.id().to_owned();
    state.files.insert(id.clone(), bytes);
    state.put(attachment, record);
    Some(id)
}

pub(super) fn download(state: &State, id: &str) -> Answer {
    let missing = || Refusal::new(404, "");
    let record = state.live("Attachment", id).ok_or_else(missing)?;
    let bytes = state.files.get(id).cloned().ok_or_else(missing)?;
    let kind = record.text("type").unwrap_or("application/octet-stream");
    let kind = if kind.starts_with("text/") { format!("{kind};charset=UTF-8") } else { kind.to_owned() };
    let name = record.text("name").unwrap_or_default();
    let response = Response { status: 200, body: bytes, ..Response::default() }
        .header("Content-Type", &kind)
        .header("Content-Disposition", &format!("attachment; filename=\"{name}\""));
    Ok(Reply::Raw(response))
}
