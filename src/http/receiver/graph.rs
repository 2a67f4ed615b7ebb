//! `POST /webhooks/graph` and `POST /webhooks/graph/lifecycle`.
//!
//! Facts (learn.microsoft.com/graph/change-notifications-delivery-webhooks): the address is validated by a `validationToken`
//! that is to be echoed, decoded, as text/plain within 10 seconds; a notification wants a 2xx within 3 seconds, and is sent
//! again for up to 4 hours when it gets a 5xx. Notifications carry no signature: `clientState` alone tells a real one.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use graph::notification::{self, ChangeType, Lifecycle, Notice, Place, What};
use metrics::counter;
use store::subscriptions::{Subscription, SubscriptionState};
use sync::{Cause, Change, Target};
use url::form_urlencoded;

use super::super::problem::Problem;
use super::{excerpt, read, take_over};
use crate::app::App;
use crate::queue::Hint;
use crate::vault::matches_digest;

pub(super) async fn receive(request: HttpRequest, payload: Payload, app: Data<App>) -> Result<HttpResponse, Problem> {
    let mut query = form_urlencoded::parse(request.query_string().as_bytes());
    if let Some((_, token)) = query.find(|(name, _)| name == "validationToken") {
        return Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(token.into_owned()));
    }
    let body = read(payload, app.config().server.max_body).await?;
    let batch = notification::parse(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    if batch.skipped > 0 {
        dropped("malformed", batch.skipped);
    }
    let mut known: HashMap<String, Option<Subscription>> = HashMap::new();
    let mut hints = Vec::new();
    let mut needs = Vec::new();
    for notice in batch.notices {
        if !known.contains_key(&notice.subscription) {
            let row = store::subscriptions::get(app.store().read(), &notice.subscription).await?;
            known.insert(notice.subscription.clone(), row);
        }
        let Some(subscription) = known.get(&notice.subscription).and_then(Option::as_ref) else {
            dropped("unknown_subscription", 1);
            continue;
        };
        if !is_real(&notice, subscription) {
            dropped("client_state", 1);
            continue;
        }
        hints.push(Hint { change: change(&app, &notice, subscription), lane: None, excerpt: Some(told(&notice)) });
        if let What::Lifecycle(event) = &notice.what {
            tracing::info!(subscription = notice.subscription, ?event, "a lifecycle notification");
            needs.push((notice.subscription.clone(), event.clone()));
        }
    }
    for (id, event) in needs {
        note_need(&app, &id, &event).await?;
    }
    take_over(&app, hints, Cause::Notification).await?;
    Ok(HttpResponse::build(StatusCode::ACCEPTED).finish())
}

/// What a notification said, without its secret.
fn told(notice: &Notice) -> String {
    excerpt(&serde_json::json!({ "subscriptionId": notice.subscription, "told": format!("{:?}", notice.what) }))
}

/// The secret of a subscription is stored as its digest ([`crate::vault::digest`]).
fn is_real(notice: &Notice, subscription: &Subscription) -> bool {
    notice.client_state.as_deref().is_some_and(|given| matches_digest(given, &subscription.client_state))
}

/// Where to look. What is wrong with a subscription means that the whole mailbox has to be looked at.
fn change(app: &App, notice: &Notice, subscription: &Subscription) -> Change {
    let user = subscription.user_id.clone();
    // A deletion names the last version that there was: it is no echo of the write that made it.
    let known = |change: &ChangeType, etag: &Option<String>| etag.clone().filter(|_| *change != ChangeType::Deleted);
    let (target, version) = match &notice.what {
        What::Changed { change, place: Place::Event { id }, etag } => {
            (Target::Event { user, id: id.clone() }, known(change, etag))
        }
        What::Changed { change, place: Place::Task { list, id }, etag } => {
            match list.clone().or_else(|| subscription.list_id.clone()) {
                Some(list) => (Target::Todo { user, list, id: id.clone() }, known(change, etag)),
                None => (Target::Mailbox { user }, None),
            }
        }
        What::Changed { place: Place::Unknown, .. } | What::Lifecycle(_) => (Target::Mailbox { user }, None),
    };
    Change {
        id: app.ids().next(),
        target,
        cause: Cause::Notification,
        received: app.clock().now(),
        version,
        job: None,
        trace: crate::trace::current(),
    }
}

/// Notes what a subscription needs, for the scheduler, which is woken: it renews what is due and makes anew what has lapsed.
async fn note_need(app: &App, id: &str, event: &Lifecycle) -> Result<(), Problem> {
    let now = app.clock().now();
    let (state, sentence) = match event {
        Lifecycle::ReauthorizationRequired => (SubscriptionState::Active, None),
        Lifecycle::SubscriptionRemoved => {
            (SubscriptionState::Lapsed, Some("Microsoft has removed it; it is made anew"))
        }
        Lifecycle::Missed | Lifecycle::Other(_) => return Ok(()),
    };
    store::subscriptions::set_state(app.store().write(), id, state, sentence, now).await?;
    app.wake_schedule();
    Ok(())
}

fn dropped(reason: &'static str, count: usize) {
    counter!("espo_outlook_notifications_dropped_total", "reason" => reason).increment(count as u64);
    tracing::warn!(reason, count, "Graph notifications are dropped");
}
