//! Configured pairs of fields: an EspoCRM attribute beside something of an Outlook item.
//!
//! A pair is a field like any other ([`crate::Field::Extra`], by the pair's name): merged three ways, kept in the base, shown in
//! history. An attribute beside a category is a yes or no, everything else is a text.

use std::fmt;

use crate::{Direction, Field, Kind, Side, Value};

/// A configured pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Its name in history, bases and reasons.
    pub name: String,
    /// Of which kind.
    pub kind: Kind,
    /// The attribute in EspoCRM.
    pub espo: String,
    /// What it is beside.
    pub outlook: Part,
    /// Which way; the kind's direction holds besides.
    pub direction: Direction,
}

impl Pair {
    /// The field.
    #[must_use]
    pub fn field(&self) -> Field {
        Field::Extra(self.name.clone())
    }
}

/// Something of an Outlook item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Whether it has a category.
    Category(String),
    /// An extended property, by its name among the public ones, or by its whole id.
    Property(String),
    /// The location of an event.
    Location,
    /// `importance` of an event.
    Importance,
    /// `sensitivity` of an event.
    Sensitivity,
    /// `showAs` of an event.
    ShowAs,
}

impl Part {
    /// The words that it may hold; none when any text will do.
    #[must_use]
    pub const fn words(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Importance => Some(&["low", "normal", "high"]),
            Self::Sensitivity => Some(&["normal", "personal", "private", "confidential"]),
            Self::ShowAs => Some(&["free", "tentative", "busy", "oof", "workingElsewhere"]),
            Self::Category(_) | Self::Property(_) | Self::Location => None,
        }
    }

    /// The word that a text means, whatever its case and spaces: `Working Elsewhere` is `workingElsewhere`.
    #[must_use]
    pub fn word(&self, text: &str) -> Option<&'static str> {
        self.words()?.iter().copied().find(|word| same_word(word, text))
    }
}

/// True for two spellings of one word.
#[must_use]
pub fn same_word(a: &str, b: &str) -> bool {
    let plain =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    plain(a) == plain(b)
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Category(name) => write!(f, "category:{name}"),
            Self::Property(name) => write!(f, "property:{name}"),
            Self::Location => f.write_str("location"),
            Self::Importance => f.write_str("importance"),
            Self::Sensitivity => f.write_str("sensitivity"),
            Self::ShowAs => f.write_str("showAs"),
        }
    }
}

/// The narrower of two directions.
#[must_use]
pub(crate) const fn narrower(one: Direction, other: Direction) -> Direction {
    match (
        one.allows_to(Side::Outlook) && other.allows_to(Side::Outlook),
        one.allows_to(Side::Espo) && other.allows_to(Side::Espo),
    ) {
        (true, true) => Direction::Both,
        (true, false) => Direction::EspoToOutlook,
        (false, true) => Direction::OutlookToEspo,
        (false, false) => Direction::Disabled,
    }
}

/// True for a value that says nothing: where a pair meets for the first time it gives way to one that says something.
#[must_use]
pub fn is_blank(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.is_empty(),
        Value::Flag(flag) => !flag,
        _ => false,
    }
}

/// A direction per configured field; a field that is not named has the kind's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directions(pub std::collections::BTreeMap<(Kind, String), Direction>);

impl Directions {
    /// The directions of pairs.
    pub fn of<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Self {
        Self(pairs.into_iter().map(|pair| ((pair.kind, pair.name.clone()), pair.direction)).collect())
    }

    /// The direction of a field where its kind has another.
    #[must_use]
    pub fn narrow(&self, kind: Kind, field: &Field, direction: Direction) -> Direction {
        let Field::Extra(name) = field else { return direction };
        self.0.get(&(kind, name.clone())).map_or(direction, |own| narrower(direction, *own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Terms;
    use crate::{Agreed, Priority, Projection, merge_field};

    fn merged(base: Option<&Agreed>, espo: &str, outlook: &str, direction: Direction) -> crate::Merged {
        let projection = Projection::default();
        let terms = Terms {
            kind: Kind::Meeting,
            direction,
            priority: Priority::Newest,
            newest: Side::Outlook,
            projection: &projection,
        };
        let text = |text: &str| Value::Text(text.to_owned());
        merge_field(&Field::Extra("code".to_owned()), base, &text(espo), &text(outlook), &terms)
    }

    #[test]
    fn where_a_pair_meets_first_the_empty_side_is_filled() {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(merged(None, "AB", "", Direction::Both).to_outlook, text("AB"));
        assert_eq!(merged(None, "", "AB", Direction::Both).to_espo, text("AB"));
        assert_eq!(merged(None, "AB", "CD", Direction::Both).to_espo, text("CD"), "both say something: priority");
    }

    #[test]
    fn one_way_the_targets_own_value_stays_until_the_source_changes() {
        let first = merged(None, "", "own", Direction::EspoToOutlook);
        assert_eq!((&first.to_espo, &first.to_outlook), (&None, &None));
        let base = first.rebase.unwrap();
        let later = merged(Some(&base), "AB", "own", Direction::EspoToOutlook);
        assert_eq!(later.to_outlook, Some(Value::Text("AB".to_owned())));
    }

    #[test]
    fn the_narrower_direction_holds() {
        use Direction::{Both, Disabled, EspoToOutlook, OutlookToEspo};
        for (one, other, expected) in [
            (Both, EspoToOutlook, EspoToOutlook),
            (OutlookToEspo, Both, OutlookToEspo),
            (EspoToOutlook, OutlookToEspo, Disabled),
            (Both, Both, Both),
        ] {
            assert_eq!((narrower(one, other), narrower(other, one)), (expected, expected));
        }
    }
}
