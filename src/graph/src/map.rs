//! Events: from JSON to [`sync::Item`], and from [`sync::Values`] to the JSON of a write.
//!
//! Facts (learn.microsoft.com/graph/api/resources/event, event-update): an all-day event is midnight to midnight in any zone,
//! the end exclusive; `attendees` is written as a whole list, without answers; `location` replaces `locations`; extended
//! properties are not echoed in answers to writes.

use chrono::{DateTime, NaiveDate, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value as Json, json};
use sync::{Field, Item, Kind, People, Person, Role, Series, Status, Value, Values, When, text};

use crate::client::Mailbox;
use crate::error::Error;
use crate::events::{MARKER, RECORD};
use crate::{Result, body, extra, wire};

/// An item of an event, as it stands in a mailbox.
pub(crate) fn item(event: wire::Event, mailbox: &Mailbox) -> Result<Item> {
    let all_day = event.is_all_day.unwrap_or_default();
    let organizer = organizer(&event);
    let role = role(&event, organizer.as_deref(), mailbox);
    let kind = if is_call(&event, mailbox) && !all_day { Kind::Call } else { Kind::Meeting };
    let (created, modified) = stamps(event.created_date_time.as_deref(), event.last_modified_date_time.as_deref())?;
    let time = time(&event, all_day, mailbox.zone.unwrap_or(Tz::UTC))?;
    let series = series(&event, time.as_ref());
    let marker = marker(event.single_value_extended_properties.as_deref());
    let own_answer = match &role {
        Role::Organizer => sync::Answer::None,
        Role::Attendee { .. } => event.response_status.as_ref().map(wire::Response::answer).unwrap_or_default(),
    };
    let mut values = values(&event, time, organizer.as_deref());
    values.extend(extra::of_event(&event, kind, &role, &mailbox.pairs));
    let body_is_rich = event
        .body
        .as_ref()
        .is_some_and(|body| body.is_html() && body::is_rich(body.content.as_deref().unwrap_or_default()));
    let organizer_name = organizer_name(&event, organizer.as_deref());
    let sensitivity = event.sensitivity.as_deref().unwrap_or_default();
    Ok(Item {
        user: mailbox.user.clone(),
        list: None,
        kind,
        role,
        series,
        private: ["private", "confidential"].iter().any(|word| sensitivity.eq_ignore_ascii_case(word)),
        marker,
        modified,
        created,
        own_answer,
        organizer_name,
        resources: event.attendees.as_deref().map(resources).unwrap_or_default(),
        body_is_rich,
        values,
        id: event.id,
        ical_uid: event.ical_uid,
        etag: event.etag,
    })
}

fn values(event: &wire::Event, time: Option<When>, organizer: Option<&str>) -> Values {
    let mut values = Values::new();
    if let Some(subject) = &event.subject {
        values.insert(Field::Title, Value::Text(subject.clone()));
    }
    if let Some(body) = &event.body {
        values.insert(Field::Body, Value::Text(plain(body)));
    }
    if let Some(time) = time {
        values.insert(Field::Time, Value::Time(time));
    }
    let status = if event.is_cancelled.unwrap_or_default() { Status::Cancelled } else { Status::Active };
    values.insert(Field::Status, Value::Status(status));
    if let Some(location) = &event.location {
        values.insert(Field::Location, Value::Text(location.display_name.clone().unwrap_or_default()));
    }
    if let Some(attendees) = &event.attendees {
        values.insert(Field::Participants, Value::People(people(attendees, organizer)));
    }
    if let Some(is_on) = event.is_reminder_on {
        let minutes = u32::try_from(event.reminder_minutes_before_start.unwrap_or_default().max(0)).unwrap_or(u32::MAX);
        values.insert(Field::Reminder, Value::Reminder(is_on.then_some(minutes)));
    }
    values
}

/// The text of a body, without what is not ours.
pub(crate) fn plain(body: &wire::Body) -> String {
    let content = body.content.as_deref().unwrap_or_default();
    if body.is_html() { body::plain(content) } else { text::plain(content) }
}

