//! Dispatch of `/api/v1`: authentication, body, then the controllers. Facts (EspoCRM 9.3.10): a malformed JSON body is
//! 500; a body of another content type is ignored; Webhook is created with 201, everything else with 200.

use serde_json::{Value, json};

use super::auth::{Login, authenticate};
use super::defs::{Def, def};
use super::links::{link_route, set_acceptance};
use super::lists::{duplicates, history, list, list_webhooks, rows_of};
use super::refusal::Refusal;
use super::state::{Actor, State};
use super::view::{self, Echo};
use super::write::{self, Changed};
use super::{admin, files};
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
