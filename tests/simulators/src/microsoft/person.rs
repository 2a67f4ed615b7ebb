//! A person at the keyboard: Outlook and To Do without HTTP, and invitations from outside the organisation.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::GraphSim;
use super::error::{Outcome, Refusal, fail, not_found};
use super::event_write;
use super::meetings::set_status;
use super::request::{Call, Grant, Prefer};
use super::state::{Change, EMPTY_TIME, State, status};
use super::times;
use super::todo::Writer;
use crate::plumbing::Request;

/// Handle of one person's doings.
#[derive(Clone)]
pub struct Person {
    sim: GraphSim,
    user: String,
}

fn object(body: Value) -> Outcome<Map<String, Value>> {
    match body {
        Value::Object(map) => Ok(map),
        _ => Err(fail(400, "BadRequest", "An object is expected.")),
    }
}

fn with_call<T>(then: impl FnOnce(&Call) -> T) -> T {
    let request = Request::default();
    let grant = Grant { user: None, scopes: std::collections::BTreeSet::new() };
    then(&Call { request: &request, grant, prefer: Prefer::default() })
}

impl Person {
    pub fn new(sim: GraphSim, user: &str) -> Self {
        Self { sim, user: user.to_owned() }
    }

    fn with<T>(&self, then: impl FnOnce(&mut State, usize) -> Outcome<T>) -> Outcome<T> {
        let outcome = {
            let mut state = self.sim.state();
            let unknown = || fail(404, "ErrorInvalidUser", format!("The requested user '{}' is invalid.", self.user));
            let index = state.resolve(&self.user).ok_or_else(unknown)?;
            then(&mut state, index)
        };
        self.sim.0.wake.notify_one();
        outcome
    }

    fn show(state: &State, index: usize, event: &super::state::Event) -> Value {
        let upn = state.mailbox(index).map(|m| m.upn.as_str()).unwrap_or_default();
        with_call(|call| Value::Object(state.event_json(call, upn, event)))
    }

    pub fn create_event(&self, body: Value) -> Result<Value, Refusal> {
        let body = object(body)?;
        self.with(|state, index| {
            let (event, invited) = state.new_event(index, &body)?;
            state.announce_new(index, &event, &invited);
            let stored = state.find(index, &event.id).unwrap_or(event);
            Ok(Self::show(state, index, &stored))
        })
    }

    pub fn patch_event(&self, id: &str, body: Value) -> Result<Value, Refusal> {
        let body = object(body)?;
        self.with(|state, index| {
            let event = state.find(index, id).ok_or_else(not_found)?;
            let (event, applied, before) = state.change_event(index, event, &body)?;
            state.announce_change(index, &event, &applied, &before);
            Ok(Self::show(state, index, &event))
        })
    }

