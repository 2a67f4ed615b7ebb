//! Bodies are those of EspoCRM 9.3.10, shortened.

use super::*;
use sync::Status;

fn schema() -> KindSchema {
    KindSchema {
        location: Some("cLocation".to_owned()),
        location_max: 12,
        switch: Some("cSyncWithOutlook".to_owned()),
        marker: Some("cOutlookMarker".to_owned()),
        many_owners: false,
        ..KindSchema::default()
    }
}

fn meeting() -> Json {
    json!({
        "id": "6b033b8a988926618", "name": "Kick-off", "deleted": false, "status": "Planned", "dateStart": "2026-12-01 09:00:00",
        "dateEnd": "2026-12-01 10:30:00", "isAllDay": false, "duration": 5400, "reminders": [{"type": "Email", "seconds": 900}],
        "description": "Line 1\r\nLine 2 with **markdown** and <b>html</b> & ümlaut\n", "createdAt": "2026-11-22 18:59:22",
        "modifiedAt": "2026-11-22 18:59:25", "dateStartDate": null, "dateEndDate": null, "cLocation": "Room 1",
        "cSyncWithOutlook": true, "cOutlookMarker": null,
        "usersIds": ["6b033b3f67ceb194a", "6b033b3fa2b417e88"],
        "usersNames": {"6b033b3f67ceb194a": "Anna Test", "6b033b3fa2b417e88": "Boris Test"},
        "usersColumns": {"6b033b3f67ceb194a": {"status": "None"}, "6b033b3fa2b417e88": {"status": "Tentative"}},
        "contactsIds": ["6b033b3fd434436e0"], "contactsNames": {"6b033b3fd434436e0": "Clara Kunde"},
        "contactsColumns": {"6b033b3fd434436e0": {"status": "Accepted"}}, "leadsIds": [], "leadsNames": [], "leadsColumns": [],
        "assignedUserId": "6b033b3f67ceb194a", "assignedUserName": "Anna Test"
    })
}

fn with(mut row: Json, changes: Json) -> Map<String, Json> {
    let row = row.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        row.insert(name.clone(), value.clone());
    }
    row.clone()
}

fn read(kind: Kind, row: &Map<String, Json>) -> Draft {
    draft(kind, &schema(), row, Source::Whole, None).expect("a record")
}

fn utc(text: &str) -> DateTime<Utc> {
    parse_moment(text).expect("a moment")
}

fn time(values: &Values) -> When {
    values.get(&Field::Time).and_then(Value::as_when).cloned().expect("a time")
}

#[test]
fn a_meeting_is_read_whole() {
    let Draft { record, roster, reminders, .. } = read(Kind::Meeting, &with(meeting(), json!({})));
    assert_eq!((record.owner.as_deref(), record.switch, record.marker), (Some("6b033b3f67ceb194a"), Some(true), None));
    assert_eq!(record.modified, utc("2026-11-22 18:59:25"));
    assert_eq!(
        record.values[&Field::Body].as_text(),
        Some("Line 1\nLine 2 with **markdown** and <b>html</b> & ümlaut")
    );
    assert_eq!(record.values[&Field::Status], Value::Status(Status::Planned));
    assert_eq!(record.values[&Field::Location].as_text(), Some("Room 1"));
    assert_eq!(
        time(&record.values),
        When::Timed { start: utc("2026-12-01 09:00:00"), end: Some(utc("2026-12-01 10:30:00")) }
    );
    assert_eq!(reminders, None, "the API user's own are not the owner's");
    let answers: Vec<_> = roster.members.iter().map(|member| (member.entity, member.answer)).collect();
    let expected =
        [(Entity::User, Answer::None), (Entity::User, Answer::Tentative), (Entity::Contact, Answer::Accepted)];
    assert_eq!(answers, expected);
    assert_eq!(roster.links.len(), 3, "an empty map that PHP writes as a list is one too");
}

#[test]
fn reminders_are_read_only_as_the_owner_and_the_first_one_counts() {
    let row = with(meeting(), json!({}));
    let owner = draft(Kind::Meeting, &schema(), &row, Source::Whole, Some("6b033b3f67ceb194a")).expect("a record");
    assert_eq!(owner.record.values[&Field::Reminder], Value::Reminder(Some(15)));
    let guest = draft(Kind::Meeting, &schema(), &row, Source::Whole, Some("6b033b3fa2b417e88")).expect("a record");
    assert!(!guest.record.values.contains_key(&Field::Reminder));
    let written =
        reminders(&[json!({"type": "Email", "seconds": 900}), json!({"type": "Popup", "seconds": 60})], Some(5));
    assert_eq!(written, json!([{"type": "Email", "seconds": 300}, {"type": "Popup", "seconds": 60}]));
}

