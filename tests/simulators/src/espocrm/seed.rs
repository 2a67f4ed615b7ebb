//! The handle's side doors: seeding, a person's actions in the web client, and a look at what is stored.

use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::defs::{Def, def, foreign_of, link_part};
use super::reminders;
use super::state::{Account, Actor, Record, Reminder, Role, State, UserType, levels};
use super::view::{self, Echo};
use super::{Credentials, EspoSim, Refusal, files, links, routes};
use crate::plumbing::lock;

pub(super) const CONNECTOR_ROLE: &str = "role-connector";
pub(super) const STAFF_ROLE: &str = "role-staff";

/// What makes a user, beyond name and address.
struct NewUser<'a> {
    user_name: &'a str,
    name: &'a str,
    email: Option<&'a str>,
    id: Option<&'a str>,
    account: Account,
}

fn add_user(state: &mut State, new: NewUser<'_>) -> String {
    let Some(user) = def("User") else { return String::new() };
    let creator = state.live_user_id("admin").unwrap_or_else(|| "system".to_owned());
    let mut record = state.blank(user, &creator);
    if let Some(id) = new.id {
        record.set("id", id);
    }
    let (first, last) = new.name.rsplit_once(' ').map_or((None, new.name), |(first, last)| (Some(first), last));
    record.set("userName", new.user_name);
    record.set("firstName", first.map_or(Value::Null, Value::from));
    record.set("lastName", last);
    record.set("type", new.account.kind.name());
    record.set("isActive", true);
    record.emails = new.email.map(str::to_owned).into_iter().collect();
    if new.account.kind != UserType::Admin {
        record.links.insert("roles", vec![(new.account.role.clone(), String::new())]);
    }
    let id = record.id().to_owned();
    state.accounts.insert(id.clone(), new.account);
    state.put(user, record);
    id
}

fn account(kind: UserType, role: &str) -> Account {
    let role = role.to_owned();
    Account {
        kind,
        password: None,
        api_key: None,
        hmac_secret: None,
        second_factor: None,
        role,
        preferences: Map::new(),
    }
}

/// Roles, the administrator and the connector's API user.
pub(super) fn base(state: &mut State, admin: &Credentials, api_key: &str) {
    let full = ["Meeting", "Call", "Task", "Contact", "Lead", "Account", "Note", "Attachment"];
    let mut connector: Map<String, Value> = full.iter().map(|scope| ((*scope).to_owned(), levels("all"))).collect();
    let mut staff = connector.clone();
    let read_all = json!({"create": "no", "read": "all", "edit": "no", "delete": "no", "stream": "no"});
    let own = json!({"create": "no", "read": "own", "edit": "own", "delete": "no", "stream": "no"});
    for role in [&mut connector, &mut staff] {
        role.insert("Team".into(), read_all.clone());
        role.insert("User".into(), read_all.clone());
        role.insert("Preferences".into(), own.clone());
    }
    connector.insert("Webhook".into(), true.into());
    connector.insert("Opportunity".into(), read_all);
    let role = |name: &str, scopes: Map<String, Value>| Role {
        name: name.to_owned(),
        scopes,
        assignment: "all".to_owned(),
        fields: Map::new(),
    };
    state.roles.insert(CONNECTOR_ROLE.into(), role("Calendar connector", connector));
    state.roles.insert(STAFF_ROLE.into(), role("Sales rep", staff));
    let password = Some(admin.password.clone());
    let account_of_admin = Account { password, ..account(UserType::Admin, "") };
    add_user(
        state,
        NewUser { user_name: &admin.user_name, name: "Admin", email: None, id: None, account: account_of_admin },
    );
    let account_of_api = Account { api_key: Some(api_key.to_owned()), ..account(UserType::Api, CONNECTOR_ROLE) };
    add_user(
        state,
        NewUser { user_name: "connector", name: "connector", email: None, id: None, account: account_of_api },
    );
}

