//! [`absorb`]: the link after what was planned has been tried.
//!
//! The base is rewritten from confirmed outcomes alone. A write whose answer was lost leaves the base as it was: the next
//! look sees what became of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};

use crate::decide::{SWINGS, projection};
use crate::{
    Action, Agreed, Field, Item, Link, LinkState, Plan, Reason, Record, Replica, ReplicaRole, Role, Seen, Series, Side,
    Status, Swing, Value, Verdict, View, Write, Writes, agree,
};

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The record was written; this is how it looks now.
    Record(Box<Record>),
    /// The item was written; this is how it looks now.
    Item(Box<Item>),
    /// The end was deleted, or was gone already.
    Deleted,
    /// The answer was sent from the participant's own mailbox.
    Answered,
    /// The end has changed since it was seen (412, 409): look and decide again.
    Stale,
    /// The other system refused for good.
    Refused(Refusal),
    /// Sent, and no answer came: it may or may not have happened.
    Unsure,
}

/// A refusal, in words that an administrator can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 0 if none.
    pub status: u16,
    /// What was said, and the remedy.
    pub sentence: String,
}

/// The link after the plan was tried. `outcomes` belong to the plan's steps in order; steps that were not reached have none.
#[must_use]
pub fn absorb(mut link: Link, view: &View<'_>, plan: &Plan, outcomes: &[Outcome]) -> Link {
    let now = view.now;
    if let Some(record) = view.record.present() {
        link.record_id = Some(record.id.clone());
        link.record_modified = Some(record.modified);
        link.switched_off = record.switch == Some(false);
    }
    if let Some(item) = view.item.present() {
        note_item(&mut link, item);
    }
    for (field, agreed) in &plan.agreed {
        link.base.insert(field.clone(), agreed.clone());
    }
    match &plan.verdict {
        Verdict::Wait { gone, .. } if !matches!(link.state, LinkState::Deleting { gone: known, .. } if known == *gone) =>
        {
            link.state = LinkState::Deleting { gone: *gone, since: now };
        }
        Verdict::Bury(_) if !outcomes.iter().any(|outcome| matches!(outcome, Outcome::Stale | Outcome::Unsure)) => {
            link.state = LinkState::Tombstone { since: now };
            if plan.verdict == Verdict::Bury(Reason::OwnCopyGone) {
                // A new invitation to the same meeting has another id.
                let owner = link.owner.clone();
                link.replicas.retain(|replica| replica.user != owner);
            }
        }
        Verdict::InStep | Verdict::Write
            if view.record.present().is_some() && view.item.present().is_some() && !link.is_buried() =>
        {
            link.state = LinkState::Live;
        }
        _ => {}
    }
    note_gone(&mut link, Side::Espo, view.record);
    note_gone(&mut link, Side::Outlook, view.item);
    for (step, outcome) in plan.steps.iter().zip(outcomes) {
        apply(&mut link, &step.action, outcome, now);
    }
    note_not_held(&mut link, plan, outcomes);
    note_files(&mut link, view, plan, outcomes);
    rebase(&mut link, view, plan, outcomes);
    agree_on_the_rest(&mut link, view, plan, outcomes);
    note_sent(&mut link, view, plan, outcomes);
    prune(&mut link, now);
    if !outcomes.iter().any(|outcome| matches!(outcome, Outcome::Stale | Outcome::Unsure)) {
        note_read(&mut link, view);
    }
    link
}

/// What was cancelled because it was not held comes back when it is planned again.
fn note_not_held(link: &mut Link, plan: &Plan, outcomes: &[Outcome]) {
    let mut tried = plan.steps.iter().zip(outcomes);
    if tried.any(|(step, outcome)| step.reason == Reason::NotHeld && *outcome == Outcome::Deleted) {
        let (espo, outlook) = (Value::Status(Status::NotHeld), Value::Status(Status::Cancelled));
        link.base.insert(Field::Status, Agreed { espo, outlook });
    }
}

fn note_gone<T>(link: &mut Link, side: Side, seen: &Seen<T>) {
    match seen {
        Seen::Gone => drop(link.gone.insert(side)),
        Seen::Present(_) => drop(link.gone.remove(&side)),
        Seen::Unknown => {}
    }
}

