//! The OpenAPI document, and a page that lists the routes without anything from elsewhere.

use std::fmt::Write as _;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{PathItem, RefOr, Response};
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
        api::users::list, api::users::show, api::bindings::put, api::bindings::delete, api::bindings::authorize,
        api::sync::start, api::sync::relink, api::sync::jobs, api::sync::job, api::sync::holds, api::sync::confirm, api::sync::discard,
        api::history::list, api::history::show, api::history::revert, api::history::revert_range,
        api::records::show, api::records::item, api::records::switch,
        api::messages::list, api::messages::show, api::messages::replay, api::messages::replay_many, api::messages::delete,
        api::audit::list,
        api::subscriptions::list, api::subscriptions::renew, api::subscriptions::renew_all,
        api::doctor::show,
    ),
    components(schemas(problem::Problem)),
    security(("admin_token" = [])),
    modifiers(&Token, &Refusals, &Others),
)]
pub struct Document;

/// What every route of the admin API may answer instead.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let answer = json!({
            "description": "Refused or failed; the body says why, and what to do about it",
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
        let Ok(answer) = serde_json::from_value::<Response>(answer) else { return };
        let all = document.paths.paths.values_mut();
        let operations = all.flat_map(|item| [&mut item.get, &mut item.put, &mut item.post, &mut item.delete]);
        for operation in operations.flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(answer.clone()));
        }
    }
}

/// The routes that are not of the admin API: they need no token.
struct Others;

impl Modify for Others {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let Value::Object(routes) = others() else { return };
        for (path, item) in routes {
            if let Ok(item) = serde_json::from_value::<PathItem>(item) {
                document.paths.paths.insert(path, item);
            }
        }
    }
}

fn others() -> Value {
    let said = |status: &str, text: &str| (status.to_owned(), json!({ "description": text }));
    let operation = |tag: &str, summary: &str, answers: Vec<(String, Value)>, more: Value| {
        let answers: Map<String, Value> = answers.into_iter().collect();
        let mut operation = json!({ "tags": [tag], "summary": summary, "responses": answers, "security": [{}] });
        if let (Some(all), Value::Object(more)) = (operation.as_object_mut(), more) {
            all.extend(more);
        }
        operation
    };
    let shown = |status: &str, text: &str, properties: Value| {
        let schema = json!({ "type": "object", "properties": properties });
        (status.to_owned(), json!({ "description": text, "content": { "application/json": { "schema": schema } } }))
    };
    let query = |names: &[&str]| -> Value {
        let one =
            |name: &&str| json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" } });
        names.iter().map(one).collect()
    };
    let parts = json!({
        "status": { "type": "string" },
        "failing": { "type": "array", "items": { "type": "string" } },
        "parts": { "type": "object" },
    });
    let ready = vec![
        shown("200", "It can do its work", parts.clone()),
        shown("503", "It cannot; `failing` names the parts", parts),
    ];
    let notified = || {
        let answers = vec![
            said("200", "The validation token, as plain text"),
            said("202", "All of it is durable; what was not believed is dropped"),
            said("400", "It is no notification"),
            said("413", "Larger than server.max_body"),
            said("503", "It cannot be kept now; send it again"),
        ];
        let body = json!({ "content": { "application/json": { "schema": { "type": "object" } } } });
        let more = json!({ "parameters": query(&["validationToken"]), "requestBody": body });
        operation("receivers", "What Microsoft Graph notifies of", answers, more)
    };
    let headers = json!([
        { "name": "Signature", "in": "header", "required": false, "schema": { "type": "string" } },
        { "name": "X-Signature", "in": "header", "required": false, "schema": { "type": "string" } },
    ]);
    let records =
        json!({ "type": "array", "items": { "type": "object", "properties": { "id": { "type": "string" } } } });
    let delivered = operation(
        "receivers",
        "What EspoCRM's webhooks deliver",
        vec![
            said("200", "All of it is durable"),
            said("400", "It is no array"),
            said("401", "The signature is wrong or missing"),
            said("413", "Larger than server.max_body"),
            said("503", "It cannot be kept now; send it again"),
        ],
        json!({ "parameters": headers, "requestBody": { "content": { "application/json": { "schema": records } } } }),
    );
    let alive = shown("200", "It runs", json!({ "status": { "type": "string" } }));
    let start = vec![said("303", "To Microsoft"), said("400", "The link was used or is too old")];
    let callback = vec![said("200", "Signed in"), said("400", "It belongs to no sign-in"), said("403", "Refused")];
    json!({
        "/healthz": { "get": operation("operation", "Whether the process runs", vec![alive], json!({})) },
        "/readyz": { "get": operation("operation", "Whether it can do its work", ready, json!({})) },
        "/metrics": { "get": operation("operation", "Metrics, as Prometheus reads them", vec![said("200", "Text")], json!({})) },
        "/webhooks/espocrm": { "post": delivered },
        "/webhooks/graph": { "post": notified() },
        "/webhooks/graph/lifecycle": { "post": notified() },
        "/oauth/microsoft/start": {
            "get": operation("sign-in", "A user's sign-in link", start, json!({ "parameters": query(&["ticket"]) })),
        },
        "/oauth/microsoft/callback": {
            "get": operation("sign-in", "Where Microsoft sends users back to", callback,
                json!({ "parameters": query(&["state", "code", "error", "error_description"]) })),
        },
    })
}

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
            ("/healthz", "get"),
            ("/readyz", "get"),
            ("/webhooks/espocrm", "post"),
            ("/webhooks/graph/lifecycle", "post"),
            ("/oauth/microsoft/callback", "get"),
        ];
        for (path, method) in wanted {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
        }
    }

    #[test]
    fn every_answer_and_body_of_the_admin_api_has_a_schema_and_every_reference_leads_somewhere() {
        let text = json().unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
                if !path.starts_with("/api/v1/") {
                    continue;
                }
                let problem = &responses["default"]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{method} {path}");
                for (status, answer) in responses.iter().filter(|(status, _)| status.starts_with('2')) {
                    let schema = &answer["content"]["application/json"]["schema"];
                    let says_something = schema.get("$ref").is_some() || schema.get("properties").is_some();
                    assert!(status == "204" || says_something, "{method} {path} {status}: {schema}");
                }
                if let Some(body) = operation.get("requestBody") {
                    let schema = &body["content"]["application/json"]["schema"];
                    let says_something =
                        ["$ref", "properties", "additionalProperties"].iter().any(|key| schema.get(key).is_some());
                    assert!(says_something, "{method} {path}: {schema}");
                }
            }
        }
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at..].split('"').next().unwrap().rsplit('/').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
        }
    }
}
