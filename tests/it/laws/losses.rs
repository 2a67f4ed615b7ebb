//! Nothing is lost in silence: what somebody last wrote is there, unless somebody on the other side wrote the same field; what
//! was deleted is gone, unless it was edited on the other side; what nobody deleted is there.

use std::collections::BTreeSet;

use sync::{Direction, Side};

use super::check::may_be_alone;
use super::ends::{End, shows};
use super::play::Told;
use super::story::What;

pub fn none(
    direction: Direction,
    tag: u8,
    told: &Told,
    record: Option<&End>,
    item: Option<&End>,
) -> Result<(), String> {
    if told.given.is_empty() {
        return Ok(());
    }
    presence(direction, tag, told, record.is_some(), item.is_some())?;
    // What a deletion took along is nobody's loss: an edit on the other side brings the pair back as it is there.
    if !told.deleted.is_empty() {
        return Ok(());
    }
    for (what, given) in &told.given {
        if *what == What::Title && (told.retitled || told.called_off) {
            continue;
        }
        let ends = [(Side::Espo, record), (Side::Outlook, item)];
        for (side, end) in ends.into_iter().filter_map(|(side, end)| Some((side, end?))) {
            let wanted = expected(direction, told, *what, given, side);
            if !wanted.is_empty() && !wanted.iter().any(|value| shows(side, *what, tag, *value, end)) {
                return Err(format!("M{tag} has lost its {what:?} on {side:?}: given {given:?}, found {}", end.json));
            }
        }
    }
    Ok(())
}

fn presence(direction: Direction, tag: u8, told: &Told, record: bool, item: bool) -> Result<(), String> {
    if told.deleted.is_empty() {
        let alone = |side: Side| may_be_alone(direction, tag, told, side);
        let here = (record || alone(Side::Outlook)) && (item || alone(Side::Espo)) && (record || item);
        return if here { Ok(()) } else { Err(format!("M{tag} is gone, and nobody deleted it")) };
    }
    let contested = told.switched || told.deleted.iter().any(|side| told.edited.contains(&side.other()));
    let stays = told.outside || direction != Direction::Both;
    if !contested && !stays && (record || item) {
        return Err(format!("M{tag} was deleted on {:?}, and is there", told.deleted));
    }
    // What may not travel, does not.
    for (side, there) in [(Side::Espo, record), (Side::Outlook, item)] {
        if !direction.allows_to(side) && !told.deleted.contains(&side) && told.made == Some(side) && !there {
            return Err(format!("M{tag} is gone on {side:?}, which is hands off"));
        }
    }
    Ok(())
}

/// The values of which a side is to show one; none when nothing can be said.
fn expected(direction: Direction, told: &Told, what: What, given: &[(Side, u16)], side: Side) -> Vec<u16> {
    let last = |of: Side| given.iter().rev().find(|(from, _)| *from == of).map(|(_, value)| *value);
    // The first value of a title and time was there before any edit.
    let is_first = matches!(what, What::Title | What::Time);
    let edits = given.get(usize::from(is_first)..).unwrap_or_default();
    let sides: BTreeSet<Side> = edits.iter().map(|(from, _)| *from).collect();
    let one_way = |source: Side| {
        if side == source {
            // Nobody writes to it but people. What was made on the other side came from there.
            let first = given.first().filter(|_| is_first).map(|(_, value)| *value);
            return last(source).or(first).into_iter().collect();
        }
        match sides.len() {
            // What was made anew in another mailbox was made from the record.
            _ if told.moved => Vec::new(),
            2 => [Side::Espo, Side::Outlook].into_iter().filter_map(last).collect(),
            _ => given.last().map(|(_, value)| *value).into_iter().collect(),
        }
    };
    match direction {
        _ if told.outside => one_way(Side::Outlook),
        Direction::EspoToOutlook => one_way(Side::Espo),
        Direction::OutlookToEspo => one_way(Side::Outlook),
        _ if sides.len() > 1 => [Side::Espo, Side::Outlook].into_iter().filter_map(last).collect(),
        _ => given.last().map(|(_, value)| *value).into_iter().collect(),
    }
}
