//! Taking a change back: what it takes, given how the two ends look now.
//!
//! An update is put back on both sides in one plan, and the base moves with it through [`crate::absorb`], so that the next
//! look finds nothing to do and nothing travels back. The side that was written gets the value that stood there (for a
//! conflict that is the value that lost); the side from which the change came gets the value that it had then, where history
//! knows it and it still says the same, else what the other's value looks like there.
//!
//! Taking back is asked for by a person. So it does not depend on whether a rule would let the written side be written today:
//! whatever was written by mistake can be taken back after the direction was switched off. The other side is written only
//! where the direction allows it.

use crate::decide::{barred, is_outside, keeps_due, masked, one_way, projection};
use crate::{
    Action, Agreed, Field, Kind, People, Person, Plan, Projection, Reason, Side, Step, Value, Values, Verdict, View,
    When, Write, Writes, agree, project,
};

/// One field of a change that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// The field.
    pub field: Field,
    /// What stood on the written side before.
    pub old: Option<Value>,
    /// What was written.
    pub new: Option<Value>,
    /// What had been agreed before on the other side, where that is known: the richer side's own value of a lossy pair.
    pub other: Option<Value>,
}

/// Why a change is not taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Somebody has changed it since.
    #[error("{} changed in {} since; force the revert to overwrite that", list(.fields), name(*.side))]
    ChangedSince {
        /// The side that was written.
        side: Side,
        /// The fields.
        fields: Vec<Field>,
    },
    /// An end is not there.
    #[error("the other change cannot be taken back: it is gone in {}; revert its deletion first", name(*.0))]
    Gone(Side),
    /// It is as it was before.
    #[error("there is nothing to take back: everything is as it was before")]
    NothingToDo,
}

const fn name(side: Side) -> &'static str {
    match side {
        Side::Espo => "EspoCRM",
        Side::Outlook => "Outlook",
    }
}

fn list(fields: &[Field]) -> String {
    fields.iter().map(Field::as_str).collect::<Vec<_>>().join(", ")
}

/// The writes that take an update of the `written` side back.
///
/// # Errors
/// When an end is gone, when the written side was changed since (unless forced), or when everything is as it was.
pub fn revert_update(view: &View<'_>, written: Side, undo: &[Undo], force: bool) -> Result<Plan, Obstacle> {
    let record = view.record.present().ok_or(Obstacle::Gone(Side::Espo))?;
    let item = view.item.present().ok_or(Obstacle::Gone(Side::Outlook))?;
    let (espo, outlook) = (&record.values, masked(item, view.rules));
    let (here, there) = match written {
        Side::Espo => (espo, &outlook),
        Side::Outlook => (&outlook, espo),
    };
    let fields = if force { Vec::new() } else { changed_since(here, undo, true) };
    if !fields.is_empty() {
        return Err(Obstacle::ChangedSince { side: written, fields });
    }
    let kind = view.link.map_or(record.kind, |link| link.kind);
    let direction = view.rules.of(kind).direction;
    let direction = if is_outside(view, item) { one_way(direction) } else { direction };
    let projection = projection(view);
    let mut plan = Plan::nothing(Verdict::Write);
    let (mut to_written, mut to_source) = (Writes::new(), Writes::new());
    // The contents of files are not in history: nothing could bring one back.
    for one in undo.iter().filter(|one| one.field != Field::Attachments) {
        let (Some(old), Some(now)) = (&one.old, here.get(&one.field)) else { continue };
        let bar = |side: Side, value: &Value| match value {
            Value::Time(When::Due { due: None, .. }) => {
                (side == Side::Outlook && keeps_due(item)).then_some(Reason::RepeatingTask)
            }
            Value::Time(when) => {
                (side == Side::Outlook && when.ends_before_it_starts()).then_some(Reason::EndsBeforeItStarts)
            }
            _ if side == Side::Outlook => barred(view, record, item, &one.field),
            _ => None,
        };
        let back = as_answered_now(old, now);
        if let Some(reason) = bar(written, &back).filter(|_| back != *now) {
            plan.notes.push(reason);
            continue;
        }
        let source = written.other();
        let source_now = there.get(&one.field);
        let source_back = source_now
            .map(|now| as_answered_now(&on_source(kind, written, one, old, now, &projection), now))
            .filter(|_| direction.allows_to(source))
            .filter(|value| bar(source, value).is_none());
        let source_after = source_back.as_ref().or(source_now);
        if back != *now {
            let pair = source_after.unwrap_or(&back).clone();
            to_written.insert(
                one.field.clone(),
                Write { value: back.clone(), source: pair, old: Some(now.clone()), lost: None },
            );
        }
        match (source_back, source_now) {
            (Some(value), Some(now)) if value != *now => {
                let write = Write { value, source: back, old: Some(now.clone()), lost: None };
                to_source.insert(one.field.clone(), write);
            }
            (_, Some(source)) if back == *now => {
                let agreed = match written {
                    Side::Espo => Agreed { espo: back, outlook: source.clone() },
                    Side::Outlook => Agreed { espo: source.clone(), outlook: back },
                };
                plan.agreed.insert(one.field.clone(), agreed);
            }
            _ => {}
        }
    }
    for (side, writes) in [(written, to_written), (written.other(), to_source)] {
        if !writes.is_empty() {
            let action = match side {
                Side::Espo => Action::UpdateRecord { writes },
                Side::Outlook => Action::UpdateItem { writes },
            };
            plan.steps.push(Step { action, reason: Reason::Reverted });
        }
    }
    if plan.steps.is_empty() { Err(Obstacle::NothingToDo) } else { Ok(plan) }
}

