//! The identity platform, v2.0: authorize (with a plain account picker), token, admin consent.
//!
//! Facts: authorization code with PKCE for confidential clients too; a code is used once and lives ten minutes; refresh
//! tokens live ninety days, a new one comes with each use and the old one is not revoked at once; errors carry `error`
//! and `error_codes`; client credentials take `/.default` only and give no refresh token.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::browser;
use super::error::{Outcome, fail, oauth};
use super::html::escape;
use super::request::{Call, Grant, encode};
use super::state::State;
use crate::plumbing::{Request, Response, SimIds};

const KNOWN_SCOPES: [&str; 16] = [
    "openid",
    "profile",
    "email",
    "offline_access",
    "User.Read",
    "User.Read.All",
    "User.ReadBasic.All",
    "Calendars.ReadWrite",
    "Calendars.Read",
    "Calendars.ReadWrite.Shared",
    "Tasks.ReadWrite",
    "Tasks.Read",
    "MailboxSettings.Read",
    "MailboxSettings.ReadWrite",
    "Mail.Send",
    ".default",
];
const DELEGATED: [&str; 5] =
    ["User.Read", "Calendars.ReadWrite", "Calendars.Read", "Tasks.ReadWrite", "MailboxSettings.Read"];

#[derive(Debug, Clone)]
struct Code {
    user: String,
    scopes: Vec<String>,
    redirect_uri: String,
    challenge: Option<String>,
    at: DateTime<Utc>,
    used: bool,
}

#[derive(Debug, Clone)]
struct Access {
    user: Option<String>,
    scopes: BTreeSet<String>,
    expires: DateTime<Utc>,
    revoked: bool,
}

#[derive(Debug, Clone)]
struct Refresh {
    user: String,
    scopes: Vec<String>,
    used: u32,
    at: DateTime<Utc>,
    revoked: bool,
    expired: bool,
}

/// The registered application and every code and token handed out.
#[derive(Debug, Clone)]
pub struct Identity {
    pub client_id: String,
    pub client_secret: String,
    pub redirect_uris: BTreeSet<String>,
    pub sign_in_as: Option<String>,
    /// The next sign-in comes back with this error instead of a code.
    pub refuse_next: Option<String>,
    pub token_life: TimeDelta,
    /// How often a refresh token may be redeemed; `None` for any number of times.
    pub refresh_uses: Option<u32>,
    pub app_roles: BTreeSet<String>,
    /// Scopes that users may not consent to: tokens come without them.
    pub withheld: BTreeSet<String>,
    /// When the client secret ends.
    pub secret_ends: Option<DateTime<Utc>>,
    codes: BTreeMap<String, Code>,
    access: BTreeMap<String, Access>,
    refresh: BTreeMap<String, Refresh>,
}

impl Identity {
    pub fn new(ids: &SimIds) -> Self {
        let roles =
            ["Calendars.ReadWrite", "Calendars.Read", "Tasks.ReadWrite.All", "User.Read.All", "MailboxSettings.Read"];
        Self {
            client_id: ids.uuid(),
            // Characters that have to be form-url-encoded.
            client_secret: format!("s~{}&=+", ids.base64url(24)),
            redirect_uris: BTreeSet::new(),
            sign_in_as: None,
            refuse_next: None,
            token_life: TimeDelta::seconds(3599),
            refresh_uses: Some(2),
            app_roles: roles.map(str::to_owned).into(),
            withheld: BTreeSet::new(),
            secret_ends: None,
            codes: BTreeMap::new(),
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
        }
    }

    /// Every code and token that was handed out.
    pub fn handed_out(&self) -> Vec<String> {
        let all = self.codes.keys().chain(self.access.keys()).chain(self.refresh.keys());
        all.cloned().collect()
    }

    /// Revokes every token of a user: the refresh token answers 50173 from now on.
    pub fn revoke(&mut self, user: &str) {
        for access in self.access.values_mut() {
            access.revoked |= access.user.as_deref().is_some_and(|u| u.eq_ignore_ascii_case(user));
        }
        for refresh in self.refresh.values_mut() {
            refresh.revoked |= refresh.user.eq_ignore_ascii_case(user);
        }
    }

    /// The refresh tokens of a user expire by inactivity: 700082.
    pub fn expire_refresh(&mut self, user: &str) {
        for refresh in self.refresh.values_mut() {
            refresh.expired |= refresh.user.eq_ignore_ascii_case(user);
        }
    }

    pub fn expire_access(&mut self, now: DateTime<Utc>) {
        for access in self.access.values_mut() {
            access.expires = access.expires.min(now);
        }
    }