/// `createdDateTime` and `lastModifiedDateTime`; either stands in for the other.
pub(crate) fn stamps(created: Option<&str>, modified: Option<&str>) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
    let (created, modified) = (created.and_then(wire::offset), modified.and_then(wire::offset));
    match (created.or(modified), modified.or(created)) {
        (Some(created), Some(modified)) => Ok((created, modified)),
        _ => Err(Error::unreadable("createdDateTime and lastModifiedDateTime are missing")),
    }
}

fn people(attendees: &[wire::Attendee], organizer: Option<&str>) -> People {
    let persons = attendees.iter().filter(|attendee| !attendee.is_resource()).filter_map(|attendee| {
        let key = attendee.address().or_else(|| text::key_of_name(attendee.name()?))?;
        let answer = attendee.status.as_ref().map(wire::Response::answer).unwrap_or_default();
        let person = Person { name: attendee.name().map(str::to_owned), answer };
        (Some(key.as_str()) != organizer).then_some((key, person))
    });
    People(persons.collect())
}

/// What rooms and equipment are called: they take part, and are nobody.
fn resources(attendees: &[wire::Attendee]) -> Vec<String> {
    let rooms = attendees.iter().filter(|attendee| attendee.is_resource());
    rooms.filter_map(|room| room.name().map(str::to_owned).or_else(|| room.address())).collect()
}

fn organizer(event: &wire::Event) -> Option<String> {
    let address = event.organizer.as_ref()?.email_address.as_ref()?.address.as_deref()?;
    Some(text::address(address)).filter(|address| !address.is_empty())
}

/// The organizer's name: what the mailbox calls him, else the name among the attendees.
fn organizer_name(event: &wire::Event, organizer: Option<&str>) -> Option<String> {
    let own = event.organizer.as_ref().and_then(wire::Recipient::name);
    let attendee = || {
        let mut attendees = event.attendees.iter().flatten();
        attendees.find(|one| organizer.is_some() && one.address().as_deref() == organizer)?.name()
    };
    own.or_else(attendee).map(str::to_owned)
}

fn role(event: &wire::Event, organizer: Option<&str>, mailbox: &Mailbox) -> Role {
    let own = event
        .is_organizer
        .unwrap_or_else(|| organizer.is_none_or(|address| address == text::address(&mailbox.address)));
    if own { Role::Organizer } else { Role::Attendee { organizer: organizer.unwrap_or_default().to_owned() } }
}

fn is_call(event: &wire::Event, mailbox: &Mailbox) -> bool {
    let wanted = mailbox.call_category.trim();
    !wanted.is_empty()
        && event.categories.iter().flatten().any(|category| category.trim().to_lowercase() == wanted.to_lowercase())
}

fn time(event: &wire::Event, all_day: bool, zone: Tz) -> Result<Option<When>> {
    let (Some(start), Some(end)) = (&event.start, &event.end) else { return Ok(None) };
    if all_day {
        let first = start.date(zone)?;
        let last = end.date(zone)?.pred_opt().unwrap_or(first).max(first);
        return Ok(Some(When::AllDay { first, last }));
    }
    Ok(Some(When::Timed { start: start.utc()?, end: Some(end.utc()?) }))
}

fn series(event: &wire::Event, time: Option<&When>) -> Series {
    let kind = event.kind.as_deref().unwrap_or_default();
    if let Some(master) = event.series_master_id.clone().filter(|id| !id.is_empty()) {
        let given = event.original_start.as_deref().and_then(wire::offset);
        // Only an exception may have been moved away from its original start.
        let original_start = match (given, time) {
            (None, Some(When::Timed { start, .. })) if kind.eq_ignore_ascii_case("occurrence") => Some(*start),
            (None, Some(When::AllDay { first, .. })) if kind.eq_ignore_ascii_case("occurrence") => midnight(*first),
            (given, _) => given,
        };
        return Series::Occurrence { master, original_start: original_start.map(|at| at.trunc_subsecs(0)) };
    }
    let is_master =
        kind.eq_ignore_ascii_case("seriesMaster") || event.recurrence.as_ref().is_some_and(|value| !value.is_null());
    if is_master { Series::Master } else { Series::Single }
}

