//! `/messages`: what was received, and its replay.

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, Json, Path, Query, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::messages::{Filter, Message, MessageState};
use utoipa::ToSchema;

use super::{Answer, List, limit, moment, word};
use crate::app::App;
use crate::http::extract::or_default;
use crate::http::problem::Problem;
use crate::http::resource;
use crate::work::received;

const STATES: &[&str] = &["queued", "leased", "parked", "done", "dead", "superseded"];

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/messages", "GET").route(web::get().to(list)))
        .service(resource("/messages/replay", "POST").route(web::post().to(replay_many)))
        .service(resource("/messages/discard", "POST").route(web::post().to(discard_many)))
        .service(resource("/messages/{id}", "GET, DELETE").route(web::get().to(show)).route(web::delete().to(delete)))
        .service(resource("/messages/{id}/replay", "POST").route(web::post().to(replay)));
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownMessage {
    /// Our id.
    pub id: String,
    /// When it was received.
    pub received: DateTime<Utc>,
    /// Who said so.
    pub source: String,
    /// Where to look.
    #[schema(value_type = Object)]
    pub target: sync::Target,
    /// Where it stands.
    pub state: &'static str,
    /// How often it failed.
    pub attempts: u32,
    /// Not before.
    pub due: DateTime<Utc>,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// When it was done, dead or superseded.
    pub finished: Option<DateTime<Utc>>,
    /// The message that it repeats.
    pub replay_of: Option<String>,
    /// What was received, in part.
    pub excerpt: Option<String>,
}

impl From<Message> for ShownMessage {
    fn from(message: Message) -> Self {
        Self {
            id: message.change.id,
            received: message.change.received,
            source: message.source,
            target: message.change.target,
            state: message.state.as_str(),
            attempts: message.attempts,
            due: message.due,
            last_error: message.last_error,
            finished: message.finished,
            replay_of: message.replay_of,
            excerpt: message.excerpt,
        }
    }
}

/// Which messages.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    state: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<u64>,
}

/// What was received, the newest first.
#[utoipa::path(get, path = "/api/v1/messages", tag = "messages",
    params(("state" = Option<String>, Query), ("since" = Option<String>, Query), ("until" = Option<String>, Query),
        ("cursor" = Option<String>, Query), ("limit" = Option<u64>, Query)),
    responses((status = 200, body = List<ShownMessage>)))]
pub(in crate::http) async fn list(app: Data<App>, which: Query<Which>) -> Answer<List<ShownMessage>> {
    let filter = Filter {
        state: word("state", which.state.as_deref(), STATES)?,
        since: moment("since", which.since.as_deref())?,
        until: moment("until", which.until.as_deref())?,
        ..Filter::default()
    };
    received::show(&app).await;
    let page = store::messages::page(app.store().read(), &filter, which.cursor.as_deref(), limit(which.limit)).await?;
    Ok(Json(List { items: page.items.into_iter().map(ShownMessage::from).collect(), next_cursor: page.next }))
}

fn missing(id: &str) -> Problem {
    Problem::not_found(format!("there is no message `{id}`"))
}

/// One message.
#[utoipa::path(get, path = "/api/v1/messages/{id}", tag = "messages", params(("id" = String, Path)), responses((status = 200, body = ShownMessage)))]
pub(in crate::http) async fn show(app: Data<App>, id: Path<String>) -> Answer<ShownMessage> {
    received::show(&app).await;
    let message = store::messages::get(app.store().read(), &id).await?;
    message.map(|message| Json(message.into())).ok_or_else(|| missing(&id))
}

/// How many messages are looked at again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replayed {
    /// So many.
    pub replayed: u64,
}

/// Which messages to look at again; nothing is named: all dead ones.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// In that state.
    state: Option<String>,
    /// Received from then on.
    since: Option<String>,
    /// Received before that.
    until: Option<String>,
    /// These.
    ids: Option<Vec<String>>,
}

pub(in crate::http) async fn again(app: &App, filter: &Filter) -> Result<u64, Problem> {
    received::take_in(app).await?;
    let mut replayed = store::insist(|| async {
        let transaction = app.store().begin().await?;
        let ids = app.ids();
        let replayed = store::messages::replay(&transaction, filter, app.clock().now(), || ids.next()).await?;
        transaction.commit().await?;
        Ok(replayed)
    })
    .await?;
    app.queue().wake().notify_one();
    let all_dead = Filter { state: Some(MessageState::Dead), ..Filter::default() };
    if *filter == all_dead
        && let Some(broker) = app.queue().broker()
    {
        // Those that nobody could read are dead too.
        match broker.revive().await {
            Ok(revived) => replayed += revived,
            Err(fault) => tracing::warn!(error = %fault, "what is dead in RabbitMQ cannot be put back now"),
        }
    }
    Ok(replayed)
}

/// Has one message looked at again.
#[utoipa::path(post, path = "/api/v1/messages/{id}/replay", tag = "messages", params(("id" = String, Path)), responses((status = 202, body = Replayed)))]
pub(in crate::http) async fn replay(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Problem> {
    received::take_in(&app).await?;
    if store::messages::get(app.store().read(), &id).await?.is_none() {
        return Err(missing(&id));
    }
    let filter = Filter { ids: Some(vec![id.into_inner()]), ..Filter::default() };
    Ok(HttpResponse::Accepted().json(Replayed { replayed: again(&app, &filter).await? }))
}

fn which(request: ReplayRequest) -> Result<Filter, Problem> {
    let mut filter = Filter {
        ids: request.ids,
        state: word("state", request.state.as_deref(), STATES)?,
        since: moment("since", request.since.as_deref())?,
        until: moment("until", request.until.as_deref())?,
        target: None,
    };
    if filter == Filter::default() {
        filter.state = Some(MessageState::Dead);
    }
    Ok(filter)
}

/// How many messages were discarded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Discarded {
    /// So many.
    pub discarded: u64,
}

/// Discards messages that nobody is working on; nothing is named: all dead ones.
#[utoipa::path(post, path = "/api/v1/messages/discard", tag = "messages", request_body = ReplayRequest, responses((status = 200, body = Discarded)))]
pub(in crate::http) async fn discard_many(app: Data<App>, body: Bytes) -> Answer<Discarded> {
    discard(&app, &which(or_default(&body)?)?).await
}

pub(in crate::http) async fn discard(app: &App, filter: &Filter) -> Answer<Discarded> {
    received::take_in(app).await?;
    Ok(Json(Discarded { discarded: store::messages::delete_many(app.store().write(), filter).await? }))
}

/// Has messages looked at again.
#[utoipa::path(post, path = "/api/v1/messages/replay", tag = "messages", request_body = ReplayRequest, responses((status = 202, body = Replayed)))]
pub(in crate::http) async fn replay_many(app: Data<App>, body: Bytes) -> Result<HttpResponse, Problem> {
    let filter = which(or_default(&body)?)?;
    Ok(HttpResponse::Accepted().json(Replayed { replayed: again(&app, &filter).await? }))
}

/// Deletes a message that nobody is working on.
#[utoipa::path(delete, path = "/api/v1/messages/{id}", tag = "messages", params(("id" = String, Path)), responses((status = 204)))]
pub(in crate::http) async fn delete(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Problem> {
    received::take_in(&app).await?;
    if store::messages::delete(app.store().write(), &id).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    match store::messages::get(app.store().read(), &id).await? {
        Some(_) => Err(Problem::conflict("the message is being worked on; try again in a moment")),
        None => Err(missing(&id)),
    }
}
