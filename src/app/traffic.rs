//! How much this process sends to the other systems, told to the database once in a while: the overview counts the requests of
//! all processes, whichever of them is asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use store::StoreError;
use store::traffic::{Sent, add, of_hours};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::work::error::sentence;

/// How often the database is told.
const EVERY: Duration = Duration::from_secs(30);
/// So long that may take: nobody waits for it at the end.
const WITHIN: Duration = Duration::from_secs(5);

type BySystem = BTreeMap<String, Sent>;

/// What the database knows of what the counters of this process say. One for all services of a process, as the counters are.
static NOTED: Mutex<BySystem> = Mutex::new(BTreeMap::new());

/// From the metrics of this process (Prometheus text format: `name{label="value"} number`).
fn counted(metrics: &str) -> BySystem {
    let mut systems = BySystem::new();
    for line in metrics.lines() {
        let Some(labels) = line.strip_prefix("espo_outlook_http_client_requests_total{") else { continue };
        let Some((labels, number)) = labels.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
        };
        let (Some(system), Some(status), Ok(number)) = (label("system"), label("status"), number.trim().parse::<u64>())
        else {
            continue;
        };
        let one = systems.entry(system.to_owned()).or_default();
        one.requests += number;
        match status {
            "429" => one.throttled += number,
            _ if status.parse::<u16>().map_or(true, |status| status >= 500) => one.failed += number,
            _ => {}
        }
    }
    systems
}

/// What the database does not know yet.
fn unnoted(app: &App) -> BySystem {
    let counted = counted(&app.metrics().render());
    let noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    let more = |(system, sent): (String, Sent)| {
        let more = sent.minus(noted.get(&system).copied().unwrap_or_default());
        (more != Sent::default()).then_some((system, more))
    };
    counted.into_iter().filter_map(more).collect()
}

fn note(system: &str, change: impl Fn(Sent) -> Sent) {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    let one = noted.entry(system.to_owned()).or_default();
    *one = change(*one);
}

async fn tell(app: &App) {
    for (system, sent) in unnoted(app) {
        note(&system, |noted| noted.plus(sent));
        let added = add(app.store().write(), &system, sent, app.clock().now());
        let error = match tokio::time::timeout(WITHIN, added).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => sentence(&error),
            Err(_) => "it takes too long".to_owned(),
        };
        // The next time then.
        note(&system, |noted| noted.minus(sent));
        tracing::debug!(error, "the database cannot be told how much was sent");
        return;
    }
}

/// Tells the database once in a while, and at the end.
pub(super) async fn run(app: App, end: CancellationToken) {
    loop {
        let is_over = tokio::select! {
            () = end.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        tell(&app).await;
        if is_over {
            return;
        }
    }
}

/// What all processes have sent in the last hours, by system. What others have sent in the last half minute may be missing.
///
/// # Errors
/// When the database fails.
pub async fn sent(app: &App, hours: u32) -> Result<BTreeMap<String, Sent>, StoreError> {
    let mut all = of_hours(app.store().read(), hours, app.clock().now()).await?;
    for (system, sent) in unnoted(app) {
        let sum = all.entry(system).or_default();
        *sum = sum.plus(sent);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_counted_by_system_with_what_failed_and_what_was_throttled() {
        let metrics = "# TYPE espo_outlook_http_client_requests_total counter\n\
            espo_outlook_http_client_requests_total{system=\"graph\",status=\"200\"} 5\n\
            espo_outlook_http_client_requests_total{status=\"429\",system=\"graph\"} 2\n\
            espo_outlook_http_client_requests_total{system=\"graph\",status=\"none\"} 1\n\
            espo_outlook_http_client_requests_total{system=\"espocrm\",status=\"503\"} 3\n\
            espo_outlook_http_client_requests_total{system=\"espocrm\",status=\"404\"} 4\n\
            espo_outlook_throttled_total{system=\"graph\"} 2\n";
        let graph = Sent { requests: 8, failed: 1, throttled: 2 };
        let espocrm = Sent { requests: 7, failed: 3, throttled: 0 };
        assert_eq!(counted(metrics), BTreeMap::from([("espocrm".to_owned(), espocrm), ("graph".to_owned(), graph)]));
    }
}
