//! The tenant: mailboxes, their events and To Do lists, tokens handed out, subscriptions, and the log of the mails that
//! Exchange would have sent.
//!
//! Items are copied out, changed and put back, so that a refused change leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::delivery::{Delivery, Notifications, Queued};
use super::identity::Identity;
use super::subscriptions::Subscription;
use super::todo::TodoList;
use super::{recurrence, times};
use crate::plumbing::{SimClock, SimIds};

pub const EMPTY_TIME: &str = "0001-01-01T00:00:00Z";

/// What an occurrence or exception knows of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub master_id: String,
    pub master_immutable_id: String,
    pub master_ical: String,
    pub day: NaiveDate,
    pub original: DateTime<Utc>,
    /// Stored by itself, not computed from the master.
    pub exception: bool,
}

/// One item of one calendar; `data` holds the wire properties except the times.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub immutable_id: String,
    pub ical: String,
    pub data: Map<String, Value>,
    pub extended: BTreeMap<String, Option<String>>,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub start_zone: String,
    pub end_zone: String,
    pub created: DateTime<Utc>,
    pub modified: DateTime<Utc>,
    pub version: u64,
    pub seq: u64,
    pub organizer: String,
    pub is_organizer: bool,
    pub series: Option<Series>,
    /// Of a master: the exception of a day, or `None` for a cancelled occurrence.
    pub exceptions: BTreeMap<NaiveDate, Option<Event>>,
}

impl Event {
    pub fn change_key(&self) -> String {
        let mut raw = [0u8; 16];
        let (_, low) = raw.split_at_mut(8);
        low.copy_from_slice(&self.version.to_be_bytes());
        STANDARD.encode(raw)
    }

    pub fn etag(&self) -> String {
        format!("W/\"{}\"", self.change_key())
    }

    pub fn is_master(&self) -> bool {
        self.series.is_none() && self.data.get("recurrence").is_some_and(Value::is_object)
    }