    pub fn issue_access(
        &mut self,
        ids: &SimIds,
        now: DateTime<Utc>,
        user: Option<String>,
        scopes: BTreeSet<String>,
    ) -> String {
        let granted: Vec<&str> = scopes.iter().map(String::as_str).filter(|one| *one != "offline_access").collect();
        let mut claims = json!({"aud": "https://graph.microsoft.com", "appid": self.client_id, "uti": ids.base64url(16),
            "iat": now.timestamp(), "exp": (now + self.token_life).timestamp(), "ver": "1.0"});
        match &user {
            Some(user) => {
                claims["scp"] = granted.join(" ").into();
                claims["upn"] = user.as_str().into();
            }
            None => claims["roles"] = json!(granted),
        }
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        let token = format!("eyJ0eXAiOiJKV1QifQ.{claims}.{}", ids.base64url(40));
        let access = Access { user, scopes, expires: now + self.token_life, revoked: false };
        self.access.insert(token.clone(), access);
        token
    }

    /// The grant behind an `Authorization` header.
    pub fn bearer(&self, request: &Request, now: DateTime<Utc>) -> Outcome<Grant> {
        let token = request.header("Authorization").and_then(|h| h.strip_prefix("Bearer "));
        let refuse = |message: &str| {
            let challenge =
                "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\"";
            Err(fail(401, "InvalidAuthenticationToken", message).header("WWW-Authenticate", challenge))
        };
        match token.and_then(|t| self.access.get(t)) {
            Some(a) if a.revoked || a.expires <= now => refuse("Lifetime validation failed, the token is expired."),
            Some(a) => Ok(Grant { user: a.user.clone(), scopes: a.scopes.clone() }),
            None => refuse("CompactToken parsing failed or the token is missing."),
        }
    }
}

fn plain(scope: &str) -> &str {
    scope.rsplit('/').next().unwrap_or(scope)
}

/// Scopes as granted: bare names, `.default` resolved.
fn granted(scopes: &[String]) -> BTreeSet<String> {
    let mut out: BTreeSet<String> = scopes.iter().map(|s| plain(s).to_owned()).collect();
    if out.remove(".default") {
        out.extend(DELEGATED.map(str::to_owned));
    }
    out
}

impl State {
    /// Everything outside `/v1.0`: `/{tenant}/…`.
    pub fn identity_route(&mut self, request: &Request) -> Outcome<Response> {
        let path = request.path.trim_start_matches('/');
        let (tenant, rest) = path.split_once('/').unwrap_or((path, ""));
        if !["common", "organizations", &self.tenant_id, &self.domain].contains(&tenant) {
            return Err(oauth(400, "invalid_request", 90002, &format!("Tenant '{tenant}' not found.")));
        }
        match (request.method.as_str(), rest) {
            ("GET" | "POST", "oauth2/v2.0/authorize") => Ok(self.authorize(request)),
            ("POST", "oauth2/v2.0/token") => self.token(request, tenant),
            ("GET", "adminconsent" | "v2.0/adminconsent") => Ok(self.admin_consent(request)),
            ("GET", "oauth2/v2.0/logout") => {
                let back = request.query("post_logout_redirect_uri").unwrap_or("/");
                Ok(Response::empty(302).header("Location", back))
            }
            ("GET", "v2.0/.well-known/openid-configuration") => Ok(self.discovery(request, tenant)),
            ("GET", "discovery/v2.0/keys") => Ok(Response::json(200, &json!({"keys": []}))),
            (_, "oauth2/v2.0/token") => {
                Err(oauth(405, "invalid_request", 900561, "The endpoint only accepts POST requests."))
            }
            _ => Err(oauth(404, "not_found", 90013, "Invalid input received from the user.")),
        }
    }

    /// The application's own entry: `applications(appId='...')`, for who may read applications.
    pub fn show_application(&self, call: &Call<'_>, segment: &str) -> Outcome<Response> {
        if !["Application.Read.All", "Application.ReadWrite.All"].iter().any(|one| call.grant.scopes.contains(*one)) {
            let message = "Insufficient privileges to complete the operation.";
            return Err(fail(403, "Authorization_RequestDenied", message));
        }
        if segment != format!("applications(appId='{}')", self.identity.client_id) {
            return Err(fail(404, "Request_ResourceNotFound", "Resource does not exist."));
        }
        let ends = self.identity.secret_ends.unwrap_or_else(|| self.now() + TimeDelta::days(180));
        let hint: String = self.identity.client_secret.chars().take(3).collect();
        let secret =
            json!({"hint": hint, "endDateTime": ends.to_rfc3339(), "displayName": "connector", "secretText": null});
        let body = json!({"appId": self.identity.client_id, "passwordCredentials": [secret], "keyCredentials": []});
        Ok(Response::json(200, &body))
    }

