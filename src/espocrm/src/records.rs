//! Meetings, Calls and Tasks: reading, listing, writing.
//!
//! Facts (EspoCRM 9.3): order by `modifiedAt` or `createdAt` is continued by id, so that (time, id) pages without gaps; every
//! PUT counts as a change; `X-Version-Number` guards a record that has a `versionNumber` (Tasks by default); a deleted record
//! is 404 to GET, PUT and DELETE alike.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};
use sync::{Field, Kind, Record, Seen, ShownReminder, Value, Values, When, text};

use crate::client::{Acting, Client};
use crate::error::unexpected;
use crate::map::{self, Draft, Source};
use crate::query::{IN_MAX, List, PAGE_MAX, Where, moment};
use crate::roster::{Resolved, Roster};
use crate::wire::{Call, Rows};
use crate::{Error, KindSchema, Result, Schema};

/// Our clock and EspoCRM's may differ by this much.
const CLOCKS: TimeDelta = TimeDelta::minutes(5);

/// A record as it was read, with what is needed to write it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The record.
    pub record: Record,
    /// Its participants as EspoCRM has them.
    pub roster: Roster,
    /// Why the API user acted instead of the user, when it did.
    pub fallback: Option<String>,
    /// What the marker says of the item beyond the link: its id in short (see [`NewRecord::marker`]).
    pub item: Option<String>,
    /// Names of a task's attachments, by id; none where they were not shown.
    pub files: Option<BTreeMap<String, String>>,
    /// Who wrote it last, where that was shown.
    pub(crate) writer: Option<String>,
    pub(crate) version: Option<i64>,
    pub(crate) reminders: Option<Vec<Json>>,
}

impl Fetched {
    /// Adds a reminder that was shown to who wrote, where that is the owner and nothing else could be read. A hint that does not
    /// say who it was tells of the one who had written before as well, and is believed while nobody else has written since.
    pub fn show_reminder(&mut self, shown: &ShownReminder) {
        let by = shown.by.as_ref().or(self.writer.as_ref());
        if by.is_some() && by == self.record.owner.as_ref() && self.reminders.is_none() {
            self.record.values.entry(Field::Reminder).or_insert(Value::Reminder(shown.minutes));
        }
    }
}

/// Where a list was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Time of the last row (to the second).
    pub at: DateTime<Utc>,
    /// Id of the last row; without it all rows of that second are listed.
    pub id: Option<String>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The last row; where the next page begins. None when the page is empty.
    pub last: Option<Cursor>,
    /// True when there are more.
    pub more: bool,
}

/// A page of records of several users.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The rows.
    pub items: Vec<Fetched>,
    /// Ids of rows that cannot be read.
    pub unreadable: Vec<String>,
    /// Where the next page begins.
    pub last: Option<Cursor>,
    /// True when there are more.
    pub more: bool,
}

/// A record of which only the outline was listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Brief {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// The assigned user.
    pub owner: Option<String>,
    /// `modifiedAt`.
    pub modified: DateTime<Utc>,
    /// `createdAt`.
    pub created: DateTime<Utc>,
    /// What a list tells of it: everything but participants and reminders.
    pub values: Values,
    /// The marker.
    pub marker: Option<String>,
    /// The switch.
    pub switch: Option<bool>,
}

/// What is to be created.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// The assigned user.
    pub owner: &'a str,
    /// The values.
    pub values: &'a Values,
    /// Who the participants in `values` are; those who are not here are left out.
    pub people: &'a Resolved,
    /// Link id, written when the entity has a marker field; after a `;` it may name the item that the record was made for.
    pub marker: Option<&'a str>,
}

/// What is to be changed.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// The record as it was read.
    pub current: &'a Fetched,
    /// The new values of the fields that change.
    pub values: &'a Values,
    /// Who the new participants in `values` are; those who are not here are left out.
    pub people: &'a Resolved,
    /// Link id, written when the entity has a marker field with another content.
    pub marker: Option<&'a str>,
}

/// The result of an update.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// The record afterwards.
    pub fetched: Fetched,
    /// False when nothing differed and no request was made (or what differed were reminders that could not be set).
    pub wrote: bool,
}

/// The result of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is deleted now.
    Deleted {
        /// Why the API user acted instead of the user, when it did.
        fallback: Option<String>,
    },
    /// It did not exist any more.
    AlreadyGone,
}

