//! The lists of Microsoft To Do and their delta: subscriptions are per list, so a new list is only found here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::calendar::comparison;
use super::delta::{Token, gone, removed};
use super::error::{Outcome, not_found};
use super::event_write::only;
use super::request::Call;
use super::state::State;
use super::todo::{TodoList, invalid};
use crate::plumbing::Response;

impl State {
    pub fn lists(&mut self, call: &Call, index: usize) -> Outcome<Response> {
        call.allow(&["GET", "POST"])?;
        if call.method() == "POST" {
            let body = call.body()?;
            only(&body, &["displayName"], "microsoft.graph.todoTaskList")?;
            let name = body.get("displayName").and_then(Value::as_str).filter(|n| !n.is_empty());
            let list = TodoList::new(&self.ids, name.ok_or_else(|| invalid("displayName is required"))?, "none");
            let shown = list.json();
            self.mailboxes.get_mut(index).ok_or_else(not_found)?.lists.push(list);
            return Ok(Response::json(201, &shown));
        }
        let mut rows: Vec<Value> =
            self.mailbox(index).map(|m| m.lists.iter().map(TodoList::json).collect()).unwrap_or_default();
        if let Some(text) = call.request.query("$filter") {
            match comparison(text) {
                Some((name, op, value, true))
                    if op == "eq" && ["wellknownListName", "displayName"].contains(&name.as_str()) =>
                {
                    rows.retain(|row| row[&name] == json!(value));
                }
                _ => return Err(invalid("Invalid filter clause")),
            }
        }
        Ok(Response::json(200, &json!({"value": rows})))
    }

    pub fn one_list(&mut self, call: &Call, index: usize, id: &str) -> Outcome<Response> {
        call.allow(&["GET", "PATCH", "DELETE"])?;
        let list = self.list_mut(index, id)?;
        if call.method() == "GET" {
            return Ok(Response::json(200, &list.json()));
        }
        if list.wellknown != "none" {
            return Err(invalid("A well-known list cannot be changed."));
        }
        if call.method() == "PATCH" {
            if let Some(name) = call.body()?.get("displayName").and_then(Value::as_str) {
                name.clone_into(&mut list.name);
            }
            list.version += 1;
            return Ok(Response::json(200, &list.json()));
        }
        self.mailboxes.get_mut(index).ok_or_else(not_found)?.lists.retain(|l| l.id != id);
        Ok(Response::empty(204))
    }

    pub fn lists_delta(&mut self, call: &Call, index: usize) -> Outcome<Response> {
        call.allow(&["GET"])?;
        let mailbox = self.mailbox(index).ok_or_else(not_found)?;
        let user = mailbox.user_id.clone();
        let before = match self.delta_token(call)? {
            None => BTreeMap::new(),
            Some(Token::Lists { user: owner, seen }) if owner == user => seen,
            Some(_) => return Err(gone(call)),
        };
        let changed = mailbox.lists.iter().filter(|l| before.get(&l.id) != Some(&l.version));
        let mut rows: Vec<Value> = changed
            .map(|l| {
                let mut row = l.json();
                row["@odata.type"] = json!("#microsoft.graph.todoTaskList");
                row
            })
            .collect();
        let now: BTreeMap<String, u64> = mailbox.lists.iter().map(|l| (l.id.clone(), l.version)).collect();
        rows.extend(before.keys().filter(|id| !now.contains_key(*id)).map(|id| removed("todoTaskList", id)));
        let token = self.keep_token(Token::Lists { user, seen: now });
        let link = format!("{}{}?$deltatoken={token}", call.request.base, call.request.raw_path);
        Ok(Response::json(200, &json!({"value": rows, "@odata.deltaLink": link})))
    }
}
