//! Who we are in EspoCRM, what its entities look like there, and who works with it.
//!
//! Facts (EspoCRM 9.3): `GET App/user` gives the own user, rights and settings; `GET Metadata?key=entityDefs.X.fields` the
//! fields of an entity, readable by an API user; an administrator may replace `assignedUser` by `assignedUsers` per entity.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use sync::Kind;

use crate::client::Client;
use crate::error::unexpected;
use crate::extra::Extra;
use crate::query::{List, PAGE_MAX, Where};
use crate::wire::{Call, Rows};
use crate::{Error, Result};

/// The user whose key we use.
#[derive(Debug, Clone, PartialEq)]
pub struct Me {
    /// Its id.
    pub id: String,
    /// Its name.
    pub user_name: String,
    /// `api`, `regular` or `admin`.
    pub kind: String,
    /// EspoCRM's version.
    pub version: Option<String>,
    /// Its rights: scope, then action (`read`, `edit`, `create`, `delete`, `stream`), then level.
    pub rights: Map<String, Value>,
    /// `all`, `team` or `no`: whom it may assign records to.
    pub assignment: Option<String>,
    /// Fields that its role closes: scope, then field, then `read` or `edit`, then `no`. A write to one is dropped in silence.
    pub fields: Map<String, Value>,
}

impl Me {
    /// Fields of a scope that are closed to an action.
    #[must_use]
    pub fn closed(&self, scope: &str, action: &str) -> Vec<&str> {
        let fields = self.fields.get(scope).and_then(Value::as_object).into_iter().flatten();
        let closed = fields.filter(|(_, levels)| levels.get(action).and_then(Value::as_str) == Some("no"));
        closed.map(|(field, _)| field.as_str()).collect()
    }

    /// The level of a right: `all`, `team`, `own`, `no`, `yes`; none when the scope is not granted at all.
    #[must_use]
    pub fn right(&self, scope: &str, action: &str) -> Option<&str> {
        match self.rights.get(scope) {
            Some(Value::Bool(true)) => Some("all"),
            Some(scope) => scope.get(action).and_then(Value::as_str),
            None => None,
        }
    }
}

/// What is to be known of an entity type before its records can be read and written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindSchema {
    /// Attribute of the location, if there is one.
    pub location: Option<String>,
    /// The longest location that is accepted.
    pub location_max: usize,
    /// Attribute of the switch, if there is one.
    pub switch: Option<String>,
    /// Attribute of the marker, if there is one.
    pub marker: Option<String>,
    /// True when records have several assigned users.
    pub many_owners: bool,
    /// Attributes of configured pairs.
    pub extras: Vec<Extra>,
    /// Pairs whose attribute the entity does not have, or has as something that cannot be paired: why, in a sentence.
    pub unusable: Vec<String>,
}

/// What is to be known of an EspoCRM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Its version.
    pub version: String,
    /// Its system time zone: all-day records begin at its midnight.
    pub zone: String,
    /// The entity types that it has.
    pub kinds: BTreeMap<Kind, KindSchema>,
}

impl Schema {
    /// The schema of a kind.
    pub fn of(&self, kind: Kind) -> Result<&KindSchema> {
        self.kinds.get(&kind).ok_or(Error::NoEntity(kind.entity()))
    }
}

