//! Pages of a list that is ordered by a moment and then by id, newest first.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition};

use crate::convert::millis;
use crate::error::{Result, StoreError};

/// Some items, and where the next ones begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// To be handed back for the next page; none when this is the last.
    pub next: Option<String>,
}

/// A place in such a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    at: i64,
    id: String,
}

impl Place {
    pub(crate) fn of(at: DateTime<Utc>, id: &str) -> Self {
        Self { at: millis(at), id: id.to_owned() }
    }

    pub(crate) fn parse(cursor: &str) -> Result<Self> {
        let parts = cursor.split_once('_').and_then(|(at, id)| Some((at.parse().ok()?, id)));
        let (at, id) = parts.ok_or_else(|| StoreError::Cursor(cursor.to_owned()))?;
        Ok(Self { at, id: id.to_owned() })
    }

    fn text(&self) -> String {
        format!("{}_{}", self.at, self.id)
    }

    /// What comes after this place in a list that is ordered backwards.
    pub(crate) fn before<C: ColumnTrait>(&self, at: C, id: C) -> Condition {
        // The first half says nothing that the second does not; by it an index is entered in the right place.
        let later = Condition::any().add(at.lt(self.at)).add(id.lt(self.id.as_str()));
        Condition::all().add(at.lte(self.at)).add(later)
    }

    /// What comes after this place in a list that is ordered forwards.
    pub(crate) fn after<C: ColumnTrait>(&self, at: C, id: C) -> Condition {
        let later = Condition::any().add(at.gt(self.at)).add(id.gt(self.id.as_str()));
        Condition::all().add(at.gte(self.at)).add(later)
    }
}

impl<T> Page<T> {
    /// A page from up to `limit + 1` items, the last of which only tells that there are more.
    pub(crate) fn cut(mut items: Vec<T>, limit: u64, place: impl Fn(&T) -> Place) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(|last| place(last).text()) } else { None };
        Self { items, next }
    }
}
