//! One message: from the lease to its end.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use store::bindings::{self, BindingState};
use store::jobs::{self, Counters};
use store::messages::{self, Unit};
use store::settle::Settlement;
use sync::{Cause, Change, ShownReminder, Target};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::dispatch::Worker;
use super::error::{Fate, WorkError, backoff, sentence};
use super::items::Place;
use super::reconcile::{Ending, Report, Task, Written};
use crate::app::App;
use crate::app::circuits::System;
use crate::app::settings::ENABLED;
use crate::trace::Context;

/// What is written beside a message that waits for the grace of a deletion: it is no failure.
const WAITS: &str = "waiting for the grace of a deletion";
/// What is written beside a message that waits because everything is switched off: it is no failure either.
const SWITCHED_OFF: &str = "synchronisation is switched off in the settings";
/// How long it waits then; switching on takes it up at once.
const UNTIL_SWITCHED_ON: TimeDelta = TimeDelta::days(1);
/// How long it waits where it has been switched on and this process does not know yet.
const UNTIL_HEARD_OF: TimeDelta = TimeDelta::seconds(1);
/// How long a change waits before it looks again whether somebody has signed in or mended something.
const WAIT_FOR_PEOPLE: TimeDelta = TimeDelta::minutes(2);
/// The same for what an operator mends elsewhere, such as an expired secret: nothing tells us.
const WAIT_FOR_OPERATOR: TimeDelta = TimeDelta::seconds(15);
/// So often an answer that makes no sense is asked for again: it may have come from somebody in between, who is gone soon.
const ODD_ATTEMPTS: u32 = 5;
/// How long a mailbox that cannot be used is left alone.
const WAIT_FOR_MAILBOX: TimeDelta = TimeDelta::seconds(15);
/// How long after the next attempt with a refused credential is allowed.
const AFTER_THE_NEXT_ATTEMPT: Duration = Duration::from_millis(250);

/// Works on a unit and records what became of it, in the trace of whoever told of it last. Never fails: what cannot be recorded
/// is leased again when its lease ends.
pub async fn handle(worker: &Worker, unit: Unit) {
    let parent = unit.newest().and_then(|change| change.trace.clone());
    let context = Context::after(parent.as_deref(), worker.app.ids());
    let span = span(&unit, &context);
    context.scope(handle_in_trace(worker, unit).instrument(span)).await;
}

/// What every line of the log says while a unit is in hand.
fn span(unit: &Unit, context: &Context) -> tracing::Span {
    let span = tracing::info_span!(
        "change",
        trace.id = context.trace_id(),
        span.id = context.span_id(),
        parent.id = context.parent_id(),
        message.id = unit.newest().map(|change| change.id.as_str()),
        record.id = Empty,
        item.id = Empty,
        user.id = Empty,
        kind = Empty,
    );
    match unit.target() {
        Some(Target::Record { kind, id }) => {
            span.record("kind", kind.as_str());
            span.record("record.id", id);
        }
        Some(Target::Event { user, id } | Target::Todo { user, id, .. }) => {
            span.record("user.id", user);
            span.record("item.id", id);
        }
        Some(Target::Mailbox { user }) => {
            span.record("user.id", user);
        }
        None => {}
    }
    span
}

async fn handle_in_trace(worker: &Worker, unit: Unit) {
    let app = &worker.app;
    let recorded = if app.connections().settings().enabled {
        let ending = Ending::new(&unit);
        let began = app.clock().now();
        let outcome = attempt(worker, &ending).await;
        record(app, &ending, outcome, began).await
    } else {
        wait_until_switched_on(app, &unit).await
    };
    if let Err(error) = recorded {
        app.membership().lead_astray(&unit.lease);
        tracing::error!(error = sentence(&error), message.ids = ?unit.ids(), "the end of a message could not be recorded");
    }
}

/// Puts a unit aside while everything is switched off. Whoever switches on takes up what waits then: a unit that is put aside
/// just after that would be forgotten, and so would one of a process that has not heard of it yet.
async fn wait_until_switched_on(app: &App, unit: &Unit) -> Result<(), WorkError> {
    let was_on = is_on(app).await?;
    let until = app.clock().now() + if was_on { UNTIL_HEARD_OF } else { UNTIL_SWITCHED_ON };
    messages::park(app.store().write(), unit, until, SWITCHED_OFF, unit.attempts()).await?;
    if !was_on && is_on(app).await? {
        crate::schedule::first::unpark(app).await?;
    }
    Ok(())
}