/// The deletions that take a creation back: of what was created on these sides, and still looks as it was created.
///
/// # Errors
/// When it was changed since (unless forced).
pub fn revert_create(created: &[(Side, &Values, &[Undo])], force: bool) -> Result<Plan, Obstacle> {
    for (side, values, undo) in created {
        let fields = if force { Vec::new() } else { changed_since(values, undo, false) };
        if !fields.is_empty() {
            return Err(Obstacle::ChangedSince { side: *side, fields });
        }
    }
    let step = |(side, ..): &(Side, &Values, &[Undo])| {
        let action = match side {
            Side::Espo => Action::DeleteRecord,
            Side::Outlook => Action::DeleteItem,
        };
        Step { action, reason: Reason::Reverted }
    };
    Ok(Plan { steps: created.iter().map(step).collect(), ..Plan::nothing(Verdict::Write) })
}

/// The values with which a record that is gone comes back, after a deletion on the `written` side.
#[must_use]
pub fn revived(kind: Kind, written: Side, undo: &[Undo], projection: &Projection) -> Writes {
    let write = |one: &Undo| {
        let old = one.old.as_ref()?;
        let other = || project(kind, &one.field, old, written.other(), projection);
        let other = one.other.clone().unwrap_or_else(other);
        let (espo, outlook) = match written {
            Side::Espo => (old.clone(), other),
            Side::Outlook => (other, old.clone()),
        };
        Some((one.field.clone(), Write { value: espo, source: outlook, old: None, lost: None }))
    };
    undo.iter().filter(|one| one.field != Field::Attachments).filter_map(write).collect()
}

/// The fields of which the written side shows neither what was written nor what stood there before. Answers come by
/// themselves, so participants count by their addresses, and of what was created as a whole the reminder is its owner's.
fn changed_since(values: &Values, undo: &[Undo], reminder: bool) -> Vec<Field> {
    let changed = |one: &&Undo| {
        let (Some(now), Some(new)) = (values.get(&one.field), &one.new) else { return false };
        (reminder || one.field != Field::Reminder)
            && one.field != Field::Attachments
            && !same(now, new)
            && !one.old.as_ref().is_some_and(|old| same(now, old))
    };
    undo.iter().filter(changed).map(|one| one.field.clone()).collect()
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::People(one), Value::People(other)) => one.same_addresses(other),
        _ => one == other,
    }
}

/// What the side from which the change came had before.
fn on_source(kind: Kind, written: Side, one: &Undo, old: &Value, now: &Value, with: &Projection) -> Value {
    let agrees = |value: &Value| match (written, value, old) {
        (_, Value::People(value), Value::People(old)) => value.same_addresses(old),
        (Side::Espo, ..) => agree(kind, &one.field, old, value, with),
        (Side::Outlook, ..) => agree(kind, &one.field, value, old, with),
    };
    match &one.other {
        Some(other) if agrees(other) => other.clone(),
        None if agrees(now) => now.clone(),
        _ => project(kind, &one.field, old, written.other(), with),
    }
}

/// People as they were before, with the answers that they have given by now.
fn as_answered_now(old: &Value, now: &Value) -> Value {
    let (Value::People(old), Value::People(now)) = (old, now) else { return old.clone() };
    let answered =
        |(address, person): (&String, &Person)| (address.clone(), now.0.get(address).unwrap_or(person).clone());
    Value::People(People(old.0.iter().map(answered).collect()))
}