#[test]
fn what_may_not_be_read_is_unknown_and_what_is_null_is_empty() {
    let mut row = with(meeting(), json!({"description": null, "modifiedAt": null}));
    for hidden in ["status", "cLocation", "usersIds", "contactsIds", "leadsIds"] {
        row.remove(hidden);
    }
    let Draft { record, roster, .. } = read(Kind::Meeting, &row);
    assert_eq!(record.values[&Field::Body].as_text(), Some(""));
    assert_eq!(record.modified, record.created, "never modified");
    assert!(!record.values.contains_key(&Field::Status) && !record.values.contains_key(&Field::Location));
    assert!(roster.links.is_empty());
}

#[test]
fn the_answer_to_a_post_leaves_out_what_is_null() {
    let mut row = with(meeting(), json!({}));
    row.remove("description");
    let created = draft(Kind::Meeting, &schema(), &row, Source::Created, None).expect("a record");
    assert_eq!(created.record.values[&Field::Body].as_text(), Some(""));
    assert!(!read(Kind::Meeting, &row).record.values.contains_key(&Field::Body));
}

#[test]
fn a_text_that_a_list_may_have_cut_is_unknown() {
    let row = with(meeting(), json!({"description": "ü".repeat(10_000)}));
    let listed = draft(Kind::Meeting, &schema(), &row, Source::List, None).expect("a record");
    assert!(!listed.record.values.contains_key(&Field::Body));
    assert!(read(Kind::Meeting, &row).record.values.contains_key(&Field::Body));
}

#[test]
fn all_day_is_told_by_the_dates_whatever_the_derived_times_say() {
    let dates = json!({"dateStart": "2026-12-23 23:00:00", "dateEnd": "2026-12-25 23:00:00", "dateStartDate": "2026-12-24", "dateEndDate": "2026-12-25"});
    let values = read(Kind::Meeting, &with(meeting(), dates)).record.values;
    let (first, last) = ("2026-12-24".parse().expect("a date"), "2026-12-25".parse().expect("a date"));
    assert_eq!(time(&values), When::AllDay { first, last });
    let body = attributes(Kind::Meeting, &schema(), &values, None).expect("a body");
    assert_eq!((&body["dateStartDate"], &body["dateEndDate"]), (&json!("2026-12-24"), &json!("2026-12-25")));
    assert!(!body.contains_key("dateStart"), "EspoCRM derives it in its own zone");
    assert!(attributes(Kind::Call, &schema(), &values, None).is_err(), "a call has no whole days");
}

#[test]
fn making_a_record_timed_takes_the_dates_away_and_sends_both_ends() {
    let when = When::Timed { start: utc("2026-12-24 10:00:00"), end: Some(utc("2026-12-24 11:00:00")) };
    let values = Values::from([(Field::Time, Value::Time(when))]);
    let body = attributes(Kind::Meeting, &schema(), &values, None).expect("a body");
    let expected = json!({"dateStart": "2026-12-24 10:00:00", "dateEnd": "2026-12-24 11:00:00", "dateStartDate": null, "dateEndDate": null});
    assert_eq!(Json::Object(body), expected);
    let call = attributes(Kind::Call, &schema(), &values, None).expect("a body");
    assert_eq!(call.keys().collect::<Vec<_>>(), ["dateEnd", "dateStart"]);
}

fn task() -> Json {
    json!({
        "id": "6b033f5045ded0866", "name": "Task due date only", "status": "Not Started", "priority": "Urgent", "dateStart": null,
        "dateEnd": "2026-12-16 00:00:00", "dateStartDate": null, "dateEndDate": "2026-12-15", "reminders": [], "description": null,
        "createdAt": "2026-11-22 19:15:28", "modifiedAt": "2026-11-22 19:15:28", "assignedUserId": "6b033b3f67ceb194a", "versionNumber": 1
    })
}

#[test]
fn a_task_is_due_on_a_day_or_at_a_moment_or_never() {
    let read_time = |changes| time(&read(Kind::Task, &with(task(), changes)).record.values);
    let day = Some(Day::On("2026-12-15".parse().expect("a date")));
    assert_eq!(read_time(json!({})), When::Due { due: day, start: None });
    let at = Some(Day::At(utc("2026-12-15 10:00:00")));
    assert_eq!(
        read_time(json!({"dateEnd": "2026-12-15 10:00:00", "dateEndDate": null})),
        When::Due { due: at, start: None }
    );
    assert_eq!(read_time(json!({"dateEnd": null, "dateEndDate": null})), When::Due { due: None, start: None });
}

