//! Reading an event that somebody writes: unknown properties, wrong types and impossible times are refused.
//!
//! Facts: event reference v1.0 (properties, enums, 500 attendees, all-day events from midnight to midnight in one zone);
//! read-only properties in a body are ignored.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Timelike};
use serde_json::{Map, Value, json};

use super::error::{Outcome, bad_property, fail, unknown_property, unreadable};
use super::state::{EMPTY_TIME, Event, status};
use super::{html, recurrence, times};

const WRITABLE: [&str; 24] = [
    "subject",
    "body",
    "start",
    "end",
    "isAllDay",
    "location",
    "locations",
    "attendees",
    "importance",
    "sensitivity",
    "showAs",
    "categories",
    "isReminderOn",
    "reminderMinutesBeforeStart",
    "recurrence",
    "responseRequested",
    "allowNewTimeProposals",
    "hideAttendees",
    "isOnlineMeeting",
    "onlineMeetingProvider",
    "transactionId",
    "singleValueExtendedProperties",
    "multiValueExtendedProperties",
    "extensions",
];
pub const READ_ONLY: [&str; 25] = [
    "id",
    "iCalUId",
    "changeKey",
    "createdDateTime",
    "lastModifiedDateTime",
    "organizer",
    "isOrganizer",
    "isCancelled",
    "isDraft",
    "hasAttachments",
    "type",
    "seriesMasterId",
    "webLink",
    "bodyPreview",
    "responseStatus",
    "originalStart",
    "originalStartTimeZone",
    "originalEndTimeZone",
    "onlineMeeting",
    "onlineMeetingUrl",
    "cancelledOccurrences",
    "attachments",
    "calendar",
    "instances",
    "exceptionOccurrences",
];
const BOOLEANS: [&str; 6] =
    ["isAllDay", "isReminderOn", "responseRequested", "allowNewTimeProposals", "hideAttendees", "isOnlineMeeting"];

fn choices(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "importance" => &["low", "normal", "high"],
        "sensitivity" => &["normal", "personal", "private", "confidential"],
        "showAs" => &["free", "tentative", "busy", "oof", "workingElsewhere", "unknown"],
        "onlineMeetingProvider" => &["unknown", "teamsForBusiness", "skypeForBusiness", "skypeForConsumer"],
        _ => return None,
    })
}

/// What a write did.
#[derive(Debug, Default)]
pub struct Applied {
    pub changed: BTreeSet<&'static str>,
    /// The new body lacks the join block of the online meeting.
    pub lost_join: bool,
}

/// Only the named members, `@odata` annotations aside.
pub fn only(map: &Map<String, Value>, names: &[&str], kind: &str) -> Outcome<()> {
    match map.keys().find(|k| !k.contains("@odata") && !names.contains(&k.as_str())) {
        Some(name) => Err(unknown_property(name, kind)),
        None => Ok(()),
    }
}

/// Applies a body to an event; on a refusal the caller throws the half-changed copy away.
pub fn apply(event: &mut Event, body: &Map<String, Value>, creating: bool) -> Outcome<Applied> {
    let known: Vec<&str> = WRITABLE.iter().chain(READ_ONLY.iter()).copied().collect();
    only(body, &known, "microsoft.graph.event")?;
    let mut applied = Applied::default();
    for name in WRITABLE {
        if let Some(value) = body.get(name) {
            apply_one(event, name, value, creating, &mut applied)?;
        }
    }
    if creating && !(body.contains_key("start") && body.contains_key("end")) {
        return Err(bad_property("start and end are required."));
    }
    if creating || ["start", "end", "isAllDay"].iter().any(|n| applied.changed.contains(n)) {
        check_times(event)?;
    }
    if event.series.is_none()
        && let Some(mut rule) = event.data.get("recurrence").cloned()
    {
        let zone = event.start_zone.clone();
        recurrence::check(&mut rule, times::local(event.start, &zone), &zone)
            .map_err(|e| bad_property(format!("recurrence: {e}")))?;
        event.data.insert("recurrence".to_owned(), rule);
    }
    Ok(applied)
}

