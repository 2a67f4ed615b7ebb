//! What is not about records: the logged-in user, metadata, settings, preferences, and what only administrators may:
//! custom fields, layouts, roles.

use serde_json::{Map, Value, json};

use super::VERSION;
use super::defs::{self, DEFS, def, field_type, max_length, options};
use super::refusal::Refusal;
use super::routes::{Answer, Call, ok};
use super::state::State;
use super::view::{self, Echo};

pub(super) fn app_user(state: &State, call: &Call<'_>) -> Answer {
    let actor = call.actor();
    let (Some(user), Some(record)) = (def("User"), state.live("User", &actor.id)) else {
        return Err(Refusal::new(500, ""));
    };
    let mut shown = view::show(state, user, record, actor, &Echo::default());
    if let Some(shown) = shown.as_object_mut() {
        for hidden in [
            "rolesIds",
            "rolesNames",
            "portalsIds",
            "portalsNames",
            "portalRolesIds",
            "portalRolesNames",
            "lastAccess",
            "emailAddressData",
            "phoneNumberData",
            "accountsIds",
            "accountsNames",
            "workingTimeCalendarName",
        ] {
            shown.remove(hidden);
        }
        shown.insert("ipAddress".into(), "127.0.0.1".into());
        shown.insert("emailAddressList".into(), json!([]));
        shown.insert("userEmailAddressList".into(), json!(record.emails));
        shown.insert("excludeFromReplyEmailAddressList".into(), json!([]));
    }
    let preferences = preferences_of(state, &actor.id);
    let picked = ["timeZone", "dateFormat", "timeFormat", "weekStart", "language", "defaultReminders"];
    let preferences: Map<String, Value> =
        picked.iter().map(|name| ((*name).to_owned(), preferences.get(*name).cloned().unwrap_or_default())).collect();
    ok(json!({
        "user": shown,
        "acl": acl(state, call),
        "preferences": preferences,
        "token": call.login.token,
        "settings": settings(state, call),
        "language": "en_US",
        "appParams": {"maxUploadSize": 50, "isRestrictedMode": false, "passwordChangeForNonAdminDisabled": false,
            "systemUserId": "system"},
    }))
}

fn acl(state: &State, call: &Call<'_>) -> Value {
    let actor = call.actor();
    let role = state.role_of(actor);
    let table: Map<String, Value> = match role {
        Some(role) => role.scopes.clone(),
        None if actor.is_admin() => DEFS.iter().map(|d| (d.name.to_owned(), super::state::levels("all"))).collect(),
        None => Map::new(),
    };
    let fields: Map<String, Value> = table
        .keys()
        .map(|scope| {
            (scope.clone(), role.and_then(|role| role.fields.get(scope)).cloned().unwrap_or_else(|| json!({})))
        })
        .collect();
    let assignment = role.map_or("all", |role| role.assignment.as_str());
    json!({"table": table, "fieldTable": fields, "fieldTableQuickAccess": {}, "assignmentPermission": assignment,
        "userPermission": "all", "messagePermission": "all", "mentionPermission": "yes", "userCalendarPermission": "no",
        "auditPermission": "no", "exportPermission": "no", "massUpdatePermission": "no", "portalPermission": "no",
        "groupEmailAccountPermission": "no", "followerManagementPermission": "no", "dataPrivacyPermission": "no"})
}

/// What `data/config.php` holds besides the fields of the settings is told as well, when it was set.
fn settings(state: &State, call: &Call<'_>) -> Value {
    let mut shown = usual_settings(state, call);
    let set = &state.settings;
    if let Some(shown) = shown.as_object_mut() {
        if set.event_portion != 20 {
            shown.insert("webhookQueueEventPortionSize".into(), set.event_portion.into());
        }
        shown.insert("webhookAllowedAddressList".into(), json!(state.allowed_addresses()));
    }
    shown
}

fn usual_settings(state: &State, call: &Call<'_>) -> Value {
    json!({"version": VERSION, "timeZone": state.settings.zone.name(), "dateFormat": "DD.MM.YYYY", "timeFormat": "HH:mm",
        "weekStart": 0, "language": "en_US", "siteUrl": call.request.base, "recordListMaxSizeLimit": 200,
        "assignmentEmailNotifications": false, "defaultCurrency": "USD", "authenticationMethod": null})
}

pub(super) fn settings_route(state: &mut State, call: &Call<'_>) -> Answer {
    if call.method() == "GET" {
        return ok(settings(state, call));
    }
    if !call.actor().is_admin() {
        return Err(Refusal::forbidden(""));
    }
    if let Some(zone) = call.body.get("timeZone").and_then(Value::as_str) {
        let zone = zone.parse().map_err(|_| Refusal::invalid("Settings", "timeZone", "valid"))?;
        state.settings.zone = zone;
    }
    ok(json!({"timeZone": state.settings.zone.name()}))
}

