//! Who is asking. Facts (EspoCRM 9.3.10): X-Api-Key; X-Hmac-Authorization over `METHOD /path` below `/api/v1`, hex or
//! (legacy) raw digest; Basic; Espo-Authorization with password or token; X-Another-User for admins. A refused login is
//! 401 with an empty body (one that lacks the code of a second factor says so and is no failure); more than 10 failures within 60 s close the address for every request but by-token ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Duration;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::refusal::Refusal;
use super::state::{Actor, State, Token, UserType};
use crate::plumbing::Request;

const FAILURES_ALLOWED: usize = 10;

/// The outcome of a login: the user, and the token that it created.
pub(super) struct Login {
    pub actor: Actor,
    pub token: Option<String>,
    /// Goes out as the cookie `auth-token-secret`.
    pub secret: Option<String>,
}

enum Refused {
    NoCredentials,
    Wrong,
    /// The password is right; the code of the second factor is missing.
    SecondStep,
}

pub(super) fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes a key of any length.
    <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .map(|mut mac| {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        })
        .unwrap_or_default()
}

pub(super) fn authenticate(state: &mut State, request: &Request) -> Result<Login, Refusal> {
    let since = state.clock.now() - Duration::seconds(60);
    state.failures.retain(|at| *at > since);
    let by_token = request.header("Espo-Authorization-By-Token") == Some("true");
    if state.failures.len() > FAILURES_ALLOWED && !by_token && !request.person {
        return Err(Refusal::bare(403));
    }
    let mut login = match identify(state, request, by_token) {
        Ok(login) => login,
        Err(Refused::NoCredentials) => return Err(Refusal { challenge: true, ..Refusal::bare(401) }),
        Err(Refused::SecondStep) => {
            return Err(Refusal::new(401, "second-step-required").with_body(serde_json::json!({})));
        }
        Err(Refused::Wrong) => {
            if !request.person {
                let now = state.clock.now();
                state.failures.push(now);
            }
            return Err(Refusal::bare(401));
        }
    };
    if let Some(another) = request.header("X-Another-User") {
        let other = state.actor_named(another).filter(|other| login.actor.is_admin() && other.kind != UserType::Api);
        login.actor = other.ok_or_else(|| Refusal::bare(401))?;
    }
    Ok(login)
}

fn identify(state: &mut State, request: &Request, by_token: bool) -> Result<Login, Refused> {
    if let Some(header) = request.header("Espo-Authorization") {
        let create_secret = request.header("Espo-Authorization-Create-Token-Secret") == Some("true");
        return by_name(state, request, header, by_token, (!by_token).then_some(create_secret));
    }
    if let Some(key) = request.header("X-Api-Key") {
        let found = state.accounts.iter().find(|(_, a)| a.api_key.as_deref() == Some(key) && a.hmac_secret.is_none());
        let id = found.map(|(id, _)| id.clone()).ok_or(Refused::Wrong)?;
        return active(state, &id);
    }
    if let Some(mac) = request.header("X-Hmac-Authorization") {
        let id = by_hmac(state, request, mac).ok_or(Refused::Wrong)?;
        return active(state, &id);
    }
    match request.header("Authorization").and_then(|value| value.strip_prefix("Basic ")) {
        Some(credentials) => by_name(state, request, credentials, false, None),
        None => Err(Refused::NoCredentials),
    }
}

fn active(state: &State, id: &str) -> Result<Login, Refused> {
    let is_active = state.live("User", id).is_some_and(|user| user.get("isActive") != false);
    let actor = state.actor(id).filter(|_| is_active).ok_or(Refused::Wrong)?;
    Ok(Login { actor, token: None, secret: None })
}

fn by_hmac(state: &State, request: &Request, header: &str) -> Option<String> {
    let raw = STANDARD.decode(header).ok()?;
    let colon = raw.iter().position(|byte| *byte == b':')?;
    let (key, digest) = (raw.get(..colon)?, raw.get(colon + 1..)?);
    let (id, account) =
        state.accounts.iter().find(|(_, a)| a.api_key.as_deref().is_some_and(|k| k.as_bytes() == key))?;
    let path = request.raw_path.split_once("/api/v1/").map_or("", |(_, path)| path);
    let signed = format!("{} /{path}", request.method);
    let want = hmac_sha256(account.hmac_secret.as_ref()?.as_bytes(), signed.as_bytes());
    (digest == hex::encode(&want).as_bytes() || digest == want.as_slice()).then(|| id.clone())
}

/// `create_token`: make a token, and with `Some(true)` one that is bound to a cookie.
fn by_name(
    state: &mut State,
    request: &Request,
    credentials: &str,
    token_only: bool,
    create_token: Option<bool>,
) -> Result<Login, Refused> {
    let text = STANDARD.decode(credentials).ok().and_then(|raw| String::from_utf8(raw).ok()).ok_or(Refused::Wrong)?;
    let (name, secret) = text.split_once(':').ok_or(Refused::Wrong)?;
    let id = state.live_user_id(name).ok_or(Refused::Wrong)?;
    let account = state.accounts.get(&id).filter(|account| account.kind != UserType::Api).ok_or(Refused::Wrong)?;
    let by_password = !token_only && account.password.as_deref() == Some(secret);
    let by_token = state.tokens.get(secret).is_some_and(|token| {
        token.user == id && token.secret.as_ref().is_none_or(|s| cookie(request, "auth-token-secret") == Some(s))
    });
    if !by_password && !by_token {
        return Err(Refused::Wrong);
    }
    if let (true, Some(wanted)) = (by_password, &account.second_factor) {
        match request.header("Espo-Authorization-Code") {
            Some(code) if code == wanted => {}
            Some(_) => return Err(Refused::Wrong),
            None => return Err(Refused::SecondStep),
        }
    }
    let mut login = active(state, &id)?;
    if let (true, Some(with_secret)) = (by_password, create_token) {
        let token = state.ids.hex(32);
        login.secret = with_secret.then(|| state.ids.hex(32));
        state.tokens.insert(token.clone(), Token { user: id, secret: login.secret.clone() });
        login.token = Some(token);
    }
    Ok(login)
}

fn cookie<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let pairs = request.header("Cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}