/// What is stored, which this process may not have heard of.
async fn is_on(app: &App) -> Result<bool, WorkError> {
    Ok(store::settings::get_as(app.store().read(), ENABLED).await?.unwrap_or(true))
}

async fn attempt(worker: &Worker, ending: &Ending<'_>) -> Result<Report, WorkError> {
    let unit = ending.unit;
    let Some(change) = unit.newest() else { return Ok(Report::Idle(None)) };
    let task = Task {
        app: &worker.app,
        locks: &worker.locks,
        cause: change.cause,
        received: change.received,
        version: echoed(unit),
        reminder: shown(unit),
        unit: Some(ending),
        in_bulk: worker.beside_others && matches!(change.cause, Cause::FirstSync | Cause::Sweep | Cause::Manual),
    };
    match &change.target {
        Target::Record { kind, id } => task.record(*kind, id).await,
        Target::Event { user, id } => task.item(user, Place { list: None, id }).await,
        Target::Todo { user, list, id } => task.item(user, Place { list: Some(list), id }).await,
        Target::Mailbox { user } => {
            crate::schedule::mailbox::read_all(&worker.app, user, change.cause, change.job.as_deref()).await?;
            Ok(Report::Idle(None))
        }
    }
}

/// The reminder that the latest of the hints showed that showed any.
fn shown(unit: &Unit) -> Option<ShownReminder> {
    unit.messages.iter().rev().find_map(|message| message.change.reminder.clone())
}

/// The version that all hints of a unit name: only then none of them can tell of anything else. They come in any order.
fn echoed(unit: &Unit) -> Option<String> {
    let version = unit.newest()?.version.clone()?;
    unit.messages.iter().all(|message| message.change.version.as_ref() == Some(&version)).then_some(version)
}

async fn record(
    app: &App,
    ending: &Ending<'_>,
    outcome: Result<Report, WorkError>,
    began: DateTime<Utc>,
) -> Result<(), WorkError> {
    let unit = ending.unit;
    let now = app.clock().now();
    let write = app.store().write();
    match outcome {
        Ok(Report::Later(until)) => {
            messages::park(write, unit, until, WAITS, unit.attempts()).await?;
            Ok(())
        }
        Ok(report) => {
            if let Report::Series(ids) = &report {
                follow(app, unit, ids).await?;
            }
            if let Report::Held(reason) = &report
                && let Some(user) = owner(app, unit).await?
            {
                super::brake::raise(app, &user, reason).await?;
            }
            if !ending.is_over() {
                end(app, unit, &report, now).await?;
            }
            measure(unit, &report, now);
            count(app, unit, counters(&report)).await
        }
        Err(error) => {
            let text = error.sentence();
            // A failed attempt is one that failed by itself: not one that an outage took along. No change is ever to blame for
            // a sign-in that does not answer.
            let is_away = |system| system == System::SignIn || !app.circuits().of(system).is_closed();
            let away = error.outage().is_some_and(is_away);
            let fate = match error.fate() {
                Fate::Retry { after, .. } if away => Fate::Retry { after, counts: false },
                Fate::SignIn if has_signed_in_since(app, unit, began).await? => {
                    Fate::Retry { after: None, counts: false }
                }
                fate => fate,
            };
            tracing::warn!(error = text, target = ?unit.target(), ?fate, attempts = unit.attempts(), "a change could not be applied");
            blame(app, unit, &error, fate).await?;
            let dead = settle(app, unit, fate, &error, now).await?;
            metrics::counter!("espo_outlook_changes_processed_total", "outcome" => if dead { "dead" } else { "parked" }).increment(1);
            count(app, unit, Counters { done: 1, failed: 1, ..Counters::default() }).await
        }
    }
}

