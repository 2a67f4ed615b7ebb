//! Receivers: what EspoCRM and Microsoft post to us. They verify, turn a body into hints, and answer once the hints are
//! durable. Nothing of a body is believed but where to look.

mod espocrm;
mod graph;

use std::time::Duration;

use actix_web::web::{self, Bytes, BytesMut, Data, Payload, ServiceConfig};
use futures::StreamExt as _;
use store::StoreError;
use sync::Cause;

pub use self::espocrm::Webhooks;
pub use self::graph::Subscriptions;
use super::problem::Problem;
use super::resource;
use crate::app::App;
use crate::queue::Hint;
use crate::work::error::sentence;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/webhooks/espocrm", "POST").route(web::post().to(espocrm::receive)))
        .service(resource("/webhooks/graph", "POST").route(web::post().to(graph::receive)))
        .service(resource("/webhooks/graph/lifecycle", "POST").route(web::post().to(graph::receive)));
}

/// How long a look-up may take: the sender waits.
const LOOK_UP: Duration = Duration::from_secs(2);
/// How often it is looked for what other processes have set up.
const REFRESH: Duration = Duration::from_secs(30);

/// Makes known what is there, at the start and from time to time, so that with a broker not even the first delivery of each
/// needs the database. What cannot be read now is looked up then.
pub(super) async fn keep_known(app: App, webhooks: Data<Webhooks>, subscriptions: Data<Subscriptions>) {
    loop {
        let read = async {
            webhooks.load(&app).await?;
            let all = store::subscriptions::list(app.store().read()).await?;
            all.into_iter().for_each(|subscription| drop(subscriptions.keep(subscription)));
            Ok::<(), StoreError>(())
        };
        if let Err(error) = read.await {
            tracing::debug!(error = sentence(&error), "webhooks and subscriptions cannot be read now");
        }
        tokio::select! {
            () = app.shutdown().cancelled() => return,
            () = tokio::time::sleep(REFRESH) => {}
        }
    }
}

/// A look into the database for something that is not known yet. Without one the sender is told to come again, in time.
async fn look_up<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, Problem> {
    match tokio::time::timeout(LOOK_UP, work).await {
        Ok(found) => found.map_err(|error| {
            tracing::warn!(error = sentence(&error), "what a delivery is of cannot be looked up");
            Problem::unavailable("the database cannot be used at the moment; try again")
        }),
        Err(_) => Err(Problem::unavailable("the database does not answer at the moment; try again")),
    }
}

/// Reads a body up to a limit: 413 beyond it. Most come in one piece, which is not copied.
async fn read(mut payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
        if first.len().max(more.len()) + chunk.len() > limit {
            let detail = format!("the body is larger than {limit} bytes (server.max_body)");
            return Err(Problem::new(actix_web::http::StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if more.is_empty() {
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&chunk);
    }
    Ok(if more.is_empty() { first } else { more.freeze() })
}

/// Hands hints to the queue. Senders give up after some seconds (Microsoft after 3, EspoCRM after 10): what takes longer is
/// told to come again, and does no harm when it was taken over after all.
async fn take_over(app: &App, hints: Vec<Hint>, cause: Cause) -> Result<(), Problem> {
    const PATIENCE: Duration = Duration::from_secs(3);
    match tokio::time::timeout(PATIENCE, app.queue().receive(hints, cause)).await {
        Ok(published) => Ok(published?),
        Err(_) => Err(Problem::unavailable("the queue does not take anything at the moment; try again")),
    }
}

/// The beginning of what was received, kept with the message for people to read.
fn excerpt(entry: &serde_json::Value) -> String {
    beginning(&entry.to_string()).to_owned()
}

/// The same of what is JSON already. PHP writes letters beyond ASCII as numbers and slashes behind backslashes,
/// which people cannot read.
fn as_sent(entry: &str) -> String {
    let is_escaped = entry.split('\\').skip(1).any(|rest| rest.starts_with(['u', '/']));
    let readable = if is_escaped { serde_json::from_str(entry).ok() } else { None };
    readable.map_or_else(|| beginning(entry).to_owned(), |entry| excerpt(&entry))
}

fn beginning(text: &str) -> &str {
    const LONGEST: usize = 2048;
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)
}
