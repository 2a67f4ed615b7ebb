//! Dispatch of `/api/v1`: authentication, body, then the controllers. Facts (EspoCRM 9.3.10): a malformed JSON body is
//! 500; a body of another content type is ignored; Webhook is created with 201, everything else with 200.

use serde_json::{Map, Value, json};

use super::auth::{Login, authenticate};
use super::defs::{Def, def, foreign_of};
use super::query::{self, Matcher, Search};
use super::refusal::Refusal;
use super::state::{Actor, Record, State, full_name};
use super::view::{self, Echo};
use super::write::{self, Changed};
use super::{admin, files, time};
use crate::plumbing::{Request, Response};

/// Headers of every answer of the API.
pub(super) fn stamped(state: &State, response: Response) -> Response {
    response
        .header("X-App-Timestamp", "1795373646")
        .header("Expires", "0")
        .header("Last-Modified", &state.clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .header("Cache-Control", "no-store, no-cache, must-revalidate, post-check=0, pre-check=0")
}

pub(super) fn answer(state: &mut State, request: &Request) -> Response {
    let Some(path) = request.path.strip_prefix("/api/v1/") else {
        return Refusal::bare(404).to_response();
    };
    let login = match authenticate(state, request) {
        Ok(login) => login,
        Err(refusal) => return refusal.to_response(),
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let result = body_of(request).and_then(|body| {
        let call = Call { request, login: &login, parts: &parts, body: &body };
        route(state, &call)
    });
    let mut response = match result {
        Ok(Reply::Json(status, value)) => stamped(state, Response::json(status, &value)),
        Ok(Reply::Raw(response)) => stamped(state, response),
        Err(refusal) => refusal.to_response(),
    };
    if let Some(secret) = &login.secret {
        response =
            response.header("Set-Cookie", &format!("auth-token-secret={secret}; path=/; HttpOnly; SameSite=Lax"));
    }
    response.mailbox(&login.actor.user_name)
}

fn body_of(request: &Request) -> Result<Value, Refusal> {
    let is_json =
        request.header("Content-Type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/json"));
    if request.body.is_empty() || !is_json {
        return Ok(json!({}));
    }
    request.json().map_err(|_| Refusal::new(500, ""))
}

pub(super) enum Reply {
    Json(u16, Value),
    Raw(Response),
}

pub(super) type Answer = Result<Reply, Refusal>;

pub(super) fn ok(value: impl Into<Value>) -> Answer {
    Ok(Reply::Json(200, value.into()))
}

/// One call of the API.
pub(super) struct Call<'a> {
    pub request: &'a Request,
    pub login: &'a Login,
    pub parts: &'a [&'a str],
    pub body: &'a Value,
}

