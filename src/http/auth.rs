//! The admin API's door: a bearer token, compared in constant time, or a session with its CSRF token.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, ResponseError as _, web};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use super::access;
use super::problem::Problem;
use super::session::{self, CSRF_HEADER, Caller};
use crate::app::App;

pub(super) async fn require_caller(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match caller(&request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.call(request).await?.map_into_left_body())
        }
        // An answer like any other: an error would pass by what adds the headers.
        Err(problem) => Ok(request.into_response(problem.error_response()).map_into_right_body()),
    }
}

async fn caller(request: &ServiceRequest) -> Result<Caller, Problem> {
    let detail = "send the admin token: `Authorization: Bearer <server.admin_token>`, or sign in";
    let nobody = || Problem::unauthorized(detail);
    let app = request.app_data::<web::Data<App>>().ok_or_else(nobody)?;
    if let Some(header) = request.headers().get(AUTHORIZATION) {
        let is_allowed = header.to_str().is_ok_and(|header| is_token(header, app.admin_token().expose_secret()));
        return if is_allowed { Ok(Caller::of_token()) } else { Err(nobody()) };
    }
    let caller = session::of_request(request).await?.ok_or_else(nobody)?;
    if !request.method().is_safe() {
        let token = request.headers().get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        if !caller.has_csrf(token) || !session::is_from_here(app, request) {
            let detail = format!("a session changes things from its own pages only, with its token in {CSRF_HEADER}");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    if !caller.is_admin && !access::is_for_users(request.method(), request.path()) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "this is for administrators"));
    }
    Ok(caller)
}

/// Whether somebody has typed the admin token.
pub(super) fn is_admin_token(app: &App, typed: &str) -> bool {
    bool::from(typed.trim().as_bytes().ct_eq(app.admin_token().expose_secret().as_bytes()))
}

fn is_token(header: &str, expected: &str) -> bool {
    let Some((scheme, given)) = header.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer") && bool::from(given.trim().as_bytes().ct_eq(expected.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::is_token;

    #[test]
    fn the_token_itself_is_accepted_and_nothing_else() {
        assert!(is_token("Bearer s3cret", "s3cret"));
        assert!(is_token("bearer s3cret", "s3cret"));
        for header in ["s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret"] {
            assert!(!is_token(header, "s3cret"), "{header}");
        }
    }
}
