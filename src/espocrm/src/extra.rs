//! Attributes of configured pairs.
//!
//! Facts (EspoCRM 9.3): an empty varchar is null; a bool is never null in answers of entities that have it; an enum takes its
//! own options only, and whether null is one of them is up to the entity.

use serde_json::{Map, Value as Json};
use sync::{Field, Kind, Pair, Part, Value, same_word};

/// An attribute that is one half of a configured pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// The pair's name.
    pub name: String,
    /// The attribute.
    pub attribute: String,
    /// What it is beside.
    pub outlook: Part,
    /// What it holds.
    pub form: Form,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A yes or no.
    Flag,
    /// A text of at most so many characters.
    Text {
        /// Any number when none is said.
        max: Option<usize>,
    },
    /// One of these.
    Option(Vec<String>),
    /// A number.
    Number,
}

impl Extra {
    /// The field.
    #[must_use]
    pub fn field(&self) -> Field {
        Field::Extra(self.name.clone())
    }

    /// The value of an attribute. None where it means nothing on the other side: it is left alone.
    pub(crate) fn read(&self, json: &Json) -> Option<Value> {
        let text = match (json, &self.form) {
            (Json::Bool(flag), Form::Flag) => return Some(Value::Flag(*flag)),
            (Json::Null, Form::Flag) => return Some(Value::Flag(false)),
            (Json::Null, _) => String::new(),
            (Json::String(text), _) => text.clone(),
            (Json::Number(number), _) => number.to_string(),
            _ => return None,
        };
        match (self.outlook.words(), text.is_empty()) {
            (Some(_), true) => None,
            (Some(_), false) => self.outlook.word(&text).map(|word| Value::Text(word.to_owned())),
            (None, _) => Some(Value::Text(text)),
        }
    }

    /// A value as the attribute takes it. None where it cannot hold it.
    pub(crate) fn write(&self, value: &Value) -> Option<Json> {
        match (value, &self.form) {
            (Value::Flag(flag), Form::Flag) => Some((*flag).into()),
            (Value::Text(text), form) if text.is_empty() => (*form != Form::Flag).then_some(Json::Null),
            (Value::Text(text), Form::Text { max }) => {
                Some(text.chars().take(max.unwrap_or(usize::MAX)).collect::<String>().into())
            }
            (Value::Text(text), Form::Option(options)) => {
                options.iter().find(|option| same_word(option, text)).map(|option| option.as_str().into())
            }
            (Value::Text(text), Form::Number) => {
                serde_json::from_str::<serde_json::Number>(text.trim()).ok().map(Json::Number)
            }
            _ => None,
        }
    }
}

/// The attributes of the pairs of a kind, and why the others cannot be used.
pub(crate) fn of(kind: Kind, pairs: &[Pair], fields: &Map<String, Json>) -> (Vec<Extra>, Vec<String>) {
    let (mut extras, mut unusable) = (Vec::new(), Vec::new());
    for pair in pairs.iter().filter(|pair| pair.kind == kind) {
        match form(pair, fields.get(&pair.espo)) {
            Ok(form) => extras.push(Extra {
                name: pair.name.clone(),
                attribute: pair.espo.clone(),
                outlook: pair.outlook.clone(),
                form,
            }),
            Err(why) => unusable.push(format!("The pair {} is not synchronised: {} {why}.", pair.name, kind.entity())),
        }
    }
    (extras, unusable)
}

fn form(pair: &Pair, field: Option<&Json>) -> Result<Form, String> {
    let name = &pair.espo;
    let flag = |key: &str| field.and_then(|field| field.get(key)?.as_bool()).unwrap_or(false);
    let Some(field) = field.filter(|_| !flag("disabled") && !flag("notStorable")) else {
        return Err(format!("has no attribute {name} in EspoCRM"));
    };
    let kind = field.get("type").and_then(Json::as_str).unwrap_or("varchar");
    let max = field.get("maxLength").and_then(Json::as_u64).and_then(|max| usize::try_from(max).ok());
    let options = || {
        field
            .get("options")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect()
    };
    let form = match kind {
        "bool" => Form::Flag,
        "int" | "float" | "currency" => Form::Number,
        "enum" => Form::Option(options()),
        "varchar" | "text" | "url" | "date" | "datetime" | "wysiwyg" | "number" | "barcode" => Form::Text { max },
        other => return Err(format!("has {name} as {other}, which cannot be paired")),
    };
    match (&pair.outlook, &form) {
        (Part::Category(_), Form::Flag) => Ok(form),
        (Part::Category(_), _) => Err(format!("has {name} as {kind}; beside a category it has to be a bool")),
        (_, Form::Flag) => Err(format!("has {name} as a bool, which can only be beside a category")),
        _ => Ok(form),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sync::Direction;

    use super::*;

    fn pair(espo: &str, outlook: Part) -> Pair {
        Pair { name: "p".to_owned(), kind: Kind::Meeting, espo: espo.to_owned(), outlook, direction: Direction::Both }
    }

    fn one(espo: &str, outlook: Part) -> Result<Extra, String> {
        let fields = json!({
            "cCode": {"type": "varchar", "maxLength": 5}, "cVip": {"type": "bool"}, "cRank": {"type": "enum", "options": ["Low", "Normal", "High"]},
            "cSum": {"type": "int"}, "cLink": {"type": "link"}, "cOff": {"type": "varchar", "disabled": true},
        });
        let (mut extras, mut unusable) = of(Kind::Meeting, &[pair(espo, outlook)], fields.as_object().unwrap());
        extras.pop().ok_or_else(|| unusable.pop().unwrap_or_default())
    }

    #[test]
    fn a_value_that_was_written_is_read_back() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (espo, outlook, value, json) in [
            ("cCode", Part::Property("x".to_owned()), text("AB-1"), json!("AB-1")),
            ("cCode", Part::Property("x".to_owned()), text(""), json!(null)),
            ("cVip", Part::Category("VIP".to_owned()), Value::Flag(true), json!(true)),
            ("cRank", Part::Importance, text("high"), json!("High")),
            ("cSum", Part::Property("x".to_owned()), text("12"), json!(12)),
        ] {
            let extra = one(espo, outlook).unwrap();
            assert_eq!(extra.write(&value), Some(json.clone()), "{espo}");
            assert_eq!(extra.read(&json), Some(value), "{espo}");
        }
    }

    #[test]
    fn what_means_nothing_on_the_other_side_is_left_alone() {
        assert_eq!(one("cRank", Part::ShowAs).unwrap().read(&json!("High")), None);
        assert_eq!(one("cRank", Part::Importance).unwrap().read(&json!(null)), None);
        assert_eq!(one("cSum", Part::Location).unwrap().write(&Value::Text("a room".to_owned())), None);
    }

    #[test]
    fn a_pair_that_cannot_be_used_says_why() {
        for (espo, outlook, word) in [
            ("cNone", Part::Location, "no attribute cNone"),
            ("cOff", Part::Location, "no attribute cOff"),
            ("cLink", Part::Location, "link"),
            ("cVip", Part::Location, "category"),
            ("cCode", Part::Category("x".to_owned()), "bool"),
        ] {
            let why = one(espo, outlook).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