impl Call<'_> {
    pub fn actor(&self) -> &Actor {
        &self.login.actor
    }

    pub fn method(&self) -> &str {
        &self.request.method
    }

    pub fn is_true(&self, header: &str) -> bool {
        self.request.header(header).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

fn route(state: &mut State, call: &Call<'_>) -> Answer {
    match *call.parts {
        ["App", "user"] => admin::app_user(state, call),
        ["App", "destroyAuthToken"] => {
            let token = call.body.get("token").and_then(Value::as_str).unwrap_or_default();
            ok(state.tokens.remove(token).is_some())
        }
        ["Metadata"] => ok(admin::metadata(state, call.request.query("key").unwrap_or_default())),
        ["Settings"] => admin::settings_route(state, call),
        ["I18n"] => ok(json!({"Meeting": {"fields": {"name": "Name"}}})),
        ["Admin" | "Role" | "ScheduledJob" | "Layout", ..] => admin::route(state, call),
        [entity, "layout", name] => admin::layout(state, call, entity, name),
        ["Preferences", id] => admin::preferences(state, call, id),
        ["Timeline", "busyRanges"] => {
            let users = call.request.query("userIdList").unwrap_or_default();
            ok(Value::Object(users.split(',').map(|id| (id.to_owned(), json!([]))).collect()))
        }
        ["Activities" | "EmailAddress" | "GlobalStream", ..] => Err(Refusal::forbidden("")),
        ["Stream" | "Notification"] => ok(json!({"total": -2, "list": []})),
        ["ActionHistoryRecord"] => history(state, call),
        ["Webhook", ..] => webhook_route(state, call),
        ["Opportunity" | "Case", ..] => absent_entity(state, call),
        ["Attachment"] if call.method() == "POST" => files::create(state, call),
        ["Attachment", "file", id] => files::download(state, id),
        [entity, ..] => match def(entity) {
            Some(def) => entity_route(state, call, def),
            None => Err(Refusal::new(404, format!("Controller '{entity}' does not exist."))),
        },
        [] => Err(Refusal::new(404, "")),
    }
}

/// Entities that exist in EspoCRM but have no records here.
fn absent_entity(state: &State, call: &Call<'_>) -> Answer {
    let (entity, id) =
        (call.parts.first().copied().unwrap_or_default(), call.parts.get(1).copied().unwrap_or_default());
    let action = match call.method() {
        "GET" => "read",
        "POST" => "create",
        "DELETE" => "delete",
        _ => "edit",
    };
    if state.is_closed(call.actor(), entity, action) {
        return Err(Refusal::forbidden(format!("No {action} access.")));
    }
    match (action, id) {
        ("read", "") => ok(json!({"total": 0, "list": []})),
        ("create", _) => Err(Refusal::new(500, "")),
        ("read", id) => Err(Refusal::new(404, format!("Record {id} does not exist."))),
        (_, id) => Err(Refusal::new(404, format!("Record {id} not found."))),
    }
}

fn entity_route(state: &mut State, call: &Call<'_>, def: &'static Def) -> Answer {
    match *call.parts.get(1..).unwrap_or_default() {
        [] => match call.method() {
            "GET" => list(state, call, def),
            "POST" => create(state, call, def),
            _ => Err(Refusal::new(405, "")),
        },
        ["action", name] => action(state, call, def, name),
        [id] => single(state, call, def, id),
        [id, link] => link_route(state, call, def, id, link),
        _ => Err(Refusal::new(404, "")),
    }
}

fn single(state: &mut State, call: &Call<'_>, def: &'static Def, id: &str) -> Answer {
    match call.method() {
        "GET" => {
            let missing = || Refusal::new(404, format!("Record {id} does not exist."));
            let record = state.live(def.name, id).ok_or_else(missing)?;
            state.check(call.actor(), def, record, "read")?;
            ok(view::show(state, def, record, call.actor(), &Echo::default()))
        }
        "PUT" | "PATCH" | "DELETE" => {
            let version = call.request.header("X-Version-Number").and_then(|text| text.parse().ok());
            write(state, call.actor(), def, call.method(), Some(id), call.body, version).and_then(ok)
        }
        _ => Err(Refusal::new(405, "")),
    }
}

/// POST, PUT, PATCH and DELETE with the actor's rights.
pub(super) fn write(
    state: &mut State,
    actor: &Actor,
    def: &'static Def,
    method: &str,
    id: Option<&str>,
    body: &Value,
    version: Option<i64>,
) -> Result<Value, Refusal> {
    if method == "POST" {
        if state.is_closed(actor, def.name, "create") {
            return Err(Refusal::forbidden("No create access."));
        }
        return if def.name == "Note" {
            Ok(create_note(state, def, body, actor))
        } else {
            write::create(state, def, body, actor)
        };
    }
    let id = id.unwrap_or_default();
    let record = state.live(def.name, id).ok_or_else(|| Refusal::new(404, format!("Record {id} not found.")))?;
    match method {
        "PUT" | "PATCH" => {
            state.check(actor, def, record, "edit")?;
            write::update(state, def, id, body, actor, version)
        }
        "DELETE" => {
            state.check(actor, def, record, "delete")?;
            write::remove(state, def, id, actor);
            Ok(Value::Bool(true))
        }
        _ => Err(Refusal::new(405, "")),
    }
}

fn create(state: &mut State, call: &Call<'_>, def: &'static Def) -> Answer {
    let checked = matches!(def.name, "Contact" | "Lead" | "Account") && !call.is_true("X-Skip-Duplicate-Check");
    if checked && !state.is_closed(call.actor(), def.name, "create") {
        let twins = duplicates(state, def, call.body);
        if !twins.is_empty() {
            let mut rows = rows_of(state, def.name, twins.into_iter(), call.actor(), None);
            for row in rows.iter_mut().filter_map(Value::as_object_mut) {
                row.remove("isStarred");
            }
            return Err(Refusal::new(409, "duplicate").with_body(Value::Array(rows)));
        }
    }
    write(state, call.actor(), def, "POST", None, call.body, None).and_then(ok)
}

/// Contact and Lead by the whole name, Account by name, all by any address.
fn duplicates<'a>(state: &'a State, def: &Def, body: &Value) -> Vec<&'a Record> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let rows = body.get("emailAddressData").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mails = rows.iter().filter_map(|row| row.get("emailAddress").and_then(Value::as_str));
    let mails: Vec<String> = mails.chain(text("emailAddress")).map(str::to_lowercase).collect();
    let same_name = |record: &Record| match def.name {
        "Account" => text("name").is_some() && record.text("name") == text("name"),
        _ => {
            let both = text("firstName").is_some() && text("lastName").is_some();
            both && record.text("firstName") == text("firstName") && record.text("lastName") == text("lastName")
        }
    };
    let same_mail = |record: &Record| record.emails.iter().any(|mail| mails.contains(&mail.to_lowercase()));
    state.table(def.name).filter(|r| !r.is_deleted() && (same_name(r) || same_mail(r))).collect()
}

