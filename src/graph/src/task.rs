//! To Do tasks: from JSON to [`sync::Item`], and from [`sync::Values`] to the JSON of a write.
//!
//! Facts (learn.microsoft.com/graph/api/resources/todotask, microsoft-graph-docs issue 16991): due and start are dates, their
//! time part is dropped; only the reminder has a time; `completedDateTime` follows from the status; a task has an
//! `@odata.etag` but no change key.
//!
//! EspoCRM keeps a reminder as minutes before the due moment, To Do as a moment. The two are converted at an anchor: the
//! record's due moment where the caller knows it and the task is due on that day, else the beginning of the due day in the
//! mailbox's zone. A reminder after the anchor has no minutes and is left out of the values: it is left alone.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value as Json, json};
use sync::{Day, Field, Files, Importance, Item, Kind, Role, Series, Status, Value, Values, When, text};

use crate::client::Mailbox;
use crate::error::Error;
use crate::todo::APPLICATION;
use crate::{Result, extra, map, wire};

/// An item of a task. `due` is the due moment of its record.
pub(crate) fn item(task: wire::Task, list: &str, mailbox: &Mailbox, due: Option<DateTime<Utc>>) -> Result<Item> {
    let zone = mailbox.zone.unwrap_or(Tz::UTC);
    let (created, modified) = map::stamps(task.created_date_time.as_deref(), task.last_modified_date_time.as_deref())?;
    let mut values = values(&task, zone, due)?;
    values.extend(extra::of_task(&task, &mailbox.pairs));
    let marker = task.linked_resources.iter().flatten().find_map(|linked| {
        let ours = linked.application_name.as_deref() == Some(APPLICATION);
        linked.external_id.clone().filter(|id| ours && !id.is_empty())
    });
    let repeats = task.recurrence.as_ref().is_some_and(|value| !value.is_null());
    Ok(Item {
        id: task.id,
        user: mailbox.user.clone(),
        list: Some(list.to_owned()),
        ical_uid: None,
        etag: task.etag,
        kind: Kind::Task,
        role: Role::Organizer,
        series: if repeats { Series::Repeating } else { Series::Single },
        private: false,
        marker,
        modified,
        created,
        own_answer: sync::Answer::None,
        organizer_name: None,
        resources: Vec::new(),
        body_is_rich: task
            .body
            .as_ref()
            .is_some_and(|body| body.is_html() && crate::body::is_rich(body.content.as_deref().unwrap_or_default())),
        values,
    })
}

fn values(task: &wire::Task, zone: Tz, due: Option<DateTime<Utc>>) -> Result<Values> {
    let mut values = Values::new();
    if let Some(title) = &task.title {
        values.insert(Field::Title, Value::Text(title.clone()));
    }
    if let Some(body) = &task.body {
        values.insert(Field::Body, Value::Text(map::plain(body)));
    }
    let date = |moment: &Option<wire::Moment>| moment.as_ref().map(|moment| moment.date(zone)).transpose();
    let (due_on, start_on) = (date(&task.due_date_time)?, date(&task.start_date_time)?);
    values.insert(Field::Time, Value::Time(When::Due { due: due_on.map(Day::On), start: start_on.map(Day::On) }));
    if let Some(status) = task.status.as_deref().and_then(status) {
        values.insert(Field::Status, Value::Status(status));
    }
    if let Some(importance) = task.importance.as_deref().and_then(importance) {
        values.insert(Field::Importance, Value::Importance(importance));
    }
    match (task.is_reminder_on, &task.reminder_date_time) {
        (Some(false), _) | (None, None) => {
            values.insert(Field::Reminder, Value::Reminder(None));
        }
        (_, Some(reminder)) => {
            let before =
                anchor(due_on, due, zone).map(|anchor| anchor.signed_duration_since(reminder.utc().unwrap_or(anchor)));
            if let Some(minutes) = before.and_then(|before| u32::try_from(before.num_minutes()).ok()) {
                values.insert(Field::Reminder, Value::Reminder(Some(minutes)));
            }
        }
        (Some(true), None) => {}
    }
    // Which files there are has to be asked for (`Client::attachments`); that there are none is told here.
    if task.has_attachments == Some(false) {
        values.insert(Field::Attachments, Value::Files(Files::default()));
    }
    Ok(values)
}

/// The moment before which minutes count.
fn anchor(due_on: Option<NaiveDate>, due: Option<DateTime<Utc>>, zone: Tz) -> Option<DateTime<Utc>> {
    let on = due_on?;
    due.filter(|at| sync::time::local_date(*at, zone) == on)
        .or_else(|| wire::at_zone(on.and_time(NaiveTime::MIN), zone))
}

