//! Traces for an OpenTelemetry collector: OTLP over HTTP in its JSON form, behind the feature `otel`.
//!
//! Facts (opentelemetry.io, "OTLP Specification 1.5" and "Environment Variable Specification"): `POST {endpoint}/v1/traces`; ids
//! are hexadecimal, times are nanoseconds as text; the address, headers and the service's name come from `OTEL_EXPORTER_OTLP_*`
//! and `OTEL_SERVICE_NAME`. Without an address nothing is exported.
//!
//! Spans carry our own ids ([`crate::trace`]) as fields, which also cross the queue; a span without them gets one below its
//! parent's. Spans are sent in portions; when the collector is away they are dropped, for they must hold up nothing.

use std::fmt::Debug;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;
use crate::id::Ids;

/// So many spans wait at most.
const WAITING: usize = 4096;
/// So many are sent at once.
const PORTION: usize = 256;
/// How long a portion is waited for.
const PAUSE: Duration = Duration::from_secs(1);

enum Told {
    Span(Value),
    Flush(oneshot::Sender<()>),
}

/// Where to send.
struct Collector {
    url: String,
    headers: Vec<(String, String)>,
    service: String,
}

impl Collector {
    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let url = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| {
            let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            Some(format!("{}/v1/traces", base.trim_end_matches('/')))
        })?;
        let headers = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS"));
        let pair =
            |text: &str| text.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Some(Self {
            url,
            headers: headers.unwrap_or_default().split(',').filter_map(pair).collect(),
            service: variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "espo-outlook".to_owned()),
        })
    }
}

/// Ends the export in order.
#[derive(Clone)]
pub(super) struct Export(mpsc::Sender<Told>);

impl Export {
    /// Waits, not for long, until what was told so far is sent.
    pub(super) async fn flush(&self) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let (done, flushed) = oneshot::channel();
        if self.0.send(Told::Flush(done)).await.is_ok() {
            drop(tokio::time::timeout(PATIENCE, flushed).await);
        }
    }
}

/// The layer and its export, where the environment names a collector. To be called within the runtime.
pub(super) fn start() -> Option<(Otlp, Export)> {
    let collector = Collector::of(|name| std::env::var(name).ok().filter(|text| !text.trim().is_empty()))?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, "traces are not exported");
            return None;
        }
    };
    let (line, told) = mpsc::channel(WAITING);
    tokio::spawn(send(client, collector, told));
    Some((Otlp { line: line.clone(), ids: Ids::system(Clock::System) }, Export(line)))
}

async fn send(client: reqwest::Client, collector: Collector, mut told: mpsc::Receiver<Told>) {
    let mut failing = false;
    loop {
        let mut spans = Vec::new();
        let mut flushed = Vec::new();
        let until = tokio::time::sleep(PAUSE);
        tokio::pin!(until);
        let mut ended = false;
        while spans.len() < PORTION && flushed.is_empty() {
            tokio::select! {
                one = told.recv() => match one {
                    Some(Told::Span(span)) => spans.push(span),
                    Some(Told::Flush(done)) => flushed.push(done),
                    None => {
                        ended = true;
                        break;
                    }
                },
                () = &mut until => break,
            }
        }
        if !spans.is_empty() {
            let count = spans.len();
            match post(&client, &collector, spans).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, count, "the collector of traces does not take them; they are dropped");
                }
                Err(_) => {}
            }
        }
        // Nobody need be waiting any more.
        for done in flushed {
            let _ = done.send(());
        }
        if ended {
            return;
        }
    }
}

async fn post(client: &reqwest::Client, collector: &Collector, spans: Vec<Value>) -> Result<(), reqwest::Error> {
    let mut request = client.post(&collector.url).json(&body(&collector.service, spans));
    for (name, value) in &collector.headers {
        request = request.header(name, value);
    }
    request.send().await?.error_for_status().map(drop)
}

fn body(service: &str, spans: Vec<Value>) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let resource = json!({ "attributes": [text("service.name", service), text("service.version", version)] });
    json!({ "resourceSpans": [{
        "resource": resource,
        "scopeSpans": [{ "scope": { "name": "espo-outlook", "version": version }, "spans": spans }],
    }] })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn nanos() -> String {
    Clock::System.now().timestamp_nanos_opt().unwrap_or_default().to_string()
}

/// A span that is open.
struct Open {
    trace: String,
    id: String,
    parent: Option<String>,
    start: String,
    attributes: Vec<Value>,
    events: Vec<Value>,
    failed: bool,
}

/// Turns spans into those of OpenTelemetry.
pub(super) struct Otlp {
    line: mpsc::Sender<Told>,
    ids: Ids,
}

impl Otlp {
    /// 64 random bits in hexadecimal: the last of an id.
    fn span_id(&self) -> String {
        let digits: String = self.ids.next().chars().filter(|c| *c != '-').collect();
        digits.get(16..).unwrap_or_default().to_owned()
    }
}

