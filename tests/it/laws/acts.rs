//! What people do, in EspoCRM's web client, Outlook, To Do, and elsewhere.

use serde_json::{Value, json};
use simulators::microsoft::Person;
use sync::{Kind, Side};

use super::ends::{
    End, OCCURRENCES, OUTSIDER, SERIES, WHOLE_DAY, address, fields, graph_time, items, records, tag_by_title,
    tag_of_day, times, title, user,
};
use super::play::{Play, Told};
use super::stage::epoch;
use super::story::{Act, What, Who, Word};
use crate::support::mail;

impl Play<'_> {
    /// What a record is about: of occurrences, as their links say.
    pub fn tag_of_record(&self, record: &End) -> Option<u8> {
        self.occurrences.get(&record.id).copied().or_else(|| tag_by_title(&record.json))
    }

    /// Learns which records are occurrences of a series.
    pub async fn learn(&mut self) {
        if !self.told.keys().any(|tag| *tag >= SERIES) {
            return;
        }
        let owner = &self.stage.ids["anna"];
        let links = store::links::live_of_user(self.app.store().read(), owner, None, 500).await.unwrap();
        for link in links {
            if let (Some(id), Some((_, Some(original)))) = (link.record_id, link.occurrence)
                && let Some(tag) = tag_of_day(original.date_naive())
            {
                self.occurrences.insert(id, tag);
            }
        }
    }

    pub fn record(&self, tag: u8) -> Option<End> {
        records(self.stage).into_iter().find(|record| self.tag_of_record(record) == Some(tag))
    }

    pub fn item(&self, tag: u8) -> Option<End> {
        items(self.stage).into_iter().find(|item| item.tag_of_item() == Some(tag))
    }

    fn person(&self, name: &str) -> Person {
        self.stage.graph.person(&mail(name))
    }

    fn put(&self, record: &End, body: &Value) {
        self.stage.espo.write_as("anna", "PUT", record.kind.entity(), Some(&record.id), body).unwrap();
    }

    /// False when there was nothing to do it to.
    pub fn act(&mut self, act: &Act) -> bool {
        let done = self.try_act(act).is_some();
        if done {
            self.note(act);
        }
        self.gather();
        done
    }

    /// The same of what may have been done before the service knew of it.
    pub async fn act_at_any_time(&mut self, act: &Act) {
        let (is_unseen, is_unmet) = (self.is_unseen(act).await, self.is_unmet(act).await);
        if self.act(act) {
            let told = self.told.entry(act.tag()).or_default();
            if is_unseen {
                told.answers.pop();
            }
            if is_unmet {
                told.deleted.remove(&Side::Espo);
            }
        }
    }

    /// True for the deletion of a record that the service has made and not heard of: EspoCRM shows nobody what is deleted, so it is
    /// made once more.
    async fn is_unmet(&self, act: &Act) -> bool {
        let Act::Delete { tag, side: Side::Espo } = act else { return false };
        let told = self.told.get(tag);
        if told.is_none_or(|told| told.made != Some(Side::Outlook) || !told.deleted.is_empty()) {
            return false;
        }
        let Some(record) = self.record(*tag) else { return false };
        store::links::by_record(self.app.store().read(), record.kind, &record.id).await.unwrap().is_none()
    }

    /// True for the deletion of a copy that the service has not met yet. Exchange tells nobody of it (Graph facts, "Attendee
    /// DELETE"), and by an id that was never seen the service cannot tell what is gone.
    async fn is_unseen(&self, act: &Act) -> bool {
        let Act::Answer { tag, side: Side::Outlook, who, word: Word::Delete } = act else { return false };
        let (Some(name), Some(item)) = (user(*who), self.item(*tag)) else { return false };
        let Some(copy) = self.copy_of(name, &item) else { return false };
        let (store, id) = (self.app.store().read(), copy["id"].as_str().unwrap_or_default());
        store::links::by_item(store, &self.stage.ids[name], id).await.unwrap().is_none()
    }

    fn copy_of(&self, name: &str, item: &End) -> Option<Value> {
        self.person(name).events().into_iter().find(|copy| copy["iCalUId"] == item.json["iCalUId"])
    }

    fn note(&mut self, act: &Act) {
        if let Act::Repeat { tag, .. } | Act::Retitle { tag, .. } | Act::End { tag } = act {
            for of in *tag..*tag + OCCURRENCES {
                let told = self.told.entry(of).or_default();
                told.note_series(act);
            }
        } else {
            self.told.entry(act.tag()).or_default().note(act);
        }
    }

    fn try_act(&self, act: &Act) -> Option<()> {
        match act {
            Act::Create { tag, kind, by, side, value } => self.create((*tag, *kind), *by, *side, *value)?,
            Act::Edit { tag, side, what, value } => self.edit(*tag, *side, *what, *value)?,
            Act::Delete { tag, side } => self.delete(*tag, *side)?,
            Act::Invite { tag, side, who } => self.invite(*tag, *side, *who, true)?,
            Act::Uninvite { tag, side, who } => self.invite(*tag, *side, *who, false)?,
            Act::Answer { tag, side, who, word } => self.answer(*tag, *side, *who, *word)?,
            Act::Touch { tag } => {
                let item = self.item(*tag).filter(|item| item.kind.is_event())?;
                self.person(item.user).touch_event(&item.id).unwrap();
            }
            Act::Assign { tag, to } => {
                let (record, to) = (self.record(*tag)?, &self.stage.ids[user(*to)?]);
                if record.json["assignedUserId"] == to.as_str() {
                    return None;
                }
                self.put(&record, &json!({ "assignedUserId": to }));
            }
            Act::Switch { tag, on } => {
                let record = self.record(*tag).filter(|record| record.json["cSyncWithOutlook"] == !on)?;
                self.put(&record, &json!({ "cSyncWithOutlook": on }));
            }
            Act::Repeat { tag, value } => self.repeat(*tag, *value),
            Act::Retitle { tag, value } => {
                self.person("anna").patch_event(&self.master(*tag)?, json!({ "subject": title(*tag, *value) })).ok()?;
            }
            Act::End { tag } => self.person("anna").delete_event(&self.master(*tag)?).ok()?,
            Act::Asked { tag, value } => {
                let (start, end) = times(*tag, *value);
                self.person("anna").invited(&title(*tag, *value), OUTSIDER, start, end, &[]).unwrap();
            }
            Act::CalledOff { tag } => {
                let item = self.item(*tag).filter(End::is_outside)?;
                self.person(item.user).organizer_cancels(&item.id).ok()?;
            }
        }
        Some(())
    }

    fn create(&self, (tag, kind): (u8, Kind), by: Who, side: Side, value: u16) -> Option<()> {
        let name = user(by)?;
        let mut body = fields(side, kind, tag, What::Title, value);
        let time = fields(side, kind, tag, What::Time, value);
        body.as_object_mut()?.extend(time.as_object()?.clone());
        match side {
            Side::Espo => {
                body["assignedUserId"] = json!(self.stage.ids[name]);
                self.stage.espo.write_as(name, "POST", kind.entity(), None, &body).unwrap();
            }
            Side::Outlook if kind == Kind::Task => drop(self.person(name).create_task(body).unwrap()),
            Side::Outlook => {
                if kind == Kind::Call {
                    body["categories"] = json!(["Call"]);
                }
                self.person(name).create_event(body).unwrap();
            }
        }
        Some(())
    }

    fn edit(&self, tag: u8, side: Side, what: What, value: u16) -> Option<()> {
        if side == Side::Espo {
            let record = self.record(tag)?;
            self.put(&record, &fields(side, record.kind, tag, what, value));
            return Some(());
        }
        let item = self.item(tag)?;
        let (person, body) = (self.person(item.user), fields(side, item.kind, tag, what, value));
        if item.kind == Kind::Task {
            person.patch_task(&item.id, body).ok().map(drop)
        } else if item.is_outside() {
            person.organizer_changes(&item.id, body).ok()
        } else {
            person.patch_event(&item.id, body).ok().map(drop)
        }
    }

    fn delete(&self, tag: u8, side: Side) -> Option<()> {
        if side == Side::Espo {
            let record = self.record(tag)?;
            let entity = record.kind.entity();
            self.stage.espo.write_as("anna", "DELETE", entity, Some(&record.id), &Value::Null).unwrap();
            return Some(());
        }
        let item = self.item(tag).filter(|item| !item.is_outside())?;
        let person = self.person(item.user);
        if item.kind == Kind::Task { person.delete_task(&item.id).ok() } else { person.delete_event(&item.id).ok() }
    }

    /// A series on one day a week.
    fn repeat(&self, tag: u8, value: u16) {
        let (start, end) = times(tag, value);
        let weekday = start.format("%A").to_string().to_lowercase();
        let recurrence = json!({
            "pattern": { "type": "weekly", "interval": 1, "daysOfWeek": [weekday] },
            "range": { "type": "numbered", "startDate": start.date_naive().to_string(), "numberOfOccurrences": OCCURRENCES },
        });
        let body = json!({ "subject": title(tag, value), "start": graph_time(start), "end": graph_time(end),
            "recurrence": recurrence });
        self.person("anna").create_event(body).unwrap();
    }

    /// The id of a series.
    fn master(&self, tag: u8) -> Option<String> {
        let of = |event: &Value| {
            event["type"] == "seriesMaster"
                && event["start"]["dateTime"].as_str().is_some_and(|start| {
                    let day = (epoch() + (times(tag, 0).0 - epoch())).date_naive();
                    start.starts_with(&day.to_string())
                })
        };
        self.person("anna").events().into_iter().find(of)?["id"].as_str().map(str::to_owned)
    }

    /// None when it is so already.
    fn invite(&self, tag: u8, side: Side, who: Who, come: bool) -> Option<()> {
        if side == Side::Outlook {
            let item = self.item(tag).filter(|item| item.kind.is_event() && !item.is_outside())?;
            let mut people = item.json["attendees"].as_array().cloned().unwrap_or_default();
            let is_meant = |one: &Value| one["emailAddress"]["address"] == address(who).as_str();
            if mail(item.user) == address(who) || people.iter().any(is_meant) == come {
                return None;
            }
            people.retain(|one| !is_meant(one));
            if come {
                let who = json!({ "address": address(who), "name": format!("{who:?} Test") });
                people.push(json!({ "type": "required", "emailAddress": who }));
            }
            return self.person(item.user).patch_event(&item.id, json!({ "attendees": people })).ok().map(drop);
        }
        let (link, own) = match who {
            Who::Anna | Who::Boris | Who::Zoe => ("usersIds", self.stage.ids[user(who)?].clone()),
            Who::Carl => ("contactsIds", self.stage.carl.clone()),
            Who::Nina => return None,
        };
        let record = self.record(tag).filter(|record| record.kind.is_event())?;
        let mut ids: Vec<Value> = record.json[link].as_array().cloned().unwrap_or_default();
        if record.json["assignedUserId"] == own.as_str() || ids.iter().any(|one| *one == own.as_str()) == come {
            return None;
        }
        ids.retain(|one| *one != own.as_str());
        if come {
            ids.push(json!(own));
        }
        self.put(&record, &json!({ link: ids }));
        Some(())
    }

    /// In one's own Outlook, or with the buttons in EspoCRM; of somebody outside the answer arrives at the organizer's item.
    fn answer(&self, tag: u8, side: Side, who: Who, word: Word) -> Option<()> {
        if side == Side::Espo {
            let record = self.record(tag).filter(|record| record.kind.is_event())?;
            let status = match word {
                Word::Accept => "Accepted",
                Word::Tentative => "Tentative",
                Word::Decline | Word::Delete => "Declined",
            };
            return self.stage.espo.set_acceptance(user(who)?, record.kind.entity(), &record.id, status).ok();
        }
        let item = self.item(tag).filter(|item| item.kind.is_event() && !item.is_outside())?;
        let attendees = item.json["attendees"].as_array()?;
        if !attendees.iter().any(|one| one["emailAddress"]["address"] == address(who).as_str()) {
            return None;
        }
        let Some(name) = user(who) else {
            let word = match word {
                Word::Accept => "accepted",
                Word::Tentative => "tentativelyAccepted",
                Word::Decline | Word::Delete => "declined",
            };
            return self.person(item.user).attendee_answers(&item.id, &address(who), word).ok();
        };
        let own = self.person(name);
        let copy = self.copy_of(name, &item)?;
        let id = copy["id"].as_str()?;
        match word {
            Word::Accept => own.respond(id, "accept").ok(),
            Word::Tentative => own.respond(id, "tentativelyAccept").ok(),
            Word::Decline => own.respond(id, "decline").ok(),
            Word::Delete => own.delete_event(id).ok(),
        }
    }
}

