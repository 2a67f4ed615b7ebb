//! `/healthz`, `/readyz`, `/metrics`.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use circuit::{Circuit, State};
use metrics::gauge;
use serde_json::json;
use store::StoreError;
use store::bindings::BindingState;
use store::subscriptions::SubscriptionState;

use super::problem::Chain;
use super::resource;
use crate::app::App;
use crate::app::connections::PROBE;
use crate::queue::Depth;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/healthz", "GET, HEAD").route(web::get().to(health)).route(web::head().to(health)))
        .service(resource("/readyz", "GET, HEAD").route(web::get().to(ready)).route(web::head().to(ready)))
        .service(resource("/metrics", "GET").route(web::get().to(metrics)));
}

/// Whether the database takes anything: one that can be read may be full, or held by somebody else. To find out costs a commit,
/// so that an answer serves for a while.
#[derive(Default)]
pub struct Writes(tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>);

impl Writes {
    const LIVES: Duration = Duration::from_secs(2);

    async fn last(&self, app: &App) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, outcome)) = &*last
            && at.elapsed() < Self::LIVES
        {
            return outcome.clone();
        }
        let outcome = match tokio::time::timeout(PROBE, app.store().try_write(app.clock().now())).await {
            Ok(written) => written.map_err(|error| format!("it takes nothing: {}", Chain(&error))),
            Err(_) => Err("it takes nothing: somebody else may hold it".to_owned()),
        };
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }
}