/// A user of EspoCRM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Id.
    pub id: String,
    /// Login name.
    pub user_name: String,
    /// Full name.
    pub name: String,
    /// Primary e-mail address, lower case.
    pub email: Option<String>,
    /// False when the account is switched off.
    pub active: bool,
    /// `regular`, `admin`, `portal`, `api`.
    pub kind: String,
    /// Ids of the roles that were given directly (not through teams), when they may be read.
    pub roles: Vec<String>,
    /// Their names by id, as far as they were told.
    pub role_names: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserRow {
    id: String,
    user_name: Option<String>,
    name: Option<String>,
    email_address: Option<String>,
    is_active: Option<bool>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    roles_ids: Option<Vec<String>>,
    /// PHP writes an empty map as an empty list.
    #[serde(default)]
    roles_names: Value,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        let user_name = row.user_name.unwrap_or_default();
        Self {
            name: row.name.filter(|name| !name.is_empty()).unwrap_or_else(|| user_name.clone()),
            email: row.email_address.filter(|mail| !mail.is_empty()).map(|mail| sync::text::address(&mail)),
            active: row.is_active.unwrap_or(true),
            kind: row.kind.unwrap_or_else(|| "regular".to_owned()),
            roles: row.roles_ids.unwrap_or_default(),
            role_names: serde_json::from_value(row.roles_names).unwrap_or_default(),
            id: row.id,
            user_name,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct AppUser {
    user: UserRow,
    #[serde(default)]
    acl: Acl,
    #[serde(default)]
    settings: Option<Settings>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acl {
    #[serde(default)]
    table: Value,
    #[serde(default)]
    assignment_permission: Option<String>,
    #[serde(default)]
    field_table: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    version: Option<String>,
    time_zone: Option<String>,
}

impl Client {
    /// Who we are.
    pub async fn me(&self) -> Result<Me> {
        self.send(&Call::get(&["App", "user"])).await?.json::<AppUser>().map(AppUser::into_me)
    }

    /// Who the configured administrator is.
    pub async fn admin(&self) -> Result<Me> {
        self.send_by_admin(&Call::get(&["App", "user"])).await?.json::<AppUser>().map(AppUser::into_me)
    }

    /// What EspoCRM looks like.
    pub async fn schema(&self) -> Result<Schema> {
        let settings: Settings = self.send(&Call::get(&["Settings"])).await?.json()?;
        let mut kinds = BTreeMap::new();
        for kind in Kind::ALL {
            match self.metadata(&format!("entityDefs.{}.fields", kind.entity())).await? {
                Value::Object(fields) => {
                    kinds.insert(kind, self.kind_schema(kind, &fields));
                }
                // PHP writes an empty map as an empty list; null is an unknown key.
                Value::Null | Value::Array(_) => {}
                other => return Err(unexpected(format!("metadata of {kind}: {other}"))),
            }
        }
        let version = settings.version.unwrap_or_default();
        Ok(Schema {
            version,
            zone: settings.time_zone.filter(|zone| !zone.is_empty()).unwrap_or_else(|| "UTC".to_owned()),
            kinds,
        })
    }

    /// A part of EspoCRM's metadata; null when there is none of that key.
    pub(crate) async fn metadata(&self, key: &str) -> Result<Value> {
        let mut call = Call::get(&["Metadata"]);
        call.query.push(("key".to_owned(), key.to_owned()));
        self.send(&call).await?.json()
    }

    fn kind_schema(&self, kind: Kind, fields: &Map<String, Value>) -> KindSchema {
        let usable = |name: &str| {
            fields.get(name).is_some_and(|field| !truthy(field, "disabled") && !truthy(field, "notStorable"))
        };
        let config = self.config();
        // A configured pair goes before the usual fields.
        let paired = config.pairs.iter().any(|pair| pair.kind == kind && pair.outlook == sync::Part::Location);
        let location = config.location_fields.iter().find(|name| kind.is_event() && !paired && usable(name)).cloned();
        let max = location.as_ref().and_then(|name| fields.get(name)?.get("maxLength")?.as_u64());
        let (extras, unusable) = crate::extra::of(kind, &config.pairs, fields);
        KindSchema {
            extras,
            unusable,
            location,
            location_max: max.and_then(|max| usize::try_from(max).ok()).unwrap_or(255),
            switch: Some(config.switch_field.clone()).filter(|name| usable(name)),
            marker: Some(config.marker_field.clone()).filter(|name| usable(name)),
            many_owners: usable("assignedUsers") && !usable("assignedUser"),
        }
    }

    /// All users who can own records: regular ones and administrators.
    pub async fn users(&self) -> Result<Vec<User>> {
        let wanted = vec!["regular".to_owned(), "admin".to_owned()];
        let select = ["userName", "name", "emailAddress", "type", "isActive", "rolesIds", "rolesNames"];
        let mut list = List::new(vec![Where::In("type", wanted)], select);
        list.order = Some("userName");
        let mut users = Vec::new();
        loop {
            let rows: Rows = self.send(&Call::list("User", &list)).await?.json()?;
            let more = rows.has_more(PAGE_MAX) && !rows.list.is_empty();
            for row in rows.list {
                users.push(user(Value::Object(row))?);
            }
            if !more {
                return Ok(users);
            }
            list.offset += PAGE_MAX;
        }
    }

    /// One user; none when there is no such user.
    pub async fn user(&self, id: &str) -> Result<Option<User>> {
        let answer = self.send(&Call::get(&["User", id])).await?;
        if answer.is_gone() {
            return Ok(None);
        }
        user(answer.json()?).map(Some)
    }
}

impl AppUser {
    pub(crate) fn into_user(self) -> User {
        self.user.into()
    }

    fn into_me(self) -> Me {
        let user = User::from(self.user);
        let rights = if let Value::Object(table) = self.acl.table { table } else { Map::new() };
        Me {
            id: user.id,
            user_name: user.user_name,
            kind: user.kind,
            version: self.settings.and_then(|settings| settings.version),
            rights,
            assignment: self.acl.assignment_permission,
            fields: if let Value::Object(fields) = self.acl.field_table { fields } else { Map::new() },
        }
    }
}

fn user(row: Value) -> Result<User> {
    serde_json::from_value::<UserRow>(row).map(User::from).map_err(|error| unexpected(format!("a user: {error}")))
}

fn truthy(field: &Value, key: &str) -> bool {
    field.get(key).and_then(Value::as_bool).unwrap_or(false)
}
