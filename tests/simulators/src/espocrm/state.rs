//! What the simulated EspoCRM holds: records with their links, users' accounts, roles, preferences, reminders, custom
//! fields and the webhook queues.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::defs::{self, Def, Preset, def};
use super::refusal::Refusal;
use super::time;
use super::webhooks::{Delivery, Event, Waiting};
use crate::plumbing::{SimClock, SimIds};

/// A link of a record: foreign ids with the status column, in order.
pub(super) type Links = Vec<(String, String)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// Stored attributes, `id` and `deleted` among them.
    pub attributes: Map<String, Value>,
    pub links: BTreeMap<&'static str, Links>,
    /// The first is the primary one.
    pub emails: Vec<String>,
    /// Who has come to follow it; nobody stops by being removed from the attendees.
    pub followers: Vec<String>,
}

impl Record {
    pub fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    pub fn get(&self, attribute: &str) -> &Value {
        self.attributes.get(attribute).unwrap_or(&Value::Null)
    }

    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub fn set(&mut self, attribute: &str, value: impl Into<Value>) {
        self.attributes.insert(attribute.to_owned(), value.into());
    }

    pub fn is_deleted(&self) -> bool {
        self.get("deleted") == &Value::Bool(true)
    }

    pub fn links(&self, link: &str) -> &[(String, String)] {
        self.links.get(link).map_or(&[], Vec::as_slice)
    }

    pub fn linked(&self, link: &str, id: &str) -> bool {
        self.links(link).iter().any(|(linked, _)| linked == id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserType {
    Regular,
    Admin,
    Api,
}

impl UserType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Admin => "admin",
            Self::Api => "api",
        }
    }
}

/// Who acts.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub id: String,
    pub user_name: String,
    pub kind: UserType,
}

impl Actor {
    pub fn is_admin(&self) -> bool {
        self.kind == UserType::Admin
    }
}

/// What belongs to a user but is no attribute.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub kind: UserType,
    pub password: Option<String>,
    pub api_key: Option<String>,
    /// Set for API users of the authentication method Hmac.
    pub hmac_secret: Option<String>,
    /// The code that a second factor shows at the moment.
    pub second_factor: Option<String>,
    pub role: String,
    pub preferences: Map<String, Value>,
}

/// A role: per scope `true`, or the levels of its actions; `assignmentPermission`; per scope and field what is closed.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub name: String,
    pub scopes: Map<String, Value>,
    pub assignment: String,
    pub fields: Map<String, Value>,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub user: String,
    pub secret: Option<String>,
}

/// One row of the reminder table: one popup or one e-mail for one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reminder {
    pub user: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub seconds: i64,
}

/// The scheduled job that sends webhooks.
#[derive(Clone, Debug)]
pub(super) struct WebhookJob {
    pub scheduling: String,
    pub is_active: bool,
    /// How long ago it ran.
    pub idle: chrono::Duration,
}

/// What an administrator may set in the configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub zone: Tz,
    pub allow_internal_webhooks: bool,
    /// `webhookAllowedAddressList` of the configuration.
    pub allowed_addresses: Vec<String>,
    pub webhook_job: Option<WebhookJob>,
    pub webhooks_lost: bool,
    pub event_portion: usize,
    pub batch: usize,
    pub max_webhooks: usize,
    pub max_attempts: u32,
    pub retry_after: chrono::Duration,
}

#[derive(Clone)]
pub(super) struct State {
    pub clock: SimClock,
    pub ids: SimIds,
    counter: u64,
    pub records: BTreeMap<&'static str, BTreeMap<String, Record>>,
    pub accounts: BTreeMap<String, Account>,
    pub roles: BTreeMap<String, Role>,
    pub tokens: BTreeMap<String, Token>,
    pub failures: Vec<DateTime<Utc>>,
    pub reminders: BTreeMap<(&'static str, String), Vec<Reminder>>,
    pub custom_fields: BTreeMap<&'static str, BTreeMap<String, Map<String, Value>>>,
    pub layouts: BTreeMap<(String, String), Value>,
    pub settings: Settings,
    pub files: BTreeMap<String, Vec<u8>>,
    pub events: VecDeque<Event>,
    pub waiting: Vec<Waiting>,
    pub deliveries: Vec<Delivery>,
    /// Deletions, newest last: (entity, id, name, user id, when), as `ActionHistoryRecord` shows them.
    pub history: Vec<(String, String, String, String, String)>,
}

impl State {
    pub fn new(clock: SimClock, ids: SimIds) -> Self {
        let counter = ids.below(1 << 24);
        Self {
            clock,
            ids,
            counter,
            records: defs::DEFS.iter().map(|def| (def.name, BTreeMap::new())).collect(),
            accounts: BTreeMap::new(),
            roles: BTreeMap::new(),
            tokens: BTreeMap::new(),
            failures: Vec::new(),
            reminders: BTreeMap::new(),
            custom_fields: BTreeMap::new(),
            layouts: BTreeMap::new(),
            settings: Settings {
                zone: Tz::UTC,
                allow_internal_webhooks: true,
                allowed_addresses: Vec::new(),
                webhook_job: Some(WebhookJob {
                    scheduling: "*/2 * * * *".to_owned(),
                    is_active: true,
                    idle: chrono::Duration::seconds(30),
                }),
                webhooks_lost: false,
                event_portion: 20,
                batch: 50,
                max_webhooks: 50,
                max_attempts: 4,
                retry_after: chrono::Duration::minutes(10),
            },
            files: BTreeMap::new(),
            events: VecDeque::new(),
            waiting: Vec::new(),
            deliveries: Vec::new(),
            history: Vec::new(),
        }
    }

