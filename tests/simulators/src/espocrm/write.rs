//! Creating, changing and deleting records, with what EspoCRM 9.3.10 does besides: all-day dates win over times, a moved
//! start takes the end along, the assignee is always an attendee, columns are merged per id, every PUT counts as a
//! change, and webhooks are fired with the changed attributes.

use serde_json::{Map, Value, json};

use super::defs::{self, Def, link_part};
use super::refusal::Refusal;
use super::reminders;
use super::state::{Actor, Links, Record, State};
use super::time;
use super::validate::{ids, validate};
use super::view::{self, Echo};

/// Attributes that a write set or changed, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed(Vec<String>);

impl Changed {
    pub fn add(&mut self, attribute: &str) {
        if !self.has(attribute) {
            self.0.push(attribute.to_owned());
        }
    }

    pub fn has(&self, attribute: &str) -> bool {
        self.0.iter().any(|name| name == attribute)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Keeps of a body what exists and may be written by this user; the rest is ignored without a word.
fn clean(state: &State, def: &'static Def, body: &Value, actor: &Actor) -> Map<String, Value> {
    let Some(body) = body.as_object() else { return Map::new() };
    let field_of = |name: &str| {
        let field = defs::FIELDS.iter().find(|(_, attributes)| attributes.contains(&name)).map(|(field, _)| *field);
        field.unwrap_or(name).to_owned()
    };
    let mut data: Map<String, Value> = body
        .iter()
        .filter(|(name, _)| state.has_attribute(def, name) && !defs::is_read_only(def.name, name))
        .filter(|(name, _)| !state.field_closed(actor, def.name, &field_of(name), "edit"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for name in def.datetimes {
        if let Some(normal) = data.get(*name).and_then(Value::as_str).and_then(time::normalise) {
            data.insert((*name).to_owned(), normal.into());
        }
    }
    data
}

pub(super) fn create(state: &mut State, def: &'static Def, body: &Value, actor: &Actor) -> Result<Value, Refusal> {
    let data = clean(state, def, body, actor);
    validate(state, def, &data, actor, None)?;
    let mut record = state.blank(def, &actor.id);
    let sent = assign(state, def, &mut record, &data, actor, true);
    let id = record.id().to_owned();
    state.put(def, record.clone());
    own_attachments(state, &record);
    reminders::save(state, def, &record, data.get("reminders"), actor, &sent, true);
    let payload = view::create_payload(state, def, &record, &sent, &data, actor);
    state.fire(def.name, "create", &id, actor, payload);
    Ok(view::show(state, def, &record, actor, &Echo { created: Some(&sent), ..Echo::default() }))
}

pub(super) fn update(
    state: &mut State,
    def: &'static Def,
    id: &str,
    body: &Value,
    actor: &Actor,
    version: Option<i64>,
) -> Result<Value, Refusal> {
    let missing = || Refusal::new(404, format!("Record {id} not found."));
    let before = state.live(def.name, id).cloned().ok_or_else(missing)?;
    let data = clean(state, def, body, actor);
    validate(state, def, &data, actor, Some(&before))?;
    check_version(def, &before, &data, version)?;
    let mut record = before.clone();
    let changed = assign(state, def, &mut record, &data, actor, false);
    let same_modifier = before.text("modifiedById") == Some(actor.id.as_str());
    record.set("modifiedAt", state.now());
    record.set("modifiedById", actor.id.clone());
    let loaded = reminders::own(state, def, id, &actor.id);
    state.put(def, record.clone());
    own_attachments(state, &record);
    reminders::save(state, def, &record, data.get("reminders"), actor, &changed, false);
    let done = record.text("status").is_some_and(|status| def.done.contains(&status));
    let told = match data.get("reminders") {
        Some(sent) if !sent.is_null() => sent.clone(),
        _ if done => json!([]),
        _ => loaded,
    };
    let echo = Echo { before: Some(&before), written: Some(&data), reminders: Some(&told), ..Echo::default() };
    let answer = view::show(state, def, &record, actor, &echo);
    fire_update(state, def, &record, &changed, &answer, (actor, same_modifier));
    Ok(answer)
}

/// A file that is put into a task belongs to it.
fn own_attachments(state: &mut State, record: &Record) {
    for (id, _) in record.links("attachments").to_vec() {
        if let Some(file) = state.any_mut("Attachment", &id) {
            file.set("parentType", "Task");
            file.set("parentId", record.id());
        }
    }
}

fn fire_update(
    state: &mut State,
    def: &'static Def,
    record: &Record,
    changed: &Changed,
    answer: &Value,
    (actor, same_modifier): (&Actor, bool),
) {
    let id = record.id().to_owned();
    let shown = |name: &str| answer.get(name).cloned().unwrap_or_else(|| record.get(name).clone());
    let mut payload = Map::new();
    for name in changed.iter().filter(|name| !matches!(*name, "versionNumber" | "streamUpdatedAt")) {
        payload.insert(name.to_owned(), shown(name));
        let names = name.strip_suffix("Ids").map(|link| format!("{link}Names"));
        if let Some(name) = names.or_else(|| name.strip_suffix("Id").map(|link| format!("{link}Name"))) {
            payload.insert(name.clone(), shown(&name));
        }
    }
    if def.has_reminders() {
        payload.insert("reminders".into(), shown("reminders"));
    }
    if !same_modifier {
        payload.insert("modifiedById".into(), shown("modifiedById"));
        payload.insert("modifiedByName".into(), shown("modifiedByName"));
    }
    if !payload.is_empty() {
        payload.insert("id".into(), id.clone().into());
        state.fire(def.name, "update", &id, actor, Value::Object(payload));
    }
    for (field, attributes) in fields_of(changed) {
        let mut payload: Map<String, Value> = attributes
            .iter()
            .filter(|name| answer.get(name.as_str()).is_some())
            .map(|name| (name.clone(), shown(name)))
            .collect();
        payload.insert("id".into(), id.clone().into());
        state.fire(def.name, &format!("fieldUpdate.{field}"), &id, actor, Value::Object(payload));
    }
}

/// The fields that the changed attributes belong to, each with all its attributes.
fn fields_of(changed: &Changed) -> Vec<(String, Vec<String>)> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    for attribute in changed.iter() {
        let known = defs::FIELDS.iter().find(|(_, attributes)| attributes.contains(&attribute));
        let (field, attributes) = match known {
            Some((field, attributes)) => {
                ((*field).to_owned(), attributes.iter().map(|name| (*name).to_owned()).collect())
            }
            None => (attribute.to_owned(), vec![attribute.to_owned()]),
        };
        if !out.iter().any(|(name, _)| *name == field) {
            out.push((field, attributes));
        }
    }
    out
}

/// Optimistic concurrency: Task only by default. Any attribute that would change conflicts; equal values pass.
fn check_version(def: &Def, record: &Record, data: &Map<String, Value>, version: Option<i64>) -> Result<(), Refusal> {
    let stored = record.get("versionNumber").as_i64();
    let (Some(sent), Some(stored)) = (version.filter(|_| def.has("versionNumber")), stored) else { return Ok(()) };
    if sent == stored {
        return Ok(());
    }
    let differing: Map<String, Value> = data
        .iter()
        .filter(|(name, value)| !name.ends_with("Ids") && *name != "reminders" && record.get(name) != *value)
        .map(|(name, _)| (name.clone(), record.get(name).clone()))
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(409, "modified").with_body(json!({"values": differing, "versionNumber": stored})))
}

fn assign(
    state: &State,
    def: &'static Def,
    record: &mut Record,
    data: &Map<String, Value>,
    actor: &Actor,
    creating: bool,
) -> Changed {
    let before = record.clone();
    let mut changed = Changed::default();
    for (name, value) in data {
        let link = link_part(name).is_some_and(|(link, _)| def.links.contains(&link));
        if link || name == "reminders" || assign_mail(record, name, value, &mut changed) {
            continue;
        }
        if record.attributes.get(name) != Some(value) && !(value.is_null() && record.get(name).is_null() && !creating) {
            changed.add(name);
        }
        record.set(name, value.clone());
    }
    assign_times(state, def, record, &before, data, creating, &mut changed);
    assign_parent(state, def, record, data, &mut changed);
    if def.name == "Task" {
        assign_task(state, record, creating, &mut changed);
    }
    assign_links(def, record, data, actor, creating, &mut changed);
    record.followers = view::followers(record);
    let audited =
        ["status", "dateStart", "dateEnd", "assignedUserId", "usersIds", "contactsIds", "leadsIds", "priority"];
    if !creating && def.stream && audited.iter().any(|name| changed.has(name)) {
        record.set("streamUpdatedAt", state.now());
    }
    changed
}

/// The primary address replaces the first; `emailAddressData` replaces all.
fn assign_mail(record: &mut Record, name: &str, value: &Value, changed: &mut Changed) -> bool {
    let old = record.emails.clone();
    match name {
        "emailAddress" => match value.as_str().filter(|mail| !mail.is_empty()) {
            Some(mail) => {
                let others = old.iter().skip(1).filter(|other| !other.eq_ignore_ascii_case(mail)).cloned();
                record.emails = std::iter::once(mail.to_owned()).chain(others).collect();
            }
            None => record.emails.clear(),
        },
        "emailAddressData" => {
            let rows = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let mut mails: Vec<(bool, String)> = rows
                .iter()
                .filter_map(|row| {
                    let primary = row.get("primary") == Some(&Value::Bool(true));
                    row.get("emailAddress").and_then(Value::as_str).map(|mail| (!primary, mail.to_owned()))
                })
                .collect();
            mails.sort_by_key(|(secondary, _)| *secondary);
            record.emails = mails.into_iter().map(|(_, mail)| mail).collect();
        }
        _ => return false,
    }
    if record.emails != old {
        changed.add("emailAddress");
    }
    true
}

fn set_changed(record: &mut Record, name: &str, value: Value, changed: &mut Changed) {
    if record.get(name) != &value {
        changed.add(name);
        record.set(name, value);
    }
}

fn assign_times(
    state: &State,
    def: &Def,
    record: &mut Record,
    before: &Record,
    data: &Map<String, Value>,
    creating: bool,
    changed: &mut Changed,
) {
    if def.has_all_day() {
        for (side, plus) in [("dateStart", 0), ("dateEnd", 1)] {
            let Some(day) = record.text(&format!("{side}Date")).and_then(time::date) else { continue };
            // dateEndDate is the last day, dateEnd the first moment after it.
            let day = day.checked_add_days(chrono::Days::new(plus)).unwrap_or(day);
            let midnight = Value::from(time::midnight(day, state.settings.zone));
            record.set(side, before.get(side).clone());
            changed.0.retain(|name| name != side);
            set_changed(record, side, midnight, changed);
        }
    }
    let moved = !creating && def.is_event() && data.contains_key("dateStart") && !data.contains_key("dateEnd");
    if moved && record.text("dateStartDate").is_none() {
        let by = before.text("dateStart").zip(record.text("dateStart")).and_then(|(a, b)| time::seconds_between(a, b));
        if let Some(end) = before.text("dateEnd").zip(by).and_then(|(end, by)| time::shift(end, by)) {
            set_changed(record, "dateEnd", end.into(), changed);
        }
    }
}

fn assign_parent(state: &State, def: &Def, record: &mut Record, data: &Map<String, Value>, changed: &mut Changed) {
    if def.parents.is_empty() || !(data.contains_key("parentId") || data.contains_key("parentType")) {
        return;
    }
    let kind = record.text("parentType").unwrap_or_default().to_owned();
    let id = record.text("parentId").map(str::to_owned);
    let account = match (kind.as_str(), &id) {
        ("Account", Some(id)) => Some(id.clone()),
        (kind, Some(id)) => state.live(kind, id).and_then(|parent| parent.text("accountId")).map(str::to_owned),
        _ => None,
    };
    set_changed(record, "accountId", account.map_or(Value::Null, Value::from), changed);
    if def.has("contactId") {
        let contact = id.filter(|_| kind == "Contact");
        set_changed(record, "contactId", contact.map_or(Value::Null, Value::from), changed);
    }
}

fn assign_task(state: &State, record: &mut Record, creating: bool, changed: &mut Changed) {
    if creating || changed.has("status") {
        let completed = record.text("status") == Some("Completed");
        let at = if completed { Value::from(state.now()) } else { Value::Null };
        set_changed(record, "dateCompleted", at, changed);
    }
    let version = if creating { 1 } else { record.get("versionNumber").as_i64().unwrap_or_default() + 1 };
    record.set("versionNumber", version);
}

fn assign_links(
    def: &Def,
    record: &mut Record,
    data: &Map<String, Value>,
    actor: &Actor,
    creating: bool,
    changed: &mut Changed,
) {
    for link in def.links {
        let old = record.links(link).to_vec();
        let columns = data.get(&format!("{link}Columns")).and_then(Value::as_object);
        let mut links = match data.get(&format!("{link}Ids")) {
            Some(Value::Array(_)) => with_ids(&old, ids(data.get(&format!("{link}Ids")))),
            _ => old.clone(),
        };
        for (id, status) in &mut links {
            let sent = columns.and_then(|columns| columns.get(id)).and_then(|column| column.get("status"));
            if let Some(sent) = sent.and_then(Value::as_str) {
                sent.clone_into(status);
            }
        }
        if *link == "users" && def.is_event() {
            add_assignee(record, &old, &mut links, columns, actor, creating);
        }
        let id_set = |links: &Links| links.iter().map(|(id, _)| id.clone()).collect::<std::collections::BTreeSet<_>>();
        if id_set(&links) != id_set(&old) {
            changed.add(&format!("{link}Ids"));
        }
        if columns.is_some() {
            changed.add(&format!("{link}Columns"));
        }
        record.links.insert(link, links);
    }
}

fn with_ids(old: &Links, wanted: Vec<String>) -> Links {
    let mut links = Links::new();
    for id in wanted {
        if !links.iter().any(|(known, _)| *known == id) {
            let status = old.iter().find(|(known, _)| *known == id).map(|(_, status)| status.clone());
            links.push((id, status.unwrap_or_else(|| "None".to_owned())));
        }
    }
    links
}

/// Facts: a hook re-adds the assignee to the users of Meeting and Call at every save; on create the acting user, if an
/// attendee, has accepted.
fn add_assignee(
    record: &Record,
    old: &Links,
    links: &mut Links,
    columns: Option<&Map<String, Value>>,
    actor: &Actor,
    creating: bool,
) {
    if let Some(assigned) = record.text("assignedUserId")
        && !links.iter().any(|(id, _)| id == assigned)
    {
        let kept = old.iter().find(|(id, _)| id == assigned).map(|(_, status)| status.clone());
        links.push((assigned.to_owned(), kept.unwrap_or_else(|| "None".to_owned())));
    }
    let chosen = columns.is_some_and(|columns| columns.contains_key(&actor.id));
    if creating && !chosen {
        for (_, status) in links.iter_mut().filter(|(id, _)| *id == actor.id) {
            "Accepted".clone_into(status);
        }
    }
}

pub(super) fn remove(state: &mut State, def: &'static Def, id: &str, actor: &Actor) {
    let now = state.now();
    let name = state.name_of(def.name, id).unwrap_or_default();
    if let Some(record) = state.any_mut(def.name, id) {
        record.set("deleted", true);
        record.set("modifiedAt", now.clone());
    }
    state.reminders.remove(&(def.name, id.to_owned()));
    if def.name == "Attachment" {
        for task in state.records.entry("Task").or_default().values_mut() {
            task.links.entry("attachments").or_default().retain(|(linked, _)| linked != id);
        }
    }
    state.history.push((def.name.to_owned(), id.to_owned(), name, actor.id.clone(), now));
    state.fire(def.name, "delete", id, actor, json!({"id": id}));
}