/// Which file each id is, as it was seen and then as it was written.
fn note_files(link: &mut Link, view: &View<'_>, plan: &Plan, outcomes: &[Outcome]) {
    if let Some(record) = view.record.present() {
        link.note_files(Side::Espo, &record.values);
    }
    if let Some(item) = view.item.present() {
        link.note_files(Side::Outlook, &item.values);
    }
    for (step, outcome) in plan.steps.iter().zip(outcomes) {
        if step.action.writes().is_some_and(|writes| writes.contains_key(&Field::Attachments)) {
            match outcome {
                Outcome::Record(record) => link.note_files(Side::Espo, &record.values),
                Outcome::Item(item) => link.note_files(Side::Outlook, &item.values),
                _ => {}
            }
        }
    }
}

/// What was sent is remembered only where it may be on its way still.
fn note_sent(link: &mut Link, view: &View<'_>, plan: &Plan, outcomes: &[Outcome]) {
    let unsure = |side: Side| {
        let mut tried = plan.steps.iter().zip(outcomes);
        tried.any(|(step, outcome)| step.action.side() == side && *outcome == Outcome::Unsure)
    };
    let unseen = |side: Side| match side {
        Side::Espo => *view.record == Seen::Unknown,
        Side::Outlook => *view.item == Seen::Unknown,
    };
    link.sent.retain(|side, _| unsure(*side) || unseen(*side));
}

/// From now on hints that are older than this look have nothing to tell.
fn note_read(link: &mut Link, view: &View<'_>) {
    let (record, item) = (*view.record != Seen::Unknown, *view.item != Seen::Unknown);
    if record {
        link.record_read = Some(view.now);
    }
    if item {
        link.item_read = Some(view.now);
    }
    if record && item {
        link.reconciled = Some(view.now);
    }
}

fn apply(link: &mut Link, action: &Action, outcome: &Outcome, now: DateTime<Utc>) {
    match (action, outcome) {
        (Action::CreateItem { writes } | Action::UpdateItem { writes }, Outcome::Item(item)) => {
            if matches!(action, Action::CreateItem { .. }) {
                // A new end owes nothing to what was agreed with the one before it.
                link.base.clear();
                link.replicas.retain(|replica| replica.role == ReplicaRole::Attendee);
                link.gone.clear();
                link.state = LinkState::Live;
            }
            note_item(link, item);
            swing(link, action, writes, now);
        }
        (Action::CreateRecord { writes, .. } | Action::UpdateRecord { writes }, Outcome::Record(record)) => {
            link.record_id = Some(record.id.clone());
            link.record_modified = Some(record.modified);
            if matches!(action, Action::CreateRecord { .. }) {
                link.base.clear();
                link.gone.clear();
                link.state = LinkState::Live;
            }
            swing(link, action, writes, now);
        }
        (Action::Respond { address, answer }, Outcome::Answered) => {
            if let Some(Agreed { espo: Value::People(espo), outlook: Value::People(outlook) }) =
                link.base.get_mut(&Field::Participants)
            {
                for people in [espo, outlook] {
                    if let Some(person) = people.0.get_mut(address) {
                        person.answer = *answer;
                    }
                }
            }
        }
        (Action::DeleteItem | Action::DeleteRecord, Outcome::Deleted) => {
            link.gone.insert(action.side());
            link.state = LinkState::Tombstone { since: now };
        }
        _ => {}
    }
}

/// Takes over what an item says of itself: its id, its copies' common id, its version.
fn note_item(link: &mut Link, item: &Item) {
    if link.ical_uid.is_none() {
        link.ical_uid.clone_from(&item.ical_uid);
    }
    if let Series::Occurrence { master, original_start } = &item.series {
        link.occurrence = Some((master.clone(), *original_start));
    }
    link.outside = matches!(item.role, Role::Attendee { .. }) && link.owner == item.user;
    match link.replicas.iter_mut().find(|replica| replica.user == item.user) {
        Some(replica) => {
            replica.item_id.clone_from(&item.id);
            replica.etag.clone_from(&item.etag);
            replica.list.clone_from(&item.list);
        }
        None => {
            let role = if link.owner == item.user { ReplicaRole::Master } else { ReplicaRole::Attendee };
            let (user, item_id) = (item.user.clone(), item.id.clone());
            link.replicas.push(Replica {
                user,
                item_id,
                list: item.list.clone(),
                role,
                etag: item.etag.clone(),
                written: None,
            });
        }
    }
}

