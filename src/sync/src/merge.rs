//! The three-way merge of one field.

use std::collections::BTreeSet;

use crate::{
    Agreed, Answer, Direction, Field, File, Files, Kind, People, Person, Priority, Projection, Reason, Side, Value,
    project,
};

/// What becomes of one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// To be written to EspoCRM, in its space.
    pub to_espo: Option<Value>,
    /// To be written to Outlook, in its space.
    pub to_outlook: Option<Value>,
    /// The value that lost a conflict, and the side that had it.
    pub lost: Option<(Side, Value)>,
    /// Both ends agree although the base says otherwise: the base takes this pair over.
    pub rebase: Option<Agreed>,
    /// What was left undone, or how a conflict went.
    pub notes: Vec<Reason>,
}

/// What a merge depends on besides the values.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Kind of the record.
    pub kind: Kind,
    /// Which way values may travel.
    pub direction: Direction,
    /// Who wins.
    pub priority: Priority,
    /// The side that was modified last (a tie is EspoCRM's).
    pub newest: Side,
    /// How values look on the other side.
    pub projection: &'a Projection,
}

impl Terms<'_> {
    /// The side that wins when both have changed: in a one-way direction the source, else by priority.
    const fn winner(&self) -> Side {
        match (self.direction, self.priority) {
            (Direction::EspoToOutlook, _) | (_, Priority::Espo)
                if !matches!(self.direction, Direction::OutlookToEspo) =>
            {
                Side::Espo
            }
            (Direction::OutlookToEspo, _) | (_, Priority::Outlook) => Side::Outlook,
            _ => self.newest,
        }
    }
}

/// True when the two values are what one and the same value looks like on both sides.
#[must_use]
pub fn agree(kind: Kind, field: &Field, espo: &Value, outlook: &Value, with: &Projection) -> bool {
    if let (Value::People(espo), Value::People(outlook)) = (espo, outlook) {
        return espo == outlook;
    }
    project(kind, field, espo, Side::Outlook, with) == *outlook
        || project(kind, field, outlook, Side::Espo, with) == *espo
}

/// Merges one field three ways. Without a base both sides count as changed.
#[must_use]
pub fn merge_field(field: &Field, base: Option<&Agreed>, espo: &Value, outlook: &Value, terms: &Terms<'_>) -> Merged {
    if let (Value::People(espo), Value::People(outlook)) = (espo, outlook) {
        return merge_people(base, espo, outlook, terms);
    }
    if let (Value::Files(espo), Value::Files(outlook)) = (espo, outlook) {
        return merge_files(base, espo, outlook, terms);
    }
    let espo_changed = base.is_none_or(|base| base.espo != *espo);
    let outlook_changed = base.is_none_or(|base| base.outlook != *outlook);
    if !espo_changed && !outlook_changed {
        return Merged::default();
    }
    let as_they_are = || Some(Agreed { espo: espo.clone(), outlook: outlook.clone() });
    if agree(terms.kind, field, espo, outlook, terms.projection) {
        return Merged { rebase: as_they_are(), ..Merged::default() };
    }
    let met = base.is_none() && matches!(field, Field::Extra(_));
    let winner = match (espo_changed, outlook_changed) {
        (true, false) => Side::Espo,
        (false, true) => Side::Outlook,
        // A pair that was configured later: whoever has nothing to say takes nothing away.
        _ if met && crate::is_blank(outlook) => Side::Espo,
        _ if met && crate::is_blank(espo) => Side::Outlook,
        _ => terms.winner(),
    };
    let target = winner.other();
    if !terms.direction.allows_to(target) {
        if met {
            // What differs now stays as it is, until the source changes.
            return Merged { rebase: as_they_are(), ..Merged::default() };
        }
        let reason = Reason::DirectionOff { field: Some(field.clone()), to: target };
        return Merged { notes: vec![reason], ..Merged::default() };
    }
    let (source, loser) = match winner {
        Side::Espo => (espo, outlook),
        Side::Outlook => (outlook, espo),
    };
    let mut merged = Merged::default();
    if espo_changed && outlook_changed && base.is_some() {
        merged.lost = Some((target, loser.clone()));
        merged.notes.push(Reason::Conflict { field: field.clone(), winner, priority: terms.priority });
    }
    let value = project(terms.kind, field, source, target, terms.projection);
    if value == *loser {
        // Nothing would change: a PUT with equal values still bumps EspoCRM's modifiedAt and fires webhooks.
        return Merged { rebase: as_they_are(), ..merged };
    }
    match target {
        Side::Espo => merged.to_espo = Some(value),
        Side::Outlook => merged.to_outlook = Some(value),
    }
    merged
}

