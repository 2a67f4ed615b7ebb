//! The Outlook half of configured pairs.
//!
//! Facts (learn.microsoft.com/graph/api/resources/event, todotask, extended-properties-overview): categories are written as a
//! whole list; extended properties come back under `$expand` alone and are not echoed in answers to writes; one that is not
//! there is not listed. The namespace of public names is the one that Outlook's own user-defined columns use. Attendees' copies
//! have no properties of ours.

use serde_json::{Map, Value as Json, json};
use sync::{Field, Item, Kind, Pair, Part, Role, Value, Values};

use crate::wire;

/// The id of a property: a whole id as it is, a name among the public ones.
fn property_id(name: &str) -> String {
    if name.starts_with("String {") {
        return name.to_owned();
    }
    format!("String {{00020329-0000-0000-C000-000000000046}} Name {name}")
}

/// The ids of the properties that have to be asked for.
pub(crate) fn properties(pairs: &[Pair]) -> Vec<String> {
    let mut ids: Vec<String> = pairs
        .iter()
        .filter_map(|pair| if let Part::Property(name) = &pair.outlook { Some(property_id(name)) } else { None })
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

fn has(categories: Option<&Vec<String>>, name: &str) -> bool {
    categories.into_iter().flatten().any(|category| is(category, name))
}

fn is(category: &str, name: &str) -> bool {
    category.trim().to_lowercase() == name.trim().to_lowercase()
}

/// The values of an event that is of that kind.
pub(crate) fn of_event(event: &wire::Event, kind: Kind, role: &Role, pairs: &[Pair]) -> Values {
    let word = |part: &Part, text: &Option<String>| Some(Value::Text(part.word(text.as_deref()?)?.to_owned()));
    let value = |pair: &Pair| match &pair.outlook {
        Part::Category(name) => Some(Value::Flag(has(event.categories.as_ref(), name))),
        Part::Location => {
            let place = event.location.as_ref()?;
            Some(Value::Text(place.display_name.clone().unwrap_or_default()))
        }
        Part::Importance => word(&pair.outlook, &event.importance),
        Part::Sensitivity => word(&pair.outlook, &event.sensitivity),
        Part::ShowAs => word(&pair.outlook, &event.show_as),
        Part::Property(name) => {
            let id = property_id(name);
            let all = event.single_value_extended_properties.iter().flatten();
            let value = all.filter(|one| one.id.eq_ignore_ascii_case(&id)).find_map(|one| one.value.clone());
            value.or_else(|| (*role == Role::Organizer).then(String::new)).map(Value::Text)
        }
    };
    pairs.iter().filter(|pair| pair.kind == kind).filter_map(|pair| Some((pair.field(), value(pair)?))).collect()
}

/// The values of a task.
pub(crate) fn of_task(task: &wire::Task, pairs: &[Pair]) -> Values {
    let value = |pair: &Pair| match &pair.outlook {
        Part::Category(name) => Some((pair.field(), Value::Flag(has(task.categories.as_ref(), name)))),
        _ => None,
    };
    pairs.iter().filter(|pair| pair.kind == Kind::Task).filter_map(value).collect()
}

fn pair_of<'a>(pairs: &'a [Pair], field: &Field) -> Option<&'a Pair> {
    let Field::Extra(name) = field else { return None };
    pairs.iter().find(|pair| pair.name == *name)
}

/// True when the current categories have to be known.
pub(crate) fn writes_categories(values: &Values, pairs: &[Pair]) -> bool {
    values.keys().filter_map(|field| pair_of(pairs, field)).any(|pair| matches!(pair.outlook, Part::Category(_)))
}

fn categories(values: &Values, pairs: &[Pair], current: &[String]) -> Vec<String> {
    let mut list = current.to_vec();
    for (field, value) in values {
        if let (Some(Pair { outlook: Part::Category(name), .. }), Value::Flag(wanted)) = (pair_of(pairs, field), value)
        {
            let is_there = list.iter().any(|category| is(category, name));
            match (is_there, wanted) {
                (false, true) => list.push(name.clone()),
                (true, false) => list.retain(|category| !is(category, name)),
                _ => {}
            }
        }
    }
    list
}