/// Whatever type is asked for, a note of the API is a post.
fn create_note(state: &mut State, def: &'static Def, body: &Value, actor: &Actor) -> Value {
    let mut record = state.blank(def, &actor.id);
    let mut sent = Changed::default();
    record.set("type", "Post");
    record.set("isInternal", body.get("isInternal") == Some(&Value::Bool(true)));
    for name in ["post", "parentId", "parentType"] {
        if let Some(value) = body.get(name).filter(|value| !value.is_null()) {
            sent.add(name);
            record.set(name, value.clone());
        }
    }
    let mut shown = view::show(state, def, &record, actor, &Echo { created: Some(&sent), ..Echo::default() });
    if let Some(shown) = shown.as_object_mut()
        && record.text("parentId").is_none()
    {
        for (name, empty) in
            [("teamsIds", json!([])), ("teamsNames", json!({})), ("usersIds", json!([])), ("usersNames", json!({}))]
        {
            shown.insert(name.into(), empty);
        }
    }
    state.put(def, record);
    shown
}

fn list(state: &State, call: &Call<'_>, def: &'static Def) -> Answer {
    let actor = call.actor();
    if state.is_closed(actor, def.name, "read") {
        return Err(Refusal::forbidden("No read access."));
    }
    let search = Search::read(state, def, &query::parse(call.request)?)?;
    let rows = find(state, def, actor, &search)?;
    let page: Vec<Value> = rows
        .iter()
        .skip(search.offset)
        .take(search.size)
        .map(|record| view::list_row(state, def, record, actor, search.select.as_deref(), Some(&search.order.0)))
        .collect();
    let more = rows.len() > search.offset + search.size;
    let total = match call.is_true("X-No-Total") {
        true if more => -1,
        true => -2,
        false => i64::try_from(rows.len()).unwrap_or(i64::MAX),
    };
    ok(json!({"total": total, "list": page}))
}

fn find<'a>(state: &'a State, def: &'static Def, actor: &Actor, search: &Search) -> Result<Vec<&'a Record>, Refusal> {
    let matcher = Matcher { state, def, actor };
    search.items.iter().try_for_each(|item| matcher.validate(item))?;
    if let Some(filter) = &search.primary
        && !primary_filter_exists(def, filter)
    {
        return Err(Refusal::new(400, format!("No primary filter '{filter}' for '{}'.", def.name)));
    }
    let mut rows: Vec<&Record> = state
        .table(def.name)
        .filter(|record| !record.is_deleted())
        .filter(|record| def.name != "User" || !matches!(record.text("type"), Some("api" | "system")))
        .filter(|record| state.may(actor, def, record, "read"))
        .filter(|record| !search.only_my || is_mine(record, actor))
        .filter(|record| search.primary.as_deref().is_none_or(|filter| in_primary_filter(state, def, record, filter)))
        .filter(|record| search.text.as_deref().is_none_or(|text| has_text(def, record, text)))
        .filter(|record| search.items.iter().all(|item| matcher.fulfils(record, item)))
        .collect();
    let (name, direction) = &search.order;
    let sort_key = |record: &Record| {
        let value = view::value(state, def, record, name, actor);
        let number = value.as_i64().unwrap_or_default();
        let text = value.as_str().map(str::to_lowercase).or_else(|| value.as_bool().map(|flag| flag.to_string()));
        // The id in the same direction breaks ties.
        (text.unwrap_or_default(), number, record.id().to_owned())
    };
    rows.sort_by_cached_key(|record| sort_key(record));
    if *direction == super::defs::Direction::Descending {
        rows.reverse();
    }
    Ok(rows)
}