    pub fn delete_event(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state, index| {
            let event = state.find(index, id).ok_or_else(not_found)?;
            state.delete_event(index, &event);
            Ok(())
        })
    }

    /// `accept`, `tentativelyAccept`, `decline` or, for the organizer, `cancel`.
    pub fn respond(&self, id: &str, action: &str) -> Result<(), Refusal> {
        self.with(|state, index| {
            let event = state.find(index, id).ok_or_else(not_found)?;
            let send = event.data.get("responseRequested") != Some(&json!(false));
            state.act(index, event, action, send)
        })
    }

    pub fn event(&self, id: &str) -> Option<Value> {
        self.with(|state, index| {
            let event = state.find(index, id).ok_or_else(not_found)?;
            Ok(Self::show(state, index, &event))
        })
        .ok()
    }

    /// Single events and series masters, in UTC.
    pub fn events(&self) -> Vec<Value> {
        self.with(|state, index| {
            let events: Vec<_> = state.mailbox(index).map(|m| m.events.values().cloned().collect()).unwrap_or_default();
            Ok(events.iter().map(|e| Self::show(state, index, e)).collect())
        })
        .unwrap_or_default()
    }

    /// Single events and occurrences of a window, in UTC.
    pub fn view(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Value> {
        self.with(|state, index| {
            let events = state.mailbox(index).map(|m| m.view(from, to)).unwrap_or_default();
            Ok(events.iter().map(|e| Self::show(state, index, e)).collect())
        })
        .unwrap_or_default()
    }

    /// An extended property of an event.
    pub fn extended(&self, id: &str, property: &str) -> Option<String> {
        self.with(|state, index| {
            let event = state.find(index, id).ok_or_else(not_found)?;
            Ok(event.extended.iter().find(|(k, _)| k.eq_ignore_ascii_case(property)).and_then(|(_, v)| v.clone()))
        })
        .ok()
        .flatten()
    }

    /// An invitation from outside the organisation arrives; gives the id of the copy.
    pub fn invited(
        &self,
        subject: &str,
        organizer: &str,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        others: &[&str],
    ) -> Result<String, Refusal> {
        self.with(|state, index| {
            let upn = state.mailbox(index).map(|m| m.upn.clone()).unwrap_or_default();
            let people: Vec<Value> = std::iter::once(upn.as_str())
                .chain(others.iter().copied())
                .map(|address| json!({"type": "required", "emailAddress": {"name": state.name_of(address), "address": address}}))
                .collect();
            let mut event = state.blank_event(organizer);
            event.is_organizer = false;
            let body = json!({"subject": subject, "attendees": people,
                "start": times::in_zone(start, "UTC"), "end": times::in_zone(end, "UTC"), "showAs": "tentative"});
            event_write::apply(&mut event, &object(body)?, true)?;
            event.data.insert("responseStatus".to_owned(), status("notResponded", EMPTY_TIME));
            let event = state.store(index, event);
            state.notify_event(index, Change::Created, &event);
            Ok(event.id)
        })
    }

    /// The same meeting of the outside organizer, whose copy `id` is in another's mailbox, arrives here as well; gives the id of
    /// this copy.
    pub fn invited_as_well(&self, other: &str, id: &str) -> Result<String, Refusal> {
        self.with(|state, index| {
            let theirs = state.resolve(other).and_then(|other| state.find(other, id)).ok_or_else(not_found)?;
            let mut event = state.blank_event(&theirs.organizer);
            (event.is_organizer, event.ical, event.data) = (false, theirs.ical, theirs.data);
            (event.start, event.end) = (theirs.start, theirs.end);
            (event.start_zone, event.end_zone) = (theirs.start_zone, theirs.end_zone);
            event.data.insert("responseStatus".to_owned(), status("notResponded", EMPTY_TIME));
            let event = state.store(index, event);
            state.notify_event(index, Change::Created, &event);
            Ok(event.id)
        })
    }

    /// The outside organizer of a meeting changes it: the copy is overwritten.
    pub fn organizer_changes(&self, id: &str, body: Value) -> Result<(), Refusal> {
        let body = object(body)?;
        self.with(|state, index| {
            let mut event = state.find(index, id).ok_or_else(not_found)?;
            let before = (event.start, event.end);
            event_write::apply(&mut event, &body, false)?;
            if before != (event.start, event.end) && ["accepted", "tentativelyAccepted"].contains(&event.response()) {
                event.data.insert("responseStatus".to_owned(), status("notResponded", EMPTY_TIME));
            }
            let event = state.store(index, event);
            state.notify_event(index, Change::Updated, &event);
            Ok(())
        })
    }

    /// The outside organizer cancels: the copy stays, marked.
    pub fn organizer_cancels(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state, index| {
            let event = state.find(index, id).ok_or_else(not_found)?;
            state.mark_cancelled(index, event);
            Ok(())
        })
    }

    /// An outside attendee's answer arrives at the organizer's item.
    pub fn attendee_answers(&self, id: &str, address: &str, response: &str) -> Result<(), Refusal> {
        self.with(|state, index| {
            let mut event = state.find(index, id).ok_or_else(not_found)?;
            let time = times::stamp(state.now());
            set_status(&mut event, address, status(response, &time));
            let event = state.store(index, event);
            state.notify_event(index, Change::Updated, &event);
            Ok(())
        })
    }

    /// Exchange touches an item for reasons of its own: a new change key, nothing to see.
    pub fn touch_event(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state, index| {
            let event = state.find(index, id).ok_or_else(not_found)?;
            let event = state.store(index, event);
            state.notify_event(index, Change::Updated, &event);
            Ok(())
        })
    }

    /// Ids and names of the To Do lists, the default one first.
    pub fn lists(&self) -> Vec<(String, String)> {
        self.with(|state, index| {
            let lists = state.mailbox(index).map(|m| m.lists.iter().map(|l| (l.id.clone(), l.name.clone())).collect());
            Ok(lists.unwrap_or_default())
        })
        .unwrap_or_default()
    }

    fn default_list(&self) -> Result<String, Refusal> {
        self.lists().into_iter().next().map(|(id, _)| id).ok_or_else(not_found)
    }

    fn list_of(state: &State, index: usize, task: &str) -> Outcome<String> {
        let lists = state.mailbox(index).map(|m| m.lists.as_slice()).unwrap_or_default();
        let found = lists.iter().find(|l| l.tasks.iter().any(|t| t.id == task));
        found.map(|l| l.id.clone()).ok_or_else(not_found)
    }

    /// A task in the default list; dates are kept as the To Do app keeps them, as local midnights.
    pub fn create_task(&self, body: Value) -> Result<Value, Refusal> {
        self.create_task_in(&self.default_list()?, body)
    }

    pub fn create_task_in(&self, list: &str, body: Value) -> Result<Value, Refusal> {
        let body = object(body)?;
        self.with(|state, index| Ok(state.new_task(index, list, &body, Writer::App)?.json(true, true)))
    }

    pub fn patch_task(&self, id: &str, body: Value) -> Result<Value, Refusal> {
        let body = object(body)?;
        self.with(|state, index| {
            let list = Self::list_of(state, index, id)?;
            Ok(state.change_task(index, &list, id, &body, Writer::App)?.json(true, true))
        })
    }

    pub fn delete_task(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state, index| {
            let list = Self::list_of(state, index, id)?;
            state.remove_task(index, &list, id)
        })
    }

    /// Adds a file to a task. Gives its id.
    pub fn attach(&self, task: &str, name: &str, kind: &str, bytes: Vec<u8>) -> Result<String, Refusal> {
        self.with(|state, index| {
            let list = Self::list_of(state, index, task)?;
            let mut task = state.task(index, &list, task)?;
            let file = state.attach(&mut task, name, Some(kind), bytes);
            state.store_task(index, &list, task)?;
            Ok(file.id)
        })
    }

    /// Removes a file from a task.
    pub fn detach(&self, task: &str, file: &str) -> Result<(), Refusal> {
        self.with(|state, index| {
            let list = Self::list_of(state, index, task)?;
            let mut task = state.task(index, &list, task)?;
            task.attachments.retain(|known| known.id != file);
            state.store_task(index, &list, task).map(drop)
        })
    }

    /// Ids, names and contents of a task's files.
    pub fn files(&self, task: &str) -> Vec<(String, String, Vec<u8>)> {
        let files = self.with(|state, index| {
            let list = Self::list_of(state, index, task)?;
            let task = state.task(index, &list, task)?;
            Ok(task.attachments.into_iter().map(|file| (file.id, file.name, file.bytes)).collect())
        });
        files.unwrap_or_default()
    }

    /// The tasks of all lists, with linked resources and attachments, and `listId`.
    pub fn tasks(&self) -> Vec<Value> {
        self.with(|state, index| {
            let lists = state.mailbox(index).map(|m| m.lists.as_slice()).unwrap_or_default();
            let rows = lists.iter().flat_map(|l| {
                l.tasks.iter().map(|t| {
                    let mut row = t.json(true, true);
                    row["listId"] = json!(l.id);
                    row
                })
            });
            Ok(rows.collect())
        })
        .unwrap_or_default()
    }
}

impl GraphSim {
    /// An invitation from outside the organisation; see [`Person::invited`].
    pub fn invited(
        &self,
        user: &str,
        subject: &str,
        organizer: &str,
        start: DateTime<Utc>,
        end: Option<DateTime<Utc>>,
    ) -> Result<String, Refusal> {
        self.person(user).invited(subject, organizer, start, end.unwrap_or(start + TimeDelta::hours(1)), &[])
    }
}
