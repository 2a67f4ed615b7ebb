//! The participants of a record: read, told by address, and written back as whole sets.
//!
//! Facts (EspoCRM 9.3): the ids of a link replace the whole set, columns are merged per id, ids without columns keep their
//! status, and the assigned user is always put back among the users.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};
use sync::{Answer, People, Person};

use crate::map::answer_word;
use crate::people::is_address;

/// What a participant is in EspoCRM, in the order in which an address is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// A user.
    User,
    /// A contact.
    Contact,
    /// A lead.
    Lead,
}

impl Entity {
    /// All of them, in that order.
    pub const ALL: [Self; 3] = [Self::User, Self::Contact, Self::Lead];

    /// The name of the entity type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Contact => "Contact",
            Self::Lead => "Lead",
        }
    }

    /// The name of the link of a Meeting or Call.
    pub(crate) const fn link(self) -> &'static str {
        match self {
            Self::User => "users",
            Self::Contact => "contacts",
            Self::Lead => "leads",
        }
    }
}

/// Somebody who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub entity: Entity,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Who is to be related for an address (lower case).
pub type Resolved = BTreeMap<String, Found>;

/// A participant of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub entity: Entity,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its acceptance status.
    pub answer: Answer,
    /// Its primary address, lower case.
    pub address: Option<String>,
}

/// All participants of a record as EspoCRM has them, the assigned user included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// The assigned user.
    pub owner: Option<String>,
    /// The assigned user's address: other participants who have it are the same person.
    pub owner_address: Option<String>,
    /// Users, contacts, leads.
    pub members: Vec<Member>,
    /// The links that could be read: the others are never written.
    pub(crate) links: BTreeSet<Entity>,
    /// False when the addresses could not be read: nothing is known about the participants then.
    pub(crate) has_addresses: bool,
}

impl Roster {
    /// The assigned user's own answer.
    #[must_use]
    pub fn own_answer(&self) -> Answer {
        let own = |member: &&Member| member.entity == Entity::User && self.owner.as_ref() == Some(&member.id);
        self.members.iter().find(own).map_or(Answer::None, |member| member.answer)
    }

    fn is_owner(&self, member: &Member) -> bool {
        (member.entity == Entity::User && self.owner.as_ref() == Some(&member.id))
            || (member.address.is_some() && member.address == self.owner_address)
    }

    /// True when somebody beside the assigned user takes part.
    pub(crate) fn has_others(&self) -> bool {
        self.members.iter().any(|member| member.entity != Entity::User || self.owner.as_ref() != Some(&member.id))
    }

    pub(crate) fn ids(&self) -> BTreeMap<Entity, BTreeSet<String>> {
        let mut ids = BTreeMap::<Entity, BTreeSet<String>>::new();
        for member in &self.members {
            ids.entry(member.entity).or_default().insert(member.id.clone());
        }
        if let Some(owner) = self.owner.as_ref().filter(|_| !self.members.is_empty()) {
            ids.entry(Entity::User).or_default().insert(owner.clone());
        }
        ids
    }

    pub(crate) fn fill(&mut self, addresses: &Addresses) {
        let address = |entity, id: &str| addresses.get(&(entity, id.to_owned())).cloned();
        self.owner_address = self.owner.as_deref().and_then(|owner| address(Entity::User, owner));
        for member in &mut self.members {
            // What is no address cannot be invited: such a participant stays in EspoCRM like one without any.
            member.address = address(member.entity, &member.id).filter(|address| is_address(address));
        }
        self.has_addresses = true;
    }

    /// The participants by address, without the assigned user, and the names of those who have none.
    pub(crate) fn people(&self) -> (People, Vec<String>) {
        let mut people = People::default();
        let mut nameless = Vec::new();
        for member in self.members.iter().filter(|member| !self.is_owner(member)) {
            let Some(address) = &member.address else {
                nameless.push(member.name.clone().unwrap_or_else(|| member.id.clone()));
                continue;
            };
            // Two participants of one address are one person; whoever has answered speaks for both.
            let person = people
                .0
                .entry(address.clone())
                .or_insert_with(|| Person { name: member.name.clone(), answer: member.answer });
            if person.answer == Answer::None {
                person.answer = member.answer;
            }
        }
        (people, nameless)
    }