fn apply_one(
    event: &mut Event,
    name: &'static str,
    value: &Value,
    creating: bool,
    applied: &mut Applied,
) -> Outcome<()> {
    check_type(name, value)?;
    let stored = match name {
        "start" | "end" => {
            let moment = times::parse(value).map_err(|e| bad_property(format!("{name}: {e}")))?;
            if name == "start" {
                (event.start, event.start_zone) = (moment.at, moment.zone);
            } else {
                (event.end, event.end_zone) = (moment.at, moment.zone);
            }
            applied.changed.insert(name);
            return Ok(());
        }
        "singleValueExtendedProperties" => {
            extended(event, value)?;
            applied.changed.insert(name);
            return Ok(());
        }
        "multiValueExtendedProperties" | "extensions" => return Ok(()),
        "transactionId" => transaction(event, value, creating)?,
        "body" => {
            applied.lost_join |= loses_join(event, value)?;
            item_body(value)?
        }
        "attendees" => attendees(value, event.data.get("attendees"))?,
        "location" => {
            let place = location(value)?;
            let named = place["displayName"].as_str().is_some_and(|n| !n.is_empty());
            let all = if named { json!([place]) } else { json!([]) };
            event.data.insert("locations".to_owned(), all);
            place
        }
        "locations" => locations(event, value)?,
        "subject" => json!(value.as_str().unwrap_or_default().chars().take(255).collect::<String>()),
        // An online meeting cannot be undone.
        "isOnlineMeeting" if event.flag(name) => json!(true),
        "recurrence" if value.is_null() => {
            if event.data.remove(name).is_some() {
                applied.changed.insert(name);
                event.exceptions.clear();
            }
            return Ok(());
        }
        _ => value.clone(),
    };
    // Exchange mails on any write of such a property, changed or not.
    if event.data.get(name) != Some(&stored) || super::meetings::MAILING.contains(&name) {
        applied.changed.insert(name);
    }
    event.data.insert(name.to_owned(), stored);
    Ok(())
}

/// Facts: given at creation only, and immutable.
fn transaction(event: &Event, value: &Value, creating: bool) -> Outcome<Value> {
    let text = value.as_str().filter(|t| !t.is_empty()).ok_or_else(|| unreadable("transactionId must be a string"))?;
    if !creating && event.data.get("transactionId") != Some(value) {
        return Err(fail(400, "ErrorInvalidRequest", "transactionId cannot be changed."));
    }
    Ok(json!(text))
}

/// A new body without the join block takes the online meeting away.
fn loses_join(event: &mut Event, value: &Value) -> Outcome<bool> {
    let body = item_body(value)?;
    let kept = body["content"].as_str().is_some_and(|content| content.contains("meet_invite_block"));
    let had = event.data.get("onlineMeeting").is_some_and(Value::is_object);
    if had && !kept {
        event.data.remove("onlineMeeting");
    }
    Ok(had && !kept)
}

fn check_type(name: &str, value: &Value) -> Outcome<()> {
    if let Some(allowed) = choices(name)
        && !value.as_str().is_some_and(|v| allowed.contains(&v))
    {
        return Err(unreadable(format!("Requested value '{value}' was not found for {name}.")));
    }
    if BOOLEANS.contains(&name) && !value.is_boolean() {
        return Err(unreadable(format!("Cannot convert the literal '{value}' to the expected type 'Edm.Boolean'.")));
    }
    let fits = match name {
        "subject" => value.is_string() || value.is_null(),
        "reminderMinutesBeforeStart" => value.as_i64().is_some_and(|n| (0..=i64::from(i32::MAX)).contains(&n)),
        "categories" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        _ => true,
    };
    if fits { Ok(()) } else { Err(unreadable(format!("Cannot convert the value of {name} to the expected type."))) }
}

fn check_times(event: &Event) -> Outcome<()> {
    if !event.flag("isAllDay") {
        return if event.end < event.start {
            Err(bad_property("End must not be before start (ErrorCalendarEndDateIsEarlierThanStartDate)."))
        } else {
            Ok(())
        };
    }
    if event.start_zone != event.end_zone {
        return Err(bad_property("The start and end of an all-day event need the same time zone."));
    }
    for (at, zone) in [(event.start, &event.start_zone), (event.end, &event.end_zone)] {
        if times::local(at, zone).time().num_seconds_from_midnight() != 0 {
            return Err(bad_property(
                "The Event.Start and Event.End properties of an all-day event need to be set to midnight.",
            ));
        }
    }
    // A day in spring has 23 hours.
    if event.end - event.start < TimeDelta::hours(23) {
        let message = "The duration of an event marked as All day must be at least 24 hours.";
        return Err(fail(400, "ErrorInvalidAllDayEvent", message));
    }
    Ok(())
}

/// An `itemBody` as Exchange keeps it: always HTML, wrapped.
fn item_body(value: &Value) -> Outcome<Value> {
    let map = value.as_object().ok_or_else(|| unreadable("body must be an itemBody"))?;
    only(map, &["contentType", "content"], "microsoft.graph.itemBody")?;
    let content = match map.get("content") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(unreadable("content must be a string")),
    };
    let kind = map.get("contentType").map_or(Some("text"), Value::as_str).unwrap_or_default();
    let stored = match kind.to_ascii_lowercase().as_str() {
        "text" => html::from_text(content),
        "html" => html::from_html(content),
        _ => return Err(unreadable("contentType must be text or html")),
    };
    Ok(json!({"contentType": "html", "content": stored}))
}