fn status(word: &str) -> Option<Status> {
    Some(match word.to_ascii_lowercase().as_str() {
        "notstarted" => Status::NotStarted,
        "inprogress" => Status::Started,
        "completed" => Status::Completed,
        "waitingonothers" => Status::Waiting,
        "deferred" => Status::Deferred,
        _ => return None,
    })
}

fn importance(word: &str) -> Option<Importance> {
    Some(match word.to_ascii_lowercase().as_str() {
        "low" => Importance::Low,
        "normal" => Importance::Normal,
        "high" => Importance::High,
        _ => return None,
    })
}

/// The JSON that writes `values`. `due` is the due moment of the record; `due_on` is the task's due date where `values` do not
/// name one.
pub(crate) fn write(
    values: &Values,
    mailbox: &Mailbox,
    due: Option<DateTime<Utc>>,
    due_on: Option<NaiveDate>,
) -> Result<Map<String, Json>> {
    let zone = mailbox.zone.unwrap_or(Tz::UTC);
    let mut json = Map::new();
    let mut put = |name: &str, value: Json| json.insert(name.to_owned(), value);
    let mut due_on = due_on;
    for (field, value) in values {
        match (field, value) {
            (Field::Title, Value::Text(title)) => {
                let title = text::outlook_subject(title);
                put("title", if title.trim().is_empty() { text::UNTITLED.into() } else { title.into() });
            }
            (Field::Body, Value::Text(plain)) => {
                put("body", json!({"contentType": "text", "content": text::plain(plain)}));
            }
            (Field::Time, Value::Time(When::Due { due, start })) => {
                let date = |day: &Option<Day>| day.map(|day| date_of(day, zone));
                due_on = date(due);
                put("dueDateTime", due_on.map_or(Json::Null, wire::midnight));
                put("startDateTime", date(start).map_or(Json::Null, wire::midnight));
            }
            (Field::Status, Value::Status(status)) => {
                put("status", status_word(status)?.into());
            }
            (Field::Importance, Value::Importance(importance)) => {
                put("importance", importance_word(*importance).into());
            }
            // Written below: it depends on the due date. Files are written one by one.
            (Field::Reminder, Value::Reminder(_)) | (Field::Attachments, Value::Files(_)) | (Field::Extra(_), _) => {}
            (field, _) => return Err(Error::Unwritable { field: field.clone(), why: "a task does not have it" }),
        }
    }
    if let Some(Value::Reminder(minutes)) = values.get(&Field::Reminder) {
        let at = minutes.and_then(|minutes| {
            anchor(due_on, due, zone)?.checked_sub_signed(TimeDelta::try_minutes(i64::from(minutes))?)
        });
        put("isReminderOn", at.is_some().into());
        put("reminderDateTime", at.map_or(Json::Null, wire::moment));
    }
    Ok(json)
}

fn date_of(day: Day, zone: Tz) -> NaiveDate {
    match day {
        Day::At(at) => sync::time::local_date(at, zone),
        Day::On(date) => date,
    }
}

fn status_word(status: &Status) -> Result<&'static str> {
    Ok(match status {
        Status::NotStarted | Status::Other(_) => "notStarted",
        Status::Started => "inProgress",
        Status::Completed | Status::Canceled => "completed",
        Status::Waiting => "waitingOnOthers",
        Status::Deferred => "deferred",
        Status::Planned | Status::Held | Status::NotHeld | Status::Active | Status::Cancelled => {
            return Err(Error::Unwritable { field: Field::Status, why: "it is the status of an event" });
        }
    })
}