/// The written pair becomes the base. What the target shows counts, not what was sent: a server may have its own form of it.
/// A field that was to be written on both sides (participants) moves only when both writes are confirmed.
fn rebase(link: &mut Link, view: &View<'_>, plan: &Plan, outcomes: &[Outcome]) {
    let mut shown: BTreeMap<&Field, Vec<(Side, Value, &Write)>> = BTreeMap::new();
    for (step, outcome) in plan.steps.iter().zip(outcomes) {
        let values = match outcome {
            Outcome::Record(record) => &record.values,
            Outcome::Item(item) => &item.values,
            _ => continue,
        };
        for (field, write) in step.action.writes().into_iter().flatten() {
            // What the target does not show is not in step: a place where the entity has no field for it.
            if let Some(value) = values.get(field) {
                shown.entry(field).or_default().push((step.action.side(), value.clone(), write));
            }
        }
    }
    for (field, written) in shown {
        let planned =
            plan.steps.iter().filter(|step| step.action.writes().is_some_and(|writes| writes.contains_key(field)));
        if planned.count() != written.len() {
            continue;
        }
        let on = |side: Side| {
            let own = written.iter().find(|(target, ..)| *target == side).map(|(_, value, _)| value.clone());
            own.or_else(|| written.first().map(|(_, _, write)| write.source.clone()))
        };
        if let (Some(mut espo), Some(outlook)) = (on(Side::Espo), on(Side::Outlook)) {
            for (_, _, write) in written.iter().filter(|(side, ..)| *side == Side::Outlook) {
                leave_unsent(&mut espo, &outlook, write, view);
            }
            link.base.insert(field.clone(), Agreed { espo, outlook });
        }
    }
}

/// What a new item shows by itself, such as that it stands, and the record says as well: else the next look at the record would
/// take it for news.
fn agree_on_the_rest(link: &mut Link, view: &View<'_>, plan: &Plan, outcomes: &[Outcome]) {
    let Some(record) = view.record.present() else { return };
    let with = projection(view);
    for (step, outcome) in plan.steps.iter().zip(outcomes) {
        let (Action::CreateItem { .. }, Outcome::Item(item)) = (&step.action, outcome) else { continue };
        for (field, outlook) in &item.values {
            if let Some(espo) = record.values.get(field)
                && !link.base.contains_key(field)
                && agree(link.kind, field, espo, outlook, &with)
            {
                link.base.insert(field.clone(), Agreed { espo: espo.clone(), outlook: outlook.clone() });
            }
        }
    }
}

/// Who has just been invited cannot have answered yet: what EspoCRM knows of an answer is still to be sent, once there is a
/// copy in the invited person's own mailbox.
fn leave_unsent(espo: &mut Value, outlook: &Value, write: &Write, view: &View<'_>) {
    let old = write.old.as_ref().and_then(Value::as_people);
    let (Value::People(espo), Some(outlook)) = (espo, outlook.as_people()) else { return };
    let is_new = |address: &String| old.is_none_or(|old| !old.0.contains_key(address));
    for (address, person) in espo.0.iter_mut().filter(|(address, _)| view.bound.contains(*address) && is_new(address)) {
        if let Some(invited) = outlook.0.get(address) {
            person.answer = invited.answer;
        }
    }
}

/// Remembers updates, and freezes a field that has swung between the sides too often.
fn swing(link: &mut Link, action: &Action, writes: &Writes, now: DateTime<Utc>) {
    if !matches!(action, Action::UpdateItem { .. } | Action::UpdateRecord { .. }) {
        return;
    }
    for (field, write) in writes {
        for part in parts(write) {
            link.swings.push(Swing { field: field.clone(), part: part.clone(), side: action.side(), at: now });
            if turns(link, field, part.as_ref()) > SWINGS {
                link.frozen.insert(field.clone(), now);
            }
        }
    }
}

/// The files that come or go with a write; of any other value, the whole.
fn parts(write: &Write) -> Vec<Option<String>> {
    match (&write.value, &write.old) {
        (Value::Files(new), Some(Value::Files(old))) => new.difference(old).into_iter().map(Some).collect(),
        _ => vec![None],
    }
}

/// How often the written side of a field, or of a part of it, has changed within the hour.
fn turns(link: &Link, field: &Field, part: Option<&String>) -> usize {
    let same = |swing: &&Swing| swing.field == *field && swing.part.as_ref() == part;
    let sides: Vec<Side> = link.swings.iter().filter(same).map(|swing| swing.side).collect();
    sides.windows(2).filter(|pair| pair.first() != pair.last()).count()
}

fn prune(link: &mut Link, now: DateTime<Utc>) {
    let hour = Duration::hours(1);
    link.swings.retain(|swing| now - swing.at < hour);
    link.frozen.retain(|_, since| now - *since < hour);
}
