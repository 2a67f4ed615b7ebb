//! One pair, brought into step.
//!
//! The order is always the same: find the link (or what stands for one), hold its lock, read, decide, store the intent where
//! something is to be created, write, absorb, and store link, history and the end of the message in one transaction.

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use store::bindings::BindingState;
use store::links;
use sync::{
    Action, Agreed, Base, Cause, Field, Item, Kind, Link, LinkState, Outcome, Owner, Plan, Reason, Record, Replica,
    ReplicaRole, Role, Seen, Side, Value, Verdict, View, absorb, decide,
};

use super::context::Context;
use super::copies;
use super::error::WorkError;
use super::execute::record_as_seen;
use super::execute::{Ends, execute};
use super::files::{self, Depth};
use super::items::{self, Place};
use super::locks::Locks;
use crate::app::App;

/// How late a request may arrive that was under way when the process ended or the connection broke.
const LATE: chrono::TimeDelta = chrono::TimeDelta::seconds(3);
/// How often both ends are read again because one of them changed while it was written.
const ROUNDS: usize = 4;

/// What came of a hint.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Both ends are as they should be, or were left alone for a reason.
    Idle(Option<Reason>),
    /// The hint is older than the last look, or tells of our own write: nothing was looked at.
    Old,
    /// Something was written: what, per step.
    Wrote(Vec<Written>),
    /// A deletion waits for its grace.
    Later(DateTime<Utc>),
    /// An administrator has to decide.
    Held(Reason),
    /// The hint named a series: these occurrences are to be looked at.
    Series(Vec<String>),
}

/// What kind of write was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Something was created.
    Created,
    /// Something was changed.
    Updated,
    /// Something was deleted.
    Deleted,
}

/// A hint while it is worked on.
pub struct Task<'a> {
    /// The service.
    pub app: &'a App,
    /// Locks of this process.
    pub locks: &'a Locks,
    /// Why.
    pub cause: Cause,
    /// When the last of the hints was received.
    pub received: DateTime<Utc>,
    /// The version that the hint named.
    pub version: Option<String>,
    /// The messages that end with it.
    pub unit: Option<&'a store::messages::Unit>,
}

