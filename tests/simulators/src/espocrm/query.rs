//! The query language of EspoCRM lists: PHP-style parameters or `searchParams` as JSON; `where` items; order and paging.
//! Unknown types, attributes and orders are 400, link-multiple ids in `where` are 500, as the real one.

use chrono_tz::Tz;
use serde_json::{Map, Value};

use super::dates::Range;
use super::defs::{Def, Direction, link_part};
use super::refusal::Refusal;
use super::state::{Actor, Record, State, full_name};
use super::time;
use crate::plumbing::Request;

pub(super) const MAX_SIZE: usize = 200;

/// `a[b][0][c]=v` pairs as nested values; numbered maps become arrays.
pub(super) fn parse(request: &Request) -> Result<Map<String, Value>, Refusal> {
    let mut root = Map::new();
    for (key, value) in &request.query {
        let mut parts = key.split('[').map(|part| part.strip_suffix(']').unwrap_or(part).to_owned());
        let head = parts.next().unwrap_or_default();
        insert(&mut root, head, parts.collect(), value);
    }
    let mut root: Map<String, Value> = root.into_iter().map(|(key, value)| (key, fold(value))).collect();
    if let Some(text) = root.remove("searchParams") {
        let parsed = text.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        root.extend(parsed.ok_or_else(|| Refusal::new(400, "Bad searchParams."))?);
    }
    Ok(root)
}

fn insert(node: &mut Map<String, Value>, key: String, rest: Vec<String>, value: &str) {
    let key = if key.is_empty() { node.len().to_string() } else { key };
    let mut rest = rest.into_iter();
    match rest.next() {
        None => {
            node.insert(key, Value::from(value));
        }
        Some(next) => {
            let child = node.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(child) = child {
                insert(child, next, rest.collect(), value);
            }
        }
    }
}

fn fold(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let mut folded: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, fold(value))).collect();
    if !folded.is_empty() && folded.iter().all(|(key, _)| key.parse::<usize>().is_ok()) {
        folded.sort_by_key(|(key, _)| key.parse::<usize>().unwrap_or_default());
        return Value::Array(folded.into_iter().map(|(_, value)| value).collect());
    }
    Value::Object(folded.into_iter().collect())
}

/// What a list asks for.
pub(super) struct Search {
    pub items: Vec<Value>,
    pub select: Option<Vec<String>>,
    pub order: (String, Direction),
    pub offset: usize,
    pub size: usize,
    pub text: Option<String>,
    pub primary: Option<String>,
    pub only_my: bool,
}

fn number(params: &Map<String, Value>, name: &str) -> Result<Option<usize>, Refusal> {
    let bad = || Refusal::new(400, format!("Bad {name}."));
    match params.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| bad()),
        Some(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()).map(Some).ok_or_else(bad),
    }
}

fn list_of(value: Option<&Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items.clone(),
        Some(Value::Object(items)) => items.values().cloned().collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one.clone()],
    }
}

impl Search {
    pub fn read(state: &State, def: &Def, params: &Map<String, Value>) -> Result<Self, Refusal> {
        let size = number(params, "maxSize")?.unwrap_or(MAX_SIZE);
        if size > MAX_SIZE {
            return Err(Refusal::forbidden("Max size should not exceed 200. Use offset and limit."));
        }
        let select = params.get("attributeSelect").or_else(|| params.get("select")).map(|value| match value {
            Value::String(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
            other => list_of(Some(other)).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>(),
        });
        let bools = list_of(params.get("boolFilterList"));
        Ok(Self {
            items: list_of(params.get("where")),
            select: select.filter(|names: &Vec<String>| !names.is_empty()),
            order: order(state, def, params)?,
            offset: number(params, "offset")?.unwrap_or_default(),
            size,
            text: params.get("textFilter").and_then(Value::as_str).map(str::to_lowercase),
            primary: params.get("primaryFilter").and_then(Value::as_str).map(str::to_owned),
            only_my: bools.iter().any(|name| name == "onlyMy"),
        })
    }
}

fn order(state: &State, def: &Def, params: &Map<String, Value>) -> Result<(String, Direction), Refusal> {
    let direction = match params.get("order") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(descending)) => Some(*descending),
        Some(value) => match value.as_str().unwrap_or_default() {
            "asc" | "ASC" | "false" | "" => Some(false),
            "desc" | "DESC" | "true" => Some(true),
            _ => return Err(Refusal::new(400, "order value is bad.")),
        },
    };
    let direction = direction.map(|down| if down { Direction::Descending } else { Direction::Ascending });
    match params.get("orderBy").and_then(Value::as_str).filter(|name| !name.is_empty()) {
        None => Ok((def.order.0.to_owned(), direction.unwrap_or(def.order.1))),
        Some(name) if state.has_attribute(def, name) => {
            Ok((name.to_owned(), direction.unwrap_or(Direction::Ascending)))
        }
        Some(name) => Err(Refusal::new(400, format!("Order by non-existing field '{name}'."))),
    }
}