impl Told {
    fn give(&mut self, what: What, side: Side, value: u16) {
        let (what, value) = if what == What::Day { (What::Time, value + WHOLE_DAY) } else { (what, value) };
        self.given.entry(what).or_default().push((side, value));
    }

    fn note_series(&mut self, act: &Act) {
        self.acts += 1;
        match act {
            Act::Repeat { value, .. } => {
                self.begin(Side::Outlook, Who::Anna, Kind::Meeting, *value);
            }
            Act::Retitle { .. } => self.retitled = true,
            _ => drop(self.deleted.insert(Side::Outlook)),
        }
    }

    fn begin(&mut self, side: Side, by: Who, kind: Kind, value: u16) {
        (self.kind, self.owner, self.made) = (kind, by, Some(side));
        for what in [What::Title, What::Time] {
            self.give(what, side, value);
        }
    }

    fn note(&mut self, act: &Act) {
        self.acts += 1;
        match act {
            Act::Create { kind, by, side, value, .. } => self.begin(*side, *by, *kind, *value),
            Act::Asked { value, .. } => {
                self.begin(Side::Outlook, Who::Anna, Kind::Meeting, *value);
                self.outside = true;
            }
            Act::CalledOff { .. } => self.called_off = true,
            Act::Edit { side, what, value, .. } => {
                self.give(*what, *side, *value);
                self.edited.insert(*side);
            }
            Act::Delete { side, .. } => {
                self.deleted.insert(*side);
                self.deleted_off |= *side == Side::Espo && self.off;
            }
            Act::Invite { side, who, .. } => self.people.push((*who, *side, true)),
            Act::Uninvite { side, who, .. } => self.people.push((*who, *side, false)),
            Act::Assign { to, .. } => {
                (self.owner, self.moved) = (*to, true);
                self.edited.insert(Side::Espo);
            }
            Act::Switch { on, .. } => (self.switched, self.off) = (true, !on),
            Act::Answer { side, who, word, .. } => self.answers.push((*who, *side, *word)),
            Act::Touch { .. } | Act::Repeat { .. } | Act::Retitle { .. } | Act::End { .. } => {}
        }
    }
}
