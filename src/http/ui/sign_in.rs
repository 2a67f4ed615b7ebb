//! Signing in, out, and one's sessions. The password goes to EspoCRM and nowhere else.

use actix_web::http::StatusCode;
use actix_web::http::header::USER_AGENT;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use espocrm::{SignIn, User};
use secrecy::SecretString;
use serde::Deserialize;
use store::sessions::Session;

use super::form::Form;
use super::view::View;
use super::{Page, done, guard, html, redirect, render};
use crate::app::App;
use crate::http::problem::{Chain, Problem};
use crate::http::session::{self, Caller};
use crate::http::{auth, resource};

pub(super) fn configure(routes: &mut ServiceConfig) {
    let sessions = resource("/sessions", "GET, POST").route(web::get().to(sessions)).route(web::post().to(revoke));
    routes
        .service(
            resource("/sign-in", "GET, POST")
                .route(web::get().to(show))
                .route(web::post().to(sign_in))
                .wrap(from_fn(guard::public)),
        )
        .service(resource("/sign-out", "POST").route(web::post().to(sign_out)).wrap(from_fn(guard::anyone)))
        .service(sessions.wrap(from_fn(guard::anyone)));
}

/// An address of ours to go on to; the front page for anything else.
pub(super) fn local(wanted: Option<&str>) -> String {
    let is_local = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && !path.contains('\\')
            && path.bytes().all(|byte| byte.is_ascii_graphic())
    };
    wanted.filter(is_local).unwrap_or("/").to_owned()
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    v: &'a View,
    to: String,
    user: &'a str,
    error: Option<String>,
    asks_code: bool,
    with_token: bool,
    has_espocrm: bool,
}

#[derive(Deserialize)]
struct To {
    to: Option<String>,
    with: Option<String>,
}

async fn show(app: Data<App>, view: View, query: Query<To>) -> Page {
    if view.caller.is_some() {
        return Ok(redirect(&local(query.to.as_deref())));
    }
    let has_espocrm = app.connections().espocrm().is_some();
    let page = SignInPage {
        v: &view,
        to: local(query.to.as_deref()),
        user: "",
        error: None,
        asks_code: false,
        with_token: query.with.as_deref() == Some("token") || !has_espocrm,
        has_espocrm,
    };
    html(&view, &page)
}

/// Why nobody is signed in.
struct Refusal {
    status: StatusCode,
    key: &'static str,
    more: Option<String>,
    asks_code: bool,
}

impl Refusal {
    fn new(status: StatusCode, key: &'static str) -> Self {
        Self { status, key, more: None, asks_code: false }
    }
}

async fn sign_in(app: Data<App>, request: HttpRequest, view: View, form: Form) -> Page {
    let with_token = form.raw("token").is_some();
    let outcome = match form.raw("token") {
        Some(token) => by_token(&app, token).await.map(|()| None),
        None => by_password(&app, &form).await.map(Some),
    };
    let user = match outcome {
        Ok(user) => user,
        Err(refusal) => return refused(&app, &view, &form, &refusal, with_token),
    };
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let cookie = session::begin(&app, user.as_ref(), agent).await?;
    tracing::info!(user.name = user.as_ref().map_or("admin token", |user| &user.user_name), "somebody has signed in");
    let mut response = redirect(&local(form.text("to")));
    response.add_cookie(&cookie).map_err(|error| Problem::internal(&error))?;
    Ok(response)
}

fn refused(app: &App, view: &View, form: &Form, refusal: &Refusal, with_token: bool) -> Page {
    let text = view.t(refusal.key);
    let error = refusal.more.as_ref().map_or_else(|| text.to_owned(), |more| text.replace("{0}", more));
    let page = SignInPage {
        v: view,
        to: local(form.text("to")),
        user: form.text("user").unwrap_or_default(),
        error: Some(error),
        asks_code: refusal.asks_code,
        with_token,
        has_espocrm: app.connections().espocrm().is_some(),
    };
    let mut response = render(view, refusal.status, &page)?;
    if refusal.status == StatusCode::TOO_MANY_REQUESTS {
        let value = actix_web::http::header::HeaderValue::from_static("60");
        response.headers_mut().insert(actix_web::http::header::RETRY_AFTER, value);
    }
    Ok(response)
}

