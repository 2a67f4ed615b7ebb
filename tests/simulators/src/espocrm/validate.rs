//! Validation of what is written: only the first failing field is told. Facts (EspoCRM 9.3.10): names of Meeting, Call,
//! Task and Account match `[^<>=]+` and have at most 255 characters; an end before the start is accepted; a foreign id
//! that does not exist, or that the user may not read, is 403.

use serde_json::{Map, Value};

use super::defs::{self, Def, def, foreign_of};
use super::refusal::Refusal;
use super::state::{Actor, Record, State};
use super::time;

/// `before`: the record as it is stored, if there is one.
pub(super) fn validate(
    state: &State,
    def: &'static Def,
    data: &Map<String, Value>,
    actor: &Actor,
    before: Option<&Record>,
) -> Result<(), Refusal> {
    let creating = before.is_none();
    for field in def.required {
        if lacks(data, field, creating) {
            return Err(Refusal::invalid(def.name, field, "required"));
        }
    }
    for (name, value) in data {
        if !value.is_null() && value != "" {
            check_value(state, def, name, value)?;
        }
    }
    check_links(state, def, data, actor)?;
    check_assignment(state, def, data, actor, before)
}

fn lacks(data: &Map<String, Value>, field: &str, creating: bool) -> bool {
    let empty = |name: &str| data.get(name).is_none_or(|value| value.is_null() || value == "");
    let written_empty = |name: &str| data.contains_key(name) && empty(name);
    match field {
        "assignedUser" => (creating && empty("assignedUserId")) || written_empty("assignedUserId"),
        "dateStart" | "dateEnd" => {
            let date = format!("{field}Date");
            (creating || written_empty(field)) && empty(field) && empty(&date)
        }
        _ => (creating && empty(field)) || written_empty(field),
    }
}

fn check_value(state: &State, def: &'static Def, name: &str, value: &Value) -> Result<(), Refusal> {
    let invalid = |field: &str, kind: &str| Err(Refusal::invalid(def.name, field, kind));
    let text = value.as_str();
    let custom = state.custom_fields.get(def.name).and_then(|fields| fields.get(name));
    if let Some(spec) = custom {
        return check_custom(def, name, value, spec);
    }
    if let Some(limit) = defs::max_length(name)
        && text.is_some_and(|text| text.chars().count() > limit)
    {
        return invalid(name, "maxLength");
    }
    let named = matches!(def.name, "Meeting" | "Call" | "Task" | "Account");
    if name == "name" && named && text.is_some_and(|text| text.contains(['<', '>', '='])) {
        return invalid(name, "pattern");
    }
    if let Some(options) = defs::options(def.name, name)
        && !text.is_some_and(|text| options.contains(&text))
    {
        return invalid(name, "valid");
    }
    if matches!(name, "name" | "description" | "firstName" | "lastName" | "title" | "post") && text.is_none() {
        return invalid(name, "valid");
    }
    if def.datetimes.contains(&name) && text.and_then(time::normalise).is_none() {
        return invalid(name, "valid");
    }
    if let Some(field) = name.strip_suffix("Date").filter(|field| def.datetimes.contains(field))
        && text.and_then(time::date).is_none()
    {
        return invalid(field, "valid");
    }
    match name {
        "isAllDay" | "doNotCall" if !value.is_boolean() => invalid(name, "valid"),
        "reminders" => check_reminders(def, value),
        "parentType" if !text.is_some_and(|text| def.parents.contains(&text)) && !def.parents.is_empty() => {
            invalid("parent", "valid")
        }
        "emailAddress" if !text.is_some_and(looks_like_address) => invalid(name, "emailAddress"),
        _ => Ok(()),
    }
}

fn check_custom(def: &Def, name: &str, value: &Value, spec: &Map<String, Value>) -> Result<(), Refusal> {
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("varchar");
    let options = spec.get("options").and_then(Value::as_array);
    let right = match kind {
        "bool" => value.is_boolean(),
        "int" => value.is_i64(),
        "float" => value.is_number(),
        "date" => value.as_str().and_then(time::date).is_some(),
        "datetime" => value.as_str().and_then(time::normalise).is_some(),
        "enum" => options.is_none_or(|options| options.contains(value)),
        "varchar" | "text" | "url" => value.is_string(),
        _ => true,
    };
    let limit = spec.get("maxLength").and_then(Value::as_u64).unwrap_or(255);
    let long = |text: &str| text.chars().count() > usize::try_from(limit).unwrap_or(usize::MAX);
    match (right, value.as_str()) {
        (false, _) => Err(Refusal::invalid(def.name, name, "valid")),
        (true, Some(text)) if kind == "varchar" && long(text) => Err(Refusal::invalid(def.name, name, "maxLength")),
        _ => Ok(()),
    }
}

