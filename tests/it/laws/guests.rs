//! Nobody is made twice, nobody who was invited is left out, and nobody is mailed more often than something changed.

use std::collections::BTreeMap;

use serde_json::json;
use sync::{Attendees, Direction, Side};

use super::ends::{End, SERIES, address, copies, people_of, tag_by_title, text};
use super::play::{Play, Told};
use super::story::{What, Who, Word};

pub fn all(play: &Play<'_>, records: &BTreeMap<u8, End>, items: &BTreeMap<u8, End>) -> Result<(), String> {
    let nina = address(Who::Nina);
    let leads = play.stage.espo.records("Lead");
    let leads = leads.into_iter().filter(|lead| text(lead, &["emailAddress"]) == nina).count();
    if leads > 1 {
        return Err(format!("there are {leads} leads of {nina}"));
    }
    if play.setting.direction == Direction::Both {
        for (tag, item) in items {
            let Some(told) = play.told.get(tag).filter(|told| told.kind.is_event() && !told.outside) else { continue };
            invited(play, *tag, told, item)?;
            answered(*tag, told, (records.get(tag), item), play)?;
        }
    }
    private_copies(play, items)?;
    mails(play)
}

fn invited(play: &Play<'_>, tag: u8, told: &Told, item: &End) -> Result<(), String> {
    for who in [Who::Anna, Who::Boris, Who::Carl, Who::Nina] {
        let doings: Vec<(Side, bool)> =
            told.people.iter().filter(|(of, ..)| *of == who).map(|(_, side, come)| (*side, *come)).collect();
        let [(side, true)] = doings[..] else { continue };
        if side == Side::Espo && play.setting.attendees == Attendees::None {
            continue;
        }
        // An event that was made anew invites anew; who comes then is settled by agreement alone.
        if told.deleted.is_empty() && !told.moved && !people_of(&item.json).contains(&address(who)) {
            return Err(format!("{who:?} was invited to M{tag}, and is not in the event"));
        }
    }
    Ok(())
}

/// An answer that was given once, of which nothing took anything back, is known on both sides.
fn answered(tag: u8, told: &Told, (record, item): (Option<&End>, &End), play: &Play<'_>) -> Result<(), String> {
    let [(Who::Boris, side, word)] = told.answers[..] else { return Ok(()) };
    // A meeting that is moved asks anew, and so does one that is made anew.
    let is_moved = told.given.get(&What::Time).is_some_and(|given| given.len() > 1);
    let quiet = item.user != "boris" && !told.moved && !is_moved && told.deleted.is_empty() && told.people.len() < 2;
    let Some(record) = record.filter(|_| quiet && play.setting.attendees == Attendees::Invite) else { return Ok(()) };
    let (wanted, shown) = match word {
        Word::Accept => ("Accepted", "accepted"),
        Word::Tentative => ("Tentative", "tentativelyAccepted"),
        Word::Decline | Word::Delete => ("Declined", "declined"),
    };
    let found = text(&record.json, &["usersColumns", &play.stage.ids["boris"], "status"]);
    if found != wanted {
        return Err(format!("Boris answered M{tag} on {side:?} with {wanted}, EspoCRM has {found}: {}", record.json));
    }
    let attendees = item.json["attendees"].as_array().into_iter().flatten();
    let boris = attendees.filter(|one| text(one, &["emailAddress", "address"]) == address(Who::Boris));
    let found: Vec<String> = boris.map(|one| text(one, &["status", "response"])).collect();
    if found != [shown] {
        return Err(format!("Boris answered M{tag} on {side:?} with {shown}, Outlook has {found:?}: {}", item.json));
    }
    Ok(())
}

/// A private copy shows what the master shows, and nobody has two.
fn private_copies(play: &Play<'_>, items: &BTreeMap<u8, End>) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for copy in copies(play.stage) {
        let tag = copy.tag_of_item().ok_or_else(|| format!("a copy of unknown title: {}", copy.json))?;
        if play.setting.attendees == Attendees::Invite {
            return Err(format!("a private copy, though people are invited: {}", copy.json));
        }
        if let Some(twin) = seen.insert((copy.user, tag), copy.id.clone()).filter(|_| tag < SERIES) {
            return Err(format!("{} has two private copies of M{tag}: {twin} and {}", copy.user, copy.id));
        }
        if tag >= SERIES {
            // Copies of occurrences are single events, which do not say of which occurrence.
            continue;
        }
        let Some(master) = items.get(&tag) else {
            return Err(format!("{} has a copy of M{tag}, which is gone", copy.user));
        };
        for path in [["start", "dateTime"], ["end", "dateTime"], ["location", "displayName"]] {
            if play.setting.direction == Direction::Both && text(&copy.json, &path) != text(&master.json, &path) {
                return Err(format!("{}'s copy of M{tag} shows {}, the master {}", copy.user, copy.json, master.json));
            }
        }
    }
    for (tag, item) in items {
        let told = play.told.get(tag).filter(|told| told.kind.is_event() && !told.outside && *tag < SERIES);
        let Some(told) = told else { continue };
        let only_there = told.people == [(Who::Boris, Side::Espo, true)] && told.deleted.is_empty() && !told.moved;
        let copying = play.setting.attendees == Attendees::None && play.setting.direction.allows_to(Side::Outlook);
        // Who has declined has none.
        let last = told.answers.iter().rev().find(|(who, ..)| *who == Who::Boris);
        let declined = last.is_some_and(|(.., word)| matches!(word, Word::Decline | Word::Delete));
        if copying && only_there && !declined && item.user == "anna" && !seen.contains_key(&("boris", *tag)) {
            return Err(format!("Boris takes part in M{tag} and has no private copy"));
        }
    }
    Ok(())
}

fn mails(play: &Play<'_>) -> Result<(), String> {
    let mut mailed: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut tags = BTreeMap::new();
    for mail in play.stage.graph.mails() {
        if let Some(tag) = tag_by_title(&json!({ "subject": mail.subject })) {
            tags.insert(mail.ical_uid.clone(), tag);
        }
        *mailed.entry((mail.ical_uid, mail.to, mail.kind)).or_default() += 1;
    }
    let quiet = play.setting.attendees == Attendees::None;
    for ((uid, to, kind), count) in mailed {
        // The mails about an occurrence are those of its series.
        let series = |tag: u8| if tag < SERIES { tag..=tag } else { tag - tag % 4..=tag - tag % 4 + 3 };
        let told: Vec<&Told> =
            tags.get(&uid).map(|tag| play.told.range(series(*tag)).map(|(_, told)| told).collect()).unwrap_or_default();
        let counts =
            |(who, side, come): &(Who, Side, bool)| *come && address(*who) == to && (!quiet || *side == Side::Outlook);
        let invitations = told.iter().flat_map(|told| &told.people).filter(|one| counts(one)).count();
        let most = match kind.as_str() {
            "invitation" if quiet => invitations,
            "invitation" => invitations.max(1),
            "update" => told.iter().map(|told| told.acts).sum::<usize>().max(1),
            _ => continue,
        };
        if count > most {
            return Err(format!(
                "{to} was sent {count} mails of the kind {kind} about {tags:?}/{uid}, {most} would do"
            ));
        }
    }
    Ok(())
}
