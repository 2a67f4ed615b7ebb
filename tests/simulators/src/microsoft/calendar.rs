//! Calendar routes: events, calendarView, instances and the answers to invitations.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::error::{Outcome, Refusal, bad_property, conflict, denied, fail, no_segment, not_found};
use super::event_write::{self, Applied};
use super::request::{Call, split_outside_quotes};
use super::state::{Change, Event, State};
use super::{html, times};
use crate::plumbing::Response;

const WRITE: [&str; 1] = ["Calendars.ReadWrite"];

pub fn bad_filter(clause: &str) -> Refusal {
    let message = format!("The query filter contains one or more invalid nodes: {clause}");
    fail(400, "ErrorInvalidUrlQueryFilter", message)
}

/// `name eq 'value'` and friends; quotes are taken off, doubled ones undone.
pub fn comparison(clause: &str) -> Option<(String, String, String, bool)> {
    let mut words = clause.splitn(3, ' ');
    let (name, op, raw) = (words.next()?, words.next()?, words.next()?.trim());
    let quoted = raw.strip_prefix('\'').and_then(|r| r.strip_suffix('\''));
    let value = quoted.map_or_else(|| raw.to_owned(), |text| text.replace("''", "'"));
    Some((name.to_owned(), op.to_owned(), value, quoted.is_some()))
}

impl State {
    /// `rest` are the segments after the mailbox, `calendar` and `calendars/{id}` taken away.
    pub fn calendar_route(&mut self, call: &Call, index: usize, rest: &[&str]) -> Outcome<Response> {
        match rest {
            ["calendarView"] => {
                call.allow(&["GET"])?;
                let (from, to) = window(call)?;
                let rows = self.mailbox(index).map(|m| m.view(from, to)).unwrap_or_default();
                self.page(call, index, rows)
            }
            ["calendarView", delta] if is_delta(delta) => self.event_delta(call, index),
            ["events"] if call.method() == "POST" => self.create_event(call, index),
            ["events"] => {
                call.allow(&["GET", "POST"])?;
                let rows = self.mailbox(index).map(|m| m.events.values().cloned().collect()).unwrap_or_default();
                self.page(call, index, rows)
            }
            ["events", delta] if is_delta(delta) => {
                let message = "Change tracking is not supported against 'microsoft.graph.event' in v1.0.";
                Err(fail(400, "BadRequest", message))
            }
            ["events", id] => self.one_event(call, index, id),
            ["events", id, "instances"] => self.instances(call, index, id),
            ["events", _, "attachments" | "extensions"] if call.method() == "GET" => {
                Ok(Response::json(200, &json!({"value": []})))
            }
            ["events", id, action] => {
                let action = action.trim_start_matches("microsoft.graph.");
                match action {
                    "accept" | "decline" | "tentativelyAccept" | "cancel" => self.event_action(call, index, id, action),
                    _ => Err(no_segment(action)),
                }
            }
            _ => Err(no_segment(rest.last().copied().unwrap_or_default())),
        }
    }

    fn upn(&self, index: usize) -> String {
        self.mailbox(index).map(|m| m.upn.clone()).unwrap_or_default()
    }

    fn event_or_404(&self, index: usize, id: &str) -> Outcome<Event> {
        self.find(index, id).ok_or_else(|| {
            if id.len() < 20 { fail(400, "ErrorInvalidIdMalformed", "Id is malformed.") } else { not_found() }
        })
    }

    fn applied_headers(call: &Call, response: Response) -> Response {
        match &call.prefer.timezone {
            Some(zone) => response.header("Preference-Applied", &format!("outlook.timezone=\"{zone}\"")),
            None => response,
        }
    }

    fn entity(&self, call: &Call, index: usize, status: u16, mut body: Map<String, Value>) -> Response {
        let user = self.mailbox(index).map(|m| m.user_id.clone()).unwrap_or_default();
        let context = format!("{}/v1.0/$metadata#users('{user}')/events/$entity", call.request.base);
        body.insert("@odata.context".to_owned(), json!(context));
        Self::applied_headers(call, Response::json(status, &Value::Object(body)))
    }

