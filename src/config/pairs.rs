//! `[[pairs]]`: further pairs of fields, an EspoCRM attribute beside something of an Outlook item.

use serde_json::{Map, Value};
use sync::{Direction, Field, Kind, Pair, Part};

use super::sources::nearest_of;

const KEYS: &[&str] = &["kind", "espo", "outlook", "direction", "name"];
const DIRECTIONS: &[&str] = &["both", "espo_to_outlook", "outlook_to_espo"];
const PARTS: &[&str] = &["category:", "property:", "location", "importance", "sensitivity", "showAs"];
/// Attributes that are synchronised anyway, or are none of ours to write.
const TAKEN: &[&str] = &[
    "id",
    "name",
    "description",
    "status",
    "priority",
    "dateStart",
    "dateEnd",
    "dateStartDate",
    "dateEndDate",
    "duration",
    "reminders",
    "assignedUserId",
    "assignedUsersIds",
    "usersIds",
    "contactsIds",
    "leadsIds",
    "createdAt",
    "modifiedAt",
    "deleted",
];

/// The pairs of a list.
///
/// # Errors
/// A sentence for everything that is wrong.
pub(super) fn parse(value: &Value) -> Result<Vec<Pair>, Vec<String>> {
    let Value::Array(list) = value else { return Err(vec!["pairs: expected a list of pairs".to_owned()]) };
    let (mut pairs, mut wrong) = (Vec::<Pair>::new(), Vec::new());
    for (at, entry) in list.iter().enumerate() {
        let place = format!("pairs[{at}]");
        match entry.as_object().ok_or_else(|| vec!["expected a table".to_owned()]).and_then(pair) {
            Ok(one) => match pairs.iter().find_map(|other| clash(&one, other)) {
                Some(why) => wrong.push(format!("{place}: {why}")),
                None => pairs.push(one),
            },
            Err(why) => wrong.extend(why.into_iter().map(|why| format!("{place}: {why}"))),
        }
    }
    if wrong.is_empty() { Ok(pairs) } else { Err(wrong) }
}

/// Two pairs must not write the same thing, and one name must mean the same in the history of all kinds.
fn clash(one: &Pair, other: &Pair) -> Option<String> {
    let same_kind = one.kind == other.kind;
    if same_kind && one.name == other.name {
        return Some(format!("there is another pair {} of {}", one.name, one.kind));
    }
    if same_kind && (one.espo == other.espo || one.outlook == other.outlook) {
        return Some(format!("the pair {} of {} has {} or {} already", other.name, one.kind, one.espo, one.outlook));
    }
    let differs = one.name == other.name && one.outlook != other.outlook;
    differs
        .then(|| format!("the pair {} of {} is {} there; choose another name", other.name, other.kind, other.outlook))
}

fn pair(entry: &Map<String, Value>) -> Result<Pair, Vec<String>> {
    let mut wrong: Vec<String> =
        entry.keys().filter(|key| !KEYS.contains(&key.as_str())).map(|key| unknown("key", key, KEYS)).collect();
    let mut text = |key: &str, required: bool| match entry.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Some(_) => {
            wrong.push(format!("{key}: expected a text"));
            None
        }
        None => {
            if required {
                wrong.push(format!("{key} is missing"));
            }
            None
        }
    };
    let (kind, espo, outlook) = (text("kind", true), text("espo", true), text("outlook", true));
    let (direction, name) = (text("direction", false), text("name", false));
    let mut take = |result: Result<(), String>| wrong.extend(result.err());
    let kind = kind.and_then(|word| word.parse::<Kind>().map_err(|error| take(Err(format!("kind: {error}")))).ok());
    let part = outlook.and_then(|word| part(&word).map_err(|why| take(Err(why))).ok());
    let direction = direction_of(direction.as_deref()).map_err(|why| take(Err(why))).ok();
    if let Some(espo) = &espo {
        take(attribute(espo));
    }
    if let (Some(Kind::Task), Some(part)) = (kind, &part)
        && !matches!(part, Part::Category(_))
    {
        take(Err(format!("outlook: a To Do task has no {part}; only category:NAME can be paired")));
    }
    let name = name.or_else(|| espo.clone());
    if let Some(name) = &name {
        take(named(name));
    }
    match (kind, espo, part, direction, name) {
        (Some(kind), Some(espo), Some(outlook), Some(direction), Some(name)) if wrong.is_empty() => {
            Ok(Pair { name, kind, espo, outlook, direction })
        }
        _ => Err(wrong),
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    format!("unknown {what} {word}; did you mean {}?", nearest_of(word, known).unwrap_or_default())
}

