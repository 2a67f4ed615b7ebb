//! The records' side of a sweep: all users' at once, in the order of their creation.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use store::links;
use sync::{Field, Kind, Link, Record, Side, Target, Value, When};

use super::{Found, Scope};
use crate::app::App;
use crate::schedule::publish_of;
use crate::work::error::WorkError;
use crate::work::pair::is_unchanged;

/// So many users are named in the question; where there are more, everybody's records are listed and sorted out here: names
/// of a thousand users would fit into no address.
const NAMED: usize = 50;
/// Links that are looked through at a time.
const LINKS: u64 = 5_000;

type Owners = BTreeMap<String, NaiveDate>;
type Targets = BTreeMap<String, Vec<Target>>;

/// Compares the records of these users, each from a day on: what has no link, or differs from its base, and what has a link
/// and was not listed, is hinted at.
pub(super) async fn compare(app: &App, scope: &Scope, kind: Kind, owners: &Owners) -> Result<Found, WorkError> {
    let mut found = Found::default();
    let Some(from) = owners.values().min().copied() else { return Ok(found) };
    let connection = app.connections().espocrm().ok_or(WorkError::NotConfigured("EspoCRM"))?;
    let schema = connection.schema().await?;
    let named: Vec<String> = if owners.len() <= NAMED { owners.keys().cloned().collect() } else { Vec::new() };
    let mut listed = HashSet::new();
    let mut after = None;
    loop {
        let page = connection.client.owned_by_any(&schema, kind, &named, from, after.as_ref()).await?;
        listed.extend(page.unreadable);
        let records: Vec<Record> = page.items.into_iter().map(|fetched| fetched.record).collect();
        let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
        let links = by_record(links::by_records(app.store().read(), kind, &ids).await?);
        let mut targets = Targets::new();
        for record in records {
            let Some((owner, first)) = record.owner.as_ref().and_then(|owner| owners.get_key_value(owner)) else {
                continue;
            };
            if is_before(&record, *first, from) {
                continue;
            }
            let link = links.get(&record.id);
            if is_in_step(link, owner, &record) {
                found.in_step += 1;
            } else {
                targets.entry(owner.clone()).or_default().push(Target::Record { kind, id: record.id.clone() });
            }
            listed.insert(record.id);
        }
        found.hinted += hint(app, scope, targets).await?;
        after = page.last;
        if !page.more {
            break;
        }
    }
    let lost = unlisted(app, kind, owners, from, &listed).await?;
    found.hinted += hint(app, scope, lost).await?;
    Ok(found)
}

fn by_record(links: Vec<Link>) -> HashMap<String, Link> {
    links.into_iter().filter_map(|link| Some((link.record_id.clone()?, link))).collect()
}

/// True for what was listed for the sake of another user, whose records count from an earlier day.
fn is_before(record: &Record, first: NaiveDate, from: NaiveDate) -> bool {
    let day = record.values.get(&Field::Time).and_then(Value::as_when).and_then(When::first_day);
    let day = day.unwrap_or_else(|| record.created.date_naive());
    // As generous as the question is, for zones.
    first > from && day < first.pred_opt().unwrap_or(first)
}

fn is_in_step(link: Option<&Link>, owner: &str, record: &Record) -> bool {
    match link {
        // What was deleted and is listed has been restored.
        Some(link) if link.is_buried() => !link.may_return(Side::Espo) && !link.is_planned_again(&record.values),
        Some(link) => link.owner == owner && is_unchanged(link, Side::Espo, &record.values),
        None => false,
    }
}

async fn hint(app: &App, scope: &Scope, targets: Targets) -> Result<u64, WorkError> {
    let count = targets.values().map(Vec::len).sum::<usize>() as u64;
    if let Some(job) = scope.job.as_ref().filter(|_| count > 0) {
        store::jobs::add_total(app.store().write(), job, count, false).await?;
    }
    for (owner, targets) in targets {
        publish_of(app, Some(&owner), targets, scope.cause, scope.job.as_deref()).await?;
    }
    Ok(count)
}

/// Linked records that should have been listed and were not: deleted, moved away, given to somebody else.
async fn unlisted(
    app: &App,
    kind: Kind,
    owners: &Owners,
    from: NaiveDate,
    listed: &HashSet<String>,
) -> Result<Targets, WorkError> {
    let start: DateTime<Utc> = from.and_time(NaiveTime::MIN).and_utc();
    let mut targets = Targets::new();
    let mut after: Option<String> = None;
    loop {
        let page = links::outlines(app.store().read(), kind, start, after.as_deref(), LINKS).await?;
        let Some(last) = page.last() else { return Ok(targets) };
        after = Some(last.id.clone());
        for link in page {
            let counts = owners.get(&link.owner).is_some_and(|first| link.starts.date_naive() >= *first);
            if counts && !listed.contains(&link.record_id) {
                targets.entry(link.owner).or_default().push(Target::Record { kind, id: link.record_id });
            }
        }
    }
}
