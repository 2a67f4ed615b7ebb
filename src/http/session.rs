//! Who is asking: the holder of the admin token, or somebody with a session, which a cookie names.
//!
//! The cookie is random; the database holds its digest. What a form or script must send along to change anything (the CSRF
//! token) is derived from the cookie, so that it cannot be had without it, and is not kept at all. A session ends after a
//! while of rest, after a week in any case, and when EspoCRM no longer lets its user in.

use std::future::{Ready, ready};

use actix_web::cookie::{Cookie, SameSite, time::Duration as CookieDuration};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::{HOST, ORIGIN};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use chrono::{DateTime, TimeDelta, Utc};
use espocrm::User;
use store::StoreError;
use store::sessions::Session;
use subtle::ConstantTimeEq as _;
use url::Url;

use super::access::Rights;
use super::api::users::People;
use super::problem::Problem;
use crate::app::App;
use crate::vault::digest;

/// The cookie.
pub const COOKIE: &str = "espo_outlook_session";
/// What a form calls the CSRF token.
pub const CSRF_FIELD: &str = "csrf";
/// What a script calls it.
pub const CSRF_HEADER: &str = "X-CSRF-Token";
/// The longest rest.
const RESTS: TimeDelta = TimeDelta::hours(12);
/// The longest life.
const LIVES: TimeDelta = TimeDelta::days(7);
/// How often use is noted, and EspoCRM is asked whether it still lets the user in.
const CHECKED: TimeDelta = TimeDelta::minutes(5);

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// EspoCRM's id of the user; none for the holder of the admin token.
    pub user_id: Option<String>,
    /// Login name.
    pub user_name: String,
    /// Full name.
    pub name: String,
    /// Whether everything is allowed.
    pub is_admin: bool,
    /// Ids of the user's roles in EspoCRM.
    pub roles: Vec<String>,
    /// What those say.
    pub rights: Rights,
    /// The session, when it is one; its id is no secret.
    pub session: Option<String>,
    /// The CSRF token of the session.
    pub csrf: Option<String>,
}

impl Caller {
    /// The holder of the admin token.
    #[must_use]
    pub fn of_token() -> Self {
        Self {
            user_id: None,
            user_name: "administrator".to_owned(),
            name: "Administrator".to_owned(),
            is_admin: true,
            roles: Vec::new(),
            rights: Rights::default(),
            session: None,
            csrf: None,
        }
    }

    fn of_session(session: Session, rights: Rights, cookie: &str) -> Self {
        Self {
            user_id: session.user_id,
            user_name: session.user_name,
            name: session.name,
            is_admin: session.is_admin,
            roles: session.roles,
            rights,
            session: Some(session.id),
            csrf: Some(csrf(cookie)),
        }
    }

    /// Whether the caller is that user.
    #[must_use]
    pub fn is(&self, user_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id)
    }

    /// Whether what a request brought along is this session's CSRF token.
    #[must_use]
    pub fn has_csrf(&self, given: Option<&str>) -> bool {
        let (Some(expected), Some(given)) = (&self.csrf, given) else { return false };
        bool::from(expected.as_bytes().ct_eq(given.as_bytes()))
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = request.extensions().get::<Self>().cloned();
        ready(found.ok_or_else(|| Problem::unauthorized("sign in first")))
    }
}

fn csrf(cookie: &str) -> String {
    digest(&format!("csrf:{cookie}"))
}

/// Begins a session; gives its cookie.
///
/// # Errors
///
/// When the database fails.
pub(super) async fn begin(app: &App, user: Option<&User>, agent: &str) -> Result<Cookie<'static>, StoreError> {
    let (secret, now) = (app.ids().secret(), app.clock().now());
    let token = Caller::of_token();
    let session = Session {
        id: digest(&secret),
        user_id: user.map(|user| user.id.clone()),
        user_name: user.map_or(token.user_name, |user| user.user_name.clone()),
        name: user.map_or(token.name, |user| user.name.clone()),
        is_admin: user.is_none_or(is_admin),
        roles: user.map(|user| user.roles.clone()).unwrap_or_default(),
        agent: agent.to_owned(),
        created: now,
        seen: now,
        checked: now,
        expires: now + RESTS,
    };
    store::sessions::prune(app.store().write(), now).await?;
    store::sessions::insert(app.store().write(), &session).await?;
    Ok(cookie(app, secret, CookieDuration::days(LIVES.num_days())))
}