fn midnight(date: NaiveDate) -> Option<DateTime<Utc>> {
    date.and_hms_opt(0, 0, 0).map(|at| at.and_utc())
}

fn marker(properties: Option<&[wire::Property]>) -> Option<String> {
    let ours = properties?.iter().find(|property| property.id.eq_ignore_ascii_case(MARKER))?;
    ours.value.clone().filter(|value| !value.is_empty())
}

/// The JSON that writes `values`, except participants, which need the current list ([`attendees`]), and what cannot be
/// written: `isCancelled` is read-only.
pub(crate) fn write(values: &Values, current_body: Option<&str>) -> Result<Map<String, Json>> {
    let mut json = Map::new();
    for (field, value) in values {
        match (field, value) {
            (Field::Title, Value::Text(title)) => put(&mut json, "subject", text::outlook_subject(title).into()),
            (Field::Body, Value::Text(plain)) => {
                let content = current_body.map_or_else(|| body::document(plain), |html| body::rewritten(html, plain));
                put(&mut json, "body", json!({"contentType": "html", "content": content}));
            }
            (Field::Location, Value::Text(place)) => put(&mut json, "location", json!({"displayName": place})),
            (Field::Time, Value::Time(when)) => write_time(&mut json, when)?,
            (Field::Reminder, Value::Reminder(minutes)) => {
                put(&mut json, "isReminderOn", minutes.is_some().into());
                if let Some(minutes) = minutes {
                    put(&mut json, "reminderMinutesBeforeStart", (*minutes).min(i32::MAX as u32).into());
                }
            }
            // An event's status follows from requests of their own; participants are written by `attendees`.
            (Field::Status, Value::Status(_)) | (Field::Participants, Value::People(_)) => {}
            // Written by `extra`: categories need the current list.
            (Field::Extra(_), _) => {}
            (field, _) => return Err(Error::Unwritable { field: field.clone(), why: "an event does not have it" }),
        }
    }
    Ok(json)
}

fn put(json: &mut Map<String, Json>, name: &str, value: Json) {
    json.insert(name.to_owned(), value);
}

fn write_time(json: &mut Map<String, Json>, when: &When) -> Result<()> {
    let unwritable = |why| Error::Unwritable { field: Field::Time, why };
    if when.ends_before_it_starts() {
        return Err(unwritable("it ends before it starts"));
    }
    let (start, end, all_day) = match when {
        When::Timed { start, end } => {
            // Outlook has no event without an end.
            let end = end.or_else(|| start.checked_add_signed(TimeDelta::hours(1))).unwrap_or(*start);
            (wire::moment(*start), wire::moment(end), false)
        }
        When::AllDay { first, last } => (wire::midnight(*first), wire::midnight(wire::next_day(*last)), true),
        When::Due { .. } => return Err(unwritable("an event has no due date")),
    };
    put(json, "isAllDay", all_day.into());
    put(json, "start", start);
    put(json, "end", end);
    Ok(())
}

/// Exchange takes no more attendees of one event (learn.microsoft.com/graph/api/resources/event).
const ATTENDEES_MAX: usize = 500;

/// The whole list of attendees that says `people`. What stands there now is kept where it is not ours to say: rooms and
/// equipment, the organizer's own entry, whether somebody is optional, names. Who has no address is not accepted in a list;
/// beyond 500 nobody is.
pub(crate) fn attendees(people: &People, current: &[wire::Attendee], organizer: Option<&str>) -> Json {
    let known = |address: &str| current.iter().find(|attendee| attendee.address().as_deref() == Some(address));
    let kept = current.iter().filter(|attendee| match attendee.address() {
        Some(address) => attendee.is_resource() || Some(address.as_str()) == organizer,
        None => false,
    });
    let mut list: Vec<Json> = kept.filter_map(|attendee| attendee_json(attendee, None)).collect();
    let ours = |address: &String| Some(address.as_str()) != organizer && !text::is_name_only(address);
    let (old, new): (Vec<_>, Vec<_>) =
        people.0.iter().filter(|(address, _)| ours(address)).partition(|(address, _)| known(address).is_some());
    // Who is invited already stays.
    for (address, person) in old.into_iter().chain(new) {
        let entry = match known(address) {
            Some(attendee) if attendee.is_resource() => continue,
            Some(attendee) => attendee_json(attendee, person.name.as_deref()),
            None => Some(json!({
                "type": "required",
                "emailAddress": {"address": address, "name": person.name.as_deref().unwrap_or(address)},
            })),
        };
        list.extend(entry);
    }
    list.truncate(ATTENDEES_MAX);
    Json::Array(list)
}