    pub fn kind(&self) -> &'static str {
        match &self.series {
            Some(series) if series.exception => "exception",
            Some(_) => "occurrence",
            None if self.is_master() => "seriesMaster",
            None => "singleInstance",
        }
    }

    pub fn flag(&self, name: &str) -> bool {
        self.data.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn subject(&self) -> &str {
        self.data.get("subject").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn response(&self) -> &str {
        self.data.get("responseStatus").and_then(|s| s["response"].as_str()).unwrap_or_default()
    }

    /// Lower-case addresses of the invited, the organizer left out.
    pub fn people(&self) -> Vec<String> {
        let attendees = self.data.get("attendees").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let addresses = attendees.iter().filter_map(|a| a["emailAddress"]["address"].as_str()).map(str::to_lowercase);
        let organizer = self.organizer.to_lowercase();
        addresses.filter(|a| !a.is_empty() && *a != organizer).collect()
    }

    pub fn touches(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        self.start < to && (self.end > from || (self.end == self.start && self.start >= from))
    }

    /// A new change key, as any write gives, visible or not.
    pub fn touch(&mut self, now: DateTime<Utc>, seq: u64) {
        self.version += 1;
        self.seq = seq;
        self.modified = if now > self.modified { now } else { self.modified + TimeDelta::microseconds(1) };
    }

    /// Occurrences and exceptions up to a day, cancelled ones left out.
    pub fn occurrences(&self, until: DateTime<Utc>) -> Vec<Self> {
        let Some(rule) = self.data.get("recurrence").filter(|_| self.is_master()) else { return Vec::new() };
        let first = times::local(self.start, &self.start_zone);
        let last = times::local(until, &self.start_zone).date() + TimeDelta::days(1);
        let days = recurrence::dates(rule, first.date(), last);
        days.into_iter()
            .filter_map(|day| match self.exceptions.get(&day) {
                Some(stored) => stored.clone(),
                None => Some(self.occurrence(day)),
            })
            .collect()
    }

    /// The occurrence of a day of the pattern, unless it is cancelled.
    pub fn occurrence_of(&self, day: NaiveDate) -> Option<Self> {
        let until = times::to_utc(day.and_hms_opt(0, 0, 0)?, times::known_zone(&self.start_zone));
        self.occurrences(until).into_iter().find(|o| o.series.as_ref().is_some_and(|s| s.day == day))
    }

    fn occurrence(&self, day: NaiveDate) -> Self {
        let tz = times::known_zone(&self.start_zone);
        let first = times::local(self.start, &self.start_zone);
        let start = times::to_utc(day.and_time(first.time()), tz);
        let end = if self.flag("isAllDay") {
            let days = (times::local(self.end, &self.start_zone).date() - first.date()).num_days().max(1);
            times::to_utc((day + TimeDelta::days(days)).and_time(first.time()), tz)
        } else {
            start + (self.end - self.start)
        };
        let stem = day.format("%Y%m%d");
        let mut out = self.clone();
        out.exceptions.clear();
        out.data.remove("recurrence");
        out.data.remove("transactionId");
        out.extended.clear();
        out.id = format!("OCC{stem}.{}", self.id);
        out.immutable_id = format!("OCC{stem}.{}", self.immutable_id);
        out.ical = format!("{}{stem}", self.ical);
        (out.start, out.end, out.end_zone) = (start, end, self.start_zone.clone());
        out.series = Some(Series {
            master_id: self.id.clone(),
            master_immutable_id: self.immutable_id.clone(),
            master_ical: self.ical.clone(),
            day,
            original: start,
            exception: false,
        });
        out
    }
}

/// Something deleted, kept for delta and for checks.
#[derive(Debug, Clone, Serialize)]
pub struct Deleted {
    pub id: String,
    pub immutable_id: String,
    pub ical_uid: String,
    pub subject: String,
    pub at: DateTime<Utc>,
    #[serde(skip)]
    pub seq: u64,
}

/// Requests per application and mailbox: four at a time, and a `Retry-After` that has to be kept.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    pub in_flight: usize,
    pub max_in_flight: usize,
    pub refused: usize,
    pub forced: u32,
    pub retry_after: u64,
    pub blocked: Option<(DateTime<Utc>, DateTime<Utc>)>,
    pub early: Vec<Early>,
    /// Start of the current ten minutes and the requests since.
    pub window: Option<(DateTime<Utc>, u32)>,
}

/// A request that came before `Retry-After` had passed.
#[derive(Debug, Clone, Serialize)]
pub struct Early {
    pub path: String,
    pub at: DateTime<Utc>,
    pub early_by: Duration,
    /// How long after the refusal it came: requests already on their way come within milliseconds.
    pub after_refusal: Duration,
}

/// One person's mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox {
    pub upn: String,
    pub name: String,
    pub zone: String,
    pub user_id: String,
    pub calendar_id: String,
    pub enabled: bool,
    pub events: BTreeMap<String, Event>,
    pub deleted: Vec<Deleted>,
    pub transactions: BTreeMap<String, String>,
    pub lists: Vec<TodoList>,
    pub gate: Gate,
}

impl Mailbox {
    /// By either id of an item; occurrences are computed from `OCC<date>.<master id>`.
    pub fn find(&self, id: &str) -> Option<Event> {
        if let Some((day, master)) = id.strip_prefix("OCC").and_then(|rest| rest.split_once('.')) {
            let day = NaiveDate::parse_from_str(day, "%Y%m%d").ok()?;
            return self.find(master).filter(Event::is_master)?.occurrence_of(day);
        }
        let stored = self.events.get(id);
        stored.or_else(|| self.events.values().find(|e| e.immutable_id == id)).cloned()
    }

