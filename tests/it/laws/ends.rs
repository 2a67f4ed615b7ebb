//! The two ends as people see them, and what a value of a story is on each of them.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};
use simulators::microsoft::GraphSim;
use sync::{Kind, Side};

use super::stage::{Stage, USERS, epoch};
use super::story::{What, Who};
use crate::support::mail;

/// The first tag of a series; each has four, of which [`OCCURRENCES`] are used.
pub const SERIES: u8 = 100;
/// How often a series takes place.
pub const OCCURRENCES: u8 = 3;
/// Values from here on stand for whole days.
pub const WHOLE_DAY: u16 = 1000;
/// Who organises what is organised outside.
pub const OUTSIDER: &str = "olga@outside.example";

/// A record, an event or a task.
#[derive(Debug, Clone)]
pub struct End {
    pub kind: Kind,
    /// Of an item: whose mailbox it is in.
    pub user: &'static str,
    pub id: String,
    pub json: Value,
}

impl End {
    fn new(kind: Kind, user: &'static str, json: Value) -> Self {
        Self { kind, user, id: text(&json, &["id"]), json }
    }

    pub fn is_outside(&self) -> bool {
        text(&self.json, &["organizer", "emailAddress", "address"]) == OUTSIDER
    }
}

pub fn text(end: &Value, path: &[&str]) -> String {
    let found = path.iter().fold(end, |end, name| &end[*name]);
    found.as_str().unwrap_or_default().trim().to_owned()
}

pub fn address(who: Who) -> String {
    match who {
        Who::Anna => mail("anna"),
        Who::Boris => mail("boris"),
        Who::Zoe => mail("zoe"),
        Who::Carl => "carl@fabrikam.example".to_owned(),
        Who::Nina => "nina@new.example".to_owned(),
    }
}

/// The user name of somebody who has one.
pub const fn user(who: Who) -> Option<&'static str> {
    match who {
        Who::Anna => Some("anna"),
        Who::Boris => Some("boris"),
        Who::Zoe => Some("zoe"),
        Who::Carl | Who::Nina => None,
    }
}

pub fn title(tag: u8, value: u16) -> String {
    format!("M{tag} title {value}")
}

/// An occurrence may also have the title of its series.
fn is_title(found: &str, tag: u8, value: u16) -> bool {
    found == title(tag, value) || (tag >= SERIES && found == title(tag - tag % 4, value))
}

/// What an end is about, by its title.
pub fn tag_by_title(end: &Value) -> Option<u8> {
    let title = ["name", "subject", "title"].iter().find_map(|name| end[*name].as_str())?;
    title.trim_start_matches("Canceled: ").strip_prefix('M')?.split(' ').next()?.parse().ok()
}

/// The tag of the occurrence that a series gives to a day: series begin on different weekdays.
pub fn tag_of_day(day: NaiveDate) -> Option<u8> {
    let since = u8::try_from((day - epoch().date_naive()).num_days() - 8).ok()?;
    Some(SERIES + 4 * (since % 7) + since / 7)
}

/// What an item is about. Occurrences are told by the day that their series gives them, others by their title.
fn tag_of_item(item: &Value) -> Option<u8> {
    if item["seriesMasterId"].is_string()
        && let Ok(original) = text(item, &["originalStart"]).parse::<DateTime<Utc>>()
    {
        return tag_of_day(original.date_naive());
    }
    tag_by_title(item)
}

impl End {
    pub fn tag_of_item(&self) -> Option<u8> {
        tag_of_item(&self.json)
    }
}

fn day(tag: u8) -> TimeDelta {
    let days = if tag < SERIES { 7 + i64::from(tag) } else { i64::from(8 + (tag - SERIES) / 4 + 7 * (tag % 4)) };
    TimeDelta::days(days)
}

/// Start and end.
pub fn times(tag: u8, value: u16) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = epoch() + day(tag) + TimeDelta::minutes(5 * i64::from(value % WHOLE_DAY));
    (start, start + TimeDelta::minutes(30))
}

/// The day on which a task is due, or a meeting of whole days is.
pub fn due(tag: u8, value: u16) -> NaiveDate {
    (epoch() + TimeDelta::days(7 + i64::from(tag % SERIES) + i64::from(value % WHOLE_DAY))).date_naive()
}

fn status(value: u16) -> (&'static str, &'static str) {
    [("Not Started", "notStarted"), ("Started", "inProgress"), ("Completed", "completed")][usize::from(value % 3)]
}

pub fn espo_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

pub fn graph_time(at: DateTime<Utc>) -> Value {
    json!({ "dateTime": at.format("%Y-%m-%dT%H:%M:%S").to_string(), "timeZone": "UTC" })
}

fn graph_day(day: NaiveDate) -> Value {
    json!({ "dateTime": format!("{day}T00:00:00"), "timeZone": "UTC" })
}