fn attendee_json(attendee: &wire::Attendee, name: Option<&str>) -> Option<Json> {
    let address = attendee.email_address.as_ref()?;
    let name = address.name.as_deref().filter(|name| !name.is_empty()).or(name);
    Some(json!({
        "type": attendee.kind.as_deref().unwrap_or("required"),
        "emailAddress": {"address": address.address, "name": name.or(address.address.as_deref())},
    }))
}

/// The organizer's address of an event, in the form in which addresses are compared.
pub(crate) fn organizer_of(event: &wire::Event) -> Option<String> {
    organizer(event)
}

/// The extended properties that carry a link's id, and name its record.
pub(crate) fn marker_json(marker: &str, record: Option<&str>) -> Json {
    let mut properties = vec![json!({"id": MARKER, "value": marker})];
    properties.extend(record.map(|record| json!({"id": RECORD, "value": record})));
    Json::Array(properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::mailbox;

    fn read(json: Json) -> Item {
        item(serde_json::from_value(json).unwrap(), &mailbox()).unwrap()
    }

    fn sample() -> Json {
        serde_json::from_str(include_str!("../fixtures/event.created.201.json")).unwrap()
    }

    /// A minimal event with some properties laid over it.
    fn event(properties: Json) -> Item {
        let mut json = json!({"id": "E", "createdDateTime": "2026-11-22T10:00:00Z", "isOrganizer": true, "type": "singleInstance"});
        for (name, value) in properties.as_object().unwrap() {
            json[name] = value.clone();
        }
        read(json)
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_sample_of_the_documentation_is_read() {
        let item = read(sample());
        assert_eq!(item.id, "AAMkAGI1AAAt9AHjAAA=");
        assert_eq!(item.etag.as_deref(), Some("W/\"ZlnW4RIAV06KYYwlrfNZvQAALfZeRQ==\""));
        assert_eq!(
            (item.kind, item.role, item.series, item.private),
            (Kind::Meeting, Role::Organizer, Series::Single, false)
        );
        assert_eq!(item.modified, utc("2017-04-15T03:00:51.245372Z"));
        let people = People::of(["samanthab@contoso.com"]);
        let expected = Values::from([
            (Field::Title, Value::Text("Let's go brunch".to_owned())),
            (Field::Body, Value::Text("Does late morning work for you?".to_owned())),
            // The sample is in Pacific time.
            (
                Field::Time,
                Value::Time(When::Timed { start: utc("2017-04-15T18:00:00Z"), end: Some(utc("2017-04-15T19:00:00Z")) }),
            ),
            (Field::Status, Value::Status(Status::Active)),
            (Field::Location, Value::Text("Harry's Bar".to_owned())),
            (Field::Participants, Value::People(people)),
            (Field::Reminder, Value::Reminder(Some(15))),
        ]);
        assert_eq!(item.values, expected);
        assert!(!item.body_is_rich);
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let timed = When::Timed { start: utc("2026-12-01T09:00:00Z"), end: Some(utc("2026-12-01T10:30:00Z")) };
        let all_day = When::AllDay { first: "2026-12-01".parse().unwrap(), last: "2026-12-03".parse().unwrap() };
        for (when, minutes) in [(timed, Some(15)), (all_day, None)] {
            let people = People::of(["boris@contoso.example", "carla@contoso.example"]);
            let values = Values::from([
                (Field::Title, Value::Text("Quarter <review> & more".to_owned())),
                (Field::Body, Value::Text("first\n\n  second  line\nthird & <last>".to_owned())),
                (Field::Time, Value::Time(when)),
                (Field::Status, Value::Status(Status::Active)),
                (Field::Location, Value::Text("Room 1".to_owned())),
                (Field::Participants, Value::People(people.clone())),
                (Field::Reminder, Value::Reminder(minutes)),
            ]);
            let mut json = write(&values, None).unwrap();
            json.insert("attendees".to_owned(), attendees(&people, &[], None));
            assert_eq!(event(Json::Object(json)).values, values);
        }
    }

    #[test]
    fn only_what_is_named_is_written() {
        let json = write(&Values::from([(Field::Title, Value::Text("x".to_owned()))]), None).unwrap();
        assert_eq!(Json::Object(json), json!({"subject": "x"}));
    }

    #[test]
    fn a_record_without_an_end_gets_an_hour() {
        let when = When::Timed { start: utc("2026-12-01T23:30:00Z"), end: None };
        let json = write(&Values::from([(Field::Time, Value::Time(when))]), None).unwrap();
        assert_eq!(json["end"], json!({"dateTime": "2026-12-02T00:30:00", "timeZone": "UTC"}));
        assert_eq!(json["isAllDay"], false);
    }

    #[test]
    fn what_ends_before_it_starts_is_not_written() {
        let when = When::Timed { start: utc("2026-12-01T10:00:00Z"), end: Some(utc("2026-12-01T09:00:00Z")) };
        let refused = write(&Values::from([(Field::Time, Value::Time(when))]), None);
        assert!(matches!(refused, Err(Error::Unwritable { field: Field::Time, .. })));
    }

    #[test]
    fn an_all_day_event_ends_on_its_last_day() {
        let mut sample: Json = serde_json::from_str(include_str!("../fixtures/event.allday.json")).unwrap();
        let day = "2017-10-12".parse().unwrap();
        assert_eq!(event(sample.clone()).values[&Field::Time], Value::Time(When::AllDay { first: day, last: day }));
        sample["end"]["dateTime"] = "2017-10-15T00:00:00.0000000".into();
        let last = "2017-10-14".parse().unwrap();
        assert_eq!(event(sample).values[&Field::Time], Value::Time(When::AllDay { first: day, last }));
    }

    #[test]
    fn the_category_makes_a_call_unless_it_lasts_all_day() {
        let day = json!({"dateTime": "2026-12-01T00:00:00", "timeZone": "UTC"});
        let categories = json!(["Red category", "call"]);
        assert_eq!(event(json!({"categories": categories})).kind, Kind::Call);
        assert_eq!(event(json!({"categories": ["Callback"]})).kind, Kind::Meeting);
        assert_eq!(
            event(json!({"categories": categories, "isAllDay": true, "start": day, "end": day})).kind,
            Kind::Meeting
        );
    }

    #[test]
    fn an_attendees_copy_says_who_organises_it_and_what_was_answered() {
        let item = event(json!({
            "isOrganizer": false, "responseStatus": {"response": "tentativelyAccepted"},
            "organizer": {"emailAddress": {"name": "Boss", "address": "Boss@Outside.example"}},
            "attendees": [
                {"type": "required", "status": {"response": "notResponded"}, "emailAddress": {"address": "boss@outside.example"}},
                {"type": "required", "status": {"response": "accepted"}, "emailAddress": {"name": "Anna", "address": "Anna@Contoso.example"}},
                {"type": "resource", "status": {"response": "none"}, "emailAddress": {"address": "room@contoso.example"}},
                {"type": "optional", "emailAddress": {"name": "nobody"}}],
        }));
        assert_eq!(item.role, Role::Attendee { organizer: "boss@outside.example".to_owned() });
        assert_eq!(item.own_answer, sync::Answer::Tentative);
        let anna = Person { name: Some("Anna".to_owned()), answer: sync::Answer::Accepted };
        // Who has a name only is somebody, too; a room is nobody.
        let nobody = Person { name: Some("nobody".to_owned()), answer: sync::Answer::None };
        let people = [("anna@contoso.example".to_owned(), anna), ("name:nobody".to_owned(), nobody)];
        assert_eq!(item.values[&Field::Participants], Value::People(People(people.into())));
        assert_eq!(
            (item.organizer_name.as_deref(), item.resources),
            (Some("Boss"), vec!["room@contoso.example".to_owned()])
        );
    }

    #[test]
    fn rooms_optional_people_and_names_survive_a_new_list_of_attendees() {
        let current: Vec<wire::Attendee> = serde_json::from_value(json!([
            {"type": "resource", "emailAddress": {"name": "Room", "address": "room@contoso.example"}},
            {"type": "optional", "emailAddress": {"name": "Boris B.", "address": "Boris@contoso.example"}},
            {"type": "required", "emailAddress": {"name": "Old", "address": "old@contoso.example"}}]))
        .unwrap();
        let people = People::of(["boris@contoso.example", "carla@contoso.example", "anna@contoso.example"]);
        let json = attendees(&people, &current, Some("anna@contoso.example"));
        assert_eq!(
            json,
            json!([
                {"type": "resource", "emailAddress": {"name": "Room", "address": "room@contoso.example"}},
                {"type": "optional", "emailAddress": {"name": "Boris B.", "address": "Boris@contoso.example"}},
                {"type": "required", "emailAddress": {"name": "carla@contoso.example", "address": "carla@contoso.example"}}])
        );
    }

    #[test]
    fn who_has_no_address_is_in_no_list_and_nobody_beyond_five_hundred_is() {
        let names: Vec<String> = (0..600).map(|n| format!("p{n:03}@x.example")).collect();
        let mut people = People::of(names.iter().map(String::as_str));
        people.0.insert("name:walk in".to_owned(), Person::default());
        let current: Vec<wire::Attendee> = serde_json::from_value(json!([
            {"type": "required", "emailAddress": {"name": "Walk In"}},
            {"type": "required", "emailAddress": {"address": "p599@x.example"}}]))
        .unwrap();
        let list = attendees(&people, &current, None);
        let written: Vec<&str> =
            list.as_array().unwrap().iter().map(|one| one["emailAddress"]["address"].as_str().unwrap()).collect();
        assert_eq!(written.len(), 500);
        assert_eq!(written[0], "p599@x.example", "who is invited already stays");
    }

    #[test]
    fn series_are_told_apart() {
        assert_eq!(event(json!({"type": "seriesMaster"})).series, Series::Master);
        assert_eq!(event(json!({"type": null, "recurrence": {"pattern": {}}})).series, Series::Master);
        let at = |day: &str| json!({"dateTime": format!("{day}T09:00:00.0000000"), "timeZone": "UTC"});
        let bare = event(
            json!({"type": "occurrence", "seriesMasterId": "M", "start": at("2026-12-01"), "end": at("2026-12-01")}),
        );
        let original_start = Some(utc("2026-12-01T09:00:00Z"));
        assert_eq!(bare.series, Series::Occurrence { master: "M".to_owned(), original_start });
        let moved = json!({"type": "exception", "seriesMasterId": "M", "originalStart": "2026-12-01T09:00:00Z",
            "start": at("2026-12-02"), "end": at("2026-12-02")});
        assert_eq!(event(moved).series, Series::Occurrence { master: "M".to_owned(), original_start });
    }

    #[test]
    fn privacy_cancellation_and_the_marker_are_read() {
        let item = event(json!({
            "sensitivity": "confidential", "isCancelled": true,
            "singleValueExtendedProperties": [{"id": MARKER.to_lowercase(), "value": "link-1"}],
        }));
        assert!(item.private);
        assert_eq!(item.values[&Field::Status], Value::Status(Status::Cancelled));
        assert_eq!(item.marker.as_deref(), Some("link-1"));
        assert!(!event(json!({"sensitivity": "personal"})).private);
    }

    #[test]
    fn a_reminder_that_is_off_has_no_minutes() {
        let item = event(json!({"isReminderOn": false, "reminderMinutesBeforeStart": 15}));
        assert_eq!(item.values[&Field::Reminder], Value::Reminder(None));
    }

    #[test]
    fn what_is_not_there_is_no_value() {
        let item = event(json!({}));
        assert_eq!(item.values.keys().cloned().collect::<Vec<_>>(), [Field::Status]);
    }
}