/// Ends a unit that was dealt with and did not end with what was stored of it.
async fn end(app: &App, unit: &Unit, report: &Report, now: DateTime<Utc>) -> Result<(), WorkError> {
    let wrote = matches!(report, Report::Wrote(_));
    let settlement = Settlement {
        ends: Some(unit.end()),
        in_step: if *report == Report::Old { None } else { in_step(app, unit).await? },
        synced: if wrote { owner(app, unit).await? } else { None },
        ..Settlement::at(now)
    };
    Ok(app.store().settle(settlement).await?)
}

/// Parks or buries a unit that failed. True when it is dead.
async fn settle(app: &App, unit: &Unit, fate: Fate, error: &WorkError, now: DateTime<Utc>) -> Result<bool, WorkError> {
    let text = &error.sentence();
    let write = app.store().write();
    let config = &app.config().worker;
    let attempts = unit.attempts();
    match fate {
        Fate::Dead => {
            messages::bury(write, unit, text, now).await?;
            Ok(true)
        }
        Fate::Retry { counts: true, .. } if attempts + 1 >= config.max_attempts => {
            messages::bury(write, unit, text, now).await?;
            Ok(true)
        }
        Fate::Odd if attempts + 1 >= config.max_attempts.min(ODD_ATTEMPTS) => {
            messages::bury(write, unit, text, now).await?;
            Ok(true)
        }
        Fate::Odd => {
            let wait = backoff(config.retry_base, config.retry_max, attempts, app.ids().fraction(), None);
            messages::park(write, unit, now + delta(wait), text, attempts + 1).await?;
            Ok(false)
        }
        Fate::Retry { after, counts } => {
            let wait = backoff(config.retry_base, config.retry_max, attempts, app.ids().fraction(), after);
            messages::park(write, unit, now + delta(wait), text, attempts + u32::from(counts)).await?;
            Ok(false)
        }
        Fate::SignIn | Fate::Operator | Fate::Mailbox => {
            let wait = match error.withheld() {
                // Just after the next attempt is allowed: the first that comes makes it, and the others hear of it.
                Some(after) => delta(after + AFTER_THE_NEXT_ATTEMPT),
                None if fate == Fate::Operator => WAIT_FOR_OPERATOR,
                // After the binding itself.
                None if fate == Fate::Mailbox => WAIT_FOR_MAILBOX + TimeDelta::seconds(1),
                None => WAIT_FOR_PEOPLE,
            };
            messages::park(write, unit, now + wait, text, attempts).await?;
            Ok(false)
        }
    }
}

fn delta(wait: Duration) -> TimeDelta {
    TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX)
}

/// True when the user has signed in while this was attempted: what was refused was refused of the sign-in before, and what
/// waited for the new one has been taken up already.
async fn has_signed_in_since(app: &App, unit: &Unit, began: DateTime<Utc>) -> Result<bool, WorkError> {
    let user = owner(app, unit).await?.unwrap_or_else(|| unit.lane.clone());
    let binding = bindings::by_user(app.store().read(), &user).await?;
    Ok(binding.is_some_and(|binding| binding.state == BindingState::Active && binding.updated >= began))
}

