//! The same field changed on both sides before the service hears of either.

use std::time::Duration;

use chrono::Days;
use serde_json::json;

use super::super::pair::{Pair, until};
use super::super::world::{at, record, text};
use super::edits::arrived_in_outlook;
use super::{Rows, Seen};

const PATIENCE: Duration = Duration::from_secs(10);
/// EspoCRM's `modifiedAt` has seconds: what comes a second later is newer on any clock.
const A_SECOND: Duration = Duration::from_millis(1100);

struct Conflict {
    priority: &'static str,
    expected: &'static str,
    winner: &'static str,
    loser: &'static str,
}

const CONFLICTS: [Conflict; 3] = [
    Conflict {
        priority: "espo",
        expected: "EspoCRM's title on both sides",
        winner: "by EspoCRM, priority espo",
        loser: "by Outlook, priority espo",
    },
    Conflict {
        priority: "outlook",
        expected: "Outlook's title on both sides",
        winner: "by Outlook, priority outlook",
        loser: "by EspoCRM, priority outlook",
    },
    Conflict {
        priority: "newest",
        expected: "Outlook's title, a second younger",
        winner: "by Outlook, priority newest",
        loser: "by EspoCRM, priority newest",
    },
];

pub(super) async fn play(pair: &Pair, rows: &mut Rows) {
    for conflict in &CONFLICTS {
        let seen = both_sides(pair, conflict).await;
        // However the step ended, the next one needs the news to flow.
        pair.release();
        rows.note(&format!("conflict, priority {}", conflict.priority), conflict.expected, seen);
    }
}

async fn both_sides(pair: &Pair, conflict: &Conflict) -> anyhow::Result<Seen> {
    let rules = json!({"meeting": {"direction": "both", "priority": conflict.priority}});
    pair.api.put("/rules", &rules).await?;
    let day = pair.world.clock.now().date_naive().checked_add_days(Days::new(9)).unwrap_or_default();
    let name = format!("Tour: disputed, {}", conflict.priority);
    let hour = u32::try_from(conflict.priority.len()).unwrap_or_default();
    let body = record(&name, (at(day, hour), at(day, hour + 1)), &pair.world.anna);
    let (id, event, _) = arrived_in_outlook(pair, &body).await?;
    let event = text(&event, "id");
    let (espo, outlook) = match conflict.winner.starts_with("by EspoCRM") {
        true => (conflict.winner, conflict.loser),
        false => (conflict.loser, conflict.winner),
    };
    pair.hold();
    pair.espo("PUT", Some(&id), &json!({"name": espo}))?;
    if conflict.priority == "newest" {
        tokio::time::sleep(A_SECOND).await;
    }
    pair.patch_event(&event, json!({"subject": outlook}))?;
    let before = pair.now();
    pair.release();
    let title_in_espo = || pair.world.espo.get_record("Meeting", &id).map(|r| text(&r, "name")).unwrap_or_default();
    let title_in_outlook = || pair.outlook().event(&event).map(|e| text(&e, "subject")).unwrap_or_default();
    until(PATIENCE, async || (title_in_espo() == title_in_outlook()).then_some(())).await;
    let write = match conflict.winner == espo {
        true => pair.written_to_outlook(before).await?,
        false => pair.written_to_espo(before).await?,
    };
    pair.settle().await?;
    let (espo, outlook) = (title_in_espo(), title_in_outlook());
    let is_kept = pair.api.tells_of_loser(&id, conflict.loser).await?;
    let kept = if is_kept { "the other in history" } else { "the other NOT in history" };
    let ok = espo == conflict.winner && outlook == conflict.winner && is_kept;
    let titles = if espo == outlook { espo } else { format!("EspoCRM: {espo}; Outlook: {outlook}") };
    Ok(Seen::new(ok, format!("{titles}; {kept}")).after(before.until_end_of(&write)))
}
