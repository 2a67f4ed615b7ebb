//! `calendarView/delta`: a frozen window, and the state of the last round behind an opaque token.
//!
//! Facts: no `$select`, `$expand`, `$filter`, `$orderby` or `$search`; masters come whole and occurrences bare;
//! `@removed` is sent for what left the window too, and for changes to events outside it; a forgotten token gives 410.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::calendar::window;
use super::error::{Outcome, Refusal, fail};
use super::request::Call;
use super::state::{Event, State};
use super::times;
use crate::plumbing::Response;

/// What was told about an item in the last round: its version and its immutable id.
type Seen = BTreeMap<String, (u64, String)>;

#[derive(Debug, Clone)]
pub enum Row {
    Live(String),
    Removed { id: String, immutable_id: String },
}

/// State behind a `$deltatoken` or `$skiptoken`.
#[derive(Debug, Clone)]
pub enum Token {
    Events(EventToken),
    Tasks { list: String, rows: Option<Vec<String>>, seen: BTreeMap<String, u64> },
    Lists { user: String, seen: BTreeMap<String, u64> },
}

#[derive(Debug, Clone)]
pub struct EventToken {
    user: String,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// The rows still to be given, or `None` when the round is over.
    rows: Option<Vec<Row>>,
    seen: Seen,
    seq: u64,
}

pub fn gone(call: &Call) -> Refusal {
    gone_in(call, None)
}

/// Facts: a reset names the place where a full round starts, with an empty `$deltatoken`.
fn gone_in(call: &Call, old: Option<&EventToken>) -> Refusal {
    let message = "The sync state generation is not found; generation=149;[highest=157][157][155][156].";
    let window = old.map_or_else(String::new, |old| {
        format!("startDateTime={}&endDateTime={}&", times::stamp(old.from), times::stamp(old.to))
    });
    let location = format!("{}{}?{window}$deltatoken=", call.request.base, call.request.raw_path);
    fail(410, "SyncStateNotFound", message).header("Location", &location)
}

pub fn removed(kind: &str, id: &str) -> Value {
    json!({"@odata.type": format!("#microsoft.graph.{kind}"), "id": id, "@removed": {"reason": "deleted"}})
}

impl State {
    /// The state behind the request's token; `None` when it starts a first round.
    pub fn delta_token(&self, call: &Call) -> Outcome<Option<Token>> {
        let named = |name| call.request.query(name).filter(|t| !t.is_empty());
        let Some(text) = named("$deltatoken").or_else(|| named("$skiptoken")) else { return Ok(None) };
        match self.delta_tokens.get(text) {
            Some(token) if !self.expired_tokens.contains(text) => Ok(Some(token.clone())),
            Some(Token::Events(old)) => Err(gone_in(call, Some(old))),
            _ => Err(gone(call)),
        }
    }

    pub fn keep_token(&mut self, token: Token) -> String {
        let name = self.ids.base64url(48);
        self.delta_tokens.insert(name.clone(), token);
        name
    }

    pub fn event_delta(&mut self, call: &Call, index: usize) -> Outcome<Response> {
        call.allow(&["GET"])?;
        let refused = ["$select", "$expand", "$filter", "$orderby", "$search", "$top"];
        if call.request.query.iter().any(|(k, _)| refused.contains(&k.to_ascii_lowercase().as_str())) {
            let message = "The following parameters are not supported with change tracking over the 'CalendarView' resource: '$orderby, $filter, $select, $expand, $search, $top'.";
            return Err(fail(400, "ErrorInvalidUrlQuery", message));
        }
        let user = self.mailbox(index).map(|m| m.user_id.clone()).unwrap_or_default();
        let mut token = match self.delta_token(call)? {
            Some(Token::Events(token)) if token.user == user => self.continue_round(index, token),
            Some(_) => return Err(gone(call)),
            None => {
                let (from, to) = window(call)?;
                let fresh = EventToken { user, from, to, rows: None, seen: Seen::new(), seq: self.seq };
                self.first_round(index, fresh)
            }
        };
        let mut rows = token.rows.take().unwrap_or_default();
        let rest = rows.split_off(rows.len().min(call.prefer.page_size.unwrap_or(10)));
        let value: Vec<Value> = rows.into_iter().map(|row| self.delta_row(call, index, row)).collect();
        let more = !rest.is_empty();
        token.rows = more.then_some(rest);
        let name = self.keep_token(Token::Events(token));
        let (link, parameter) =
            if more { ("@odata.nextLink", "$skiptoken") } else { ("@odata.deltaLink", "$deltatoken") };
        let url = format!("{}{}?{parameter}={name}", call.request.base, call.request.raw_path);
        let context = format!("{}/v1.0/$metadata#Collection(event)", call.request.base);
        let body = json!({"@odata.context": context, "value": value, link: url});
        let mut applied = "odata.track-changes".to_owned();
        if let Some(zone) = &call.prefer.timezone {
            applied = format!("{applied}, outlook.timezone=\"{zone}\"");
        }
        Ok(Response::json(200, &body).header("Preference-Applied", &applied))
    }

