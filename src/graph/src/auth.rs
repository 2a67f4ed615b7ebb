//! Sign-in: the identity platform v2.0, by the authorization code flow with PKCE or by client credentials.
//!
//! The exchanges are pure: what becomes of a token, and when a new one is fetched, is decided by the implementor of
//! [`crate::Tokens`]. State, verifier and time are parameters.
//!
//! Facts (learn.microsoft.com/entra/identity-platform): PKCE is recommended for confidential clients too, together with the
//! secret; each refresh gives a new refresh token and does not revoke the old one; clients branch on `error` and
//! `error_codes`, never on the text; `invalid_grant`, `interaction_required` and `consent_required` need the user,
//! `invalid_client` needs the operator (an expired secret, say), `temporarily_unavailable` and 5xx pass.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use circuit::Circuit;
use futures::future::BoxFuture;
use oauth2::basic::{BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenResponse};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardRevocableToken, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::certificate::Certificate;
use crate::client::{Config, Now};
use crate::error::{Disposition, parse_retry_after};

/// What a user is asked to consent to.
pub const SCOPES: [&str; 5] =
    ["Calendars.ReadWrite", "Tasks.ReadWrite", "MailboxSettings.Read", "User.Read", "offline_access"];
/// A token answer is small; more than that is not one.
const LARGEST_ANSWER: usize = 1 << 20;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The grant is spent, revoked or lacks something only the user can give.
    #[error("the user has to sign in with Microsoft again ({0})")]
    SignIn(Refused),
    /// The app registration, its secret or our configuration is wrong.
    #[error("the app registration is refused ({0}); check tenant, client id and whether the client secret has expired")]
    Operator(Refused),
    /// Microsoft cannot answer now.
    #[error("Microsoft's sign-in is unavailable ({reason})")]
    Temporary {
        /// What was said.
        reason: String,
        /// How long to stay away, when that was said.
        after: Option<Duration>,
    },
    /// No answer came.
    #[error("Microsoft's sign-in cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The configuration lacks something.
    #[error("the Microsoft configuration is incomplete: {0}")]
    Configuration(String),
    /// There is no grant at all: nobody has signed in yet.
    #[error("nobody has signed in for this mailbox yet")]
    Missing,
    /// The place where tokens are kept failed.
    #[error("the stored tokens cannot be read or written")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AuthError {
    /// What the caller may do.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        match self {
            Self::SignIn(_) | Self::Missing => Disposition::SignIn,
            Self::Operator(_) | Self::Configuration(_) => Disposition::Operator,
            Self::Temporary { after, .. } => Disposition::Retry { after: *after },
            Self::Unreachable(_) | Self::Store(_) => Disposition::Retry { after: None },
        }
    }

    /// True when it tells that the sign-in as a whole does not answer.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Temporary { .. } | Self::Unreachable(_))
    }

    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        if let Self::Temporary { after, .. } = self { *after } else { None }
    }
}

/// What the identity platform answered instead of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The error of RFC 6749 or Microsoft's own, such as `invalid_grant`.
    pub error: String,
    /// Numbers behind `AADSTS`.
    #[serde(default)]
    pub error_codes: Vec<u32>,
    /// Microsoft's words, for people.
    #[serde(default)]
    pub error_description: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        for code in &self.error_codes {
            write!(f, " AADSTS{code}")?;
        }
        Ok(())
    }
}

impl oauth2::ErrorResponse for Refused {}

impl Refused {
    /// The error that it means. 50196 is Microsoft's word for "you ask too often".
    #[must_use]
    pub fn into_error(self) -> AuthError {
        const USER: [&str; 5] =
            ["invalid_grant", "interaction_required", "consent_required", "login_required", "access_denied"];
        if self.error_codes.contains(&50196)
            || matches!(self.error.as_str(), "temporarily_unavailable" | "server_error")
        {
            return AuthError::Temporary { reason: self.to_string(), after: None };
        }
        if USER.contains(&self.error.as_str()) { AuthError::SignIn(self) } else { AuthError::Operator(self) }
    }
}

/// What an exchange gives.
#[derive(Debug, Clone)]
pub struct TokenSet {
    /// The access token.
    pub access: SecretString,
    /// The newest refresh token, in delegated mode. It replaces the one that was used.
    pub refresh: Option<SecretString>,
    /// How long the access token is good for.
    pub expires_in: Duration,
    /// What was granted; empty when the answer did not say.
    pub scopes: Vec<String>,
}