    /// The addresses of the target that nobody here has: these are to be resolved before a write.
    #[must_use]
    pub fn missing(&self, target: &People) -> Vec<String> {
        let known: BTreeSet<&String> = self.members.iter().filter_map(|member| member.address.as_ref()).collect();
        target.0.keys().filter(|address| !known.contains(address)).cloned().collect()
    }

    /// The attributes that turn this roster into the target. Those without an address, and the assigned user, stay.
    pub(crate) fn attributes(&self, target: &People, resolved: &Resolved) -> Map<String, Json> {
        let mut wanted = self.wanted(target, resolved);
        let mut body = Map::new();
        for entity in Entity::ALL.into_iter().filter(|entity| self.links.contains(entity)) {
            let wanted = wanted.remove(&entity).unwrap_or_default();
            let present: BTreeMap<&str, Answer> = self
                .members
                .iter()
                .filter(|member| member.entity == entity)
                .map(|member| (member.id.as_str(), member.answer))
                .collect();
            if !wanted.keys().map(String::as_str).eq(present.keys().copied()) {
                body.insert(format!("{}Ids", entity.link()), wanted.keys().cloned().collect());
            }
            let columns: Map<String, Json> = wanted
                .iter()
                .filter_map(|(id, answer)| Some((id, (*answer)?)))
                .filter(|(id, answer)| present.get(id.as_str()).copied().unwrap_or_default() != *answer)
                .map(|(id, answer)| (id.clone(), json!({ "status": answer_word(answer) })))
                .collect();
            if !columns.is_empty() {
                body.insert(format!("{}Columns", entity.link()), Json::Object(columns));
            }
        }
        body
    }

    /// Ids by entity; with the answer where the target gives one.
    fn wanted(&self, target: &People, resolved: &Resolved) -> BTreeMap<Entity, BTreeMap<String, Option<Answer>>> {
        let mut wanted = BTreeMap::<Entity, BTreeMap<String, Option<Answer>>>::new();
        let mut met = BTreeSet::new();
        for member in &self.members {
            let stays = match member.address.as_ref() {
                // The owner is no participant, but may have answered an invitation from outside.
                address if self.is_owner(member) => {
                    let person = address.and_then(|own| target.0.get(own));
                    met.extend(address.filter(|_| person.is_some()).cloned());
                    Some(person.map(|person| person.answer))
                }
                None => Some(None),
                Some(address) => target.0.get(address).map(|person| {
                    met.insert(address.clone());
                    Some(person.answer)
                }),
            };
            if let Some(answer) = stays {
                wanted.entry(member.entity).or_default().insert(member.id.clone(), answer);
            }
        }
        for (address, person) in target.0.iter().filter(|(address, _)| !met.contains(*address)) {
            if let Some(found) = resolved.get(address) {
                let answer = wanted.entry(found.entity).or_default().entry(found.id.clone()).or_default();
                *answer = Some(person.answer);
            }
        }
        if let Some(owner) = &self.owner {
            wanted.entry(Entity::User).or_default().entry(owner.clone()).or_insert(None);
        }
        wanted
    }

    /// An empty roster of a record that is to be created.
    pub(crate) fn of_owner(owner: &str) -> Self {
        Self { owner: Some(owner.to_owned()), links: Entity::ALL.into(), has_addresses: true, ..Self::default() }
    }
}

/// Primary addresses, lower case.
pub(crate) type Addresses = BTreeMap<(Entity, String), String>;

#[cfg(test)]
mod tests {
    use super::*;

