//! Participants: users, contacts and leads on the one side, e-mail addresses on the other.
//!
//! Facts (EspoCRM 9.3): `in` and `equals` on `emailAddress` match secondary addresses too, the answer names only the primary
//! one; addresses are stored in lower case beside the written form, and `in` wants lower case; creating a Contact or Lead whose
//! address or name exists already is answered with 409 `duplicate`, unless `X-Skip-Duplicate-Check` is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};
use sync::{Field, Record, Value, text};

use crate::client::{Acting, Client};
use crate::error::unexpected;
use crate::map::Draft;
use crate::query::{IN_MAX, List, Where};
use crate::records::Fetched;
use crate::roster::{Addresses, Entity, Found, Roster};
use crate::wire::{Answer, Call, Rows};
use crate::{Error, Result};

/// How long a looked-up address is trusted: long enough for the records of one page, short enough for an edit to be seen.
const REMEMBERED: TimeDelta = TimeDelta::seconds(15);

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

/// An address that was looked up.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    entity: Entity,
    address: String,
    at: DateTime<Utc>,
}

/// Somebody who is to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewPerson<'a> {
    /// What of.
    pub kind: PersonKind,
    /// The address, or the key of who has a name only ([`text::key_of_name`]).
    pub key: &'a str,
    /// The name.
    pub name: Option<&'a str>,
    /// The assigned user.
    pub owner: Option<&'a str>,
}

/// True for what can be an address at all: fields of EspoCRM and entries of an attendee list may hold anything.
pub(crate) fn is_address(address: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || "<>(),;:\"[]\\@".contains(c))
    };
    address.split_once('@').is_some_and(|(local, domain)| good(local) && good(domain))
}

