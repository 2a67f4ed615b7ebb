//! `/sessions`: who is signed in to the pages, and ending it.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::Serialize;
use store::sessions::Session;
use utoipa::ToSchema;

use super::{Answer, List};
use crate::app::App;
use crate::http::problem::Problem;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/sessions", "GET").route(web::get().to(list)))
        .service(resource("/sessions/{id}", "DELETE").route(web::delete().to(end)));
}

/// Somebody who is signed in to the pages.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownSession {
    /// Our id: the hash of the cookie, with which nobody can sign in.
    pub id: String,
    /// EspoCRM's id of the user; null for the holder of the admin token.
    pub user_id: Option<String>,
    /// Login name.
    pub user_name: String,
    /// Full name.
    pub name: String,
    /// Whether it is an administrator's.
    pub is_admin: bool,
    /// What the browser calls itself.
    pub agent: String,
    /// When it began.
    pub created: DateTime<Utc>,
    /// When it was last used.
    pub seen: DateTime<Utc>,
    /// After that it is over, unless it is used.
    pub expires: DateTime<Utc>,
}

impl From<Session> for ShownSession {
    fn from(one: Session) -> Self {
        let Session { id, user_id, user_name, name, is_admin, agent, created, seen, expires, .. } = one;
        Self { id, user_id, user_name, name, is_admin, agent, created, seen, expires }
    }
}

/// Everybody who is signed in to the pages.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "operation", responses((status = 200, body = List<ShownSession>)))]
pub(in crate::http) async fn list(app: Data<App>) -> Answer<List<ShownSession>> {
    let all = store::sessions::all(app.store().read(), app.clock().now()).await?;
    Ok(Json(List::whole(all.into_iter().map(ShownSession::from).collect())))
}

/// Ends a session: its cookie is worth nothing from now on.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "operation", params(("id" = String, Path)), responses((status = 204)))]
pub(in crate::http) async fn end(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Problem> {
    match store::sessions::delete(app.store().write(), &id).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(Problem::not_found("there is no such session")),
    }
}