    /// calendarView: single instances, occurrences and exceptions that touch the window, in order of time.
    pub fn view(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Event> {
        let mut out = Vec::new();
        for event in self.events.values() {
            if event.is_master() {
                out.extend(event.occurrences(to).into_iter().filter(|o| o.touches(from, to)));
            } else if event.touches(from, to) {
                out.push(event.clone());
            }
        }
        out.sort_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
        out
    }

    /// Puts a changed item back; a changed occurrence becomes an exception of its master.
    pub fn put(&mut self, mut event: Event) {
        let Some(series) = &mut event.series else {
            self.events.insert(event.id.clone(), event);
            return;
        };
        series.exception = true;
        let (master, day) = (series.master_id.clone(), series.day);
        if let Some(master) = self.events.get_mut(&master) {
            master.exceptions.insert(day, Some(event));
        }
    }

    pub fn by_ical(&self, ical: &str) -> Option<&Event> {
        self.events.values().find(|e| e.ical == ical)
    }
}

/// A mail that Exchange would have sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mail {
    /// `invitation`, `update`, `cancellation` or `response`.
    pub kind: String,
    /// Of a response: `accepted`, `tentativelyAccepted` or `declined`.
    pub response: Option<String>,
    pub to: String,
    pub from: String,
    pub subject: String,
    pub ical_uid: String,
    pub start: DateTime<Utc>,
    pub at: DateTime<Utc>,
}

/// What a notification says of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    Created,
    Updated,
    Deleted,
}

impl Change {
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// Behaviours that a test may turn.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A second POST with the transactionId of an event: 201 with the existing event, or 409.
    pub duplicate_transaction_conflicts: bool,
    /// A deleted occurrence gives no `@removed` in delta, only a changed master (a field report).
    pub hide_removed_occurrences: bool,
    /// Application tokens may subscribe to To Do tasks (the documents disagree).
    pub todo_app_subscriptions: bool,
    /// How long a request holds its place at the mailbox.
    pub service_time: Duration,
    /// Requests in ten minutes per mailbox.
    pub request_limit: Option<u32>,
}

/// Everything behind one lock.
#[derive(Clone)]
pub struct State {
    pub clock: SimClock,
    pub ids: SimIds,
    pub tenant_id: String,
    pub domain: String,
    pub seq: u64,
    pub mailboxes: Vec<Mailbox>,
    pub mails: Vec<Mail>,
    pub identity: Identity,
    pub delta_tokens: BTreeMap<String, super::delta::Token>,
    pub expired_tokens: BTreeSet<String>,
    pub subscriptions: Vec<Subscription>,
    pub notifications: Notifications,
    pub queue: Vec<Queued>,
    /// Notifications that are being sent right now.
    pub sending: usize,
    pub deliveries: Vec<Delivery>,
    pub settings: Settings,
    /// Ids of events whose body was overwritten without the join block of the online meeting.
    pub lost_joins: Vec<String>,
}

