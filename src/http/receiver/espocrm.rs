//! `POST /webhooks/espocrm`.
//!
//! Facts (EspoCRM 9.3, `Tools/Webhook/Sender`): what is answered with 400, 429, 502 or 504 is dropped for good and a 410
//! removes the webhook; a 503 is tried again. So whatever may succeed later is a 503.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::header::HeaderMap;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use espocrm::webhook::{self, BadSignature, Claim, Entry};
use metrics::counter;
use secrecy::{ExposeSecret as _, SecretString};
use store::StoreError;
use store::espo_webhooks::Webhook;
use sync::{Cause, Change, Kind, Target};

use super::super::problem::Problem;
use super::{as_sent, look_up, read, take_over};
use crate::app::App;
use crate::app::provision::secret_purpose;
use crate::queue::Hint;

/// The webhooks that are known, so that a delivery needs no database. One that is not known here is looked up, so that
/// `setup espocrm` may run beside the service.
#[derive(Default)]
pub struct Webhooks(RwLock<HashMap<String, Arc<Known>>>);

struct Known {
    event: String,
    secret: SecretString,
}

impl Webhooks {
    fn cached(&self, id: &str) -> Option<Arc<Known>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Reads all of them: they are few, and of one that was just made the others were as well.
    pub(super) async fn load(&self, app: &App) -> Result<(), StoreError> {
        let rows = store::espo_webhooks::list(app.store().read()).await?;
        let mut all = HashMap::with_capacity(rows.len());
        for Webhook { id, event, secret, .. } in rows {
            match app.vault().open_secret(&secret_purpose(&id), &secret) {
                Ok(secret) => drop(all.insert(id, Arc::new(Known { event, secret }))),
                Err(error) => {
                    let remedy = "run `espo-outlook setup espocrm`";
                    tracing::error!(%error, webhook.id = id, remedy, "a webhook's secret cannot be opened");
                }
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(())
    }
}

pub(super) async fn receive(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
    webhooks: Data<Webhooks>,
) -> Result<HttpResponse, Problem> {
    let body = read(payload, app.config().server.max_body).await?;
    let known = authenticate(request.headers(), &body, &app, &webhooks).await?;
    let Some(kind) = known.event.split('.').next().and_then(|entity| entity.parse::<Kind>().ok()) else {
        // A webhook of an event that we never asked for.
        return Ok(HttpResponse::Ok().finish());
    };
    let found = webhook::entries(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    if found.skipped > 0 {
        counter!("espo_outlook_webhook_items_skipped_total").increment(found.skipped as u64);
        tracing::warn!(skipped = found.skipped, event = known.event, "webhook items without an id are skipped");
    }
    let received = app.clock().now();
    let change = |id, reminder| Change {
        id: app.ids().next(),
        target: Target::Record { kind, id },
        cause: Cause::Webhook,
        received,
        version: None,
        job: None,
        trace: crate::trace::current(),
        reminder,
    };
    let hint = |entry: Entry<'_>| Hint {
        // An update tells what has changed only: whose it is, is looked up where messages are written.
        lane: entry.owner,
        excerpt: Some(as_sent(entry.text)),
        ..Hint::new(change(entry.id, entry.reminder))
    };
    let hints = found.entries.into_iter().map(hint).collect();
    // The server reads the next request into its memory.
    drop(body);
    take_over(&app, hints, Cause::Webhook).await?;
    Ok(HttpResponse::Ok().finish())
}

async fn authenticate(headers: &HeaderMap, body: &[u8], app: &App, webhooks: &Webhooks) -> Result<Arc<Known>, Problem> {
    let header = |name| match headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(refuse(&BadSignature::Malformed)),
    };
    let claim = Claim::read(header("Signature")?, header("X-Signature")?).map_err(|error| refuse(&error))?;
    let is_signed = |known: &Known| claim.verify(known.secret.expose_secret().as_bytes(), body);
    if let Some(known) = webhooks.cached(claim.id())
        && is_signed(&known).is_ok()
    {
        return Ok(known);
    }
    // Not known yet, or its secret may have been changed meanwhile.
    look_up(webhooks.load(app)).await?;
    let Some(known) = webhooks.cached(claim.id()) else {
        tracing::warn!(webhook.id = claim.id(), "a delivery names an unknown webhook");
        return Err(Problem::unauthorized("the webhook is not known here; run `espo-outlook setup espocrm`"));
    };
    is_signed(&known).map_err(|error| refuse(&error))?;
    Ok(known)
}

fn refuse(error: &BadSignature) -> Problem {
    counter!("espo_outlook_notifications_dropped_total", "reason" => "signature").increment(1);
    tracing::warn!(%error, "a webhook delivery is refused");
    Problem::unauthorized(error.to_string())
}
