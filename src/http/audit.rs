//! The audit of what is done by the admin API and the pages: who, when, what, with which values, and what came of it.
//!
//! Whatever changes something is noted before it is begun, refused requests included; where it cannot be noted it is not
//! done. Values are kept as they were sent, but for secrets: of those only that they were given.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{Error, HttpMessage as _};
use serde_json::{Map, Value, json};
use store::audit::Entry;

use super::extract;
use super::problem::Problem;
use super::session::Caller;
use crate::app::App;

/// Who holds the admin token.
const ADMIN_TOKEN: &str = "admin token";
/// More of a body is not kept.
const LARGEST: usize = 16 << 10;

/// Methods and routes below `/api/v1`, and what they are called.
const ACTIONS: &[(&str, &str, &str)] = &[
    ("PUT", "/settings", "settings.update"),
    ("PUT", "/schedules", "schedules.update"),
    ("PUT", "/roles", "roles.update"),
    ("PUT", "/rules", "rules.update"),
    ("PUT", "/users/{id}/rules", "user_rules.update"),
    ("DELETE", "/users/{id}/rules", "user_rules.delete"),
    ("PUT", "/users/{id}/binding", "binding.update"),
    ("DELETE", "/users/{id}/binding", "binding.delete"),
    ("POST", "/users/{id}/authorize", "binding.authorize"),
    ("POST", "/sync", "sync.start"),
    ("POST", "/relink", "relink.start"),
    ("POST", "/holds/{id}/confirm", "hold.confirm"),
    ("POST", "/holds/{id}/discard", "hold.discard"),
    ("POST", "/history/{id}/revert", "history.revert"),
    ("POST", "/history/revert", "history.revert"),
    ("PUT", "/records/{kind}/{id}/sync", "record.switch"),
    ("POST", "/messages/{id}/replay", "message.replay"),
    ("POST", "/messages/replay", "message.replay"),
    ("DELETE", "/messages/{id}", "message.discard"),
    ("POST", "/messages/discard", "message.discard"),
    ("DELETE", "/sessions/{id}", "session.end"),
    ("POST", "/subscriptions/{id}/renew", "subscription.renew"),
    ("POST", "/subscriptions/renew", "subscription.renew"),
];

/// Forms of the pages, and what they are called where the API does the same.
const PAGES: &[(&str, &str)] = &[
    ("/settings", "settings.update"),
    ("/setup/espocrm", "settings.update"),
    ("/setup/microsoft", "settings.update"),
    ("/schedules", "schedules.update"),
    ("/roles", "roles.update"),
    ("/rules", "rules.update"),
    ("/users/{id}/rules", "user_rules.update"),
    ("/me/rules", "user_rules.update"),
    ("/users/{id}", "binding.update"),
    ("/me", "binding.update"),
    ("/setup/user", "binding.update"),
    ("/users/{id}/unbind", "binding.delete"),
    ("/users/{id}/link", "binding.authorize"),
    ("/me/token", "binding.authorize"),
    ("/sync", "sync.start"),
    ("/users/{id}/sync", "sync.start"),
    ("/me/sync", "sync.start"),
    ("/holds/{id}", "hold.decide"),
    ("/me/holds/{id}", "hold.decide"),
    ("/history/revert", "history.revert"),
    ("/history/{id}", "history.revert"),
    ("/me/history/{id}", "history.revert"),
    ("/records/{kind}/{id}", "record.switch"),
    ("/messages", "message.handle"),
    ("/messages/{id}", "message.handle"),
    ("/sessions", "session.end"),
    ("/sign-out", "session.end"),
    ("/subscriptions", "subscription.renew"),
    ("/setup/provision", "espocrm.provision"),
];

/// What a form of a page is called.
pub fn action_of_page(route: &str) -> String {
    let known = PAGES.iter().find(|(at, _)| *at == route);
    known.map_or_else(|| format!("page {route}"), |(_, action)| (*action).to_owned())
}