type Oauth = oauth2::Client<
    Refused,
    BasicTokenResponse,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The identity platform, for one app registration.
#[derive(Clone)]
pub struct Authority {
    http: reqwest::Client,
    now: Now,
    oauth: Oauth,
    admin_consent: Url,
    default_scope: String,
    has_redirect: bool,
    certificate: Option<Certificate>,
    circuit: Arc<Circuit>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("token_url", self.oauth.token_uri()).finish_non_exhaustive()
    }
}

impl Authority {
    /// `http` must not follow redirects: they would carry the client secret away.
    pub fn new(http: reqwest::Client, config: &Config, now: Now) -> Result<Self, AuthError> {
        let endpoint = |name: &str| {
            let base = config.authority.as_str().trim_end_matches('/');
            Url::parse(&format!("{base}/{}/{name}", config.tenant))
                .map_err(|error| AuthError::Configuration(format!("authority and tenant make no address: {error}")))
        };
        let mut oauth = oauth2::Client::new(ClientId::new(config.client_id.clone()))
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri(AuthUrl::from_url(endpoint("oauth2/v2.0/authorize")?))
            .set_token_uri(TokenUrl::from_url(endpoint("oauth2/v2.0/token")?));
        // With a certificate there is no secret.
        if !config.client_secret.expose_secret().is_empty() {
            oauth = oauth.set_client_secret(ClientSecret::new(config.client_secret.expose_secret().to_owned()));
        }
        if let Some(redirect) = &config.redirect_url {
            oauth = oauth.set_redirect_uri(RedirectUrl::from_url(redirect.clone()));
        }
        Ok(Self {
            http,
            now,
            oauth,
            admin_consent: endpoint("adminconsent")?,
            default_scope: format!("{}/.default", config.graph_url.origin().ascii_serialization()),
            has_redirect: config.redirect_url.is_some(),
            certificate: None,
            circuit: Circuit::unattended("sign_in"),
        })
    }

    /// The same, which signs in with a certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: Certificate) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    /// The same, which asks nothing while the circuit is open.
    #[must_use]
    pub fn with_circuit(self, circuit: Arc<Circuit>) -> Self {
        Self { circuit, ..self }
    }

    /// What a request to the token endpoint carries to prove who asks, where no secret does.
    fn proof(&self) -> Result<Vec<(&'static str, String)>, AuthError> {
        const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let Some(certificate) = &self.certificate else { return Ok(Vec::new()) };
        let assertion = certificate.assertion(self.oauth.client_id(), self.oauth.token_uri(), (self.now)());
        let assertion = assertion
            .map_err(|error| AuthError::Configuration(format!("the client certificate cannot be used: {error}")))?;
        Ok(vec![("client_assertion_type", KIND.to_owned()), ("client_assertion", assertion)])
    }

    /// Where a user signs in and consents. The caller keeps `state` and `verifier` (see [`verifier`]) until the answer comes.
    pub fn authorize_url(&self, state: &str, verifier: &str, login_hint: Option<&str>) -> Result<Url, AuthError> {
        if !self.has_redirect {
            return Err(AuthError::Configuration("there is no redirect address".to_owned()));
        }
        // The crate panics on a verifier that RFC 7636 does not allow.
        if !(43..=128).contains(&verifier.len()) {
            return Err(AuthError::Configuration("the PKCE verifier must have 43 to 128 characters".to_owned()));
        }
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier.to_owned()));
        let request = self
            .oauth
            .authorize_url(|| CsrfToken::new(state.to_owned()))
            .add_scopes(SCOPES.map(|scope| Scope::new(scope.to_owned())))
            .add_extra_param("response_mode", "query")
            .set_pkce_challenge(challenge);
        let request = match login_hint {
            Some(hint) => request.add_extra_param("login_hint", hint.to_owned()),
            None => request.add_extra_param("prompt", "select_account"),
        };
        Ok(request.url().0)
    }

    /// Where an administrator consents for the whole organisation (application mode).
    pub fn admin_consent_url(&self, state: &str) -> Result<Url, AuthError> {
        let redirect = self
            .oauth
            .redirect_uri()
            .ok_or_else(|| AuthError::Configuration("there is no redirect address".to_owned()))?;
        let mut url = self.admin_consent.clone();
        url.query_pairs_mut()
            .append_pair("client_id", self.oauth.client_id())
            .append_pair("state", state)
            .append_pair("redirect_uri", redirect);
        Ok(url)
    }

    /// Redeems the code that came back from [`Authority::authorize_url`]; it is good once and for ten minutes.
    pub async fn exchange_code(&self, code: &str, verifier: &str) -> Result<TokenSet, AuthError> {
        let mut request = self
            .oauth
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()));
        for (name, value) in self.proof()? {
            request = request.add_extra_param(name, value);
        }
        token_set(request.request_async(&self.transport()).await)
    }

    /// A new access token, and mostly a new refresh token too.
    pub async fn refresh(&self, refresh: &SecretString) -> Result<TokenSet, AuthError> {
        let token = RefreshToken::new(refresh.expose_secret().to_owned());
        let mut request = self.oauth.exchange_refresh_token(&token);
        for (name, value) in self.proof()? {
            request = request.add_extra_param(name, value);
        }
        token_set(request.request_async(&self.transport()).await)
    }

    /// A token of the app itself (application mode).
    pub async fn client_credentials(&self) -> Result<TokenSet, AuthError> {
        let scope = Scope::new(self.default_scope.clone());
        let mut request = self.oauth.exchange_client_credentials().add_scope(scope);
        for (name, value) in self.proof()? {
            request = request.add_extra_param(name, value);
        }
        token_set(request.request_async(&self.transport()).await)
    }

    fn transport(&self) -> Transport {
        Transport { http: self.http.clone(), now: self.now.clone(), circuit: Arc::clone(&self.circuit) }
    }
}

