//! Receivers: what EspoCRM and Microsoft post to us. They verify, turn a body into hints, and answer once the hints are
//! durable. Nothing of a body is believed but where to look.

mod espocrm;
mod graph;

use actix_web::web::{self, Bytes, BytesMut, Payload, ServiceConfig};
use futures::StreamExt as _;

pub use self::espocrm::Webhooks;
use super::problem::Problem;
use super::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/webhooks/espocrm", "POST").route(web::post().to(espocrm::receive)))
        .service(resource("/webhooks/graph", "POST").route(web::post().to(graph::receive)))
        .service(resource("/webhooks/graph/lifecycle", "POST").route(web::post().to(graph::receive)));
}

/// Reads a body up to a limit: 413 beyond it.
async fn read(mut payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
        if body.len() + chunk.len() > limit {
            let detail = format!("the body is larger than {limit} bytes (server.max_body)");
            return Err(Problem::new(actix_web::http::StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The beginning of a body, kept with the messages for people to read.
fn excerpt(body: &[u8]) -> String {
    const LONGEST: usize = 2048;
    let text = String::from_utf8_lossy(body);
    text.chars().take(LONGEST).collect()
}
