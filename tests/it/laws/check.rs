//! How a world has to look when everything has settled.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use espo_outlook::work::context::Context;
use espo_outlook::work::copies;
use espo_outlook::work::execute::record_as_seen;
use espo_outlook::work::items::{self, Place};
use serde_json::Value;
use store::{holds, links, messages};
use sync::{Answer, Field, Kind, LinkState, Projection, Seen, Side, Value as Held, agree};

use super::play::{Play, Told, address, espo_time, tag_of, times, title};
use super::story::{What, Who};

/// What both sides show of a meeting, without ids: equal for worlds that came to the same end.
pub type Shown = BTreeMap<u8, (Vec<String>, Vec<String>)>;

fn text(end: &Value, path: &[&str]) -> String {
    let found = path.iter().fold(end, |end, name| &end[*name]);
    found.as_str().unwrap_or_default().trim().to_owned()
}

fn people_of(event: &Value) -> BTreeSet<String> {
    let all = event["attendees"].as_array().into_iter().flatten();
    all.map(|one| text(one, &["emailAddress", "address"])).collect()
}

pub fn shown(play: &Play<'_>) -> Shown {
    let mut all = Shown::new();
    for record in play.records() {
        let part =
            ["name", "dateStart", "dateEnd", "description", "cLocation", "status"].map(|name| text(&record, &[name]));
        all.entry(tag_of(&record).unwrap_or(255)).or_default().0.extend(part);
    }
    for event in play.events() {
        let people: Vec<String> = people_of(&event).into_iter().collect();
        let part = [
            text(&event, &["subject"]),
            text(&event, &["start", "dateTime"]),
            text(&event, &["end", "dateTime"]),
            text(&event, &["bodyPreview"]),
            text(&event, &["location", "displayName"]),
            people.join(","),
        ];
        all.entry(tag_of(&event).unwrap_or(255)).or_default().1.extend(part);
    }
    all
}

fn by_tag(ends: Vec<Value>, what: &str) -> Result<BTreeMap<u8, Value>, String> {
    let mut all = BTreeMap::new();
    for end in ends {
        let tag = tag_of(&end).ok_or_else(|| format!("a {what} of unknown title: {end}"))?;
        if let Some(twin) = all.insert(tag, end.clone()) {
            return Err(format!("there are two {what}s of M{tag}: {twin} and {end}"));
        }
    }
    Ok(all)
}

/// Everything at once: one of each, in agreement, nothing lost, nothing done twice.
pub async fn all(play: &Play<'_>) -> Result<(), String> {
    let records = by_tag(play.records(), "record")?;
    let events = by_tag(play.events(), "event")?;
    let context = Context::of(&play.app, Some(&play.stage.ids["anna"])).await.map_err(|error| error.sentence())?;
    for tag in records.keys().chain(events.keys()).collect::<BTreeSet<_>>() {
        let (Some(record), Some(event)) = (records.get(tag), events.get(tag)) else {
            let side = if records.contains_key(tag) { "EspoCRM" } else { "Outlook" };
            return Err(format!("M{tag} is in {side} only"));
        };
        in_step(&context, *tag, record, event).await?;
    }
    for (tag, told) in &play.told {
        nothing_lost(*tag, told, records.get(tag), events.get(tag))?;
    }
    people(play, &events)?;
    let read = play.app.store().read();
    let dead = messages::dead_count(read).await.map_err(|error| error.to_string())?;
    let open = holds::open_count(read).await.map_err(|error| error.to_string())?;
    if (dead, open) == (0, 0) { Ok(()) } else { Err(format!("{dead} dead letters, {open} holds")) }
}

/// The two ends are one pair, and agree field by field.
async fn in_step(context: &Context, tag: u8, record: &Value, event: &Value) -> Result<(), String> {
    let (record_id, event_id) = (text(record, &["id"]), text(event, &["id"]));
    let read = context.app.store().read();
    let link = links::by_record(read, Kind::Meeting, &record_id).await.map_err(|error| error.to_string())?;
    let link = link.ok_or_else(|| format!("M{tag} has no link"))?;
    if link.state != LinkState::Live {
        return Err(format!("the link of M{tag} is {:?}", link.state));
    }
    let fetched = context.espo.client.record(&context.schema, Kind::Meeting, &record_id, context.acting()).await;
    let Ok(Seen::Present(fetched)) = fetched else {
        return Err(format!("the record of M{tag} cannot be read: {fetched:?}"));
    };
    let item_id = link.replica_of(&link.owner).map(|replica| replica.item_id.clone()).unwrap_or_default();
    let item = items::read(context, Place { list: None, id: &item_id }, Some(&link)).await;
    let Ok(Seen::Present(mut item)) = item else {
        return Err(format!("the link of M{tag} names an event that is gone: {item:?}"));
    };
    let subject = text(event, &["subject"]);
    if item.values.get(&Field::Title).and_then(Held::as_text) != Some(&subject) {
        return Err(format!("the link of M{tag} names another event than {event_id}"));
    }
    copies::with_answers(&link, &mut item);
    let espo = record_as_seen(context, link.outside, &fetched).values;
    let with = Projection::new(Tz::UTC, &context.rules);
    for (field, here) in &espo {
        let Some(there) = item.values.get(field) else { continue };
        let same = match (here, there) {
            (Held::People(here), Held::People(there)) => {
                // An answer that is known in Outlook is known in EspoCRM.
                here.same_addresses(there)
                    && there.0.iter().all(|(who, one)| one.answer == Answer::None || here.0[who].answer == one.answer)
            }
            _ => agree(Kind::Meeting, field, here, there, &with),
        };
        if !same {
            return Err(format!("M{tag} differs in {field}: EspoCRM has {here:?}, Outlook has {there:?}"));
        }
    }
    Ok(())
}

