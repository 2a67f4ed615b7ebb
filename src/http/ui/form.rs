//! Forms as they were sent. The guard has read them, and has checked the token.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use serde_json::Value;
use url::form_urlencoded;

use crate::http::problem::Problem;
use crate::http::session::CSRF_FIELD;

/// Names and values. Not to be printed: there are secrets among them.
#[derive(Clone, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The value of a field, as it was typed.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a field; an empty one is none.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// What was sent, for the audit, which leaves out the values of secrets.
    pub(super) fn told(&self) -> Value {
        let fields = self.0.iter().filter(|(name, _)| name != CSRF_FIELD);
        Value::Object(fields.map(|(name, value)| (name.clone(), value.as_str().into())).collect())
    }

    /// Whether a box was ticked.
    pub fn is_on(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|value| !["", "off", "false"].contains(&value))
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }
}

impl FromRequest for Form {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = request.extensions().get::<Self>().cloned();
        ready(found.ok_or_else(|| Problem::bad_request("this is for forms")))
    }
}
