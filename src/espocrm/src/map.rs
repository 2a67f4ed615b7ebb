//! EspoCRM's JSON and the values of [`sync`], both ways.
//!
//! Facts (EspoCRM 9.3): date-times are UTC `YYYY-MM-DD HH:MM:SS` (a form without seconds is kept as sent); `dateStartDate` and
//! `dateEndDate` (inclusive) win over `dateStart` and `dateEnd`, and both must be sent as null to make a record timed; a PUT of
//! one end moves the other; lists cut text at 10 000 characters, never hold reminders, and the answer to a POST leaves out
//! attributes that are null.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value as Json, json};
use sync::{Answer, Day, Field, Files, Importance, Kind, Record, Status, Value, Values, When, text};

use crate::error::unexpected;
use crate::query::moment;
use crate::roster::{Entity, Member, Roster};
use crate::{Error, KindSchema, Result};

/// `maxSelectTextAttributeLengthForList`: a longer text of a list may have been cut.
const LIST_TEXT_MAX: usize = 10_000;

/// Which answer JSON is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A read or a PUT: what is absent may not be read.
    Whole,
    /// A list row.
    List,
    /// A POST: what is absent is null.
    Created,
}

/// A record whose participants have no addresses yet.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) record: Record,
    pub(crate) roster: Roster,
    pub(crate) item: Option<String>,
    pub(crate) version: Option<i64>,
    pub(crate) reminders: Option<Vec<Json>>,
    pub(crate) files: Option<BTreeMap<String, String>>,
    pub(crate) writer: Option<String>,
}

/// The attributes that a list must be asked for.
pub(crate) fn selection(kind: Kind, schema: &KindSchema) -> Vec<String> {
    let mut names = vec!["id", "name", "description", "status", "dateStart", "dateEnd", "createdAt", "modifiedAt"];
    if kind != Kind::Call {
        names.extend(["dateStartDate", "dateEndDate"]);
    }
    if kind.is_event() {
        names.extend(["usersIds", "contactsIds", "leadsIds"]);
    } else {
        names.push("priority");
    }
    names.push(if schema.many_owners { "assignedUsersIds" } else { "assignedUserId" });
    let optional = [&schema.location, &schema.switch, &schema.marker];
    let extras = schema.extras.iter().map(|extra| extra.attribute.clone());
    names.into_iter().map(str::to_owned).chain(optional.into_iter().flatten().cloned()).chain(extras).collect()
}

/// Reads a record. `own`: the JSON was read as the record's owner, whose reminders it holds.
pub(crate) fn draft(
    kind: Kind,
    schema: &KindSchema,
    row: &Map<String, Json>,
    source: Source,
    reader: Option<&str>,
) -> Result<Draft> {
    let row = Row { row, source, kind };
    let id = row.text("id")?.flatten().ok_or_else(|| row.wrong("id"))?;
    let created = row.moment("createdAt")?;
    let modified = row.moment("modifiedAt")?.or(created).ok_or_else(|| row.wrong("modifiedAt"))?;
    let owner = row.owner(schema)?;
    let own = reader.is_some() && reader == owner.as_deref();
    let reminders = row.reminders(own)?;
    let (marker, item) = marks(schema, row.row);
    let record = Record {
        switch: schema.switch.as_ref().and_then(|name| row.row.get(name)?.as_bool()),
        marker,
        modified,
        created: created.unwrap_or(modified),
        without_address: Vec::new(),
        values: row.values(schema, reminders.as_deref())?,
        id,
        kind,
        owner: owner.clone(),
    };
    let version = row.row.get("versionNumber").and_then(Json::as_i64);
    let writer = match row.filled("modifiedById")? {
        None => row.filled("createdById")?,
        writer => writer,
    };
    Ok(Draft { record, roster: row.roster(owner)?, item, version, reminders, files: row.files()?, writer })
}

/// The marker: the id of a link and, after a `;`, the item in short.
fn marks(schema: &KindSchema, row: &Map<String, Json>) -> (Option<String>, Option<String>) {
    let text = schema.marker.as_ref().and_then(|name| row.get(name)?.as_str()).unwrap_or_default();
    let (marker, item) = text.split_once(';').unwrap_or((text, ""));
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    (filled(marker), filled(item))
}

struct Row<'a> {
    row: &'a Map<String, Json>,
    source: Source,
    kind: Kind,
}

