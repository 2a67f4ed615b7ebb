//! One Graph subscription per bound mailbox: made, renewed at half-life, made anew when it was lost.
//!
//! Facts (learn.microsoft.com/graph): a subscription on events lives less than 7 days; PATCH with a new expiration also
//! reauthorises; a 404 on it means that it is gone; what happened while none was alive has to be read by delta. The
//! notification that it tells of a change may come before our own POST is answered, so a new one is followed by a delta.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use graph::{NewSubscription, Resource};
use store::bindings::{self, Binding, BindingState};
use store::subscriptions::{self, Subscription, SubscriptionState};
use sync::{Cause, Direction, Kind, Target};

use super::publish;
use crate::app::App;
use crate::vault::digest;
use crate::work::context::{Context, mailbox, rules_of};
use crate::work::error::{Fate, WorkError};
use crate::work::items;

/// How long we ask for: less than the longest, so that a clock that goes wrong a little does no harm.
const LIFE: TimeDelta = TimeDelta::days(6);
/// How long a subscription is asked for.
fn life(resource: &Resource) -> TimeDelta {
    LIFE.min(resource.longest_life())
}

/// How often it is asked whether subscriptions still exist.
const VERIFY: TimeDelta = TimeDelta::days(1);
/// How long to wait after a subscription could not be made or renewed.
const AFTER_FAILURE: TimeDelta = TimeDelta::minutes(1);

/// Whether notifications of a user's calendar, and of the To Do list, are to be expected.
///
/// # Errors
/// When the database cannot be read.
pub async fn alive(app: &App, user: &str) -> Result<(bool, bool), WorkError> {
    let now = app.clock().now();
    let mut all = subscriptions::of_user(app.store().read(), user).await?;
    all.retain(|one| one.state == SubscriptionState::Active && one.expires > now);
    Ok((all.iter().any(|one| one.list_id.is_none()), all.iter().any(|one| one.list_id.is_some())))
}

/// When each user's subscriptions were last compared with Microsoft's.
pub(super) type Verified = HashMap<String, DateTime<Utc>>;

/// Asks Microsoft whether a user's subscriptions still exist, for now and then one ends without a word. What is lost is made
/// anew at the next look.
///
/// # Errors
/// When the mailbox cannot be asked.
pub async fn verify(app: &App, binding: &Binding) -> Result<(), WorkError> {
    let own = subscriptions::of_user(app.store().read(), &binding.user_id).await?;
    if own.is_empty() {
        return Ok(());
    }
    let (graph, mailbox) = reach(app, binding).await?;
    let alive = graph.subscriptions(&mailbox).await?;
    let now = app.clock().now();
    for one in own.iter().filter(|one| !alive.iter().any(|known| known.id == one.id && known.expires > now)) {
        tracing::warn!(subscription.id = one.id, user.id = one.user_id, "a subscription was lost without a word");
        let error = Some("Microsoft does not know it any more; it is made anew");
        subscriptions::set_state(app.store().write(), &one.id, SubscriptionState::Lapsed, error, now).await?;
        app.wake_schedule();
    }
    Ok(())
}

pub(super) async fn tick(app: &App, verified: &mut Verified) -> Result<(), WorkError> {
    if app.config().server.public_url.is_none() || app.connections().graph().is_none() {
        return Ok(());
    }
    for binding in bindings::enabled_in(app.store().read(), &[BindingState::Active]).await? {
        let now = app.clock().now();
        let outcome = match verified.get(&binding.user_id) {
            Some(at) if now - *at < VERIFY => Ok(()),
            _ => {
                verified.insert(binding.user_id.clone(), now);
                verify(app, &binding).await
            }
        };
        let outcome = match outcome {
            Ok(()) => tend_if_bound(app, &binding).await,
            failed => failed,
        };
        if let Err(error) = outcome {
            tracing::warn!(
                user.id = binding.user_id,
                error = error.sentence(),
                "the subscription of a mailbox could not be tended"
            );
            if error.fate() == Fate::SignIn && matches!(error, WorkError::Graph(_)) {
                let (user, text) = (&binding.user_id, error.sentence());
                bindings::set_state(app.store().write(), user, BindingState::NeedsAuthorization, &text, None, now)
                    .await?;
            }
        }
    }
    Ok(())
}