/// The fields of an edit, as the web client, Outlook or To Do sends them.
pub fn fields(side: Side, kind: Kind, tag: u8, what: What, value: u16) -> Value {
    let ((start, end), day) = (times(tag, value), due(tag, value));
    let next = day.succ_opt().unwrap();
    match (side, what) {
        (Side::Espo, What::Title) => json!({ "name": title(tag, value) }),
        (Side::Espo, What::Body) => json!({ "description": format!("body {value}") }),
        (Side::Espo, What::Place) => json!({ "cLocation": format!("room {value}") }),
        (Side::Espo, What::Status) => json!({ "status": status(value).0 }),
        (Side::Espo, What::Time | What::Day) if kind == Kind::Task => {
            json!({ "dateEnd": null, "dateEndDate": day.to_string() })
        }
        (Side::Espo, What::Day) => {
            json!({ "dateStart": null, "dateEnd": null, "dateStartDate": day.to_string(), "dateEndDate": day.to_string() })
        }
        (Side::Espo, What::Time) if kind == Kind::Call => {
            json!({ "dateStart": espo_time(start), "dateEnd": espo_time(end) })
        }
        (Side::Espo, What::Time) => json!({ "dateStart": espo_time(start), "dateEnd": espo_time(end),
            "dateStartDate": null, "dateEndDate": null }),
        (Side::Outlook, What::Title) if kind == Kind::Task => json!({ "title": title(tag, value) }),
        (Side::Outlook, What::Title) => json!({ "subject": title(tag, value) }),
        (Side::Outlook, What::Body) => json!({ "body": { "contentType": "text", "content": format!("body {value}") } }),
        (Side::Outlook, What::Place) => json!({ "location": { "displayName": format!("room {value}") } }),
        (Side::Outlook, What::Status) => json!({ "status": status(value).1 }),
        (Side::Outlook, What::Time | What::Day) if kind == Kind::Task => json!({ "dueDateTime": graph_day(day) }),
        (Side::Outlook, What::Day) => {
            json!({ "isAllDay": true, "start": graph_day(day), "end": graph_day(next) })
        }
        (Side::Outlook, What::Time) => {
            json!({ "isAllDay": false, "start": graph_time(start), "end": graph_time(end) })
        }
    }
}

/// True when an end shows what was given. A time from [`WHOLE_DAY`] on is a whole day.
pub fn shows(side: Side, what: What, tag: u8, value: u16, end: &End) -> bool {
    let json = &end.json;
    let body = format!("body {value}");
    let place = format!("room {value}");
    let is_task = end.kind == Kind::Task;
    match (side, what) {
        (Side::Espo, What::Title) => is_title(&text(json, &["name"]), tag, value),
        (Side::Espo, What::Body) => text(json, &["description"]) == body,
        (Side::Espo, What::Place) => text(json, &["cLocation"]) == place,
        (Side::Espo, What::Status) => json["status"] == status(value).0,
        (Side::Espo, _) if is_task => json["dateEndDate"] == due(tag, value).to_string().as_str(),
        (Side::Espo, _) if value >= WHOLE_DAY => json["dateStartDate"] == due(tag, value).to_string().as_str(),
        (Side::Espo, _) => {
            json["dateStart"] == espo_time(times(tag, value).0).as_str() && json["dateStartDate"].is_null()
        }
        (Side::Outlook, What::Title) => is_title(&text(json, &[if is_task { "title" } else { "subject" }]), tag, value),
        (Side::Outlook, What::Body) if is_task => text(json, &["body", "content"]).contains(&body),
        (Side::Outlook, What::Body) => text(json, &["bodyPreview"]) == body,
        (Side::Outlook, What::Place) => text(json, &["location", "displayName"]) == place,
        (Side::Outlook, What::Status) => json["status"] == status(value).1,
        (Side::Outlook, _) => {
            let name = if is_task { "dueDateTime" } else { "start" };
            let shown = text(json, &[name, "dateTime"]);
            let whole = is_task || value >= WHOLE_DAY;
            let wanted = if whole {
                format!("{}T00:00:00", due(tag, value))
            } else {
                times(tag, value).0.format("%Y-%m-%dT%H:%M:%S").to_string()
            };
            shown.starts_with(&wanted) && (is_task || json["isAllDay"] == whole)
        }
    }
}

/// Everything of our kinds in EspoCRM.
pub fn records(stage: &Stage) -> Vec<End> {
    let of = |kind: Kind| stage.espo.records(kind.entity()).into_iter().map(move |json| End::new(kind, "", json));
    Kind::ALL.into_iter().flat_map(of).collect()
}

/// Everything in both mailboxes.
fn everything(graph: &GraphSim) -> Vec<End> {
    let mut all = Vec::new();
    for user in USERS {
        let person = graph.person(&mail(user));
        for event in person.view(epoch() - TimeDelta::days(2), epoch() + TimeDelta::days(80)) {
            let is_call = event["categories"].as_array().is_some_and(|all| all.iter().any(|one| one == "Call"));
            all.push(End::new(if is_call { Kind::Call } else { Kind::Meeting }, user, event));
        }
        all.extend(person.tasks().into_iter().map(|task| End::new(Kind::Task, user, task)));
    }
    all
}

fn is_copy(stage: &Stage, end: &End) -> bool {
    let marker = stage.graph.person(&mail(end.user)).extended(&end.id, graph::MARKER);
    marker.is_some_and(|marker| marker.starts_with("copy:"))
}

/// Master copies, tasks, and what somebody outside organises.
pub fn items(stage: &Stage) -> Vec<End> {
    let own = |end: &End| end.kind == Kind::Task || end.json["isOrganizer"] == true || end.is_outside();
    everything(&stage.graph).into_iter().filter(|end| own(end) && !is_copy(stage, end)).collect()
}

/// Private copies.
pub fn copies(stage: &Stage) -> Vec<End> {
    let own = |end: &End| end.kind != Kind::Task && end.json["isOrganizer"] == true;
    everything(&stage.graph).into_iter().filter(|end| own(end) && is_copy(stage, end)).collect()
}

/// Addresses of an event's attendees.
pub fn people_of(event: &Value) -> std::collections::BTreeSet<String> {
    let all = event["attendees"].as_array().into_iter().flatten();
    all.map(|one| text(one, &["emailAddress", "address"])).collect()
}