/// A PKCE verifier made of 32 random bytes.
#[must_use]
pub fn verifier(random: [u8; 32]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random)
}

fn token_set(
    answer: Result<BasicTokenResponse, RequestTokenError<TransportError, Refused>>,
) -> Result<TokenSet, AuthError> {
    match answer {
        Ok(answer) => Ok(TokenSet {
            access: SecretString::from(answer.access_token().secret().clone()),
            refresh: answer.refresh_token().map(|token| SecretString::from(token.secret().clone())),
            // Entra always says; a token without an end is used briefly.
            expires_in: answer.expires_in().unwrap_or(Duration::from_secs(300)),
            scopes: answer
                .scopes()
                .map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect())
                .unwrap_or_default(),
        }),
        Err(RequestTokenError::ServerResponse(refused)) => Err(refused.into_error()),
        Err(RequestTokenError::Request(TransportError::Http(source))) => Err(AuthError::Unreachable(source)),
        Err(RequestTokenError::Request(TransportError::Status { status, after })) => {
            Err(AuthError::Temporary { reason: format!("status {status}"), after })
        }
        Err(RequestTokenError::Request(error @ TransportError::Away { after })) => {
            Err(AuthError::Temporary { reason: error.to_string(), after: Some(after) })
        }
        Err(RequestTokenError::Request(error)) => Err(AuthError::Temporary { reason: error.to_string(), after: None }),
        // The body may hold a token: it is not passed on.
        Err(RequestTokenError::Parse(..)) => {
            Err(AuthError::Temporary { reason: "unreadable answer".to_owned(), after: None })
        }
        Err(RequestTokenError::Other(reason)) => Err(AuthError::Temporary { reason, after: None }),
    }
}

struct Transport {
    http: reqwest::Client,
    now: Now,
    circuit: Arc<Circuit>,
}

#[derive(Debug, thiserror::Error)]
enum TransportError {
    #[error("no answer")]
    Http(#[from] reqwest::Error),
    #[error("status {status}")]
    Status { status: u16, after: Option<Duration> },
    #[error("it does not answer; it is asked again in {:.0} s", .after.as_secs_f64().ceil())]
    Away { after: Duration },
    #[error("the answer is too large")]
    TooLarge,
    #[error("the answer cannot be passed on")]
    Convert(#[from] oauth2::http::Error),
}

impl<'c> AsyncHttpClient<'c> for Transport {
    type Error = TransportError;
    type Future = BoxFuture<'c, Result<HttpResponse, TransportError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let pass = self.circuit.enter((self.now)()).map_err(|after| TransportError::Away { after })?;
            let outcome = exchange(&self.http, request, (self.now)()).await;
            match &outcome {
                Err(TransportError::Status { status: 500.., after }) => {
                    pass.failed((self.now)(), *after, &outcome_text(&outcome));
                }
                Err(TransportError::Http(_)) => pass.failed((self.now)(), None, &outcome_text(&outcome)),
                _ => pass.answered(),
            }
            outcome
        })
    }
}

