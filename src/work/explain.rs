//! What was done: the history entries of a plan that was tried.

use store::history::{ChangeType, Entry, FieldChange};
use sync::{Action, Agreed, Field, Item, Link, Outcome, Plan, PrivateEvents, Record, Side, Values};

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
    (outcomes, seen): (&[Outcome], (Option<&Record>, Option<&Item>)),
) -> Vec<Entry> {
    let entry = |(step, outcome): (&sync::Step, &Outcome)| {
        let (shown, gone) = match outcome {
            Outcome::Record(record) => (Some(&record.values), false),
            Outcome::Item(item) => (Some(&item.values), false),
            Outcome::Deleted => (None, true),
            Outcome::Stale | Outcome::Refused(_) | Outcome::Unsure | Outcome::Answered => return None,
        };
        let (change_type, changes) = if gone {
            let values = last_values(context, step.action.side(), seen);
            (ChangeType::Delete, deleted(before, step.action.side(), values))
        } else {
            changes(before, &step.action, shown)
        };
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

/// What the end that was deleted showed last, as far as its user lets it be kept.
fn last_values<'a>(
    context: &Context,
    side: Side,
    (record, item): (Option<&'a Record>, Option<&'a Item>),
) -> Option<&'a Values> {
    match side {
        Side::Espo => record.map(|record| &record.values),
        Side::Outlook => item
            .filter(|item| !item.private || context.rules.private_events == PrivateEvents::Full)
            .map(|item| &item.values),
    }
}

/// The fields of an end that was deleted. What was edited there since the last agreement has lost against the deletion.
fn deleted(before: &Link, side: Side, values: Option<&Values>) -> Vec<FieldChange> {
    let lost = |(field, agreed): (&Field, &Agreed)| {
        let agreed_value = agreed.on(side);
        let last = values.and_then(|values| values.get(field)).unwrap_or(agreed_value);
        // Answers and reminders come and go by themselves, files are not in history.
        let lasting = !matches!(field, Field::Participants | Field::Reminder | Field::Attachments);
        let edited = (lasting && last != agreed_value).then(|| last.clone());
        FieldChange {
            field: field.clone(),
            other: edited.is_none().then(|| agreed.on(side.other()).clone()),
            old: Some(edited.clone().unwrap_or_else(|| agreed_value.clone())),
            new: None,
            lost: edited,
        }
    };
    before.base.iter().map(lost).collect()
}

fn changes(before: &Link, action: &Action, shown: Option<&Values>) -> (ChangeType, Vec<FieldChange>) {
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