impl Row<'_> {
    fn wrong(&self, name: &str) -> Error {
        let value = self
            .row
            .get(name)
            .map_or_else(|| "nothing".to_owned(), |value| value.to_string().chars().take(80).collect());
        unexpected(format!("{}.{name} is {value}", self.kind.entity()))
    }

    /// Absent; null; or a text.
    fn text(&self, name: &str) -> Result<Option<Option<String>>> {
        match self.row.get(name) {
            Some(Json::String(text)) => Ok(Some(Some(text.clone()))),
            Some(Json::Null) => Ok(Some(None)),
            None if self.source == Source::Created => Ok(Some(None)),
            None => Ok(None),
            Some(_) => Err(self.wrong(name)),
        }
    }

    /// The text that is there and not empty.
    fn filled(&self, name: &str) -> Result<Option<String>> {
        Ok(self.text(name)?.flatten().filter(|text| !text.is_empty()))
    }

    fn moment(&self, name: &str) -> Result<Option<DateTime<Utc>>> {
        self.filled(name)?.map(|text| parse_moment(&text).ok_or_else(|| self.wrong(name))).transpose()
    }

    fn date(&self, name: &str) -> Result<Option<NaiveDate>> {
        self.filled(name)?.map(|text| text.parse().map_err(|_| self.wrong(name))).transpose()
    }

    fn owner(&self, schema: &KindSchema) -> Result<Option<String>> {
        if schema.many_owners {
            // Their order is not kept by EspoCRM; the smallest id is at least the same one each time.
            return Ok(self.ids("assignedUsersIds")?.and_then(|ids| ids.into_iter().min()));
        }
        self.filled("assignedUserId")
    }

    fn values(&self, schema: &KindSchema, reminders: Option<&[Json]>) -> Result<Values> {
        let mut values = Values::new();
        if let Some(name) = self.text("name")? {
            values.insert(Field::Title, Value::Text(name.unwrap_or_default()));
        }
        if let Some(body) = self.text("description")? {
            let body = body.unwrap_or_default();
            if self.source != Source::List || body.chars().count() < LIST_TEXT_MAX {
                values.insert(Field::Body, Value::Text(text::plain(&body)));
            }
        }
        if let Some(when) = self.when()? {
            values.insert(Field::Time, Value::Time(when));
        }
        if let Some(status) = self.filled("status")? {
            values.insert(Field::Status, Value::Status(Status::from(status)));
        }
        if self.kind == Kind::Task
            && let Some(priority) = self.filled("priority")?
            && let Some(importance) = importance(&priority)
        {
            values.insert(Field::Importance, Value::Importance(importance));
        }
        if let Some(name) = &schema.location
            && let Some(location) = self.text(name)?
        {
            values.insert(Field::Location, Value::Text(location.unwrap_or_default()));
        }
        // What the files are is told by their contents; that there are none is told here.
        if self.files()?.is_some_and(|files| files.is_empty()) {
            values.insert(Field::Attachments, Value::Files(Files::default()));
        }
        for extra in &schema.extras {
            let json = match (self.row.get(&extra.attribute), self.source) {
                (None, Source::Created) => Some(&Json::Null),
                (json, _) => json,
            };
            values.extend(json.and_then(|json| extra.read(json)).map(|value| (extra.field(), value)));
        }
        if let Some(reminders) = reminders {
            values.insert(Field::Reminder, Value::Reminder(reminders.first().and_then(minutes)));
        }
        Ok(values)
    }

    fn when(&self) -> Result<Option<When>> {
        if self.kind == Kind::Task {
            let day = |date: &str, at: &str| -> Result<Option<Day>> {
                Ok(self.date(date)?.map(Day::On).or(self.moment(at)?.map(Day::At)))
            };
            let is_there = self.text("dateEnd")?.is_some();
            let due = When::Due { due: day("dateEndDate", "dateEnd")?, start: day("dateStartDate", "dateStart")? };
            return Ok(is_there.then_some(due));
        }
        if let Some(first) = self.date("dateStartDate")? {
            let last = self.date("dateEndDate")?.unwrap_or(first);
            return Ok(Some(When::AllDay { first, last }));
        }
        let end = self.moment("dateEnd")?;
        Ok(self.moment("dateStart")?.map(|start| When::Timed { start, end }))
    }

    fn reminders(&self, own: bool) -> Result<Option<Vec<Json>>> {
        match self.row.get("reminders") {
            _ if !own || self.source == Source::List => Ok(None),
            Some(Json::Array(reminders)) => Ok(Some(reminders.clone())),
            Some(Json::Null) => Ok(Some(Vec::new())),
            None => Ok(None),
            Some(_) => Err(self.wrong("reminders")),
        }
    }

    fn ids(&self, name: &str) -> Result<Option<Vec<String>>> {
        match self.row.get(name) {
            None => Ok(None),
            Some(Json::Null) => Ok(Some(Vec::new())),
            Some(Json::Array(ids)) => ids
                .iter()
                .map(|id| id.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name)))
                .collect::<Result<_>>()
                .map(Some),
            Some(_) => Err(self.wrong(name)),
        }
    }

    /// The names of a task's attachments, by id.
    fn files(&self) -> Result<Option<BTreeMap<String, String>>> {
        if self.kind != Kind::Task {
            return Ok(None);
        }
        let ids = match self.ids("attachmentsIds")? {
            None if self.source == Source::Created => Some(Vec::new()),
            ids => ids,
        };
        let names = self.row.get("attachmentsNames");
        let name =
            |id: &String| names.and_then(|names| names.get(id)).and_then(Json::as_str).unwrap_or_default().to_owned();
        Ok(ids.map(|ids| ids.into_iter().map(|id| (id.clone(), name(&id))).collect()))
    }

    fn roster(&self, owner: Option<String>) -> Result<Roster> {
        let mut roster = Roster { owner, ..Roster::default() };
        if !self.kind.is_event() {
            return Ok(roster);
        }
        for entity in Entity::ALL {
            let Some(ids) = self.ids(&format!("{}Ids", entity.link()))? else { continue };
            roster.links.insert(entity);
            // Empty maps come as empty lists from PHP, so both lookups may find nothing.
            let part = |suffix: &str, id: &str| {
                self.row.get(&format!("{}{suffix}", entity.link())).and_then(|map| map.get(id))
            };
            for id in ids {
                let name = part("Names", &id).and_then(Json::as_str).map(str::to_owned);
                let status = part("Columns", &id).and_then(|column| column.get("status")).and_then(Json::as_str);
                roster.members.push(Member {
                    entity,
                    name,
                    answer: answer(status.unwrap_or_default()),
                    address: None,
                    id,
                });
            }
        }
        Ok(roster)
    }
}