/// The process runs.
async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// The process can do its work; else 503, with the part that fails. A system that is not configured yet is no failure, and
/// neither is one that is away: changes wait for it.
async fn ready(app: Data<App>, writes: Data<Writes>) -> HttpResponse {
    let table = async {
        match tokio::time::timeout(PROBE, store::messages::depth(app.store().read())).await {
            Ok(Ok(depth)) => writes.last(&app).await.map(|()| depth),
            Ok(Err(error)) => Err(Chain(&error).to_string()),
            Err(_) => Err("the database does not answer".to_owned()),
        }
    };
    let (table, broker) = futures::join!(table, broker(&app));
    let is_stopping = app.shutdown().is_cancelled();
    let is_ready = table.is_ok() && !matches!(broker, Some(Err(_))) && !is_stopping;
    let part = |result: Result<(), String>| match result {
        Ok(()) => json!({ "state": "ok" }),
        Err(detail) => json!({ "state": "failed", "detail": detail }),
    };
    let configured = |is_configured: bool, what: &str| match is_configured {
        true => json!({ "state": "configured" }),
        false => json!({ "state": "not_configured", "detail": format!("enter the settings of {what}") }),
    };
    let circuits = app.circuits();
    let microsoft = match app.connections().purse().alarm() {
        Some(alarm) => json!({ "state": "alarm", "detail": alarm }),
        None => configured(app.connections().graph().is_some(), "Microsoft"),
    };
    let espocrm = app.connections().espocrm();
    let refused = espocrm.as_ref().and_then(|connection| connection.client.refused_credential());
    let espocrm = match refused {
        Some(what) => json!({ "state": "refused", "detail": format!("EspoCRM refuses the {what}; enter a valid one") }),
        None => configured(espocrm.is_some(), "EspoCRM"),
    };
    let parts = json!({
        "queue": queue(&table, broker.as_ref()),
        "database": part(table.map(drop)),
        "espocrm": away(&circuits.espocrm).unwrap_or(espocrm),
        "microsoft": away(&circuits.graph).or_else(|| away(&circuits.sign_in)).unwrap_or(microsoft),
    });
    let body = json!({
        "status": if is_stopping { "stopping" } else if is_ready { "ready" } else { "not_ready" },
        "failing": failing(&parts),
        "parts": parts,
    });
    if is_ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

/// How the broker stands, where there is one: first what keeps this process from its part, then what the broker itself says.
pub(super) async fn broker(app: &App) -> Option<Result<Depth, String>> {
    let broker = app.queue().broker()?;
    if let Some(fault) = broker.fault() {
        return Some(Err(fault.to_string()));
    }
    match tokio::time::timeout(PROBE, broker.depth()).await {
        Ok(asked) => Some(asked.map_err(|fault| fault.to_string())),
        Err(_) => Some(Err(format!("RabbitMQ at {} does not answer", broker.address()))),
    }
}

/// The queue is the table, and the broker in front of it where there is one.
fn queue(table: &Result<store::messages::Depth, String>, broker: Option<&Result<Depth, String>>) -> serde_json::Value {
    let kind = if broker.is_some() { "rabbitmq" } else { "embedded" };
    let mut part = match (table, broker) {
        (_, Some(Err(detail))) => json!({ "state": "failed", "kind": kind, "detail": detail }),
        (Err(_), None) => json!({ "state": "failed", "kind": kind, "detail": "the database cannot be used" }),
        (Err(_), Some(Ok(_))) => {
            json!({ "state": "ok", "kind": kind, "detail": "it takes messages, which wait for the database" })
        }
        (Ok(_), _) => json!({ "state": "ok", "kind": kind }),
    };
    if let Ok(depth) = table {
        part["queued"] = depth.queued.into();
        part["leased"] = depth.leased.into();
        part["parked"] = depth.parked.into();
        part["dead"] = depth.dead.into();
    }
    if let Some(Ok(depth)) = broker {
        part["in_broker"] = (depth.ready + depth.held).into();
        part["unreadable"] = depth.dead.into();
    }
    part
}

/// The names of the parts with which something is wrong, whether that keeps the process from its work or not.
fn failing(parts: &serde_json::Value) -> Vec<&str> {
    let is_wrong = |part: &serde_json::Value| {
        part["state"].as_str().is_some_and(|state| ["failed", "away", "alarm", "refused"].contains(&state))
    };
    let all = parts.as_object().into_iter().flatten();
    all.filter(|(_, part)| is_wrong(part)).map(|(name, _)| name.as_str()).collect()
}

/// What is said of a system that does not answer.
fn away(circuit: &Circuit) -> Option<serde_json::Value> {
    let (since, next_try) = match circuit.state() {
        State::Closed => return None,
        State::Open { since, until } => (since, Some(until)),
        State::Probing { since } => (since, None),
    };
    let detail = format!("{}; what is to be done waits, and goes on by itself", circuit.why());
    Some(json!({ "state": "away", "system": circuit.system(), "detail": detail, "since": since, "next_try": next_try }))
}

/// Everything that is counted. Gauges are taken when they are asked for.
async fn metrics(app: Data<App>) -> HttpResponse {
    if let Err(error) = refresh(&app).await {
        tracing::warn!(error = %Chain(&error), "gauges cannot be taken");
    }
    app.metrics().run_upkeep();
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(app.metrics().render())
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and these are counts")]
async fn refresh(app: &App) -> Result<(), StoreError> {
    // What is in the broker waits too.
    let mut in_broker = 0;
    let mut unreadable = 0;
    if let Some(asked) = broker(app).await {
        gauge!("espo_outlook_queue_broker_up").set(if asked.is_ok() { 1.0 } else { 0.0 });
        if let Ok(depth) = asked {
            (in_broker, unreadable) = (depth.ready + depth.held, depth.dead);
            gauge!("espo_outlook_queue_broker_messages").set(in_broker as f64);
            gauge!("espo_outlook_queue_unreadable").set(unreadable as f64);
        }
    }
    let conn = app.store().read();
    let now = app.clock().now();
    let depth = store::messages::depth(conn).await?;
    gauge!("espo_outlook_queue_depth").set((in_broker + depth.queued + depth.leased) as f64);
    gauge!("espo_outlook_messages_parked").set(depth.parked as f64);
    gauge!("espo_outlook_dead_letters").set((unreadable + depth.dead) as f64);
    let bindings = store::bindings::counts(conn).await?;
    for state in BindingState::ALL {
        let count = bindings.get(state).copied().unwrap_or_default();
        gauge!("espo_outlook_bindings", "state" => state.as_str()).set(count as f64);
    }
    let subscriptions = store::subscriptions::list(conn).await?;
    for state in SubscriptionState::ALL {
        let count = subscriptions.iter().filter(|one| one.state == *state).count();
        gauge!("espo_outlook_subscriptions", "state" => state.as_str()).set(count as f64);
    }
    let active = subscriptions.iter().filter(|one| one.state == SubscriptionState::Active);
    let first = active.map(|one| (one.expires - now).num_seconds()).min();
    gauge!("espo_outlook_subscription_expiry_seconds").set(first.map_or(f64::NAN, |seconds| seconds as f64));
    gauge!("espo_outlook_holds").set(store::holds::open_count(conn).await? as f64);
    Ok(())
}
