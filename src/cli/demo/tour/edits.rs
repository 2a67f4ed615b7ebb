//! Creating, editing, inviting and deleting, in both directions.

use std::collections::BTreeSet;

use anyhow::Context as _;
use chrono::{DateTime, Days, NaiveDate, Utc};
use serde_json::{Value, json};

use super::super::pair::{Pair, attributes, until};
use super::super::world::{BORIS, CONTRACT, DORA, at, event, record, refused, text, with};
use super::{Rows, Seen};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
const KICK_OFF: &str = "Tour: kick-off";
const DESIGN: &str = "Tour: design review";

pub(super) async fn play(pair: &Pair, rows: &mut Rows) {
    let day = pair.world.clock.now().date_naive().checked_add_days(Days::new(7)).unwrap_or_default();
    let seen = create_in_espo(pair, day).await;
    rows.note("create a meeting in EspoCRM", "one event, same title and time", seen);
    let seen = create_in_outlook(pair, day).await;
    rows.note("create an event in Outlook", "one meeting of Anna's, same title and time", seen);
    let seen = rename_in_espo(pair).await;
    rows.note("rename it in EspoCRM", "PATCH with subject alone", seen);
    let seen = rename_in_outlook(pair).await;
    rows.note("rename it in Outlook", "PUT with name alone", seen);
    let seen = place_in_espo(pair).await;
    rows.note("give a place in EspoCRM", "PATCH with location alone", seen);
    let seen = place_in_outlook(pair).await;
    rows.note("give a place in Outlook", "PUT with cLocation alone", seen);
    let seen = all_day_in_espo(pair, day).await;
    rows.note("an all-day meeting in EspoCRM", "all day, its end the day after", seen);
    let seen = all_day_in_outlook(pair, day).await;
    rows.note("two days all-day in Outlook", "from the first to the last day", seen);
    let seen = invite_in_espo(pair).await;
    rows.note("add a participant in EspoCRM", "one invitation, to Dora", seen);
    let seen = boris_declines(pair).await;
    rows.note("Boris declines in Outlook", "his answer in EspoCRM, no write back", seen);
    let seen = delete_in_espo(pair).await;
    rows.note("delete it in EspoCRM", "the event is gone, the others stay", seen);
    let seen = delete_in_outlook(pair).await;
    rows.note("delete the other in Outlook", "the meeting is gone, the others stay", seen);
}

