//! A page for people: pick a user, see three weeks of Meetings, Calls and Tasks, and write as the web client would (only
//! what differs is sent). Server-rendered; it links to itself only.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::defs::{Def, def};
use super::page_html::render;
use super::state::{Record, State, full_name};
use super::{EspoSim, links, routes, time};
use crate::plumbing::{Request, Response, lock};

pub(super) const KINDS: &[&str] = &["Meeting", "Call", "Task"];

/// What the page shows: whose calendar, from which Monday, and which record is open.
pub(super) struct View {
    pub user: String,
    pub monday: NaiveDate,
    pub open: Option<(&'static Def, String)>,
    pub error: Option<String>,
}

type Form = Vec<(String, String)>;

fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
}

impl View {
    fn read(state: &State, form: &Form) -> Self {
        let user = match field(form, "user") {
            "" => users(state).first().map(|user| user.text("userName").unwrap_or_default().to_owned()),
            name => Some(name.to_owned()),
        };
        let user = user.unwrap_or_default();
        let zone = state.zone_of(&state.live_user_id(&user).unwrap_or_default());
        let day =
            time::date(field(form, "week")).unwrap_or_else(|| state.clock.now().with_timezone(&zone).date_naive());
        let monday = day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into())).unwrap_or(day);
        let open = field(form, "open").split_once('/');
        let open = open.and_then(|(kind, id)| def(kind).map(|def| (def, id.to_owned())));
        let error = Some(field(form, "error").to_owned()).filter(|text| !text.is_empty());
        Self { user, monday, open, error }
    }

    pub fn link(&self, monday: NaiveDate, open: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("user", &self.user).append_pair("week", &monday.to_string());
        if let Some(open) = open {
            query.append_pair("open", open);
        }
        format!("/?{}", query.finish())
    }
}

/// Whose calendars may be looked at.
pub(super) fn users(state: &State) -> Vec<&Record> {
    let mut users: Vec<&Record> = state
        .table("User")
        .filter(|user| !user.is_deleted() && user.text("type") == Some("regular") && user.get("isActive") != false)
        .collect();
    users.sort_by_key(|user| full_name("User", user));
    users
}

/// The custom field for a place, if there is one.
pub(super) fn location_field(state: &State, def: &Def) -> Option<String> {
    let known = ["location", "cLocation"].iter().find(|name| state.has_attribute(def, name));
    known.map(|name| (*name).to_owned())
}

pub(super) fn answer(sim: &EspoSim, request: &Request) -> Response {
    let mut state = lock(&sim.shared.state);
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/") => Response::html(200, render(&state, &View::read(&state, &request.query))),
        ("POST", "/ui/save" | "/ui/delete" | "/ui/answer") => {
            let form = request.form();
            let view = View::read(&state, &form);
            let done = match request.path.as_str() {
                "/ui/save" => save(&mut state, &view, &form),
                "/ui/delete" => delete(&mut state, &view),
                _ => accept(&mut state, &view, &form),
            };
            let open = view.open.as_ref().filter(|_| done.is_err()).map(|(def, id)| format!("{}/{id}", def.name));
            let back = view.link(view.monday, open.as_deref());
            match done {
                Ok(()) => Response::see_other(&back),
                Err(text) => {
                    let mut error = form_urlencoded::Serializer::new(String::new());
                    error.append_pair("error", &text);
                    Response::see_other(&format!("{back}&{}", error.finish()))
                }
            }
        }
        _ => Response::html(
            404,
            "<!doctype html><title>Not found</title><p>No such page. <a href=\"/\">Calendar</a>".into(),
        ),
    }
}

fn delete(state: &mut State, view: &View) -> Result<(), String> {
    let actor = state.actor_named(&view.user).ok_or("No such user.")?;
    let (def, id) = view.open.as_ref().ok_or("No such record.")?;
    let done = routes::write(state, &actor, def, "DELETE", Some(id), &Value::Null, None);
    done.map(|_| ()).map_err(|refusal| refusal.to_string())
}

fn accept(state: &mut State, view: &View, form: &Form) -> Result<(), String> {
    let actor = state.actor_named(&view.user).ok_or("No such user.")?;
    let (def, id) = view.open.as_ref().ok_or("No such record.")?;
    links::set_acceptance(state, &actor, def, id, field(form, "status")).map_err(|refusal| refusal.to_string())
}

