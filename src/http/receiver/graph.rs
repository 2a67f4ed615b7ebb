//! `POST /webhooks/graph` and `POST /webhooks/graph/lifecycle`.
//!
//! Facts (learn.microsoft.com/graph/change-notifications-delivery-webhooks): the address is validated by a `validationToken`
//! that is to be echoed, decoded, as text/plain within 10 seconds; a notification wants a 2xx within 3 seconds, and is sent
//! again for up to 4 hours when it gets a 5xx. Notifications carry no signature: `clientState` alone tells a real one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use graph::notification::{self, ChangeType, Lifecycle, Notice, Place, What};
use metrics::counter;
use store::subscriptions::{Plight, Subscription};
use sync::{Cause, Change, Target};
use url::form_urlencoded;

use super::super::problem::Problem;
use super::{excerpt, look_up, read, take_over};
use crate::app::App;
use crate::queue::Hint;
use crate::vault::matches_digest;

/// The subscriptions that are known, so that a notification needs no database. One that is not known here, or whose secret is
/// another by now, is looked up.
#[derive(Default)]
pub struct Subscriptions(RwLock<HashMap<String, Known>>);

/// Of a subscription what it takes to believe a notification and to know where to look.
#[derive(Clone)]
pub(super) struct Known {
    user: String,
    list: Option<String>,
    /// A digest ([`crate::vault::digest`]).
    client_state: String,
}

impl Subscriptions {
    fn cached(&self, id: &str) -> Option<Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(super) fn keep(&self, subscription: Subscription) -> Known {
        let Subscription { id, user_id: user, list_id: list, client_state, .. } = subscription;
        let known = Known { user, list, client_state };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, known.clone());
        known
    }

    /// The subscription that a notification is of, if it repeats the secret; else the reason for which it is dropped.
    /// `looked_up` are those that were looked up for the same request.
    async fn believed(
        &self,
        app: &App,
        notice: &Notice,
        looked_up: &mut BTreeSet<String>,
    ) -> Result<Result<Known, &'static str>, Problem> {
        let id = &notice.subscription;
        let known = self.cached(id);
        if let Some(known) = known.clone().filter(|known| is_real(notice, known)) {
            return Ok(Ok(known));
        }
        if !looked_up.insert(id.clone()) {
            return Ok(Err(if known.is_some() { "client_state" } else { "unknown_subscription" }));
        }
        let Some(row) = look_up(store::subscriptions::get(app.store().read(), id)).await? else {
            return Ok(Err("unknown_subscription"));
        };
        let known = self.keep(row);
        Ok(if is_real(notice, &known) { Ok(known) } else { Err("client_state") })
    }
}

pub(super) async fn receive(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
    subscriptions: Data<Subscriptions>,
) -> Result<HttpResponse, Problem> {
    let mut query = form_urlencoded::parse(request.query_string().as_bytes());
    if let Some((_, token)) = query.find(|(name, _)| name == "validationToken") {
        // Whoever is led here by a link sees text, whatever he is given to send.
        let mut answer = HttpResponse::Ok();
        answer.content_type("text/plain; charset=utf-8").insert_header(("X-Content-Type-Options", "nosniff"));
        return Ok(answer.body(token.into_owned()));
    }
    let body = read(payload, app.config().server.max_body).await?;
    let batch = notification::parse(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    if batch.skipped > 0 {
        dropped("malformed", batch.skipped);
    }
    let mut looked_up = BTreeSet::new();
    let mut hints = Vec::new();
    for notice in batch.notices {
        match subscriptions.believed(&app, &notice, &mut looked_up).await? {
            Ok(known) => hints.push(Hint {
                excerpt: Some(told(&notice)),
                plight: plight(&notice),
                ..Hint::new(change(&app, &notice, &known))
            }),
            Err(reason) => dropped(reason, 1),
        }
    }
    let is_urgent = hints.iter().any(|hint| hint.plight.is_some());
    take_over(&app, hints, Cause::Notification).await?;
    // From a broker it comes to a worker first, who wakes the scheduler.
    if is_urgent && app.queue().broker().is_none() {
        app.wake_schedule();
    }
    Ok(HttpResponse::build(StatusCode::ACCEPTED).finish())
}

/// What a notification said, without its secret.
fn told(notice: &Notice) -> String {
    excerpt(&serde_json::json!({ "subscriptionId": notice.subscription, "told": format!("{:?}", notice.what) }))
}

fn is_real(notice: &Notice, known: &Known) -> bool {
    notice.client_state.as_deref().is_some_and(|given| matches_digest(given, &known.client_state))
}

/// What a subscription needs, for the scheduler: it renews what is due and makes anew what has lapsed.
fn plight(notice: &Notice) -> Option<(String, Plight)> {
    let What::Lifecycle(event) = &notice.what else { return None };
    tracing::info!(subscription.id = notice.subscription, ?event, "a lifecycle notification");
    let plight = match event {
        Lifecycle::ReauthorizationRequired => Plight::Ends,
        Lifecycle::SubscriptionRemoved => Plight::Removed,
        Lifecycle::Missed | Lifecycle::Other(_) => return None,
    };
    Some((notice.subscription.clone(), plight))
}

/// Where to look. What is wrong with a subscription means that the whole mailbox has to be looked at.
fn change(app: &App, notice: &Notice, subscription: &Known) -> Change {
    let user = subscription.user.clone();
    // A deletion names the last version that there was: it is no echo of the write that made it.
    let known = |change: &ChangeType, etag: &Option<String>| etag.clone().filter(|_| *change != ChangeType::Deleted);
    let (target, version) = match &notice.what {
        What::Changed { change, place: Place::Event { id }, etag } => {
            (Target::Event { user, id: id.clone() }, known(change, etag))
        }
        What::Changed { change, place: Place::Task { list, id }, etag } => {
            match list.clone().or_else(|| subscription.list.clone()) {
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
        reminder: None,
    }
}

fn dropped(reason: &'static str, count: usize) {
    counter!("espo_outlook_notifications_dropped_total", "reason" => reason).increment(count as u64);
    tracing::warn!(reason, count, "Graph notifications are dropped");
}
