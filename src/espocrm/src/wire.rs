//! One request and its answer: headers, limits, statuses.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;
use url::Url;

use crate::auth::{Identity, basic_header, hmac_header};
use crate::client::{Acting, Client};
use crate::query::{List, Pairs, encode};
use crate::{Error, Result};

/// Most bytes that are read of an answer.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// `X-Status-Reason` of a 401 that asks for the second factor.
pub(crate) const SECOND_STEP: &str = "second-step-required";

/// A request that is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path below `/api/v1`.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Pairs,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    pub(crate) limit: usize,
}

impl Call {
    pub(crate) fn new(method: Method, segments: &[&str]) -> Self {
        Self {
            method,
            segments: segments.iter().map(|&segment| segment.to_owned()).collect(),
            query: Pairs::new(),
            headers: Vec::new(),
            body: None,
            limit: BODY_MAX,
        }
    }

    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// A page of a list; the total, which costs EspoCRM a second query, is not asked for.
    pub(crate) fn list(entity: &str, list: &List) -> Self {
        let mut call = Self::get(&[entity]);
        call.query = list.pairs();
        call.header("X-No-Total", "true")
    }

    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn path(&self) -> String {
        self.segments.join("/")
    }

    /// For messages.
    pub(crate) fn shown(&self) -> String {
        format!("{} /{}", self.method, self.path())
    }

    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

/// An answer of EspoCRM: success or a refusal that is not about the credential.
#[derive(Debug)]
pub(crate) struct Answer {
    request: String,
    write: bool,
    pub(crate) status: u16,
    /// `X-Status-Reason`.
    pub(crate) reason: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// True when it is a page for people: of a proxy, or of EspoCRM while it is being updated.
    fn is_page(&self) -> bool {
        self.is_success() && self.body.trim_ascii_start().starts_with(b"<")
    }

    /// True when EspoCRM itself says that the record does not exist; a 404 of a web server or of an unknown path is not that.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == 404 && self.reason.as_deref().is_some_and(|reason| !reason.starts_with("Controller "))
    }

    /// The body of a success, else the refusal.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T> {
        if !self.is_success() {
            return Err(self.refusal());
        }
        // An unknown metadata key is null, which PHP may write as nothing at all.
        let body = if self.body.is_empty() { b"null" } else { self.body.as_slice() };
        serde_json::from_slice(body).map_err(|error| Error::NotTheApi {
            what: format!("{} with a body that is not the expected JSON: {error}", self.status),
            request: self.request,
            write: self.write,
        })
    }

    /// The error that this refusal is.
    pub(crate) fn refusal(self) -> Error {
        let gone = self.is_gone();
        let (request, status) = (self.request, self.status);
        let reason = shown_reason(self.reason.as_deref());
        match status {
            404 if gone => Error::Missing { request, reason },
            // Nothing that answers 404 has done anything.
            404 => Error::NotTheApi { request, what: format!("404{reason}"), write: false },
            403 if reason.contains("non-existing record") => Error::Missing { request, reason },
            403 => Error::Forbidden { request, reason },
            409 if reason.ends_with("modified") => Error::Modified,
            _ => Error::Invalid { request, status, reason },
        }
    }
}

/// An answer whose content has not been read yet.
pub(crate) enum Opened<'a> {
    /// A success.
    Content(reqwest::Response, Option<SemaphorePermit<'a>>),
    /// A refusal.
    Refusal(Answer),
}

/// An answer, and what was said when it was not given to whom it should have been.
#[derive(Debug)]
pub(crate) struct Acted {
    /// None when nothing was left to send as the API user.
    pub(crate) answer: Option<Answer>,
    /// Why the API user acted instead of the user.
    pub(crate) fallback: Option<String>,
}