const fn importance_word(importance: Importance) -> &'static str {
    match importance {
        Importance::Low => "low",
        Importance::Normal => "normal",
        Importance::High | Importance::Urgent => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::mailbox;

    fn read(json: Json, due: Option<DateTime<Utc>>) -> Item {
        item(serde_json::from_value(json).unwrap(), "L", &mailbox(), due).unwrap()
    }

    fn sent_back(json: Map<String, Json>) -> Json {
        let mut json = Json::Object(json);
        json["id"] = "T".into();
        json["createdDateTime"] = "2026-11-22T10:00:00Z".into();
        json
    }

    #[test]
    fn the_samples_of_the_documentation_are_read() {
        let created: Json = serde_json::from_str(include_str!("../fixtures/todoTask.created.201.json")).unwrap();
        let item = read(created, None);
        assert_eq!(item.values[&Field::Importance], Value::Importance(Importance::Low));
        assert_eq!(item.values[&Field::Time], Value::Time(When::Due { due: None, start: None }));
        assert_eq!(item.values[&Field::Reminder], Value::Reminder(None));
        assert_eq!(item.marker, None, "another application's linked resource is not our marker");
        assert_eq!(item.list.as_deref(), Some("L"));
        let updated: Json = serde_json::from_str(include_str!("../fixtures/todoTask.updated.200.json")).unwrap();
        let berlin = read(updated, None);
        let due = Some(Day::On("2020-08-25".parse().unwrap()));
        assert_eq!(berlin.values[&Field::Time], Value::Time(When::Due { due, start: None }));
    }

    #[test]
    fn our_linked_resource_is_the_marker() {
        let item = read(
            json!({"id": "T", "createdDateTime": "2026-11-22T10:00:00Z",
                "linkedResources": [{"applicationName": "Teams", "externalId": "x"}, {"applicationName": APPLICATION, "externalId": "link-1"}]}),
            None,
        );
        assert_eq!(item.marker.as_deref(), Some("link-1"));
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let due_at: DateTime<Utc> = "2026-12-01T22:30:00Z".parse().unwrap();
        let due_on: NaiveDate = "2026-12-01".parse().unwrap();
        let values = Values::from([
            (Field::Title, Value::Text("Call back".to_owned())),
            (Field::Body, Value::Text("two\nlines & <tags>".to_owned())),
            (Field::Time, Value::Time(When::Due { due: Some(Day::On(due_on)), start: None })),
            (Field::Status, Value::Status(Status::Waiting)),
            (Field::Importance, Value::Importance(Importance::High)),
            (Field::Reminder, Value::Reminder(Some(30))),
        ]);
        for due in [None, Some(due_at)] {
            let json = write(&values, &mailbox(), due, None).unwrap();
            assert_eq!(read(sent_back(json), due).values, values);
        }
    }

    #[test]
    fn a_due_moment_becomes_the_date_that_it_is_in_the_mailbox() {
        // Half past midnight in Berlin.
        let at = "2026-12-01T23:30:00Z".parse().unwrap();
        let values = Values::from([(Field::Time, Value::Time(When::Due { due: Some(Day::At(at)), start: None }))]);
        let json = write(&values, &mailbox(), None, None).unwrap();
        assert_eq!(json["dueDateTime"]["dateTime"], "2026-12-02T00:00:00");
        assert_eq!(json["startDateTime"], Json::Null);
    }

    #[test]
    fn a_reminder_counts_from_the_records_due_moment() {
        let due_at: DateTime<Utc> = "2026-12-01T14:00:00Z".parse().unwrap();
        let values = Values::from([(Field::Reminder, Value::Reminder(Some(30)))]);
        let json = write(&values, &mailbox(), Some(due_at), "2026-12-01".parse().ok()).unwrap();
        assert_eq!(json["reminderDateTime"]["dateTime"], "2026-12-01T13:30:00");
        assert_eq!(json["isReminderOn"], true);
    }

    #[test]
    fn a_reminder_that_minutes_before_cannot_say_is_left_alone() {
        let json = json!({"id": "T", "createdDateTime": "2026-11-22T10:00:00Z", "isReminderOn": true,
            "dueDateTime": {"dateTime": "2026-12-01T00:00:00.0000000", "timeZone": "UTC"},
            "reminderDateTime": {"dateTime": "2026-12-01T08:00:00.0000000", "timeZone": "UTC"}});
        assert!(!read(json, None).values.contains_key(&Field::Reminder));
    }

    #[test]
    fn a_reminder_of_a_task_without_a_due_date_cannot_be_set() {
        let values = Values::from([(Field::Reminder, Value::Reminder(Some(30)))]);
        let json = write(&values, &mailbox(), None, None).unwrap();
        assert_eq!(json["isReminderOn"], false);
    }

    #[test]
    fn the_poorer_words_of_to_do_are_used() {
        let values = Values::from([
            (Field::Status, Value::Status(Status::Canceled)),
            (Field::Importance, Value::Importance(Importance::Urgent)),
        ]);
        let json = write(&values, &mailbox(), None, None).unwrap();
        assert_eq!((json["status"].as_str(), json["importance"].as_str()), (Some("completed"), Some("high")));
    }

    #[test]
    fn a_location_cannot_be_written_to_a_task() {
        let values = Values::from([(Field::Location, Value::Text("Room".to_owned()))]);
        assert!(matches!(
            write(&values, &mailbox(), None, None),
            Err(Error::Unwritable { field: Field::Location, .. })
        ));
    }
}
