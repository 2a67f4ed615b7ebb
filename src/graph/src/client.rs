//! The client: addresses, headers, tokens, limits and the reading of answers. Which requests there are is said elsewhere.
//!
//! Facts: every request for events carries `Prefer: IdType="ImmutableId"`, or ids change when an item is moved
//! (learn.microsoft.com/graph/outlook-immutable-id); several preferences may be one comma list; `client-request-id` comes back
//! in answers and errors (learn.microsoft.com/graph/best-practices-concept).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use circuit::Circuit;
use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, IF_MATCH, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tracing::Instrument as _;
use url::Url;

use crate::auth::AuthError;
use crate::batch::Together;
use crate::error::{Error, Refusal, parse_retry_after};
use crate::recent::Recent;
use crate::request::{Answer, Call, Failure, unreachable, with_query};
use crate::throttle::{Closed, Gate, Permit, Places, Throttle};
use crate::{Result, wire};

/// Where the time comes from.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;
/// Where ids of requests come from.
pub type Ids = Arc<dyn Fn() -> String + Send + Sync>;

/// Whose permission is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each user signs in.
    Delegated,
    /// One consent for the organisation.
    Application,
}

/// The app registration and where Microsoft is.
#[derive(Debug, Clone)]
pub struct Config {
    /// `https://login.microsoftonline.com`
    pub authority: Url,
    /// `https://graph.microsoft.com/v1.0`
    pub graph_url: Url,
    /// Tenant id or domain.
    pub tenant: String,
    /// Application ID.
    pub client_id: String,
    /// Secret of the app registration.
    pub client_secret: SecretString,
    /// Whose permission is used.
    pub mode: Mode,
    /// Where a sign-in comes back to.
    pub redirect_url: Option<Url>,
}

/// Tells the `traceparent` of what is being done, if there is one.
pub type Trace = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A bound mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// EspoCRM id of the bound user.
    pub user: String,
    /// User principal name, or the address.
    pub address: String,
    /// Its time zone, for the dates of tasks; UTC when unknown.
    pub zone: Option<Tz>,
    /// The category that makes an event a Call (`Rules::call_category` of the user).
    pub call_category: String,
    /// Configured pairs of fields.
    pub pairs: Arc<[sync::Pair]>,
}

/// Gives access tokens. Implemented over the place where they are kept.
pub trait Tokens: Send + Sync {
    /// A token that is good for a little while yet.
    fn access<'a>(&'a self, mailbox: &'a Mailbox) -> BoxFuture<'a, std::result::Result<SecretString, AuthError>>;

    /// A new token, because `refused` was answered with 401. When somebody else has fetched a newer one meanwhile, that one.
    fn renew<'a>(
        &'a self,
        mailbox: &'a Mailbox,
        refused: &'a SecretString,
    ) -> BoxFuture<'a, std::result::Result<SecretString, AuthError>>;
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Object id in the directory.
    pub id: String,
    /// Primary address.
    pub mail: Option<String>,
    /// User principal name.
    pub upn: String,
}

/// Microsoft Graph.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    graph_url: Url,
    mode: Mode,
    tokens: Arc<dyn Tokens>,
    now: Now,
    ids: Ids,
    throttle: Throttle,
    circuit: Arc<Circuit>,
    trace: Option<Trace>,
    recent: Recent,
    together: Together,
}

/// An answer of which the content is still to come.
pub(crate) struct Opened {
    pub answer: reqwest::Response,
    /// The place among the mailbox's requests.
    pub permit: Permit,
    pass: circuit::Pass,
}

