//! What the admin API has the rest of the service do. Each function is durable on its own: what is to be done is stored, and
//! the scheduler or a worker is woken, so that a crash in between loses nothing.

use serde::{Deserialize, Serialize};
use store::bindings::Binding;
use store::history::Direction;
use store::holds::Hold;
use sync::{Cause, Change, Kind, Target};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::app::App;

/// A manual synchronisation: a full sweep of what it names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// Of one kind; else of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "meeting")]
    pub kind: Option<Kind>,
    /// One way only; else as the rules say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Way>,
    /// Of one user; else of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// EspoCRM is copied to Outlook.
    #[serde(alias = "to-outlook", alias = "espo_to_outlook")]
    ToOutlook,
    /// Outlook is copied to EspoCRM.
    #[serde(alias = "to-espo", alias = "outlook_to_espo")]
    ToEspo,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::ToOutlook => Self::ToOutlook,
            Way::ToEspo => Self::ToEspo,
        }
    }
}

/// Notes a job; the scheduler takes it up.
pub(super) async fn sync(app: &App, request: &SyncRequest) -> Result<String, Problem> {
    let id = app.ids().next();
    let request = serde_json::to_value(request).map_err(|error| Problem::internal(&error))?;
    store::jobs::insert(app.store().write(), &id, &request, app.clock().now()).await?;
    app.wake_schedule();
    Ok(id)
}

/// Notes a job that rebuilds links; the scheduler takes it up.
pub(super) async fn relink(app: &App, user_id: Option<String>, dry_run: bool) -> Result<String, Problem> {
    let id = app.ids().next();
    let request = crate::schedule::jobs::Request { user_id, dry_run, relink: true, ..Default::default() };
    let request = serde_json::to_value(request).map_err(|error| Problem::internal(&error))?;
    store::jobs::insert(app.store().write(), &id, &request, app.clock().now()).await?;
    app.wake_schedule();
    Ok(id)
}

/// A binding has become active: its subscriptions and its first synchronisation are due, and what waited for it goes on. The
/// scheduler would not notice that it was not active for a moment.
pub(super) async fn binding_activated(app: &App, user: &str) -> Result<(), Problem> {
    let target = Target::Mailbox { user: user.to_owned() };
    look_at(app, target).await?;
    crate::schedule::first::unpark(app).await?;
    app.wake_schedule();
    Ok(())
}

/// Waits until no subscription of a user is being made, and keeps it so. Not for ever: one that is made nevertheless ends by
/// itself.
pub(super) async fn keep_subscriptions_still(
    app: &App,
    user: &str,
) -> Result<Option<crate::work::locks::Held>, Problem> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);
    let lock = app.locks().acquire(crate::schedule::subscriptions::lock_name(user));
    Ok(tokio::time::timeout(PATIENCE, lock).await.ok().transpose()?)
}

/// Removes what a binding has at Microsoft, as far as that is possible: what stays there expires by itself, and its
/// notifications are dropped as unknown.
pub(super) async fn leave(app: &App, binding: &Binding) -> Result<(), Problem> {
    crate::schedule::mailbox::forget(app, &binding.user_id).await?;
    let subscriptions = store::subscriptions::of_user(app.store().read(), &binding.user_id).await?;
    let (Some(graph), Some(address)) = (app.connections().graph(), binding.mailbox.clone()) else { return Ok(()) };
    let mailbox = mailbox(&binding.user_id, address);
    for subscription in subscriptions {
        let (graph, mailbox) = (graph.clone(), mailbox.clone());
        let done = app.on_main(async move { graph.unsubscribe(&mailbox, &subscription.id).await }).await;
        if let Some(Err(error)) = done {
            tracing::warn!(user.id = binding.user_id, %error, "a subscription could not be removed; it expires by itself");
        }
    }
    Ok(())
}

/// A mailbox by its address alone: enough for what is not about dates or categories.
pub(super) fn mailbox(user: &str, address: String) -> graph::Mailbox {
    let call_category = sync::Rules::default().call_category;
    graph::Mailbox { user: user.to_owned(), address, zone: None, call_category, pairs: std::sync::Arc::default() }
}

/// Makes subscriptions due for renewal.
pub(super) async fn renew(app: &App, subscriptions: &[store::subscriptions::Subscription]) -> Result<(), Problem> {
    let now = app.clock().now();
    for one in subscriptions {
        let error = one.error.as_deref();
        store::subscriptions::set_state(app.store().write(), &one.id, one.state, error, now).await?;
    }
    app.wake_schedule();
    Ok(())
}

/// A hold was decided: the scheduler goes on with what waited for it.
pub(super) fn hold_decided(app: &App, hold: &Hold) {
    tracing::info!(hold.id = hold.id, user.id = hold.user_id, state = hold.state.as_str(), "a hold was decided");
    app.wake_schedule();
}

