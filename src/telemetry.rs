//! Logs and metrics: the two recorders that a process can have only one of.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::io::IsTerminal as _;
use std::sync::{LazyLock, Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::clock::Clock;
use crate::config::{Log, LogFormat};

/// Sends logs to the standard error output. A second call changes nothing.
pub fn init(log: &Log) {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let wanted = wanted.unwrap_or_else(|| log.filter.clone());
    // Statements are of no interest to an operator, and what lapin says we say in our own words; both can be asked for by name.
    let filter = if wanted.contains("sqlx") || wanted.contains("lapin") {
        wanted
    } else {
        format!("{wanted},sqlx=warn,sea_orm_migration=warn,actix_server=warn,lapin=off")
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter).with(Tail);
    let done = if json {
        registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        registry.with(tracing_subscriber::fmt::layer().with_ansi(terminal).with_writer(std::io::stderr)).try_init()
    };
    // In tests another subscriber may be there already: it serves as well.
    drop(done);
}

/// A line of the log, as the pages show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// The time of day, UTC.
    pub at: String,
    /// `INFO` and the like.
    pub level: &'static str,
    /// Which module.
    pub target: String,
    /// What it says, with its fields.
    pub message: String,
}

/// So many lines are kept.
const KEPT: usize = 500;

struct Lines {
    kept: Mutex<VecDeque<LogLine>>,
    told: broadcast::Sender<LogLine>,
}

static LINES: LazyLock<Lines> = LazyLock::new(|| Lines { kept: Mutex::default(), told: broadcast::Sender::new(KEPT) });

/// The last lines of this process's log.
#[must_use]
pub fn recent() -> Vec<LogLine> {
    LINES.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Lines from now on.
#[must_use]
pub fn follow() -> broadcast::Receiver<LogLine> {
    LINES.told.subscribe()
}

/// Keeps the end of the log in memory.
struct Tail;

impl<S: Subscriber> Layer<S> for Tail {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let line = LogLine {
            at: Clock::System.now().format("%H:%M:%S%.3f").to_string(),
            level: event.metadata().level().as_str(),
            target: event.metadata().target().trim_start_matches("espo_outlook::").to_owned(),
            message: text.message + &text.fields,
        };
        let mut kept = LINES.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(line.clone());
        drop(kept);
        // Nobody need be listening.
        drop(LINES.told.send(line));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => drop(write!(self.fields, " {name}={value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

const LAG: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full("espo_outlook_sync_lag_seconds".to_owned()), LAG)
}

/// The metrics of this process. Where a recorder is there already (a second service in one process, as in tests and in the
/// demo), the numbers are all with the first, whose handle is given.
///
/// # Errors
///
/// When the buckets are refused, which they are not.
pub fn metrics() -> Result<PrometheusHandle, BuildError> {
    static FIRST: std::sync::Mutex<Option<PrometheusHandle>> = std::sync::Mutex::new(None);
    let mut first = FIRST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(handle) = &*first {
        return Ok(handle.clone());
    }
    let recorder = builder()?.build_recorder();
    let handle = recorder.handle();
    // Another recorder in the process: ours stays empty, and nothing fails.
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("another metrics recorder is installed");
    }
    describe();
    *first = Some(handle.clone());
    Ok(handle)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("espo_outlook_changes_received_total", "Changes taken over, by source.");
    describe_counter!("espo_outlook_changes_processed_total", "Changes handled, by outcome.");
    describe_histogram!("espo_outlook_sync_lag_seconds", "From receiving a change to its being applied.");
    describe_gauge!("espo_outlook_queue_depth", "Messages that wait or are in hand.");
    describe_gauge!("espo_outlook_queue_broker_up", "1 while RabbitMQ can be used, 0 while it cannot.");
    describe_gauge!("espo_outlook_queue_broker_messages", "Messages in RabbitMQ that are not in the database yet.");
    describe_gauge!("espo_outlook_queue_unreadable", "Messages in RabbitMQ that cannot be read or were given up.");
    describe_counter!("espo_outlook_queue_moved_total", "Changes moved from RabbitMQ into the database.");
    describe_counter!("espo_outlook_queue_unreadable_total", "Messages of RabbitMQ that could not be read.");
    describe_gauge!("espo_outlook_dead_letters", "Messages that failed for good.");
    describe_counter!("espo_outlook_http_client_requests_total", "Requests to EspoCRM and Microsoft, by status.");
    describe_counter!("espo_outlook_throttled_total", "Requests that were throttled, by system.");
    describe_gauge!("espo_outlook_subscriptions", "Graph subscriptions, by state.");
    describe_gauge!("espo_outlook_subscription_expiry_seconds", "Until the first active subscription expires.");
    describe_gauge!("espo_outlook_bindings", "Bindings, by state.");
    describe_gauge!("espo_outlook_holds", "Open holds.");
    describe_counter!("espo_outlook_notifications_dropped_total", "Notifications that were not believed, by reason.");
    describe_counter!("espo_outlook_webhook_items_skipped_total", "Webhook items without an id.");
    describe_gauge!("espo_outlook_operator_alarm", "1 while only an operator can help, by what is wrong.");
}
