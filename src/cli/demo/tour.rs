//! The tour: scripted steps on both sides, and a table of what was expected and seen.
//!
//! The service runs as a process of its own, so that the step that kills it is real. Latencies are taken from the logs of the
//! simulators: from the edit, whose webhook or notification is sent at once, to the end of the write on the other side.

mod conflicts;
mod edits;
mod trouble;

use super::pair::Pair;
use super::table::{self, Row};
use super::world::Pace;
use crate::cli::say;

/// What a step saw.
struct Seen {
    ok: bool,
    text: String,
    latency_ms: Option<f64>,
}

impl Seen {
    fn new(ok: bool, text: impl Into<String>) -> Self {
        Self { ok, text: text.into(), latency_ms: None }
    }

    fn after(self, ms: f64) -> Self {
        Self { latency_ms: Some(ms), ..self }
    }
}

/// The table as it is filled.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn note(&mut self, step: &str, expected: &str, seen: anyhow::Result<Seen>) {
        let seen = seen.unwrap_or_else(|error| Seen::new(false, format!("{error:#}")));
        let (step, expected) = (step.to_owned(), expected.to_owned());
        self.0.push(Row { step, expected, seen: seen.text, latency_ms: seen.latency_ms, ok: seen.ok });
    }
}

/// Plays all steps.
///
/// # Errors
///
/// When the stage cannot be set, or a step did not hold.
pub(super) async fn run(port: Option<u16>, json: bool) -> anyhow::Result<()> {
    let mut pair = Pair::start(port, Pace::HINTS_ALONE).await?;
    let mut rows = Rows::default();
    edits::play(&pair, &mut rows).await;
    conflicts::play(&pair, &mut rows).await;
    trouble::play(&mut pair, &mut rows).await;
    let failed: Vec<&Row> = rows.0.iter().filter(|row| !row.ok).collect();
    if json {
        say(&serde_json::to_string_pretty(&rows.0)?)?
    } else {
        say(&table::tour(&rows.0))?
    }
    if failed.is_empty() {
        return pair.stop().await;
    }
    for row in &failed {
        eprintln!("\n{}\n  expected: {}\n  seen:     {}", row.step, row.expected, row.seen);
    }
    eprintln!("\nThe service warned of:");
    pair.complain();
    let failed = failed.len();
    pair.stop().await?;
    anyhow::bail!("{failed} of {} steps did not hold", rows.0.len())
}