impl State {
    pub fn new(clock: SimClock, seed: u64) -> Self {
        let ids = SimIds::new(seed);
        Self {
            tenant_id: ids.uuid(),
            domain: "contoso.example".to_owned(),
            seq: 0,
            mailboxes: Vec::new(),
            mails: Vec::new(),
            identity: Identity::new(&ids),
            delta_tokens: BTreeMap::new(),
            expired_tokens: BTreeSet::new(),
            subscriptions: Vec::new(),
            notifications: Notifications::default(),
            queue: Vec::new(),
            sending: 0,
            deliveries: Vec::new(),
            settings: Settings {
                duplicate_transaction_conflicts: false,
                hide_removed_occurrences: false,
                todo_app_subscriptions: false,
                service_time: Duration::from_millis(2),
                request_limit: None,
            },
            lost_joins: Vec::new(),
            clock,
            ids,
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub fn add_mailbox(&mut self, upn: &str, name: &str, zone: &str) -> String {
        let user_id = self.ids.uuid();
        let lists = vec![
            TodoList::new(&self.ids, "Tasks", "defaultList"),
            TodoList::new(&self.ids, "Flagged Emails", "flaggedEmails"),
        ];
        self.mailboxes.push(Mailbox {
            upn: upn.to_owned(),
            name: name.to_owned(),
            zone: zone.to_owned(),
            user_id: user_id.clone(),
            calendar_id: format!("AAMkCAL{}", self.ids.hex(40)),
            enabled: true,
            events: BTreeMap::new(),
            deleted: Vec::new(),
            transactions: BTreeMap::new(),
            lists,
            gate: Gate::default(),
        });
        user_id
    }

    /// By mail address or user id.
    pub fn resolve(&self, key: &str) -> Option<usize> {
        self.mailboxes.iter().position(|m| m.upn.eq_ignore_ascii_case(key) || m.user_id == key)
    }

    pub fn mailbox(&self, index: usize) -> Option<&Mailbox> {
        self.mailboxes.get(index)
    }

    pub fn find(&self, index: usize, id: &str) -> Option<Event> {
        self.mailboxes.get(index)?.find(id)
    }

    pub fn name_of(&self, address: &str) -> String {
        let known = self.resolve(address).and_then(|n| self.mailboxes.get(n));
        known.map_or_else(|| address.to_owned(), |m| m.name.clone())
    }

    /// A blank event of a mailbox, not yet stored.
    pub fn blank_event(&self, organizer: &str) -> Event {
        let now = self.now();
        Event {
            id: format!("AAMkAD{}AAA=", self.ids.base64url(48)),
            immutable_id: format!("AAkALg{}AAA=", self.ids.base64url(48)),
            ical: format!("040000008200E00074C5B7101A82E008{}", self.ids.hex(48).to_uppercase()),
            data: Map::new(),
            extended: BTreeMap::new(),
            start: now,
            end: now,
            start_zone: "UTC".to_owned(),
            end_zone: "UTC".to_owned(),
            created: now,
            modified: now,
            version: self.ids.below(1 << 40),
            seq: 0,
            organizer: organizer.to_owned(),
            is_organizer: true,
            series: None,
            exceptions: BTreeMap::new(),
        }
    }

    /// Stores a changed item under a new change key; the master of an occurrence changes too. Gives the item as stored.
    pub fn store(&mut self, index: usize, mut event: Event) -> Event {
        let (now, seq) = (self.now(), self.next_seq());
        event.touch(now, seq);
        let Some(mailbox) = self.mailboxes.get_mut(index) else { return event };
        mailbox.put(event.clone());
        if let Some(series) = &mut event.series {
            series.exception = true;
            if let Some(master) = mailbox.events.get_mut(&series.master_id) {
                master.touch(now, seq);
            }
        }
        event
    }

    /// Takes an item out of the calendar; an occurrence becomes a cancelled day of its master, which is given back.
    pub fn take_out(&mut self, index: usize, event: &Event) -> Option<Event> {
        let (now, seq) = (self.now(), self.next_seq());
        let mailbox = self.mailboxes.get_mut(index)?;
        mailbox.deleted.push(Deleted {
            id: event.id.clone(),
            immutable_id: event.immutable_id.clone(),
            ical_uid: event.ical.clone(),
            subject: event.subject().to_owned(),
            at: now,
            seq,
        });
        let Some(series) = &event.series else {
            mailbox.events.remove(&event.id);
            return None;
        };
        let master = mailbox.events.get_mut(&series.master_id)?;
        master.exceptions.insert(series.day, None);
        master.touch(now, seq);
        Some(master.clone())
    }

    pub fn send_mail(&mut self, kind: &str, event: &Event, to: &str) {
        self.mails.push(Mail {
            kind: kind.to_owned(),
            response: None,
            to: to.to_lowercase(),
            from: event.organizer.clone(),
            subject: event.subject().to_owned(),
            ical_uid: event.ical.clone(),
            start: event.start,
            at: self.now(),
        });
    }
}

pub fn status(response: &str, time: &str) -> Value {
    json!({"response": response, "time": time})
}