fn is_mine(record: &Record, actor: &Actor) -> bool {
    record.text("assignedUserId") == Some(&actor.id) || record.linked("users", &actor.id)
}

fn primary_filter_exists(def: &Def, filter: &str) -> bool {
    match def.name {
        "Meeting" | "Call" => matches!(filter, "planned" | "held" | "todays"),
        "Task" => matches!(filter, "actual" | "completed" | "overdue" | "todays" | "deferred"),
        "User" => matches!(filter, "active"),
        _ => false,
    }
}

fn in_primary_filter(state: &State, def: &Def, record: &Record, filter: &str) -> bool {
    let status = record.text("status").unwrap_or_default();
    let open = !def.done.contains(&status);
    match filter {
        "planned" => status == "Planned",
        "held" => status == "Held",
        "actual" => open && status != "Deferred",
        "completed" => status == "Completed",
        "deferred" => status == "Deferred",
        "overdue" => open && record.text("dateEnd").is_some_and(|end| end < state.now().as_str()),
        "active" => record.get("isActive") == true,
        _ => record.text("dateStart").zip(state.now().get(..10)).is_some_and(|(start, day)| start.starts_with(day)),
    }
}

/// Part of a name, or an address from its beginning.
fn has_text(def: &Def, record: &Record, text: &str) -> bool {
    full_name(def.name, record).to_lowercase().contains(text)
        || record.emails.iter().any(|mail| mail.to_lowercase().starts_with(text))
}

fn action(state: &mut State, call: &Call<'_>, def: &'static Def, name: &str) -> Answer {
    let id = call.body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name == "restoreDeleted" {
        if !call.actor().is_admin() {
            return Err(Refusal::forbidden(""));
        }
        let record = state.any_mut(def.name, &id).ok_or_else(|| Refusal::new(404, ""))?;
        record.set("deleted", false);
        return ok(true);
    }
    match (name, def.is_event()) {
        ("setAcceptanceStatus", true) => {
            let status = call.body.get("status").and_then(Value::as_str).unwrap_or_default();
            set_acceptance(state, call.actor(), def, &id, status)?;
            ok(true)
        }
        // Without an SMTP account the real one fails too.
        ("sendInvitations", true) if state.live(def.name, &id).is_some() => Err(Refusal::new(500, "")),
        ("sendCancellation", true) => Err(Refusal::forbidden("Can't send invitation for not canceled event.")),
        _ => Err(Refusal::new(404, "")),
    }
}

pub(super) fn set_acceptance(
    state: &mut State,
    actor: &Actor,
    def: &'static Def,
    id: &str,
    status: &str,
) -> Result<(), Refusal> {
    if !matches!(status, "Accepted" | "Tentative" | "Declined") {
        return Err(Refusal::new(400, ""));
    }
    let record = state.live(def.name, id).ok_or_else(|| Refusal::new(404, ""))?;
    if !record.linked("users", &actor.id) {
        return Err(Refusal::forbidden(""));
    }
    if let Some(record) = state.any_mut(def.name, id) {
        let users = record.links.entry("users").or_default();
        for (_, own) in users.iter_mut().filter(|(user, _)| *user == actor.id) {
            status.clone_into(own);
        }
    }
    if let Some(note) = super::defs::def("Note").filter(|_| def.stream) {
        let mut record = state.blank(note, &actor.id);
        record.set("type", "EventConfirmation");
        record.set("data", json!({"inviteeId": actor.id, "inviteeType": "User", "status": status}));
        record.set("parentType", def.name);
        record.set("parentId", id);
        state.put(note, record);
    }
    Ok(())
}