/// Whether the records of a list fulfil its `where`.
pub(super) struct Matcher<'a> {
    pub state: &'a State,
    pub def: &'static Def,
    pub actor: &'a Actor,
}

const LINK_TYPES: &[&str] = &["linkedWith", "notLinkedWith", "linkedWithAll", "isLinked", "isNotLinked"];
const PLAIN_TYPES: &[&str] = &[
    "equals",
    "notEquals",
    "in",
    "notIn",
    "greaterThan",
    "lessThan",
    "greaterThanOrEquals",
    "lessThanOrEquals",
    "isNull",
    "isNotNull",
    "isTrue",
    "isFalse",
    "like",
    "notLike",
    "startsWith",
    "endsWith",
    "contains",
    "notContains",
    "ever",
    "any",
];
const ARRAY_TYPES: &[&str] = &["arrayAnyOf", "arrayNoneOf", "arrayAllOf", "arrayIsEmpty", "arrayIsNotEmpty"];
const DATE_TYPES: &[&str] = &[
    "on",
    "notOn",
    "after",
    "before",
    "between",
    "today",
    "past",
    "future",
    "lastSevenDays",
    "lastXDays",
    "nextXDays",
    "olderThanXDays",
    "afterXDays",
    "currentMonth",
    "lastMonth",
    "nextMonth",
    "currentYear",
    "lastYear",
];

