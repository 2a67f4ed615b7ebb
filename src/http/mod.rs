//! HTTP: the receivers of webhooks and notifications, the sign-in, the admin API, the probes.
//!
//! Errors of the API are problem details ([`problem::Problem`], RFC 9457). Receivers answer in status codes that the senders
//! understand; what could succeed later is a 503.

pub mod access;
pub mod api;
pub mod audit;
mod auth;
mod engine;
mod extract;
pub mod oauth;
pub mod openapi;
mod page;
mod probes;
pub mod problem;
pub mod receiver;
pub mod session;
mod ui;

use std::collections::BTreeSet;
use std::net::TcpListener;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App as ActixApp, HttpRequest, HttpServer, Resource, ResponseError as _};

use tracing::Instrument as _;

pub use self::engine::SyncRequest;
use self::problem::Problem;
use crate::app::{App, Role};
use crate::trace;

/// Builds the server. It runs when it is awaited; signals are the caller's.
///
/// # Errors
///
/// When the listener cannot be used.
pub fn server(app: &App, listener: TcpListener, roles: &BTreeSet<Role>) -> std::io::Result<Server> {
    let app = app.clone();
    let receives = roles.contains(&Role::Receiver);
    let webhooks = web::Data::new(receiver::Webhooks::default());
    let subscriptions = web::Data::new(receiver::Subscriptions::default());
    if receives {
        tokio::spawn(receiver::keep_known(app.clone(), webhooks.clone(), subscriptions.clone()));
    }
    let writes = web::Data::new(probes::Writes::default());
    let people = web::Data::new(api::users::People::default());
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(web::Data::new(app.clone()))
            .app_data(webhooks.clone())
            .app_data(subscriptions.clone())
            .app_data(people.clone())
            .app_data(writes.clone())
            .wrap(from_fn(in_trace))
            .configure(|routes| configure(routes, receives))
    });
    Ok(server.listen(listener)?.disable_signals().shutdown_timeout(10).run())
}

/// All routes. Who posts to a receiver is no browser: the headers of the others are not for him.
fn configure(routes: &mut ServiceConfig, receives: bool) {
    extract::configure(routes);
    if receives {
        receiver::configure(routes);
    }
    routes.service(web::scope("").wrap(headers()).configure(|routes| configure_others(routes, receives)));
    routes.default_service(web::to(async || Problem::not_found("there is nothing at this address")));
}

fn configure_others(routes: &mut ServiceConfig, receives: bool) {
    probes::configure(routes);
    if receives {
        oauth::configure(routes);
        ui::configure(routes);
        routes.service(openapi::scope());
        routes.service(
            web::scope("/api/v1")
                .wrap(from_fn(audit::record))
                .wrap(from_fn(auth::require_caller))
                .configure(api::configure),
        );
    }
}

/// Handles a request within the trace that it names, or that begins with it, and within the runtime of the process.
async fn in_trace(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let given = request.headers().get(trace::HEADER).and_then(|value| value.to_str().ok());
    let Some(app) = request.app_data::<web::Data<App>>().cloned() else { return next.call(request).await };
    let context = trace::Context::after(given, app.ids());
    let span = tracing::debug_span!(
        "request",
        trace.id = context.trace_id(),
        span.id = context.span_id(),
        parent.id = context.parent_id(),
        http.request.method = request.method().as_str(),
        url.path = request.path(),
    );
    app.within(context.scope(next.call(request).instrument(span))).await
}

/// A resource that refuses the methods that it does not have, and names those that it has (RFC 9110, 15.5.6).
fn resource(path: &str, allow: &'static str) -> Resource {
    #[cfg(test)]
    tests::REGISTERED.with_borrow_mut(|registered| registered.push((path.to_owned(), allow)));
    let refuse = move |request: HttpRequest| {
        let detail = format!("{} is not for this address; it takes {allow}", request.method());
        let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).error_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        std::future::ready(response)
    };
    web::resource(path).default_service(web::to(refuse))
}

/// Headers of the answers that a browser may show. Scripts and styles are files of ours; nothing comes from elsewhere, and nobody
/// frames us. Browsers tell where a form comes from only when the policy lets them (Fetch, "serialized origin"): within our own
/// pages it does.
fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add(("X-Content-Type-Options", "nosniff"))
        .add(("X-Frame-Options", "DENY"))
        .add(("Referrer-Policy", "same-origin"))
        .add(("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"))
        .add(("Cross-Origin-Opener-Policy", "same-origin"))
        .add((
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ))
        .add(("Cache-Control", "no-store"))
}

#[cfg(test)]
mod tests;
