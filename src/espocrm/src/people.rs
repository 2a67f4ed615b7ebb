//! Participants: users, contacts and leads on the one side, e-mail addresses on the other.
//!
//! Facts (EspoCRM 9.3): `in` and `equals` on `emailAddress` match secondary addresses too, the answer names only the primary
//! one; addresses are stored in lower case beside the written form, and `in` wants lower case; the ids of a link replace the
//! whole set, columns are merged per id, and the assigned user is always put back; creating a Contact or Lead whose address or
//! name exists already is answered with 409 `duplicate`, unless `X-Skip-Duplicate-Check` is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};
use sync::{Answer, Field, People, Person, Record, Value, text};

use crate::client::Client;
use crate::error::unexpected;
use crate::map::{Draft, answer_word};
use crate::query::{IN_MAX, List, Where};
use crate::records::Fetched;
use crate::wire::{Call, Rows};
use crate::{Error, Result};

/// How long a looked-up address is trusted: long enough for the records of one page, short enough for an edit to be seen.
const REMEMBERED: TimeDelta = TimeDelta::seconds(15);

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

/// What an unknown person is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonKind {
    /// A Contact.
    Contact,
    /// A Lead.
    Lead,
}

impl PersonKind {
    const fn entity(self) -> Entity {
        match self {
            Self::Contact => Entity::Contact,
            Self::Lead => Entity::Lead,
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
    fn is_owner(&self, member: &Member) -> bool {
        (member.entity == Entity::User && self.owner.as_ref() == Some(&member.id))
            || (member.address.is_some() && member.address == self.owner_address)
    }

    fn ids(&self) -> BTreeMap<Entity, BTreeSet<String>> {
        let mut ids = BTreeMap::<Entity, BTreeSet<String>>::new();
        for member in &self.members {
            ids.entry(member.entity).or_default().insert(member.id.clone());
        }
        if let Some(owner) = self.owner.as_ref().filter(|_| !self.members.is_empty()) {
            ids.entry(Entity::User).or_default().insert(owner.clone());
        }
        ids
    }

    fn fill(&mut self, addresses: &Addresses) {
        let address = |entity, id: &str| addresses.get(&(entity, id.to_owned())).cloned();
        self.owner_address = self.owner.as_deref().and_then(|owner| address(Entity::User, owner));
        for member in &mut self.members {
            member.address = address(member.entity, &member.id);
        }
        self.has_addresses = true;
    }

    /// The participants by address, without the assigned user, and the names of those who have none.
    fn people(&self) -> (People, Vec<String>) {
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
                _ if self.is_owner(member) => Some(None),
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
            wanted.entry(Entity::User).or_default().insert(owner.clone(), None);
        }
        wanted
    }

    /// An empty roster of a record that is to be created.
    pub(crate) fn of_owner(owner: &str) -> Self {
        Self { owner: Some(owner.to_owned()), links: Entity::ALL.into(), has_addresses: true, ..Self::default() }
    }
}

/// An address that was looked up.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    entity: Entity,
    address: String,
    at: DateTime<Utc>,
}

/// Primary addresses, lower case.
pub(crate) type Addresses = BTreeMap<(Entity, String), String>;

/// True for what EspoCRM takes as an address; an entry of an attendee list may be anything.
#[must_use]
pub fn is_acceptable_address(address: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || "<>(),;:\"[]\\@".contains(c))
    };
    address.is_ascii()
        && address.len() <= 254
        && address.split_once('@').is_some_and(|(local, domain)| {
            good(local) && good(domain) && domain.contains('.') && !domain.split('.').any(str::is_empty)
        })
}

impl Client {
    /// Who has these addresses (given and answered in lower case), users before contacts before leads. An address that
    /// nobody has is not in the answer. Users who are switched off are passed over.
    pub async fn people_by_address(&self, addresses: &[String]) -> Result<BTreeMap<String, Vec<Found>>> {
        let mut open: BTreeSet<String> = addresses
            .iter()
            .map(|address| text::address(address))
            .filter(|address| is_acceptable_address(address))
            .collect();
        let mut people = BTreeMap::new();
        for entity in Entity::ALL {
            let batch: Vec<String> = open.iter().cloned().collect();
            for chunk in batch.chunks(IN_MAX / 2) {
                for (address, found) in self.with_addresses(entity, chunk).await? {
                    open.remove(&address);
                    people.insert(address, found);
                }
            }
        }
        Ok(people)
    }