/// Tells the binding what stands in its way, so that its page can say so.
async fn blame(app: &App, unit: &Unit, error: &WorkError, fate: Fate) -> Result<(), WorkError> {
    let named = match error {
        WorkError::Graph(graph::Error::Mailbox { user, .. } | graph::Error::Unauthorized { user, .. }) => {
            Some(user.clone()).filter(|user| !user.is_empty())
        }
        _ => None,
    };
    let user = match named {
        Some(user) => Some(user),
        None => owner(app, unit).await?,
    };
    let Some(user) = user else { return Ok(()) };
    let state = match (fate, error) {
        (Fate::SignIn, WorkError::Graph(_)) => BindingState::NeedsAuthorization,
        (Fate::Mailbox, _) => BindingState::Error,
        _ => return Ok(()),
    };
    let now = app.clock().now();
    let next_try = (state == BindingState::Error).then_some(now + WAIT_FOR_MAILBOX);
    match bindings::set_state(app.store().write(), &user, state, &error.sentence(), next_try, now).await {
        // Somebody has stopped or removed the binding meanwhile: that stands.
        Ok(_) | Err(store::StoreError::Transition { .. } | store::StoreError::Missing { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn owner(app: &App, unit: &Unit) -> Result<Option<String>, WorkError> {
    Ok(match unit.target() {
        Some(Target::Event { user, .. } | Target::Todo { user, .. } | Target::Mailbox { user }) => Some(user.clone()),
        Some(Target::Record { kind, id }) => {
            store::links::by_record(app.store().read(), *kind, id).await?.map(|link| link.owner)
        }
        None => None,
    })
}

/// Hints at the occurrences of a series.
async fn follow(app: &App, unit: &Unit, ids: &[String]) -> Result<(), WorkError> {
    let Some(Change { target: Target::Event { user, .. }, cause, job, .. }) = unit.newest() else { return Ok(()) };
    if let Some(job) = job {
        jobs::add_total(app.store().write(), job, ids.len() as u64, false).await?;
    }
    let targets = ids.iter().map(|id| Target::Event { user: user.clone(), id: id.clone() });
    crate::schedule::publish(app, targets, *cause, job.as_deref()).await
}

/// Where a copy is looked at.
#[must_use]
pub fn target_of(replica: &sync::Replica) -> Target {
    let (user, id) = (replica.user.clone(), replica.item_id.clone());
    match &replica.list {
        None => Target::Event { user, id },
        Some(list) => Target::Todo { user, list: list.clone(), id },
    }
}

/// Where the same pair is hinted at: whichever end was named, both were looked at.
#[must_use]
pub fn targets_of(target: &Target, link: Option<&sync::Link>) -> Vec<Target> {
    let mut targets = vec![target.clone()];
    if let Some(link) = link {
        targets.extend(link.record_id.iter().map(|id| Target::Record { kind: link.kind, id: id.clone() }));
        targets.extend(link.master().map(target_of));
    }
    targets
}

/// A dead letter of something that is in step by now has nothing left to say.
async fn in_step(app: &App, unit: &Unit) -> Result<Option<(Vec<Target>, DateTime<Utc>)>, WorkError> {
    let read = app.store().read();
    let Some(change) = unit.newest() else { return Ok(None) };
    if messages::dead_count(read).await? == 0 {
        return Ok(None);
    }
    let target = &change.target;
    let link = match target {
        Target::Record { kind, id } => store::links::by_record(read, *kind, id).await?,
        Target::Event { user, id } | Target::Todo { user, id, .. } => store::links::by_item(read, user, id).await?,
        Target::Mailbox { .. } => None,
    };
    Ok(Some((targets_of(target, link.as_ref()), change.received)))
}

fn measure(unit: &Unit, report: &Report, now: DateTime<Utc>) {
    let outcome = match report {
        Report::Wrote(_) => "applied",
        Report::Held(_) => "held",
        _ => "nothing_to_do",
    };
    metrics::counter!("espo_outlook_changes_processed_total", "outcome" => outcome).increment(1);
    if let (Report::Wrote(_), Some(received)) = (report, unit.first_received()) {
        let lag = (now - received).to_std().unwrap_or_default();
        metrics::histogram!("espo_outlook_sync_lag_seconds").record(lag.as_secs_f64());
    }
}

fn counters(report: &Report) -> Counters {
    let mut counters = Counters { done: 1, ..Counters::default() };
    match report {
        Report::Wrote(written) => {
            let of = |kind: Written| written.iter().filter(|one| **one == kind).count() as u64;
            counters.created = of(Written::Created);
            counters.updated = of(Written::Updated);
            counters.deleted = of(Written::Deleted);
        }
        _ => counters.skipped = 1,
    }
    counters
}

/// Moves the counters of the jobs that asked: once a message, at its first end, and again when what had failed is done after all.
async fn count(app: &App, unit: &Unit, once: Counters) -> Result<(), WorkError> {
    for message in &unit.messages {
        let first = message
            .last_error
            .as_deref()
            .is_none_or(|error| [WAITS, SWITCHED_OFF, messages::NOT_COME_BACK].contains(&error));
        let Some(job) = message.change.job.as_deref() else { continue };
        if !first {
            if once.failed == 0 {
                jobs::mend(app.store().write(), job, once).await?;
            }
        } else {
            jobs::bump(app.store().write(), job, once).await?;
            if jobs::finish_if_complete(app.store().write(), job, app.clock().now()).await? {
                crate::schedule::jobs::finished(app, job).await?;
            }
        }
    }
    Ok(())
}