/// Has something looked at.
pub(super) async fn look_at(app: &App, target: Target) -> Result<(), Problem> {
    let change = Change {
        id: app.ids().next(),
        target,
        cause: Cause::Manual,
        received: app.clock().now(),
        version: None,
        job: None,
        trace: crate::trace::current(),
        reminder: None,
    };
    Ok(app.queue().publish(vec![change], Cause::Manual, None).await?)
}

/// Why a record is or is not synchronised.
pub(super) async fn explain(app: &App, kind: Kind, id: String) -> Result<serde_json::Value, Problem> {
    let inner = app.clone();
    let missing = format!("EspoCRM has no {kind} `{id}`, and none was ever linked");
    let explained = app.on_main(async move { crate::work::inspect::record(&inner, kind, &id).await }).await;
    explained
        .ok_or_else(|| Problem::unavailable("the service is stopping"))??
        .ok_or_else(|| Problem::not_found(missing))
}

/// Why an item is or is not synchronised.
pub(super) async fn explain_item(
    app: &App,
    user: String,
    list: Option<String>,
    id: String,
) -> Result<serde_json::Value, Problem> {
    let inner = app.clone();
    let missing = format!("the mailbox of the user `{user}` has no such item, and none was ever linked");
    let explained =
        app.on_main(async move { crate::work::inspect::item(&inner, &user, list.as_deref(), &id).await }).await;
    explained
        .ok_or_else(|| Problem::unavailable("the service is stopping"))??
        .ok_or_else(|| Problem::not_found(missing))
}

/// False for a record that EspoCRM does not have. What cannot be asked at the moment counts as known.
pub(super) async fn is_known(app: &App, kind: Kind, id: &str) -> Result<bool, Problem> {
    if store::links::by_record(app.store().read(), kind, id).await?.is_some() {
        return Ok(true);
    }
    let Some(espo) = app.connections().espocrm() else { return Ok(true) };
    let id = id.to_owned();
    let asked = app.on_main(async move {
        let schema = espo.schema().await?;
        espo.client.record(&schema, kind, &id, espocrm::Acting::Connector).await
    });
    Ok(!matches!(asked.await, Some(Ok(sync::Seen::Gone) | Err(espocrm::Error::BadId(_)))))
}

/// Switches one record on or off.
pub(super) async fn switch(app: &App, kind: Kind, id: String, enabled: bool) -> Result<(), Problem> {
    let inner = app.clone();
    let targets = app.on_main(async move { crate::work::switch::asked(&inner, kind, &id, enabled).await }).await;
    for target in targets.ok_or_else(|| Problem::unavailable("the service is stopping"))?? {
        look_at(app, target).await?;
    }
    Ok(())
}

/// What became of a revert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reverted {
    /// Ids of the new entries.
    pub reverted: Vec<String>,
    /// What was not taken back.
    pub skipped: Vec<Skipped>,
}

/// A change that was not taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Skipped {
    /// Id of the entry.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// How to take a change back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Force {
    /// Also when it was changed since.
    #[serde(default)]
    pub force: bool,
}

/// Takes one change back. It goes on when whoever has asked hangs up, and the service waits for its end when it stops.
pub(super) async fn revert(app: &App, id: String, force: bool) -> Result<Reverted, Problem> {
    let inner = app.clone();
    let work = async move { crate::work::revert::one(&inner, &id, force).await };
    let done = app.on_main(app.tracker().track_future(work)).await;
    let reverted = done.ok_or_else(|| Problem::unavailable("the service is stopping"))??;
    Ok(Reverted { reverted, skipped: Vec::new() })
}

/// Which changes to take back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertRequest {
    /// All of one record.
    #[serde(default)]
    pub record_id: Option<String>,
    /// From then on.
    #[serde(default)]
    pub since: Option<String>,
    /// Before that.
    #[serde(default)]
    pub until: Option<String>,
    /// Of one user.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Also what was changed since.
    #[serde(default)]
    pub force: bool,
    /// Only tell what would be taken back.
    #[serde(default)]
    pub dry_run: bool,
}

/// Takes changes back, the newest first.
pub(super) async fn revert_range(app: &App, filter: store::history::Filter, force: bool) -> Result<Reverted, Problem> {
    let inner = app.clone();
    let work = async move { crate::work::revert::many(&inner, &filter, force).await };
    let done = app.on_main(app.tracker().track_future(work)).await;
    let done = done.ok_or_else(|| Problem::unavailable("the service is stopping"))??;
    let skipped = done.skipped.into_iter().map(|(id, reason)| Skipped { id, reason }).collect();
    Ok(Reverted { reverted: done.reverted, skipped })
}

/// So many changes are listed in a preview; all of them are taken back.
pub(super) const PREVIEWED: usize = 200;

/// What taking changes back would do.
pub(super) async fn preview_range(
    app: &App,
    filter: &store::history::Filter,
    force: bool,
) -> Result<crate::work::revert::preview::Preview, Problem> {
    Ok(crate::work::revert::preview::many(app, filter, force, PREVIEWED).await?)
}