    async fn with_addresses(&self, entity: Entity, addresses: &[String]) -> Result<BTreeMap<String, Vec<Found>>> {
        let rows = self.matching(entity, Where::In("emailAddress", addresses.to_vec())).await?;
        let mut people = BTreeMap::<String, Vec<Found>>::new();
        for (found, primary) in &rows {
            if let Some(address) = primary.as_ref().filter(|primary| addresses.contains(primary)) {
                people.entry(address.clone()).or_default().push(found.clone());
            }
        }
        // With rows at all, each of them may have matched by a secondary address that the answer does not name.
        if !rows.is_empty() && addresses.len() == 1 {
            if let Some(address) = addresses.first() {
                people.insert(address.clone(), rows.into_iter().map(|(found, _)| found).collect());
            }
        } else if !rows.is_empty() {
            for address in addresses {
                if people.contains_key(address) {
                    continue;
                }
                let rows = self.matching(entity, Where::equals("emailAddress", address.clone())).await?;
                if !rows.is_empty() {
                    people.insert(address.clone(), rows.into_iter().map(|(found, _)| found).collect());
                }
            }
        }
        Ok(people)
    }

    /// The rows of a list of people, oldest first, with their primary addresses. An entity that the key may not read is empty.
    async fn matching(&self, entity: Entity, condition: Where) -> Result<Vec<(Found, Option<String>)>> {
        let mut select = vec!["name", "emailAddress"];
        if entity == Entity::User {
            select.extend(["userName", "isActive"]);
        }
        let mut list = List::new(vec![condition], select);
        list.order = Some("createdAt");
        let answer = self.send(&Call::list(entity.as_str(), &list)).await?;
        if answer.status == 403 && entity != Entity::User {
            tracing::warn!(
                entity = entity.as_str(),
                "participants of this kind are passed over: the API user may not read them"
            );
            return Ok(Vec::new());
        }
        let rows: Rows = answer.json()?;
        let active = |row: &Map<String, Json>| row.get("isActive").and_then(Json::as_bool).unwrap_or(true);
        rows.list.iter().filter(|row| active(row)).map(|row| found(entity, row)).collect()
    }

    /// The primary addresses of people; who has none, or may not be read, is not in the answer.
    pub(crate) async fn addresses_of(&self, ids: BTreeMap<Entity, BTreeSet<String>>) -> Result<Addresses> {
        let mut addresses = Addresses::new();
        for (entity, ids) in ids {
            let missing = self.remembered(entity, ids, &mut addresses);
            for chunk in missing.chunks(IN_MAX) {
                for (found, address) in self.matching_ids(entity, chunk).await? {
                    if let Some(address) = address {
                        self.remember(entity, &found.id, &address);
                        addresses.insert((entity, found.id), address);
                    }
                }
            }
        }
        Ok(addresses)
    }

    async fn matching_ids(&self, entity: Entity, ids: &[String]) -> Result<Vec<(Found, Option<String>)>> {
        let list = List::new(vec![Where::In("id", ids.to_vec())], ["name", "emailAddress"]);
        let answer = self.send(&Call::list(entity.as_str(), &list)).await?;
        if answer.status == 403 && entity != Entity::User {
            return Ok(Vec::new());
        }
        answer.json::<Rows>()?.list.iter().map(|row| found(entity, row)).collect()
    }

    fn remembered(&self, entity: Entity, ids: BTreeSet<String>, addresses: &mut Addresses) -> Vec<String> {
        let now = self.now();
        let mut known = self.addresses().lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, entry| (now - entry.at).abs() < REMEMBERED);
        let mut missing = Vec::new();
        for id in ids {
            match known.get(&id).filter(|entry| entry.entity == entity) {
                Some(entry) => drop(addresses.insert((entity, id), entry.address.clone())),
                None => missing.push(id),
            }
        }
        missing
    }

    fn remember(&self, entity: Entity, id: &str, address: &str) {
        let entry = Remembered { entity, address: address.to_owned(), at: self.now() };
        self.addresses().lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), entry);
    }

    /// Looks up the addresses of the drafts' participants and makes records of them.
    pub(crate) async fn finish(&self, drafts: Vec<Draft>) -> Result<Vec<Fetched>> {
        let mut ids = BTreeMap::<Entity, BTreeSet<String>>::new();
        for (entity, some) in drafts.iter().flat_map(|draft| draft.roster.ids()) {
            ids.entry(entity).or_default().extend(some);
        }
        let addresses = self.addresses_of(ids).await?;
        Ok(drafts.into_iter().map(|draft| finished(draft, Some(&addresses))).collect())
    }

    /// After a write the record is told even when the addresses cannot be read: its participants are then unknown.
    pub(crate) async fn finish_written(&self, draft: Draft) -> Fetched {
        match self.addresses_of(draft.roster.ids()).await {
            Ok(addresses) => finished(draft, Some(&addresses)),
            Err(error) => {
                tracing::warn!(%error, "the addresses of the participants could not be read after a write");
                finished(draft, None)
            }
        }
    }

    /// Makes a person of an address, or finds the one that has it meanwhile. None when EspoCRM refuses the address.
    pub async fn create_person(
        &self,
        kind: PersonKind,
        address: &str,
        name: Option<&str>,
        owner: Option<&str>,
    ) -> Result<Option<Found>> {
        let address = text::address(address);
        if !is_acceptable_address(&address) {
            return Ok(None);
        }
        let _one_at_a_time = self.creating().lock().await;
        if let Some(found) = self.first_with(&address).await? {
            return Ok(Some(found));
        }
        let entity = kind.entity();
        let call = Call::new(Method::POST, &[entity.as_str()]).body(person_body(&address, name, owner));
        let mut answer = self.send(&call).await?;
        if answer.status == 409 {
            // Made meanwhile by somebody else; or it is a namesake with another address.
            if let Some(found) = self.first_with(&address).await? {
                return Ok(Some(found));
            }
            answer = self.send(&call.header("X-Skip-Duplicate-Check", "true")).await?;
        }
        if answer.status == 400 && answer.reason.as_deref().is_some_and(|reason| reason.contains("emailAddress")) {
            return Ok(None);
        }
        let row: Map<String, Json> = answer.json()?;
        found(entity, &row).map(|(found, _)| Some(found)).map_err(Error::after_write)
    }

    async fn first_with(&self, address: &str) -> Result<Option<Found>> {
        let people = self.people_by_address(&[address.to_owned()]).await?;
        Ok(people.into_values().flatten().next())
    }
}

