//! How EspoCRM says no: a status, the reason in the header `X-Status-Reason`, and for some a body with a
//! `messageTranslation` or with the records that are in the way.

use serde_json::{Value, json};

use crate::plumbing::Response;

/// A refused request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("EspoCRM answers {status}: {reason}")]
pub struct Refusal {
    pub status: u16,
    pub reason: String,
    pub body: Option<Value>,
    /// Sent before the API has taken over: no JSON, no reason.
    pub(super) bare: bool,
    pub(super) challenge: bool,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), body: None, bare: false, challenge: false }
    }

    pub(super) fn with_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(super) fn forbidden(reason: impl Into<String>) -> Self {
        Self::new(403, reason)
    }

    /// A refusal by the authentication, or by the web server: an empty HTML answer.
    pub(super) fn bare(status: u16) -> Self {
        Self { bare: true, ..Self::new(status, "") }
    }

    pub(super) fn invalid(entity: &str, field: &str, kind: &str) -> Self {
        Self::new(400, format!("Field validation failure; entityType: {entity}, field: {field}, type: {kind}."))
            .with_body(translation("validationFailure", &json!({"field": field, "type": kind})))
    }

    pub(super) fn unknown_foreign(entity: &str, link: &str, foreign: &str) -> Self {
        Self::forbidden(format!("Can't relate with non-existing record. entity type: {entity}, link: {link}."))
            .with_body(translation("cannotRelateNonExisting", &json!({"foreignEntityType": foreign})))
    }

    pub(super) fn hidden_foreign(entity: &str, link: &str, foreign: &str) -> Self {
        Self::forbidden(format!("No foreign record access for link operation ({entity}:{link})."))
            .with_body(translation("cannotRelateForbidden", &json!({"foreignEntityType": foreign, "action": "read"})))
    }

    pub(super) fn to_response(&self) -> Response {
        let mut response = match &self.body {
            Some(body) => Response::json(self.status, body),
            None if self.bare => Response::empty(self.status).header("Content-Type", "text/html; charset=UTF-8"),
            None => Response::empty(self.status).header("Content-Type", "application/json"),
        };
        if self.challenge {
            response = response.header("WWW-Authenticate", "Basic realm=\"\"");
        }
        if self.bare || self.status == 500 { response } else { response.header("X-Status-Reason", &self.reason) }
    }
}

fn translation(label: &str, data: &Value) -> Value {
    json!({"messageTranslation": {"label": label, "scope": null, "data": data}})
}