impl Opened {
    /// The beginning of the answer says that Graph is there.
    pub fn answered(self) -> (reqwest::Response, Permit) {
        self.pass.answered();
        (self.answer, self.permit)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("graph_url", &self.inner.graph_url.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// `http` must not follow redirects and should have time-outs; `now` and `ids` are the caller's clock and id source.
    #[must_use]
    pub fn new(http: reqwest::Client, config: &Config, tokens: Arc<dyn Tokens>, now: Now, ids: Ids) -> Self {
        Self::with_circuit(http, config, tokens, now, ids, Circuit::unattended("graph"))
    }

    /// A client that sends nothing while the circuit is open.
    #[must_use]
    pub fn with_circuit(
        http: reqwest::Client,
        config: &Config,
        tokens: Arc<dyn Tokens>,
        now: Now,
        ids: Ids,
        circuit: Arc<Circuit>,
    ) -> Self {
        let inner = Inner {
            http,
            graph_url: config.graph_url.clone(),
            mode: config.mode,
            tokens,
            now,
            ids,
            throttle: Throttle::default(),
            circuit,
            trace: None,
            recent: Recent::default(),
            together: Together::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn recent(&self) -> &Recent {
        &self.inner.recent
    }

    pub(crate) fn together(&self) -> &Together {
        &self.inner.together
    }

    /// The same, where other processes may use the mailboxes too. To be called before the client is used.
    #[must_use]
    pub fn with_places(mut self, places: Arc<dyn Places>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.throttle = Throttle::with(Some(places));
        }
        self
    }

    /// The same, whose requests name the trace that they belong to (W3C Trace Context). To be called before it is cloned.
    #[must_use]
    pub fn traced(mut self, trace: Trace) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.trace = Some(trace);
        }
        self
    }

    /// Who the mailbox's user is.
    pub async fn me(&self, mailbox: &Mailbox) -> Result<Profile> {
        let url = with_query(self.address(mailbox, &[])?, &[("$select", PROFILE)]);
        self.send(mailbox, Call::get(url).places(0)).await?.json::<wire::User>().map(Profile::from)
    }

    /// Who has just signed in: the token is not in anybody's store yet.
    pub async fn profile(&self, access: &SecretString) -> Result<Profile> {
        let url = with_query(self.url(&["me"])?, &[("$select", PROFILE)]);
        let answer = self.attempt(&Call::get(url), access).await.map_err(|failure| self.error(failure))?;
        answer.json::<wire::User>().map(Profile::from)
    }

    /// The name of the mailbox's time zone, Windows or IANA: see [`sync::time::zone`].
    pub async fn zone(&self, mailbox: &Mailbox) -> Result<String> {
        #[derive(Deserialize)]
        struct Setting {
            value: String,
        }
        let url = self.address(mailbox, &["mailboxSettings", "timeZone"])?;
        Ok(self.send(mailbox, Call::get(url)).await?.json::<Setting>()?.value)
    }

    pub(crate) async fn access(&self, mailbox: &Mailbox) -> Result<SecretString> {
        self.inner.tokens.access(mailbox).await.map_err(Error::from)
    }

    pub(crate) fn mode(&self) -> Mode {
        self.inner.mode
    }

    /// The address of something in the mailbox: `/me/...`, or `/users/{address}/...` in application mode.
    pub(crate) fn address(&self, mailbox: &Mailbox, segments: &[&str]) -> Result<Url> {
        let mut path = match self.inner.mode {
            Mode::Delegated => vec!["me"],
            Mode::Application => vec!["users", mailbox.address.as_str()],
        };
        path.extend_from_slice(segments);
        self.url(&path)
    }

    pub(crate) fn url(&self, segments: &[&str]) -> Result<Url> {
        let mut url = self.inner.graph_url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::unreadable("the configured Graph address: it has no path"))?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    /// A link of an answer, followed only where it stays at the configured Graph: it would carry the token away.
    pub(crate) fn link(&self, link: &str) -> Result<Url> {
        let url = Url::parse(link).map_err(|_| Error::unreadable("a paging link"))?;
        let base = &self.inner.graph_url;
        let prefix = base.path().trim_end_matches('/');
        let inside = url.path().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        if url.origin() == base.origin() && inside && url.username().is_empty() && url.password().is_none() {
            Ok(url)
        } else {
            Err(Error::ForeignLink { host: url.host_str().unwrap_or_default().to_owned() })
        }
    }

    pub(crate) async fn send(&self, mailbox: &Mailbox, call: Call<'_>) -> Result<Answer> {
        self.try_send(mailbox, call).await.map_err(|failure| self.error(failure))
    }

    /// Sends a request; a refusal is not yet an error.
    pub(crate) async fn try_send(&self, mailbox: &Mailbox, call: Call<'_>) -> std::result::Result<Answer, Failure> {
        let token = self.access(mailbox).await?;
        let permit = self.enter(mailbox, call.places).await?;
        self.send_within(mailbox, call, &token, permit).await
    }

    /// Sends a request whose answer is read piece by piece, while the place among the mailbox's requests is kept.
    pub(crate) async fn try_open(&self, mailbox: &Mailbox, call: &Call<'_>) -> std::result::Result<Opened, Failure> {
        let token = self.access(mailbox).await?;
        let permit = self.enter(mailbox, call.places).await?;
        self.open_within(mailbox, call, &token, permit).await
    }

    /// Waits for so many of the mailbox's places.
    pub(crate) async fn enter(&self, mailbox: &Mailbox, places: u32) -> Result<Permit> {
        if places == 0 {
            return Ok(Permit::default());
        }
        self.gate(mailbox).enter(places, || (self.inner.now)()).await.map_err(|closed| match closed {
            Closed::Paused(after) => Error::Throttled { after },
            Closed::NoPlace(source) => Error::NoPlace { source },
        })
    }

    pub(crate) fn gate(&self, mailbox: &Mailbox) -> Arc<Gate> {
        self.inner.throttle.gate(&mailbox.address)
    }

    /// Sends a request that has its places.
    pub(crate) async fn send_within(
        &self,
        mailbox: &Mailbox,
        call: Call<'_>,
        token: &SecretString,
        permit: Permit,
    ) -> std::result::Result<Answer, Failure> {
        let Opened { answer, permit: _permit, pass } = self.open_within(mailbox, &call, token, permit).await?;
        let outcome = self.whole(&call, answer).await.map_err(Failure::from);
        self.told(pass, outcome.as_ref().err());
        outcome
    }

    async fn open_within(
        &self,
        mailbox: &Mailbox,
        call: &Call<'_>,
        token: &SecretString,
        permit: Permit,
    ) -> std::result::Result<Opened, Failure> {
        let inner = &self.inner;
        let pass = inner.circuit.enter((inner.now)()).map_err(|after| Error::Away { after })?;
        let outcome = match self.head(call, token).await {
            Err(Failure::Refused(refusal)) if refusal.status == 401 => {
                match inner.tokens.renew(mailbox, token).await.map_err(Error::from) {
                    Ok(renewed) => self.head(call, &renewed).await,
                    Err(error) => {
                        pass.answered();
                        return Err(error.into());
                    }
                }
            }
            outcome => outcome,
        };
        if let Err(Failure::Refused(refusal)) = &outcome
            && refusal.status == 429
        {
            metrics::counter!("espo_outlook_throttled_total", "system" => "graph").increment(1);
            if call.places > 0 {
                self.pause(mailbox, refusal.clone().into_error(false).retry_after().unwrap_or_default());
            }
        }
        match outcome {
            Ok(answer) => Ok(Opened { answer, permit, pass }),
            Err(mut failure) => {
                if let Failure::Refused(refusal) = &mut failure {
                    mailbox.user.clone_into(&mut refusal.user);
                }
                self.told(pass, Some(&failure));
                Err(failure)
            }
        }
    }

    /// Tells the circuit whether Graph is there.
    fn told(&self, pass: circuit::Pass, failure: Option<&Failure>) {
        let now = (self.inner.now)();
        match failure {
            Some(Failure::Refused(refusal)) if refusal.is_outage() => {
                pass.failed(now, refusal.after, &self.error(Failure::Refused(refusal.clone())));
            }
            Some(Failure::Error(error @ Error::Unreachable { .. })) => pass.failed(now, None, error),
            _ => pass.answered(),
        }
    }

    /// Leaves a mailbox alone for a while.
    pub(crate) fn pause(&self, mailbox: &Mailbox, after: Duration) {
        let after = chrono::Duration::from_std(after).unwrap_or_default();
        self.inner.throttle.gate(&mailbox.address).pause((self.inner.now)() + after);
    }

    pub(crate) fn retry_after(&self, value: Option<&str>) -> Option<Duration> {
        value.and_then(|value| parse_retry_after(value, (self.inner.now)()))
    }

    pub(crate) fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(refusal) => refusal.into_error(self.inner.mode == Mode::Application),
            Failure::Error(error) => error,
        }
    }

    pub(crate) async fn attempt(&self, call: &Call<'_>, token: &SecretString) -> std::result::Result<Answer, Failure> {
        let answer = self.head(call, token).await?;
        self.whole(call, answer).await.map_err(Failure::from)
    }

    /// Sends, and reads the answer as far as its status; of a refusal all of it.
    async fn head(&self, call: &Call<'_>, token: &SecretString) -> std::result::Result<reqwest::Response, Failure> {
        let write = call.write;
        let request = self.request(call, token)?;
        let span = tracing::debug_span!(
            "http.client",
            system = "graph",
            http.request.method = request.method().as_str(),
            url.path = request.url().path()
        );
        let answer = self.inner.http.execute(request).instrument(span).await.map_err(|source| {
            metrics::counter!("espo_outlook_http_client_requests_total", "system" => "graph", "status" => "none")
                .increment(1);
            unreachable(write, source)
        })?;
        let status = answer.status().as_u16();
        metrics::counter!("espo_outlook_http_client_requests_total", "system" => "graph", "status" => status.to_string())
            .increment(1);
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let after = self.retry_after(answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()));
        let body = self.whole(call, answer).await?.body;
        let refusal = Refusal::read(status, &body, after, write);
        tracing::debug!(status, codes = ?refusal.codes, request_id = refusal.request_id, path = call.url.path(), "Graph refused");
        Err(Failure::Refused(refusal))
    }

    /// The rest of an answer.
    async fn whole(&self, call: &Call<'_>, mut answer: reqwest::Response) -> Result<Answer> {
        let write = call.write;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|source| unreachable(write, source))? {
            if body.len() + chunk.len() > call.largest {
                let what = format!("it is larger than {} MB", call.largest >> 20);
                return Err(Error::Unreadable { what, source: None, unsure: write });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { body, write })
    }

    fn request(&self, call: &Call<'_>, token: &SecretString) -> Result<reqwest::Request> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Error::unreadable("the access token: it is no header value"))?;
        bearer.set_sensitive(true);
        let mut request = self
            .inner
            .http
            .request(call.method.clone(), call.url.clone())
            .header(AUTHORIZATION, bearer)
            .header("client-request-id", (self.inner.ids)());
        if let Some(trace) = self.inner.trace.as_ref().and_then(|trace| trace()) {
            request = request.header("traceparent", trace);
        }
        if let Some(prefer) = call.prefer {
            request = request.header("Prefer", prefer);
        }
        if let Some(etag) = call.if_match {
            request = request.header(IF_MATCH, etag);
        }
        request = match &call.body {
            Some(body) => request.json(body),
            None if call.piece.is_some() => call.piece.iter().fold(request, |request, piece| piece.attach(request)),
            None if call.method == Method::POST => request.header(CONTENT_LENGTH, "0"),
            None => request,
        };
        request.build().map_err(|source| Error::Unreachable { unsure: false, source })
    }
}