fn finished(draft: Draft, addresses: Option<&Addresses>) -> Fetched {
    let Draft { mut record, mut roster, version, reminders } = draft;
    if let Some(addresses) = addresses.filter(|_| !roster.links.is_empty()) {
        roster.fill(addresses);
        tell_people(&mut record, &roster);
    }
    Fetched { record, roster, fallback: None, version, reminders }
}

fn tell_people(record: &mut Record, roster: &Roster) {
    let (people, nameless) = roster.people();
    record.values.insert(Field::Participants, Value::People(people));
    record.without_address = nameless;
}

fn found(entity: Entity, row: &Map<String, Json>) -> Result<(Found, Option<String>)> {
    let text = |name: &str| row.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    let id = text("id").ok_or_else(|| unexpected(format!("a {} without an id", entity.as_str())))?.to_owned();
    let address = text("emailAddress").map(text::address);
    let name =
        text("name").or_else(|| text("userName")).map(str::to_owned).or_else(|| address.clone()).unwrap_or_default();
    Ok((Found { entity, id, name }, address))
}

/// Names are at most 100 characters each and hold none of `<>=`; a last name is required.
fn person_body(address: &str, name: Option<&str>, owner: Option<&str>) -> Json {
    let cut = |text: &str| text.chars().take(100).collect::<String>();
    let clean: String =
        name.unwrap_or_default().chars().map(|c| if c.is_control() || "<>=".contains(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = clean.split_whitespace().collect();
    let (first, last) = match words.as_slice() {
        // Outlook shows the address itself where it knows no name.
        [] => (String::new(), address.split('@').next().unwrap_or(address).to_owned()),
        [only] if only.contains('@') => (String::new(), address.split('@').next().unwrap_or(address).to_owned()),
        // "Kunde, Clara"
        [last, first @ ..] if last.ends_with(',') && !first.is_empty() => {
            (first.join(" "), last.trim_end_matches(',').to_owned())
        }
        [first @ .., last] => (first.join(" "), (*last).to_owned()),
    };
    let mut body = json!({ "lastName": cut(&last), "emailAddress": address });
    if let Some(body) = body.as_object_mut() {
        if !first.is_empty() {
            body.insert("firstName".to_owned(), cut(&first).into());
        }
        if let Some(owner) = owner {
            body.insert("assignedUserId".to_owned(), owner.into());
        }
    }
    body
}

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

    #[test]
    fn names_are_split_and_made_acceptable() {
        let body = |name| person_body("c.kunde@y.example", name, None);
        assert_eq!(
            body(Some("Clara Maria Kunde")),
            json!({"firstName": "Clara Maria", "lastName": "Kunde", "emailAddress": "c.kunde@y.example"})
        );
        assert_eq!(body(Some("Kunde, Clara"))["firstName"], "Clara");
        assert_eq!(body(Some("<Kunde>"))["lastName"], "Kunde");
        assert_eq!(body(Some("c.kunde@y.example"))["lastName"], "c.kunde");
        assert_eq!(body(None)["lastName"], "c.kunde");
    }

    #[test]
    fn strange_addresses_are_not_sent_to_espocrm() {
        assert!(is_acceptable_address("a.b+c@mail.example"));
        for strange in ["", "room", "a@b", "a b@c.de", "a@b@c.de", "a@.de", "/o=org/cn=x", "x@y..de"] {
            assert!(!is_acceptable_address(strange), "{strange}");
        }
    }
}
