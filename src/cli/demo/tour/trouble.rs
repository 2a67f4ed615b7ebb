//! Throttling, a crash at the worst moment, and that peace returns.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{Days, TimeDelta};
use serde_json::json;
use simulators::plumbing::Fault;

use super::super::pair::{Pair, until};
use super::super::world::{ANNA, Pace, at, record, text};
use super::edits::arrived_in_outlook;
use super::{Rows, Seen};

const PATIENCE: Duration = Duration::from_secs(10);
/// In seconds.
const RETRY_AFTER: u64 = 2;
/// Longer than the service lives after it.
const WITHHELD: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(4);
const UNLUCKY: &str = "Tour: created in a crash";

pub(super) async fn play(pair: &mut Pair, rows: &mut Rows) {
    let seen = throttled(pair).await;
    rows.note("429, Retry-After 2 s", "no request for 2 s, then it lands", seen);
    let seen = killed(pair).await;
    rows.note("kill -9 between write and record", "one event, one meeting, one link", seen);
    let seen = quiet(pair).await;
    rows.note("4 s of polls after all that", "no write to either side, none dead", seen);
}

async fn throttled(pair: &Pair) -> anyhow::Result<Seen> {
    let day = pair.world.clock.now().date_naive().checked_add_days(Days::new(12)).unwrap_or_default();
    let body = record("Tour: throttled", (at(day, 8), at(day, 9)), &pair.world.anna);
    let (id, event, _) = arrived_in_outlook(pair, &body).await?;
    pair.world.graph.throttle(ANNA, 1, RETRY_AFTER);
    let change = json!({"name": "Tour: throttled, but patient"});
    let (_, before) = pair.edit_espo("PUT", Some(&id), &change).await?;
    let write = pair.written_to_outlook(before).await?;
    pair.settle().await?;
    let requests = pair.world.graph.wire().since(before.outlook);
    let refused = requests.iter().position(|row| row.status == 429).context("no request was refused")?;
    let end_of = |row: &simulators::plumbing::Logged| row.at + TimeDelta::from_std(row.took).unwrap_or_default();
    let mut following = requests.iter().skip(refused);
    let refused_at = following.next().map(end_of).context("no request was refused")?;
    let next = following.find(|row| row.mailbox.as_deref() == Some(ANNA)).context("no request followed")?;
    let pause = (next.at - refused_at).num_milliseconds();
    let early = pair.world.graph.throttle_report().get(ANNA).map_or(0, |report| report.early.len());
    let landed = pair.outlook().event(&text(&event, "id")).is_some_and(|e| text(&e, "subject").ends_with("patient"));
    let ok = early == 0 && landed && pause >= i64::try_from(RETRY_AFTER).unwrap_or(i64::MAX) * 1000 - 5;
    let fate = if landed { "landed" } else { "lost" };
    let text = format!("next request after {pause} ms, {early} early, {fate}");
    Ok(Seen::new(ok, text).after(before.until_end_of(&write)))
}

/// Microsoft has made the event, its answer is on its way, and the service is killed before it arrives.
async fn killed(pair: &mut Pair) -> anyhow::Result<Seen> {
    let day = pair.world.clock.now().date_naive().checked_add_days(Days::new(13)).unwrap_or_default();
    pair.world.graph.wire().push(Fault::late_answer("POST", "/events", WITHHELD));
    let body = record(UNLUCKY, (at(day, 8), at(day, 9)), &pair.world.anna);
    let (created, _) = pair.edit_espo("POST", None, &body).await?;
    let made = until(PATIENCE, async || (!pair.events(UNLUCKY).is_empty()).then_some(())).await;
    let id = text(&created, "id");
    let was_linked = is_linked(pair, &id).await?;
    pair.kill()?;
    pair.world.graph.wire().clear();
    made.context("no event was made")?;
    anyhow::ensure!(!was_linked, "the event was linked before its answer came");
    let before = pair.now();
    pair.restart(Pace::POLLING).await?;
    let linked = until(PATIENCE, async || is_linked(pair, &id).await.ok()?.then_some(())).await;
    linked.context("the event was not linked after the restart")?;
    // The proof of a link: what is changed now arrives in the one event that there is.
    let renamed = format!("{UNLUCKY}, linked");
    pair.edit_espo("PUT", Some(&id), &json!({"name": renamed})).await?;
    until(PATIENCE, async || (!pair.events(&renamed).is_empty()).then_some(())).await;
    let rows = pair.world.graph.wire().writes_since(before.outlook);
    let again = rows.iter().filter(|row| row.method == "POST" && row.path.contains("/events")).count();
    let stale = pair.events(UNLUCKY).len() + pair.records(UNLUCKY).len();
    let (events, records) = (pair.events(&renamed).len(), pair.records(&renamed).len());
    let text = format!("{events} event, {records} meeting, {again} created again, edits arrive");
    Ok(Seen::new((events, records, stale) == (1, 1, 0), text))
}

/// True when the service knows the event of a meeting.
async fn is_linked(pair: &Pair, id: &str) -> anyhow::Result<bool> {
    let record = pair.api.get(&format!("/records/meeting/{id}")).await?;
    Ok(record.to_string().contains("\"item_id\":\""))
}

/// The service polls both systems and finds nothing to do.
async fn quiet(pair: &Pair) -> anyhow::Result<Seen> {
    // Polls never end, so only what waits can be waited for.
    let is_idle = async || {
        let waiting = pair.world.espo.pending_webhooks() + pair.world.graph.pending_notifications();
        (waiting == 0 && pair.api.is_idle().await.ok()?).then_some(())
    };
    until(PATIENCE, is_idle).await.context("the systems did not come to rest")?;
    let before = pair.now();
    tokio::time::sleep(QUIET).await;
    let graph = pair.world.graph.wire();
    let is_data = |row: &&simulators::plumbing::Logged| !row.path.contains("/oauth2/");
    let outlook = graph.writes_since(before.outlook).iter().filter(is_data).count();
    let espo = pair.world.espo.wire().writes_since(before.espo).len();
    let reads = pair.world.espo.wire().since(before.espo).len();
    let dead = pair.api.dead().await?;
    let text = format!("{espo} to EspoCRM, {outlook} to Outlook, {reads} reads, {dead} dead");
    Ok(Seen::new(espo + outlook + dead == 0 && reads > 0, text))
}