impl Matcher<'_> {
    /// Refuses what the real one refuses, before any record is looked at.
    pub fn validate(&self, item: &Value) -> Result<(), Refusal> {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
        if matches!(kind, "and" | "or" | "not") {
            return list_of(item.get("value")).iter().try_for_each(|inner| self.validate(inner));
        }
        let name = attribute(item);
        if LINK_TYPES.contains(&kind) {
            let known = self.def.links.contains(&name)
                || ["assignedUser", "account", "createdBy", "modifiedBy"].contains(&name);
            let exists = known && (self.def.links.contains(&name) || self.def.has(&format!("{name}Id")));
            return if exists {
                Ok(())
            } else {
                Err(Refusal::new(400, format!("Not existing link '{name}' in where.")))
            };
        }
        if !PLAIN_TYPES.contains(&kind) && !DATE_TYPES.contains(&kind) && !ARRAY_TYPES.contains(&kind) {
            return Err(Refusal::new(400, format!("Unknown where item type '{kind}'.")));
        }
        let hidden = name == "uid" && !self.actor.is_admin();
        if hidden || self.state.field_closed(self.actor, self.def.name, name, "read") {
            let text = format!("Forbidden attribute '{name}' in where.");
            return Err(Refusal::new(400, format!("{text} {text}")));
        }
        if link_part(name).is_some_and(|(link, part)| part == "Ids" && self.def.links.contains(&link)) {
            return Err(Refusal::new(500, ""));
        }
        let exists = self.state.has_attribute(self.def, name) || (name == "uid" && self.def.is_event());
        if !exists {
            return Err(Refusal::new(400, format!("Not existing attribute '{name}' in where.")));
        }
        Ok(())
    }

    pub fn fulfils(&self, record: &Record, item: &Value) -> bool {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
        let inner = || list_of(item.get("value"));
        match kind {
            "and" => return inner().iter().all(|part| self.fulfils(record, part)),
            "or" => return inner().iter().any(|part| self.fulfils(record, part)),
            "not" => return !inner().iter().all(|part| self.fulfils(record, part)),
            _ => {}
        }
        let name = attribute(item);
        if LINK_TYPES.contains(&kind) {
            return self.link_fulfils(record, kind, name, &inner());
        }
        if DATE_TYPES.contains(&kind) {
            return self.date_fulfils(record, kind, name, item);
        }
        if ARRAY_TYPES.contains(&kind) {
            return array_fulfils(record.get(name), kind, &inner());
        }
        if name == "emailAddress" {
            return mail_fulfils(record, kind, item.get("value"));
        }
        self.plain_fulfils(&self.stored(record, name), kind, name, item.get("value"))
    }

    fn stored(&self, record: &Record, name: &str) -> Value {
        match name {
            "name" if matches!(self.def.name, "Contact" | "Lead" | "User") => full_name(self.def.name, record).into(),
            _ => record.get(name).clone(),
        }
    }

    fn link_fulfils(&self, record: &Record, kind: &str, name: &str, wanted: &[Value]) -> bool {
        let ids: Vec<&str> = if self.def.links.contains(&name) {
            record.links(name).iter().map(|(id, _)| id.as_str()).collect()
        } else {
            record.text(&format!("{name}Id")).into_iter().collect()
        };
        let has = |value: &Value| value.as_str().is_some_and(|id| ids.contains(&id));
        match kind {
            "linkedWith" => wanted.iter().any(has),
            "notLinkedWith" => !wanted.iter().any(has),
            "linkedWithAll" => wanted.iter().all(has),
            "isLinked" => !ids.is_empty(),
            _ => ids.is_empty(),
        }
    }

    fn plain_fulfils(&self, left: &Value, kind: &str, name: &str, value: Option<&Value>) -> bool {
        let value = value.unwrap_or(&Value::Null);
        let same = |right: &Value| sql_text(left, left) == sql_text(&moment(name, right), left);
        let text = || left.as_str().unwrap_or_default().to_lowercase();
        let pattern = || value.as_str().unwrap_or_default().to_lowercase();
        match kind {
            "equals" if value.is_null() => left.is_null(),
            "equals" => !left.is_null() && same(value),
            "notEquals" if value.is_null() => !left.is_null(),
            "notEquals" => !left.is_null() && !same(value),
            "in" => !left.is_null() && list_of(Some(value)).iter().any(same),
            "notIn" => left.is_null() || !list_of(Some(value)).iter().any(same),
            "isNull" => left.is_null(),
            "isNotNull" => !left.is_null(),
            "isTrue" => left == true,
            "isFalse" => left != true,
            "like" => like(&text(), &pattern()),
            "notLike" => !like(&text(), &pattern()),
            "startsWith" => text().starts_with(&pattern()),
            "endsWith" => text().ends_with(&pattern()),
            "contains" => text().contains(&pattern()),
            "notContains" => !text().contains(&pattern()),
            "ever" | "any" => true,
            _ => compare(left, &moment(name, value)).is_some_and(|ordering| match kind {
                "greaterThan" => ordering.is_gt(),
                "lessThan" => ordering.is_lt(),
                "greaterThanOrEquals" => ordering.is_ge(),
                _ => ordering.is_le(),
            }),
        }
    }

    fn date_fulfils(&self, record: &Record, kind: &str, name: &str, item: &Value) -> bool {
        let Some(left) = record.text(name) else { return false };
        let zone: Tz = item.get("timeZone").and_then(Value::as_str).and_then(|z| z.parse().ok()).unwrap_or(Tz::UTC);
        let with_time = item.get("dateTime").is_some_and(|flag| flag == true || flag == "true" || flag == "1");
        let range = Range { zone, with_time, now: self.state.clock.now().with_timezone(&zone).naive_local() };
        let values = list_of(item.get("value"));
        let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        let first = texts.first().copied().unwrap_or_default();
        let days = || first.parse::<i64>().ok().or_else(|| values.first().and_then(Value::as_i64)).unwrap_or_default();
        let day = |text: &str| time::date(text.get(..10).unwrap_or_default());
        match kind {
            "on" => day(first).is_some_and(|day| range.holds(left, day, day)),
            "notOn" => day(first).is_some_and(|day| !range.holds(left, day, day)),
            "after" => left > range.bound(first, true).as_str(),
            "before" => left < range.bound(first, false).as_str(),
            "between" => {
                let end = texts.get(1).copied().unwrap_or_default();
                left >= range.bound(first, false).as_str() && left <= range.bound(end, true).as_str()
            }
            "past" => left < range.this_moment().as_str(),
            "future" => left > range.this_moment().as_str(),
            _ => range.relative(kind, days()).is_some_and(|(from, to)| range.holds(left, from, to)),
        }
    }
}