    fn first_round(&self, index: usize, mut token: EventToken) -> EventToken {
        let inside = self.in_window(index, &token);
        token.rows = Some(inside.iter().map(|e| Row::Live(e.id.clone())).collect());
        token.seen = snapshot(&inside);
        token.seq = self.seq;
        token
    }

    fn continue_round(&self, index: usize, mut token: EventToken) -> EventToken {
        if token.rows.is_some() {
            return token;
        }
        let inside = self.in_window(index, &token);
        let now = snapshot(&inside);
        let fresh = inside.iter().filter(|e| token.seen.get(&e.id).is_none_or(|(version, _)| *version != e.version));
        let mut rows: Vec<Row> = fresh.map(|e| Row::Live(e.id.clone())).collect();
        for (id, (_, immutable_id)) in token.seen.iter().filter(|(id, _)| !now.contains_key(*id)) {
            if !(self.settings.hide_removed_occurrences && id.starts_with("OCC")) {
                rows.push(Row::Removed { id: id.clone(), immutable_id: immutable_id.clone() });
            }
        }
        rows.extend(self.outside(index, &token, &now));
        (token.rows, token.seen, token.seq) = (Some(rows), now, self.seq);
        token
    }

    /// Masters first, then everything that touches the window.
    fn in_window(&self, index: usize, token: &EventToken) -> Vec<Event> {
        let Some(mailbox) = self.mailbox(index) else { return Vec::new() };
        let inside = mailbox.view(token.from, token.to);
        let wanted: std::collections::BTreeSet<&str> =
            inside.iter().filter_map(|e| e.series.as_ref()).map(|s| s.master_id.as_str()).collect();
        let masters: Vec<Event> = wanted.into_iter().filter_map(|id| mailbox.events.get(id)).cloned().collect();
        masters.into_iter().chain(inside).collect()
    }

    /// Changes and deletions outside the window since the last round, told as removed.
    fn outside(&self, index: usize, token: &EventToken, now: &Seen) -> Vec<Row> {
        let Some(mailbox) = self.mailbox(index) else { return Vec::new() };
        let unknown = |id: &str| !now.contains_key(id) && !token.seen.contains_key(id);
        let changed = mailbox.events.values().filter(|e| e.seq > token.seq).map(|e| (&e.id, &e.immutable_id));
        let deleted = mailbox.deleted.iter().filter(|d| d.seq > token.seq && !d.id.starts_with("OCC"));
        let deleted = deleted.map(|d| (&d.id, &d.immutable_id));
        let rows = changed.chain(deleted).filter(|(id, _)| unknown(id));
        rows.map(|(id, immutable_id)| Row::Removed { id: id.clone(), immutable_id: immutable_id.clone() }).collect()
    }

    fn delta_row(&self, call: &Call, index: usize, row: Row) -> Value {
        let pick = |id: String, immutable_id: String| if call.prefer.immutable { immutable_id } else { id };
        let id = match row {
            Row::Removed { id, immutable_id } => return removed("event", &pick(id, immutable_id)),
            Row::Live(id) => id,
        };
        let Some(event) = self.find(index, &id) else {
            // Deleted while the pages were being read.
            let deleted = self.mailbox(index).and_then(|m| m.deleted.iter().find(|d| d.id == id));
            let immutable_id = deleted.map_or_else(|| id.clone(), |d| d.immutable_id.clone());
            return removed("event", &pick(id, immutable_id));
        };
        let upn = self.mailbox(index).map(|m| m.upn.as_str()).unwrap_or_default();
        let mut out = self.event_json(call, upn, &event);
        if event.kind() == "occurrence" {
            let bare = ["@odata.etag", "id", "seriesMasterId", "type", "start", "end"];
            out.retain(|name, _| bare.contains(&name.as_str()));
        }
        out.insert("@odata.type".to_owned(), json!("#microsoft.graph.event"));
        Value::Object(out)
    }
}

fn snapshot(events: &[Event]) -> Seen {
    events.iter().map(|e| (e.id.clone(), (e.version, e.immutable_id.clone()))).collect()
}
