//! `/overview`: how every part stands, and what ends soon. The front page and `espo-outlook status` show it.

use std::collections::BTreeMap;

use actix_web::web::{self, Data, Json, ServiceConfig};
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use store::bindings::BindingState;
use store::messages::{Filter, MessageState};
use store::subscriptions::SubscriptionState;
use utoipa::ToSchema;

use super::Answer;
use crate::app::{App, traffic};
use crate::http::probes::{self, Writes};
use crate::http::problem::Problem;
use crate::http::resource;

/// A sign-in that is not used ends after that (learn.microsoft.com/entra/identity-platform/refresh-tokens).
const SIGN_IN_LIVES: TimeDelta = TimeDelta::days(90);
/// What ends later than that is of no interest yet; secrets and certificates are told in any case.
const SOON: TimeDelta = TimeDelta::days(30);
/// Traffic is that of so many hours.
const HOURS: u32 = 24;
/// So many errors are told.
const ERRORS: u64 = 5;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(resource("/overview", "GET").route(web::get().to(show)));
}

/// How everything stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Overview {
    /// Whether anything is synchronised at all.
    pub enabled: bool,
    /// Database, queue, EspoCRM and Microsoft, as `/readyz` tells them.
    #[schema(value_type = Object)]
    pub parts: Value,
    /// Bindings by state.
    pub bindings: BTreeMap<&'static str, u64>,
    /// Graph subscriptions by state.
    pub subscriptions: BTreeMap<&'static str, u64>,
    /// Plans that wait for a decision.
    pub holds: u64,
    /// What was sent to each system in the last 24 hours, by all processes.
    pub traffic: Vec<Traffic>,
    /// The latest that failed, to be tried again or for good.
    pub errors: Vec<LatestError>,
    /// What ends soon, the first first; secret and certificate in any case.
    pub expiring: Vec<Expiring>,
}

/// What was sent to a system in the last 24 hours, by all processes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Traffic {
    /// `espocrm`, `graph` or `entra`.
    pub system: String,
    /// Requests.
    pub requests: u64,
    /// Of these, answered with 5xx, or not at all.
    pub failed: u64,
    /// Of these, answered with 429: too many.
    pub throttled: u64,
}

/// Something that failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct LatestError {
    /// The message.
    pub id: String,
    /// When it was received.
    pub received: DateTime<Utc>,
    /// `parked` or `dead`.
    pub state: &'static str,
    /// Why.
    pub error: String,
}

/// Something that ends.
#[derive(Debug, Serialize, ToSchema)]
pub struct Expiring {
    /// `client_secret`, `certificate`, `subscription` or `sign_in`.
    pub what: &'static str,
    /// Whose, where it is somebody's.
    pub user_id: Option<String>,
    /// When; null when nobody knows.
    pub at: Option<DateTime<Utc>>,
    /// Whether it is over.
    pub is_over: bool,
}

/// How every part stands, what was sent, what failed, what ends soon.
#[utoipa::path(get, path = "/api/v1/overview", tag = "operation", responses((status = 200, body = Overview)))]
pub async fn show(app: Data<App>, writes: Data<Writes>) -> Answer<Overview> {
    of(&app, &writes).await.map(Json)
}

pub(in crate::http) async fn of(app: &App, writes: &Writes) -> Result<Overview, Problem> {
    let conn = app.store().read();
    let (_, told) = probes::state(app, writes).await;
    let counts = store::bindings::counts(conn).await?;
    let subscriptions = store::subscriptions::list(conn).await?;
    let count = |state: &SubscriptionState| subscriptions.iter().filter(|one| one.state == *state).count() as u64;
    Ok(Overview {
        enabled: app.connections().settings().enabled,
        parts: told.get("parts").cloned().unwrap_or_default(),
        bindings: BindingState::ALL
            .iter()
            .map(|state| (state.as_str(), counts.get(state).copied().unwrap_or_default()))
            .collect(),
        subscriptions: SubscriptionState::ALL.iter().map(|state| (state.as_str(), count(state))).collect(),
        holds: store::holds::open_count(conn).await?,
        traffic: traffic(app).await?,
        errors: errors(app).await?,
        expiring: expiring(app, &subscriptions).await?,
    })
}

async fn traffic(app: &App) -> Result<Vec<Traffic>, Problem> {
    let sent = traffic::sent(app, HOURS).await?.into_iter();
    Ok(sent
        .map(|(system, sent)| Traffic {
            system,
            requests: sent.requests,
            failed: sent.failed,
            throttled: sent.throttled,
        })
        .collect())
}

async fn errors(app: &App) -> Result<Vec<LatestError>, Problem> {
    let mut latest = Vec::new();
    for state in [MessageState::Dead, MessageState::Parked] {
        let filter = Filter { state: Some(state), ..Filter::default() };
        for message in store::messages::page(app.store().read(), &filter, None, ERRORS).await?.items {
            let Some(error) = message.last_error.clone() else { continue };
            let received = message.change.received;
            latest.push(LatestError { id: message.change.id, received, state: state.as_str(), error });
        }
    }
    latest.sort_by_key(|one| std::cmp::Reverse(one.received));
    latest.truncate(usize::try_from(ERRORS).unwrap_or(usize::MAX));
    Ok(latest)
}

async fn expiring(app: &App, subscriptions: &[store::subscriptions::Subscription]) -> Result<Vec<Expiring>, Problem> {
    let now = app.clock().now();
    let mut all = Vec::new();
    let mut add = |what, user_id: Option<&str>, at: Option<DateTime<Utc>>| {
        let is_over = at.is_some_and(|at| at <= now);
        all.push(Expiring { what, user_id: user_id.map(str::to_owned), at, is_over });
    };
    let settings = app.connections().settings();
    if let Some(microsoft) = app.connections().microsoft() {
        match microsoft.certificate_ends {
            Some(end) => add("certificate", None, end),
            None => {
                let noted = settings.microsoft.secret_expires;
                add("client_secret", None, noted.map(|day| day.and_time(NaiveTime::MIN).and_utc()));
            }
        }
    }
    // They are renewed at half of their life: one that ends within the hour was not.
    for one in subscriptions.iter().filter(|one| one.expires - now < TimeDelta::hours(1)) {
        add("subscription", Some(&one.user_id), Some(one.expires));
    }
    let bound = store::bindings::list(app.store().read()).await?;
    for (user, updated) in store::tokens::updated(app.store().read()).await? {
        let end = updated + SIGN_IN_LIVES;
        if end - now < SOON && bound.iter().any(|binding| binding.user_id == user) {
            add("sign_in", Some(&user), Some(end));
        }
    }
    all.sort_by_key(|one| one.at);
    Ok(all)
}