fn preferences_of(state: &State, user: &str) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in [
        ("timeZone", Value::Null),
        ("dateFormat", Value::Null),
        ("timeFormat", Value::Null),
        ("weekStart", json!(-1)),
        ("language", Value::Null),
        ("defaultReminders", json!([])),
        ("defaultRemindersTask", json!([])),
        ("receiveAssignmentEmailNotifications", json!(true)),
    ] {
        out.insert(name.to_owned(), value);
    }
    if let Some(account) = state.accounts.get(user) {
        out.extend(account.preferences.clone());
    }
    out
}

/// Of another user only for administrators.
pub(super) fn preferences(state: &mut State, call: &Call<'_>, id: &str) -> Answer {
    if !call.actor().is_admin() && call.actor().id != id {
        return Err(Refusal::forbidden(""));
    }
    let name = state.live("User", id).map(|user| super::state::full_name("User", user));
    let name = name.ok_or_else(|| Refusal::new(404, ""))?;
    if let ("PUT" | "PATCH", Some(account), Some(sent)) =
        (call.method(), state.accounts.get_mut(id), call.body.as_object())
    {
        account.preferences.extend(sent.clone());
    }
    let mut shown = preferences_of(state, id);
    shown.insert("id".into(), id.into());
    shown.insert("name".into(), name.into());
    ok(Value::Object(shown))
}

/// `entityDefs.X.fields` from the attributes.
fn fields(state: &State, def: &defs::Def) -> Map<String, Value> {
    let mut out = Map::new();
    for attribute in def.attributes() {
        let field = ["Ids", "Names", "Columns", "Types", "Data", "Map"]
            .iter()
            .find_map(|part| attribute.strip_suffix(part))
            .or_else(|| attribute.strip_suffix("Id").filter(|_| attribute != "id"))
            .or_else(|| attribute.strip_suffix("Name").filter(|field| def.has(&format!("{field}Id"))))
            .or_else(|| attribute.strip_suffix("Date").filter(|field| def.has(field)))
            .or_else(|| (attribute == "parentType").then_some("parent"))
            .unwrap_or(attribute);
        if matches!(field, "id" | "deleted") {
            continue;
        }
        let mut spec = Map::new();
        spec.insert("type".into(), field_type(def.name, field).into());
        if let Some(options) = options(def.name, field) {
            spec.insert("options".into(), json!(options));
        }
        if let Some((_, defs::Preset::Text(default))) = def.defaults.iter().find(|(name, _)| *name == field) {
            spec.insert("default".into(), (*default).into());
        }
        if let Some(limit) = max_length(field) {
            spec.insert("maxLength".into(), limit.into());
        }
        if def.required.contains(&field) {
            spec.insert("required".into(), true.into());
        }
        if defs::is_read_only(def.name, field) {
            spec.insert("readOnly".into(), true.into());
        }
        out.insert(field.to_owned(), Value::Object(spec));
    }
    for (name, spec) in state.custom(def.name) {
        let mut spec = spec.clone();
        spec.remove("label");
        out.insert(name.clone(), Value::Object(spec));
    }
    out
}

pub(super) fn metadata(state: &State, key: &str) -> Value {
    let mut entities = Map::new();
    let mut scopes = Map::new();
    for def in DEFS {
        let locking = def.has("versionNumber");
        entities
            .insert(def.name.into(), json!({"fields": fields(state, def), "optimisticConcurrencyControl": locking}));
        scopes.insert(def.name.into(), json!({"entity": true, "object": def.object, "stream": def.stream}));
    }
    let whole = json!({"entityDefs": entities, "scopes": scopes});
    let mut node = &whole;
    for part in key.split('.').filter(|part| !part.is_empty()) {
        node = node.get(part).unwrap_or(&Value::Null);
    }
    node.clone()
}

/// What only administrators may.
pub(super) fn route(state: &mut State, call: &Call<'_>) -> Answer {
    if !call.actor().is_admin() {
        let role = call.parts.first() == Some(&"Role");
        return Err(Refusal::forbidden(if role { "No read access." } else { "" }));
    }
    match *call.parts {
        ["ScheduledJob"] if call.method() == "GET" => ok(scheduled_jobs(state, call)),
        ["Admin", "rebuild" | "clearCache"] => ok(true),
        ["Admin", "fieldManager", entity] => create_field(state, call, entity),
        ["Admin", "fieldManager", entity, name] => field(state, call, entity, name),
        ["Role"] => {
            let rows: Vec<Value> = state.roles.iter().map(|(id, role)| json!({"id": id, "name": role.name})).collect();
            ok(json!({"total": rows.len(), "list": rows}))
        }
        ["Role", id] => {
            let role = state.roles.get(id).ok_or_else(|| Refusal::new(404, ""))?;
            ok(json!({"id": id, "name": role.name, "data": role.scopes, "fieldData": role.fields,
                "assignmentPermission": role.assignment}))
        }
        ["Layout", "action", "resetToDefault"] => {
            let text = |name: &str| call.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            state.layouts.remove(&(text("scope"), text("name")));
            ok(default_layout(&text("scope")))
        }
        _ => Err(Refusal::new(404, "")),
    }
}