    fn discovery(&self, request: &Request, tenant: &str) -> Response {
        let base = format!("{}/{tenant}", request.base);
        Response::json(
            200,
            &json!({
                "issuer": format!("{}/{}/v2.0", request.base, self.tenant_id),
                "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
                "token_endpoint": format!("{base}/oauth2/v2.0/token"),
                "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            }),
        )
    }

    fn admin_consent(&self, request: &Request) -> Response {
        let target = request.query("redirect_uri").unwrap_or_default();
        if request.query("client_id") != Some(self.identity.client_id.as_str()) {
            return sign_in_error("AADSTS700016: Application not found in the directory.");
        }
        if !self.identity.redirect_uris.contains(target) {
            return sign_in_error("AADSTS50011: The redirect URI does not match the ones configured.");
        }
        let state = request.query("state").unwrap_or_default();
        let answer = [("tenant", self.tenant_id.as_str()), ("state", state), ("admin_consent", "True")];
        Response::empty(302).header("Location", &with_query(target, &answer))
    }

    fn authorize(&mut self, request: &Request) -> Response {
        let fields = if request.method == "POST" { request.form() } else { request.query.clone() };
        let field = |name: &str| fields.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        if field("client_id") != Some(self.identity.client_id.as_str()) {
            return sign_in_error("AADSTS700016: Application not found in the directory.");
        }
        let redirect = field("redirect_uri").unwrap_or_default().to_owned();
        if !self.identity.redirect_uris.contains(&redirect) {
            return sign_in_error("AADSTS50011: The redirect URI does not match the ones configured.");
        }
        let form_post = field("response_mode") == Some("form_post");
        let back = |answer: &[(&str, &str)]| {
            let mut answer = answer.to_vec();
            answer.extend(field("state").map(|state| ("state", state)));
            if form_post {
                post_back(&redirect, &answer)
            } else {
                Response::empty(302).header("Location", &with_query(&redirect, &answer))
            }
        };
        let refuse = |error: &str, why: &str| back(&[("error", error), ("error_description", why)]);
        if field("response_type") != Some("code") {
            return refuse(
                "unsupported_response_type",
                "AADSTS700054: response_type is not enabled for the application.",
            );
        }
        let scopes: Vec<String> = field("scope").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if scopes.is_empty() || scopes.iter().any(|s| !KNOWN_SCOPES.contains(&plain(s))) {
            return refuse(
                "invalid_scope",
                "AADSTS70011: The provided value for the input parameter 'scope' is not valid.",
            );
        }
        if !matches!(field("code_challenge_method"), None | Some("S256")) {
            return refuse("invalid_request", "AADSTS501461: code_challenge_method must be S256.");
        }
        if let Some(error) = self.identity.refuse_next.take().or_else(|| field("refuse").map(str::to_owned)) {
            return refuse(&error, "AADSTS65004: User declined to consent to access the app.");
        }
        let hint = self.identity.sign_in_as.take().or_else(|| field("login_hint").map(str::to_owned));
        let Some(user) = hint.filter(|user| !user.is_empty()) else { return self.account_picker(request, &fields) };
        let Some(upn) = self.resolve(&user).and_then(|n| self.mailbox(n)).map(|m| m.upn.clone()) else {
            return refuse("access_denied", "AADSTS50020: The user account does not exist in the tenant.");
        };
        let code = format!("0.AX{}", self.ids.base64url(40));
        let challenge = field("code_challenge").map(str::to_owned);
        let entry = Code { user: upn, scopes, redirect_uri: redirect.clone(), challenge, at: self.now(), used: false };
        self.identity.codes.insert(code.clone(), entry);
        back(&[("code", &code), ("session_state", &self.ids.uuid())])
    }

    /// A plain page that lists the mailboxes; each link completes the sign-in.
    fn account_picker(&self, request: &Request, fields: &[(String, String)]) -> Response {
        let link = |extra: (&str, &str)| {
            let kept = fields.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            let kept: Vec<(&str, &str)> = kept.filter(|(k, _)| *k != "login_hint").chain([extra]).collect();
            escape(&with_query(&request.path, &kept))
        };
        let rows: String = self
            .mailboxes
            .iter()
            .map(|m| {
                let href = link(("login_hint", &m.upn));
                let (name, upn) = (escape(&m.name), escape(&m.upn));
                format!("<a class=\"account\" href=\"{href}\"><b>{name}</b><span>{upn}</span></a>")
            })
            .collect();
        let cancel = link(("refuse", "access_denied"));
        let body = format!(
            "<main class=\"picker\"><p class=\"brand\">Simulated Microsoft</p><h1>Pick an account</h1>{rows}<a class=\"quiet\" href=\"{cancel}\">Cancel</a></main>"
        );
        browser::page("Sign in to your account", &body)
    }

    fn token(&mut self, request: &Request, tenant: &str) -> Outcome<Response> {
        let kind = request.header("Content-Type").unwrap_or_default();
        if !kind.contains("application/x-www-form-urlencoded") {
            return Err(oauth(400, "invalid_request", 900144, "The request body must be form-url-encoded."));
        }
        let form: BTreeMap<String, String> = request.form().into_iter().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        self.check_client(request, &form)?;
        match field("grant_type") {
            "authorization_code" => self.redeem(request, &form),
            "refresh_token" => self.renew(request, &form),
            "client_credentials" => {
                let scope = field("scope").trim();
                if !scope.ends_with("/.default") || scope.contains(' ') {
                    let message = "Client credential flows must have a scope value with /.default suffixed to the resource identifier.";
                    return Err(oauth(400, "invalid_scope", 1002012, message));
                }
                if ["common", "organizations"].contains(&tenant) {
                    let message = "The tenant for client credentials must be named, not common or organizations.";
                    return Err(oauth(400, "invalid_request", 90133, message));
                }
                let roles = self.identity.app_roles.clone();
                Ok(self.token_answer(request, None, &roles, false))
            }
            _ => Err(oauth(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")),
        }
    }

    fn check_client(&self, request: &Request, form: &BTreeMap<String, String>) -> Outcome<()> {
        let basic = request.header("Authorization").and_then(|h| h.strip_prefix("Basic "));
        let basic = basic.and_then(|b| STANDARD.decode(b).ok()).and_then(|b| String::from_utf8(b).ok());
        let (client, secret) = match basic.as_deref().and_then(|b| b.split_once(':')) {
            Some((client, secret)) => {
                // RFC 6749 2.3.1: both are form-url-encoded inside the header.
                let plain = |text: &str| crate::plumbing::percent_decode(&text.replace('+', " "));
                (plain(client), Some(plain(secret)))
            }
            None => (form.get("client_id").cloned().unwrap_or_default(), form.get("client_secret").cloned()),
        };
        if client != self.identity.client_id {
            return Err(oauth(400, "unauthorized_client", 700016, "Application not found in the directory."));
        }
        if let Some(assertion) = form.get("client_assertion") {
            let kind = form.get("client_assertion_type").map(String::as_str);
            if kind != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                || assertion.matches('.').count() != 2
            {
                return Err(oauth(401, "invalid_client", 700027, "Client assertion is malformed."));
            }
            return Ok(());
        }
        match secret {
            None => Err(oauth(
                401,
                "invalid_client",
                7000218,
                "The request body must contain client_assertion or client_secret.",
            )),
            Some(secret) if secret != self.identity.client_secret => {
                Err(oauth(401, "invalid_client", 7000215, "Invalid client secret provided."))
            }
            Some(_) => Ok(()),
        }
    }

    fn redeem(&mut self, request: &Request, form: &BTreeMap<String, String>) -> Outcome<Response> {
        let invalid = |number, message| oauth(400, "invalid_grant", number, message);
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let now = self.now();
        let code = self.identity.codes.get_mut(field("code"));
        let code = code.ok_or_else(|| invalid(70000, "The provided authorization code is invalid."))?;
        if code.used {
            return Err(invalid(54005, "OAuth2 Authorization code was already redeemed."));
        }
        if now - code.at > TimeDelta::minutes(10) {
            return Err(invalid(70008, "The provided authorization code is expired."));
        }
        if field("redirect_uri") != code.redirect_uri {
            return Err(invalid(50011, "The redirect URI does not match."));
        }
        if let Some(challenge) = &code.challenge {
            let verifier = field("code_verifier");
            let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
            if digest != *challenge || !(43..=128).contains(&verifier.len()) {
                return Err(invalid(501481, "The Code_Verifier does not match the code_challenge."));
            }
        }
        code.used = true;
        let (user, scopes) = (code.user.clone(), code.scopes.clone());
        let mut scopes = granted(&scopes);
        scopes.retain(|scope| !self.identity.withheld.contains(scope));
        Ok(self.token_answer(request, Some(user), &scopes, scopes.contains("offline_access")))
    }

    fn renew(&mut self, request: &Request, form: &BTreeMap<String, String>) -> Outcome<Response> {
        let invalid = |number, message| oauth(400, "invalid_grant", number, message);
        let (now, uses) = (self.now(), self.identity.refresh_uses);
        let given = form.get("refresh_token").map(String::as_str).unwrap_or_default();
        let known = self.identity.refresh.get_mut(given);
        let known = known.ok_or_else(|| invalid(70000, "The refresh token is malformed or invalid."))?;
        if known.revoked {
            return Err(invalid(
                50173,
                "The provided grant has expired due to it being revoked, a fresh auth token is needed.",
            ));
        }
        if known.expired || now - known.at > TimeDelta::days(90) {
            return Err(invalid(700082, "The refresh token has expired due to inactivity."));
        }
        if uses.is_some_and(|uses| known.used >= uses) {
            return Err(invalid(70000, "The refresh token was used before."));
        }
        let wanted: Vec<String> =
            form.get("scope").map(|s| s.split_whitespace().map(str::to_owned).collect()).unwrap_or_default();
        let (user, had) = (known.user.clone(), granted(&known.scopes));
        let wanted = if wanted.is_empty() { had.clone() } else { granted(&wanted) };
        if !wanted.is_subset(&had) {
            return Err(oauth(
                400,
                "invalid_grant",
                65001,
                "The user or administrator has not consented to use the application.",
            ));
        }
        known.used += 1;
        Ok(self.token_answer(request, Some(user), &wanted, true))
    }

    fn token_answer(
        &mut self,
        request: &Request,
        user: Option<String>,
        scopes: &BTreeSet<String>,
        refresh: bool,
    ) -> Response {
        let now = self.now();
        let life = self.identity.token_life.num_seconds();
        let access = self.identity.issue_access(&self.ids, now, user.clone(), scopes.clone());
        let mut out =
            json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": access});
        if let Some(user) = user {
            let shown: Vec<&str> = scopes.iter().map(String::as_str).filter(|s| *s != "offline_access").collect();
            out["scope"] = json!(shown.join(" "));
            if scopes.contains("openid") {
                out["id_token"] = json!(self.id_token(request, &user));
            }
            if refresh {
                let token = format!("0.AR{}", self.ids.base64url(60));
                let scopes = scopes.iter().cloned().collect();
                let entry = Refresh { user, scopes, used: 0, at: now, revoked: false, expired: false };
                self.identity.refresh.insert(token.clone(), entry);
                out["refresh_token"] = json!(token);
            }
        }
        Response::json(200, &out).header("Cache-Control", "no-store")
    }

    fn id_token(&self, request: &Request, user: &str) -> String {
        let mailbox = self.resolve(user).and_then(|n| self.mailbox(n));
        let (id, name) = mailbox.map(|m| (m.user_id.as_str(), m.name.as_str())).unwrap_or_default();
        let now = self.now().timestamp();
        let claims: Value = json!({
            "aud": self.identity.client_id, "iss": format!("{}/{}/v2.0", request.base, self.tenant_id), "tid": self.tenant_id,
            "oid": id, "sub": id, "preferred_username": user, "name": name, "iat": now, "nbf": now, "exp": now + 3600, "ver": "2.0",
        });
        format!("eyJhbGciOiJSUzI1NiJ9.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    /// A delegated token without the sign-in, as of a person at the keyboard.
    pub fn mint_token(&mut self, user: &str) -> Option<String> {
        let upn = self.resolve(user).and_then(|n| self.mailbox(n))?.upn.clone();
        let now = self.now();
        Some(self.identity.issue_access(&self.ids, now, Some(upn), DELEGATED.map(str::to_owned).into()))
    }
}

fn with_query(url: &str, answer: &[(&str, &str)]) -> String {
    let query: Vec<String> = answer.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
    format!("{url}{}{}", if url.contains('?') { "&" } else { "?" }, query.join("&"))
}

fn post_back(redirect: &str, answer: &[(&str, &str)]) -> Response {
    let fields: String =
        answer.iter().map(|(k, v)| format!("<input type=\"hidden\" name=\"{k}\" value=\"{}\">", escape(v))).collect();
    let body = format!(
        "<form method=\"post\" action=\"{}\">{fields}<button>Continue</button></form><script>document.forms[0].submit()</script>",
        escape(redirect)
    );
    browser::page("Working…", &body)
}

fn sign_in_error(message: &str) -> Response {
    let mut page = browser::page(
        "Sorry, but we’re having trouble signing you in",
        &format!(
            "<main class=\"picker\"><h1>Sorry, but we’re having trouble signing you in.</h1><p>{}</p></main>",
            escape(message)
        ),
    );
    page.status = 400;
    page
}
