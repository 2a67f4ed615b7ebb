//! `/records/{kind}/{id}`: why a record is or is not synchronised, and its switch.

use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::{Deserialize, Serialize};
use sync::Kind;
use utoipa::ToSchema;

use super::Answer;
use crate::app::App;
use crate::http::engine;
use crate::http::problem::Problem;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/records/{kind}/{id}", "GET").route(web::get().to(show)))
        .service(resource("/records/{kind}/{id}/sync", "PUT").route(web::put().to(switch)));
}

/// The link, its base, both ends, the copies, and the decision step by step.
#[utoipa::path(get, path = "/api/v1/records/{kind}/{id}", tag = "records", params(("kind" = String, Path), ("id" = String, Path)), responses((status = 200, body = Object)))]
pub(in crate::http) async fn show(app: Data<App>, path: Path<(Kind, String)>) -> Answer<serde_json::Value> {
    let (kind, id) = path.into_inner();
    engine::explain(&app, kind, id).await.map(Json)
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
    path: Path<(Kind, String)>,
    wanted: Json<Switch>,
) -> Answer<Switch> {
    let (kind, id) = path.into_inner();
    if id.is_empty() || id.len() > 36 {
        return Err(Problem::bad_request("the id is not one of EspoCRM's"));
    }
    engine::switch(&app, kind, id, wanted.enabled).await?;
    Ok(wanted)
}