/// Whether EspoCRM's user may do everything here.
pub(super) fn is_admin(user: &User) -> bool {
    ["admin", "super-admin"].contains(&user.kind.as_str())
}

/// The cookie that ends a session in the browser.
pub(super) fn ended(app: &App) -> Cookie<'static> {
    cookie(app, String::new(), CookieDuration::ZERO)
}

fn cookie(app: &App, value: String, life: CookieDuration) -> Cookie<'static> {
    Cookie::build(COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(app.config().base_url().starts_with("https:"))
        .max_age(life)
        .finish()
}

/// Whose session the request's cookie names; none when it names none that lives.
///
/// # Errors
///
/// When the database fails.
pub(super) async fn of_request(request: &ServiceRequest) -> Result<Option<Caller>, StoreError> {
    let app = request.app_data::<web::Data<App>>().cloned();
    let people = request.app_data::<web::Data<People>>().cloned();
    let (Some(app), Some(people), Some(cookie)) = (app, people, request.cookie(COOKIE)) else { return Ok(None) };
    let now = app.clock().now();
    let Some(mut session) = store::sessions::get(app.store().read(), &digest(cookie.value()), now).await? else {
        return Ok(None);
    };
    if now - session.seen > CHECKED {
        let expires = (now + RESTS).min(session.created + LIVES);
        store::sessions::seen(app.store().write(), &session.id, now, expires).await?;
    }
    if now - session.checked > CHECKED && !confirm(&app, &people, &mut session, now).await? {
        return Ok(None);
    }
    let rights = if session.is_admin { Rights::default() } else { Rights::of(&app, &people, &session.roles).await? };
    Ok(Some(Caller::of_session(session, rights, cookie.value())))
}

/// Asks EspoCRM about the session's user; false when the session is over. While EspoCRM cannot be asked the last word holds.
async fn confirm(app: &App, people: &People, session: &mut Session, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let Some(id) = session.user_id.clone() else { return Ok(true) };
    match people.one(app, &id).await {
        Ok(Some(user)) if user.active => {
            (session.is_admin, session.roles) = (is_admin(&user), user.roles);
            let (write, roles) = (app.store().write(), session.roles.as_slice());
            store::sessions::confirmed(write, &session.id, session.is_admin, roles, now).await?;
            Ok(true)
        }
        Ok(_) => {
            store::sessions::delete(app.store().write(), &session.id).await?;
            Ok(false)
        }
        Err(error) => {
            tracing::warn!(user.id = id, error, "EspoCRM cannot be asked about a user who is signed in");
            Ok(true)
        }
    }
}

/// Whether a request that changes something comes from one of our own pages, as far as the browser says where it comes from
/// (Fetch, "`Origin` header"; Fetch Metadata, "`Sec-Fetch-Site`").
pub(super) fn is_from_here(app: &App, request: &ServiceRequest) -> bool {
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    match (text(ORIGIN.as_str()), text("Sec-Fetch-Site")) {
        (Some(origin), _) => {
            let Ok(origin) = origin.parse::<Url>() else { return false };
            let ours = app.config().base_url().parse::<Url>().is_ok_and(|base| base.origin() == origin.origin());
            // Behind a proxy, or on another of the machine's names.
            ours || text(HOST.as_str()).is_some_and(|host| host == authority(&origin))
        }
        (None, Some(site)) => ["same-origin", "none"].contains(&site),
        (None, None) => true,
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sessions_own_token_counts_and_none_without_a_session() {
        let mut caller = Caller::of_token();
        assert!(!caller.has_csrf(None) && !caller.has_csrf(Some("")));
        caller.csrf = Some(csrf("cookie"));
        assert!(caller.has_csrf(Some(&csrf("cookie"))));
        assert!(!caller.has_csrf(Some(&csrf("another"))) && !caller.has_csrf(None) && !caller.has_csrf(Some("cookie")));
    }
}