fn check_reminders(def: &Def, value: &Value) -> Result<(), Refusal> {
    let good = |item: &Value| {
        matches!(item.get("type").and_then(Value::as_str), Some("Popup" | "Email"))
            && item.get("seconds").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0)
    };
    match value.as_array() {
        Some(items) if items.len() > 10 => Err(Refusal::invalid(def.name, "reminders", "maxCount")),
        Some(items) if items.iter().all(good) => Ok(()),
        _ => Err(Refusal::invalid(def.name, "reminders", "valid")),
    }
}

fn looks_like_address(text: &str) -> bool {
    let part = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "@<>,;".contains(c));
    text.split_once('@').is_some_and(|(local, domain)| {
        part(local) && part(domain) && domain.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
    })
}

pub(super) fn ids(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn check_links(state: &State, def: &'static Def, data: &Map<String, Value>, actor: &Actor) -> Result<(), Refusal> {
    let text = |name: &str| data.get(name).and_then(Value::as_str).filter(|id| !id.is_empty());
    let assigned = text("assignedUserId");
    if let Some(id) = assigned
        && state.live("User", id).is_none()
    {
        return Err(Refusal::unknown_foreign(def.name, "assignedUser", "User"));
    }
    for link in def.links {
        let Some(foreign) = foreign_of(link) else { continue };
        for id in ids(data.get(&format!("{link}Ids"))) {
            let record = state.live(foreign, &id).ok_or_else(|| Refusal::unknown_foreign(def.name, link, foreign))?;
            let foreign_def = super::defs::def(foreign);
            let readable = !matches!(foreign, "Contact" | "Lead")
                || foreign_def.is_some_and(|foreign| state.may(actor, foreign, record, "read"));
            if !readable {
                return Err(Refusal::hidden_foreign(def.name, link, foreign));
            }
        }
    }
    if let (Some(kind), Some(id)) = (text("parentType"), text("parentId")) {
        check_parent(state, def, kind, id, actor)?;
    }
    Ok(())
}

/// Whom a user may newly assign or invite: `assignmentPermission` all, team or no; itself always.
fn check_assignment(
    state: &State,
    def: &'static Def,
    data: &Map<String, Value>,
    actor: &Actor,
    before: Option<&Record>,
) -> Result<(), Refusal> {
    let level = state.role_of(actor).map_or("all", |role| role.assignment.as_str());
    if level == "all" || !def.has_reminders() {
        return Ok(());
    }
    let teams = |id: &str| state.live("User", id).map(|user| user.links("teams").to_vec()).unwrap_or_default();
    let own = teams(&actor.id);
    let mate = |id: &str| level == "team" && teams(id).iter().any(|(team, _)| own.iter().any(|(mine, _)| mine == team));
    let assigned = data.get("assignedUserId").and_then(Value::as_str);
    let assigned = assigned.filter(|id| before.and_then(|record| record.text("assignedUserId")) != Some(*id));
    let invited = ids(data.get("usersIds"));
    let invited = invited.iter().filter(|id| !before.is_some_and(|record| record.linked("users", id)));
    if assigned.into_iter().chain(invited.map(String::as_str)).all(|id| id == actor.id || mate(id)) {
        return Ok(());
    }
    Err(Refusal::forbidden("Assignment failure: assigned user or team not allowed."))
}

fn check_parent(state: &State, of: &Def, kind: &str, id: &str, actor: &Actor) -> Result<(), Refusal> {
    // Opportunity and Case have no table here, so none of them exists.
    let record = state.live(kind, id).ok_or_else(|| Refusal::unknown_foreign(of.name, "parent", kind))?;
    let readable = def(kind).is_some_and(|kind| state.may(actor, kind, record, "read"));
    if readable { Ok(()) } else { Err(Refusal::hidden_foreign(of.name, "parent", kind)) }
}
