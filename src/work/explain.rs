//! What was done: the history entries of a plan that was tried.

use store::history::{ChangeType, Entry, FieldChange};
use sync::{Action, Link, Outcome, Plan, Values};

use super::context::Context;
use super::reconcile::Task;

/// The history entries of a plan that was tried: one for each step that was carried out.
#[must_use]
pub fn entries(
    task: &Task<'_>,
    context: &Context,
    before: &Link,
    after: &Link,
    plan: &Plan,
    outcomes: &[Outcome],
) -> Vec<Entry> {
    let entry = |(step, outcome): (&sync::Step, &Outcome)| {
        let (shown, gone) = match outcome {
            Outcome::Record(record) => (Some(&record.values), false),
            Outcome::Item(item) => (Some(&item.values), false),
            Outcome::Deleted => (None, true),
            Outcome::Stale | Outcome::Refused(_) | Outcome::Unsure | Outcome::Answered => return None,
        };
        let (change_type, changes) = changes(before, &step.action, shown, gone);
        let id = context.app.ids().next();
        Some(Entry {
            id,
            at: context.now(),
            cause: task.cause,
            direction: step.action.side().into(),
            kind: after.kind,
            change_type,
            user_id: Some(after.owner.clone()),
            link_id: Some(after.id.clone()),
            record_id: after.record_id.clone().or_else(|| before.record_id.clone()),
            item_id: after.master().or_else(|| before.master()).map(|replica| replica.item_id.clone()),
            changes,
            reverted_by: None,
            revert_of: None,
        })
    };
    plan.steps.iter().zip(outcomes).filter_map(entry).collect()
}

fn changes(before: &Link, action: &Action, shown: Option<&Values>, gone: bool) -> (ChangeType, Vec<FieldChange>) {
    if gone {
        let side = action.side();
        let lost = |(field, agreed): (&sync::Field, &sync::Agreed)| FieldChange {
            field: field.clone(),
            old: Some(agreed.on(side).clone()),
            new: None,
            lost: None,
            other: Some(agreed.on(side.other()).clone()),
        };
        return (ChangeType::Delete, before.base.iter().map(lost).collect());
    }
    let change_type = match action {
        Action::CreateItem { .. } | Action::CreateRecord { .. } => ChangeType::Create,
        _ => ChangeType::Update,
    };
    // A field that the written end does not show was not written: a place where the entity has no field for it.
    let change = |(field, write): (&sync::Field, &sync::Write)| {
        let new = shown.map_or(Some(&write.value), |values| values.get(field))?.clone();
        let agreed = before.base.get(field).filter(|_| change_type == ChangeType::Update);
        let other = agreed.map(|agreed| agreed.on(action.side().other()).clone());
        let (old, lost) = (write.old.clone(), write.lost.clone());
        Some(FieldChange { field: field.clone(), old, new: Some(new), lost, other })
    };
    (change_type, action.writes().into_iter().flatten().filter_map(change).collect())
}
