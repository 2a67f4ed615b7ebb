//! Signing in with Microsoft: a one-time link, the authorization code flow with PKCE, and a page that says how it ended.
//!
//! The link's ticket, the `state` and the cookie are random; the database holds their digests only. The cookie binds the
//! callback to the browser that began: a callback address that was sent to somebody else is worth nothing (RFC 6749, 10.12).

use actix_web::cookie::{Cookie, SameSite, time::Duration as CookieDuration};
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::{self, Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use graph::{AuthError, Profile, TokenSet};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use store::bindings::{Binding, BindingState};
use store::oauth::{Pending, Purpose};

use super::api::bindings::TICKET_LIVES;
use super::problem::{Chain, Problem};
use super::{engine, page, resource};
use crate::app::App;
use crate::app::secrets::VERIFIER;
use crate::vault::{digest, matches_digest};

const COOKIE: &str = "espo_outlook_sign_in";

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/oauth/microsoft/start", "GET").route(web::get().to(start)))
        .service(resource("/oauth/microsoft/callback", "GET").route(web::get().to(callback)));
}

/// Why a sign-in did not work, for the user to read.
struct Failure(StatusCode, String);

impl Failure {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self(status, text.into())
    }

    fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "a sign-in failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Something went wrong here. Ask for a new sign-in link and try again.",
        )
    }

    fn page(self, request: &HttpRequest) -> HttpResponse {
        page::sentence(request, self.0, "The sign-in did not work", &self.1)
    }
}