/// Link endpoint: the relation alone changes.
pub(super) fn change_link(
    state: &mut State,
    def: &'static Def,
    id: &str,
    link: &str,
    foreign_id: &str,
    add: bool,
) -> Result<(), Refusal> {
    let foreign = foreign_of(link).filter(|foreign| *foreign == "Role" || state.live(foreign, foreign_id).is_some());
    let link = def.links.iter().find(|known| **known == link).filter(|_| foreign.is_some());
    let record = state.any_mut(def.name, id).filter(|record| !record.is_deleted());
    let (Some(link), Some(record)) = (link, record) else { return Err(Refusal::new(404, "")) };
    let links = record.links.entry(link).or_default();
    let known = links.iter().any(|(linked, _)| linked == foreign_id);
    if add && !known {
        links.push((foreign_id.to_owned(), "None".to_owned()));
    } else if !add {
        links.retain(|(linked, _)| linked != foreign_id);
    }
    Ok(())
}

fn link_route(state: &mut State, call: &Call<'_>, def: &'static Def, id: &str, link: &str) -> Answer {
    let missing = || Refusal::new(404, format!("Record {id} does not exist."));
    let record = state.live(def.name, id).cloned().ok_or_else(missing)?;
    match link {
        "stream" => return stream(state, call, def, &record),
        "attendees" if def.is_event() => return ok(json!({"list": attendees(state, &record)})),
        "roles" if !call.actor().is_admin() => return Err(Refusal::forbidden("")),
        "users" if def.name == "Team" => {
            let members = state.table("User").filter(|user| !user.is_deleted() && user.linked("teams", id));
            let select = ["userName".to_owned(), "name".to_owned()];
            let rows = rows_of(state, "User", members, call.actor(), Some(&select));
            return ok(json!({"total": rows.len(), "list": rows}));
        }
        _ => {}
    }
    let foreign = foreign_of(link).filter(|_| def.links.contains(&link));
    let foreign = foreign.ok_or_else(|| Refusal::new(404, "Link does not exist."))?;
    if call.method() == "GET" {
        state.check(call.actor(), def, &record, "read")?;
        let linked = record.links(link).iter().filter_map(|(id, _)| state.live(foreign, id));
        let rows = rows_of(state, foreign, linked, call.actor(), None);
        return ok(json!({"total": rows.len(), "list": rows}));
    }
    state.check(call.actor(), def, &record, "edit")?;
    let one = call.body.get("id").and_then(Value::as_str).map(str::to_owned);
    let ids: Vec<String> = super::validate::ids(call.body.get("ids")).into_iter().chain(one).collect();
    if ids.is_empty() {
        return Err(Refusal::new(400, ""));
    }
    for foreign_id in ids {
        change_link(state, def, id, link, &foreign_id, call.method() == "POST")?;
    }
    ok(true)
}

fn rows_of<'a>(
    state: &State,
    entity: &str,
    records: impl Iterator<Item = &'a Record>,
    actor: &Actor,
    select: Option<&[String]>,
) -> Vec<Value> {
    let Some(def) = def(entity) else { return Vec::new() };
    records.map(|record| view::list_row(state, def, record, actor, select, None)).collect()
}

fn attendees(state: &State, record: &Record) -> Vec<Value> {
    let mut rows = Vec::new();
    for link in ["users", "contacts", "leads"] {
        let scope = foreign_of(link).unwrap_or_default();
        for (id, status) in record.links(link) {
            let mail = state.any(scope, id).and_then(|person| person.emails.first().cloned());
            rows.push(json!({"id": id, "name": state.name_of(scope, id), "emailAddress": mail,
                "acceptanceStatus": status, "_scope": scope}));
        }
    }
    rows
}