/// Adds to the JSON of a write what the pairs say; `current` are the categories that there are.
pub(crate) fn write_event(values: &Values, pairs: &[Pair], current: &[String], json: &mut Map<String, Json>) {
    write_task(values, pairs, current, json);
    let mut properties = Vec::new();
    for (field, value) in values {
        let (Some(pair), Value::Text(text)) = (pair_of(pairs, field), value) else { continue };
        match &pair.outlook {
            Part::Property(name) => properties.push(json!({"id": property_id(name), "value": text})),
            Part::Location => {
                json.insert("location".to_owned(), json!({"displayName": text}));
            }
            part => {
                if let Some(word) = part.word(text) {
                    json.insert(part.to_string(), word.into());
                }
            }
        }
    }
    if !properties.is_empty()
        && let Json::Array(all) = json.entry("singleValueExtendedProperties").or_insert_with(|| json!([]))
    {
        all.extend(properties);
    }
}

/// The same for a task, which has categories alone.
pub(crate) fn write_task(values: &Values, pairs: &[Pair], current: &[String], json: &mut Map<String, Json>) {
    if writes_categories(values, pairs) {
        json.insert("categories".to_owned(), json!(categories(values, pairs, current)));
    }
}

/// Properties are not echoed: what was written counts as shown, of the others nothing is known.
pub(crate) fn after_write(mut item: Item, written: &Values, pairs: &[Pair]) -> Item {
    for pair in pairs.iter().filter(|pair| matches!(pair.outlook, Part::Property(_))) {
        match written.get(&pair.field()) {
            Some(value) if pair.kind == item.kind => item.values.insert(pair.field(), value.clone()),
            _ => item.values.remove(&pair.field()),
        };
    }
    item
}

#[cfg(test)]
mod tests {
    use sync::Direction;

    use super::*;

    fn pair(name: &str, outlook: Part) -> Pair {
        let espo = format!("c{name}");
        Pair { name: name.to_owned(), kind: Kind::Meeting, espo, outlook, direction: Direction::Both }
    }

    fn pairs() -> Vec<Pair> {
        vec![
            pair("vip", Part::Category("VIP".to_owned())),
            pair("code", Part::Property("ProjectCode".to_owned())),
            pair("rank", Part::Importance),
            pair("room", Part::Location),
            pair("shown", Part::ShowAs),
        ]
    }

    fn event(json: &Map<String, Json>) -> wire::Event {
        let mut json = json.clone();
        json.insert("id".to_owned(), "E".into());
        serde_json::from_value(Json::Object(json)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let text = |text: &str| Value::Text(text.to_owned());
        let field = |name: &str| Field::Extra(name.to_owned());
        let values = Values::from([
            (field("vip"), Value::Flag(true)),
            (field("code"), text("AB-1")),
            (field("rank"), text("high")),
            (field("room"), text("Room 1")),
            (field("shown"), text("workingElsewhere")),
        ]);
        let mut json = Map::new();
        write_event(&values, &pairs(), &["Call".to_owned()], &mut json);
        assert_eq!(json["categories"], json!(["Call", "VIP"]));
        assert_eq!(of_event(&event(&json), Kind::Meeting, &Role::Organizer, &pairs()), values);
        assert!(of_event(&event(&json), Kind::Call, &Role::Organizer, &pairs()).is_empty(), "pairs are of one kind");
        let none = Values::from([(field("vip"), Value::Flag(false))]);
        let mut json = Map::new();
        write_event(&none, &pairs(), &["vip".to_owned(), "Red".to_owned()], &mut json);
        assert_eq!(Json::Object(json), json!({"categories": ["Red"]}));
    }

    #[test]
    fn a_property_that_is_not_there_is_empty_but_on_an_attendees_copy_unknown() {
        let only = [pair("code", Part::Property("ProjectCode".to_owned()))];
        let empty = Values::from([(Field::Extra("code".to_owned()), Value::Text(String::new()))]);
        assert_eq!(of_event(&event(&Map::new()), Kind::Meeting, &Role::Organizer, &only), empty);
        let copy = Role::Attendee { organizer: "x@y.example".to_owned() };
        assert!(of_event(&event(&Map::new()), Kind::Meeting, &copy, &only).is_empty());
    }

    #[test]
    fn a_property_is_asked_for_by_its_public_name_or_its_whole_id() {
        let id = "String {6b3b1ff2-5d2c-4f7e-9b0a-0d6f2f0c8a51} Name Own";
        let both = [pair("a", Part::Property("Code".to_owned())), pair("b", Part::Property(id.to_owned()))];
        assert_eq!(properties(&both), ["String {00020329-0000-0000-C000-000000000046} Name Code", id]);
    }
}