fn save(state: &mut State, view: &View, form: &Form) -> Result<(), String> {
    let actor = state.actor_named(&view.user).ok_or("No such user.")?;
    let before =
        view.open.as_ref().and_then(|(def, id)| state.live(def.name, id).cloned().map(|record| (*def, record)));
    let def = match &before {
        Some((def, _)) => def,
        None => def(field(form, "kind")).filter(|def| KINDS.contains(&def.name)).ok_or("No such kind.")?,
    };
    let mut body = body_of(state, def, &actor.id, form)?;
    let done = match &before {
        None => {
            body.insert("assignedUserId".into(), actor.id.clone().into());
            routes::write(state, &actor, def, "POST", None, &Value::Object(body), None)
        }
        Some((_, record)) => {
            body.retain(|name, value| differs(record, name, value));
            // Start and end go together, as in the web client.
            routes::write(state, &actor, def, "PUT", Some(record.id()), &Value::Object(body), None)
        }
    };
    done.map(|_| ()).map_err(|refusal| refusal.to_string())
}

fn differs(record: &Record, name: &str, value: &Value) -> bool {
    let Some(link) = name.strip_suffix("Ids") else {
        return record.get(name) != value && !(record.get(name).is_null() && value == "");
    };
    let mut sent: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut held: Vec<&str> = record.links(link).iter().map(|(id, _)| id.as_str()).collect();
    sent.sort_unstable();
    held.sort_unstable();
    sent != held
}

fn body_of(state: &State, def: &'static Def, actor_id: &str, form: &Form) -> Result<Map<String, Value>, String> {
    let mut body = Map::new();
    for name in ["name", "description", "status"] {
        if form.iter().any(|(key, value)| key == name && !(name == "status" && value.is_empty())) {
            body.insert(name.to_owned(), field(form, name).into());
        }
    }
    if let Some(location) = location_field(state, def).filter(|_| form.iter().any(|(key, _)| key == "location")) {
        body.insert(location, field(form, "location").into());
    }
    let zone = state.zone_of(actor_id);
    let all_day = field(form, "allDay") == "on" && def.has_all_day();
    for side in ["dateStart", "dateEnd"] {
        let text = field(form, side);
        let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M");
        let local = local.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S"));
        let Ok(local) = local else {
            if def.name != "Task" {
                return Err(format!("{side} is missing."));
            }
            continue;
        };
        let date = format!("{side}Date");
        if all_day {
            body.insert(date, local.date().to_string().into());
        } else {
            if def.has_all_day() {
                body.insert(date, Value::Null);
            }
            body.insert(side.to_owned(), time::stamp(time::to_utc(local, zone)).into());
        }
    }
    if def.has("isAllDay") {
        body.insert("isAllDay".into(), all_day.into());
    }
    if def.is_event() {
        let (users, contacts) = people(state, field(form, "people"))?;
        body.insert("usersIds".into(), json!(users));
        body.insert("contactsIds".into(), json!(contacts));
    }
    Ok(body)
}

/// A comma list of user names, and of contacts by name or address.
fn people(state: &State, text: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut users, mut contacts) = (Vec::new(), Vec::new());
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let contact = state.table("Contact").find(|contact| {
            let mail = contact.emails.iter().any(|mail| mail.eq_ignore_ascii_case(name));
            !contact.is_deleted() && (mail || full_name("Contact", contact).eq_ignore_ascii_case(name))
        });
        match (state.live_user_id(name), contact) {
            (Some(id), _) => users.push(id),
            (None, Some(contact)) => contacts.push(contact.id().to_owned()),
            (None, None) => return Err(format!("'{name}' is neither a user nor a contact.")),
        }
    }
    Ok((users, contacts))
}

/// First and last local day of a record, with its times; `None` for a task without dates.
pub(super) fn span(state: &State, def: &Def, record: &Record, user_id: &str) -> Option<(NaiveDateTime, NaiveDateTime)> {
    let zone = state.zone_of(user_id);
    let side = |name: &str| {
        let day = record.text(&format!("{name}Date")).and_then(time::date).map(|day| day.and_time(NaiveTime::MIN));
        let at = || record.text(name).and_then(time::parse).map(|at| at.and_utc().with_timezone(&zone).naive_local());
        day.or_else(at)
    };
    let (start, end) = (side("dateStart"), side("dateEnd"));
    // A task stands on the day when it is due.
    if def.name == "Task" {
        end.or(start).map(|due| (due, due))
    } else {
        start.map(|start| (start, end.unwrap_or(start)))
    }
}