    /// 17 hexadecimal characters that grow with time, as EspoCRM's own.
    pub fn new_id(&mut self) -> String {
        self.counter += 1;
        let seconds = u32::try_from(self.clock.now().timestamp()).unwrap_or_default();
        format!("{seconds:08x}{:09x}", self.counter & 0xf_ffff_ffff)
    }

    pub fn now(&self) -> String {
        time::stamp(self.clock.now())
    }

    pub fn table(&self, entity: &str) -> impl Iterator<Item = &Record> {
        self.records.get(entity).into_iter().flat_map(BTreeMap::values)
    }

    /// A record, deleted ones too.
    pub fn any(&self, entity: &str, id: &str) -> Option<&Record> {
        self.records.get(entity).and_then(|table| table.get(id))
    }

    pub fn any_mut(&mut self, entity: &str, id: &str) -> Option<&mut Record> {
        self.records.get_mut(entity).and_then(|table| table.get_mut(id))
    }

    /// A record that is not deleted.
    pub fn live(&self, entity: &str, id: &str) -> Option<&Record> {
        self.any(entity, id).filter(|record| !record.is_deleted())
    }

    pub fn put(&mut self, def: &'static Def, record: Record) {
        self.records.entry(def.name).or_default().insert(record.id().to_owned(), record);
    }

    pub fn name_of(&self, entity: &str, id: &str) -> Option<String> {
        if entity == "Role" {
            return self.roles.get(id).map(|role| role.name.clone());
        }
        self.any(entity, id).map(|record| full_name(entity, record)).filter(|name| !name.is_empty())
    }

    pub fn custom(&self, entity: &str) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
        self.custom_fields.get(entity).into_iter().flatten()
    }

    pub fn has_attribute(&self, def: &Def, attribute: &str) -> bool {
        def.has(attribute) || self.custom(def.name).any(|(name, _)| name == attribute)
    }

    /// Attributes of a single read: the entity's own, then the custom ones.
    pub fn attributes(&self, def: &'static Def) -> Vec<String> {
        def.attributes().map(str::to_owned).chain(self.custom(def.name).map(|(name, _)| name.clone())).collect()
    }

    pub fn actor(&self, user_id: &str) -> Option<Actor> {
        let record = self.live("User", user_id)?;
        let account = self.accounts.get(user_id)?;
        let user_name = record.text("userName").unwrap_or_default().to_owned();
        Some(Actor { id: user_id.to_owned(), user_name, kind: account.kind })
    }

    pub fn actor_named(&self, user_name: &str) -> Option<Actor> {
        let id = self.live_user_id(user_name)?;
        self.actor(&id)
    }

    pub fn live_user_id(&self, user_name: &str) -> Option<String> {
        let found = self.table("User").find(|u| !u.is_deleted() && u.text("userName") == Some(user_name));
        found.map(|user| user.id().to_owned())
    }

    pub fn role_of(&self, actor: &Actor) -> Option<&Role> {
        if actor.is_admin() {
            return None;
        }
        self.accounts.get(&actor.id).and_then(|account| self.roles.get(&account.role))
    }

    /// The level of an action on a scope: all, team, own, no; `None` when the scope is closed or not mentioned.
    pub fn level(&self, actor: &Actor, scope: &str, action: &str) -> Option<&str> {
        if actor.is_admin() {
            return Some("all");
        }
        match self.role_of(actor)?.scopes.get(scope)? {
            Value::Bool(true) => Some("all"),
            Value::Object(levels) => match levels.get(action).and_then(Value::as_str) {
                Some("yes" | "all") => Some("all"),
                Some(level) => Some(level),
                None => Some("no"),
            },
            _ => None,
        }
    }