fn stream(state: &State, call: &Call<'_>, def: &'static Def, record: &Record) -> Answer {
    if !state.may(call.actor(), def, record, "stream") {
        return Err(Refusal::forbidden("No stream access."));
    }
    let Some(note) = super::defs::def("Note") else { return Err(Refusal::new(500, "")) };
    let after = call.request.query("after").and_then(time::normalise);
    let posts = call.request.query("filter") == Some("posts");
    let number = |name: &str| call.request.query(name).and_then(|text| text.parse::<usize>().ok());
    let mut notes: Vec<&Record> = state
        .table("Note")
        .filter(|note| def.stream && !note.is_deleted() && note.text("parentId") == Some(record.id()))
        .filter(|note| !posts || note.text("type") == Some("Post"))
        .filter(|note| after.as_deref().is_none_or(|after| note.text("createdAt") > Some(after)))
        .collect();
    notes.sort_by_key(|note| std::cmp::Reverse((note.text("createdAt"), note.id())));
    let page: Vec<Value> = notes
        .iter()
        .skip(number("offset").unwrap_or_default())
        .take(number("maxSize").unwrap_or(query::MAX_SIZE))
        .map(|record| view::show(state, note, record, call.actor(), &Echo::default()))
        .collect();
    ok(json!({"total": notes.len(), "list": page, "pinnedList": []}))
}

/// Only deletions are kept here.
fn history(state: &State, call: &Call<'_>) -> Answer {
    let params = query::parse(call.request)?;
    let size =
        params.get("maxSize").and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(query::MAX_SIZE);
    let rows: Vec<Value> = state
        .history
        .iter()
        .enumerate()
        .map(|(number, (entity, id, name, user, at))| {
            json!({"id": format!("{number:017x}"), "deleted": false, "number": number, "targetType": entity, "data": null,
                "action": "delete", "createdAt": at, "ipAddress": "127.0.0.1", "targetId": id, "targetName": name,
                "userId": user, "userName": state.name_of("User", user)})
        })
        .rev()
        .take(size)
        .collect();
    let total = if state.history.len() > size { -1 } else { -2 };
    ok(json!({"total": total, "list": rows}))
}

fn webhook_route(state: &mut State, call: &Call<'_>) -> Answer {
    let actor = call.actor();
    let Some(webhook) = def("Webhook") else { return Err(Refusal::new(500, "")) };
    if call.parts.len() == 1 && call.method() == "POST" {
        return state.create_webhook(call.body, actor).map(|value| Reply::Json(201, value));
    }
    if actor.kind == super::state::UserType::Regular || state.level(actor, "Webhook", "read").is_none() {
        return Err(Refusal::forbidden("No read access."));
    }
    let Some(id) = call.parts.get(1) else { return list_webhooks(state, call, webhook) };
    let visible = state.live("Webhook", id).is_some_and(|hook| state.sees_webhook(actor, hook));
    if !visible {
        return Err(Refusal::new(404, format!("Record {id} does not exist.")));
    }
    match call.method() {
        "DELETE" => {
            if let Some(hook) = state.any_mut("Webhook", id) {
                hook.set("deleted", true);
            }
            return ok(true);
        }
        "PUT" | "PATCH" => state.update_webhook(id, call.body)?,
        _ => {}
    }
    let shown = state.live("Webhook", id).map(|hook| view::show(state, webhook, hook, actor, &Echo::default()));
    ok(shown.unwrap_or_default())
}

fn list_webhooks(state: &State, call: &Call<'_>, webhook: &'static Def) -> Answer {
    let params: Map<String, Value> = query::parse(call.request)?;
    let search = Search::read(state, webhook, &params)?;
    let matcher = Matcher { state, def: webhook, actor: call.actor() };
    search.items.iter().try_for_each(|item| matcher.validate(item))?;
    let mut own: Vec<&Record> = state
        .table("Webhook")
        .filter(|hook| state.sees_webhook(call.actor(), hook))
        .filter(|hook| search.items.iter().all(|item| matcher.fulfils(hook, item)))
        .collect();
    own.sort_by_key(|hook| std::cmp::Reverse(hook.id()));
    let page = own.iter().skip(search.offset).take(search.size);
    let rows: Vec<Value> = page
        .map(|hook| view::list_row(state, webhook, hook, call.actor(), search.select.as_deref(), Some(&search.order.0)))
        .collect();
    ok(json!({"total": own.len(), "list": rows}))
}