/// Links and addresses are given as attributes in JSON; they are stored apart.
fn fill(def: &'static Def, record: &mut Record, data: &Value) {
    for (name, value) in data.as_object().into_iter().flatten() {
        if name == "emails" {
            let mails = value.as_array().map(Vec::as_slice).unwrap_or_default();
            record.emails = mails.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        } else if name == "emailAddress" {
            record.emails = value.as_str().map(str::to_owned).into_iter().collect();
        } else if let Some((link, part)) = link_part(name).filter(|(link, _)| def.links.contains(link)) {
            let Some(link) = def.links.iter().find(|known| **known == link) else { continue };
            let links = record.links.entry(link).or_default();
            if part == "Ids" {
                let ids = value.as_array().map(Vec::as_slice).unwrap_or_default();
                *links = ids.iter().filter_map(Value::as_str).map(|id| (id.to_owned(), "None".to_owned())).collect();
            }
        } else {
            record.set(name, value.clone());
        }
    }
    for (name, value) in data.as_object().into_iter().flatten() {
        if let Some((link, "Columns")) = link_part(name).filter(|(link, _)| def.links.contains(link)) {
            for (id, column) in value.as_object().into_iter().flatten() {
                let status = column.get("status").and_then(Value::as_str).unwrap_or("None");
                let links = def.links.iter().find(|known| **known == link).and_then(|link| record.links.get_mut(link));
                for linked in links.into_iter().flatten().filter(|(linked, _)| linked == id) {
                    status.clone_into(&mut linked.1);
                }
            }
        }
    }
}

