//! Language and theme: kept in the browser.

use actix_web::HttpResponse;
use actix_web::cookie::{Cookie, SameSite, time::Duration as CookieDuration};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};

use super::form::Form;
use super::guard;
use super::lang::Lang;
use super::sign_in::local;
use super::view::{LANG_COOKIE, THEME_COOKIE, THEMES};
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(resource("/preferences", "POST").route(web::post().to(put)).wrap(from_fn(guard::public)));
}

async fn put(form: Form) -> HttpResponse {
    let keep = |name: &'static str, value: &'static str| {
        Cookie::build(name, value)
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .max_age(CookieDuration::days(365))
            .finish()
    };
    let mut response = super::redirect(&local(form.text("to")));
    let lang = form.text("lang").and_then(Lang::of_code).map(|lang| keep(LANG_COOKIE, lang.code()));
    let theme = form.text("theme").and_then(|word| THEMES.into_iter().find(|known| *known == word));
    for cookie in lang.into_iter().chain(theme.map(|theme| keep(THEME_COOKIE, theme))) {
        // A cookie of ours can always be written.
        response.add_cookie(&cookie).ok();
    }
    response
}