/// Whoever makes or removes a mailbox's subscriptions holds this lock. Else one that is being made while its user is unbound
/// would outlive the binding: it is not stored yet, so that nobody could remove it.
#[must_use]
pub fn lock_name(user: &str) -> String {
    format!("subscriptions:{user}")
}

/// Tends a mailbox that is bound as it was a moment ago.
async fn tend_if_bound(app: &App, binding: &Binding) -> Result<(), WorkError> {
    let _alone = app.locks().acquire(lock_name(&binding.user_id)).await?;
    match bindings::by_user(app.store().read(), &binding.user_id).await? {
        Some(now) if now.enabled && now.state == BindingState::Active && now.mailbox == binding.mailbox => {
            tend(app, &now).await
        }
        _ => Ok(()),
    }
}

/// Sees to it that a mailbox has one live subscription on its calendar and, signed in as its user, one on its To Do list.
/// In application mode Microsoft refuses those: tasks are polled then.
async fn tend(app: &App, binding: &Binding) -> Result<(), WorkError> {
    let context = Context::of(app, Some(&binding.user_id)).await?;
    let on = |kind: Kind| context.rules.of(kind).direction != Direction::Disabled;
    let own = subscriptions::of_user(app.store().read(), &binding.user_id).await?;
    if on(Kind::Meeting) || on(Kind::Call) {
        tend_one(app, binding, &own, Resource::Events).await?;
    }
    let delegated =
        app.connections().microsoft().is_some_and(|microsoft| microsoft.mode == crate::config::Mode::Delegated);
    if on(Kind::Task) && delegated {
        let list = items::list(&context, &context.mailbox()?).await?;
        for stray in own.iter().filter(|one| one.list_id.as_ref().is_some_and(|known| *known != list)) {
            subscriptions::delete(app.store().write(), &stray.id).await?;
        }
        tend_one(app, binding, &own, Resource::Tasks { list }).await?;
    }
    Ok(())
}

fn list_of(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Events => None,
        Resource::Tasks { list } => Some(list),
    }
}

async fn tend_one(app: &App, binding: &Binding, own: &[Subscription], resource: Resource) -> Result<(), WorkError> {
    let now = app.clock().now();
    let current = own.iter().find(|one| one.list_id.as_deref() == list_of(&resource)).cloned();
    let Some(current) = current else { return make(app, binding, &resource).await };
    let lost = current.state == SubscriptionState::Lapsed || current.expires <= now;
    if current.renew_at > now && !(lost && current.state != SubscriptionState::Failed) {
        return Ok(());
    }
    if lost {
        return remake(app, binding, &current).await;
    }
    match renew(app, binding, &current).await {
        Ok(true) => Ok(()),
        Ok(false) => remake(app, binding, &current).await,
        Err(error) => {
            let (write, again) = (app.store().write(), now + AFTER_FAILURE);
            subscriptions::set_state(write, &current.id, current.state, Some(&error.sentence()), again).await?;
            Err(error)
        }
    }
}

/// Renews a subscription by its id, now.
///
/// # Errors
/// When it is unknown, or Microsoft refuses.
pub async fn renew_now(app: &App, id: &str) -> Result<(), WorkError> {
    let Some(current) = subscriptions::get(app.store().read(), id).await? else {
        return Err(WorkError::Refused("there is no such subscription".to_owned()));
    };
    let binding =
        bindings::by_user(app.store().read(), &current.user_id).await?.ok_or(WorkError::NotActive("missing"))?;
    if renew(app, &binding, &current).await? { Ok(()) } else { remake(app, &binding, &current).await }
}

/// True when it was renewed, false when it is gone.
async fn renew(app: &App, binding: &Binding, current: &Subscription) -> Result<bool, WorkError> {
    let (graph, mailbox) = reach(app, binding).await?;
    let expires = app.clock().now() + life(&resource_of(current));
    let Some(renewed) = graph.renew_subscription(&mailbox, &current.id, expires).await? else { return Ok(false) };
    let renew_at = half_life(app, renewed.expires);
    subscriptions::renewed(app.store().write(), &current.id, renewed.expires, renew_at).await?;
    tracing::info!(subscription.id = current.id, expires = %renewed.expires, "a subscription was renewed");
    Ok(true)
}