impl From<store::StoreError> for Failure {
    fn from(error: store::StoreError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<crate::vault::VaultError> for Failure {
    fn from(error: crate::vault::VaultError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, problem.detail)
    }
}

#[derive(Debug, Deserialize)]
struct Start {
    #[serde(default)]
    ticket: String,
}

async fn start(app: Data<App>, request: HttpRequest, query: Query<Start>) -> HttpResponse {
    begin(&app, &query.ticket).await.unwrap_or_else(|failure| failure.page(&request))
}

async fn begin(app: &App, ticket: &str) -> Result<HttpResponse, Failure> {
    let now = app.clock().now();
    let spent = || {
        Failure::new(StatusCode::BAD_REQUEST, "This sign-in link was used already or is too old. Ask for a new one.")
    };
    let ticket =
        store::oauth::take(app.store().write(), Purpose::Ticket, &digest(ticket), now).await?.ok_or_else(spent)?;
    let binding = store::bindings::by_user(app.store().read(), &ticket.user_id).await?;
    let binding =
        binding.ok_or_else(|| Failure::new(StatusCode::CONFLICT, "You are not bound to a mailbox any more."))?;
    let none = || Failure::new(StatusCode::CONFLICT, "Microsoft is not configured. Ask your administrator.");
    let microsoft = app.connections().microsoft().ok_or_else(none)?;
    let (state, verifier, cookie) = (app.ids().secret(), app.ids().secret(), app.ids().secret());
    let pending = Pending {
        id: digest(&state),
        purpose: Purpose::SignIn,
        user_id: ticket.user_id,
        verifier: Some(app.vault().seal(VERIFIER, &verifier)?),
        cookie_hash: Some(digest(&cookie)),
        created: now,
        expires: now + TICKET_LIVES,
    };
    store::oauth::put(app.store().write(), &pending).await?;
    let url = microsoft.authority.authorize_url(&state, &verifier, binding.mailbox.as_deref());
    let url = url.map_err(|error| Failure::unavailable(&error))?;
    Ok(HttpResponse::SeeOther()
        .insert_header((LOCATION, url.as_str()))
        .cookie(sign_in_cookie(app, cookie, CookieDuration::minutes(TICKET_LIVES.num_minutes())))
        .finish())
}

fn sign_in_cookie(app: &App, value: String, life: CookieDuration) -> Cookie<'static> {
    Cookie::build(COOKIE, value)
        .path("/oauth/microsoft")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(app.config().base_url().starts_with("https:"))
        .max_age(life)
        .finish()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Callback {
    state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

async fn callback(app: Data<App>, request: HttpRequest, query: Query<Callback>) -> HttpResponse {
    let cookie = request.cookie(COOKIE).map(|cookie| cookie.value().to_owned());
    let mut response = match end(&app, query.into_inner(), cookie.as_deref()).await {
        Ok(mailbox) => {
            let text = format!("Your mailbox {mailbox} is connected. You can close this page.");
            page::sentence(&request, StatusCode::OK, "Signed in", &text)
        }
        Err(failure) => failure.page(&request),
    };
    let spent = sign_in_cookie(&app, String::new(), CookieDuration::ZERO);
    if let Err(error) = response.add_cookie(&spent) {
        tracing::debug!(%error, "the cookie of the sign-in could not be removed");
    }
    response
}

async fn end(app: &App, answer: Callback, cookie: Option<&str>) -> Result<String, Failure> {
    let now = app.clock().now();
    let strange = || {
        let text = "This answer does not belong to a sign-in that began in this browser. Ask for a new sign-in link.";
        Failure::new(StatusCode::BAD_REQUEST, text)
    };
    let pending = store::oauth::take(app.store().write(), Purpose::SignIn, &digest(&answer.state), now).await?;
    let pending = pending.ok_or_else(strange)?;
    let is_same_browser =
        cookie.zip(pending.cookie_hash.as_deref()).is_some_and(|(cookie, hash)| matches_digest(cookie, hash));
    if !is_same_browser {
        return Err(strange());
    }
    if let Some(error) = answer.error {
        let more = answer.error_description.unwrap_or_default();
        let text = format!("Microsoft did not let you in ({error}). {more}");
        return Err(Failure::new(StatusCode::FORBIDDEN, text));
    }
    let (code, sealed) = answer.code.zip(pending.verifier).ok_or_else(strange)?;
    let verifier = app.vault().open_secret(VERIFIER, &sealed)?;
    let binding = store::bindings::by_user(app.store().read(), &pending.user_id).await?;
    let binding =
        binding.ok_or_else(|| Failure::new(StatusCode::CONFLICT, "You are not bound to a mailbox any more."))?;
    let (tokens, profile) = redeem(app, code, verifier.expose_secret().to_owned()).await?;
    let mailbox = mailbox_of(app, &binding, &profile).await?;
    keep(app, &binding, &tokens, &profile, &mailbox).await?;
    learn_zone(app, &binding.user_id, &mailbox).await;
    if binding.enabled {
        engine::binding_activated(app, &binding.user_id).await?;
    }
    tracing::info!(user.id = binding.user_id, "a user has signed in with Microsoft");
    Ok(mailbox)
}

/// Redeems the code and asks who has signed in. Nothing is stored yet.
async fn redeem(app: &App, code: String, verifier: String) -> Result<(TokenSet, Profile), Failure> {
    let none = || Failure::new(StatusCode::CONFLICT, "Microsoft is not configured. Ask your administrator.");
    let microsoft = app.connections().microsoft().ok_or_else(none)?;
    let redeemed = app.on_main(async move {
        let tokens = microsoft.authority.exchange_code(&code, &verifier).await?;
        let profile = microsoft.graph.profile(&tokens.access).await;
        Ok::<_, AuthError>((tokens, profile))
    });
    let stopping = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "The service is stopping. Try again in a minute.");
    let (tokens, profile) = redeemed.await.ok_or_else(stopping)?.map_err(|error| {
        tracing::warn!(error = %Chain(&error), "a sign-in could not be redeemed");
        Failure::new(StatusCode::BAD_GATEWAY, format!("Microsoft did not complete the sign-in: {error}."))
    })?;
    let profile = profile.map_err(|error| {
        tracing::warn!(error = %Chain(&error), "who has signed in could not be read");
        Failure::new(StatusCode::BAD_GATEWAY, format!("Microsoft did not tell who has signed in: {error}."))
    })?;
    if tokens.refresh.is_none() {
        let text =
            "Microsoft gave no lasting permission (offline_access). Ask your administrator to allow it for the app.";
        return Err(Failure::new(StatusCode::FORBIDDEN, text));
    }
    Ok((tokens, profile))
}

/// The mailbox that has signed in, if it is the one that was meant and nobody else's.
async fn mailbox_of(app: &App, binding: &Binding, profile: &Profile) -> Result<String, Failure> {
    let address = |text: &str| sync::text::address(text);
    let own = [profile.mail.as_deref(), Some(profile.upn.as_str())];
    let mailbox = match &binding.mailbox {
        Some(given) if own.iter().flatten().any(|own| address(own) == address(given)) => address(given),
        Some(given) => {
            let text = format!(
                "You signed in as {}, but the mailbox to connect is {given}. Sign out at Microsoft, or choose the other \
                 account, and ask for a new sign-in link.",
                profile.mail.as_deref().unwrap_or(&profile.upn)
            );
            return Err(Failure::new(StatusCode::FORBIDDEN, text));
        }
        None => address(profile.mail.as_deref().unwrap_or(&profile.upn)),
    };
    let claimed = store::bindings::claiming(app.store().read(), &mailbox).await?;
    if let Some(other) = claimed.iter().find(|other| other.user_id != binding.user_id) {
        let text = format!("The mailbox {mailbox} is connected to {} already.", other.user_name);
        return Err(Failure::new(StatusCode::CONFLICT, text));
    }
    Ok(mailbox)
}

async fn keep(
    app: &App,
    binding: &Binding,
    tokens: &TokenSet,
    profile: &Profile,
    mailbox: &str,
) -> Result<(), Failure> {
    let now = app.clock().now();
    let user = binding.user_id.as_str();
    let token = app.connections().purse().seal(user, tokens)?;
    let kept = store::insist(|| async {
        let transaction = app.store().begin().await?;
        store::tokens::put(&transaction, user, &token, now).await?;
        store::bindings::set_profile(&transaction, user, Some(mailbox), Some(&profile.id), None).await?;
        if binding.enabled {
            store::bindings::set_state(&transaction, user, BindingState::Active, "In step.", None, now).await?;
        }
        Ok(transaction.commit().await?)
    });
    Ok(kept.await?)
}

/// The dates of tasks are days in the mailbox's zone; without it they are days in UTC until it can be read.
async fn learn_zone(app: &App, user: &str, address: &str) {
    let Some(graph) = app.connections().graph() else { return };
    let mailbox = engine::mailbox(user, address.to_owned());
    match app.on_main(async move { graph.zone(&mailbox).await }).await {
        Some(Ok(zone)) => {
            if let Err(error) = store::bindings::set_profile(app.store().write(), user, None, None, Some(&zone)).await {
                tracing::warn!(user.id = user, error = %Chain(&error), "the mailbox's time zone cannot be stored");
            }
        }
        Some(Err(error)) => {
            tracing::warn!(user.id = user, error = %Chain(&error), "the mailbox's time zone cannot be read")
        }
        None => {}
    }
}