const PROFILE: &str = "id,mail,userPrincipalName";

impl From<wire::User> for Profile {
    fn from(user: wire::User) -> Self {
        Self { id: user.id, mail: user.mail.filter(|mail| !mail.is_empty()), upn: user.user_principal_name }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::TimeZone;

    use super::*;

    struct NoTokens;

    impl Tokens for NoTokens {
        fn access<'a>(&'a self, _: &'a Mailbox) -> BoxFuture<'a, std::result::Result<SecretString, AuthError>> {
            Box::pin(async { Err(AuthError::Missing) })
        }

        fn renew<'a>(
            &'a self,
            _: &'a Mailbox,
            _: &'a SecretString,
        ) -> BoxFuture<'a, std::result::Result<SecretString, AuthError>> {
            Box::pin(async { Err(AuthError::Missing) })
        }
    }

    pub(crate) fn client(mode: Mode) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config {
            authority: Url::parse("https://login.microsoftonline.com").unwrap(),
            graph_url: Url::parse("https://graph.microsoft.com/v1.0/").unwrap(),
            tenant: "t".to_owned(),
            client_id: "c".to_owned(),
            client_secret: SecretString::from("s"),
            mode,
            redirect_url: None,
        };
        let now: Now = Arc::new(|| Utc.with_ymd_and_hms(2026, 11, 22, 10, 0, 0).unwrap());
        let http = reqwest::Client::builder().build().unwrap();
        Client::new(http, &config, Arc::new(NoTokens), now, Arc::new(|| "id".to_owned()))
    }

    pub(crate) fn mailbox() -> Mailbox {
        Mailbox {
            user: "u1".to_owned(),
            address: "anna@contoso.example".to_owned(),
            zone: Some(Tz::Europe__Berlin),
            call_category: "Call".to_owned(),
            pairs: Arc::default(),
        }
    }

    #[test]
    fn a_mailbox_is_me_or_a_user_and_ids_are_escaped() {
        let of = |mode| client(mode).address(&mailbox(), &["events", "AAMk/+="]).unwrap();
        assert_eq!(of(Mode::Delegated).as_str(), "https://graph.microsoft.com/v1.0/me/events/AAMk%2F+=");
        assert_eq!(
            of(Mode::Application).as_str(),
            "https://graph.microsoft.com/v1.0/users/anna@contoso.example/events/AAMk%2F+="
        );
    }

    #[test]
    fn blanks_in_a_query_are_percent_encoded() {
        let url = with_query(Url::parse("https://g.example/x").unwrap(), &[("$filter", "id eq 'a+b'")]);
        assert_eq!(url.query(), Some("$filter=id%20eq%20%27a%2Bb%27"));
    }

    #[test]
    fn a_link_to_another_host_scheme_or_version_is_not_followed() {
        let client = client(Mode::Delegated);
        assert!(client.link("https://graph.microsoft.com/v1.0/me/calendarView/delta?$skiptoken=x").is_ok());
        for foreign in [
            "https://evil.example/v1.0/me/x",
            "http://graph.microsoft.com/v1.0/me/x",
            "https://graph.microsoft.com/beta/me/x",
            "https://graph.microsoft.com/v1.0evil/x",
            "https://graph.microsoft.com:8443/v1.0/me/x",
            "https://user@graph.microsoft.com/v1.0/me/x",
        ] {
            assert!(matches!(client.link(foreign), Err(Error::ForeignLink { .. })), "{foreign}");
        }
    }

    #[tokio::test]
    async fn without_a_sign_in_nothing_is_sent() {
        let error = client(Mode::Delegated).zone(&mailbox()).await.unwrap_err();
        assert_eq!(error.disposition(), crate::Disposition::SignIn);
    }
}