    pub fn is_closed(&self, actor: &Actor, scope: &str, action: &str) -> bool {
        matches!(self.level(actor, scope, action), None | Some("no"))
    }

    /// What the role says of one field: `read` and `edit` may be `no`.
    pub fn field_closed(&self, actor: &Actor, entity: &str, field: &str, action: &str) -> bool {
        let level = self.role_of(actor).and_then(|role| role.fields.get(entity)).and_then(|fields| fields.get(field));
        level.and_then(|levels| levels.get(action)) == Some(&Value::String("no".into()))
    }

    fn owns(&self, actor: &Actor, def: &Def, record: &Record, action: &str) -> bool {
        let assigned = record.text("assignedUserId");
        assigned == Some(actor.id.as_str())
            || (def.name == "User" && record.id() == actor.id)
            // An attendee sees the event; it changes it only as its assignee.
            || (matches!(action, "read" | "stream") && record.linked("users", &actor.id))
            || (!def.has("assignedUserId") && record.text("createdById") == Some(actor.id.as_str()))
    }

    pub fn may(&self, actor: &Actor, def: &Def, record: &Record, action: &str) -> bool {
        match self.level(actor, def.name, action) {
            Some("all") => true,
            Some("own") => self.owns(actor, def, record, action),
            Some("team") => {
                let teams = self.live("User", &actor.id).map(|user| user.links("teams").to_vec()).unwrap_or_default();
                self.owns(actor, def, record, action) || teams.iter().any(|(team, _)| record.linked("teams", team))
            }
            _ => false,
        }
    }

    pub fn check(&self, actor: &Actor, def: &Def, record: &Record, action: &str) -> Result<(), Refusal> {
        if self.may(actor, def, record, action) {
            return Ok(());
        }
        let reason = if action == "read" { "No 'read' access.".to_owned() } else { format!("No {action} access.") };
        Err(Refusal::forbidden(reason))
    }

    /// A new record with the defaults of its entity and its custom fields, not yet in the table.
    pub fn blank(&mut self, def: &'static Def, actor_id: &str) -> Record {
        let now = self.now();
        let mut record = Record::default();
        record.set("id", self.new_id());
        record.set("deleted", false);
        for (name, preset) in def.defaults {
            record.set(
                name,
                match preset {
                    Preset::Text(text) => Value::from(*text),
                    Preset::Bool(flag) => Value::from(*flag),
                    Preset::Null => Value::Null,
                },
            );
        }
        for (name, spec) in self.custom(def.name) {
            record.set(name, spec.get("default").cloned().unwrap_or_default());
        }
        record.set("createdAt", now.clone());
        record.set("modifiedAt", now.clone());
        record.set("createdById", actor_id);
        if def.stream {
            record.set("streamUpdatedAt", now);
        }
        if def.is_event() {
            record.set("uid", self.ids.uuid());
        }
        for link in def.links {
            record.links.insert(link, Links::new());
        }
        record
    }

    pub fn default_reminders(&self, user_id: &str, def: &Def) -> Vec<Value> {
        let key = if def.name == "Task" { "defaultRemindersTask" } else { "defaultReminders" };
        let own = self.accounts.get(user_id).and_then(|account| account.preferences.get(key));
        own.and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// The zone in which a user reads times: the own preference, else the system's.
    pub fn zone_of(&self, user_id: &str) -> Tz {
        let own = self.accounts.get(user_id).and_then(|account| account.preferences.get("timeZone"));
        own.and_then(Value::as_str).and_then(|name| name.parse().ok()).unwrap_or(self.settings.zone)
    }

    pub fn add_field(&mut self, entity: &str, name: &str, spec: Map<String, Value>) {
        let Some(def) = def(entity) else { return };
        let default = spec.get("default").cloned().unwrap_or_default();
        for record in self.records.entry(def.name).or_default().values_mut() {
            record.attributes.entry(name).or_insert_with(|| default.clone());
        }
        self.custom_fields.entry(def.name).or_default().insert(name.to_owned(), spec);
    }
}

pub(super) fn full_name(entity: &str, record: &Record) -> String {
    if !matches!(entity, "Contact" | "Lead" | "User") {
        return record.text("name").unwrap_or_default().to_owned();
    }
    let parts: Vec<&str> = ["firstName", "lastName"].iter().filter_map(|part| record.text(part)).collect();
    if parts.is_empty() { record.text("userName").unwrap_or_default().to_owned() } else { parts.join(" ") }
}

pub(super) fn levels(level: &str) -> Value {
    json!({"create": if level == "no" { "no" } else { "yes" }, "read": level, "edit": level, "delete": level, "stream": level})
}
