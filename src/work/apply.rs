//! A plan, carried out: its steps against both systems, then link, history and the end of the message in one transaction.

use chrono::{DateTime, Utc};
use espocrm::Fetched;
use sync::{
    Action, Field, Item, Link, LinkState, Outcome, Plan, Reason, Record, Replica, Seen, Side, Target, Verdict, View,
    absorb,
};

use super::context::Context;
use super::copies;
use super::error::WorkError;
use super::execute::{Ends, execute, record_as_seen};
use super::pair::{is_outside, is_unchanged, left_alone};
use super::reconcile::{Report, Task, Written};

/// What came of a plan.
pub(super) enum Round {
    /// It is done with.
    Done(Report),
    /// An end changed meanwhile: both are to be read again.
    Again(Box<Link>),
}

impl Task<'_> {
    /// Executes a plan whose first write creates the missing end. The other was read at that time.
    pub(super) async fn carry_out(
        &self,
        context: &Context,
        link: Link,
        (record, item, read_at): (Option<Fetched>, Option<Item>, DateTime<Utc>),
        plan: Plan,
    ) -> Result<Report, WorkError> {
        let id = link.id.clone();
        match self.try_out(context, link, record, item, plan, read_at).await? {
            Round::Done(report) => Ok(report),
            Round::Again(link) => {
                tracing::debug!(link.id = id, "an end changed while the other was created");
                Box::pin(self.locked(*link, None)).await
            }
        }
    }

    pub(super) async fn try_out(
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
        // Of a target's own edits nothing is lost when the direction is changed.
        let kept_back = plan.notes.iter().any(|note| matches!(note, Reason::DirectionOff { to: Side::Espo, .. }));
        let passed_over = (left_alone(&plan).is_some() || kept_back)
            && seen_item
                .present()
                .is_none_or(|item| !is_unchanged(&next, Side::Outlook, &sync::masked(item, &context.rules)));
        if failure.is_some() || refused || passed_over {
            forget_version(&mut next, seen_item.present());
        }
        let entries = super::explain::entries(
            self,
            context,
            &link,
            &next,
            &plan,
            (&outcomes, (seen_record.present(), seen_item.present())),
        );
        let report = report(&plan, &outcomes);
        // Private copies are written after this: the message ends when they are.
        let copies = context.rules.attendees == sync::Attendees::None && next.kind.is_event();
        let finished = failure.is_none() && !stale && !refused && !copies && !matches!(report, Report::Later(_));
        self.settle(&next, &entries, (finished, matches!(report, Report::Wrote(_)))).await?;
        super::notes::post(context, &entries).await;
        if let Some(error) = failure {
            return Err(error);
        }
        if !stale {
            // They follow what has just been written.
            let written = outcomes.iter().rev().find_map(|outcome| match outcome {
                Outcome::Record(record) => Some(&**record),
                _ => None,
            });
            let record = written.or(seen_record.present());
            self.private_copies(context, &mut next, record).await?;
            if let Some(record) = record {
                let adopted = matches!(link.state, LinkState::Creating { side: Side::Outlook, .. });
                self.look_again(context, &next, record, adopted || invites(&plan)).await?;
            }
        }
        if let Some(Outcome::Refused(refusal)) = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Refused(_)))
        {
            return Err(WorkError::Refused(refusal.sentence.clone()));
        }
        Ok(if stale { Round::Again(Box::new(next)) } else { Round::Done(report) })
    }

    /// Whoever has just been invited, or was before a crash, and has answered in EspoCRM already answers once the invitation is
    /// there.
    async fn look_again(
        &self,
        context: &Context,
        link: &Link,
        record: &Record,
        invited: bool,
    ) -> Result<(), WorkError> {
        if invited && copies::is_unsent(context, link, record) {
            let target = Target::Record { kind: record.kind, id: record.id.clone() };
            crate::schedule::publish(self.app, [target], self.cause, None).await?;
        }
        Ok(())
    }
}

/// True for a plan that writes an attendee list.
fn invites(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| {
        let people = step.action.writes().is_some_and(|writes| writes.contains_key(&Field::Participants));
        people && step.action.side() == Side::Outlook
    })
}

/// What was seen of an item, or that it is gone, has not been dealt with: a hint at that version is no echo when it is tried
/// again, and a hint at the record looks at both.
fn forget_version(link: &mut Link, item: Option<&Item>) {
    let owner = link.owner.clone();
    let meant = |replica: &&mut Replica| match item {
        Some(item) => item.id == replica.item_id,
        None => replica.user == owner,
    };
    for replica in link.replicas.iter_mut().filter(meant) {
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