/// Participants are merged one by one: somebody added on one side and somebody else added on the other are both there in
/// the end. Answers travel to EspoCRM; to Outlook they go by the participant's own mailbox only.
fn merge_people(base: Option<&Agreed>, espo: &People, outlook: &People, terms: &Terms<'_>) -> Merged {
    let empty = People::default();
    let (base_espo, base_outlook) = match base {
        Some(Agreed { espo: Value::People(espo), outlook: Value::People(outlook) }) => (espo, outlook),
        _ => (&empty, &empty),
    };
    if base.is_some() && base_espo == espo && base_outlook == outlook {
        return Merged::default();
    }
    let mut merged = Merged::default();
    let (mut for_espo, mut for_outlook) = (People::default(), People::default());
    let everybody: BTreeSet<&String> = espo.0.keys().chain(outlook.0.keys()).collect();
    for address in everybody {
        let one = One {
            espo: espo.0.get(address),
            outlook: outlook.0.get(address),
            base_espo: base_espo.0.get(address),
            base_outlook: base_outlook.0.get(address),
        };
        let (in_espo, in_outlook) = one.merge(address, terms, &mut merged);
        if let Some(person) = in_espo {
            for_espo.0.insert(address.clone(), person);
        }
        if let Some(person) = in_outlook {
            for_outlook.0.insert(address.clone(), person);
        }
    }
    if for_espo != *espo {
        merged.to_espo = Some(Value::People(for_espo));
    }
    if !for_outlook.same_addresses(outlook) {
        merged.to_outlook = Some(Value::People(for_outlook));
    }
    let unsent = |note: &Reason| matches!(note, Reason::AnswerNeedsOwnMailbox { .. } | Reason::AnswerKept { .. });
    if merged.to_espo.is_none() && merged.to_outlook.is_none() && merged.notes.iter().all(unsent) {
        let agreed =
            Agreed { espo: Value::People(as_answered(espo, outlook)), outlook: Value::People(outlook.clone()) };
        merged.rebase = (base != Some(&agreed)).then_some(agreed);
    }
    merged
}

/// Files are merged one by one. Unlinked ends are united: no file is lost to a first synchronisation.
fn merge_files(base: Option<&Agreed>, espo: &Files, outlook: &Files, terms: &Terms<'_>) -> Merged {
    let empty = Files::default();
    let (base_espo, base_outlook) = match base {
        Some(Agreed { espo: Value::Files(espo), outlook: Value::Files(outlook) }) => (espo, outlook),
        _ => (&empty, &empty),
    };
    let mut merged = Merged::default();
    let (mut for_espo, mut for_outlook) = (espo.plain(), outlook.plain());
    let differing = espo.without(outlook).map(|file| (Side::Espo, file));
    for (side, file) in differing.chain(outlook.without(espo).map(|file| (Side::Outlook, file))) {
        let Some(winner) = winner_of_file(file, side, base_espo, base_outlook, terms) else { continue };
        if !terms.direction.allows_to(winner.other()) {
            let reason = Reason::DirectionOff { field: Some(Field::Attachments), to: winner.other() };
            if !merged.notes.contains(&reason) {
                merged.notes.push(reason);
            }
            continue;
        }
        let target = match winner {
            Side::Espo => &mut for_outlook,
            Side::Outlook => &mut for_espo,
        };
        if winner == side {
            target.insert(File { ids: BTreeSet::new(), ..file.clone() });
        } else {
            target.remove(file);
        }
    }
    if for_espo != *espo {
        merged.to_espo = Some(Value::Files(for_espo));
    }
    if for_outlook != *outlook {
        merged.to_outlook = Some(Value::Files(for_outlook));
    }
    if merged.to_espo.is_none() && merged.to_outlook.is_none() && merged.notes.is_empty() {
        let agreed = Agreed { espo: Value::Files(espo.clone()), outlook: Value::Files(outlook.clone()) };
        merged.rebase = (base != Some(&agreed)).then_some(agreed);
    }
    merged
}

