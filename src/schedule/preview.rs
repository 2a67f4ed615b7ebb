//! What a synchronisation would do, without doing it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use store::bindings::{self, BindingState};
use store::links;
use sync::{Action, Cause, Direction, Field, Item, Kind, Plan, Record, Seen, Series, Side, Value, Verdict};

use super::mailbox::window;
use crate::app::App;
use crate::work::context::Context;
use crate::work::error::WorkError;
use crate::work::execute::seen_by_owner;
use crate::work::items;
use crate::work::locks::Locks;
use crate::work::reconcile::{Task, fingerprint_of, is_unchanged};

/// Rows per page.
const PAGE: u32 = 200;

/// What would be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Records and items that would be created.
    pub creates: u64,
    /// Pairs that would be changed.
    pub updates: u64,
    /// Records and items that would be deleted.
    pub deletes: u64,
    /// Ends that would be paired because they are equal.
    pub matches: u64,
    /// Ends that would be left alone.
    pub skips: u64,
    /// Invitations that Exchange would send.
    pub invitations: u64,
}

/// In total and per user.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Previews {
    /// The sum.
    #[serde(flatten)]
    pub total: Preview,
    /// By EspoCRM id.
    pub users: BTreeMap<String, Preview>,
}

impl Preview {
    fn add(&mut self, other: &Self) {
        self.creates += other.creates;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.matches += other.matches;
        self.skips += other.skips;
        self.invitations += other.invitations;
    }

    fn update(&mut self, side: Side, to: Option<Side>) {
        if to.is_none_or(|to| to == side) {
            self.updates += 1;
        } else {
            self.skips += 1;
        }
    }

    fn count(&mut self, plan: &Plan, invited: usize, to: Option<Side>) {
        let wanted = |action: &&Action| to.is_none_or(|to| to == action.side());
        match (plan.steps.first().map(|step| &step.action).filter(wanted), &plan.verdict) {
            (Some(Action::CreateItem { writes }), _) => {
                self.creates += 1;
                if writes.contains_key(&Field::Participants) {
                    self.invitations += invited as u64;
                }
            }
            (Some(Action::CreateRecord { .. }), _) => self.creates += 1,
            (Some(Action::UpdateItem { .. } | Action::UpdateRecord { .. }), _) => self.updates += 1,
            (Some(Action::DeleteItem | Action::DeleteRecord), _) | (None, Verdict::Wait { .. }) => self.deletes += 1,
            (Some(Action::Respond { .. }), _) => self.updates += 1,
            (None, _) => self.skips += 1,
        }
    }
}

/// For everybody who is bound, or for one user; of both directions, or of what goes to one side.
///
/// # Errors
/// When the ends cannot be read.
pub async fn of_all(app: &App, user: Option<&str>, kinds: &[Kind], to: Option<Side>) -> Result<Previews, WorkError> {
    let mut previews = Previews::default();
    for binding in bindings::enabled_in(app.store().read(), &[BindingState::Active]).await? {
        if user.is_none_or(|user| user == binding.user_id) {
            let preview = of_user(app, &binding.user_id, kinds, to).await?;
            previews.total.add(&preview);
            previews.users.insert(binding.user_id, preview);
        }
    }
    Ok(previews)
}

/// For one user.
///
/// # Errors
/// When the ends cannot be read.
pub async fn of_user(app: &App, user: &str, kinds: &[Kind], to: Option<Side>) -> Result<Preview, WorkError> {
    let context = Context::of(app, Some(user)).await?;
    let Some(binding) = context.binding.clone() else { return Ok(Preview::default()) };
    let mailbox = context.mailbox()?;
    let locks = Locks::default();
    let task = Task { app, locks: &locks, cause: Cause::FirstSync, received: context.now(), version: None, unit: None };
    let mut preview = Preview::default();
    let (start, end) = window(app, &binding, context.now());
    let events = kinds.iter().any(|kind| kind.is_event());
    let items = if events { context.graph.window(&mailbox, start, end).await? } else { Vec::new() };
    let tasks = if kinds.contains(&Kind::Task) && context.rules.of(Kind::Task).direction != Direction::Disabled {
        items::all_tasks(&context, &mailbox).await?
    } else {
        Vec::new()
    };
    let items: Vec<Item> = items
        .into_iter()
        .chain(tasks)
        .map(|item| seen_by_owner(&context, item))
        .map(|item| Item { kind: context.kind_of(&item), ..item })
        .filter(|item| item.series != Series::Master && kinds.contains(&item.kind))
        .collect();
    let mut records: Vec<Record> = Vec::new();
    for kind in kinds.iter().filter(|kind| context.rules.of(**kind).direction != Direction::Disabled) {
        let mut after = None;
        loop {
            let page = context
                .espo
                .client
                .owned(&context.schema, *kind, user, binding.sync_from, after.as_ref(), PAGE)
                .await?;
            records.extend(page.items.into_iter().map(|fetched| fetched.record));
            after = page.last;
            if !page.more {
                break;
            }
        }
    }
    let print = |kind: Kind, values: &sync::Values| fingerprint_of(&context, user, kind, values);
    let mut free_items: BTreeSet<String> = BTreeSet::new();
    for item in &items {
        if links::by_item(app.store().read(), user, &item.id).await?.is_none() {
            free_items.insert(print(item.kind, &item.values));
        }
    }
    let mut matched = BTreeSet::new();
    for record in records {
        let fingerprint = print(record.kind, &record.values);
        let invited =
            record.values.get(&Field::Participants).and_then(Value::as_people).map_or(0, |people| people.0.len());
        match links::by_record(app.store().read(), record.kind, &record.id).await? {
            Some(link) if is_unchanged(&link, Side::Espo, &record.values) => preview.skips += 1,
            Some(_) => preview.update(Side::Outlook, to),
            None if free_items.contains(&fingerprint) && matched.insert(fingerprint) => preview.matches += 1,
            None => {
                let plan =
                    task.decide_at(&context, None, &Seen::Present(record), &Seen::Unknown, context.now()).await?;
                preview.count(&plan, invited, to);
            }
        }
    }
    for item in items {
        match links::by_item(app.store().read(), user, &item.id).await? {
            Some(link) if is_unchanged(&link, Side::Outlook, &item.values) => preview.skips += 1,
            Some(_) => preview.update(Side::Espo, to),
            None if matched.contains(&print(item.kind, &item.values)) => {}
            None => {
                let plan = task.decide_at(&context, None, &Seen::Unknown, &Seen::Present(item), context.now()).await?;
                preview.count(&plan, 0, to);
            }
        }
    }
    Ok(preview)
}