/// True for what EspoCRM takes as an address.
#[must_use]
pub fn is_acceptable_address(address: &str) -> bool {
    let (_, domain) = address.split_once('@').unwrap_or_default();
    is_address(address)
        && address.is_ascii()
        && address.len() <= 254
        && domain.contains('.')
        && !domain.split('.').any(str::is_empty)
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

    /// The same for records that are compared and not written: of those without another participant nothing is looked up.
    pub(crate) async fn finish_for_others(&self, drafts: Vec<Draft>) -> Result<Vec<Fetched>> {
        let mut ids = BTreeMap::<Entity, BTreeSet<String>>::new();
        for (entity, some) in
            drafts.iter().filter(|draft| draft.roster.has_others()).flat_map(|draft| draft.roster.ids())
        {
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

    /// Makes a person, or finds the one that is there meanwhile. None when EspoCRM refuses it for good: the address, the name, or
    /// that the user and the API user make somebody.
    pub async fn create_person(&self, new: NewPerson<'_>, acting: Acting<'_>) -> Result<Option<Found>> {
        let address = (!text::is_name_only(new.key)).then(|| text::address(new.key));
        if address.as_deref().is_some_and(|address| !is_acceptable_address(address)) {
            return Ok(None);
        }
        let entity = new.kind.entity();
        let body = person_body(address.as_deref(), new.name, new.owner);
        let _one_at_a_time = self.creating().lock().await;
        let known = match &address {
            Some(address) => self.first_with(address).await?,
            None => self.first_named(entity, &body).await?,
        };
        if known.is_some() {
            return Ok(known);
        }
        let call = || Call::new(Method::POST, &[entity.as_str()]).body(body.clone());
        let mut answer = self.person_answer(call(), acting).await?;
        if answer.status == 409 {
            // Made meanwhile by somebody else; or it is a namesake with another address.
            let known = match &address {
                Some(address) => self.first_with(address).await?,
                // Without an address there is nothing but the name to tell people apart by.
                None => {
                    let twins: Vec<Map<String, Json>> = serde_json::from_slice(&answer.body).unwrap_or_default();
                    twins.first().map(|row| found(entity, row)).transpose()?.map(|(found, _)| found)
                }
            };
            if known.is_some() {
                return Ok(known);
            }
            answer = self.person_answer(call().header("X-Skip-Duplicate-Check", "true"), acting).await?;
        }
        let row: Map<String, Json> = match answer.json() {
            Err(error @ (Error::Forbidden { .. } | Error::Invalid { .. })) => {
                tracing::warn!(%error, "a participant is left out: EspoCRM refuses to make somebody of it");
                return Ok(None);
            }
            row => row?,
        };
        found(entity, &row).map(|(found, _)| Some(found)).map_err(Error::after_write)
    }

    async fn person_answer(&self, call: Call, acting: Acting<'_>) -> Result<Answer> {
        let request = call.shown();
        let acted = self.send_as(call, acting).await?;
        acted.answer.ok_or_else(|| unexpected(format!("{request} was not sent")))
    }

    /// Who was made of a name before: nobody who has an address.
    async fn first_named(&self, entity: Entity, body: &Json) -> Result<Option<Found>> {
        let part = |name: &str| body.get(name).and_then(Json::as_str);
        let Some(last) = part("lastName") else { return Ok(None) };
        let full = part("firstName").map_or_else(|| last.to_owned(), |first| format!("{first} {last}"));
        let rows = self.matching(entity, Where::equals("lastName", last)).await?;
        let is_it = |(found, address): &(Found, Option<String>)| address.is_none() && found.name == full;
        Ok(rows.into_iter().find(is_it).map(|(found, _)| found))
    }

    async fn first_with(&self, address: &str) -> Result<Option<Found>> {
        let people = self.people_by_address(&[address.to_owned()]).await?;
        Ok(people.into_values().flatten().next())
    }
}

fn finished(draft: Draft, addresses: Option<&Addresses>) -> Fetched {
    let Draft { mut record, mut roster, item, version, reminders, files, writer } = draft;
    if let Some(addresses) = addresses.filter(|_| !roster.links.is_empty()) {
        roster.fill(addresses);
        tell_people(&mut record, &roster);
    }
    Fetched { record, roster, fallback: None, item, files, writer, version, reminders }
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
fn person_body(address: Option<&str>, name: Option<&str>, owner: Option<&str>) -> Json {
    let local = || address.and_then(|address| address.split('@').next()).unwrap_or(text::UNTITLED).to_owned();
    let cut = |text: &str| text.chars().take(100).collect::<String>();
    let clean: String =
        name.unwrap_or_default().chars().map(|c| if c.is_control() || "<>=".contains(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = clean.split_whitespace().collect();
    let (first, last) = match words.as_slice() {
        // Outlook shows the address itself where it knows no name.
        [] => (String::new(), local()),
        [only] if only.contains('@') && address.is_some() => (String::new(), local()),
        // "Kunde, Clara"
        [last, first @ ..] if last.ends_with(',') && !first.is_empty() => {
            (first.join(" "), last.trim_end_matches(',').to_owned())
        }
        [first @ .., last] => (first.join(" "), (*last).to_owned()),
    };
    let mut body = json!({ "lastName": cut(&last) });
    if let Some(body) = body.as_object_mut() {
        if let Some(address) = address {
            body.insert("emailAddress".to_owned(), address.into());
        }
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

    #[test]
    fn names_are_split_and_made_acceptable() {
        let body = |name| person_body(Some("c.kunde@y.example"), name, None);
        assert_eq!(
            body(Some("Clara Maria Kunde")),
            json!({"firstName": "Clara Maria", "lastName": "Kunde", "emailAddress": "c.kunde@y.example"})
        );
        assert_eq!(body(Some("Kunde, Clara"))["firstName"], "Clara");
        assert_eq!(body(Some("<Kunde>"))["lastName"], "Kunde");
        assert_eq!(body(Some("c.kunde@y.example"))["lastName"], "c.kunde");
        assert_eq!(body(None)["lastName"], "c.kunde");
        assert_eq!(person_body(None, Some("Walk In"), None), json!({"firstName": "Walk", "lastName": "In"}));
    }

    #[test]
    fn strange_addresses_are_not_sent_to_espocrm() {
        assert!(is_acceptable_address("a.b+c@mail.example"));
        for strange in ["", "room", "a@b", "a b@c.de", "a@b@c.de", "a@.de", "/o=org/cn=x", "x@y..de"] {
            assert!(!is_acceptable_address(strange), "{strange}");
        }
    }
}
