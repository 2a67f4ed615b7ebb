//! What users may do with their own preferences: what administrators have said of their roles in EspoCRM.
//!
//! A role says something of the whole and of single fields; a field is never more open than the whole. Of several roles the
//! most permissive counts, as in EspoCRM (documentation, "Roles Management": "the permissive setting has a higher
//! priority"). Where no role of a user says anything, everything is open.

use std::collections::BTreeMap;

use actix_web::http::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;
use store::StoreError;
use utoipa::ToSchema;

use super::api::settings::{Access, Role};
use super::api::users::People;
use super::problem::Problem;
use super::session::Caller;
use crate::app::App;

/// What roles are about, beside the rules: one's binding, and what one does.
pub const PREFERENCES: [&str; 7] = ["enabled", "token", "sync_from", "todo_list", "history", "records", "sync"];
/// The rules, without their kinds.
pub const RULES: [&str; 11] = [
    "direction",
    "priority",
    "create_participant_as",
    "attendees",
    "private_events",
    "call_category",
    "new_events",
    "not_held",
    "cancelled",
    "reminders",
    "own_domains",
];

/// Something that is not open to somebody, and whose doing that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Closed {
    /// What: `sync_from`, `direction`, or `task.direction` where it differs by kind.
    pub field: String,
    /// What may be done with it: `read` or `no`.
    #[schema(value_type = String)]
    pub access: Access,
    /// Names of the roles in EspoCRM that close it. Opening it in one of them opens it.
    pub roles: Vec<String>,
}

/// What the roles of somebody say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights(Vec<Said>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    /// The role's name, or its id when nobody knows the name.
    role: String,
    whole: Option<Access>,
    fields: BTreeMap<String, Access>,
}

const fn rank(access: Access) -> u8 {
    match access {
        Access::No => 0,
        Access::Read => 1,
        Access::Edit => 2,
    }
}

impl Said {
    /// What is said of a field: by its name, or by that without its kind (`meeting.direction`, `direction`).
    fn of(&self, field: &str) -> Option<Access> {
        let bare = field.rsplit('.').next().unwrap_or(field);
        let own = self.fields.get(field).or_else(|| self.fields.get(bare)).copied();
        match (own, self.whole) {
            (Some(own), Some(whole)) => Some(if rank(own) < rank(whole) { own } else { whole }),
            (own, whole) => own.or(whole),
        }
    }
}

impl Rights {
    /// What the roles with these ids say.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn of(app: &App, people: &People, roles: &[String]) -> Result<Self, StoreError> {
        let mut said = store::roles::all(app.store().read()).await?;
        said.retain(|id, _| roles.contains(id));
        // Names are for what is closed.
        let names = if said.is_empty() { BTreeMap::new() } else { people.role_names(app).await };
        Ok(Self::read(said.into_iter().map(|(id, document)| (names.get(&id).cloned().unwrap_or(id), document))))
    }

    fn read(documents: impl Iterator<Item = (String, Value)>) -> Self {
        let read = |(role, document)| {
            let Role { access, fields } = serde_json::from_value(document).ok()?;
            Some(Said { role, whole: access, fields })
        };
        Self(documents.filter_map(read).collect())
    }

    /// What may be done with all of it.
    #[must_use]
    pub fn whole(&self) -> Access {
        best(self.0.iter().filter_map(|said| said.whole))
    }

    /// What may be done with a field.
    #[must_use]
    pub fn of_field(&self, field: &str) -> Access {
        best(self.0.iter().filter_map(|said| said.of(field)))
    }

    /// Names of the roles that say something of a field. Where it is closed, each of them closes it.
    #[must_use]
    pub fn roles_on(&self, field: &str) -> Vec<&str> {
        self.0.iter().filter(|said| said.of(field).is_some()).map(|said| said.role.as_str()).collect()
    }

    /// What is closed of these fields, and by which roles.
    #[must_use]
    pub fn closed<'a>(&self, fields: impl IntoIterator<Item = &'a str>) -> Vec<Closed> {
        let closed = |field: &str| {
            let access = self.of_field(field);
            let roles = || self.roles_on(field).into_iter().map(str::to_owned).collect();
            (access != Access::Edit).then(|| Closed { field: field.to_owned(), access, roles: roles() })
        };
        fields.into_iter().filter_map(closed).collect()
    }

    /// All that is closed: rules of single kinds where something is said of that kind.
    #[must_use]
    pub fn all_closed(&self) -> Vec<Closed> {
        let known = PREFERENCES.iter().chain(&RULES).copied();
        let of_kinds = self.0.iter().flat_map(|said| said.fields.keys()).filter(|field| field.contains('.'));
        let of_kinds: std::collections::BTreeSet<&str> = of_kinds.map(String::as_str).collect();
        self.closed(known.chain(of_kinds))
    }
}

fn best(all: impl Iterator<Item = Access>) -> Access {
    all.max_by_key(|access| rank(*access)).unwrap_or(Access::Edit)
}

impl Caller {
    /// What the caller may do with a field of the own preferences.
    #[must_use]
    pub fn access(&self, field: &str) -> Access {
        if self.is_admin { Access::Edit } else { self.rights.of_field(field) }
    }

    /// The roles that close something to the caller, by name, as text.
    #[must_use]
    pub fn closed_by(&self, field: &str) -> String {
        self.rights.roles_on(field).join(", ")
    }

