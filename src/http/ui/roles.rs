//! What users of each EspoCRM role may do with their own preferences.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Json, ServiceConfig};
use askama::Template;
use serde_json::Value;

use super::form::Form;
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::access::{PREFERENCES, RULES};
use crate::http::api::settings::{self, Access, Role, WantedRole};
use crate::http::api::users::People;
use crate::http::extract::Object;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/roles", GET show, POST save);
}

const WORDS: [&str; 3] = ["edit", "read", "no"];

struct Cell {
    /// The name of the form's field.
    name: String,
    label: String,
    value: String,
}

struct Row {
    id: String,
    name: String,
    users: usize,
    whole: Cell,
    fields: Vec<Cell>,
    rules: Vec<Cell>,
    closed: usize,
}

#[derive(Template)]
#[template(path = "roles.html")]
struct RolesPage<'a> {
    v: &'a View,
    rows: Vec<Row>,
    words: [&'static str; 3],
    note: Option<String>,
}

async fn show(app: Data<App>, people: Data<People>, view: View) -> Page {
    let said = store::roles::all(app.store().read()).await?;
    let (users, note) = match people.all(&app).await {
        Ok(users) => (users, None),
        Err(error) => (Vec::new(), Some(view.f1("roles.unknown", error))),
    };
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for user in &users {
        for role in &user.roles {
            *counts.entry(role.clone()).or_default() += 1;
        }
        names.extend(user.role_names.clone());
    }
    let ids: BTreeSet<&String> = counts.keys().chain(said.keys()).collect();
    let rows = ids.into_iter().map(|id| {
        let name = names.get(id).cloned().unwrap_or_else(|| id.clone());
        row(&view, id, name, counts.get(id).copied().unwrap_or_default(), said.get(id))
    });
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    html(&view, &RolesPage { v: &view, rows, words: WORDS, note })
}

fn row(v: &View, id: &str, name: String, users: usize, said: Option<&Value>) -> Row {
    let word = |field: Option<&str>| {
        let value = match field {
            None => said.and_then(|said| said.get("access")),
            Some(field) => said.and_then(|said| said.get("fields")?.get(field)),
        };
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let cell = |family: &str, field: &&str| Cell {
        name: format!("{id}.{field}"),
        label: v.word(family, field),
        value: word(Some(field)),
    };
    let fields: Vec<Cell> = PREFERENCES.iter().map(|field| cell("preference", field)).collect();
    let rules: Vec<Cell> = RULES.iter().map(|field| cell("rule", field)).collect();
    Row {
        closed: fields.iter().chain(&rules).filter(|cell| !cell.value.is_empty()).count(),
        whole: Cell { name: format!("{id}.*"), label: v.t("roles.whole").to_owned(), value: word(None) },
        id: id.to_owned(),
        name,
        users,
        fields,
        rules,
    }
}

async fn save(app: Data<App>, view: View, form: Form) -> Page {
    let access = |word: &str| match word {
        "edit" => Some(Access::Edit),
        "read" => Some(Access::Read),
        "no" => Some(Access::No),
        _ => None,
    };
    let stored = store::roles::all(app.store().read()).await?;
    let mut wanted: BTreeMap<String, Option<Object<WantedRole>>> = BTreeMap::new();
    for id in form.all("role") {
        let read = |document: &Value| serde_json::from_value::<Role>(document.clone()).ok();
        let mut role = stored.get(&id).and_then(read).unwrap_or_default();
        let before: Vec<String> = role.fields.keys().cloned().collect();
        role.access = form.raw(&format!("{id}.*")).and_then(access);
        for field in PREFERENCES.iter().chain(&RULES) {
            match form.raw(&format!("{id}.{field}")).and_then(access) {
                Some(access) => drop(role.fields.insert((*field).to_owned(), access)),
                None => drop(role.fields.remove(*field)),
            }
        }
        let says_something = role.access.is_some() || !role.fields.is_empty();
        if says_something || stored.contains_key(&id) {
            let whole = says_something.then(|| Object(WantedRole::whole(&role, before)));
            wanted.insert(id, whole);
        }
    }
    settings::put_roles(app, Json(Object(wanted))).await?;
    Ok(done("/roles", view.t("user.saved")))
}
