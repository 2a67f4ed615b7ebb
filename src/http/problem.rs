//! Problem details for HTTP APIs (RFC 9457): what every error of the admin API answers.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use store::StoreError;
use utoipa::ToSchema;

use crate::app::ConnectionError;
use crate::app::settings::SettingsError;
use crate::queue::QueueError;
use crate::vault::VaultError;
use crate::work::error::WorkError;
use crate::work::revert::RevertError;

/// An error of the API. `detail` is a sentence with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is; `about:blank` says that the status tells all.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and what to do about it.
    pub detail: String,
}

impl Problem {
    /// A problem of a status.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into() }
    }

    /// 400
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 404
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 409
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 413
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {} KiB; send it in parts", limit >> 10);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 422
    #[must_use]
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 501
    #[must_use]
    pub fn not_implemented(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, detail)
    }

    /// 503
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// The error of something that must not fail. The cause goes to the log, not to the caller.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here; the log says what")
    }
}

/// An error with all its causes, in one line.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if self.status == 503 {
            response.insert_header((RETRY_AFTER, "5"));
        }
        if self.status == 401 {
            response.insert_header(("WWW-Authenticate", "Bearer"));
        }
        let body = serde_json::to_string(self).unwrap_or_default();
        response.content_type("application/problem+json").body(body)
    }
}

impl actix_web::Responder for Problem {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &actix_web::HttpRequest) -> HttpResponse {
        self.error_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Missing { .. } => Self::not_found(error.to_string()),
            StoreError::Transition { .. } => Self::conflict(error.to_string()),
            StoreError::Cursor(_) => Self::bad_request(error.to_string()),
            _ if error.is_busy_or_gone() => {
                tracing::warn!(error = %Chain(&error), "the database cannot be used");
                Self::unavailable("the database cannot be used at the moment; try again")
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        tracing::warn!(error = %Chain(&error), "the queue takes nothing");
        Self::unavailable("the queue takes nothing at the moment; try again")
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Store(error) => error.into(),
            error => Self::unprocessable(error.to_string()),
        }
    }
}

impl From<ConnectionError> for Problem {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Settings(error) => error.into(),
            error => Self::unprocessable(Chain(&error).to_string()),
        }
    }
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        Self::internal(&error)
    }
}

impl From<WorkError> for Problem {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Store(error) => error.into(),
            WorkError::Espo(error) => error.into(),
            WorkError::Graph(error) => error.into(),
            WorkError::NotConfigured(_) => Self::conflict(error.to_string()),
            error => Self::unavailable(Chain(&error).to_string()),
        }
    }
}

impl From<RevertError> for Problem {
    fn from(error: RevertError) -> Self {
        match error {
            RevertError::Unknown(_) => Self::not_found(error.to_string()),
            RevertError::Obstacle(sync::Obstacle::ChangedSince { .. }) => {
                Self::conflict(format!("{error}: send {{\"force\": true}}, or use --force"))
            }
            RevertError::Already(_) | RevertError::Obstacle(_) | RevertError::Refused(_) => {
                Self::conflict(error.to_string())
            }
            RevertError::Work(WorkError::NotActive(_)) => {
                Self::conflict(format!("{error}; it has to be signed in and switched on"))
            }
            RevertError::Work(WorkError::Refused(sentence)) => Self::conflict(sentence),
            RevertError::Work(error) => error.into(),
        }
    }
}

impl From<espocrm::Error> for Problem {
    fn from(error: espocrm::Error) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, Chain(&error).to_string())
    }
}

impl From<graph::Error> for Problem {
    fn from(error: graph::Error) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, Chain(&error).to_string())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    #[actix_web::test]
    async fn a_problem_has_its_media_type_and_members() {
        let response = Problem::bad_request("unknown key `bnd`").error_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
        let body = to_bytes(response.into_body()).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "about:blank", "title": "Bad Request", "status": 400, "detail": "unknown key `bnd`",
            })
        );
    }

    #[actix_web::test]
    async fn what_may_succeed_later_says_when_to_come_back() {
        let response = Problem::from(QueueError::Full).error_response();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }

    #[test]
    fn an_unknown_cursor_is_the_callers_mistake() {
        assert_eq!(Problem::from(StoreError::Cursor("x".to_owned())).status, 400);
    }

    #[test]
    fn the_cause_of_an_internal_error_is_not_told() {
        let error = std::io::Error::other("/secret/path");
        assert!(!Problem::internal(&error).detail.contains("secret"));
    }
}