    /// That the caller is an administrator, or that user.
    ///
    /// # Errors
    ///
    /// A refusal.
    pub fn must_be(&self, user_id: &str) -> Result<(), Problem> {
        if self.is_admin || self.is(user_id) {
            return Ok(());
        }
        Err(forbidden("this is about somebody else; you may see and change what is your own"))
    }

    /// That the caller may see that.
    ///
    /// # Errors
    ///
    /// A refusal that says why.
    pub fn must_read(&self, field: &str) -> Result<(), Problem> {
        if self.access(field) != Access::No {
            return Ok(());
        }
        Err(forbidden(format!(
            "your roles in EspoCRM ({}) close `{field}` to you; ask your administrator to open it",
            self.closed_by(field)
        )))
    }

    /// That the caller may change or do that.
    ///
    /// # Errors
    ///
    /// A refusal that says why.
    pub fn must_edit(&self, field: &str) -> Result<(), Problem> {
        match self.access(field) {
            Access::Edit => Ok(()),
            Access::Read => Err(forbidden(format!(
                "your roles in EspoCRM ({}) let you see `{field}` and not change it; ask your administrator to open it",
                self.closed_by(field)
            ))),
            Access::No => self.must_read(field),
        }
    }
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// Whether a route of the API is for users at all. What they may do there its handler says.
pub(super) fn is_for_users(method: &Method, path: &str) -> bool {
    let path: Vec<&str> = path.trim_start_matches("/api/v1").trim_matches('/').split('/').collect();
    let is = |allowed: &[Method]| allowed.contains(method);
    match path.as_slice() {
        ["users", _]
        | ["users", _, "lists"]
        | ["history"]
        | ["history", _]
        | ["records"]
        | ["records", _, _]
        | ["jobs", _]
        | ["holds"] => is(&[Method::GET]),
        ["users", _, "rules"] => is(&[Method::GET, Method::PUT, Method::DELETE]),
        ["users", _, "binding"] => is(&[Method::PUT, Method::DELETE]),
        ["users", _, "authorize"] | ["history", _, "revert"] | ["sync"] => is(&[Method::POST]),
        ["holds", _, "confirm" | "discard"] => is(&[Method::POST]),
        ["records", _, _, "sync"] => is(&[Method::PUT]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rights(documents: Vec<Value>) -> Rights {
        Rights::read(documents.into_iter().enumerate().map(|(n, document)| (format!("Role {n}"), document)))
    }

    #[test]
    fn where_nothing_is_said_everything_is_open() {
        assert_eq!((rights(vec![]).whole(), rights(vec![]).of_field("sync_from")), (Access::Edit, Access::Edit));
    }

    #[test]
    fn a_field_is_never_more_open_than_the_whole() {
        let one = rights(vec![json!({ "access": "read", "fields": { "sync_from": "edit", "token": "no" } })]);
        let of = |field| one.of_field(field);
        assert_eq!((of("sync_from"), of("token"), of("enabled")), (Access::Read, Access::No, Access::Read));
    }

    #[test]
    fn of_several_roles_the_most_permissive_counts() {
        let two = rights(vec![json!({ "access": "no" }), json!({ "access": "read", "fields": { "token": "no" } })]);
        assert_eq!(
            (two.whole(), two.of_field("enabled"), two.of_field("token")),
            (Access::Read, Access::Read, Access::No)
        );
        let with_open = rights(vec![json!({ "access": "no" }), json!({ "access": "edit" })]);
        assert_eq!(with_open.of_field("token"), Access::Edit);
    }

    #[test]
    fn what_is_closed_names_the_roles_that_say_something_of_it() {
        let two = rights(vec![
            json!({ "fields": { "sync_from": "no", "token": "no", "task.direction": "no" } }),
            json!({ "fields": { "sync_from": "read", "token": "edit" } }),
        ]);
        let closed = |field: &str, access, roles: &[&str]| Closed {
            field: field.to_owned(),
            access,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        assert_eq!(
            two.all_closed(),
            [
                closed("sync_from", Access::Read, &["Role 0", "Role 1"]),
                closed("task.direction", Access::No, &["Role 0"])
            ]
        );
    }

    #[test]
    fn a_rule_of_a_kind_is_closed_by_its_own_name_or_for_all_kinds() {
        let one = rights(vec![json!({ "fields": { "direction": "read", "task.direction": "no" } })]);
        let of = |field| one.of_field(field);
        assert_eq!(
            (of("meeting.direction"), of("task.direction"), of("meeting.priority")),
            (Access::Read, Access::No, Access::Edit)
        );
    }

    #[test]
    fn users_have_their_own_routes_and_no_others() {
        for (method, path) in [
            (Method::GET, "/api/v1/users/u1"),
            (Method::PUT, "/api/v1/users/u1/binding"),
            (Method::POST, "/api/v1/sync"),
        ] {
            assert!(is_for_users(&method, path), "{path}");
        }
        for (method, path) in [
            (Method::GET, "/api/v1/users"),
            (Method::GET, "/api/v1/settings"),
            (Method::PUT, "/api/v1/roles"),
            (Method::POST, "/api/v1/history/revert"),
            (Method::GET, "/api/v1/messages"),
            (Method::POST, "/api/v1/messages/discard"),
            (Method::GET, "/api/v1/sessions"),
            (Method::GET, "/api/v1/overview"),
            (Method::GET, "/api/v1/doctor"),
            (Method::GET, "/api/v1/audit"),
            (Method::DELETE, "/api/v1/users/u1"),
        ] {
            assert!(!is_for_users(&method, path), "{path}");
        }
    }
}