#[test]
fn every_form_of_a_tasks_dates_comes_back_as_it_was_written() {
    let forms = [None, Some(Day::On("2026-12-15".parse().expect("a date"))), Some(Day::At(utc("2026-12-15 10:00:00")))];
    for due in forms {
        for start in forms {
            let when = When::Due { due, start };
            let body = dates(Kind::Task, &when).expect("a body");
            // EspoCRM derives the moment of a date.
            let row = with(Json::Object(with(task(), json!({"dateEnd": "2026-12-16 00:00:00"}))), Json::Object(body));
            assert_eq!(time(&read(Kind::Task, &row).record.values), when);
        }
    }
}

#[test]
fn a_task_keeps_its_version_priority_and_has_no_people() {
    let Draft { record, roster, version, .. } = read(Kind::Task, &with(task(), json!({})));
    assert_eq!(version, Some(1));
    assert_eq!(record.values[&Field::Importance], Value::Importance(Importance::Urgent));
    assert!(roster.links.is_empty() && roster.members.is_empty());
}

#[test]
fn writing_what_was_read_writes_nothing_and_one_change_writes_one_attribute() {
    for (kind, row) in [(Kind::Meeting, meeting()), (Kind::Task, task())] {
        let values = read(kind, &with(row, json!({}))).record.values;
        assert_eq!(attributes(kind, &schema(), &values, Some(&values)).expect("a body"), Map::new());
        let renamed = Values::from([(Field::Title, Value::Text("a <b> = c".to_owned()))]);
        let body = attributes(kind, &schema(), &renamed, Some(&values)).expect("a body");
        assert_eq!(Json::Object(body), json!({"name": "a b c"}));
    }
}

#[test]
fn values_are_made_acceptable_before_they_are_compared() {
    let values =
        read(Kind::Meeting, &with(meeting(), json!({"name": "a b c", "cLocation": "A very long "}))).record.values;
    let same = Values::from([
        (Field::Title, Value::Text("a <b> =c".to_owned())),
        (Field::Location, Value::Text("A very long name of a place".to_owned())),
        (Field::Body, Value::Text("Line 1\nLine 2 with **markdown** and <b>html</b> & ümlaut  \n\n".to_owned())),
    ]);
    assert_eq!(attributes(Kind::Meeting, &schema(), &same, Some(&values)).expect("a body"), Map::new());
    let emptied =
        Values::from([(Field::Body, Value::Text(String::new())), (Field::Location, Value::Text(String::new()))]);
    let body = attributes(Kind::Meeting, &schema(), &emptied, Some(&values)).expect("a body");
    assert_eq!(Json::Object(body), json!({"description": null, "cLocation": null}));
}

#[test]
fn a_status_of_the_other_side_is_refused_and_an_added_option_is_not() {
    let write =
        |kind, status| attributes(kind, &schema(), &Values::from([(Field::Status, Value::Status(status))]), None);
    assert!(write(Kind::Meeting, Status::Active).is_err());
    assert!(write(Kind::Task, Status::Held).is_err());
    assert_eq!(write(Kind::Task, Status::Other("On Hold".to_owned())).expect("a body")["status"], "On Hold");
}

#[test]
fn unexpected_forms_are_errors_that_name_the_attribute() {
    for (name, value) in
        [("dateStart", json!("tomorrow")), ("usersIds", json!("x")), ("id", json!(null)), ("name", json!({}))]
    {
        let row = with(meeting(), json!({name: value}));
        let error = draft(Kind::Meeting, &schema(), &row, Source::Whole, None).expect_err("an error");
        assert!(error.to_string().contains(&format!("Meeting.{name}")), "{error}");
        assert_eq!(error.disposition(), crate::Disposition::Odd);
    }
}

#[test]
fn a_moment_without_seconds_is_one_too() {
    assert_eq!(parse_moment("2026-12-01 09:00"), parse_moment("2026-12-01 09:00:00"));
    assert_eq!(parse_moment("2026-12-01"), None);
}

#[test]
fn the_marker_is_the_link_alone_and_may_name_the_item_after_it() {
    for (text, marker, item) in [
        (json!("link-1"), Some("link-1"), None),
        (json!("link-1;00ff"), Some("link-1"), Some("00ff")),
        (json!(""), None, None),
        (json!(null), None, None),
    ] {
        let draft = read(Kind::Meeting, &with(meeting(), json!({ "cOutlookMarker": text })));
        assert_eq!((draft.record.marker.as_deref(), draft.item.as_deref()), (marker, item));
    }
}
