//! `/log`: the end of this process's log.

use actix_web::web::{self, Json, Query, ServiceConfig};
use serde::Deserialize;

use super::List;
use crate::http::resource;
use crate::telemetry::{self, LogLine};

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(resource("/log", "GET").route(web::get().to(list)));
}

/// From where on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    after: Option<u64>,
}

/// The last lines of this process's log, the oldest first; with `after` those that follow the line of that number.
#[utoipa::path(get, path = "/api/v1/log", tag = "operation", params(("after" = Option<u64>, Query)), responses((status = 200, body = List<LogLine>)))]
pub(in crate::http) async fn list(which: Query<Which>) -> Json<List<LogLine>> {
    let after = which.after.unwrap_or_default();
    Json(List::whole(telemetry::recent().into_iter().filter(|line| line.number > after).collect()))
}
