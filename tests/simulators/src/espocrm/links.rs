//! What hangs on a record: linked records, attendees with their answers, the stream. Facts (EspoCRM 9.3.10): the link
//! endpoint and an attendee's answer change neither `modifiedAt` nor do they send webhooks.

use serde_json::{Value, json};

use super::defs::{self, Def, foreign_of};
use super::lists::rows_of;
use super::query;
use super::refusal::Refusal;
use super::routes::{Answer, Call, ok};
use super::state::{Actor, Record, State};
use super::time;
use super::validate::ids;
use super::view::{self, Echo};

pub(super) fn set_acceptance(
    state: &mut State,
    actor: &Actor,
    def: &'static Def,
    id: &str,
    status: &str,
) -> Result<(), Refusal> {
    if !matches!(status, "Accepted" | "Tentative" | "Declined") {
        return Err(Refusal::new(400, ""));
    }
    let record = state.live(def.name, id).ok_or_else(|| Refusal::new(404, ""))?;
    if !record.linked("users", &actor.id) {
        return Err(Refusal::forbidden(""));
    }
    if let Some(record) = state.any_mut(def.name, id) {
        let users = record.links.entry("users").or_default();
        for (_, own) in users.iter_mut().filter(|(user, _)| *user == actor.id) {
            status.clone_into(own);
        }
    }
    if let Some(note) = defs::def("Note").filter(|_| def.stream) {
        let mut record = state.blank(note, &actor.id);
        record.set("type", "EventConfirmation");
        record.set("data", json!({"inviteeId": actor.id, "inviteeType": "User", "status": status}));
        record.set("parentType", def.name);
        record.set("parentId", id);
        state.put(note, record);
    }
    Ok(())
}

/// Link endpoint: the relation alone changes.
pub(super) fn change_link(
    state: &mut State,
    def: &'static Def,
    id: &str,
    link: &str,
    foreign_id: &str,
    add: bool,
) -> Result<(), Refusal> {
    let foreign = foreign_of(link).filter(|foreign| *foreign == "Role" || state.live(foreign, foreign_id).is_some());
    let link = def.links.iter().find(|known| **known == link).filter(|_| foreign.is_some());
    let record = state.any_mut(def.name, id).filter(|record| !record.is_deleted());
    let (Some(link), Some(record)) = (link, record) else { return Err(Refusal::new(404, "")) };
    let links = record.links.entry(link).or_default();
    let known = links.iter().any(|(linked, _)| linked == foreign_id);
    if add && !known {
        links.push((foreign_id.to_owned(), "None".to_owned()));
    } else if !add {
        links.retain(|(linked, _)| linked != foreign_id);
    }
    Ok(())
}

pub(super) fn link_route(state: &mut State, call: &Call<'_>, def: &'static Def, id: &str, link: &str) -> Answer {
    let missing = || Refusal::new(404, format!("Record {id} does not exist."));
    let record = state.live(def.name, id).cloned().ok_or_else(missing)?;
    match link {
        "stream" => return stream(state, call, def, &record),
        "attendees" if def.is_event() => return ok(json!({"list": attendees(state, &record)})),
        "roles" if !call.actor().is_admin() => return Err(Refusal::forbidden("")),
        "users" if def.name == "Team" => {
            let members = state.table("User").filter(|user| !user.is_deleted() && user.linked("teams", id));
            let select = ["userName".to_owned(), "name".to_owned()];
            let rows = rows_of(state, "User", members, call.actor(), Some(&select));
            return ok(json!({"total": rows.len(), "list": rows}));
        }
        _ => {}
    }
    let foreign = foreign_of(link).filter(|_| def.links.contains(&link));
    let foreign = foreign.ok_or_else(|| Refusal::new(404, "Link does not exist."))?;
    if call.method() == "GET" {
        state.check(call.actor(), def, &record, "read")?;
        let linked = record.links(link).iter().filter_map(|(id, _)| state.live(foreign, id));
        let rows = rows_of(state, foreign, linked, call.actor(), None);
        return ok(json!({"total": rows.len(), "list": rows}));
    }
    state.check(call.actor(), def, &record, "edit")?;
    let one = call.body.get("id").and_then(Value::as_str).map(str::to_owned);
    let ids: Vec<String> = ids(call.body.get("ids")).into_iter().chain(one).collect();
    if ids.is_empty() {
        return Err(Refusal::new(400, ""));
    }
    for foreign_id in ids {
        change_link(state, def, id, link, &foreign_id, call.method() == "POST")?;
    }
    ok(true)
}

fn attendees(state: &State, record: &Record) -> Vec<Value> {
    let mut rows = Vec::new();
    for link in ["users", "contacts", "leads"] {
        let scope = foreign_of(link).unwrap_or_default();
        for (id, status) in record.links(link) {
            let mail = state.any(scope, id).and_then(|person| person.emails.first().cloned());
            rows.push(json!({"id": id, "name": state.name_of(scope, id), "emailAddress": mail,
                "acceptanceStatus": status, "_scope": scope}));
        }
    }
    rows
}

fn stream(state: &State, call: &Call<'_>, def: &'static Def, record: &Record) -> Answer {
    if !state.may(call.actor(), def, record, "stream") {
        return Err(Refusal::forbidden("No stream access."));
    }
    let Some(note) = defs::def("Note") else { return Err(Refusal::new(500, "")) };
    let after = call.request.query("after").and_then(time::normalise);
    let posts = call.request.query("filter") == Some("posts");
    let number = |name: &str| call.request.query(name).and_then(|text| text.parse::<usize>().ok());
    let mut notes: Vec<&Record> = state
        .table("Note")
        .filter(|note| def.stream && !note.is_deleted() && note.text("parentId") == Some(record.id()))
        .filter(|note| !posts || note.text("type") == Some("Post"))
        .filter(|note| after.as_deref().is_none_or(|after| note.text("createdAt") > Some(after)))
        .collect();
    notes.sort_by_key(|note| std::cmp::Reverse((note.text("createdAt"), note.id())));
    let page: Vec<Value> = notes
        .iter()
        .skip(number("offset").unwrap_or_default())
        .take(number("maxSize").unwrap_or(query::MAX_SIZE))
        .map(|record| view::show(state, note, record, call.actor(), &Echo::default()))
        .collect();
    ok(json!({"total": notes.len(), "list": page, "pinnedList": []}))
}