impl Client {
    /// Reads one record.
    pub async fn record(&self, schema: &Schema, kind: Kind, id: &str, acting: Acting<'_>) -> Result<Seen<Fetched>> {
        let kind_schema = schema.of(kind)?;
        let acted = self.send_as(Call::get(&[kind.entity(), id]), acting).await?;
        let Some(answer) = acted.answer else { return Ok(Seen::Unknown) };
        if answer.is_gone() {
            return Ok(Seen::Gone);
        }
        let row: Map<String, Json> = answer.json()?;
        let reader = self.reader(acting, acted.fallback.as_ref());
        let draft = map::draft(kind, kind_schema, &row, Source::Whole, reader)?;
        let fetched = self.finish(vec![draft]).await?.into_iter().next();
        Ok(fetched.map_or(Seen::Unknown, |fetched| Seen::Present(Fetched { fallback: acted.fallback, ..fetched })))
    }

    /// As which user something was read.
    fn reader<'a>(&self, acting: Acting<'a>, fallback: Option<&String>) -> Option<&'a str> {
        match acting {
            Acting::User { id, .. } if self.can_act_as_users() && fallback.is_none() => Some(id),
            _ => None,
        }
    }

    /// Outlines of the records that were modified after a cursor, oldest change first. Rows of one second may be committed
    /// late: step back some seconds from time to time.
    pub async fn changed_since(&self, schema: &Schema, kind: Kind, cursor: &Cursor, limit: u32) -> Result<Page<Brief>> {
        let kind_schema = schema.of(kind)?;
        let select = map::selection(kind, kind_schema).into_iter().filter(|name| !is_people(name));
        let mut list = List::new(vec![Where::beyond("modifiedAt", cursor.at, cursor.id.as_deref())], select);
        list.order = Some("modifiedAt");
        list.limit = limit;
        let rows: Rows = self.send(&Call::list(kind.entity(), &list)).await?.json()?;
        let more = rows.has_more(limit.min(PAGE_MAX));
        let items = drafts(kind, kind_schema, &rows)?.into_iter().map(Brief::from).collect::<Vec<_>>();
        let last = items.last().map(|brief| Cursor { at: brief.modified, id: Some(brief.id.clone()) });
        Ok(Page { items, last, more })
    }

    /// The records of several users, or of anybody when none are named, as a sweep compares them: like [`Client::owned`], but
    /// a row that cannot be read spoils no other one. The users' own addresses are not looked up, for they are no
    /// participants of their own records.
    pub async fn owned_by_any(
        &self,
        schema: &Schema,
        kind: Kind,
        owners: &[String],
        from: NaiveDate,
        after: Option<&Cursor>,
    ) -> Result<Listed> {
        let kind_schema = schema.of(kind)?;
        let mut conditions = vec![taking_place(kind, from)];
        match owners {
            [] => {}
            owners if kind_schema.many_owners => conditions.push(Where::Linked("assignedUsers", owners.to_vec())),
            owners => conditions.push(Where::In("assignedUserId", owners.to_vec())),
        }
        conditions.extend(after.map(|cursor| Where::beyond("createdAt", cursor.at, cursor.id.as_deref())));
        let mut list = List::new(conditions, map::selection(kind, kind_schema));
        list.order = Some("createdAt");
        let rows: Rows = self.send(&Call::list(kind.entity(), &list)).await?.json()?;
        let more = rows.has_more(PAGE_MAX);
        let (mut drafts, mut unreadable) = (Vec::new(), Vec::new());
        for row in &rows.list {
            match map::draft(kind, kind_schema, row, Source::List, None) {
                Ok(draft) => drafts.push(draft),
                Err(error) => {
                    tracing::warn!(%kind, %error, "a row of a list cannot be read");
                    unreadable.extend(row.get("id").and_then(Json::as_str).map(str::to_owned));
                }
            }
        }
        let last = drafts.last().map(|draft| (draft.record.created, draft.record.id.clone()));
        let last = last.map(|(at, id)| Cursor { at, id: Some(id) });
        Ok(Listed { items: self.finish_for_others(drafts).await?, unreadable, more: more && last.is_some(), last })
    }

    /// The records that a user owns and that take place (tasks: are due; without a due date: were created) on a day or later,
    /// in the order of their creation. Reminders are not in lists. The first day is taken generously, for zones.
    pub async fn owned(
        &self,
        schema: &Schema,
        kind: Kind,
        owner: &str,
        from: NaiveDate,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<Fetched>> {
        let kind_schema = schema.of(kind)?;
        let mut conditions = vec![owned_by(kind_schema, owner), taking_place(kind, from)];
        conditions.extend(after.map(|cursor| Where::beyond("createdAt", cursor.at, cursor.id.as_deref())));
        let mut list = List::new(conditions, map::selection(kind, kind_schema));
        list.order = Some("createdAt");
        list.limit = limit;
        let rows: Rows = self.send(&Call::list(kind.entity(), &list)).await?.json()?;
        let more = rows.has_more(limit.min(PAGE_MAX));
        let items = self.finish(drafts(kind, kind_schema, &rows)?).await?;
        let last = items.last().map(|item| Cursor { at: item.record.created, id: Some(item.record.id.clone()) });
        Ok(Page { items, last, more })
    }

    /// The records of these ids, in no order. One that is missing may be deleted, or hidden from the API user.
    pub async fn listing(&self, schema: &Schema, kind: Kind, ids: &[String]) -> Result<Vec<Fetched>> {
        let mut items = Vec::new();
        for chunk in ids.chunks(IN_MAX) {
            items.extend(self.select(schema, kind, vec![Where::In("id", chunk.to_vec())]).await?);
        }
        Ok(items)
    }

    /// The record that carries a marker: the oldest, when it was copied. None when the entity has no marker field.
    pub async fn find_by_marker(&self, schema: &Schema, kind: Kind, marker: &str) -> Result<Option<Fetched>> {
        let Some(attribute) = &schema.of(kind)?.marker else { return Ok(None) };
        Ok(self.select(schema, kind, vec![Where::starts_with(attribute, marker)]).await?.into_iter().next())
    }

    /// Records with a marker, in the order of their creation: `relink` rebuilds links from them.
    pub async fn marked(&self, schema: &Schema, kind: Kind, after: Option<&Cursor>) -> Result<Page<Fetched>> {
        let kind_schema = schema.of(kind)?;
        let Some(attribute) = &kind_schema.marker else {
            return Ok(Page { items: Vec::new(), last: None, more: false });
        };
        let mut conditions = vec![Where::Filled(attribute.clone())];
        conditions.extend(after.map(|cursor| Where::beyond("createdAt", cursor.at, cursor.id.as_deref())));
        let mut list = List::new(conditions, map::selection(kind, kind_schema));
        list.order = Some("createdAt");
        let rows: Rows = self.send(&Call::list(kind.entity(), &list)).await?.json()?;
        let items = self.finish(drafts(kind, kind_schema, &rows)?).await?;
        let last = items.last().map(|item| Cursor { at: item.record.created, id: Some(item.record.id.clone()) });
        Ok(Page { items, last, more: rows.has_more(PAGE_MAX) })
    }

    /// Records that a creation without an answer may have made: same owner, name and time, not older than `not_before` (by
    /// clocks that may differ by minutes). The oldest first.
    pub async fn find_created(
        &self,
        schema: &Schema,
        kind: Kind,
        owner: &str,
        title: &str,
        when: &When,
        not_before: DateTime<Utc>,
    ) -> Result<Vec<Fetched>> {
        let conditions = vec![
            owned_by(schema.of(kind)?, owner),
            Where::equals("name", text::espo_name(title)),
            Where::at_least("createdAt", moment(not_before - CLOCKS)),
        ];
        let mut found = self.select(schema, kind, conditions).await?;
        found.retain(|fetched| {
            fetched.record.values.get(&Field::Time).and_then(Value::as_when).is_some_and(|at| same_time(at, when))
        });
        Ok(found)
    }

    async fn select(&self, schema: &Schema, kind: Kind, conditions: Vec<Where>) -> Result<Vec<Fetched>> {
        let kind_schema = schema.of(kind)?;
        let mut list = List::new(conditions, map::selection(kind, kind_schema));
        list.order = Some("createdAt");
        let rows: Rows = self.send(&Call::list(kind.entity(), &list)).await?.json()?;
        self.finish(drafts(kind, kind_schema, &rows)?).await
    }

    /// Creates a record. An error that is [`crate::Disposition::Unsure`] may have created it: look it up before repeating.
    pub async fn create(&self, schema: &Schema, kind: Kind, new: NewRecord<'_>, acting: Acting<'_>) -> Result<Fetched> {
        let kind_schema = schema.of(kind)?;
        let mut body = map::attributes(kind, kind_schema, new.values, None)?;
        body.retain(|_, value| !value.is_null());
        if kind_schema.many_owners {
            body.insert("assignedUsersIds".to_owned(), json!([new.owner]));
        } else {
            body.insert("assignedUserId".to_owned(), new.owner.into());
        }
        if !body.contains_key("name") {
            body.insert("name".to_owned(), text::UNTITLED.into());
        }
        if let (Some(attribute), Some(marker)) = (&kind_schema.marker, new.marker) {
            body.insert(attribute.clone(), marker.into());
        }
        if let Some(people) =
            new.values.get(&Field::Participants).and_then(Value::as_people).filter(|_| kind.is_event())
        {
            body.extend(Roster::of_owner(new.owner).attributes(people, new.people));
        }
        if let Some(Value::Reminder(minutes)) = new.values.get(&Field::Reminder)
            && self.reader(acting, None) == Some(new.owner)
        {
            body.insert("reminders".to_owned(), map::reminders(&[], *minutes));
        }
        let call = Call::new(Method::POST, &[kind.entity()]).body(Json::Object(body));
        match self.write(kind, kind_schema, call, Source::Created, acting).await? {
            Written::Done(fetched) => Ok(*fetched),
            Written::Nothing { fallback } => Err(unexpected(fallback)),
        }
    }

    /// Changes a record: only what differs is sent, and nothing when nothing does.
    pub async fn update(&self, schema: &Schema, edit: Edit<'_>, acting: Acting<'_>) -> Result<Updated> {
        self.update_with_files(schema, edit, None, acting).await
    }

    /// Changes a record, and makes these the attachments of a task: all of them, new ones uploaded before
    /// ([`Client::upload`]).
    pub async fn update_with_files(
        &self,
        schema: &Schema,
        edit: Edit<'_>,
        files: Option<&BTreeSet<String>>,
        acting: Acting<'_>,
    ) -> Result<Updated> {
        let Record { kind, id, .. } = &edit.current.record;
        let kind_schema = schema.of(*kind)?;
        let mut body = self.changes(kind_schema, edit, acting)?;
        let same = |files: &BTreeSet<String>| edit.current.files.as_ref().is_some_and(|known| known.keys().eq(files));
        if let Some(files) = files.filter(|files| !same(files)) {
            body.insert("attachmentsIds".to_owned(), json!(files));
        }
        if body.is_empty() {
            return Ok(Updated { fetched: edit.current.clone(), wrote: false });
        }
        let mut call = Call::new(Method::PUT, &[kind.entity(), id]).body(Json::Object(body));
        if let Some(version) = edit.current.version {
            call = call.header("X-Version-Number", &version.to_string());
        }
        Ok(match self.write(*kind, kind_schema, call, Source::Whole, acting).await? {
            Written::Done(fetched) => Updated { fetched: *fetched, wrote: true },
            Written::Nothing { fallback } => {
                Updated { fetched: Fetched { fallback: Some(fallback), ..edit.current.clone() }, wrote: false }
            }
        })
    }

    fn changes(&self, schema: &KindSchema, edit: Edit<'_>, acting: Acting<'_>) -> Result<Map<String, Json>> {
        let Fetched { record, roster, reminders, .. } = edit.current;
        let mut body = map::attributes(record.kind, schema, edit.values, Some(&record.values))?;
        if let Some(people) = edit.values.get(&Field::Participants).and_then(Value::as_people)
            && roster.has_addresses
            && record.kind.is_event()
        {
            body.extend(roster.attributes(people, edit.people));
        }
        // Others' reminders can neither be read nor set.
        if let (Some(Value::Reminder(minutes)), Some(current)) = (edit.values.get(&Field::Reminder), reminders)
            && self.reader(acting, None) == record.owner.as_deref()
            && record.values.get(&Field::Reminder) != edit.values.get(&Field::Reminder)
        {
            body.insert("reminders".to_owned(), map::reminders(current, *minutes));
        }
        if let (Some(attribute), Some(marker)) = (&schema.marker, edit.marker)
            && record.marker.as_deref() != Some(marker)
        {
            body.insert(attribute.clone(), marker.into());
        }
        Ok(body)
    }

    async fn write(
        &self,
        kind: Kind,
        schema: &KindSchema,
        call: Call,
        source: Source,
        acting: Acting<'_>,
    ) -> Result<Written> {
        let acted = self.send_as(call, acting).await?;
        let Some(answer) = acted.answer else {
            return Ok(Written::Nothing { fallback: acted.fallback.unwrap_or_default() });
        };
        let row: Map<String, Json> = answer.json()?;
        let reader = self.reader(acting, acted.fallback.as_ref());
        let draft = map::draft(kind, schema, &row, source, reader).map_err(Error::after_write)?;
        let fetched = self.finish_written(draft).await;
        Ok(Written::Done(Box::new(Fetched { fallback: acted.fallback, ..fetched })))
    }

    /// Switches the synchronisation of a record on or off, by the entity's field for that. False when the entity has no such
    /// field, or there is no such record. Nothing is written when it stands there already.
    pub async fn set_switch(
        &self,
        schema: &Schema,
        kind: Kind,
        id: &str,
        enabled: bool,
        acting: Acting<'_>,
    ) -> Result<bool> {
        let Some(attribute) = &schema.of(kind)?.switch else { return Ok(false) };
        let current = self.record(schema, kind, id, acting).await?;
        let Some(record) = current.present().map(|fetched| &fetched.record) else { return Ok(false) };
        if record.switch == Some(enabled) {
            return Ok(true);
        }
        let mut body = Map::new();
        body.insert(attribute.clone(), enabled.into());
        let acted = self.send_as(Call::new(Method::PUT, &[kind.entity(), id]).body(Json::Object(body)), acting).await?;
        match acted.answer {
            Some(answer) if answer.is_gone() => Ok(false),
            Some(answer) if !answer.is_success() => Err(answer.refusal()),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    /// Deletes a record.
    pub async fn delete(&self, kind: Kind, id: &str, acting: Acting<'_>) -> Result<Deletion> {
        let acted = self.send_as(Call::new(Method::DELETE, &[kind.entity(), id]), acting).await?;
        match acted.answer {
            Some(answer) if answer.is_gone() => Ok(Deletion::AlreadyGone),
            Some(answer) if !answer.is_success() => Err(answer.refusal()),
            _ => Ok(Deletion::Deleted { fallback: acted.fallback }),
        }
    }
}

enum Written {
    Done(Box<Fetched>),
    /// Only reminders were to be set, and the API user cannot.
    Nothing {
        fallback: String,
    },
}

impl From<Draft> for Brief {
    fn from(draft: Draft) -> Self {
        let Record { id, kind, owner, switch, marker, modified, created, values, .. } = draft.record;
        Self { id, kind, owner, modified, created, values, marker, switch }
    }
}

fn drafts(kind: Kind, schema: &KindSchema, rows: &Rows) -> Result<Vec<Draft>> {
    rows.list.iter().map(|row| map::draft(kind, schema, row, Source::List, None)).collect()
}

fn taking_place(kind: Kind, from: NaiveDate) -> Where {
    let start = format!("{} 00:00:00", from.pred_opt().unwrap_or(from));
    match kind {
        Kind::Meeting | Kind::Call => Where::at_least("dateStart", start),
        Kind::Task => Where::Any(vec![
            Where::at_least("dateEnd", start.clone()),
            Where::All(vec![Where::Null("dateEnd"), Where::at_least("createdAt", start)]),
        ]),
    }
}

fn owned_by(schema: &KindSchema, owner: &str) -> Where {
    if schema.many_owners {
        Where::Linked("assignedUsers", vec![owner.to_owned()])
    } else {
        Where::equals("assignedUserId", owner)
    }
}

fn is_people(name: &str) -> bool {
    matches!(name, "usersIds" | "contactsIds" | "leadsIds")
}

/// EspoCRM keeps seconds; an end that was not given may have become any.
fn same_time(a: &When, b: &When) -> bool {
    match (a, b) {
        (When::Timed { start: a, end: a_end }, When::Timed { start: b, end: b_end }) => {
            let same_end = b_end.is_none_or(|b| a_end.is_some_and(|a| a.timestamp() == b.timestamp()));
            a.timestamp() == b.timestamp() && same_end
        }
        (When::Due { due: a, .. }, When::Due { due: b, .. }) => a == b,
        (a, b) => a == b,
    }
}
