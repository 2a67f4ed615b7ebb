//! Lists: who sees which rows, in which order, how many. Facts (EspoCRM 9.3.10): rows that the user may not read are left
//! out without a word; `X-No-Total: true` gives -1 (there are more) or -2 (there are none); the id breaks ties.

use serde_json::{Map, Value, json};

use super::defs::{Def, Direction, def};
use super::query::{self, Matcher, Search};
use super::refusal::Refusal;
use super::routes::{Answer, Call, ok};
use super::state::{Actor, Record, State, full_name};
use super::view;

pub(super) fn list(state: &State, call: &Call<'_>, def: &'static Def) -> Answer {
    let actor = call.actor();
    if state.is_closed(actor, def.name, "read") {
        return Err(Refusal::forbidden("No read access."));
    }
    let search = Search::read(state, def, &query::parse(call.request)?)?;
    let rows = find(state, def, actor, &search)?;
    let page: Vec<Value> = rows
        .iter()
        .skip(search.offset)
        .take(search.size)
        .map(|record| view::list_row(state, def, record, actor, search.select.as_deref(), Some(&search.order.0)))
        .collect();
    let more = rows.len() > search.offset + search.size;
    let total = match call.is_true("X-No-Total") {
        true if more => -1,
        true => -2,
        false => i64::try_from(rows.len()).unwrap_or(i64::MAX),
    };
    ok(json!({"total": total, "list": page}))
}

fn find<'a>(state: &'a State, def: &'static Def, actor: &Actor, search: &Search) -> Result<Vec<&'a Record>, Refusal> {
    let matcher = Matcher { state, def, actor };
    search.items.iter().try_for_each(|item| matcher.validate(item))?;
    if let Some(filter) = &search.primary
        && !primary_filter_exists(def, filter)
    {
        return Err(Refusal::new(400, format!("No primary filter '{filter}' for '{}'.", def.name)));
    }
    let mut rows: Vec<&Record> = state
        .table(def.name)
        .filter(|record| !record.is_deleted())
        .filter(|record| def.name != "User" || !matches!(record.text("type"), Some("api" | "system")))
        .filter(|record| state.may(actor, def, record, "read"))
        .filter(|record| !search.only_my || is_mine(record, actor))
        .filter(|record| search.primary.as_deref().is_none_or(|filter| in_primary_filter(state, def, record, filter)))
        .filter(|record| search.text.as_deref().is_none_or(|text| has_text(def, record, text)))
        .filter(|record| search.items.iter().all(|item| matcher.fulfils(record, item)))
        .collect();
    let (name, direction) = &search.order;
    let sort_key = |record: &Record| {
        let value = view::value(state, def, record, name, actor);
        let number = value.as_i64().unwrap_or_default();
        let text = value.as_str().map(str::to_lowercase).or_else(|| value.as_bool().map(|flag| flag.to_string()));
        // The id in the same direction breaks ties.
        (text.unwrap_or_default(), number, record.id().to_owned())
    };
    rows.sort_by_cached_key(|record| sort_key(record));
    if *direction == Direction::Descending {
        rows.reverse();
    }
    Ok(rows)
}

fn is_mine(record: &Record, actor: &Actor) -> bool {
    record.text("assignedUserId") == Some(&actor.id) || record.linked("users", &actor.id)
}

fn primary_filter_exists(def: &Def, filter: &str) -> bool {
    match def.name {
        "Meeting" | "Call" => matches!(filter, "planned" | "held" | "todays"),
        "Task" => matches!(filter, "actual" | "completed" | "overdue" | "todays" | "deferred"),
        "User" => matches!(filter, "active"),
        _ => false,
    }
}