    fn page(&self, call: &Call, index: usize, rows: Vec<Event>) -> Outcome<Response> {
        let mut rows = filter(call, rows)?;
        order(call, &mut rows)?;
        let (skip, top) = (call.skip()?, call.top(call.prefer.page_size.unwrap_or(10), 1000)?);
        let upn = self.upn(index);
        let shown = rows.iter().skip(skip).take(top).map(|e| self.show_event(call, &upn, e));
        let shown = shown.collect::<Outcome<Vec<Value>>>()?;
        let context = format!("{}/v1.0/$metadata#users('{upn}')/events", call.request.base);
        let mut out = json!({"@odata.context": context, "value": shown});
        if call.request.query("$count") == Some("true") {
            out["@odata.count"] = json!(rows.len());
        }
        if rows.len() > skip + top {
            out["@odata.nextLink"] = json!(call.next_link(skip + top));
        }
        Ok(Self::applied_headers(call, Response::json(200, &out)))
    }

    fn instances(&self, call: &Call, index: usize, id: &str) -> Outcome<Response> {
        call.allow(&["GET"])?;
        let master = self.event_or_404(index, id)?;
        if !master.is_master() {
            let message = "Your request can't be completed. Expand operation is only supported on a series master.";
            return Err(fail(400, "ErrorInvalidRequest", message));
        }
        let (from, to) = window(call)?;
        self.page(call, index, master.occurrences(to).into_iter().filter(|o| o.touches(from, to)).collect())
    }

    fn create_event(&mut self, call: &Call, index: usize) -> Outcome<Response> {
        call.grant.any(&WRITE)?;
        let body = call.body()?;
        let upn = self.upn(index);
        let transaction = body.get("transactionId").and_then(Value::as_str).map(str::to_owned);
        if let Some(known) = transaction.as_ref().and_then(|t| self.mailbox(index)?.transactions.get(t)) {
            if self.settings.duplicate_transaction_conflicts {
                let message = "Your request can't be completed. The TransactionId already exists.";
                return Err(fail(409, "ErrorDuplicateTransactionId", message));
            }
            if let Some(event) = self.find(index, known) {
                return Ok(self.entity(call, index, 201, self.event_json(call, &upn, &event)));
            }
        }
        let (event, invited) = self.new_event(index, &body)?;
        let shown = self.event_json(call, &upn, &event);
        let location =
            format!("{}/v1.0/users/{upn}/events/{}", call.request.base, shown["id"].as_str().unwrap_or_default());
        self.announce_new(index, &event, &invited);
        Ok(self.entity(call, index, 201, shown).header("Location", &location))
    }

    /// Reads and stores a new event of its organizer; invitations follow in [`State::announce_new`].
    pub fn new_event(&mut self, index: usize, body: &Map<String, Value>) -> Outcome<(Event, Vec<String>)> {
        let upn = self.upn(index);
        let mut event = self.blank_event(&upn);
        event_write::apply(&mut event, body, true)?;
        if event.flag("isOnlineMeeting") {
            self.make_online(&mut event);
        }
        let event = self.store(index, event);
        let transaction = event.data.get("transactionId").and_then(Value::as_str).map(str::to_owned);
        if let (Some(transaction), Some(mailbox)) = (transaction, self.mailboxes.get_mut(index)) {
            mailbox.transactions.insert(transaction, event.id.clone());
        }
        let people = event.people();
        Ok((event, people))
    }

    pub fn announce_new(&mut self, index: usize, event: &Event, invited: &[String]) {
        self.notify_event(index, Change::Created, event);
        if invited.is_empty() {
            return;
        }
        self.invite(index, event, invited);
        // Exchange moves the change key again when it sends the invitations.
        let touched = self.store(index, event.clone());
        self.notify_event(index, Change::Updated, &touched);
    }