/// `YYYY-MM-DD HH:MM:SS`, or without seconds.
pub(crate) fn parse_moment(text: &str) -> Option<DateTime<Utc>> {
    let parse = |format| NaiveDateTime::parse_from_str(text, format).ok();
    parse("%Y-%m-%d %H:%M:%S")
        .or_else(|| NaiveDateTime::parse_from_str(&format!("{text}:00"), "%Y-%m-%d %H:%M:%S").ok())
        .map(|at| at.and_utc())
}

fn importance(word: &str) -> Option<Importance> {
    [Importance::Low, Importance::Normal, Importance::High, Importance::Urgent]
        .into_iter()
        .find(|known| known.as_str() == word)
}

fn minutes(reminder: &Json) -> Option<u32> {
    u32::try_from(reminder.get("seconds")?.as_u64()? / 60).ok()
}

pub(crate) fn answer(word: &str) -> Answer {
    match word {
        "Accepted" => Answer::Accepted,
        "Tentative" => Answer::Tentative,
        "Declined" => Answer::Declined,
        _ => Answer::None,
    }
}

pub(crate) const fn answer_word(answer: Answer) -> &'static str {
    match answer {
        Answer::None => "None",
        Answer::Accepted => "Accepted",
        Answer::Tentative => "Tentative",
        Answer::Declined => "Declined",
    }
}

