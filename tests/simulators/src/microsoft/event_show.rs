//! Writing an event into an answer, under the preferences, `$select` and `$expand` of the request.

use serde_json::{Map, Value, json};

use super::error::{Outcome, fail};
use super::event_write::place;
use super::request::Call;
use super::state::{EMPTY_TIME, Event, State, status};
use super::{html, times};

const SOMETIMES: [&str; 5] =
    ["originalStart", "transactionId", "cancelledOccurrences", "exceptionOccurrences", "onlineMeetingUrl"];

fn or(event: &Event, name: &str, default: Value) -> Value {
    event.data.get(name).cloned().unwrap_or(default)
}

/// Properties as they were written, or with Exchange's defaults.
fn written(event: &Event) -> Map<String, Value> {
    let defaults = [
        ("categories", json!([])),
        ("reminderMinutesBeforeStart", json!(15)),
        ("isReminderOn", json!(true)),
        ("subject", json!("")),
        ("importance", json!("normal")),
        ("sensitivity", json!("normal")),
        ("responseRequested", json!(true)),
        ("showAs", json!("busy")),
        ("onlineMeetingProvider", json!("unknown")),
        ("onlineMeeting", Value::Null),
        ("allowNewTimeProposals", json!(true)),
        ("hideAttendees", json!(false)),
        ("recurrence", Value::Null),
        ("location", place("")),
        ("locations", json!([])),
        ("attendees", json!([])),
    ];
    defaults.into_iter().map(|(name, default)| (name.to_owned(), or(event, name, default))).collect()
}

impl State {
    /// The whole event without `$select` and `$expand`, as delta and answers to writes give it.
    pub fn event_json(&self, call: &Call, mailbox: &str, event: &Event) -> Map<String, Value> {
        let zone = call.prefer.timezone.as_deref().unwrap_or("UTC");
        let immutable = call.prefer.immutable;
        let body = event.data.get("body").and_then(|b| b["content"].as_str()).unwrap_or_default();
        let organizer = if event.organizer.is_empty() { mailbox } else { &event.organizer };
        let asked = !event.people().is_empty();
        let own = if event.is_organizer && asked { "organizer" } else { "none" };
        let id = if immutable { &event.immutable_id } else { &event.id };
        let (start, end) = if event.flag("isAllDay") {
            // Midnight to midnight in any zone: the date never moves.
            let day = |at, own: &str| times::midnight(times::local(at, own).date(), zone);
            (day(event.start, &event.start_zone), day(event.end, &event.end_zone))
        } else {
            (times::in_zone(event.start, zone), times::in_zone(event.end, zone))
        };
        let shown_body = if call.prefer.text_body {
            json!({"contentType": "text", "content": html::to_text(body)})
        } else {
            json!({"contentType": "html", "content": body})
        };
        let mut out = written(event);
        out.extend(
            [
                ("@odata.etag", json!(event.etag())),
                ("id", json!(id)),
                ("createdDateTime", json!(times::stamp(event.created))),
                ("lastModifiedDateTime", json!(times::stamp(event.modified))),
                ("changeKey", json!(event.change_key())),
                ("originalStartTimeZone", json!(event.start_zone)),
                ("originalEndTimeZone", json!(event.end_zone)),
                ("iCalUId", json!(event.ical)),
                ("hasAttachments", json!(false)),
                ("bodyPreview", json!(html::to_text(body).chars().take(255).collect::<String>())),
                ("isAllDay", json!(event.flag("isAllDay"))),
                ("isCancelled", json!(event.flag("isCancelled"))),
                ("isDraft", json!(false)),
                ("isOrganizer", json!(event.is_organizer)),
                ("seriesMasterId", Value::Null),
                ("type", json!(event.kind())),
                (
                    "webLink",
                    json!(format!(
                        "https://outlook.office365.com/owa/?itemid={}&exvsurl=1&path=/calendar/item",
                        event.id.replace('=', "%3D")
                    )),
                ),
                ("onlineMeetingUrl", Value::Null),
                ("isOnlineMeeting", json!(event.flag("isOnlineMeeting"))),
                ("responseStatus", or(event, "responseStatus", status(own, EMPTY_TIME))),
                ("body", shown_body),
                ("start", start),
                ("end", end),
                ("organizer", json!({"emailAddress": {"name": self.name_of(organizer), "address": organizer}})),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if let Some(transaction) = event.data.get("transactionId") {
            out.insert("transactionId".to_owned(), transaction.clone());
        }
        if let Some(series) = &event.series {
            let master = if immutable { &series.master_immutable_id } else { &series.master_id };
            out.insert("seriesMasterId".to_owned(), json!(master));
            out.insert("originalStart".to_owned(), json!(times::stamp(series.original)));
            out.insert("occurrenceId".to_owned(), json!(format!("OID.{master}.{}", series.day)));
        }
        out
    }

    /// An event under the request's `$select` and `$expand`.
    pub fn show_event(&self, call: &Call, mailbox: &str, event: &Event) -> Outcome<Value> {
        let mut out = self.event_json(call, mailbox, event);
        if let Some(names) = call.select() {
            for name in &names {
                if !out.contains_key(name) && !SOMETIMES.contains(&name.as_str()) && name != "occurrenceId" {
                    let message = format!("Could not find a property named '{name}' on type 'microsoft.graph.event'.");
                    return Err(fail(400, "RequestBroker--ParseUri", message));
                }
            }
            out.retain(|name, _| name == "@odata.etag" || name == "id" || names.contains(name));
            if names.iter().any(|n| n == "cancelledOccurrences") && event.is_master() {
                let master = if call.prefer.immutable { &event.immutable_id } else { &event.id };
                let gone = event.exceptions.iter().filter(|(_, e)| e.is_none());
                let ids: Vec<String> = gone.map(|(day, _)| format!("OID.{master}.{day}")).collect();
                out.insert("cancelledOccurrences".to_owned(), json!(ids));
            }
        }
        if let Some(expand) = call.request.query("$expand") {
            self.expand(call, mailbox, event, expand, &mut out)?;
        }
        Ok(Value::Object(out))
    }

    fn expand(
        &self,
        call: &Call,
        mailbox: &str,
        event: &Event,
        expand: &str,
        out: &mut Map<String, Value>,
    ) -> Outcome<()> {
        if expand.contains("exceptionOccurrences") {
            let exceptions = event.exceptions.values().flatten();
            let rows: Vec<Value> = exceptions.map(|e| Value::Object(self.event_json(call, mailbox, e))).collect();
            out.insert("exceptionOccurrences".to_owned(), Value::Array(rows));
        }
        let Some((_, options)) = expand.split_once("singleValueExtendedProperties") else { return Ok(()) };
        let compact: String = options.chars().filter(|c| !c.is_whitespace()).collect();
        if !compact.starts_with("($filter=ideq'") {
            let message = "singleValueExtendedProperties must be expanded with $filter on id";
            return Err(fail(400, "ErrorInvalidUrlQuery", message));
        }
        let wanted: Vec<String> = options.split('\'').skip(1).step_by(2).map(str::to_lowercase).collect();
        let hits: Vec<Value> = event
            .extended
            .iter()
            .filter(|(id, _)| wanted.contains(&id.to_lowercase()))
            .map(|(id, value)| json!({"id": id, "value": value}))
            .collect();
        if !hits.is_empty() {
            out.insert("singleValueExtendedProperties".to_owned(), Value::Array(hits));
        }
        Ok(())
    }
}
