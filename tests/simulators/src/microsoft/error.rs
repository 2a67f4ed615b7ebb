//! Refusals: the two error shapes of Microsoft, Graph's and the identity platform's.

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::plumbing::{Response, SimIds};

/// An answer that says no.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub headers: Vec<(String, String)>,
    /// An identity platform error carries its number; a Graph error none.
    pub number: Option<u32>,
    /// To Do wraps the code of Exchange into its own.
    pub inner_code: Option<&'static str>,
}

pub type Outcome<T> = Result<T, Refusal>;

pub fn fail(status: u16, code: &str, message: impl Into<String>) -> Refusal {
    Refusal {
        status,
        code: code.to_owned(),
        message: message.into(),
        headers: Vec::new(),
        number: None,
        inner_code: None,
    }
}

/// An error of the token endpoint.
pub fn oauth(status: u16, error: &str, number: u32, message: &str) -> Refusal {
    Refusal { number: Some(number), ..fail(status, error, message) }
}

pub fn bad_property(message: impl std::fmt::Display) -> Refusal {
    fail(400, "ErrorPropertyValidationFailure", format!("At least one property failed validation: {message}"))
}

pub fn unreadable(message: impl Into<String>) -> Refusal {
    fail(400, "RequestBodyRead", message)
}

pub fn unknown_property(name: &str, kind: &str) -> Refusal {
    unreadable(format!(
        "The property '{name}' does not exist on type '{kind}'. Make sure to only use property names that are defined by the type."
    ))
}

pub fn not_found() -> Refusal {
    fail(404, "ErrorItemNotFound", "The specified object was not found in the store.")
}

pub fn denied() -> Refusal {
    fail(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
}

pub fn no_segment(name: &str) -> Refusal {
    fail(400, "BadRequest", format!("Resource not found for the segment '{name}'."))
}

pub fn conflict() -> Refusal {
    let message = "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item.";
    fail(412, "ErrorIrresolvableConflict", message)
}

impl Refusal {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn into_response(self, now: DateTime<Utc>, ids: &SimIds, client_request_id: Option<&str>) -> Response {
        let trace = ids.uuid();
        let body = match self.number {
            Some(number) => json!({
                "error": self.code,
                "error_description": format!("AADSTS{number}: {} Trace ID: {trace}", self.message),
                "error_codes": [number],
                "timestamp": now.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                "trace_id": trace,
                "correlation_id": ids.uuid(),
            }),
            None => {
                let mut inner = json!({
                    "date": now.format("%Y-%m-%dT%H:%M:%S").to_string(),
                    "client-request-id": client_request_id.unwrap_or(&trace),
                    "request-id": trace,
                });
                if let Some(code) = self.inner_code {
                    inner["code"] = json!(code);
                }
                json!({"error": {"code": self.code, "message": self.message, "innerError": inner}})
            }
        };
        let mut response = Response::json(self.status, &body);
        response.headers.extend(self.headers);
        response
    }
}