    fn make_online(&self, event: &mut Event) {
        let url = format!("https://teams.microsoft.com/l/meetup-join/{}", self.ids.hex(16));
        let old = event.data.get("body").and_then(|b| b["content"].as_str()).unwrap_or_default();
        let block = format!(
            "<div class=\"me-email-text\"><a id=\"meet_invite_block.action.join_link\" href=\"{url}\">join</a></div>"
        );
        let content = html::wrap(&format!("{}{block}", html::inner(old)));
        event.data.insert("body".to_owned(), json!({"contentType": "html", "content": content}));
        event.data.insert("onlineMeeting".to_owned(), json!({"joinUrl": url}));
        event.data.insert("onlineMeetingProvider".to_owned(), json!("teamsForBusiness"));
    }

    fn one_event(&mut self, call: &Call, index: usize, id: &str) -> Outcome<Response> {
        call.allow(&["GET", "PATCH", "DELETE"])?;
        let event = self.event_or_404(index, id)?;
        let upn = self.upn(index);
        if call.method() == "GET" {
            let mut shown = self.show_event(call, &upn, &event)?;
            let body = shown.as_object_mut().map(std::mem::take).unwrap_or_default();
            return Ok(self.entity(call, index, 200, body));
        }
        call.grant.any(&WRITE)?;
        call.check_etag(&event.etag())?;
        if call.method() == "DELETE" {
            self.delete_event(index, &event);
            return Ok(Response::empty(204));
        }
        let (event, applied, before) = self.change_event(index, event, &call.body()?)?;
        let shown = self.event_json(call, &upn, &event);
        self.announce_change(index, &event, &applied, &before);
        Ok(self.entity(call, index, 200, shown))
    }

    /// Reads and stores a PATCH; mails follow in [`State::announce_change`].
    pub fn change_event(
        &mut self,
        index: usize,
        mut event: Event,
        body: &Map<String, Value>,
    ) -> Outcome<(Event, Applied, Vec<String>)> {
        let before = event.people();
        if !event.is_organizer && body.contains_key("attendees") {
            return Err(denied());
        }
        if event.series.is_some() && body.get("recurrence").is_some_and(|r| !r.is_null()) {
            return Err(bad_property("an occurrence cannot have a recurrence."));
        }
        let applied = event_write::apply(&mut event, body, false)?;
        if event.series.is_some() && ["start", "end"].iter().any(|n| applied.changed.contains(n)) {
            self.check_crossing(index, &event)?;
        }
        if applied.lost_join {
            self.lost_joins.push(event.id.clone());
        }
        let joined = event.data.get("onlineMeeting").is_some_and(Value::is_object);
        if event.flag("isOnlineMeeting") && !joined && !self.lost_joins.contains(&event.id) {
            self.make_online(&mut event);
        }
        Ok((self.store(index, event), applied, before))
    }

    pub fn announce_change(&mut self, index: usize, event: &Event, applied: &Applied, before: &[String]) {
        self.notify_event(index, Change::Updated, event);
        if event.is_organizer {
            self.after_organizer_patch(index, event, &applied.changed, before);
        }
    }

    /// An exception may not reach the day of its neighbours.
    fn check_crossing(&self, index: usize, event: &Event) -> Outcome<()> {
        let Some(series) = &event.series else { return Ok(()) };
        let Some(master) = self.find(index, &series.master_id) else { return Err(not_found()) };
        let day = event.start.date_naive();
        for other in master.occurrences(event.start.max(series.original) + TimeDelta::days(400)) {
            let Some(neighbour) = other.series.as_ref().filter(|s| s.day != series.day) else { continue };
            let theirs = other.start.date_naive();
            let crossed = if neighbour.original < series.original { day <= theirs } else { day >= theirs };
            if crossed {
                let message = "Modified occurrence is crossing or overlapping adjacent occurrence.";
                return Err(fail(400, "ErrorOccurrenceCrossingBoundary", message));
            }
        }
        Ok(())
    }

