//! Both sides as people use and see them.

use chrono::{DateTime, Duration, Timelike as _, Utc};
use serde_json::{Value, json};
use simulators::espocrm::EspoSim;
use simulators::microsoft::GraphSim;
use simulators::plumbing::{Logged, SimClock};

use super::{World, mail};

/// A moment some days from today.
pub fn at(days: i64, hour: u32) -> DateTime<Utc> {
    let now = SimClock::system().now() + Duration::days(days);
    now.with_hour(hour)
        .and_then(|t| t.with_minute(0))
        .and_then(|t| t.with_second(0))
        .and_then(|t| t.with_nanosecond(0))
        .unwrap()
}

/// A day as both sides write it.
pub fn day(days: i64) -> String {
    at(days, 0).format("%Y-%m-%d").to_string()
}

/// A moment as EspoCRM writes it.
pub fn espo(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The attributes of an all-day record, the last day inclusive.
pub fn espo_day(first: i64, last: i64) -> Value {
    json!({ "dateStart": null, "dateEnd": null, "dateStartDate": day(first), "dateEndDate": day(last), "isAllDay": true })
}

pub fn graph_time(moment: DateTime<Utc>) -> Value {
    json!({ "dateTime": moment.format("%Y-%m-%dT%H:%M:%S").to_string(), "timeZone": "UTC" })
}

/// The properties of an all-day event, the end exclusive.
pub fn graph_day(first: i64, after: i64) -> Value {
    let midnight = |days| json!({ "dateTime": format!("{}T00:00:00", day(days)), "timeZone": "UTC" });
    json!({ "isAllDay": true, "start": midnight(first), "end": midnight(after) })
}

/// The title of a record or event.
pub fn title(end: &Value) -> &str {
    end["name"].as_str().or_else(|| end["subject"].as_str()).unwrap_or_default()
}

/// Lays the keys of `over` over those of `base`.
fn merged(mut base: Value, over: Value) -> Value {
    if let (Value::Object(base), Value::Object(over)) = (&mut base, over) {
        base.extend(over);
    }
    base
}

/// Writes of records and items by the product since a mark; steps of batches count one by one.
pub fn writes(espo: &EspoSim, graph: &GraphSim, mark: (usize, usize)) -> (Vec<Logged>, Vec<Logged>) {
    let espo_rows = espo.wire().writes_since(mark.0).into_iter().filter(is_of_record).collect();
    let mut graph_rows: Vec<Logged> = graph.wire().writes_since(mark.1).into_iter().filter(is_of_item).collect();
    let since = graph.wire().at(mark.1);
    let steps =
        graph.batch_steps().into_iter().filter(|step| step.is_write() && since.is_some_and(|since| step.at >= since));
    graph_rows.extend(steps.filter(|step| !step.path.contains("/subscriptions")));
    (espo_rows, graph_rows)
}

/// How many requests that write were made in all, those in batches counted as one.
pub fn write_counts(espo: &EspoSim, graph: &GraphSim) -> [usize; 2] {
    let is_of_batch = |row: &Logged| row.path.contains("$batch");
    [espo.wire().count_writes(0, is_of_record), graph.wire().count_writes(0, |row| is_of_item(row) || is_of_batch(row))]
}

fn is_of_record(row: &Logged) -> bool {
    !["/Webhook", "/App/", "/Admin/", "/Layout/"].iter().any(|part| row.path.contains(part))
}

fn is_of_item(row: &Logged) -> bool {
    row.path.contains("/v1.0/") && !row.path.contains("/subscriptions") && !row.path.contains("$batch")
}

impl World {
    // EspoCRM.

    /// A meeting of a week ahead, made by its assigned user; `fields` over that. Gives its id.
    pub fn espo_create(&self, user: &str, name: &str, fields: Value) -> String {
        self.make("Meeting", user, name, fields)
    }

    /// The same of any kind; a task is due when it is said.
    pub fn make(&self, kind: &str, user: &str, name: &str, fields: Value) -> String {
        let body = json!({ "name": name, "assignedUserId": self.id(user) });
        let times = json!({ "dateStart": espo(at(7, 10)), "dateEnd": espo(at(7, 11)) });
        let body = if kind == "Task" { body } else { merged(body, times) };
        let made = self.espo.write_as(user, "POST", kind, None, &merged(body, fields)).unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    pub fn change(&self, kind: &str, id: &str, fields: Value) {
        self.espo.write_as("anna", "PUT", kind, Some(id), &fields).unwrap();
    }

    pub fn record_of(&self, kind: &str, id: &str) -> Value {
        self.espo.get_record(kind, id).unwrap_or_else(|| panic!("the {kind} {id} is gone"))
    }

    /// What the page of a record says about it.
    pub fn reasons(&self, kind: &str, id: &str) -> String {
        self.get(&format!("/records/{kind}/{id}"))["reasons"].to_string()
    }

    /// Anna's To Do task of that title, once it is there.
    pub fn one_task(&self, title: &str) -> Value {
        let find = || self.person("anna").tasks().into_iter().find(|task| task["title"] == title);
        self.eventually_some(&format!("a task '{title}' in To Do"), find)
    }

    pub fn patch_task(&self, title: &str, body: Value) {
        let id = self.one_task(title)["id"].as_str().unwrap().to_owned();
        self.person("anna").patch_task(&id, body).unwrap();
    }

    pub fn espo_update(&self, id: &str, fields: Value) {
        self.espo.write_as("anna", "PUT", "Meeting", Some(id), &fields).unwrap();
    }

    pub fn espo_delete(&self, id: &str) {
        self.espo.write_as("anna", "DELETE", "Meeting", Some(id), &Value::Null).unwrap();
    }

    pub fn record(&self, id: &str) -> Value {
        self.espo.get_record("Meeting", id).unwrap_or_else(|| panic!("the record {id} is gone"))
    }

    /// Meetings of a name.
    pub fn records(&self, name: &str) -> Vec<Value> {
        self.espo.records("Meeting").into_iter().filter(|record| title(record) == name).collect()
    }

    /// The one meeting of that name, once it is there.
    pub fn one_record(&self, name: &str) -> Value {
        self.eventually(&format!("a record '{name}' in EspoCRM"), || !self.records(name).is_empty());
        let rows = self.records(name);
        assert_eq!(rows.len(), 1, "records '{name}': {rows:?}");
        rows[0].clone()
    }

    // Outlook.

    /// An event of a week ahead; `fields` over that. Gives its id.
    pub fn outlook_create(&self, user: &str, subject: &str, fields: Value) -> String {
        let body = json!({ "subject": subject, "start": graph_time(at(7, 10)), "end": graph_time(at(7, 11)) });
        let made = self.person(user).create_event(merged(body, fields)).unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    pub fn outlook_update(&self, user: &str, id: &str, fields: Value) {
        self.person(user).patch_event(id, fields).unwrap();
    }

    /// Events of a subject.
    pub fn events(&self, user: &str, subject: &str) -> Vec<Value> {
        self.person(user).events().into_iter().filter(|event| title(event) == subject).collect()
    }

    /// The one event of that subject, once it is there.
    pub fn one_event(&self, user: &str, subject: &str) -> Value {
        self.eventually(&format!("an event '{subject}' of {user}"), || !self.events(user, subject).is_empty());
        let rows = self.events(user, subject);
        assert_eq!(rows.len(), 1, "events '{subject}' of {user}: {rows:?}");
        rows[0].clone()
    }

    pub fn event(&self, user: &str, id: &str) -> Value {
        self.person(user).event(id).unwrap_or_else(|| panic!("the event {id} is gone"))
    }

    /// A pair that is in step: the ids of the record and of the event.
    pub fn pair(&self, name: &str, fields: Value) -> (String, String) {
        let record = self.espo_create("anna", name, fields);
        let event = self.one_event("anna", name)["id"].as_str().unwrap().to_owned();
        self.settle();
        (record, event)
    }

    /// Kind and addressee of every mail that Exchange would have sent.
    pub fn mails(&self) -> Vec<(String, String)> {
        self.graph.mails().into_iter().map(|mail| (mail.kind, mail.to)).collect()
    }

    /// An attendee as Outlook writes it.
    pub fn attendee(&self, who: &str, name: &str) -> Value {
        let address = if who.contains('@') { who.to_owned() } else { mail(who) };
        json!({ "type": "required", "emailAddress": { "address": address, "name": name } })
    }

    /// `GET /history` with a query.
    pub fn history(&self, query: &str) -> Vec<Value> {
        self.items(&format!("/history?limit=100&{query}"))
    }

    /// Dead letters.
    pub fn dead(&self) -> Vec<Value> {
        self.items("/messages?state=dead")
    }
}
