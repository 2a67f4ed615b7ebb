//! Bodies and queries: what cannot be read is a problem that names the key.

use std::fmt;
use std::marker::PhantomData;

use actix_web::ResponseError as _;
use actix_web::error::{InternalError, JsonPayloadError};
use actix_web::web::{JsonConfig, PathConfig, PayloadConfig, QueryConfig, ServiceConfig};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::problem::Problem;

/// Bodies of the admin API are small.
pub(super) const LARGEST_BODY: usize = 1 << 20;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .app_data(PayloadConfig::new(LARGEST_BODY))
        .app_data(
            JsonConfig::default()
                .limit(LARGEST_BODY)
                .content_type_required(false)
                .content_type(|_| true)
                .error_handler(|error, _| {
                    let problem = match &error {
                        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
                            Problem::too_large(LARGEST_BODY)
                        }
                        JsonPayloadError::Deserialize(error) => {
                            Problem::bad_request(format!("the body cannot be read: {error}"))
                        }
                        error => Problem::bad_request(format!("the body cannot be read: {error}")),
                    };
                    wrap(error, &problem)
                }),
        )
        .app_data(QueryConfig::default().error_handler(|error, _| {
            let problem = Problem::bad_request(format!("the query cannot be read: {error}"));
            wrap(error, &problem)
        }))
        .app_data(PathConfig::default().error_handler(|error, _| {
            let problem = Problem::not_found(format!("there is nothing at this address: {error}"));
            wrap(error, &problem)
        }));
}

/// A JSON object. Serde would read a struct from an array as well, by position, past the check for unknown keys.
#[derive(Debug)]
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Only(PhantomData))
    }
}

/// A body that may be left out. (`Option<Json<T>>` would take one that cannot be read for one that was left out.)
pub(super) fn or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map(|Object(body)| body)
        .map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))
}

fn wrap<E: std::fmt::Debug + std::fmt::Display + 'static>(error: E, problem: &Problem) -> actix_web::Error {
    InternalError::from_response(error, problem.error_response()).into()
}