impl EspoSim {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut lock(&self.shared.state))
    }

    /// A regular user with the staff role, who may do everything with calendar records; the password is
    /// `USERNAME-Pass1`. Returns the id.
    pub fn seed_user(&self, user_name: &str, name: &str, email: &str) -> String {
        self.seed_user_with_id(user_name, name, email, None)
    }

    pub fn seed_user_with_id(&self, user_name: &str, name: &str, email: &str, id: Option<&str>) -> String {
        let password = Some(format!("{user_name}-Pass1"));
        let account = Account { password, ..account(UserType::Regular, STAFF_ROLE) };
        let email = Some(email).filter(|email| !email.is_empty());
        self.with(|state| add_user(state, NewUser { user_name, name, email, id, account }))
    }

    /// One more API user, with the authentication method ApiKey and the given role.
    pub fn seed_api_user(&self, user_name: &str, api_key: &str, role: &str) -> String {
        self.seed_api_user_with_id(user_name, api_key, role, None)
    }

    pub fn seed_api_user_with_id(&self, user_name: &str, api_key: &str, role: &str, id: Option<&str>) -> String {
        let account = Account { api_key: Some(api_key.to_owned()), ..account(UserType::Api, role) };
        self.with(|state| add_user(state, NewUser { user_name, name: user_name, email: None, id, account }))
    }

    /// Switches the connector's API user to the authentication method Hmac; its bare key is refused from then on.
    pub fn set_hmac(&self, secret: Option<&str>) {
        let key = self.api_key();
        self.with(|state| {
            for account in state.accounts.values_mut().filter(|account| account.api_key.as_deref() == Some(&key)) {
                account.hmac_secret = secret.map(str::to_owned);
            }
        });
    }

    /// Gives a user a second factor that shows this code, or takes it away.
    pub fn set_second_factor(&self, user_name: &str, code: Option<&str>) {
        self.with(|state| {
            let account = state.live_user_id(user_name).and_then(|id| state.accounts.get_mut(&id));
            if let Some(account) = account {
                account.second_factor = code.map(str::to_owned);
            }
        });
    }

    /// A right of the connector's role: the level of an action on a scope (`all`, `team`, `own`, `no`).
    pub fn set_right(&self, scope: &str, action: &str, level: &str) {
        let mut state = lock(&self.shared.state);
        let role = state.roles.get_mut(CONNECTOR_ROLE);
        if let Some(levels) = role.and_then(|role| role.scopes.get_mut(scope)).and_then(Value::as_object_mut) {
            levels.insert(action.to_owned(), level.into());
        }
    }

    /// Takes a scope out of the connector's role.
    pub fn close_scope(&self, scope: &str) {
        if let Some(role) = lock(&self.shared.state).roles.get_mut(CONNECTOR_ROLE) {
            role.scopes.insert(scope.to_owned(), false.into());
        }
    }

    /// `assignmentPermission` of the connector's role: `all`, `team`, `no`.
    pub fn set_assignment(&self, level: &str) {
        if let Some(role) = lock(&self.shared.state).roles.get_mut(CONNECTOR_ROLE) {
            level.clone_into(&mut role.assignment);
        }
    }

    /// Closes a field to the connector's role, to `read` or to `edit`.
    pub fn close_field(&self, entity: &str, field: &str, action: &str) {
        if let Some(role) = lock(&self.shared.state).roles.get_mut(CONNECTOR_ROLE) {
            let fields = role.fields.entry(entity).or_insert_with(|| json!({}));
            fields[field][action] = "no".into();
        }
    }

    /// A user who is not active cannot log in, nor be acted as.
    pub fn set_active(&self, user_name: &str, active: bool) {
        self.with(|state| {
            let id = state.live_user_id(user_name);
            if let Some(user) = id.and_then(|id| state.any_mut("User", &id)) {
                user.set("isActive", active);
            }
        });
    }

    pub fn user_id(&self, user_name: &str) -> Option<String> {
        self.with(|state| state.live_user_id(user_name))
    }

    /// Puts a record in place as it is, without webhooks and reminders; `id`, `emails` (the first is primary), `usersIds`,
    /// `usersColumns` ... may be given. Unknown entities give an empty id.
    pub fn seed(&self, entity: &str, data: &Value) -> String {
        let Some(def) = def(entity) else { return String::new() };
        self.with(|state| {
            let admin = state.live_user_id("admin").unwrap_or_default();
            let mut record = state.blank(def, &admin);
            fill(def, &mut record, data);
            let id = record.id().to_owned();
            state.put(def, record);
            id
        })
    }

    /// A custom field under exactly this name, as an extension brings it. (An administrator's own fields get the prefix
    /// `c`: `POST Admin/fieldManager/ENTITY`.)
    pub fn add_field(&self, entity: &str, name: &str, kind: &str, default: &Value) {
        let mut spec = Map::new();
        spec.insert("type".into(), kind.into());
        spec.insert("isCustom".into(), true.into());
        spec.insert("default".into(), default.clone());
        if kind == "bool" {
            spec.insert("notNull".into(), true.into());
        }
        self.with(|state| state.add_field(entity, name, spec));
    }

    fn actor(&self, user_name: &str) -> Result<Actor, Refusal> {
        let actor = self.with(|state| state.actor_named(user_name));
        actor.ok_or_else(|| Refusal::new(404, format!("No user '{user_name}'.")))
    }

    /// A person's write in the web client: POST, PUT or DELETE, with that user's rights; webhooks follow as ever.
    pub fn write_as(
        &self,
        user_name: &str,
        method: &str,
        entity: &str,
        id: Option<&str>,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let actor = self.actor(user_name)?;
        let def = def(entity).ok_or_else(|| Refusal::new(404, format!("Controller '{entity}' does not exist.")))?;
        self.with(|state| routes::write(state, &actor, def, method, id, body, None))
    }

    /// A person adds a file to a task. Gives its id.
    pub fn attach(
        &self,
        user_name: &str,
        task: &str,
        name: &str,
        kind: &str,
        bytes: Vec<u8>,
    ) -> Result<String, Refusal> {
        let actor = self.actor(user_name)?;
        let id = self.with(|state| files::uploaded(state, &actor.id, name, kind, bytes));
        let id = id.ok_or_else(|| Refusal::new(500, ""))?;
        let mut all: Vec<String> = self.files(task).into_iter().map(|(known, ..)| known).collect();
        all.push(id.clone());
        self.write_as(user_name, "PUT", "Task", Some(task), &json!({ "attachmentsIds": all }))?;
        Ok(id)
    }

    /// A person removes a file from a task.
    pub fn detach(&self, user_name: &str, task: &str, file: &str) -> Result<(), Refusal> {
        let all: Vec<String> =
            self.files(task).into_iter().map(|(known, ..)| known).filter(|known| known != file).collect();
        self.write_as(user_name, "PUT", "Task", Some(task), &json!({ "attachmentsIds": all })).map(drop)
    }

    /// Ids, names and contents of a task's files.
    pub fn files(&self, task: &str) -> Vec<(String, String, Vec<u8>)> {
        self.with(|state| {
            let ids = state.live("Task", task).map(|record| record.links("attachments").to_vec()).unwrap_or_default();
            let file = |(id, _): (String, String)| {
                let name = state.live("Attachment", &id)?.text("name").unwrap_or_default().to_owned();
                let bytes = state.files.get(&id)?.clone();
                Some((id, name, bytes))
            };
            ids.into_iter().filter_map(file).collect()
        })
    }

    /// What the buttons Accept, Tentative and Decline do: neither modifiedAt nor a webhook; a note in the stream.
    pub fn set_acceptance(&self, user_name: &str, entity: &str, id: &str, status: &str) -> Result<(), Refusal> {
        let actor = self.actor(user_name)?;
        let def = def(entity).ok_or_else(|| Refusal::new(404, ""))?;
        self.with(|state| links::set_acceptance(state, &actor, def, id, status))
    }

    /// The link endpoint: neither modifiedAt nor a webhook.
    pub fn relate(&self, entity: &str, id: &str, link: &str, foreign_id: &str) -> bool {
        self.link(entity, id, link, foreign_id, true)
    }

    pub fn unrelate(&self, entity: &str, id: &str, link: &str, foreign_id: &str) -> bool {
        self.link(entity, id, link, foreign_id, false)
    }

    fn link(&self, entity: &str, id: &str, link: &str, foreign_id: &str, add: bool) -> bool {
        let Some(def) = def(entity) else { return false };
        let known = foreign_of(link).is_some();
        known && self.with(|state| links::change_link(state, def, id, link, foreign_id, add).is_ok())
    }

    /// A record as the administrator sees it, if it is not deleted.
    pub fn get_record(&self, entity: &str, id: &str) -> Option<Value> {
        let def = def(entity)?;
        self.with(|state| {
            let admin = state.actor_named("admin")?;
            state.live(def.name, id).map(|record| view::show(state, def, record, &admin, &Echo::default()))
        })
    }

    /// All records that are not deleted, as the administrator sees them.
    pub fn records(&self, entity: &str) -> Vec<Value> {
        let Some(def) = def(entity) else { return Vec::new() };
        self.with(|state| {
            let Some(admin) = state.actor_named("admin") else { return Vec::new() };
            let live = state.table(def.name).filter(|record| !record.is_deleted());
            live.map(|record| view::show(state, def, record, &admin, &Echo::default())).collect()
        })
    }

    /// The rows of the reminder table, copies included.
    pub fn reminders_of(&self, entity: &str, id: &str) -> Vec<Reminder> {
        let Some(def) = def(entity) else { return Vec::new() };
        self.with(|state| state.reminders.get(&(def.name, id.to_owned())).cloned().unwrap_or_default())
    }

    /// What one user sees as `reminders` of a record.
    pub fn reminders_seen_by(&self, user_name: &str, entity: &str, id: &str) -> Value {
        let Some(def) = def(entity) else { return Value::Null };
        self.with(|state| {
            let user = state.live_user_id(user_name).unwrap_or_default();
            reminders::own(state, def, id, &user)
        })
    }

    /// Replaces or makes a role: per scope `true` or the levels, e.g. `{"Meeting": {"read": "own", "edit": "own",
    /// "delete": "no", "create": "yes", "stream": "no"}}`; `assignment` is all, team or no. `role-connector` is that of
    /// the API user, `role-staff` that of seeded users.
    pub fn set_role(&self, role: &str, scopes: &Value, assignment: &str) {
        let scopes = scopes.as_object().cloned().unwrap_or_default();
        self.with(|state| {
            let fields = state.roles.get(role).map(|old| old.fields.clone()).unwrap_or_default();
            let name = state.roles.get(role).map_or_else(|| role.to_owned(), |old| old.name.clone());
            state.roles.insert(role.to_owned(), Role { name, scopes, assignment: assignment.to_owned(), fields });
        });
    }

    /// Field-level access of a role: `{"Meeting": {"description": {"read": "yes", "edit": "no"}}}`.
    pub fn set_field_access(&self, role: &str, fields: &Value) {
        self.with(|state| {
            if let Some(role) = state.roles.get_mut(role) {
                role.fields = fields.as_object().cloned().unwrap_or_default();
            }
        });
    }

    /// Gives a user another role.
    pub fn assign_role(&self, user_name: &str, role: &str) {
        self.with(|state| {
            let Some(id) = state.live_user_id(user_name) else { return };
            if let Some(account) = state.accounts.get_mut(&id) {
                role.clone_into(&mut account.role);
            }
            if let Some(user) = state.any_mut("User", &id) {
                user.links.insert("roles", vec![(role.to_owned(), String::new())]);
            }
        });
    }

    /// Sets preferences: `timeZone`, `defaultReminders`, `defaultRemindersTask` ...
    pub fn set_preferences(&self, user_name: &str, values: &Value) {
        self.with(|state| {
            let id = state.live_user_id(user_name).unwrap_or_default();
            if let Some(account) = state.accounts.get_mut(&id) {
                account.preferences.extend(values.as_object().cloned().unwrap_or_default());
            }
        });
    }

    /// The system time zone, in which all-day records become times.
    pub fn set_time_zone(&self, zone: Tz) {
        self.with(|state| state.settings.zone = zone);
    }

    /// An administrator's restore: no webhook, `modifiedAt` stays.
    pub fn restore(&self, entity: &str, id: &str) -> bool {
        let restored = |record: &mut Record| record.set("deleted", false);
        self.with(|state| state.any_mut(entity, id).map(restored).is_some())
    }
}
