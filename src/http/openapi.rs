//! The OpenAPI document, and a page that lists the routes without anything from elsewhere.

use std::fmt::Write as _;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{api, page, problem, resource};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(title = "espo-outlook", description = "Keeps EspoCRM and Microsoft 365 in step: meetings, calls and tasks, both ways."),
    paths(
        api::settings::show, api::settings::put, api::settings::show_schedules, api::settings::put_schedules,
        api::settings::show_roles, api::settings::put_roles,
        api::rules::show, api::rules::put, api::rules::show_of_user, api::rules::put_of_user, api::rules::delete_of_user,
        api::users::list, api::users::show, api::bindings::put, api::bindings::delete, api::bindings::authorize, api::bindings::lists,
        api::sync::start, api::sync::relink, api::sync::jobs, api::sync::job, api::sync::holds, api::sync::confirm, api::sync::discard,
        api::history::list, api::history::show, api::history::revert, api::history::revert_range,
        api::records::list, api::records::show, api::records::item, api::records::switch,
        api::messages::list, api::messages::show, api::messages::replay, api::messages::replay_many, api::messages::discard_many, api::messages::delete,
        api::audit::list,
        api::subscriptions::list, api::subscriptions::renew, api::subscriptions::renew_all,
        api::doctor::show, api::overview::show, api::sessions::list, api::sessions::end, api::log::list,
    ),
    components(schemas(problem::Problem)),
    security(("admin_token" = [])),
    modifiers(&Token),
)]
pub struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("server.admin_token")).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("admin_token", SecurityScheme::Http(scheme));
    }
}

/// The document as JSON text.
///
/// # Errors
///
/// When it cannot be written, which a test shows it can.
pub fn json() -> Result<String, serde_json::Error> {
    Document::openapi().to_pretty_json()
}

pub(super) fn scope() -> impl HttpServiceFactory {
    (
        resource("/api/openapi.json", "GET").route(web::get().to(document)),
        resource("/api/docs", "GET").route(web::get().to(docs)),
    )
}

async fn document() -> Result<HttpResponse, problem::Problem> {
    let json = json().map_err(|error| problem::Problem::internal(&error))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(json))
}

async fn docs() -> Result<HttpResponse, problem::Problem> {
    let document = serde_json::to_value(Document::openapi()).map_err(|error| problem::Problem::internal(&error))?;
    let mut body = String::from(
        "<p>The document for machines is at <a href=\"/api/openapi.json\">/api/openapi.json</a>. Send the admin token: \
         <code>Authorization: Bearer …</code></p><table><tr><th>Method</th><th>Route</th><th>What it does</th></tr>",
    );
    for (path, operations) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let summary = operation.get("summary").and_then(Value::as_str).unwrap_or_default();
            let (method, path, summary) =
                (page::escape(&method.to_uppercase()), page::escape(path), page::escape(summary));
            let _ = write!(body, "<tr><td>{method}</td><td><code>{path}</code></td><td>{summary}</td></tr>");
        }
    }
    body.push_str("</table>");
    Ok(page::html(StatusCode::OK, "Admin API", &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_contract_is_described() {
        let document: Value = serde_json::from_str(&json().unwrap()).unwrap();
        let wanted = [
            ("/api/v1/settings", "put"),
            ("/api/v1/rules", "get"),
            ("/api/v1/users/{id}/rules", "delete"),
            ("/api/v1/users", "get"),
            ("/api/v1/users/{id}/binding", "put"),
            ("/api/v1/users/{id}/authorize", "post"),
            ("/api/v1/sync", "post"),
            ("/api/v1/jobs/{id}", "get"),
            ("/api/v1/schedules", "put"),
            ("/api/v1/history/revert", "post"),
            ("/api/v1/records/{kind}/{id}/sync", "put"),
            ("/api/v1/messages/{id}", "delete"),
            ("/api/v1/subscriptions/renew", "post"),
            ("/api/v1/holds/{id}/confirm", "post"),
            ("/api/v1/roles", "put"),
            ("/api/v1/audit", "get"),
            ("/api/v1/doctor", "get"),
        ];
        for (path, method) in wanted {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
        }
    }
}
