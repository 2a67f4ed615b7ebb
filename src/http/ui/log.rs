//! The tail of the log, live.

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use askama::Template;
use futures::stream::{self, StreamExt as _};
use tokio::sync::broadcast::error::RecvError;

use super::view::View;
use super::{Page, admin, guard, html};
use crate::app::App;
use crate::http::resource;
use crate::telemetry::{self, LogLine};

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/log", GET show);
    admin!(routes, "/log/stream", GET follow);
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage<'a> {
    v: &'a View,
    lines: Vec<LogLine>,
}

async fn show(view: View) -> Page {
    html(&view, &LogPage { v: &view, lines: telemetry::recent() })
}

/// Server-sent events (HTML Standard, 9.2): one a line, until the service stops.
async fn follow(app: Data<App>) -> HttpResponse {
    let lines = telemetry::follow();
    let stopping = app.shutdown().clone();
    let events = stream::unfold((lines, stopping), |(mut lines, stopping)| async move {
        let text = tokio::select! {
            () = stopping.cancelled() => return None,
            () = tokio::time::sleep(std::time::Duration::from_secs(20)) => ": still here\n\n".to_owned(),
            line = lines.recv() => match line {
                Ok(line) => format!("data: {}\n\n", serde_json::to_string(&line).unwrap_or_default()),
                Err(RecvError::Lagged(_)) => ": some were left out\n\n".to_owned(),
                Err(RecvError::Closed) => return None,
            },
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (lines, stopping)))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events.boxed())
}