async fn by_token(app: &App, typed: &str) -> Result<(), Refusal> {
    // 256 random bits need no throttle; one that was chosen by hand is at least slowed down.
    if auth::is_admin_token(app, typed) {
        return Ok(());
    }
    tracing::warn!("somebody has given a wrong admin token");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "sign_in.wrong_token"))
}

async fn by_password(app: &App, form: &Form) -> Result<User, Refusal> {
    let away = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "sign_in.no_espocrm");
    let connection = app.connections().espocrm().ok_or_else(away)?;
    let name = form.text("user").unwrap_or_default().to_owned();
    let password = SecretString::from(form.raw("password").unwrap_or_default());
    let code = form.text("code").map(str::to_owned);
    let asks_code = code.is_some();
    let asked = app.on_main(async move { connection.client.sign_in(&name, &password, code.as_deref()).await });
    match asked.await.ok_or_else(away)? {
        Ok(SignIn::Accepted(user)) if !user.active || ["api", "portal", "system"].contains(&user.kind.as_str()) => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "sign_in.not_for_you"))
        }
        Ok(SignIn::Accepted(user)) => Ok(user),
        Ok(SignIn::Refused) => Err(Refusal { asks_code, ..Refusal::new(StatusCode::UNAUTHORIZED, "sign_in.wrong") }),
        Ok(SignIn::SecondFactor) => {
            Err(Refusal { asks_code: true, ..Refusal::new(StatusCode::UNAUTHORIZED, "sign_in.code_needed") })
        }
        Err(espocrm::Error::Withheld { after, .. }) => {
            let more = Some(after.as_secs().max(1).to_string());
            Err(Refusal { more, ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "sign_in.too_many") })
        }
        Err(espocrm::Error::LockedOut) => {
            let more = Some("60".to_owned());
            Err(Refusal { more, ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "sign_in.too_many") })
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "EspoCRM cannot be asked whether it lets somebody in");
            Err(away())
        }
    }
}

async fn sign_out(app: Data<App>, caller: Caller) -> Page {
    if let Some(id) = &caller.session {
        store::sessions::delete(app.store().write(), id).await?;
    }
    let mut response = redirect("/sign-in");
    response.add_cookie(&session::ended(&app)).map_err(|error| Problem::internal(&error))?;
    Ok(response)
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage<'a> {
    v: &'a View,
    sessions: Vec<Session>,
    own: String,
}

async fn sessions(app: Data<App>, view: View, caller: Caller) -> Page {
    let sessions = store::sessions::of_user(app.store().read(), caller.user_id.as_deref(), app.clock().now()).await?;
    html(&view, &SessionsPage { v: &view, sessions, own: caller.session.unwrap_or_default() })
}

async fn revoke(app: Data<App>, view: View, caller: Caller, form: Form) -> Result<HttpResponse, Problem> {
    let own = caller.session.clone().unwrap_or_default();
    let user = caller.user_id.as_deref();
    match form.text("id") {
        None => drop(store::sessions::delete_others(app.store().write(), user, &own).await?),
        Some(id) => {
            let all = store::sessions::of_user(app.store().read(), user, app.clock().now()).await?;
            if !all.iter().any(|session| session.id == id) {
                return Err(Problem::not_found(view.t("sessions.unknown")));
            }
            store::sessions::delete(app.store().write(), id).await?;
        }
    }
    Ok(done("/sessions", view.t("sessions.ended")))
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for (wanted, led) in [
            ("/users?x=1", "/users?x=1"),
            ("//evil.example", "/"),
            ("https://evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/a\r\nb", "/"),
            ("", "/"),
        ] {
            assert_eq!(local(Some(wanted)), led, "{wanted}");
        }
        assert_eq!(local(None), "/");
    }
}