/// Moments as both sides write them, without fractions and zones.
fn moment(text: &str) -> String {
    text.chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

fn times_of_event(event: &Value) -> String {
    let time = |name: &str| moment(&event.get(name).map(|time| text(time, "dateTime")).unwrap_or_default());
    format!("{} to {}", time("start"), time("end"))
}

fn times_of_record(record: &Value) -> String {
    format!("{} to {}", moment(&text(record, "dateStart")), moment(&text(record, "dateEnd")))
}

fn times((start, end): (DateTime<Utc>, DateTime<Utc>)) -> String {
    format!("{} to {}", start.format("%Y-%m-%d %H:%M"), end.format("%Y-%m-%d %H:%M"))
}

fn only(found: Vec<Value>, what: &str) -> anyhow::Result<Value> {
    let count = found.len();
    let first = found.into_iter().next().with_context(|| format!("there is no {what}"))?;
    anyhow::ensure!(count == 1, "there are {count} of {what}");
    Ok(first)
}

/// A new meeting in EspoCRM that has arrived in Outlook, and nothing else has happened.
pub(super) async fn arrived_in_outlook(pair: &Pair, body: &Value) -> anyhow::Result<(String, Value, f64)> {
    let (created, before) = pair.edit_espo("POST", None, body).await?;
    let write = pair.written_to_outlook(before).await?;
    pair.settle().await?;
    let event = only(pair.events(&text(body, "name")), "event")?;
    Ok((text(&created, "id"), event, before.until_end_of(&write)))
}

async fn create_in_espo(pair: &Pair, day: NaiveDate) -> anyhow::Result<Seen> {
    let when = (at(day, 9), at(day, 10));
    let (_, event, ms) = arrived_in_outlook(pair, &record(KICK_OFF, when, &pair.world.anna)).await?;
    only(pair.records(KICK_OFF), "meeting")?;
    let found = times_of_event(&event);
    Ok(Seen::new(found == times(when), format!("one event, {found}")).after(ms))
}

async fn create_in_outlook(pair: &Pair, day: NaiveDate) -> anyhow::Result<Seen> {
    let when = (at(day, 12), at(day, 13));
    let (_, before) = pair.create_event(event(DESIGN, when))?;
    let write = pair.written_to_espo(before).await?;
    pair.settle().await?;
    let record = only(pair.records(DESIGN), "meeting")?;
    only(pair.events(DESIGN), "event")?;
    let found = times_of_record(&record);
    let is_hers = text(&record, "assignedUserId") == pair.world.anna;
    let whose = if is_hers { "Anna's" } else { "not Anna's" };
    Ok(Seen::new(is_hers && found == times(when), format!("{whose}, {found}")).after(before.until_end_of(&write)))
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Changes one attribute in EspoCRM: what came to Outlook, by the names of the attributes that were sent.
async fn edit_in_espo(pair: &Pair, name: &str, change: &Value, wanted: &str) -> anyhow::Result<Seen> {
    let id = text(&only(pair.records(name), "meeting")?, "id");
    let (_, before) = pair.edit_espo("PUT", Some(&id), change).await?;
    let write = pair.written_to_outlook(before).await?;
    pair.settle().await?;
    let rows = pair.world.graph.wire().writes_since(before.outlook);
    let sent = attributes(&rows, "PATCH", "/events/");
    let back = pair.world.espo.wire().writes_since(before.espo).len();
    let ok = list(&sent) == wanted && rows.len() == 1 && back == 0;
    let seen = format!("{} write with {}, {back} back", rows.len(), list(&sent));
    Ok(Seen::new(ok, seen).after(before.until_end_of(&write)))
}

/// Changes one attribute in Outlook: what came to EspoCRM.
async fn edit_in_outlook(pair: &Pair, subject: &str, change: Value, wanted: &str) -> anyhow::Result<Seen> {
    let id = text(&only(pair.events(subject), "event")?, "id");
    let before = pair.patch_event(&id, change)?;
    let write = pair.written_to_espo(before).await?;
    pair.settle().await?;
    let rows = pair.world.espo.wire().writes_since(before.espo);
    let sent = attributes(&rows, "PUT", "/Meeting/");
    let back = pair.world.graph.wire().writes_since(before.outlook).len();
    let ok = list(&sent) == wanted && rows.len() == 1 && back == 0;
    let seen = format!("{} write with {}, {back} back", rows.len(), list(&sent));
    Ok(Seen::new(ok, seen).after(before.until_end_of(&write)))
}

async fn rename_in_espo(pair: &Pair) -> anyhow::Result<Seen> {
    let renamed = format!("{KICK_OFF} (moved up)");
    let seen = edit_in_espo(pair, KICK_OFF, &json!({"name": renamed}), "subject").await?;
    only(pair.events(&renamed), "event of the new name")?;
    let back = edit_in_espo(pair, &renamed, &json!({"name": KICK_OFF}), "subject").await?;
    Ok(Seen { ok: seen.ok && back.ok, ..seen })
}

async fn rename_in_outlook(pair: &Pair) -> anyhow::Result<Seen> {
    let renamed = format!("{DESIGN} (second)");
    let seen = edit_in_outlook(pair, DESIGN, json!({"subject": renamed}), "name").await?;
    only(pair.records(&renamed), "meeting of the new name")?;
    let back = edit_in_outlook(pair, &renamed, json!({"subject": DESIGN}), "name").await?;
    Ok(Seen { ok: seen.ok && back.ok, ..seen })
}

async fn place_in_espo(pair: &Pair) -> anyhow::Result<Seen> {
    let seen = edit_in_espo(pair, KICK_OFF, &json!({"cLocation": "Room 2.11"}), "location").await?;
    let event = only(pair.events(KICK_OFF), "event")?;
    let place = event.get("location").map(|place| text(place, "displayName")).unwrap_or_default();
    Ok(Seen { ok: seen.ok && place == "Room 2.11", text: format!("{}, {place}", seen.text), ..seen })
}

async fn place_in_outlook(pair: &Pair) -> anyhow::Result<Seen> {
    let change = json!({"location": {"displayName": "Studio"}});
    let seen = edit_in_outlook(pair, DESIGN, change, "cLocation").await?;
    let place = text(&only(pair.records(DESIGN), "meeting")?, "cLocation");
    Ok(Seen { ok: seen.ok && place == "Studio", text: format!("{}, {place}", seen.text), ..seen })
}

async fn all_day_in_espo(pair: &Pair, day: NaiveDate) -> anyhow::Result<Seen> {
    let body = json!({
        "name": "Tour: inventory", "status": "Planned", "isAllDay": true, "dateStart": null, "dateEnd": null,
        "dateStartDate": day.to_string(), "dateEndDate": day.to_string(),
        "assignedUserId": pair.world.anna, "usersIds": [pair.world.anna],
    });
    let (_, event, ms) = arrived_in_outlook(pair, &body).await?;
    let is_all_day = event.get("isAllDay") == Some(&Value::Bool(true));
    let (found, wanted) = (times_of_event(&event), times((at(day, 0), at(after(day, 1), 0))));
    let form = if is_all_day { "all day" } else { "not all day" };
    Ok(Seen::new(is_all_day && found == wanted, format!("{form}, {found}")).after(ms))
}

fn after(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_add_days(Days::new(days)).unwrap_or(day)
}

async fn all_day_in_outlook(pair: &Pair, day: NaiveDate) -> anyhow::Result<Seen> {
    let when = (at(after(day, 1), 0), at(after(day, 3), 0));
    let body = with(event("Tour: trade fair", when), "isAllDay", Value::Bool(true));
    let (_, before) = pair.create_event(body)?;
    let write = pair.written_to_espo(before).await?;
    pair.settle().await?;
    let record = only(pair.records("Tour: trade fair"), "meeting")?;
    let found = (text(&record, "dateStartDate"), text(&record, "dateEndDate"));
    let ok = found == (after(day, 1).to_string(), after(day, 2).to_string());
    Ok(Seen::new(ok, format!("{} to {}", found.0, found.1)).after(before.until_end_of(&write)))
}

async fn invite_in_espo(pair: &Pair) -> anyhow::Result<Seen> {
    let id = text(&only(pair.records(KICK_OFF), "meeting")?, "id");
    let mails = pair.world.graph.mails().len();
    let change = json!({"contactsIds": [pair.world.dora]});
    let (_, before) = pair.edit_espo("PUT", Some(&id), &change).await?;
    let write = pair.written_to_outlook(before).await?;
    pair.settle().await?;
    let sent: Vec<String> =
        pair.world.graph.mails().iter().skip(mails).map(|mail| format!("{} to {}", mail.kind, mail.to)).collect();
    let ok = matches!(sent.as_slice(), [one] if *one == format!("invitation to {DORA}"));
    let text = if sent.is_empty() { "no mail".to_owned() } else { sent.join(", ") };
    Ok(Seen::new(ok, text).after(before.until_end_of(&write)))
}

async fn boris_declines(pair: &Pair) -> anyhow::Result<Seen> {
    let his = pair.world.graph.person(BORIS);
    let copies = his.events().into_iter().filter(|event| text(event, "subject") == CONTRACT).collect();
    let id = text(&only(copies, "copy in Boris's mailbox")?, "id");
    let before = pair.now();
    his.respond(&id, "decline").map_err(refused)?;
    let write = pair.written_to_espo(before).await?;
    pair.settle().await?;
    let record = only(pair.records(CONTRACT), "meeting")?;
    let answer = record.get("usersColumns").and_then(|columns| columns.get(&pair.world.boris));
    let answer = answer.map(|column| text(column, "status")).unwrap_or_default();
    let back = pair.world.graph.wire().writes_since(before.outlook).len();
    let seen = Seen::new(answer == "Declined" && back == 0, format!("{answer}, {back} back"));
    Ok(seen.after(before.until_end_of(&write)))
}

async fn delete_in_espo(pair: &Pair) -> anyhow::Result<Seen> {
    let id = text(&only(pair.records(KICK_OFF), "meeting")?, "id");
    let others = pair.outlook().events().len().saturating_sub(1);
    let (_, before) = pair.edit_espo("DELETE", Some(&id), &Value::Null).await?;
    let write = pair.written_to_outlook(before).await?;
    pair.settle().await?;
    let (left, stay) = (pair.events(KICK_OFF).len(), pair.outlook().events().len());
    let text = format!("{left} of it, {stay} others");
    Ok(Seen::new(left == 0 && stay == others, text).after(before.until_end_of(&write)))
}

async fn delete_in_outlook(pair: &Pair) -> anyhow::Result<Seen> {
    let id = text(&only(pair.events(DESIGN), "event")?, "id");
    let count = || pair.world.espo.records("Meeting").len();
    let (others, before) = (count().saturating_sub(1), pair.now());
    pair.outlook().delete_event(&id).map_err(refused)?;
    let write = pair.written_to_espo(before).await?;
    until(PATIENCE, async || pair.records(DESIGN).is_empty().then_some(())).await;
    pair.settle().await?;
    let (left, stay) = (pair.records(DESIGN).len(), count());
    let text = format!("{left} of it, {stay} others");
    Ok(Seen::new(left == 0 && stay == others, text).after(before.until_end_of(&write)))
}
