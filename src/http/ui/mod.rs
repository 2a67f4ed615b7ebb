//! The web pages: HTML made here (askama), a little htmx, no build step.
//!
//! Everything works as plain forms and links; htmx only keeps what moves up to date. A page takes what it shows from the same
//! functions as the admin API ([`super::api`]), so that both say and allow the same. Whoever asks is known to the handlers
//! ([`super::session::Caller`]) because every route goes through a guard, which also reads forms and refuses those that
//! do not bring the session's token.

mod assets;
mod audit;
mod charts;
mod cron_german;
mod doctor;
mod form;
mod guard;
mod history;
mod holds;
mod lang;
mod log;
mod me;
mod messages;
mod overview;
mod prefs;
mod records;
mod reverts;
mod roles;
mod rules;
mod schedules;
mod sentences;
mod settings;
mod setup;
mod sign_in;
mod subscriptions;
mod sync;
mod users;
mod view;

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::ServiceConfig;
use askama::Template;

pub(super) use self::assets::CSS;
pub(super) use self::lang::Lang;
pub(super) use self::sentences::in_language;
use self::view::{Flash, View};
use super::problem::Problem;

type Page = Result<HttpResponse, Problem>;

/// Adds the routes of administrators' pages.
macro_rules! admin {
    ($routes:expr, $path:expr, GET $get:path) => {
        $routes.service(resource($path, "GET").route(web::get().to($get)).wrap(from_fn(guard::admin)))
    };
    ($routes:expr, $path:expr, POST $post:path) => {
        $routes.service(resource($path, "POST").route(web::post().to($post)).wrap(from_fn(guard::admin)))
    };
    ($routes:expr, $path:expr, GET $get:path, POST $post:path) => {
        $routes.service(
            resource($path, "GET, POST")
                .route(web::get().to($get))
                .route(web::post().to($post))
                .wrap(from_fn(guard::admin)),
        )
    };
}
use admin;

pub(super) fn configure(routes: &mut ServiceConfig) {
    assets::configure(routes);
    sign_in::configure(routes);
    prefs::configure(routes);
    overview::configure(routes);
    users::configure(routes);
    holds::configure(routes);
    // Before the single entries: `revert` is no id.
    reverts::configure(routes);
    history::configure(routes);
    audit::configure(routes);
    doctor::configure(routes);
    records::configure(routes);
    sync::configure(routes);
    messages::configure(routes);
    subscriptions::configure(routes);
    log::configure(routes);
    setup::configure(routes);
    settings::configure(routes);
    rules::configure(routes);
    schedules::configure(routes);
    roles::configure(routes);
    me::configure(routes);
}

/// A page.
fn html(view: &View, page: &impl Template) -> Page {
    render(view, actix_web::http::StatusCode::OK, page)
}

fn render(view: &View, status: actix_web::http::StatusCode, page: &impl Template) -> Page {
    let body = page.render().map_err(|error| Problem::internal(&error))?;
    let mut response = HttpResponse::build(status);
    response.content_type("text/html; charset=utf-8");
    if view.flash.is_some() {
        response.cookie(view::flash_spent());
    }
    Ok(response.body(body))
}

/// To another page.
fn redirect(to: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, to)).finish()
}

/// To a page that says what was done.
fn done(to: &str, said: impl Into<String>) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, to)).cookie(Flash::good(said).cookie()).finish()
}
