//! How a world has to look when everything has settled: one of each, in agreement, nothing done twice.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use espo_outlook::work::context::Context;
use espo_outlook::work::copies;
use espo_outlook::work::execute::record_as_seen;
use espo_outlook::work::items::{self, Place};
use store::{holds, links, messages};
use sync::{Answer, Attendees, Direction, Field, LinkState, Projection, Seen, Side, Value as Held, agree};

use super::ends::{End, SERIES, people_of, text};
use super::play::{Play, Told};
use super::story::Who;
use super::{ends, guests, losses};

/// What both sides show, without ids: equal for worlds that came to the same end.
pub type Shown = BTreeMap<u8, (Vec<String>, Vec<String>)>;

pub fn shown(play: &Play<'_>) -> Shown {
    let mut all = Shown::new();
    for record in ends::records(play.stage) {
        let names =
            ["name", "dateStart", "dateEnd", "dateStartDate", "dateEndDate", "description", "cLocation", "status"];
        let part = names.map(|name| text(&record.json, &[name]));
        all.entry(play.tag_of_record(&record).unwrap_or(255)).or_default().0.extend(part);
    }
    for item in ends::items(play.stage) {
        let json = &item.json;
        let people: Vec<String> = people_of(json).into_iter().collect();
        let part = [
            item.user.to_owned(),
            text(json, &["subject"]) + &text(json, &["title"]),
            text(json, &["start", "dateTime"]),
            text(json, &["end", "dateTime"]) + &text(json, &["dueDateTime", "dateTime"]),
            text(json, &["bodyPreview"]),
            text(json, &["location", "displayName"]),
            people.join(","),
        ];
        all.entry(item.tag_of_item().unwrap_or(255)).or_default().1.extend(part);
    }
    all
}

fn by_tag(all: Vec<(Option<u8>, End)>, what: &str) -> Result<BTreeMap<u8, End>, String> {
    let mut known: BTreeMap<u8, End> = BTreeMap::new();
    for (tag, end) in all {
        let tag = tag.ok_or_else(|| format!("a {what} of unknown title: {}", end.json))?;
        if let Some(twin) = known.insert(tag, end.clone()) {
            return Err(format!("there are two {what}s of M{tag}: {} and {}", twin.json, end.json));
        }
    }
    Ok(known)
}

/// Everything at once.
pub async fn all(play: &Play<'_>) -> Result<(), String> {
    let records = ends::records(play.stage).into_iter().map(|end| (play.tag_of_record(&end), end)).collect();
    let records = by_tag(records, "record")?;
    let items = by_tag(ends::items(play.stage).into_iter().map(|end| (end.tag_of_item(), end)).collect(), "item")?;
    let nobody = Told::default();
    for tag in records.keys().chain(items.keys()).collect::<BTreeSet<_>>() {
        let told = play.told.get(tag).unwrap_or(&nobody);
        match (records.get(tag), items.get(tag)) {
            (Some(record), Some(item)) => in_step(play, *tag, told, record, item).await?,
            (Some(_), None) if may_be_alone(play.setting.direction, *tag, told, Side::Espo) => {}
            (None, Some(_)) if may_be_alone(play.setting.direction, *tag, told, Side::Outlook) => {}
            (record, _) => {
                let side = if record.is_some() { "EspoCRM" } else { "Outlook" };
                return Err(format!("M{tag} is in {side} only"));
            }
        }
    }
    for (tag, told) in &play.told {
        losses::none(play.setting.direction, *tag, told, records.get(tag), items.get(tag))?;
    }
    guests::all(play, &records, &items)?;
    let read = play.app.store().read();
    let dead = messages::dead_count(read).await.map_err(|error| error.to_string())?;
    let open = holds::open_count(read).await.map_err(|error| error.to_string())?;
    if (dead, open) == (0, 0) {
        return Ok(());
    }
    let filter = messages::Filter { state: Some(messages::MessageState::Dead), ..messages::Filter::default() };
    let page = messages::page(read, &filter, None, 10).await.map_err(|error| error.to_string())?;
    let errors: Vec<_> = page.items.iter().map(|one| (&one.change.target, &one.last_error)).collect();
    Err(format!("{dead} dead letters, {open} holds: {errors:?}"))
}

/// True when the end on a side may be there without the other.
pub fn may_be_alone(direction: Direction, tag: u8, told: &Told, here: Side) -> bool {
    let there = here.other();
    let never_taken = told.made == Some(here) && !direction.allows_to(there);
    let deletion_stays = told.deleted.contains(&there) && !direction.allows_to(here);
    let unbound = here == Side::Espo && told.owner == Who::Zoe && !told.outside && tag < SERIES;
    let outside = told.outside && here == Side::Outlook && (told.deleted.contains(&Side::Espo) || told.called_off);
    // What is switched off is left alone, and so is what its deletion leaves behind.
    let switched_off = here == Side::Outlook && told.deleted_off;
    never_taken || deletion_stays || unbound || outside || switched_off
}

/// The two ends are one pair, and agree field by field, where both are written.
async fn in_step(play: &Play<'_>, tag: u8, told: &Told, record: &End, item: &End) -> Result<(), String> {
    let read = play.app.store().read();
    let link = links::by_record(read, record.kind, &record.id).await.map_err(|error| error.to_string())?;
    let link = link.ok_or_else(|| format!("M{tag} has no link"))?;
    if link.state != LinkState::Live {
        return Err(format!("the link of M{tag} is {:?}", link.state));
    }
    let context = Context::of(&play.app, Some(&link.owner)).await.map_err(|error| error.sentence())?;
    let fetched = context.espo.client.record(&context.schema, record.kind, &record.id, context.acting()).await;
    let Ok(Seen::Present(fetched)) = fetched else {
        return Err(format!("the record of M{tag} cannot be read: {fetched:?}"));
    };
    let copy = link.replica_of(&link.owner).cloned().ok_or_else(|| format!("the link of M{tag} names no item"))?;
    let seen = items::read(&context, Place { list: copy.list.as_deref(), id: &copy.item_id }, Some(&link)).await;
    let Ok(Seen::Present(mut seen)) = seen else {
        return Err(format!("the link of M{tag} names an item that is gone: {seen:?}"));
    };
    let subject = text(&item.json, &["subject"]) + &text(&item.json, &["title"]);
    if seen.values.get(&Field::Title).and_then(Held::as_text) != Some(&subject) {
        return Err(format!("the link of M{tag} names another item than {}", item.id));
    }
    if told.outside || play.setting.direction != Direction::Both {
        return Ok(());
    }
    copies::with_answers(&link, &mut seen);
    let espo = record_as_seen(&context, link.outside, &fetched).values;
    let with = Projection::new(Tz::UTC, &context.rules);
    for (field, here) in &espo {
        let Some(there) = seen.values.get(field) else { continue };
        let same = match (here, there) {
            (Held::People(_), Held::People(_)) if play.setting.attendees == Attendees::None => true,
            (Held::People(here), Held::People(there)) => {
                // An answer that is known in Outlook is known in EspoCRM.
                here.same_addresses(there)
                    && there.0.iter().all(|(who, one)| one.answer == Answer::None || here.0[who].answer == one.answer)
            }
            _ => agree(record.kind, field, here, there, &with),
        };
        if !same {
            return Err(format!("M{tag} differs in {field}: EspoCRM has {here:?}, Outlook has {there:?}"));
        }
    }
    Ok(())
}
