//! `/records/{kind}/{id}`: why a record is or is not synchronised, and its switch; `/items/{user_id}/{id}`: the same for an item.

use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use serde::{Deserialize, Serialize};
use sync::Kind;
use utoipa::ToSchema;

use super::Answer;
use crate::app::App;
use crate::http::engine;
use crate::http::extract::Object;
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/records/{kind}/{id}", "GET").route(web::get().to(show)))
        .service(resource("/items/{user_id}/{id}", "GET").route(web::get().to(item)))
        .service(resource("/records/{kind}/{id}/sync", "PUT").route(web::put().to(switch)));
}

/// Why a record or an item is or is not synchronised, as the document describes it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the JSON that crate::work::inspect makes")]
pub struct Explained {
    /// `meeting`, `call` or `task`.
    kind: String,
    /// EspoCRM's id; null for an item that has no record.
    record_id: Option<String>,
    /// The answer in one sentence.
    summary: String,
    /// Further reasons, one sentence each.
    #[schema(value_type = Vec<Object>)]
    reasons: Vec<serde_json::Value>,
    /// Whether it is synchronised.
    synchronised: bool,
    /// The record's switch.
    enabled: bool,
    /// The pair.
    #[schema(value_type = Option<Object>)]
    link: Option<serde_json::Value>,
    /// The last agreed value of each field, on each side.
    #[schema(value_type = Option<Object>)]
    base: Option<serde_json::Value>,
    /// The copies in mailboxes.
    #[schema(value_type = Option<Vec<Object>>)]
    replicas: Option<Vec<serde_json::Value>>,
    /// The record as it is now.
    #[schema(value_type = Object)]
    espo: serde_json::Value,
    /// The item as it is now.
    #[schema(value_type = Object)]
    outlook: serde_json::Value,
    /// What would be done, step by step.
    #[schema(value_type = Option<Object>)]
    decision: Option<serde_json::Value>,
    /// What waits for an administrator.
    #[schema(value_type = Vec<Object>)]
    holds: Vec<serde_json::Value>,
    /// What failed for good.
    #[schema(value_type = Vec<Object>)]
    dead_letters: Vec<serde_json::Value>,
}

/// The link, its base, both ends, the copies, and the decision step by step.
#[utoipa::path(get, path = "/api/v1/records/{kind}/{id}", tag = "records", params(("kind" = String, Path), ("id" = String, Path)), responses((status = 200, body = Explained)))]
pub(in crate::http) async fn show(
    app: Data<App>,
    caller: Caller,
    path: Path<(Kind, String)>,
) -> Answer<serde_json::Value> {
    let (kind, id) = path.into_inner();
    if !caller.is_admin {
        caller.must_read("records")?;
        must_be_own(&app, &caller, kind, &id).await?;
    }
    engine::explain(&app, kind, id).await.map(Json)
}

/// Users see what is synchronised for themselves.
async fn must_be_own(app: &App, caller: &Caller, kind: Kind, id: &str) -> Result<(), Problem> {
    let link = store::links::by_record(app.store().read(), kind, id).await?;
    let own = caller.user_id.as_deref().unwrap_or_default();
    let is_own = link.is_some_and(|link| link.owner == own || link.replicas.iter().any(|replica| replica.user == own));
    if is_own {
        return Ok(());
    }
    Err(Problem::not_found(format!("no {kind} `{id}` is synchronised for you")))
}

/// Where an item is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InList {
    pub(in crate::http) list: Option<String>,
}

/// The same for an event or To Do task in a bound user's mailbox; a task is looked for in the binding's list unless another is
/// named.
#[utoipa::path(get, path = "/api/v1/items/{user_id}/{id}", tag = "records", params(("user_id" = String, Path), ("id" = String, Path), ("list" = Option<String>, Query)), responses((status = 200, body = Explained)))]
pub(in crate::http) async fn item(
    app: Data<App>,
    path: Path<(String, String)>,
    place: Query<InList>,
) -> Answer<serde_json::Value> {
    let (user, id) = path.into_inner();
    if store::bindings::by_user(app.store().read(), &user).await?.is_none() {
        return Err(Problem::not_found(format!("the user `{user}` is not bound; bind the user to a mailbox first")));
    }
    engine::explain_item(&app, user, place.into_inner().list, id).await.map(Json)
}

/// The switch.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Whether the record takes part.
    pub enabled: bool,
}

/// Switches one record on or off.
#[utoipa::path(put, path = "/api/v1/records/{kind}/{id}/sync", tag = "records", params(("kind" = String, Path), ("id" = String, Path)), request_body = Switch, responses((status = 200, body = Switch)))]
pub(in crate::http) async fn switch(
    app: Data<App>,
    caller: Caller,
    path: Path<(Kind, String)>,
    wanted: Json<Object<Switch>>,
) -> Answer<Switch> {
    let (kind, id) = path.into_inner();
    if !caller.is_admin {
        caller.must_edit("records")?;
        must_be_own(&app, &caller, kind, &id).await?;
    }
    if id.is_empty() || id.len() > 36 {
        return Err(Problem::bad_request("the id is not one of EspoCRM's"));
    }
    let Object(wanted) = wanted.into_inner();
    if !engine::is_known(&app, kind, &id).await? {
        return Err(Problem::not_found(format!("EspoCRM has no {kind} `{id}`")));
    }
    engine::switch(&app, kind, id, wanted.enabled).await?;
    Ok(Json(wanted))
}
