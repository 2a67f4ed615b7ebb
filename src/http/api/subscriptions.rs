//! `/subscriptions`: what Microsoft tells us about.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::Serialize;
use store::subscriptions::Subscription;
use utoipa::ToSchema;

use super::{Answer, List};
use crate::app::App;
use crate::http::engine;
use crate::http::problem::Problem;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/subscriptions", "GET").route(web::get().to(list)))
        .service(resource("/subscriptions/renew", "POST").route(web::post().to(renew_all)))
        .service(resource("/subscriptions/{id}/renew", "POST").route(web::post().to(renew)));
}

/// A subscription, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownSubscription {
    /// Microsoft's id.
    pub id: String,
    /// Whose mailbox.
    pub user_id: String,
    /// What is watched.
    pub resource: String,
    /// To Do list.
    pub list_id: Option<String>,
    /// `active`, `lapsed` or `failed`.
    pub state: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it ends.
    pub expires: DateTime<Utc>,
    /// When it is renewed.
    pub renew_at: DateTime<Utc>,
}

impl From<Subscription> for ShownSubscription {
    fn from(one: Subscription) -> Self {
        Self {
            id: one.id,
            user_id: one.user_id,
            resource: one.resource,
            list_id: one.list_id,
            state: one.state.as_str(),
            error: one.error,
            created: one.created,
            expires: one.expires,
            renew_at: one.renew_at,
        }
    }
}

/// All of them.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "subscriptions", responses((status = 200, body = List<ShownSubscription>)))]
pub(in crate::http) async fn list(app: Data<App>) -> Answer<List<ShownSubscription>> {
    let all = store::subscriptions::list(app.store().read()).await?;
    Ok(Json(List::whole(all.into_iter().map(ShownSubscription::from).collect())))
}

/// How many are being renewed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Renewing {
    /// So many.
    pub renewing: usize,
}

/// Renews one now.
#[utoipa::path(post, path = "/api/v1/subscriptions/{id}/renew", tag = "subscriptions", params(("id" = String, Path)), responses((status = 202, body = Renewing)))]
pub(in crate::http) async fn renew(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let one = store::subscriptions::get(app.store().read(), &id).await?;
    let one = one.ok_or_else(|| Problem::not_found(format!("there is no subscription `{id}`")))?;
    engine::renew(&app, &[one]).await?;
    Ok(HttpResponse::Accepted().json(Renewing { renewing: 1 }))
}

/// Renews all of them now.
#[utoipa::path(post, path = "/api/v1/subscriptions/renew", tag = "subscriptions", responses((status = 202, body = Renewing)))]
pub(in crate::http) async fn renew_all(app: Data<App>) -> Result<HttpResponse, Problem> {
    let all = store::subscriptions::list(app.store().read()).await?;
    engine::renew(&app, &all).await?;
    Ok(HttpResponse::Accepted().json(Renewing { renewing: all.len() }))
}
