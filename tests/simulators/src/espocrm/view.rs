//! How records look in answers, in list rows and in webhook payloads. Facts (EspoCRM 9.3.10): the answer of a POST lacks
//! lazily loaded attributes that are unset and has the default duration; the answer of a PUT shows the columns as sent,
//! and the duration and the columns as they were loaded before.

use serde_json::{Map, Value, json};

use super::defs::{self, Def, LAZY, foreign_of, link_part, not_in_list};
use super::reminders;
use super::state::{Actor, Record, State, full_name};
use super::time;
use super::write::Changed;

/// What an answer takes from the request instead of from the record.
#[derive(Default)]
pub(super) struct Echo<'a> {
    /// The attributes that a POST set.
    pub created: Option<&'a Changed>,
    /// The record as loaded before a PUT.
    pub before: Option<&'a Record>,
    pub written: Option<&'a Map<String, Value>>,
    pub reminders: Option<&'a Value>,
}

pub(super) fn show(state: &State, def: &'static Def, record: &Record, actor: &Actor, echo: &Echo<'_>) -> Value {
    let mut out = Map::new();
    for name in state.attributes(def) {
        if state.field_closed(actor, def.name, &name, "read") {
            continue;
        }
        let lazy = echo.created.is_some_and(|sent| LAZY.contains(&name.as_str()) && !sent.has(&name));
        if lazy && record.get(&name).is_null() {
            continue;
        }
        let shown = value(state, def, record, &name, actor);
        out.insert(name, shown);
    }
    if let (Some(before), Some(written)) = (echo.before, echo.written) {
        echo_columns(state, def, before, written, actor, &mut out);
        for stale in ["duration", "attachmentsTypes"].into_iter().filter(|name| def.has(name)) {
            out.insert(stale.into(), value(state, def, before, stale, actor));
        }
    }
    if let Some(told) = echo.reminders.filter(|_| def.has_reminders()) {
        out.insert("reminders".into(), told.clone());
    }
    if echo.created.is_some() {
        if let Some(duration) = def.duration {
            out.insert("duration".into(), duration.into());
        }
        if def.has("doNotCall") {
            for name in ["accountIsInactive", "phoneNumberIsOptedOut", "phoneNumberIsInvalid"] {
                out.entry(name).and_modify(|flag| *flag = false.into());
            }
        }
        if def.name == "Task" {
            out.insert("isOverdue".into(), false.into());
            out.remove("emailId");
        }
    }
    if actor.is_admin() && def.is_event() {
        out.insert("uid".into(), record.get("uid").clone());
    }
    Value::Object(out)
}

fn echo_columns(
    state: &State,
    def: &'static Def,
    before: &Record,
    written: &Map<String, Value>,
    actor: &Actor,
    out: &mut Map<String, Value>,
) {
    for link in def.links.iter().filter(|_| def.is_event()) {
        let name = format!("{link}Columns");
        if let Some(sent) = written.get(&name).filter(|sent| sent.is_object()) {
            out.insert(name, sent.clone());
        } else if written.contains_key(&format!("{link}Ids")) && def.has(&name) {
            let mut columns = value(state, def, before, &name, actor);
            if let (Some(stale), Some(Value::Object(fresh))) = (columns.as_object_mut(), out.get(&name)) {
                for (id, column) in fresh {
                    stale.entry(id.clone()).or_insert_with(|| column.clone());
                }
            }
            out.insert(name, columns);
        }
    }
}