impl Task<'_> {
    /// A linked pair. `hinted` is the side that the hint named: when nothing has changed there, the other is not read.
    pub(super) async fn linked(&self, link: &str, hinted: Option<Side>) -> Result<Report, WorkError> {
        let _lock = self.locks.acquire(format!("link:{link}")).await;
        match links::by_id(self.app.store().read(), link).await? {
            Some(link) => self.locked(link, hinted).await,
            None => Ok(Report::Idle(None)),
        }
    }

    pub(super) async fn locked(&self, mut link: Link, hinted: Option<Side>) -> Result<Report, WorkError> {
        if link.is_buried() {
            return Ok(Report::Idle(Some(Reason::Buried)));
        }
        let context = Context::of(self.app, Some(&link.owner)).await?;
        if context.binding.as_ref().is_some_and(|binding| binding.enabled && binding.state != BindingState::Active) {
            context.mailbox()?;
        }
        for _ in 0..ROUNDS {
            let now = context.now();
            let (record, item) = self.read(&context, &mut link, hinted, now).await?;
            let (Some(record), Some(item)) = (record, item) else { return Ok(Report::Idle(None)) };
            if let Some(owner) = moved(&context, &link, &record) {
                return self.reassign(&context, link, &item, owner).await;
            }
            if record == Seen::Unknown || item == Seen::Unknown {
                let side = if record == Seen::Unknown { Side::Espo } else { Side::Outlook };
                return Ok(Report::Idle(Some(Reason::CannotSee { side })));
            }
            let seen_record = as_seen(&context, &link, &item, &record);
            let plan = self.decide_at(&context, Some(&link), &seen_record, &item, now).await?;
            let fetched = if let Seen::Present(fetched) = record { Some(fetched) } else { None };
            prepare(&mut link, &plan, now);
            if !plan.steps.is_empty() {
                links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
            }
            let item = if let Seen::Present(item) = item { Some(item) } else { None };
            match self.try_out(&context, link.clone(), fetched, item, plan, now).await? {
                Round::Done(report) => return Ok(report),
                Round::Again(next) => link = *next,
            }
        }
        Err(WorkError::Restless)
    }

    /// The record was given to somebody else: the master copy moves to that mailbox, or goes when there is none.
    async fn reassign(
        &self,
        context: &Context,
        mut link: Link,
        item: &Seen<Item>,
        owner: String,
    ) -> Result<Report, WorkError> {
        let now = context.now();
        tracing::info!(link.id = link.id, from = link.owner, to = owner, "a record was reassigned");
        if let Seen::Present(item) = item {
            items::delete(context, item).await?;
        }
        link.replicas.retain(|replica| replica.role == ReplicaRole::Private);
        self.private_copies(context, &mut link, None).await?;
        let next = Context::of(self.app, Some(&owner)).await?;
        if next.owner().is_none_or(|owner| !owner.active) {
            // Whoever gets it next starts anew.
            links::delete(self.app.store().write(), &link.id).await?;
            return Ok(Report::Wrote(vec![Written::Deleted]));
        }
        link.owner = owner;
        link.ical_uid = None;
        link.answers.clear();
        link.base.clear();
        // Nothing has been sent for this intent, so nothing can be under way.
        link.state = LinkState::Creating { side: Side::Outlook, since: now - LATE };
        links::save_alone(self.app.store(), &link, now).await?;
        Box::pin(self.locked(link, None)).await
    }

    /// Reads the ends: the hinted one first. None, when nothing has changed there and the other need not be read.
    async fn read(
        &self,
        context: &Context,
        link: &mut Link,
        hinted: Option<Side>,
        now: DateTime<Utc>,
    ) -> Result<(Option<Seen<Fetched>>, Option<Seen<Item>>), WorkError> {
        let quick = matches!(link.state, LinkState::Live);
        if quick && hinted == Some(Side::Espo) {
            let record = self.record_with_files(context, link).await?;
            if let Seen::Present(fetched) = &record
                && is_unchanged(link, Side::Espo, &record_as_seen(context, link.outside, fetched).values)
                && fetched.record.owner.as_deref() == Some(&link.owner)
            {
                link.record_modified = Some(fetched.record.modified);
                link.record_read = Some(now);
                link.note_files(Side::Espo, &fetched.record.values);
                links::save_alone(self.app.store(), link, now).await?;
                return Ok((None, None));
            }
            return Ok((Some(record), Some(self.item_with_files(context, link).await?)));
        }
        let item = self.item_with_files(context, link).await?;
        if item == Seen::Gone {
            settled(context, link, Side::Outlook)?;
        }
        if quick
            && hinted == Some(Side::Outlook)
            && let Seen::Present(item) = &item
            && is_unchanged(link, Side::Outlook, &item.values)
        {
            if let Some(replica) = link.replicas.iter_mut().find(|replica| replica.item_id == item.id) {
                replica.etag.clone_from(&item.etag);
            }
            link.item_read = Some(now);
            link.note_files(Side::Outlook, &item.values);
            links::save_alone(self.app.store(), link, now).await?;
            return Ok((None, None));
        }
        let record = self.record_with_files(context, link).await?;
        if record == Seen::Gone {
            settled(context, link, Side::Espo)?;
        }
        Ok((Some(record), Some(item)))
    }

    async fn record_with_files(&self, context: &Context, link: &mut Link) -> Result<Seen<Fetched>, WorkError> {
        let mut seen = self.read_record(context, link).await?;
        if let Seen::Present(fetched) = &mut seen {
            files::of_record(context, Some(link), fetched, Depth::Read).await?;
        }
        Ok(seen)
    }

    async fn item_with_files(&self, context: &Context, link: &Link) -> Result<Seen<Item>, WorkError> {
        let mut seen = self.read_item(context, link).await?;
        if let Seen::Present(item) = &mut seen {
            files::of_item(context, Some(link), item, Depth::Read).await?;
        }
        Ok(seen)
    }

    pub(super) async fn read_record(&self, context: &Context, link: &mut Link) -> Result<Seen<Fetched>, WorkError> {
        let (client, schema) = (&context.espo.client, &context.schema);
        if let Some(id) = &link.record_id {
            return Ok(client.record(schema, link.kind, id, context.acting()).await?);
        }
        // The intent to create it is stored; the request may have arrived.
        if let Some(fetched) = client.find_by_marker(schema, link.kind, &link.id).await? {
            link.record_id = Some(fetched.record.id.clone());
            return Ok(Seen::Present(fetched));
        }
        let LinkState::Creating { since, .. } = link.state else { return Ok(Seen::Unknown) };
        match self.equal_record(context, link, Some(since)).await? {
            Some(fetched) => {
                link.record_id = Some(fetched.record.id.clone());
                Ok(Seen::Present(fetched))
            }
            None => Ok(Seen::Gone),
        }
    }

    pub(super) async fn read_item(&self, context: &Context, link: &Link) -> Result<Seen<Item>, WorkError> {
        match link.replicas.iter().find(|replica| replica.user == link.owner) {
            Some(replica) => {
                let place = Place { list: replica.list.as_deref(), id: &replica.item_id };
                let mut seen = items::read(context, place, Some(link)).await?;
                if let Seen::Present(item) = &mut seen {
                    copies::with_answers(link, item);
                }
                Ok(seen)
            }
            None => items::by_marker(context, link).await,
        }
    }

    /// Executes a plan whose first write creates the missing end.
    pub(super) async fn carry_out(
        &self,
        context: &Context,
        link: Link,
        record: Option<Fetched>,
        item: Option<Item>,
        plan: Plan,
    ) -> Result<Report, WorkError> {
        let id = link.id.clone();
        match self.try_out(context, link, record, item, plan, context.now()).await? {
            Round::Done(report) => Ok(report),
            Round::Again(link) => {
                tracing::debug!(link.id = id, "an end changed while the other was created");
                Box::pin(self.locked(*link, None)).await
            }
        }
    }

    async fn try_out(
        &self,
        context: &Context,
        link: Link,
        record: Option<Fetched>,
        item: Option<Item>,
        plan: Plan,
        now: DateTime<Utc>,
    ) -> Result<Round, WorkError> {
        let mut outcomes = Vec::new();
        let mut failure = None;
        for step in &plan.steps {
            let ends = Ends { record: record.as_ref(), item: item.as_ref() };
            match execute(context, &link, &ends, &step.action).await {
                Ok(outcome) => {
                    let stop = matches!(outcome, Outcome::Stale);
                    outcomes.push(outcome);
                    if stop {
                        break;
                    }
                }
                Err(error) => {
                    outcomes.push(Outcome::Unsure);
                    failure = Some(error);
                    break;
                }
            }
        }
        let outside = item.as_ref().map_or(link.outside, |item| is_outside(context, item));
        let seen = |fetched: &Fetched| Seen::Present(record_as_seen(context, outside, fetched));
        let seen_record = record.as_ref().map_or(gone_or_unknown(&link, Side::Espo), seen);
        let seen_item = item.map_or(gone_or_unknown(&link, Side::Outlook), Seen::Present);
        let owner = context.owner();
        let view = View {
            link: Some(&link),
            record: &seen_record,
            item: &seen_item,
            owner: owner.as_ref(),
            rules: &context.rules,
            switched_on: true,
            bound: &context.bound,
            deletions: sync::Deletions::default(),
            grace: chrono::Duration::zero(),
            horizon: now,
            now,
        };
        let stale = outcomes.contains(&Outcome::Stale);
        let refused = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        let mut next = absorb(link.clone(), &view, &plan, &outcomes);
        next.outside = outside;
        if failure.is_some() || refused {
            forget_version(&mut next, seen_item.present());
        }
        let entries = super::explain::entries(self, context, &link, &next, &plan, &outcomes);
        let report = report(&plan, &outcomes);
        // Private copies are written after this: the message ends when they are.
        let copies = context.rules.attendees == sync::Attendees::None && next.kind.is_event();
        let finished = failure.is_none() && !stale && !refused && !copies && !matches!(report, Report::Later(_));
        self.store(&next, entries, finished).await?;
        if let Some(error) = failure {
            return Err(error);
        }
        if !stale {
            self.private_copies(context, &mut next, seen_record.present()).await?;
        }
        if let Some(Outcome::Refused(refusal)) = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Refused(_)))
        {
            return Err(WorkError::Refused(refusal.sentence.clone()));
        }
        Ok(if stale { Round::Again(Box::new(next)) } else { Round::Done(report) })
    }

    /// Link, history and the end of the message, in one transaction.
    async fn store(&self, link: &Link, entries: Vec<store::history::Entry>, finished: bool) -> Result<(), WorkError> {
        let transaction = self.app.store().begin().await?;
        links::save(&transaction, link, self.app.clock().now()).await?;
        if !entries.is_empty() {
            store::history::insert_many(&transaction, &entries).await?;
        }
        if let Some(unit) = self.unit.filter(|_| finished) {
            store::messages::finish(&transaction, unit, self.app.clock().now()).await?;
        }
        transaction.commit().await.map_err(store::StoreError::from)?;
        Ok(())
    }

    pub(super) async fn decide(
        &self,
        context: &Context,
        link: Option<&Link>,
        record: &Seen<Record>,
        item: &Seen<Item>,
    ) -> Result<Plan, WorkError> {
        self.decide_at(context, link, record, item, context.now()).await
    }

    /// Asks the core. What it needs from the database is looked up only where it matters.
    /// # Errors
    /// When the database cannot be read.
    pub async fn decide_at(
        &self,
        context: &Context,
        link: Option<&Link>,
        record: &Seen<Record>,
        item: &Seen<Item>,
        now: DateTime<Utc>,
    ) -> Result<Plan, WorkError> {
        let read = self.app.store().read();
        let switched_on =
            match (record.present(), link.and_then(|link| link.record_id.as_deref().map(|id| (link.kind, id)))) {
                (Some(record), _) => store::switches::is_enabled(read, record.kind, &record.id).await?,
                (None, Some((kind, id))) => store::switches::is_enabled(read, kind, id).await?,
                (None, None) => true,
            };
        let one_gone = matches!((record, item), (Seen::Gone, Seen::Present(_)) | (Seen::Present(_), Seen::Gone));
        let deletions = match link {
            Some(link) if one_gone => super::handle::deletions(self.app, &link.owner, now).await?,
            _ => sync::Deletions::default(),
        };
        let grace = chrono::Duration::from_std(self.app.config().sync.deletion_grace).unwrap_or_default();
        let owner = context
            .owner()
            .map(|owner| Owner { taking_in: owner.taking_in || self.cause == Cause::FirstSync, ..owner });
        Ok(decide(&View {
            link,
            record,
            item,
            owner: owner.as_ref(),
            rules: &context.rules,
            switched_on,
            bound: &context.bound,
            deletions,
            grace,
            horizon: context.horizon(),
            now,
        }))
    }
}

