//! Users and their bindings.

use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use askama::Template;
use serde::Deserialize;
use serde_json::{Value, json};

use super::form::Form;
use super::view::{ClosedField, View};
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::access::PREFERENCES;
use crate::http::api::bindings::{self, ShownList, SignInLink};
use crate::http::api::users::{self, People, Shown};
use crate::http::engine::{self, SyncRequest};
use crate::http::extract::Object;
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/users", GET list);
    admin!(routes, "/users/{id}", GET show, POST save);
    admin!(routes, "/users/{id}/link", POST link);
    admin!(routes, "/users/{id}/lists", GET lists);
    admin!(routes, "/users/{id}/sync", POST sync);
    admin!(routes, "/users/{id}/unbind", POST unbind);
}

#[derive(Deserialize)]
struct Which {
    state: Option<String>,
    q: Option<String>,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage<'a> {
    v: &'a View,
    users: Vec<Shown>,
    total: usize,
    note: Option<String>,
    state: &'a str,
    q: &'a str,
    states: [&'static str; 5],
}

async fn list(app: Data<App>, people: Data<People>, view: View, which: Query<Which>) -> Page {
    let users::Users { items, note, .. } = users::list(app, people).await?.into_inner();
    let total = items.len();
    let (state, q) = (which.state.as_deref().unwrap_or_default(), which.q.as_deref().unwrap_or_default().trim());
    let needle = q.to_lowercase();
    let fits = |user: &Shown| {
        let texts = [Some(&user.name), Some(&user.user_name), user.email.as_ref(), user.mailbox.as_ref()];
        (state.is_empty() || user.state.as_str() == state)
            && (needle.is_empty() || texts.into_iter().flatten().any(|text| text.to_lowercase().contains(&needle)))
    };
    let users = items.into_iter().filter(fits).collect();
    let states = ["active", "needs_authorization", "paused", "error", "unbound"];
    html(&view, &UsersPage { v: &view, users, total, note, state, q, states })
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage<'a> {
    v: &'a View,
    u: Shown,
    link: Option<SignInLink>,
    is_delegated: bool,
    today: String,
    closed: Vec<ClosedField>,
}

async fn show(app: Data<App>, people: Data<People>, view: View, id: Path<String>) -> Page {
    page(&app, &people, &view, &id, None).await
}

async fn page(app: &App, people: &People, view: &View, id: &str, link: Option<SignInLink>) -> Page {
    let u = users::one(app, people, id).await?;
    let is_delegated = app.connections().settings().microsoft.mode == crate::config::Mode::Delegated;
    let today = view.now.date_naive().to_string();
    let closed = u.closed.iter().flatten().map(|one| {
        let family = if PREFERENCES.contains(&one.field.as_str()) { "preference" } else { "rule" };
        view.closed_field(family, one)
    });
    html(view, &UserPage { v: view, closed: closed.collect(), u, link, is_delegated, today })
}

/// A body of the API, from what a form says.
pub(super) fn body<T: serde::de::DeserializeOwned>(value: Value) -> Result<Json<Object<T>>, Problem> {
    let read = serde_json::from_value::<T>(value);
    read.map(|value| Json(Object(value))).map_err(|error| Problem::bad_request(error.to_string()))
}

async fn save(app: Data<App>, people: Data<People>, view: View, caller: Caller, id: Path<String>, form: Form) -> Page {
    let to = format!("/users/{id}");
    let wanted = json!({
        "enabled": form.is_on("enabled"),
        "mailbox": form.text("mailbox"),
        "sync_from": form.text("sync_from"),
        "todo_list": form.text("todo_list"),
    });
    bindings::put(app, people, caller, id, body(wanted)?).await?;
    Ok(done(&to, view.t("user.saved")))
}

#[derive(Template)]
#[template(path = "todo_lists.html")]
struct ListsPart<'a> {
    v: &'a View,
    lists: Vec<ShownList>,
    chosen: String,
    is_known: bool,
    closed: bool,
}

/// The To Do lists of a mailbox, to choose from. Where they cannot be read the field for a name stays.
pub(super) async fn choice(app: &App, view: &View, id: &str, closed: bool) -> Page {
    let Ok(lists) = bindings::lists_of(app, id).await else { return Ok(HttpResponse::NoContent().finish()) };
    let binding = store::bindings::by_user(app.store().read(), id).await?;
    let chosen = binding.and_then(|binding| binding.todo_list).unwrap_or_default();
    let is_known = lists.iter().any(|list| list.name == chosen || list.id == chosen);
    html(view, &ListsPart { v: view, lists, chosen, is_known, closed })
}

async fn lists(app: Data<App>, view: View, id: Path<String>) -> Page {
    choice(&app, &view, &id, false).await
}

async fn link(app: Data<App>, people: Data<People>, view: View, caller: Caller, id: Path<String>) -> Page {
    let link = bindings::authorize(app.clone(), caller, Path::from(id.clone())).await?.into_inner();
    page(&app, &people, &view, &id, Some(link)).await
}

async fn sync(app: Data<App>, id: Path<String>, form: Form) -> Page {
    let request =
        SyncRequest { user_id: Some(id.into_inner()), dry_run: form.is_on("dry_run"), ..SyncRequest::default() };
    let job = engine::sync(&app, &request).await?;
    Ok(super::redirect(&format!("/jobs/{job}")))
}

async fn unbind(app: Data<App>, view: View, caller: Caller, id: Path<String>) -> Page {
    bindings::delete(app, caller, id).await?;
    Ok(done("/users", view.t("user.unbound")))
}
