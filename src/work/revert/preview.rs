//! What taking changes back would do, told from history and what was last agreed: nothing is read from either system, so that
//! a thousand changes can be looked at in one go. What somebody has changed a moment ago and was not looked at yet is found
//! when it is done.

use std::collections::{BTreeMap, BTreeSet};

use store::history::{self, ChangeType, Direction, Entry, Filter};
use store::links;
use sync::{Field, Link, Obstacle, Side, Value};

use super::{PAGE, RevertError};
use crate::app::App;
use crate::work::error::{WorkError, sentence};

/// What would be taken back, the newest first, and what would not, and why.
#[derive(Debug, Default)]
pub struct Preview {
    /// These would be taken back.
    pub open: Vec<Entry>,
    /// These would not.
    pub skipped: Vec<(Entry, String)>,
    /// There are more, which were not looked at.
    pub more: bool,
}

/// Looks at the newest `limit` of the entries that fit.
///
/// # Errors
/// When the database fails.
pub async fn many(app: &App, filter: &Filter, force: bool, limit: usize) -> Result<Preview, WorkError> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    loop {
        let page = history::page(app.store().read(), filter, cursor.as_deref(), PAGE).await?;
        entries.extend(page.items);
        cursor = page.next;
        if cursor.is_none() || entries.len() >= limit {
            break;
        }
    }
    let more = cursor.is_some() || entries.len() > limit;
    entries.truncate(limit);
    let known: BTreeSet<String> = entries.iter().map(|entry| entry.id.clone()).collect();
    let mut seen = Seen::default();
    let mut preview = Preview { more, ..Preview::default() };
    for entry in entries {
        match seen.obstacle(app, &entry, &known, force).await? {
            None => preview.open.push(entry),
            Some(reason) => preview.skipped.push((entry, reason)),
        }
    }
    Ok(preview)
}

/// The values of both ends, as they would be after what was taken back before.
#[derive(Default)]
struct Seen {
    links: BTreeMap<String, Option<Link>>,
    values: BTreeMap<(String, Side, Field), Option<Value>>,
}

impl Seen {
    async fn obstacle(
        &mut self,
        app: &App,
        entry: &Entry,
        known: &BTreeSet<String>,
        force: bool,
    ) -> Result<Option<String>, WorkError> {
        if let Some(by) = &entry.reverted_by {
            return Ok(Some(sentence(&RevertError::Already(by.clone()))));
        }
        if entry.revert_of.as_ref().is_some_and(|of| known.contains(of)) {
            return Ok(Some(super::OF_THESE.to_owned()));
        }
        if entry.change_type == ChangeType::Delete {
            return Ok(None);
        }
        let Some(link) = self.link(app, entry).await? else { return Ok(None) };
        let side = match entry.direction {
            Direction::ToEspo => Side::Espo,
            Direction::ToOutlook => Side::Outlook,
        };
        let mut changed = Vec::new();
        for change in entry.changes.iter().filter(|change| change.field != Field::Attachments) {
            let place = (link.id.clone(), side, change.field.clone());
            let now = self.values.get(&place).cloned().unwrap_or_else(|| {
                let agreed = link.base.get(&change.field).map(|agreed| agreed.on(side).clone());
                agreed.or_else(|| change.new.clone())
            });
            if now != change.new {
                changed.push(change.field.clone());
            } else if entry.change_type == ChangeType::Update {
                self.values.insert(place, change.old.clone());
            }
        }
        if changed.is_empty() || force {
            return Ok(None);
        }
        Ok(Some(sentence(&Obstacle::ChangedSince { side, fields: changed })))
    }

    /// The pair, where it lives: of one that is gone both ends are looked at when it is done.
    async fn link(&mut self, app: &App, entry: &Entry) -> Result<Option<Link>, WorkError> {
        let Some(id) = &entry.link_id else { return Ok(None) };
        if !self.links.contains_key(id) {
            let found = links::by_id(app.store().read(), id).await?.filter(|link| !link.is_buried());
            self.links.insert(id.clone(), found);
        }
        Ok(self.links.get(id).cloned().flatten())
    }
}