fn attribute(espo: &str) -> Result<(), String> {
    if TAKEN.contains(&espo) {
        return Err(format!("espo: {espo} is synchronised by itself and cannot be paired"));
    }
    let is_name = espo.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name { Ok(()) } else { Err("espo: expected the name of an attribute, like cProjectCode".to_owned()) }
}

fn named(name: &str) -> Result<(), String> {
    if !matches!(Field::from(name.to_owned()), Field::Extra(_)) {
        return Err(format!("name: {name} is the name of a field that is synchronised by itself"));
    }
    Ok(())
}

fn direction_of(word: Option<&str>) -> Result<Direction, String> {
    Ok(match word.unwrap_or("both") {
        "both" => Direction::Both,
        "espo_to_outlook" | "to_outlook" => Direction::EspoToOutlook,
        "outlook_to_espo" | "to_espo" => Direction::OutlookToEspo,
        other => return Err(unknown("direction", other, DIRECTIONS)),
    })
}

fn part(word: &str) -> Result<Part, String> {
    let named = |name: &str, make: fn(String) -> Part, what: &str| match name.trim() {
        "" => Err(format!("outlook: {what}: needs a name, like {what}:Project")),
        name => Ok(make(name.to_owned())),
    };
    match word {
        "location" => Ok(Part::Location),
        "importance" => Ok(Part::Importance),
        "sensitivity" => Ok(Part::Sensitivity),
        "showAs" => Ok(Part::ShowAs),
        _ => match word.split_once(':') {
            Some(("category", name)) => named(name, Part::Category, "category"),
            Some(("property", name)) => named(name, Part::Property, "property"),
            _ => Err(unknown("outlook part", word, PARTS)),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(value: &Value) -> String {
        parse(value).unwrap_err().join("; ")
    }

    #[test]
    fn pairs_are_read_with_their_defaults() {
        let pairs = parse(&json!([
            {"kind": "Meeting", "espo": "cProjectCode", "outlook": "property:ProjectCode", "direction": "espo_to_outlook", "name": "project_code"},
            {"kind": "task", "espo": "cVip", "outlook": "category:VIP"},
        ]))
        .unwrap();
        assert_eq!(pairs[0].outlook, Part::Property("ProjectCode".to_owned()));
        assert_eq!((pairs[0].name.as_str(), pairs[0].direction), ("project_code", Direction::EspoToOutlook));
        assert_eq!((pairs[1].name.as_str(), pairs[1].kind, pairs[1].direction), ("cVip", Kind::Task, Direction::Both));
    }

    #[test]
    fn what_is_unknown_is_named_with_the_nearest() {
        let all = wrong(&json!([
            {"kind": "meeting", "espo": "cA", "outlok": "location"},
            {"kind": "meeting", "espo": "cA", "outlook": "locaton"},
            {"kind": "metting", "espo": "cA", "outlook": "location"},
            {"kind": "meeting", "espo": "cA", "outlook": "location", "direction": "espo_to_outlok"},
        ]));
        for part in [
            "pairs[0]: unknown key outlok; did you mean outlook?",
            "outlook is missing",
            "pairs[1]: unknown outlook part locaton; did you mean location?",
            "`metting`",
            "did you mean espo_to_outlook?",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }

    #[test]
    fn what_cannot_be_paired_is_refused() {
        for (entry, part) in [
            (json!({"kind": "task", "espo": "cA", "outlook": "location"}), "To Do"),
            (json!({"kind": "meeting", "espo": "name", "outlook": "location"}), "by itself"),
            (json!({"kind": "meeting", "espo": "cA", "outlook": "location", "name": "title"}), "by itself"),
            (json!({"kind": "meeting", "espo": "cA", "outlook": "category:"}), "needs a name"),
        ] {
            let why = wrong(&json!([entry]));
            assert!(why.contains(part), "{why}");
        }
        let twice = json!([{"kind": "meeting", "espo": "cA", "outlook": "location"}, {"kind": "meeting", "espo": "cA", "outlook": "showAs", "name": "b"}]);
        assert!(wrong(&twice).contains("already"), "{}", wrong(&twice));
    }
}