pub(super) fn value(state: &State, def: &'static Def, record: &Record, name: &str, actor: &Actor) -> Value {
    if let Some((link, part)) = link_part(name).filter(|(link, _)| def.links.contains(link)) {
        return link_value(state, record, link, part);
    }
    match name {
        "name" => full_name(def.name, record).into(),
        "emailAddress" => record.emails.first().map_or(Value::Null, |mail| mail.as_str().into()),
        "emailAddressData" => mail_rows(record),
        "emailAddressIsOptedOut" | "emailAddressIsInvalid" if record.emails.is_empty() && def.name == "User" => {
            Value::Null
        }
        "phoneNumberIsOptedOut" | "phoneNumberIsInvalid" => Value::Null,
        "duration" => duration(record),
        "reminders" => reminders::own(state, def, record.id(), &actor.id),
        "acceptanceStatus" => {
            let own = record.links("users").iter().find(|(id, _)| *id == actor.id);
            own.map_or(Value::Null, |(_, status)| status.as_str().into())
        }
        "attachmentsTypes" => {
            let types = record
                .links("attachments")
                .iter()
                .filter_map(|(id, _)| state.any("Attachment", id).map(|file| (id.clone(), file.get("type").clone())));
            Value::Object(types.collect())
        }
        "followersIds" => followers(record).into(),
        "followersNames" => names(state, "User", &followers(record)),
        "isFollowed" => followers(record).contains(&actor.id).into(),
        "accountsIds" => record.text("accountId").map_or_else(|| json!([]), |id| json!([id])),
        "accountsNames" => {
            names(state, "Account", &record.text("accountId").map(str::to_owned).into_iter().collect::<Vec<_>>())
        }
        "accountIsInactive" if record.text("accountId").is_none() => Value::Null,
        "isStarred"
        | "hasPortalUser"
        | "accountIsInactive"
        | "targetListIsOptedOut"
        | "emailAddressIsOptedOut"
        | "emailAddressIsInvalid" => flag(record, name),
        _ => plain_value(state, def, record, name),
    }
}

fn plain_value(state: &State, def: &Def, record: &Record, name: &str) -> Value {
    if let Some(link) = name
        .strip_suffix("Name")
        .filter(|link| !link.is_empty() && *link != "user" && *link != "last" && *link != "first")
    {
        let stored = record.get(name);
        let known = stored.is_null().then(|| foreign_name(state, record, link)).flatten();
        return known.map_or_else(|| stored.clone(), Value::from);
    }
    match record.attributes.get(name) {
        Some(stored) => stored.clone(),
        None if name.ends_with("Ids") || matches!(name, "phoneNumberData" | "myReactions" | "positionList") => {
            json!([])
        }
        None if name.ends_with("Names") || name.ends_with("Columns") || name == "phoneNumbersMap" => json!({}),
        None if name == "data" && def.name == "Note" => json!({}),
        None => Value::Null,
    }
}

fn foreign_name(state: &State, record: &Record, link: &str) -> Option<String> {
    let id = record.text(&format!("{link}Id"))?;
    let entity = match link {
        "createdBy" | "modifiedBy" | "assignedUser" | "user" | "portalUser" => "User",
        "account" | "createdAccount" => "Account",
        "contact" | "createdContact" => "Contact",
        "defaultTeam" => "Team",
        "originalLead" => "Lead",
        "parent" => record.text("parentType")?,
        _ => return None,
    };
    state.name_of(entity, id)
}

fn flag(record: &Record, name: &str) -> Value {
    match record.get(name) {
        Value::Null => false.into(),
        stored => stored.clone(),
    }
}

fn link_value(state: &State, record: &Record, link: &str, part: &str) -> Value {
    let links = record.links(link);
    match part {
        "Ids" => links.iter().map(|(id, _)| Value::from(id.as_str())).collect(),
        "Names" => {
            let ids: Vec<String> = links.iter().map(|(id, _)| id.clone()).collect();
            names(state, foreign_of(link).unwrap_or_default(), &ids)
        }
        _ if link == "teams" => {
            Value::Object(links.iter().map(|(id, _)| (id.clone(), json!({"role": null}))).collect())
        }
        _ => Value::Object(links.iter().map(|(id, status)| (id.clone(), json!({"status": status}))).collect()),
    }
}

fn names(state: &State, entity: &str, ids: &[String]) -> Value {
    Value::Object(
        ids.iter().map(|id| (id.clone(), state.name_of(entity, id).map_or(Value::Null, Value::from))).collect(),
    )
}

fn mail_rows(record: &Record) -> Value {
    let row = |(n, mail): (usize, &String)| json!({"emailAddress": mail, "lower": mail.to_lowercase(), "primary": n == 0, "optOut": false, "invalid": false});
    record.emails.iter().enumerate().map(row).collect()
}

fn duration(record: &Record) -> Value {
    let span = record.text("dateStart").zip(record.text("dateEnd"));
    span.and_then(|(start, end)| time::seconds_between(start, end)).map_or(Value::Null, Value::from)
}

