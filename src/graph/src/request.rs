//! One request and its answer, before anybody knows what they mean.

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::Result;
use crate::attachment::Piece;
use crate::error::{Error, Refusal};

/// Answers may be that large.
const LARGEST_ANSWER: usize = 16 << 20;
/// Prefer header of every request for events: times in UTC, ids that survive a move.
pub(crate) const PREFER_EVENT: &str = r#"outlook.timezone="UTC", IdType="ImmutableId""#;

/// One request.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub url: Url,
    pub prefer: Option<&'a str>,
    pub if_match: Option<&'a str>,
    pub body: Option<Json>,
    pub piece: Option<Piece<'a>>,
    /// Places taken of the mailbox's four; none for what does not reach the mailbox (subscriptions).
    pub places: u32,
    /// True for what changes something: without an answer nobody knows whether it did.
    pub write: bool,
    pub largest: usize,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, url: Url) -> Self {
        let write = method != Method::GET;
        Self {
            method,
            url,
            prefer: None,
            if_match: None,
            body: None,
            piece: None,
            places: 1,
            write,
            largest: LARGEST_ANSWER,
        }
    }

    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    pub fn event(method: Method, url: Url) -> Self {
        Self { prefer: Some(PREFER_EVENT), ..Self::new(method, url) }
    }

    pub fn prefer(self, prefer: &'a str) -> Self {
        Self { prefer: Some(prefer), ..self }
    }

    pub fn if_match(self, etag: Option<&'a str>) -> Self {
        Self { if_match: etag, ..self }
    }

    pub fn body(self, body: Json) -> Self {
        Self { body: Some(body), ..self }
    }

    pub fn places(self, places: u32) -> Self {
        Self { places, ..self }
    }

    /// A piece of an upload.
    pub fn bytes(self, range: &str, bytes: &'a [u8]) -> Self {
        Self { piece: Some(Piece { range: range.to_owned(), bytes }), ..self }
    }

    /// A POST that changes nothing.
    pub fn reads(self) -> Self {
        Self { write: false, ..self }
    }
}

/// An answer with a status below 300.
pub(crate) struct Answer {
    pub body: Vec<u8>,
    pub write: bool,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Unreadable {
            what: "the answer's JSON".to_owned(),
            source: Some(source),
            unsure: self.write,
        })
    }
}

/// What is told apart before it becomes an error.
pub(crate) enum Failure {
    Refused(Refusal),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A connection that was never made carried no request.
pub(crate) fn unreachable(write: bool, source: reqwest::Error) -> Error {
    Error::Unreachable { unsure: write && !source.is_connect() && !source.is_builder(), source: source.without_url() }
}

/// Query options as Graph's own pages write them: `$` as it is, blanks as `%20`.
pub(crate) fn with_query(mut url: Url, options: &[(&str, &str)]) -> Url {
    let pairs: Vec<String> = options
        .iter()
        .map(|(name, value)| {
            format!("{name}={}", byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20"))
        })
        .collect();
    url.set_query(Some(&pairs.join("&")));
    url
}

/// A string literal of OData.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