fn shows(what: What, tag: u8, value: u16, record: &Value) -> bool {
    match what {
        What::Title => record["name"] == title(tag, value).as_str(),
        What::Body => text(record, &["description"]) == format!("body {value}"),
        What::Place => text(record, &["cLocation"]) == format!("room {value}"),
        What::Time => record["dateStart"] == espo_time(times(tag, value).0).as_str(),
    }
}

/// What somebody last wrote is there, unless somebody on the other side wrote the same field; what was deleted is gone, unless
/// it was edited on the other side; what nobody deleted is there.
fn nothing_lost(tag: u8, told: &Told, record: Option<&Value>, event: Option<&Value>) -> Result<(), String> {
    if told.given.is_empty() {
        return Ok(());
    }
    let contested = told.deleted.iter().any(|side| told.edited.contains(&side.other()));
    if told.deleted.is_empty() && (record.is_none() || event.is_none()) {
        return Err(format!("M{tag} is gone, and nobody deleted it"));
    }
    if !told.deleted.is_empty() && !contested && (record.is_some() || event.is_some()) {
        return Err(format!("M{tag} was deleted on {:?}, and is there", told.deleted));
    }
    // What a deletion took along is nobody's loss: an edit on the other side brings the meeting back as it is there.
    let Some(record) = record.filter(|_| told.deleted.is_empty()) else { return Ok(()) };
    for (what, given) in &told.given {
        let last = |side: Side| given.iter().rev().find(|(of, _)| *of == side).map(|(_, value)| *value);
        // The first value of a meeting's title and time was there before any edit.
        let is_first = matches!(what, What::Title | What::Time);
        let edits = given.get(usize::from(is_first)..).unwrap_or_default();
        let sides: BTreeSet<Side> = edits.iter().map(|(side, _)| *side).collect();
        let fits = if sides.len() > 1 {
            [Side::Espo, Side::Outlook].into_iter().filter_map(last).any(|value| shows(*what, tag, value, record))
        } else {
            given.last().is_none_or(|(_, value)| shows(*what, tag, *value, record))
        };
        if !fits {
            return Err(format!("M{tag} has lost its {what:?}: given {given:?}, found {record}"));
        }
    }
    Ok(())
}

/// Nobody is made twice, nobody who was invited is left out, and nobody is mailed more often than something changed.
fn people(play: &Play<'_>, events: &BTreeMap<u8, Value>) -> Result<(), String> {
    let nina = address(Who::Nina);
    let leads =
        play.stage.espo.records("Lead").into_iter().filter(|lead| text(lead, &["emailAddress"]) == nina).count();
    if leads > 1 {
        return Err(format!("there are {leads} leads of {nina}"));
    }
    for (tag, event) in events {
        let Some(told) = play.told.get(tag) else { continue };
        for who in [Who::Boris, Who::Carl, Who::Nina] {
            let doings: Vec<bool> = told.people.iter().filter(|(of, ..)| *of == who).map(|(.., come)| *come).collect();
            // An event that was made anew invites anew; who comes then is settled by agreement alone.
            if doings == [true] && told.deleted.is_empty() && !people_of(event).contains(&address(who)) {
                return Err(format!("{who:?} was invited to M{tag}, and is not in the event"));
            }
        }
    }
    let mut mailed: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut tags = BTreeMap::new();
    for mail in play.stage.graph.mails() {
        let tag = tag_of(&serde_json::json!({ "subject": mail.subject }));
        if let Some(tag) = tag {
            tags.insert(mail.ical_uid.clone(), tag);
        }
        *mailed.entry((mail.ical_uid, mail.to, mail.kind)).or_default() += 1;
    }
    for ((uid, to, kind), count) in mailed {
        let told = tags.get(&uid).and_then(|tag| play.told.get(tag));
        let invitations =
            told.map_or(0, |told| told.people.iter().filter(|(who, _, come)| *come && address(*who) == to).count());
        let most = match kind.as_str() {
            "invitation" => invitations,
            "update" => told.map_or(0, |told| told.acts),
            _ => continue,
        };
        if count > most.max(1) {
            return Err(format!(
                "{to} was sent {count} mails of the kind {kind} about {tags:?}/{uid}, {most} would do"
            ));
        }
    }
    Ok(())
}