enum Round {
    Done(Report),
    Again(Box<Link>),
}

/// What was seen of an item has not been dealt with: a hint at that version is no echo when it is tried again.
fn forget_version(link: &mut Link, item: Option<&Item>) {
    for replica in link.replicas.iter_mut().filter(|replica| item.is_some_and(|item| item.id == replica.item_id)) {
        replica.etag = None;
    }
}

/// What the link says of an end that was not there: gone where it was known, else not looked at.
const fn gone_or_unknown<T>(link: &Link, side: Side) -> Seen<T> {
    match (&link.state, side) {
        (LinkState::Creating { side: Side::Espo, .. }, Side::Espo)
        | (LinkState::Creating { side: Side::Outlook, .. }, Side::Outlook) => Seen::Unknown,
        _ => Seen::Gone,
    }
}

/// The record as the core is to see it beside the item.
fn as_seen(context: &Context, link: &Link, item: &Seen<Item>, record: &Seen<Fetched>) -> Seen<Record> {
    let outside = item.present().map_or(link.outside, |item| is_outside(context, item));
    match record {
        Seen::Present(fetched) => Seen::Present(record_as_seen(context, outside, fetched)),
        Seen::Gone => Seen::Gone,
        Seen::Unknown => Seen::Unknown,
    }
}