async fn remake(app: &App, binding: &Binding, lost: &Subscription) -> Result<(), WorkError> {
    let (write, again) = (app.store().write(), app.clock().now() + AFTER_FAILURE);
    let resource = resource_of(lost);
    match make(app, binding, &resource).await {
        Ok(()) => {
            subscriptions::delete(write, &lost.id).await?;
            Ok(())
        }
        Err(error) => {
            subscriptions::set_state(write, &lost.id, SubscriptionState::Failed, Some(&error.sentence()), again)
                .await?;
            Err(error)
        }
    }
}

fn resource_of(subscription: &Subscription) -> Resource {
    match &subscription.list_id {
        None => Resource::Events,
        Some(list) => Resource::Tasks { list: list.clone() },
    }
}

async fn make(app: &App, binding: &Binding, resource: &Resource) -> Result<(), WorkError> {
    let base = app.config().base_url();
    let (graph, mailbox) = reach(app, binding).await?;
    let address = |path: &str| {
        let text = format!("{base}/{path}");
        url::Url::parse(&text).map_err(|_| WorkError::Refused("server.public_url is no base address".to_owned()))
    };
    let (notification_url, lifecycle_url) = (address("webhooks/graph")?, address("webhooks/graph/lifecycle")?);
    let client_state = app.ids().secret();
    let now = app.clock().now();
    let new = NewSubscription {
        resource,
        notification_url: &notification_url,
        lifecycle_url: &lifecycle_url,
        client_state: &client_state,
        expires: now + life(resource),
    };
    let made = graph.replace_subscription(&mailbox, &new).await?;
    let row = Subscription {
        id: made.id,
        user_id: binding.user_id.clone(),
        resource: made.resource,
        list_id: list_of(resource).map(str::to_owned),
        client_state: digest(&client_state),
        state: SubscriptionState::Active,
        error: None,
        created: now,
        expires: made.expires,
        renew_at: half_life(app, made.expires),
    };
    subscriptions::put(app.store().write(), &row).await?;
    tracing::info!(subscription.id = row.id, user.id = row.user_id, "a subscription was made");
    if binding.first_sync_done {
        publish(app, [Target::Mailbox { user: binding.user_id.clone() }], Cause::Poll, None).await?;
    }
    Ok(())
}

async fn reach(app: &App, binding: &Binding) -> Result<(std::sync::Arc<graph::Client>, graph::Mailbox), WorkError> {
    let graph = app.connections().graph().ok_or(WorkError::NotConfigured("Microsoft"))?;
    let rules = rules_of(app, Some(&binding.user_id)).await?;
    Ok((graph, mailbox(app, binding, &rules)?))
}

/// Half of what is left, a little less for some, so that not all are due at once.
fn half_life(app: &App, expires: DateTime<Utc>) -> DateTime<Utc> {
    let now = app.clock().now();
    let left = (expires - now).num_seconds().max(0);
    let jitter = app.ids().fraction() * 0.1;
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds of a week")]
    let wait = (left as f64 * (0.5 - jitter)) as i64;
    now + TimeDelta::seconds(wait)
}

/// Takes down the subscriptions of a user who is unbound. Microsoft's are removed as far as it can be reached: they end by
/// themselves otherwise.
///
/// # Errors
/// When the database cannot be written.
pub async fn remove(app: &App, binding: &Binding) -> Result<(), WorkError> {
    for one in subscriptions::of_user(app.store().read(), &binding.user_id).await? {
        match reach(app, binding).await {
            Ok((graph, mailbox)) => {
                if let Err(error) = graph.unsubscribe(&mailbox, &one.id).await {
                    tracing::warn!(subscription.id = one.id, %error, "a subscription could not be removed at Microsoft");
                }
            }
            Err(error) => {
                tracing::warn!(subscription.id = one.id, %error, "a subscription could not be removed at Microsoft")
            }
        }
        subscriptions::delete(app.store().write(), &one.id).await?;
    }
    Ok(())
}
