//! Conditions of EspoCRM lists, as the query parameters `where[0][type]=…`.
//!
//! Facts (EspoCRM 9.3): at most 200 rows a page; 100 ids in one condition keep the address below the 8 kB of web servers; rows
//! of the same value are ordered by id, so that (value, id) pages without gaps.

use chrono::{DateTime, Utc};
use url::form_urlencoded::byte_serialize;

/// Most rows of a page.
pub(crate) const PAGE_MAX: u32 = 200;
/// Most values of one `in`.
pub(crate) const IN_MAX: usize = 100;

pub(crate) type Pairs = Vec<(String, String)>;

/// A condition.
#[derive(Debug, Clone)]
pub(crate) enum Where {
    /// Type, attribute, value.
    Is(&'static str, String, String),
    /// Attribute is one of the values.
    In(&'static str, Vec<String>),
    /// Attribute is null.
    Null(&'static str),
    /// Attribute is not null.
    Filled(String),
    /// A link holds one of these ids.
    Linked(&'static str, Vec<String>),
    Any(Vec<Where>),
    All(Vec<Where>),
}

impl Where {
    pub(crate) fn equals(attribute: &str, value: impl Into<String>) -> Self {
        Self::Is("equals", attribute.to_owned(), value.into())
    }

    pub(crate) fn starts_with(attribute: &str, value: impl Into<String>) -> Self {
        Self::Is("startsWith", attribute.to_owned(), value.into())
    }

    pub(crate) fn at_least(attribute: &str, value: impl Into<String>) -> Self {
        Self::Is("greaterThanOrEquals", attribute.to_owned(), value.into())
    }

    /// What follows (`attribute` = `at`, `id` = `id`) in the order of `attribute`, then id.
    pub(crate) fn beyond(attribute: &'static str, at: DateTime<Utc>, id: Option<&str>) -> Self {
        let at = moment(at);
        let Some(id) = id else { return Self::at_least(attribute, at) };
        Self::Any(vec![
            Self::Is("greaterThan", attribute.to_owned(), at.clone()),
            Self::All(vec![Self::equals(attribute, at), Self::Is("greaterThan", "id".to_owned(), id.to_owned())]),
        ])
    }

    fn write(&self, prefix: &str, pairs: &mut Pairs) {
        let mut put = |key: &str, value: &str| pairs.push((format!("{prefix}{key}"), value.to_owned()));
        match self {
            Self::Is(kind, attribute, value) => {
                put("[type]", kind);
                put("[attribute]", attribute);
                put("[value]", value);
            }
            Self::In(attribute, values) => {
                put("[type]", "in");
                put("[attribute]", attribute);
                for (index, value) in values.iter().enumerate() {
                    put(&format!("[value][{index}]"), value);
                }
            }
            Self::Null(attribute) => {
                put("[type]", "isNull");
                put("[attribute]", attribute);
            }
            Self::Filled(attribute) => {
                put("[type]", "isNotNull");
                put("[attribute]", attribute);
            }
            Self::Linked(link, ids) => {
                put("[type]", "linkedWith");
                put("[attribute]", link);
                for (index, id) in ids.iter().enumerate() {
                    put(&format!("[value][{index}]"), id);
                }
            }
            Self::Any(parts) | Self::All(parts) => {
                put("[type]", if matches!(self, Self::Any(_)) { "or" } else { "and" });
                for (index, part) in parts.iter().enumerate() {
                    part.write(&format!("{prefix}[value][{index}]"), pairs);
                }
            }
        }
    }
}

/// A list request.
#[derive(Debug, Clone)]
pub(crate) struct List {
    pub(crate) conditions: Vec<Where>,
    pub(crate) select: Vec<String>,
    pub(crate) order: Option<&'static str>,
    pub(crate) limit: u32,
    pub(crate) offset: u32,
}

impl List {
    pub(crate) fn new<S: Into<String>>(conditions: Vec<Where>, select: impl IntoIterator<Item = S>) -> Self {
        Self {
            conditions,
            select: select.into_iter().map(Into::into).collect(),
            order: None,
            limit: PAGE_MAX,
            offset: 0,
        }
    }

    pub(crate) fn pairs(&self) -> Pairs {
        let mut pairs = Pairs::new();
        for (index, condition) in self.conditions.iter().enumerate() {
            condition.write(&format!("where[{index}]"), &mut pairs);
        }
        pairs.push(("attributeSelect".to_owned(), self.select.join(",")));
        if let Some(order) = self.order {
            pairs.push(("orderBy".to_owned(), order.to_owned()));
            pairs.push(("order".to_owned(), "asc".to_owned()));
        }
        pairs.push(("maxSize".to_owned(), self.limit.clamp(1, PAGE_MAX).to_string()));
        pairs.push(("offset".to_owned(), self.offset.to_string()));
        pairs
    }
}

/// Brackets stay as they are: percent-encoded, the ids of a page would not fit into the address.
pub(crate) fn encode(pairs: &[(String, String)]) -> String {
    let one = |(key, value): &(String, String)| {
        let value: String = byte_serialize(value.as_bytes()).collect();
        format!("{key}={}", value.replace('+', "%20"))
    };
    pairs.iter().map(one).collect::<Vec<_>>().join("&")
}

/// A moment as EspoCRM writes it: UTC, to the second.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_after_a_cursor_is_asked_for_as_espocrm_understands_it() {
        let at = DateTime::from_timestamp(1_795_374_130, 0).expect("a moment");
        let mut list =
            List::new(vec![Where::beyond("modifiedAt", at, Some("6b033c320ec60751b"))], ["id", "name", "modifiedAt"]);
        list.order = Some("modifiedAt");
        list.limit = 1000;
        let expected = "where[0][type]=or&where[0][value][0][type]=greaterThan&where[0][value][0][attribute]=modifiedAt\
            &where[0][value][0][value]=2026-11-22%2019%3A02%3A10&where[0][value][1][type]=and\
            &where[0][value][1][value][0][type]=equals&where[0][value][1][value][0][attribute]=modifiedAt\
            &where[0][value][1][value][0][value]=2026-11-22%2019%3A02%3A10&where[0][value][1][value][1][type]=greaterThan\
            &where[0][value][1][value][1][attribute]=id&where[0][value][1][value][1][value]=6b033c320ec60751b\
            &attributeSelect=id%2Cname%2CmodifiedAt&orderBy=modifiedAt&order=asc&maxSize=200&offset=0";
        assert_eq!(encode(&list.pairs()), expected);
    }

    #[test]
    fn a_hundred_uuids_fit_into_the_address() {
        let ids = (0..IN_MAX).map(|n| format!("0192f0c1-7d2b-7c3e-9a10-{n:012}")).collect();
        assert!(encode(&List::new(vec![Where::In("id", ids)], ["id"]).pairs()).len() < 7000);
    }

    #[test]
    fn signs_in_a_value_are_encoded() {
        let list = List::new(vec![Where::equals("emailAddress", "a+b@x.example & c")], ["id"]);
        assert!(encode(&list.pairs()).contains("[value]=a%2Bb%40x.example%20%26%20c&"));
    }
}