fn outcome_text<T>(outcome: &Result<T, TransportError>) -> String {
    outcome.as_ref().err().map(|error| format!("Microsoft's sign-in does not answer: {error}")).unwrap_or_default()
}

async fn exchange(
    http: &reqwest::Client,
    request: HttpRequest,
    now: DateTime<Utc>,
) -> Result<HttpResponse, TransportError> {
    let mut answer = http.execute(reqwest::Request::try_from(request)?).await?;
    let status = answer.status();
    metrics::counter!("espo_outlook_http_client_requests_total", "system" => "entra", "status" => status.as_u16().to_string())
        .increment(1);
    if status.is_server_error() || status.as_u16() == 429 {
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        return Err(TransportError::Status {
            status: status.as_u16(),
            after: after.and_then(|text| parse_retry_after(text, now)),
        });
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(TransportError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = oauth2::http::Response::builder().status(status.as_u16());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    Ok(response.body(body)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::TimeZone;

    use super::*;
    use crate::client::Mode;

    fn authority() -> Authority {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let config = Config {
            authority: Url::parse("https://login.microsoftonline.com/").unwrap(),
            graph_url: Url::parse("https://graph.microsoft.us/v1.0").unwrap(),
            tenant: "contoso.example".to_owned(),
            client_id: "app".to_owned(),
            client_secret: SecretString::from("hush"),
            mode: Mode::Delegated,
            redirect_url: Some(Url::parse("https://crm.example/oauth/microsoft/callback").unwrap()),
        };
        Authority::new(http, &config, Arc::new(|| Utc.with_ymd_and_hms(2026, 11, 22, 10, 0, 0).unwrap())).unwrap()
    }

    #[test]
    fn the_address_to_sign_in_carries_state_challenge_scopes_and_no_secret() {
        // RFC 7636, appendix B.
        let url = authority().authorize_url(
            "st",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            Some("anna@contoso.example"),
        );
        let url = url.unwrap();
        assert_eq!(url.path(), "/contoso.example/oauth2/v2.0/authorize");
        let pairs: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs["code_challenge"], "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert_eq!(pairs["code_challenge_method"], "S256");
        assert_eq!(pairs["state"], "st");
        assert_eq!(pairs["login_hint"], "anna@contoso.example");
        assert_eq!(pairs["redirect_uri"], "https://crm.example/oauth/microsoft/callback");
        assert_eq!(pairs["scope"], SCOPES.join(" "));
        assert!(!url.as_str().contains("hush"));
    }

    #[test]
    fn a_verifier_of_32_bytes_is_long_enough_and_a_short_one_is_refused() {
        let authority = authority();
        assert!(authority.authorize_url("st", &verifier([7; 32]), None).is_ok());
        assert!(matches!(authority.authorize_url("st", "short", None), Err(AuthError::Configuration(_))));
    }

    #[test]
    fn the_scope_of_the_app_itself_is_that_of_the_configured_cloud() {
        assert_eq!(authority().default_scope, "https://graph.microsoft.us/.default");
    }

    #[test]
    fn refusals_tell_the_user_from_the_operator() {
        let read = |json: &str| serde_json::from_str::<Refused>(json).unwrap().into_error().disposition();
        assert_eq!(read(r#"{"error":"invalid_grant","error_codes":[50173]}"#), Disposition::SignIn);
        assert_eq!(read(r#"{"error":"invalid_client","error_codes":[7000222]}"#), Disposition::Operator);
        assert_eq!(read(include_str!("../fixtures/oauth.error.400.json")), Disposition::Operator);
        assert_eq!(read(r#"{"error":"temporarily_unavailable"}"#), Disposition::Retry { after: None });
        assert_eq!(read(r#"{"error":"invalid_grant","error_codes":[50196]}"#), Disposition::Retry { after: None });
    }

    #[test]
    fn a_token_answer_is_read() {
        let answer: BasicTokenResponse =
            serde_json::from_str(include_str!("../fixtures/oauth.token.200.json")).unwrap();
        let set = token_set(Ok(answer)).unwrap();
        assert_eq!(set.expires_in, Duration::from_secs(3599));
        assert!(set.refresh.is_some());
        assert!(!format!("{set:?}").contains("AwABAAAA"));
    }
}