/// A request that was sent before a crash may arrive after we have looked: only after a while is "not there" believed.
fn settled(context: &Context, link: &Link, gone: Side) -> Result<(), WorkError> {
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
fn moved(context: &Context, link: &Link, record: &Seen<Fetched>) -> Option<String> {
    let owner = record.present()?.record.owner.clone()?;
    let ours = link.state == LinkState::Live && !link.outside && link.occurrence.is_none();
    (owner != link.owner && ours && context.rules.of(link.kind).direction.allows_to(Side::Outlook)).then_some(owner)
}

/// True for a copy of an event that nobody bound organises.
pub(super) fn is_outside(context: &Context, item: &Item) -> bool {
    matches!(&item.role, Role::Attendee { organizer } if !context.bound.contains(&sync::text::address(organizer)))
}

/// Turns the link into the intent of what the plan is going to create or change.
fn prepare(link: &mut Link, plan: &Plan, now: DateTime<Utc>) {
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
    values.iter().all(|(field, value)| match link.base.get(field) {
        Some(agreed) => agreed.on(side) == value,
        // A field that the other side does not show has no base.
        None => {
            matches!(field, Field::Reminder | Field::Location | Field::Importance)
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

fn report(plan: &Plan, outcomes: &[Outcome]) -> Report {
    match &plan.verdict {
        Verdict::Wait { until, .. } => return Report::Later(*until),
        Verdict::Hold(reason) => return Report::Held(reason.clone()),
        _ => {}
    }
    let written: Vec<Written> = plan
        .steps
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| {
            matches!(outcome, Outcome::Record(_) | Outcome::Item(_) | Outcome::Deleted | Outcome::Answered)
        })
        .map(|(step, _)| match step.action {
            Action::CreateItem { .. } | Action::CreateRecord { .. } => Written::Created,
            Action::UpdateItem { .. } | Action::UpdateRecord { .. } | Action::Respond { .. } => Written::Updated,
            Action::DeleteItem | Action::DeleteRecord => Written::Deleted,
        })
        .collect();
    if written.is_empty() { Report::Idle(left_alone(plan)) } else { Report::Wrote(written) }
}