    fn event_action(&mut self, call: &Call, index: usize, id: &str, action: &str) -> Outcome<Response> {
        call.allow(&["POST"])?;
        call.grant.any(&WRITE)?;
        let event = self.event_or_404(index, id)?;
        let body = if call.request.body.is_empty() { Map::new() } else { call.body()? };
        let body: Map<String, Value> = body.into_iter().map(|(k, v)| (k.to_lowercase(), v)).collect();
        let known =
            if action == "cancel" { &["comment"][..] } else { &["comment", "sendresponse", "proposednewtime"][..] };
        event_write::only(&body, known, action)?;
        let send = body.get("sendresponse").map_or(Some(true), Value::as_bool);
        let send = send.ok_or_else(|| super::error::unreadable("sendResponse must be Boolean"))?;
        if call.request.header("If-Match").is_some_and(|given| given != "*" && !given.contains(&event.change_key())) {
            return Err(conflict());
        }
        self.act(index, event, action, send)?;
        Ok(Response::empty(202))
    }

    pub fn act(&mut self, index: usize, event: Event, action: &str, send: bool) -> Outcome<()> {
        let refuse =
            |why: &str| Err(fail(400, "ErrorInvalidRequest", format!("Your request can't be completed. {why}")));
        let response = match action {
            "accept" => "accepted",
            "decline" => "declined",
            "tentativelyAccept" => "tentativelyAccepted",
            _ if !event.is_organizer => return refuse("You need to be an organizer to cancel a meeting."),
            _ => {
                self.delete_event(index, &event);
                return Ok(());
            }
        };
        if event.is_organizer {
            return refuse("You can't respond to this meeting because you're the meeting organizer.");
        }
        if send && event.data.get("responseRequested") == Some(&json!(false)) {
            return refuse("The meeting organizer hasn't requested a response.");
        }
        self.respond(index, event, response, send);
        Ok(())
    }
}

pub fn is_delta(segment: &str) -> bool {
    matches!(segment, "delta" | "delta()" | "microsoft.graph.delta()" | "microsoft.graph.delta")
}

/// `startDateTime` and `endDateTime` of the query; values without offset are UTC.
pub fn window(call: &Call) -> Outcome<(DateTime<Utc>, DateTime<Utc>)> {
    let find = |name: &str| {
        let pair = call.request.query.iter().find(|(k, _)| k.eq_ignore_ascii_case(name));
        let missing = "This request requires a time window specified by the query string parameters StartDateTime and EndDateTime.";
        let (_, text) = pair.ok_or_else(|| fail(400, "ErrorInvalidParameter", missing))?;
        times::parse_offset(text).map_err(|e| fail(400, "ErrorInvalidParameter", e.to_string()))
    };
    let (from, to) = (find("startDateTime")?, find("endDateTime")?);
    if to < from || to - from > TimeDelta::days(1825) {
        return Err(fail(400, "ErrorInvalidParameter", "The requested duration is not valid: at most 1825 days."));
    }
    Ok((from, to))
}

fn filter(call: &Call, mut rows: Vec<Event>) -> Outcome<Vec<Event>> {
    let Some(text) = call.request.query("$filter") else { return Ok(rows) };
    for clause in split_outside_quotes(text, " and ") {
        let inner = clause.strip_prefix('(').and_then(|c| c.strip_suffix(')')).unwrap_or(&clause);
        // A clause is judged even when no event is there to be tested.
        let test = parse_clause(inner)?;
        rows.retain(|event| test(event));
    }
    Ok(rows)
}

type Test = Box<dyn Fn(&Event) -> bool>;