fn attendees(value: &Value, before: Option<&Value>) -> Outcome<Value> {
    let list = value.as_array().ok_or_else(|| unreadable("attendees must be a list"))?;
    if list.len() > 500 {
        return Err(bad_property("an event has at most 500 attendees."));
    }
    let known = before.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|item| attendee(item, known)).collect::<Outcome<Vec<_>>>().map(Value::Array)
}

fn attendee(item: &Value, known: &[Value]) -> Outcome<Value> {
    let map = item.as_object().ok_or_else(|| unreadable("an attendee must be an object"))?;
    only(map, &["type", "status", "emailAddress", "proposedNewTime"], "microsoft.graph.attendee")?;
    let mail = map.get("emailAddress").and_then(Value::as_object);
    let mail = mail.ok_or_else(|| unreadable("an attendee needs emailAddress {name, address}"))?;
    only(mail, &["name", "address"], "microsoft.graph.emailAddress")?;
    let address = mail.get("address").and_then(Value::as_str).unwrap_or_default();
    let valid = address.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !host.contains('@') && !address.contains(char::is_whitespace)
    });
    if !valid {
        return Err(fail(400, "ErrorInvalidRecipients", "At least one recipient isn't valid."));
    }
    let kind = map.get("type").map_or(Some("required"), Value::as_str).unwrap_or_default();
    if !["required", "optional", "resource"].contains(&kind) {
        return Err(unreadable(format!("Requested value '{kind}' was not found for type.")));
    }
    let before = known
        .iter()
        .find(|k| k["emailAddress"]["address"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(address)));
    let answer = before.map_or_else(|| status("none", EMPTY_TIME), |k| k["status"].clone());
    let name = mail.get("name").and_then(Value::as_str).filter(|n| !n.is_empty()).unwrap_or(address);
    Ok(json!({"type": kind, "status": answer, "emailAddress": {"name": name, "address": address}}))
}

fn location(value: &Value) -> Outcome<Value> {
    let map = value.as_object().ok_or_else(|| unreadable("location must be an object"))?;
    let names = [
        "displayName",
        "locationEmailAddress",
        "address",
        "coordinates",
        "locationType",
        "locationUri",
        "uniqueId",
        "uniqueIdType",
    ];
    only(map, &names, "microsoft.graph.location")?;
    match map.get("displayName") {
        None | Some(Value::Null) => Ok(place("")),
        Some(Value::String(name)) => Ok(place(name)),
        Some(_) => Err(unreadable("displayName must be a string")),
    }
}

/// A `location` as Exchange answers it.
pub fn place(name: &str) -> Value {
    json!({"displayName": name, "locationType": "default", "uniqueId": name, "uniqueIdType": "private", "address": {}, "coordinates": {}})
}

fn locations(event: &mut Event, value: &Value) -> Outcome<Value> {
    let list = value.as_array().ok_or_else(|| unreadable("locations must be a list"))?;
    let all = list.iter().map(location).collect::<Outcome<Vec<_>>>()?;
    let names: Vec<&str> = all.iter().filter_map(|l| l["displayName"].as_str()).collect();
    event.data.insert("location".to_owned(), place(&names.join("; ")));
    Ok(Value::Array(all))
}

/// Facts: `"String {GUID} Name CrmId"`, `"Integer {GUID} Id 0x8012"`, `"String 0x4001001E"`.
fn is_extended_id(id: &str) -> bool {
    let hex = |text: &str| {
        let digits = text.strip_prefix("0x").unwrap_or_default();
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit())
    };
    let guid = |text: &str| {
        let bare = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or_default();
        bare.len() == 36 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    };
    let mut words = id.splitn(4, ' ');
    let kind = words.next().unwrap_or_default();
    let rest = (words.next(), words.next(), words.next());
    ["String", "Integer", "Boolean", "SystemTime", "Binary", "Double", "CLSID"].contains(&kind)
        && match rest {
            (Some(tag), None, None) => hex(tag),
            (Some(set), Some("Name"), Some(name)) => guid(set) && !name.trim().is_empty(),
            (Some(set), Some("Id"), Some(tag)) => guid(set) && hex(tag),
            _ => false,
        }
}

fn extended(event: &mut Event, value: &Value) -> Outcome<()> {
    for item in value.as_array().ok_or_else(|| unreadable("singleValueExtendedProperties must be a list"))? {
        let map = item.as_object().ok_or_else(|| unreadable("an extended property must be an object"))?;
        only(map, &["id", "value"], "microsoft.graph.singleValueLegacyExtendedProperty")?;
        let id = map.get("id").and_then(Value::as_str).unwrap_or_default();
        if !is_extended_id(id) {
            return Err(fail(400, "ErrorInvalidExtendedProperty", "Extended property id is malformed."));
        }
        let text = match map.get("value") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err(unreadable("the value of an extended property must be a string")),
        };
        event.extended.insert(id.to_owned(), text);
    }
    Ok(())
}