/// The middleware of the admin API.
pub(super) async fn record(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let method = request.method().clone();
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(&method) {
        return next.call(request).await;
    }
    let Some(app) = request.app_data::<Data<App>>().cloned() else { return next.call(request).await };
    let body = request.extract::<Bytes>().await.map_err(|error| unreadable(&error))?;
    let pattern = request.match_pattern().unwrap_or_default();
    let route = pattern.strip_prefix("/api/v1").unwrap_or(&pattern);
    let path = request.path().strip_prefix("/api/v1").unwrap_or(request.path()).to_owned();
    let actor = request.extensions().get::<Caller>().map_or_else(|| ADMIN_TOKEN.to_owned(), actor);
    let entry = begin(&app, &actor, &action(method.as_str(), route), &path, told(&body)).await?;
    request.set_payload(actix_web::dev::Payload::from(body));
    let outcome = next.call(request).await;
    let status = match &outcome {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    end(&app, &entry, status.as_u16()).await;
    outcome
}

/// Why a body could not be read.
fn unreadable(error: &Error) -> Problem {
    match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(extract::LARGEST_BODY),
        _ => Problem::bad_request(format!("the body cannot be read: {error}")),
    }
}

/// Notes that somebody is about to do something.
///
/// # Errors
///
/// When it cannot be noted.
pub async fn begin(app: &App, actor: &str, action: &str, subject: &str, detail: Value) -> Result<String, Problem> {
    let id = app.ids().next();
    let (actor, action, subject) = (actor.to_owned(), action.to_owned(), subject.to_owned());
    let entry = Entry { id, at: app.clock().now(), actor, action, subject, detail: redacted(detail), status: None };
    store::audit::begin(app.store().write(), &entry).await?;
    Ok(entry.id)
}

/// Notes what came of it, as a status of HTTP.
pub async fn end(app: &App, entry: &str, status: u16) {
    if let Err(error) = store::audit::end(app.store().write(), entry, status).await {
        tracing::error!(audit.id = entry, %error, "what came of an action could not be noted");
    }
}

/// How somebody is called.
pub fn actor(caller: &Caller) -> String {
    match (&caller.user_id, &caller.session) {
        (None, None) => ADMIN_TOKEN.to_owned(),
        _ => caller.user_name.clone(),
    }
}

fn action(method: &str, route: &str) -> String {
    let known = ACTIONS.iter().find(|(known, at, _)| *known == method && *at == route);
    known.map_or_else(|| format!("{method} {route}"), |(_, _, action)| (*action).to_owned())
}

fn told(body: &[u8]) -> Value {
    if body.is_empty() {
        return json!({});
    }
    if body.len() > LARGEST {
        return json!({ "bytes": body.len() });
    }
    // What is no JSON is refused anyway, and nobody knows what is in it.
    serde_json::from_slice(body).unwrap_or_else(|_| json!({ "bytes": body.len() }))
}

/// Without the values of secrets, wherever they stand.
fn redacted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let one = |(name, value): (String, Value)| {
                let value = if is_secret(&name) && !value.is_null() { json!("(given)") } else { redacted(value) };
                (name, value)
            };
            Value::Object(map.into_iter().map(one).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(redacted).collect()),
        other => other,
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "passwd", "token", "api_key", "apikey", "certificate", "private_key"]
        .iter()
        .any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_wherever_they_stand() {
        let body = json!({
            "enabled": true,
            "espocrm": { "url": "https://crm.example", "api_key": "k-1", "secret_key": null, "admin_password": ["p-1"] },
            "microsoft": [{ "Client_Secret": { "value": "s-1" } }],
        });
        let kept = redacted(body).to_string();
        assert!(kept.contains("https://crm.example") && kept.contains("(given)"), "{kept}");
        assert!(!["k-1", "p-1", "s-1"].iter().any(|secret| kept.contains(secret)), "{kept}");
    }

    #[test]
    fn what_has_no_name_is_called_by_method_and_route() {
        assert_eq!(action("PUT", "/rules"), "rules.update");
        assert_eq!(action("POST", "/things/{id}"), "POST /things/{id}");
    }
}