fn parse_clause(clause: &str) -> Outcome<Test> {
    if let Some(rest) = clause.strip_prefix("singleValueExtendedProperties/") {
        return extended_clause(rest).ok_or_else(|| bad_filter(clause));
    }
    let (name, op, value, quoted) = comparison(clause).ok_or_else(|| bad_filter(clause))?;
    match name.as_str() {
        "iCalUId" if op == "eq" && quoted => Ok(Box::new(move |e| e.ical == value)),
        "subject" if op == "eq" && quoted => Ok(Box::new(move |e| e.subject() == value)),
        "type" if op == "eq" && quoted => Ok(Box::new(move |e| e.kind() == value)),
        "transactionId" | "uid" => {
            let message = format!("The property '{name}' does not support filtering.");
            Err(fail(400, "ErrorInvalidUrlQueryFilter", message))
        }
        "isCancelled" | "isAllDay" | "isOrganizer" if op == "eq" && ["true", "false"].contains(&value.as_str()) => {
            let wanted = value == "true";
            Ok(Box::new(move |e| wanted == if name == "isOrganizer" { e.is_organizer } else { e.flag(&name) }))
        }
        "start/dateTime" | "end/dateTime" | "lastModifiedDateTime" | "createdDateTime" => {
            let right = times::parse_offset(&value).map_err(|_| bad_filter(clause))?;
            if !["ge", "gt", "le", "lt", "eq"].contains(&op.as_str()) {
                return Err(bad_filter(clause));
            }
            Ok(Box::new(move |e| {
                let left = moment_of(e, &name);
                match op.as_str() {
                    "ge" => left >= right,
                    "gt" => left > right,
                    "le" => left <= right,
                    "lt" => left < right,
                    _ => left == right,
                }
            }))
        }
        _ => Err(bad_filter(clause)),
    }
}

/// `Any(ep: ep/id eq '<id>' and ep/value eq '<value>')`
fn extended_clause(rest: &str) -> Option<Test> {
    let inner = rest.get(..3).filter(|any| any.eq_ignore_ascii_case("any")).and(rest.get(3..))?;
    let inner = inner.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (name, terms) = inner.split_once(':')?;
    let name = name.trim();
    let (mut id, mut wanted) = (None, None);
    for term in split_outside_quotes(terms, " and ") {
        let (left, op, value, quoted) = comparison(&term)?;
        let member = left.strip_prefix(name)?.strip_prefix('/')?;
        match (member, op.as_str(), quoted) {
            ("id", "eq", true) => id = Some(value),
            ("value", "eq", true) => wanted = Some(value),
            _ => return None,
        }
    }
    let (id, wanted) = (id?, wanted?);
    Some(Box::new(move |event| {
        event.extended.iter().any(|(k, v)| k.eq_ignore_ascii_case(&id) && v.as_deref() == Some(wanted.as_str()))
    }))
}

fn moment_of(event: &Event, name: &str) -> DateTime<Utc> {
    match name {
        "start/dateTime" => event.start,
        "end/dateTime" => event.end,
        "createdDateTime" => event.created,
        _ => event.modified,
    }
}

fn order(call: &Call, rows: &mut [Event]) -> Outcome<()> {
    let text = call.request.query("$orderby").unwrap_or("start/dateTime");
    let (name, descending) = match text.split_once(' ') {
        Some((name, direction)) => (name, direction.trim().eq_ignore_ascii_case("desc")),
        None => (text, false),
    };
    match name {
        "subject" => rows.sort_by(|a, b| a.subject().cmp(b.subject())),
        "start/dateTime" | "end/dateTime" | "createdDateTime" | "lastModifiedDateTime" => {
            rows.sort_by(|a, b| (moment_of(a, name), &a.id).cmp(&(moment_of(b, name), &b.id)));
        }
        _ => return Err(fail(400, "ErrorInvalidUrlQuery", format!("$orderby is not supported on {name}."))),
    }
    if descending {
        rows.reverse();
    }
    Ok(())
}