/// The side whose having or not having a file counts, for a file that only `side` has; none when that was agreed.
fn winner_of_file(file: &File, side: Side, base_espo: &Files, base_outlook: &Files, terms: &Terms<'_>) -> Option<Side> {
    let (in_espo, in_outlook) = (base_espo.get(file).is_some(), base_outlook.get(file).is_some());
    let espo_changed = in_espo != (side == Side::Espo);
    let outlook_changed = in_outlook != (side == Side::Outlook);
    match (espo_changed, outlook_changed) {
        (false, false) => None,
        (true, false) => Some(Side::Espo),
        (false, true) => Some(Side::Outlook),
        (true, true) => Some(terms.winner()),
    }
}

/// Who takes part is agreed; an answer that could not be sent stays a difference.
fn as_answered(espo: &People, outlook: &People) -> People {
    let answered = |(address, person): (&String, &Person)| {
        let answer = outlook.0.get(address).map_or(person.answer, |known| known.answer);
        (address.clone(), Person { answer, ..person.clone() })
    };
    People(espo.0.iter().map(answered).collect())
}

/// One address, as both sides and the base have it.
struct One<'a> {
    espo: Option<&'a Person>,
    outlook: Option<&'a Person>,
    base_espo: Option<&'a Person>,
    base_outlook: Option<&'a Person>,
}

impl One<'_> {
    /// What the two sides are to have.
    fn merge(&self, address: &str, terms: &Terms<'_>, merged: &mut Merged) -> (Option<Person>, Option<Person>) {
        match (self.espo, self.outlook) {
            (Some(espo), Some(outlook)) => self.merge_answer(address, espo, outlook, terms, merged),
            (None, None) => (None, None),
            (espo, outlook) => {
                let espo_changed = espo.is_some() != self.base_espo.is_some();
                let outlook_changed = outlook.is_some() != self.base_outlook.is_some();
                let winner = match (espo_changed, outlook_changed) {
                    (false, false) => return (espo.cloned(), outlook.cloned()),
                    (true, false) => Side::Espo,
                    (false, true) => Side::Outlook,
                    // Unlinked ends are united: nobody is uninvited by a first synchronisation.
                    (true, true) if self.base_espo.is_none() && self.base_outlook.is_none() => {
                        if espo.is_some() {
                            Side::Espo
                        } else {
                            Side::Outlook
                        }
                    }
                    (true, true) => terms.winner(),
                };
                let target = winner.other();
                if !terms.direction.allows_to(target) {
                    let reason = Reason::DirectionOff { field: Some(Field::Participants), to: target };
                    if !merged.notes.contains(&reason) {
                        merged.notes.push(reason);
                    }
                    return (espo.cloned(), outlook.cloned());
                }
                match winner {
                    // Answers are not written through the organizer's copy: who is new there has not answered.
                    Side::Espo => {
                        if espo.is_some_and(|person| person.answer != Answer::None) {
                            merged.notes.push(Reason::AnswerNeedsOwnMailbox { address: address.to_owned() });
                        }
                        (espo.cloned(), espo.map(|person| Person { answer: Answer::None, ..person.clone() }))
                    }
                    Side::Outlook => (outlook.cloned(), outlook.cloned()),
                }
            }
        }
    }

    fn merge_answer(
        &self,
        address: &str,
        espo: &Person,
        outlook: &Person,
        terms: &Terms<'_>,
        merged: &mut Merged,
    ) -> (Option<Person>, Option<Person>) {
        let keep = (Some(espo.clone()), Some(outlook.clone()));
        if espo.answer == outlook.answer {
            return keep;
        }
        let espo_changed = self.base_espo.is_none_or(|base| base.answer != espo.answer);
        let outlook_changed = self.base_outlook.is_none_or(|base| base.answer != outlook.answer);
        let from_outlook = match (espo_changed, outlook_changed) {
            (false, false) => return keep,
            (true, false) => false,
            (false, true) if outlook.answer == Answer::None => {
                merged.notes.push(Reason::AnswerKept { address: address.to_owned() });
                return keep;
            }
            (false, true) => true,
            // "No answer yet" never takes back an answer that somebody gave.
            (true, true) if outlook.answer == Answer::None => false,
            (true, true) if espo.answer == Answer::None => true,
            (true, true) => terms.winner() == Side::Outlook,
        };
        if !from_outlook {
            merged.notes.push(Reason::AnswerNeedsOwnMailbox { address: address.to_owned() });
            return keep;
        }
        if !terms.direction.allows_to(Side::Espo) {
            merged.notes.push(Reason::DirectionOff { field: Some(Field::Participants), to: Side::Espo });
            return keep;
        }
        (Some(Person { answer: outlook.answer, ..espo.clone() }), Some(outlook.clone()))
    }
}