fn in_primary_filter(state: &State, def: &Def, record: &Record, filter: &str) -> bool {
    let status = record.text("status").unwrap_or_default();
    let open = !def.done.contains(&status);
    match filter {
        "planned" => status == "Planned",
        "held" => status == "Held",
        "actual" => open && status != "Deferred",
        "completed" => status == "Completed",
        "deferred" => status == "Deferred",
        "overdue" => open && record.text("dateEnd").is_some_and(|end| end < state.now().as_str()),
        "active" => record.get("isActive") == true,
        _ => record.text("dateStart").zip(state.now().get(..10)).is_some_and(|(start, day)| start.starts_with(day)),
    }
}

/// Part of a name, or an address from its beginning.
fn has_text(def: &Def, record: &Record, text: &str) -> bool {
    full_name(def.name, record).to_lowercase().contains(text)
        || record.emails.iter().any(|mail| mail.to_lowercase().starts_with(text))
}

pub(super) fn rows_of<'a>(
    state: &State,
    entity: &str,
    records: impl Iterator<Item = &'a Record>,
    actor: &Actor,
    select: Option<&[String]>,
) -> Vec<Value> {
    let Some(def) = def(entity) else { return Vec::new() };
    records.map(|record| view::list_row(state, def, record, actor, select, None)).collect()
}

/// Contact and Lead by the whole name, Account by name, all by any address.
pub(super) fn duplicates<'a>(state: &'a State, def: &Def, body: &Value) -> Vec<&'a Record> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let rows = body.get("emailAddressData").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mails = rows.iter().filter_map(|row| row.get("emailAddress").and_then(Value::as_str));
    let mails: Vec<String> = mails.chain(text("emailAddress")).map(str::to_lowercase).collect();
    let same_name = |record: &Record| match def.name {
        "Account" => text("name").is_some() && record.text("name") == text("name"),
        _ => {
            let both = text("firstName").is_some() && text("lastName").is_some();
            both && record.text("firstName") == text("firstName") && record.text("lastName") == text("lastName")
        }
    };
    let same_mail = |record: &Record| record.emails.iter().any(|mail| mails.contains(&mail.to_lowercase()));
    state.table(def.name).filter(|r| !r.is_deleted() && (same_name(r) || same_mail(r))).collect()
}

/// Only deletions are kept here.
pub(super) fn history(state: &State, call: &Call<'_>) -> Answer {
    let params = query::parse(call.request)?;
    let size =
        params.get("maxSize").and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(query::MAX_SIZE);
    let rows: Vec<Value> = state
        .history
        .iter()
        .enumerate()
        .map(|(number, (entity, id, name, user, at))| {
            json!({"id": format!("{number:017x}"), "deleted": false, "number": number, "targetType": entity, "data": null,
                "action": "delete", "createdAt": at, "ipAddress": "127.0.0.1", "targetId": id, "targetName": name,
                "userId": user, "userName": state.name_of("User", user)})
        })
        .rev()
        .take(size)
        .collect();
    let total = if state.history.len() > size { -1 } else { -2 };
    ok(json!({"total": total, "list": rows}))
}

pub(super) fn list_webhooks(state: &State, call: &Call<'_>, webhook: &'static Def) -> Answer {
    let params: Map<String, Value> = query::parse(call.request)?;
    let search = Search::read(state, webhook, &params)?;
    let matcher = Matcher { state, def: webhook, actor: call.actor() };
    search.items.iter().try_for_each(|item| matcher.validate(item))?;
    let mut own: Vec<&Record> = state
        .table("Webhook")
        .filter(|hook| state.sees_webhook(call.actor(), hook))
        .filter(|hook| search.items.iter().all(|item| matcher.fulfils(hook, item)))
        .collect();
    own.sort_by_key(|hook| std::cmp::Reverse(hook.id()));
    let page = own.iter().skip(search.offset).take(search.size);
    let rows: Vec<Value> = page
        .map(|hook| view::list_row(state, webhook, hook, call.actor(), search.select.as_deref(), Some(&search.order.0)))
        .collect();
    ok(json!({"total": own.len(), "list": rows}))
}
