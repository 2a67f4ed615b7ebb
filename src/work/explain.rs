//! What was done, and why something is or is not done: history entries, and the answer to "why?" for a record.

use serde_json::{Value as Json, json};
use store::history::{ChangeType, Entry, FieldChange};
use store::links;
use sync::{Action, Kind, Link, Outcome, Plan, Seen, Shown, Side, Values, Verdict};

use super::context::Context;
use super::error::WorkError;
use super::items::{self, Place};
use super::locks::Locks;
use super::reconcile::Task;
use crate::app::App;

/// The history entries of a plan that was tried: one for each step that was carried out.
#[must_use]
pub fn entries(task: &Task<'_>, context: &Context, before: &Link, after: &Link, plan: &Plan, outcomes: &[Outcome]) -> Vec<Entry> {
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

/// Why a record is or is not synchronised, step by step: the link and its base, both ends as they are now, and what would be
/// done about them. Nothing is written.
///
/// # Errors
/// When one of the ends cannot be read.
pub async fn explain(app: &App, kind: Kind, record_id: &str) -> Result<Json, WorkError> {
    let link = links::by_record(app.store().read(), kind, record_id).await?;
    let context = Context::of(app, link.as_ref().map(|link| link.owner.as_str())).await?;
    let record = context.espo.client.record(&context.schema, kind, record_id, espocrm::Acting::Connector).await?;
    let record = match record {
        Seen::Present(fetched) => Seen::Present(fetched.record),
        Seen::Gone => Seen::Gone,
        Seen::Unknown => Seen::Unknown,
    };
    let owner = link.as_ref().map(|link| link.owner.clone()).or_else(|| record.present()?.owner.clone());
    let context = Context::of(app, owner.as_deref()).await?;
    let item = match (link.as_ref().and_then(Link::master), context.mailbox()) {
        (Some(replica), Ok(_)) => {
            let place = Place { list: replica.list.as_deref(), id: &replica.item_id };
            items::read(&context, place, link.as_ref()).await?
        }
        _ => Seen::Unknown,
    };
    let locks = Locks::default();
    let now = app.clock().now();
    let task = Task { app, locks: &locks, cause: sync::Cause::Manual, received: now, version: None, unit: None };
    let plan = task.decide_at(&context, link.as_ref(), &record, &item, now).await?;
    Ok(json!({
        "kind": kind,
        "record_id": record_id,
        "link": link.as_ref().map(link_json),
        "base": link.as_ref().map(|link| base_json(link)),
        "replicas": link.as_ref().map(|link| &link.replicas),
        "espo": end_json(&record, |record| json!({ "values": values_json(&record.values), "modified": record.modified, "owner": record.owner })),
        "outlook": end_json(&item, |item| json!({ "values": values_json(&item.values), "modified": item.modified, "id": item.id, "user": item.user })),
        "synchronised": link.as_ref().is_some_and(|link| !link.is_buried()) && !matches!(plan.verdict, Verdict::LeaveAlone(_)),
        "decision": decision_json(&plan),
    }))
}

fn link_json(link: &Link) -> Json {
    json!({
        "id": link.id, "state": link.state.as_str(), "owner": link.owner, "ical_uid": link.ical_uid, "outside": link.outside,
        "reconciled": link.reconciled, "frozen": link.frozen.keys().map(sync::Field::as_str).collect::<Vec<_>>(),
    })
}

fn base_json(link: &Link) -> Json {
    let pair = |(field, agreed): (&sync::Field, &sync::Agreed)| {
        (field.to_string(), json!({ "espo": Shown(agreed.on(Side::Espo)), "outlook": Shown(agreed.on(Side::Outlook)) }))
    };
    link.base.iter().map(pair).collect::<serde_json::Map<_, _>>().into()
}

fn values_json(values: &Values) -> Json {
    values.iter().map(|(field, value)| (field.to_string(), json!(Shown(value)))).collect::<serde_json::Map<_, _>>().into()
}

fn end_json<T>(seen: &Seen<T>, show: impl FnOnce(&T) -> Json) -> Json {
    match seen {
        Seen::Present(end) => show(end),
        Seen::Gone => json!({ "gone": true }),
        Seen::Unknown => json!({ "seen": false }),
    }
}

/// The plan in sentences.
fn decision_json(plan: &Plan) -> Json {
    let verdict = match &plan.verdict {
        Verdict::InStep => "Both ends are as they should be.".to_owned(),
        Verdict::Write => "There is something to write.".to_owned(),
        Verdict::LeaveAlone(reason) | Verdict::Bury(reason) | Verdict::Hold(reason) => reason.to_string(),
        Verdict::Wait { until, .. } => format!("One end is gone; the other is deleted at {until} unless it comes back."),
    };
    let steps: Vec<Json> = plan
        .steps
        .iter()
        .map(|step| {
            let fields: Vec<&str> = step.action.writes().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
            json!({ "writes_to": step.action.side(), "fields": fields, "reason": step.reason.to_string() })
        })
        .collect();
    json!({
        "verdict": verdict,
        "steps": steps,
        "notes": plan.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