fn attribute(item: &Value) -> &str {
    item.get("attribute").or_else(|| item.get("field")).and_then(Value::as_str).unwrap_or_default()
}

/// An ISO 8601 value for a date-time attribute is brought to the stored form.
fn moment(name: &str, value: &Value) -> Value {
    let timed = name.ends_with("At") || matches!(name, "dateStart" | "dateEnd" | "dateCompleted");
    match value.as_str() {
        Some(text) if timed && text.contains('T') => time::normalise(text).map_or_else(|| value.clone(), Value::from),
        _ => value.clone(),
    }
}

/// As a database would compare: without case, booleans as 1 and 0.
fn sql_text(value: &Value, column: &Value) -> String {
    let text = match value {
        Value::Bool(flag) => u8::from(*flag).to_string(),
        Value::String(text) => text.to_lowercase(),
        other => other.to_string(),
    };
    match (column.is_boolean(), text.as_str()) {
        (true, "true") => "1".into(),
        (true, "false") => "0".into(),
        _ => text,
    }
}

fn compare(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    if left.is_null() || right.is_null() {
        return None;
    }
    if let Some(number) = left.as_f64() {
        let other = right.as_f64().or_else(|| right.as_str().and_then(|text| text.parse().ok()))?;
        return number.partial_cmp(&other);
    }
    Some(sql_text(left, left).cmp(&sql_text(right, left)))
}

/// SQL LIKE with `%` only.
fn like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('%') {
        None => text == pattern,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            rest.is_empty()
                || tail
                    .char_indices()
                    .map(|(at, _)| at)
                    .chain([tail.len()])
                    .any(|at| like(tail.get(at..).unwrap_or_default(), rest))
        }),
    }
}

fn array_fulfils(left: &Value, kind: &str, wanted: &[Value]) -> bool {
    let held = left.as_array().cloned().unwrap_or_default();
    match kind {
        "arrayAnyOf" => wanted.iter().any(|value| held.contains(value)),
        "arrayNoneOf" => !wanted.iter().any(|value| held.contains(value)),
        "arrayAllOf" => wanted.iter().all(|value| held.contains(value)),
        "arrayIsEmpty" => held.is_empty(),
        _ => !held.is_empty(),
    }
}

/// Look-ups by address go over primary and secondary ones, without case. `in` compares the stored lower-case form with
/// the value as sent: MySQL's collation forgives capitals there, PostgreSQL does not; here it is forgiven.
fn mail_fulfils(record: &Record, kind: &str, value: Option<&Value>) -> bool {
    let mails: Vec<String> = record.emails.iter().map(|mail| mail.to_lowercase()).collect();
    let wanted: Vec<String> = list_of(value).iter().filter_map(Value::as_str).map(str::to_lowercase).collect();
    let one = wanted.first().map(String::as_str).unwrap_or_default();
    match kind {
        "equals" => mails.iter().any(|mail| mail == one),
        "notEquals" => !mails.iter().any(|mail| mail == one),
        "in" => mails.iter().any(|mail| wanted.contains(mail)),
        "notIn" => !mails.iter().any(|mail| wanted.contains(mail)),
        "startsWith" => mails.iter().any(|mail| mail.starts_with(one)),
        "endsWith" => mails.iter().any(|mail| mail.ends_with(one)),
        "contains" => mails.iter().any(|mail| mail.contains(one)),
        "like" => mails.iter().any(|mail| like(mail, one)),
        "isNull" => mails.is_empty(),
        "isNotNull" => !mails.is_empty(),
        _ => false,
    }
}