impl Client {
    /// Sends as the API user.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer> {
        self.send_by(call, Identity::Key).await
    }

    /// Sends as the administrator.
    pub(crate) async fn send_by_admin(&self, call: &Call) -> Result<Answer> {
        self.send_by(call, Identity::Admin).await
    }

    /// Sends as whom is asked for. What a user may not do is tried once more as the API user, without the reminders, which
    /// are the user's own.
    pub(crate) async fn send_as(&self, mut call: Call, acting: Acting<'_>) -> Result<Acted> {
        let identity = match acting {
            Acting::Connector => Identity::Key,
            Acting::User { .. } if self.config().admin.is_none() => Identity::Key,
            Acting::User { name, .. } => Identity::AdminAs(name),
            Acting::Admin => Identity::Admin,
        };
        let fallback = match (identity, self.send_by(&call, identity).await) {
            (Identity::AdminAs(name), Ok(answer)) if answer.status == 403 => {
                format!("acted as the API user, because {name} may not: {}", answer.refusal())
            }
            (Identity::AdminAs(name), Err(error @ (Error::Refused { .. } | Error::Withheld { .. }))) => {
                format!("acted as the API user instead of {name}: {error}")
            }
            (_, Ok(answer)) => return Ok(Acted { answer: Some(answer), fallback: None }),
            (_, Err(error)) => return Err(error),
        };
        tracing::warn!(request = call.shown(), "{fallback}");
        if let Some(body) = call.body.as_mut().and_then(Value::as_object_mut)
            && body.remove("reminders").is_some()
            && body.is_empty()
        {
            return Ok(Acted { answer: None, fallback: Some(fallback) });
        }
        let answer = self.send_by(&call, Identity::Key).await?;
        Ok(Acted { answer: Some(answer), fallback: Some(fallback) })
    }

    pub(crate) async fn send_by(&self, call: &Call, identity: Identity<'_>) -> Result<Answer> {
        let request = self.request(call, identity)?;
        self.deliver(call, identity, request).await
    }

    /// Sends a request that is complete but for this.
    pub(crate) async fn deliver(
        &self,
        call: &Call,
        identity: Identity<'_>,
        request: reqwest::RequestBuilder,
    ) -> Result<Answer> {
        let gate = self.gate(identity);
        // The slot first: who waits for one must still hear of a refusal that comes meanwhile.
        let _permit = self.slot().await;
        let _pass = gate
            .enter(|| self.now())
            .await
            .map_err(|after| Error::Withheld { credential: identity.credential(), after })?;
        let circuit = self.enter()?;
        let answer = match self.begin(call, request).await {
            Ok(response) => self.rest(call, response).await,
            Err(error) => Err(error),
        };
        self.told(circuit, &answer);
        self.noted(identity, answer)
    }

    /// Sends as the API user; a success is left to be read piece by piece, while its place among the requests is kept.
    pub(crate) async fn open(&self, call: &Call) -> Result<Opened<'_>> {
        let identity = Identity::Key;
        let request = self.request(call, identity)?;
        let permit = self.slot().await;
        let _pass = self
            .gate(identity)
            .enter(|| self.now())
            .await
            .map_err(|after| Error::Withheld { credential: identity.credential(), after })?;
        let circuit = self.enter()?;
        let answer = match self.begin(call, request).await {
            Ok(response) if response.status().is_success() => {
                circuit.answered();
                self.gate(identity).accepted();
                return Ok(Opened::Content(response, permit));
            }
            Ok(response) => self.rest(call, response).await,
            Err(error) => Err(error),
        };
        self.told(circuit, &answer);
        self.noted(identity, answer).map(Opened::Refusal)
    }

    /// Tells the circuit whether EspoCRM is there.
    fn told(&self, circuit: circuit::Pass, answer: &Result<Answer>) {
        match answer {
            Ok(answer) if answer.is_page() => {
                circuit.failed(self.now(), None, &"a page came in place of an answer of the API");
            }
            Err(error) if error.is_outage() => circuit.failed(self.now(), error.retry_after(), error),
            _ => circuit.answered(),
        }
    }

    /// Tells the gate how a credential fared.
    fn noted(&self, identity: Identity<'_>, answer: Result<Answer>) -> Result<Answer> {
        let gate = self.gate(identity);
        match &answer {
            // The password was right; that is no failed login.
            Err(Error::Refused { reason, .. }) if reason.ends_with(SECOND_STEP) => {}
            Err(Error::Refused { .. }) => gate.refused(self.now()),
            Ok(_) => gate.accepted(),
            Err(_) => {}
        }
        answer.map_err(|error| match error {
            Error::Refused { reason, .. } => Error::Refused { credential: identity.credential(), reason },
            other => other,
        })
    }

    async fn begin(&self, call: &Call, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let span = tracing::debug_span!(
            "http.client",
            system = "espocrm",
            http.request.method = call.method.as_str(),
            url.path = call.path()
        );
        let sent = request.send().instrument(span).await;
        let status =
            sent.as_ref().map_or_else(|_| "error".to_owned(), |response| response.status().as_str().to_owned());
        metrics::counter!("espo_outlook_http_client_requests_total", "system" => "espocrm", "status" => status)
            .increment(1);
        sent.map_err(|error| failed(call, error))
    }

    async fn rest(&self, call: &Call, mut response: reqwest::Response) -> Result<Answer> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(call, error))? {
            if body.len() + chunk.len() > call.limit {
                return Err(Error::TooLarge { request: call.shown(), limit: call.limit, write: call.is_write() });
            }
            body.extend_from_slice(&chunk);
        }
        tracing::debug!(request = call.shown(), status, "EspoCRM answered");
        self.judge(call, status, &headers, body)
    }

    fn judge(&self, call: &Call, status: u16, headers: &HeaderMap, body: Vec<u8>) -> Result<Answer> {
        let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let reason = text("X-Status-Reason");
        let (request, write) = (call.shown(), call.is_write());
        match status {
            300..=399 => {
                let to = text(LOCATION.as_str()).map(|to| format!(" to {to}")).unwrap_or_default();
                Err(Error::Redirected { request, to })
            }
            401 => Err(Error::Refused { credential: "credential", reason: shown_reason(reason.as_deref()) }),
            403 if reason.is_none() && !is_json(headers) => Err(Error::LockedOut),
            429 => Err(Error::Busy { after: retry_after(headers, self.now()) }),
            500.. => {
                let after = retry_after(headers, self.now());
                Err(Error::Server { request, status, reason: shown_reason(reason.as_deref()), write, after })
            }
            _ => Ok(Answer { request, write, status, reason, body }),
        }
    }

    pub(crate) fn request(&self, call: &Call, identity: Identity<'_>) -> Result<reqwest::RequestBuilder> {
        let config = self.config();
        let mut request =
            self.http().request(call.method.clone(), self.address(call)?).header("Accept", "application/json");
        request = match (identity, &config.secret_key) {
            (Identity::Key, None) => request.header("X-Api-Key", config.api_key.expose_secret()),
            (Identity::Key, Some(secret)) => {
                let value = hmac_header(&config.api_key, secret, call.method.as_str(), &call.path())?;
                request.header("X-Hmac-Authorization", value)
            }
            (Identity::Admin | Identity::AdminAs(_), _) => {
                let (name, password) = config.admin.as_ref().ok_or(Error::NoAdmin)?;
                request.header(AUTHORIZATION, basic_header(name, password))
            }
            (Identity::Person, _) => request,
        };
        if let Some(trace) = self.trace() {
            request = request.header("traceparent", trace);
        }
        if let Identity::AdminAs(user) = identity {
            request = request.header("X-Another-User", user);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        Ok(match &call.body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    fn address(&self, call: &Call) -> Result<Url> {
        let mut url = self.base().clone();
        for segment in &call.segments {
            if segment.is_empty()
                || segment.len() > 100
                || !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            {
                return Err(Error::BadId(segment.clone()));
            }
        }
        url.path_segments_mut()
            .map_err(|()| Error::Settings("espocrm.url has no host".to_owned()))?
            .pop_if_empty()
            .extend(&call.segments);
        if !call.query.is_empty() {
            url.set_query(Some(&encode(&call.query)));
        }
        Ok(url)
    }
}

pub(crate) fn failed(call: &Call, error: reqwest::Error) -> Error {
    let source = error.without_url();
    if source.is_builder() {
        Error::Settings(source.to_string())
    } else if source.is_connect() {
        Error::Unreachable(source)
    } else {
        Error::Interrupted { request: call.shown(), write: call.is_write(), source }
    }
}

fn shown_reason(reason: Option<&str>) -> String {
    reason.filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get("Content-Type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.with_timezone(&Utc) - now).to_std().ok(),
    }
}

/// A page of a list, as EspoCRM gives it.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Rows {
    /// −1 when there are more, −2 when there are not (`X-No-Total`).
    #[serde(default)]
    pub(crate) total: i64,
    pub(crate) list: Vec<Map<String, Value>>,
}

impl Rows {
    pub(crate) fn has_more(&self, limit: u32) -> bool {
        match self.total {
            -1 => true,
            -2 => false,
            _ => self.list.len() >= limit as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, reason: Option<&str>) -> Answer {
        Answer {
            request: "GET /Meeting/x".to_owned(),
            write: false,
            status,
            reason: reason.map(str::to_owned),
            body: Vec::new(),
        }
    }

    #[test]
    fn only_espocrm_itself_can_say_that_a_record_is_gone() {
        assert!(answer(404, Some("Record 6b033c0ef2407cad1 does not exist.")).is_gone());
        assert!(!answer(404, None).is_gone(), "a web server's");
        assert!(!answer(404, Some("Controller 'Nonsense' does not exist.")).is_gone());
        assert!(!answer(410, Some("Record")).is_gone());
    }

    #[test]
    fn a_conflict_and_a_vanished_person_ask_for_another_look() {
        use crate::Disposition::Refetch;
        assert_eq!(answer(409, Some("modified")).refusal().disposition(), Refetch);
        let vanished = "Can't relate with non-existing record. entity type: Meeting, link: contacts.";
        assert_eq!(answer(403, Some(vanished)).refusal().disposition(), Refetch);
        assert!(
            answer(400, Some("Field validation failure; field: name")).refusal().to_string().contains("field: name")
        );
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = DateTime::parse_from_rfc3339("2026-11-22T19:00:00Z").expect("a date").with_timezone(&Utc);
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "120".parse().expect("a value"));
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(120)));
        headers.insert(RETRY_AFTER, "Sun, 22 Nov 2026 19:00:30 GMT".parse().expect("a value"));
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(30)));
    }
}