    fn member(entity: Entity, id: &str, address: Option<&str>, answer: Answer) -> Member {
        Member {
            entity,
            id: id.to_owned(),
            name: Some(format!("Name of {id}")),
            answer,
            address: address.map(str::to_owned),
        }
    }

    fn roster() -> Roster {
        Roster {
            owner: Some("anna".to_owned()),
            owner_address: Some("anna@x.example".to_owned()),
            members: vec![
                member(Entity::User, "anna", Some("anna@x.example"), Answer::None),
                member(Entity::User, "boris", Some("boris@x.example"), Answer::Tentative),
                member(Entity::Contact, "clara", Some("clara@y.example"), Answer::Accepted),
                member(Entity::Contact, "dumb", None, Answer::None),
                member(Entity::Lead, "anna-as-lead", Some("anna@x.example"), Answer::None),
            ],
            links: Entity::ALL.into(),
            has_addresses: true,
        }
    }

    fn people(list: &[(&str, Answer)]) -> People {
        People(
            list.iter()
                .map(|(address, answer)| ((*address).to_owned(), Person { name: None, answer: *answer }))
                .collect(),
        )
    }

    #[test]
    fn the_owner_is_no_participant_in_whatever_form_and_who_has_no_address_is_named() {
        let (people, nameless) = roster().people();
        assert_eq!(people.0.keys().collect::<Vec<_>>(), ["boris@x.example", "clara@y.example"]);
        assert_eq!(people.0["clara@y.example"].answer, Answer::Accepted);
        assert_eq!(nameless, ["Name of dumb"]);
    }

    #[test]
    fn writing_what_is_there_writes_nothing() {
        let roster = roster();
        let (people, _) = roster.people();
        assert_eq!(roster.attributes(&people, &Resolved::new()), Map::new());
    }

    #[test]
    fn an_answer_alone_sends_one_column() {
        let target = people(&[("boris@x.example", Answer::Declined), ("clara@y.example", Answer::Accepted)]);
        let body = roster().attributes(&target, &Resolved::new());
        assert_eq!(Json::Object(body), json!({ "usersColumns": { "boris": { "status": "Declined" } } }));
    }

    #[test]
    fn removing_and_adding_keep_the_owner_and_who_has_no_address() {
        let target = people(&[
            ("boris@x.example", Answer::Tentative),
            ("lea@z.example", Answer::Accepted),
            ("new@z.example", Answer::None),
        ]);
        let resolved = Resolved::from([
            ("lea@z.example".to_owned(), Found { entity: Entity::Lead, id: "lea".to_owned(), name: String::new() }),
            ("new@z.example".to_owned(), Found { entity: Entity::Contact, id: "new".to_owned(), name: String::new() }),
        ]);
        assert_eq!(roster().missing(&target), ["lea@z.example", "new@z.example"]);
        let body = roster().attributes(&target, &resolved);
        let expected = json!({
            "contactsIds": ["dumb", "new"],
            "leadsIds": ["anna-as-lead", "lea"],
            "leadsColumns": { "lea": { "status": "Accepted" } },
        });
        assert_eq!(Json::Object(body), expected);
    }

    #[test]
    fn somebody_known_by_a_second_address_is_not_removed() {
        let target = people(&[("boris@x.example", Answer::Tentative), ("clara@private.example", Answer::Accepted)]);
        let clara = Found { entity: Entity::Contact, id: "clara".to_owned(), name: String::new() };
        let body = roster().attributes(&target, &Resolved::from([("clara@private.example".to_owned(), clara)]));
        assert_eq!(body, Map::new());
    }

    #[test]
    fn a_link_that_cannot_be_read_is_never_written() {
        let mut roster = roster();
        roster.links.remove(&Entity::Contact);
        roster.members.retain(|member| member.entity != Entity::Contact);
        let body = roster.attributes(&people(&[("boris@x.example", Answer::Tentative)]), &Resolved::new());
        assert_eq!(body, Map::new());
    }
}