/// The attributes that say these values, participants and reminders apart. What `current` has already is left out.
pub(crate) fn attributes(
    kind: Kind,
    schema: &KindSchema,
    changes: &Values,
    current: Option<&Values>,
) -> Result<Map<String, Json>> {
    let mut body = Map::new();
    for (field, value) in changes {
        let present = current.and_then(|current| current.get(field));
        if present == Some(value) {
            continue;
        }
        let mut put = |name: &str, text: String| {
            if present.and_then(Value::as_text) != Some(text.as_str()) {
                body.insert(name.to_owned(), if text.is_empty() { Json::Null } else { text.into() });
            }
        };
        match (field, value) {
            (Field::Title, Value::Text(title)) => put("name", text::espo_name(title)),
            (Field::Body, Value::Text(words)) => put("description", text::plain(words)),
            (Field::Time, Value::Time(when)) => body.extend(dates(kind, when)?),
            (Field::Status, Value::Status(status)) => {
                body.insert("status".to_owned(), status_word(kind, status)?.into());
            }
            (Field::Importance, Value::Importance(importance)) if kind == Kind::Task => {
                body.insert("priority".to_owned(), importance.as_str().into());
            }
            (Field::Location, Value::Text(place)) => {
                if let Some(name) = &schema.location {
                    put(name, place.chars().take(schema.location_max).collect());
                }
            }
            // Written elsewhere, or by nobody: these have no attribute of their own.
            (Field::Participants, Value::People(_)) | (Field::Reminder, Value::Reminder(_)) => {}
            (Field::Extra(name), value) => {
                let extra = schema.extras.iter().find(|extra| extra.name == *name);
                if let Some((extra, json)) = extra.and_then(|extra| Some((extra, extra.write(value)?)))
                    && (present.is_none() || extra.read(&json).as_ref() != present)
                {
                    body.insert(extra.attribute.clone(), json);
                }
            }
            (Field::Attachments, _) => {}
            (field, value) => {
                return Err(Error::Unwritable { field: field.clone(), what: format!("a {kind} has no {value}") });
            }
        }
    }
    Ok(body)
}

fn status_word(kind: Kind, status: &Status) -> Result<&str> {
    let fits = match status {
        Status::Planned | Status::Held | Status::NotHeld => kind.is_event(),
        Status::NotStarted | Status::Started | Status::Completed | Status::Canceled | Status::Deferred => {
            kind == Kind::Task
        }
        Status::Active | Status::Cancelled | Status::Waiting => false,
        Status::Other(_) => true,
    };
    if fits {
        return Ok(status.as_str());
    }
    Err(Error::Unwritable { field: Field::Status, what: format!("a {kind} cannot be `{}`", status.as_str()) })
}

fn dates(kind: Kind, when: &When) -> Result<Map<String, Json>> {
    let dates = match (kind, when) {
        (Kind::Meeting, When::Timed { start, end }) => json!({
            "dateStart": moment(*start), "dateEnd": end.map(moment), "dateStartDate": null, "dateEndDate": null,
        }),
        // A call must have an end; one hour is what a record without an end gets on the other side.
        (Kind::Call, When::Timed { start, end }) => json!({
            "dateStart": moment(*start), "dateEnd": moment(end.unwrap_or(*start + TimeDelta::hours(1))),
        }),
        (Kind::Meeting, When::AllDay { first, last }) => json!({
            "dateStartDate": first.to_string(), "dateEndDate": last.to_string(),
        }),
        (Kind::Task, When::Due { due, start }) => {
            let mut dates = Map::new();
            for (name, day) in [("dateStart", start), ("dateEnd", due)] {
                match day {
                    Some(Day::On(date)) => {
                        dates.insert(format!("{name}Date"), date.to_string().into());
                    }
                    Some(Day::At(at)) => {
                        dates.insert(name.to_owned(), moment(*at).into());
                        dates.insert(format!("{name}Date"), Json::Null);
                    }
                    None => {
                        dates.insert(name.to_owned(), Json::Null);
                        dates.insert(format!("{name}Date"), Json::Null);
                    }
                }
            }
            Json::Object(dates)
        }
        _ => {
            let what = format!("a {kind} cannot be at {}", Value::Time(when.clone()));
            return Err(Error::Unwritable { field: Field::Time, what });
        }
    };
    Ok(if let Json::Object(dates) = dates { dates } else { Map::new() })
}

/// The reminders with another first one; the others are kept.
pub(crate) fn reminders(current: &[Json], minutes: Option<u32>) -> Json {
    let Some(minutes) = minutes else { return json!([]) };
    let kind = current.first().and_then(|first| first.get("type")).cloned().unwrap_or_else(|| "Popup".into());
    let first = json!({ "type": kind, "seconds": u64::from(minutes) * 60 });
    let rest = current.iter().skip(1).filter(|other| **other != first).cloned();
    Json::Array(std::iter::once(first.clone()).chain(rest).collect())
}

#[cfg(test)]
mod tests;
