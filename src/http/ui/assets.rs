//! What pages load. Files are part of the binary; their addresses carry their version, so that browsers may keep them.
//!
//! `htmx-2.0.11.min.js` is `dist/htmx.min.js` of the npm package htmx.org 2.0.11, licensed 0BSD,
//! SHA-256 d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, ServiceConfig};

use crate::http::resource;

/// The style sheet. A new version of the service has a new address.
pub const CSS: &str = concat!("/assets/app.css?v=", env!("CARGO_PKG_VERSION"));
pub const JS: &str = concat!("/assets/app.js?v=", env!("CARGO_PKG_VERSION"));
pub const HTMX: &str = "/assets/htmx.js?v=2.0.11";
#[cfg(test)]
const HTMX_SHA256: &str = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717";

const FILES: [(&str, &str, &[u8]); 4] = [
    ("/assets/app.css", "text/css; charset=utf-8", include_bytes!("assets/app.css")),
    ("/assets/app.js", "text/javascript; charset=utf-8", include_bytes!("assets/app.js")),
    ("/assets/htmx.js", "text/javascript; charset=utf-8", include_bytes!("assets/htmx-2.0.11.min.js")),
    ("/assets/icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
];

pub(super) fn configure(routes: &mut ServiceConfig) {
    for (path, kind, content) in FILES {
        let file = move || std::future::ready(answer(kind, content));
        routes.service(resource(path, "GET, HEAD").route(web::get().to(file)).route(web::head().to(file)));
    }
}

fn answer(kind: &'static str, content: &'static [u8]) -> HttpResponse {
    // While it is developed the version stays the same.
    let keep = if cfg!(debug_assertions) { "no-cache" } else { "public, max-age=31536000, immutable" };
    HttpResponse::Ok().content_type(kind).insert_header((CACHE_CONTROL, keep)).body(content)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn htmx_is_the_published_file() {
        assert_eq!(hex::encode(Sha256::digest(FILES[2].2)), HTMX_SHA256);
    }
}