/// Attendees and the assignee follow a record by themselves.
pub(super) fn followers(record: &Record) -> Vec<String> {
    let users = record.links("users").iter().map(|(id, _)| id.as_str());
    let mut out = record.followers.clone();
    for id in users.chain(record.text("assignedUserId")) {
        if !out.iter().any(|known| known == id) {
            out.push(id.to_owned());
        }
    }
    out
}

/// One row of a list. Without a selection no link-multiples; those that are selected come complete.
pub(super) fn list_row(
    state: &State,
    def: &'static Def,
    record: &Record,
    actor: &Actor,
    select: Option<&[String]>,
    order: Option<&str>,
) -> Value {
    let mut out = Map::new();
    let selects = |name: &str| select.is_some_and(|names| names.iter().any(|selected| selected == name));
    for name in state.attributes(def) {
        if state.field_closed(actor, def.name, &name, "read") {
            continue;
        }
        let wanted = match select {
            None => !not_in_list(&name),
            Some(_) if not_in_list(&name) => whole_link(def, &name, &selects),
            Some(_) => selects(&name) || def.list_always.contains(&name.as_str()) || brought_by(order, &name),
        };
        if wanted {
            let shown = value(state, def, record, &name, actor);
            out.insert(name, cut(shown));
        }
    }
    if selects("acceptanceStatus") {
        out.insert("acceptanceStatus".into(), value(state, def, record, "acceptanceStatus", actor));
    }
    if selects("uid") && actor.is_admin() {
        out.insert("uid".into(), record.get("uid").clone());
    }
    Value::Object(out)
}

fn whole_link(def: &Def, name: &str, selects: &dyn Fn(&str) -> bool) -> bool {
    link_part(name).is_some_and(|(link, _)| {
        def.links.contains(&link) && ["Ids", "Names", "Columns"].iter().any(|part| selects(&format!("{link}{part}")))
    })
}

/// Ordering by an attribute brings it, and the other attributes of its field, into the rows.
fn brought_by(order: Option<&str>, name: &str) -> bool {
    match order {
        Some("dateStart") => matches!(name, "dateStart" | "dateEnd" | "dateStartDate" | "dateEndDate"),
        Some(order) => order == name,
        None => false,
    }
}

/// `maxSelectTextAttributeLengthForList`.
fn cut(value: Value) -> Value {
    match value {
        Value::String(text) if text.chars().count() > 10_000 => text.chars().take(10_000).collect::<String>().into(),
        other => other,
    }
}

/// The payload of `X.create`: what was set, without followers; columns, names and reminders only as far as sent.
pub(super) fn create_payload(
    state: &State,
    def: &'static Def,
    record: &Record,
    sent: &Changed,
    data: &Map<String, Value>,
    actor: &Actor,
) -> Value {
    let echo = Echo { created: Some(sent), ..Echo::default() };
    let Value::Object(mut out) = show(state, def, record, actor, &echo) else { return json!({}) };
    for name in
        ["followersIds", "followersNames", "createdByName", "modifiedByName", "versionNumber", "isOverdue", "uid"]
    {
        out.remove(name);
    }
    match data.get("reminders") {
        Some(reminders) => out.insert("reminders".into(), reminders.clone()),
        None => out.remove("reminders"),
    };
    for (link, _) in defs::LINKS {
        let given = data.get(&format!("{link}Ids")).is_some_and(Value::is_array);
        let columns = format!("{link}Columns");
        let accepted = *link == "users"
            && record.links("users").iter().any(|(id, status)| *id == actor.id && status == "Accepted");
        match data.get(&columns).filter(|columns| columns.is_object()) {
            Some(columns_sent) => out.insert(columns, columns_sent.clone()),
            None if accepted => out.insert(columns, json!({actor.id.as_str(): {"status": "Accepted"}})),
            None => out.remove(&columns),
        };
        if !given {
            out.remove(&format!("{link}Names"));
        }
        if !given && *link != "users" {
            out.remove(&format!("{link}Ids"));
        }
    }
    out.retain(|name, value| !(value.is_null() && name.ends_with("Name")));
    Value::Object(out)
}