/// The job that sends webhooks; a fresh installation runs it every two minutes.
fn scheduled_jobs(state: &State, call: &Call<'_>) -> Value {
    let job = &state.settings.webhook_job;
    let wanted = call.request.query("where[0][value]");
    let rows: Vec<Value> = job
        .iter()
        .filter(|_| wanted.is_none_or(|wanted| wanted == "ProcessWebhookQueue"))
        .map(|job| {
            json!({"id": "job-webhooks", "name": "Process Webhook Queue", "job": "ProcessWebhookQueue",
                "status": if job.is_active { "Active" } else { "Inactive" }, "scheduling": job.scheduling,
                "lastRun": (state.clock.now() - job.idle).format("%Y-%m-%d %H:%M:%S").to_string()})
        })
        .collect();
    json!({"total": rows.len(), "list": rows})
}

const FIELD_TYPES: &[&str] = &[
    "bool",
    "varchar",
    "text",
    "enum",
    "int",
    "float",
    "date",
    "datetime",
    "datetimeOptional",
    "url",
    "email",
    "phone",
    "multiEnum",
    "array",
    "checklist",
    "attachmentMultiple",
    "file",
    "image",
    "currency",
    "number",
    "autoincrement",
    "wysiwyg",
    "link",
    "address",
    "barcode",
    "colorpicker",
    "jsonArray",
    "jsonObject",
];

/// The field is called `cName`; the answer does not tell so.
fn create_field(state: &mut State, call: &Call<'_>, entity: &str) -> Answer {
    if call.method() != "POST" {
        return Err(Refusal::new(405, ""));
    }
    let text = |name: &str| call.body.get(name).and_then(Value::as_str).unwrap_or_default();
    let (plain, kind) = (text("name"), text("type"));
    let mut letters = plain.chars();
    let good = letters.next().is_some_and(|c| c.is_ascii_lowercase()) && letters.all(|c| c.is_ascii_alphanumeric());
    if def(entity).is_none() || !good || !FIELD_TYPES.contains(&kind) {
        return Err(Refusal::new(400, "Bad field parameters."));
    }
    let (first, rest) = plain.split_at(1);
    let name = format!("c{}{rest}", first.to_ascii_uppercase());
    if state.custom_fields.get(entity).is_some_and(|fields| fields.contains_key(&name)) {
        let body = json!({"messageTranslation": {"label": "fieldAlreadyExists", "scope": "FieldManager",
            "data": {"field": name, "entityType": entity}}});
        return Err(Refusal::new(409, format!("Field '{name}' already exists in '{entity}'.")).with_body(body));
    }
    let mut spec = Map::new();
    if kind == "bool" {
        spec.insert("notNull".into(), true.into());
        spec.insert("default".into(), false.into());
    }
    spec.insert("type".into(), kind.into());
    for name in ["default", "options", "maxLength", "readOnly", "audited", "label"] {
        if let Some(value) = call.body.get(name).filter(|value| !value.is_null()) {
            spec.insert(name.into(), value.clone());
        }
    }
    spec.insert("isCustom".into(), true.into());
    state.add_field(entity, &name, spec.clone());
    ok(Value::Object(spec))
}

fn field(state: &mut State, call: &Call<'_>, entity: &str, name: &str) -> Answer {
    let standard = def(entity).is_some_and(|def| def.has(name));
    let fields = def(entity).map(|def| state.custom_fields.entry(def.name).or_default());
    let Some(fields) = fields else { return Err(Refusal::new(404, "")) };
    let Some(spec) = fields.get_mut(name) else {
        return if standard { ok(json!({"type": field_type(entity, name)})) } else { Err(Refusal::new(404, "")) };
    };
    match call.method() {
        "DELETE" => {
            fields.remove(name);
            return ok(true);
        }
        "PUT" | "PATCH" => {
            for name in ["label", "default", "tooltipText", "options", "maxLength"] {
                if let Some(value) = call.body.get(name) {
                    spec.insert(name.into(), value.clone());
                }
            }
        }
        _ => {}
    }
    ok(Value::Object(spec.clone()))
}

fn default_layout(entity: &str) -> Value {
    let row = |left: &str, right: &str| json!([{"name": left}, {"name": right}]);
    match entity {
        "Meeting" | "Call" => json!([{"label": "", "rows": [row("name", "parent"), [{"name": "status"}, false],
            row("dateStart", "dateEnd"), row("duration", "reminders"), [{"name": "description", "fullWidth": true}]]}]),
        "Task" => json!([{"label": "", "rows": [row("name", "parent"), row("status", "priority"),
            row("dateStart", "dateEnd"), [{"name": "description", "fullWidth": true}]]}]),
        _ => json!([{"label": "", "rows": [[{"name": "name"}, false]]}]),
    }
}

pub(super) fn layout(state: &mut State, call: &Call<'_>, entity: &str, name: &str) -> Answer {
    let key = (entity.to_owned(), name.to_owned());
    if call.method() != "GET" {
        if !call.actor().is_admin() {
            return Err(Refusal::forbidden(""));
        }
        if !call.body.is_array() {
            return Err(Refusal::new(400, ""));
        }
        state.layouts.insert(key.clone(), call.body.clone());
    }
    ok(state.layouts.get(&key).cloned().unwrap_or_else(|| default_layout(entity)))
}
