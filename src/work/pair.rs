//! What is told of a pair without asking anybody: whose it is, what has changed, what is intended.

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use sync::{
    Action, Agreed, Base, Field, Item, Kind, Link, LinkState, Plan, Reason, Record, Replica, ReplicaRole, Role, Seen,
    Side, Value, Verdict,
};

use super::context::Context;
use super::error::WorkError;
use super::execute::record_as_seen;

/// How late a request may arrive that was under way when the process ended or the connection broke.
pub(super) const LATE: chrono::TimeDelta = chrono::TimeDelta::seconds(3);

/// The record as the core is to see it beside the item.
pub(super) fn as_seen(context: &Context, link: &Link, item: &Seen<Item>, record: &Seen<Fetched>) -> Seen<Record> {
    let outside = item.present().map_or(link.outside, |item| is_outside(context, item));
    match record {
        Seen::Present(fetched) => Seen::Present(record_as_seen(context, outside, fetched)),
        Seen::Gone => Seen::Gone,
        Seen::Unknown => Seen::Unknown,
    }
}

/// A request that was sent before a crash may arrive after we have looked: only after a while is "not there" believed.
pub(super) fn settled(context: &Context, link: &Link, gone: Side) -> Result<(), WorkError> {
    let LinkState::Creating { side, since } = link.state else { return Ok(()) };
    if side != gone {
        return Ok(());
    }
    let left = since + LATE - context.now();
    match left.to_std() {
        Ok(after) if !after.is_zero() => Err(WorkError::TooEarly { after }),
        _ => Ok(()),
    }
}

/// The new owner of a record that was given to somebody else, where the move may be made.
pub(super) fn moved(context: &Context, link: &Link, record: &Seen<Fetched>) -> Option<String> {
    let owner = record.present()?.record.owner.clone()?;
    let ours = link.state == LinkState::Live && !link.outside && link.occurrence.is_none();
    (owner != link.owner && ours && context.rules.of(link.kind).direction.allows_to(Side::Outlook)).then_some(owner)
}

/// True for a copy of an event that nobody bound organises.
pub(super) fn is_outside(context: &Context, item: &Item) -> bool {
    matches!(&item.role, Role::Attendee { organizer } if !context.bound.contains(&sync::text::address(organizer)))
}

/// Turns the link into the intent of what the plan is going to create or change.
pub(super) fn prepare(link: &mut Link, plan: &Plan, now: DateTime<Utc>) {
    for step in &plan.steps {
        let side = step.action.side();
        if let Action::UpdateItem { writes } | Action::UpdateRecord { writes } = &step.action {
            link.base.extend(plan.agreed.clone());
            let sent = link.sent.entry(side).or_default();
            sent.extend(intended(writes, side));
            // Of what is written on both sides (participants), neither write alone brings about what is to be agreed.
            sent.retain(|field, _| !is_written_to(plan, side.other(), field));
        }
        let (Action::CreateItem { writes } | Action::CreateRecord { writes, .. }) = &step.action else { continue };
        if matches!(link.state, LinkState::Creating { side: known, .. } if known == side) {
            // What was to be written first stays: it may be there. Of a pair that moves to another mailbox nothing was written yet.
            if link.base.is_empty() {
                link.base = intended(writes, side);
            }
            continue;
        }
        link.state = LinkState::Creating { side, since: now };
        link.base = intended(writes, side);
        match side {
            Side::Espo => link.record_id = None,
            Side::Outlook => link.replicas.retain(|replica| replica.user != link.owner),
        }
    }
}

fn is_written_to(plan: &Plan, side: Side, field: &Field) -> bool {
    plan.steps
        .iter()
        .any(|step| step.action.side() == side && step.action.writes().is_some_and(|writes| writes.contains_key(field)))
}

/// What is going to be written, as a base: after a crash it tells what was edited since from what we wrote.
pub(super) fn intended(writes: &sync::Writes, target: Side) -> Base {
    let pair = |(field, write): (&Field, &sync::Write)| {
        let agreed = match target {
            Side::Espo => Agreed { espo: write.value.clone(), outlook: write.source.clone() },
            Side::Outlook => Agreed { espo: write.source.clone(), outlook: write.value.clone() },
        };
        (field.clone(), agreed)
    };
    // Files come one by one: which of them a crash has left is told by their contents alone.
    writes.iter().filter(|(field, _)| **field != Field::Attachments).map(pair).collect()
}

/// True when every value is the one that was agreed last.
#[must_use]
pub fn is_unchanged(link: &Link, side: Side, values: &sync::Values) -> bool {
    // What was seen of the item and passed over, while the record was switched off, is still to be dealt with.
    if side == Side::Espo && link.replica_of(&link.owner).is_some_and(|replica| replica.etag.is_none()) {
        return false;
    }
    values.iter().all(|(field, value)| match link.base.get(field) {
        Some(agreed) => agreed.on(side) == value,
        // A field that the other side does not show has no base. Outlook shows every reminder: one that EspoCRM shows for the
        // first time has been set there, or can be seen since now.
        None => {
            matches!(field, Field::Location | Field::Importance)
                || (*field == Field::Reminder && side == Side::Outlook)
                || value.as_files().is_some_and(sync::Files::is_empty)
                // A pair that was configured later and has nothing to say.
                || (matches!(field, Field::Extra(_)) && sync::is_blank(value))
        }
    })
}

pub(super) fn replica(item: &Item, owner: &str) -> Replica {
    let role = if item.user == owner { ReplicaRole::Master } else { ReplicaRole::Attendee };
    Replica {
        user: item.user.clone(),
        item_id: item.id.clone(),
        list: item.list.clone(),
        role,
        etag: item.etag.clone(),
        written: None,
    }
}

/// The fingerprint of an end in its owner's zone and under the owner's rules.
#[must_use]
pub fn fingerprint_of(context: &Context, owner: &str, kind: Kind, values: &sync::Values) -> String {
    let title = values.get(&Field::Title).and_then(Value::as_text).unwrap_or_default();
    let when = values.get(&Field::Time).and_then(Value::as_when);
    let zone = context.owner().map_or(chrono_tz::Tz::UTC, |owner| owner.zone);
    sync::fingerprint(owner, kind, title, when, &sync::Projection::new(zone, &context.rules))
}

pub(super) fn left_alone(plan: &Plan) -> Option<Reason> {
    match &plan.verdict {
        Verdict::LeaveAlone(reason) | Verdict::Bury(reason) => Some(reason.clone()),
        _ => None,
    }
}
