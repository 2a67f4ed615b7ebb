//! How long a change takes to the other side, beside a bare request to the same simulator: a report, never a verdict.

use std::time::Instant;

use anyhow::Context as _;
use chrono::Days;
use serde::Serialize;
use serde_json::{Value, json};

use super::api::client;
use super::pair::Pair;
use super::table::aligned;
use super::world::{ANNA, Pace, at, event, record, text};
use crate::cli::say;

/// A series of measurements, in milliseconds.
#[derive(Debug, Serialize)]
struct Figures {
    what: &'static str,
    count: usize,
    min_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    /// Median over the median of a bare request to the side that is written.
    ratio: f64,
}

/// The value below which this share of a sorted series lies (nearest rank).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).or(sorted.last()).copied().unwrap_or_default()
}

fn figures(what: &'static str, mut series: Vec<f64>, bare: f64) -> Figures {
    series.sort_by(f64::total_cmp);
    let median_ms = quantile(&series, 0.5);
    let min_ms = series.first().copied().unwrap_or_default();
    let ratio = if bare > 0.0 { median_ms / bare } else { 0.0 };
    Figures { what, count: series.len(), min_ms, median_ms, p95_ms: quantile(&series, 0.95), ratio }
}

/// Series by what they measure.
#[derive(Default)]
struct Series {
    create_to_outlook: Vec<f64>,
    edit_to_outlook: Vec<f64>,
    create_to_espo: Vec<f64>,
    edit_to_espo: Vec<f64>,
}

/// Measures and prints.
///
/// # Errors
///
/// When the stage cannot be set, or a change does not arrive.
pub(super) async fn run(count: u32, port: Option<u16>, json: bool) -> anyhow::Result<()> {
    let pair = Pair::start(port, Pace::HINTS_ALONE).await?;
    let measured = measure(&pair, count).await;
    if measured.is_err() {
        pair.complain();
    }
    let series = measured?;
    let bare_outlook = figures("bare PATCH to Outlook", bare_outlook(&pair, count).await?, 0.0);
    let bare_espo = figures("bare PUT to EspoCRM", bare_espo(&pair, count).await?, 0.0);
    pair.stop().await?;
    let (outlook, espo) = (bare_outlook.median_ms, bare_espo.median_ms);
    let all = [
        figures("created in EspoCRM, written to Outlook", series.create_to_outlook, outlook),
        figures("edited in EspoCRM, written to Outlook", series.edit_to_outlook, outlook),
        figures("created in Outlook, written to EspoCRM", series.create_to_espo, espo),
        figures("edited in Outlook, written to EspoCRM", series.edit_to_espo, espo),
        Figures { ratio: 1.0, ..bare_outlook },
        Figures { ratio: 1.0, ..bare_espo },
    ];
    if json {
        return say(&serde_json::to_string_pretty(&all)?);
    }
    let number = |value: f64| format!("{value:.1}");
    let rows = all.iter().map(|one| {
        let figures = [one.min_ms, one.median_ms, one.p95_ms, one.ratio].map(number);
        std::iter::once(one.what.to_owned()).chain([one.count.to_string()]).chain(figures).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    say(&aligned(
        &["hint received to other side written", "n", "min ms", "median", "p95", "ratio"],
        &rows,
        &[1, 2, 3, 4, 5],
    ))
}

async fn measure(pair: &Pair, count: u32) -> anyhow::Result<Series> {
    let mut series = Series::default();
    let today = pair.world.clock.now().date_naive();
    for n in 0..count {
        let day = today.checked_add_days(Days::new(7 + u64::from(n % 60))).unwrap_or(today);
        let when = (at(day, n % 20), at(day, n % 20 + 1));
        let name = format!("Bench {n}");
        let (created, before) = pair.edit_espo("POST", None, &record(&name, when, &pair.world.anna)).await?;
        series.create_to_outlook.push(before.until_end_of(&pair.written_to_outlook(before).await?));
        pair.settle().await?;
        let id = text(&created, "id");
        let change = json!({"description": format!("Edited as number {n}")});
        let (_, before) = pair.edit_espo("PUT", Some(&id), &change).await?;
        series.edit_to_outlook.push(before.until_end_of(&pair.written_to_outlook(before).await?));
        pair.settle().await?;
        let (created, before) = pair.create_event(event(&format!("Bench, Outlook {n}"), when))?;
        series.create_to_espo.push(before.until_end_of(&pair.written_to_espo(before).await?));
        pair.settle().await?;
        let before = pair.patch_event(&text(&created, "id"), json!({"subject": format!("Bench, edited {n}")}))?;
        series.edit_to_espo.push(before.until_end_of(&pair.written_to_espo(before).await?));
        pair.settle().await?;
    }
    Ok(series)
}

/// Milliseconds of each of some requests, one after the other on one connection.
async fn timed(count: u32, request: impl Fn(u32) -> reqwest::RequestBuilder) -> anyhow::Result<Vec<f64>> {
    let mut series = Vec::new();
    for n in 0..=count {
        let started = Instant::now();
        let answer = request(n).send().await?.error_for_status()?;
        answer.bytes().await?;
        // The first one opens the connection, which the service has open already.
        if n > 0 {
            series.push(started.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(series)
}

async fn bare_outlook(pair: &Pair, count: u32) -> anyhow::Result<Vec<f64>> {
    pair.hold();
    let events = pair.outlook().events();
    let id = events.first().map(|event| text(event, "id")).context("there is no event")?;
    let token = pair.world.graph.mint_token(ANNA).context("there is no mailbox")?;
    let (http, url) = (client()?, format!("{}/v1.0/me/events/{id}", pair.world.graph_url));
    let body = |n| json!({"subject": format!("Bare {n}")});
    timed(count, |n| http.patch(&url).bearer_auth(&token).json(&body(n))).await
}

async fn bare_espo(pair: &Pair, count: u32) -> anyhow::Result<Vec<f64>> {
    let records: Vec<Value> = pair.world.espo.records("Meeting");
    let id = records.first().map(|record| text(record, "id")).context("there is no meeting")?;
    let (http, url) = (client()?, format!("{}/api/v1/Meeting/{id}", pair.world.espo_url));
    let body = |n| json!({"name": format!("Bare {n}")});
    timed(count, |n| http.put(&url).header("X-Api-Key", pair.world.espo.api_key()).json(&body(n))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values_of_nearest_rank() {
        let sorted: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.95), quantile(&sorted, 1.0)), (10.0, 19.0, 20.0));
        assert_eq!((quantile(&[7.0], 0.95), quantile(&[], 0.5)), (7.0, 0.0));
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let figures = figures("x", vec![9.0, 3.0, 6.0], 2.0);
        assert_eq!((figures.min_ms, figures.median_ms, figures.ratio), (3.0, 6.0, 3.0));
    }
}
