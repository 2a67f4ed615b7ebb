//! The admin API's door: a bearer token, compared in constant time.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{Error, web};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use super::problem::Problem;
use crate::app::App;

pub(super) async fn require_token(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let is_allowed = request.app_data::<web::Data<App>>().is_some_and(|app| {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        header.is_some_and(|header| is_token(header, app.admin_token().expose_secret()))
    });
    if is_allowed {
        return next.call(request).await;
    }
    let detail = "send the admin token: `Authorization: Bearer <server.admin_token>`";
    Err(Problem::unauthorized(detail).into())
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