#[derive(Default)]
struct Fields {
    trace: Option<String>,
    id: Option<String>,
    parent: Option<String>,
    message: Option<String>,
    attributes: Vec<Value>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "trace.id" => self.trace = Some(value.to_owned()),
            "span.id" => self.id = Some(value.to_owned()),
            "parent.id" => self.parent = Some(value.to_owned()),
            "message" => self.message = Some(value.to_owned()),
            name => self.attributes.push(text(name, value)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(json!({ "key": field.name(), "value": { "intValue": value.to_string() } }));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.attributes.push(json!({ "key": field.name(), "value": { "intValue": value.to_string() } }));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(json!({ "key": field.name(), "value": { "boolValue": value } }));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Otlp {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let above = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| (open.trace.clone(), open.id.clone()))
        });
        let (trace, parent) = match (fields.trace, above) {
            (Some(trace), above) => (trace, fields.parent.or(above.map(|(_, id)| id))),
            (None, Some((trace, id))) => (trace, Some(id)),
            // It belongs to no trace.
            (None, None) => return,
        };
        span.extensions_mut().insert(Open {
            trace,
            id: fields.id.unwrap_or_else(|| self.span_id()),
            parent,
            start: nanos(),
            attributes: fields.attributes,
            events: Vec::new(),
            failed: false,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(open) = extensions.get_mut::<Open>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            open.attributes.append(&mut fields.attributes);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = *event.metadata().level();
        let Some(span) = context.event_span(event).filter(|_| level <= Level::WARN) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(open) = extensions.get_mut::<Open>() {
            let mut fields = Fields::default();
            event.record(&mut fields);
            fields.attributes.push(text("level", level.as_str()));
            let name = fields.message.unwrap_or_default();
            open.events.push(json!({ "timeUnixNano": nanos(), "name": name, "attributes": fields.attributes }));
            open.failed |= level == Level::ERROR;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let mut told = json!({
            "traceId": open.trace,
            "spanId": open.id,
            "name": span.name(),
            "kind": kind(span.name()),
            "startTimeUnixNano": open.start,
            "endTimeUnixNano": nanos(),
            "attributes": open.attributes,
            "events": open.events,
            "status": { "code": if open.failed { 2 } else { 0 } },
        });
        if let (Some(parent), Some(told)) = (open.parent, told.as_object_mut()) {
            told.insert("parentSpanId".to_owned(), json!(parent));
        }
        // What the collector is too slow for is dropped.
        drop(self.line.try_send(Told::Span(told)));
    }
}

/// `SpanKind` of the protocol.
fn kind(name: &str) -> u8 {
    match name {
        "request" => 2,
        "http.client" => 3,
        "change" => 5,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn spans_are_joined_by_their_own_ids_and_others_hang_below_them() {
        let (line, mut told) = mpsc::channel(8);
        let layer = Otlp { line, ids: Ids::system(Clock::System) };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("stray").in_scope(|| {});
            let change = tracing::info_span!(
                "change",
                trace.id = TRACE,
                span.id = "00f067aa0ba902b7",
                parent.id = "1111111111111111",
                kind = "meeting"
            );
            change.in_scope(|| {
                tracing::error!(status = 500, "it failed");
                tracing::info_span!("http.client", url.path = "/Meeting").in_scope(|| {});
            });
        });
        let mut spans = Vec::new();
        while let Ok(Told::Span(span)) = told.try_recv() {
            spans.push(span);
        }
        let [client, change] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(
            (&change["spanId"], &change["parentSpanId"]),
            (&json!("00f067aa0ba902b7"), &json!("1111111111111111"))
        );
        assert_eq!((&client["traceId"], &client["parentSpanId"]), (&json!(TRACE), &json!("00f067aa0ba902b7")));
        assert_eq!(client["spanId"].as_str().map(str::len), Some(16));
        assert_eq!((&client["kind"], &change["kind"]), (&json!(3), &json!(5)));
        assert_eq!((&change["status"]["code"], &change["events"][0]["name"]), (&json!(2), &json!("it failed")));
        assert_eq!(change["attributes"], json!([text("kind", "meeting")]));
        let start: i64 = change["startTimeUnixNano"].as_str().unwrap().parse().unwrap();
        let end: i64 = change["endTimeUnixNano"].as_str().unwrap().parse().unwrap();
        assert!(start > 0 && end >= start);
    }

    #[test]
    fn the_environment_says_where_to() {
        let of = |pairs: &'static [(&str, &str)]| {
            Collector::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(of(&[]).is_none());
        let all = of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b, c=d")]);
        let all = all.unwrap();
        assert_eq!(all.url, "http://c:4318/v1/traces");
        assert_eq!(all.headers, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())]);
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/x")]).unwrap().url, "http://c/x");
    }
}
