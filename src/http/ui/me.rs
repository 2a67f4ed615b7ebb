//! One's own synchronisation: mailbox, start date, list, rules, history, and running it now. What a role closes is said.

use std::collections::BTreeMap;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::holds::HoldState;

use super::form::Form;
use super::history::{Which, entry, find, list_of};
use super::holds;
use super::rules::{KNOWN, Section, of_user, own_sections, replace};
use super::users::body;
use super::view::{ClosedField, View};
use super::{Page, done, guard, html, redirect};
use crate::app::App;
use crate::config::Mode;
use crate::http::access::PREFERENCES;
use crate::http::api::bindings;
use crate::http::api::records::{ShownPair, list_of as list_of_pairs};
use crate::http::api::settings::Access;
use crate::http::api::sync::decide;
use crate::http::api::users::{self, People, Shown};
use crate::http::engine::{self, SyncRequest};
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

macro_rules! own {
    ($routes:expr, $path:expr, GET $get:path) => {
        $routes.service(resource($path, "GET").route(web::get().to($get)).wrap(from_fn(guard::anyone)))
    };
    ($routes:expr, $path:expr, POST $post:path) => {
        $routes.service(resource($path, "POST").route(web::post().to($post)).wrap(from_fn(guard::anyone)))
    };
    ($routes:expr, $path:expr, GET $get:path, POST $post:path) => {
        $routes.service(
            resource($path, "GET, POST")
                .route(web::get().to($get))
                .route(web::post().to($post))
                .wrap(from_fn(guard::anyone)),
        )
    };
}

pub(super) fn configure(routes: &mut ServiceConfig) {
    own!(routes, "/me", GET show, POST save);
    own!(routes, "/me/token", POST token);
    own!(routes, "/me/lists", GET lists);
    own!(routes, "/me/records", GET records);
    own!(routes, "/me/holds/{id}", POST hold);
    own!(routes, "/me/sync", POST sync);
    own!(routes, "/me/rules", GET rules, POST save_rules);
    own!(routes, "/me/history", GET history);
    own!(routes, "/me/history/{id}", GET change, POST revert);
}

/// One's id in EspoCRM; the holder of the admin token has none.
fn own(caller: &Caller) -> Result<String, Problem> {
    let none =
        "You are signed in with the admin token: sign in with your EspoCRM user name to see your own synchronisation.";
    caller.user_id.clone().ok_or_else(|| Problem::conflict(none))
}

/// A preference: what may be done with it.
struct May {
    enabled: Access,
    token: Access,
    sync_from: Access,
    todo_list: Access,
    sync: Access,
    records: Access,
    history: Access,
}

#[derive(Template)]
#[template(path = "me.html")]
struct MePage<'a> {
    v: &'a View,
    u: Shown,
    may: May,
    is_delegated: bool,
    is_ready: bool,
    /// Whether the service can write in the user's name.
    has_account: bool,
    link: Option<String>,
    today: String,
    closed: Vec<ClosedField>,
    /// What waits for a word about one's own.
    holds: Vec<holds::Shown>,
}

impl May {
    fn any_edit(&self) -> bool {
        [self.enabled, self.sync_from, self.todo_list].contains(&Access::Edit)
    }
}

async fn show(app: Data<App>, people: Data<People>, view: View, caller: Caller) -> Page {
    page(&app, &people, &view, &caller, None).await
}

async fn page(app: &App, people: &People, view: &View, caller: &Caller, link: Option<String>) -> Page {
    let id = own(caller)?;
    let u = users::one(app, people, &id).await?;
    let open = store::holds::list(app.store().read(), Some(HoldState::Open)).await?;
    let open = open.into_iter().filter(|hold| hold.user_id == id);
    let access = |field| caller.access(field);
    let may = May {
        enabled: access("enabled"),
        token: access("token"),
        sync_from: access("sync_from"),
        todo_list: access("todo_list"),
        sync: access("sync"),
        records: access("records"),
        history: access("history"),
    };
    let page = MePage {
        v: view,
        closed: view.all_closed("preference", PREFERENCES),
        may,
        u,
        is_delegated: app.connections().settings().microsoft.mode == Mode::Delegated,
        is_ready: app.connections().microsoft().is_some(),
        has_account: app.connections().espocrm().is_some_and(|espo| espo.client.can_act_as_users()),
        link,
        today: view.now.date_naive().to_string(),
        holds: open.map(|hold| holds::shown(view, &BTreeMap::new(), hold)).collect(),
    };
    html(view, &page)
}

async fn save(app: Data<App>, people: Data<People>, view: View, caller: Caller, form: Form) -> Page {
    let id = own(&caller)?;
    let mut wanted = Map::new();
    // Closed fields are not in the form; a box that is not ticked is not sent, so the form says that it had one.
    if form.is_on("has_enabled") {
        wanted.insert("enabled".to_owned(), json!(form.is_on("enabled")));
    }
    if let Some(day) = form.text("sync_from") {
        wanted.insert("sync_from".to_owned(), json!(day));
    }
    if form.raw("todo_list").is_some() {
        wanted.insert("todo_list".to_owned(), json!(form.text("todo_list")));
    }
    bindings::put(app, people, caller, Path::from(id), body(Value::Object(wanted))?).await?;
    Ok(done("/me", view.t("user.saved")))
}

/// A form must not lead to another site (Content Security Policy, `form-action`): a script goes there by itself, and without
/// one there is a link to follow.
async fn token(app: Data<App>, people: Data<People>, request: HttpRequest, view: View, caller: Caller) -> Page {
    let id = own(&caller)?;
    caller.must_edit("token")?;
    if store::bindings::by_user(app.store().read(), &id).await?.is_none() {
        let enable = body(json!({ "enabled": true }))?;
        bindings::put(app.clone(), people.clone(), caller.clone(), Path::from(id.clone()), enable).await?;
    }
    let link = bindings::authorize(app.clone(), caller.clone(), Path::from(id)).await?.into_inner().url;
    if request.headers().contains_key("HX-Request") {
        return Ok(HttpResponse::Ok().insert_header(("HX-Redirect", link)).finish());
    }
    page(&app, &people, &view, &caller, Some(link)).await
}

async fn lists(app: Data<App>, view: View, caller: Caller) -> Page {
    let id = own(&caller)?;
    caller.must_read("todo_list")?;
    super::users::choice(&app, &view, &id, caller.must_edit("todo_list").is_err()).await
}

async fn hold(app: Data<App>, view: View, caller: Caller, id: Path<String>, form: Form) -> Page {
    let (decision, said) = holds::decision_of(&form)?;
    decide(&app, &caller, &id, decision).await?;
    Ok(done("/me", view.t(said)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pairs {
    kind: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "my_records.html")]
struct RecordsPage<'a> {
    v: &'a View,
    which: &'a Pairs,
    rows: Vec<(ShownPair, String)>,
    next: Option<String>,
}

async fn records(app: Data<App>, view: View, caller: Caller, which: Query<Pairs>) -> Page {
    const PAGE: u64 = 50;
    caller.must_read("records")?;
    let kind = Some(which.kind.as_str()).filter(|kind| !kind.is_empty()).map(str::parse).transpose();
    let kind = kind.map_err(|_| Problem::bad_request("kind: meeting, call or task"))?;
    let cursor = Some(which.cursor.as_str()).filter(|cursor| !cursor.is_empty());
    let page = list_of_pairs(&app, &own(&caller)?, kind, cursor, PAGE).await?;
    let next = page.next_cursor.map(|cursor| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        format!("/me/records?{}", query.append_pair("kind", &which.kind).append_pair("cursor", &cursor).finish())
    });
    let row = |pair: ShownPair| {
        let time = view.value(&pair.time);
        (pair, time)
    };
    let rows = page.items.into_iter().map(row).collect();
    html(&view, &RecordsPage { v: &view, which: &which, rows, next })
}

async fn sync(app: Data<App>, caller: Caller, form: Form) -> Page {
    let user_id = Some(own(&caller)?);
    caller.must_edit("sync")?;
    let request = SyncRequest { user_id, dry_run: form.is_on("dry_run"), ..SyncRequest::default() };
    let job = engine::sync(&app, &request).await?;
    Ok(redirect(&format!("/jobs/{job}")))
}

#[derive(Template)]
#[template(path = "my_rules.html")]
struct RulesPage<'a> {
    v: &'a View,
    sections: Vec<Section>,
    closed: Vec<ClosedField>,
}

async fn rules(app: Data<App>, view: View, caller: Caller) -> Page {
    let (own, below) = of_user(&app, &own(&caller)?).await?;
    let closed = view.all_closed("rule", KNOWN.iter().map(|(name, _)| *name));
    html(&view, &RulesPage { v: &view, sections: own_sections(&view, &own, &below, &caller), closed })
}

async fn save_rules(app: Data<App>, view: View, caller: Caller, form: Form) -> Page {
    replace(&app, &caller, &own(&caller)?, &form).await?;
    Ok(done("/me/rules", view.t("user.saved")))
}

async fn history(app: Data<App>, view: View, caller: Caller, which: Query<Which>) -> Page {
    caller.must_read("history")?;
    let which = Which { user_id: own(&caller)?, ..which.into_inner() };
    list_of(&app, &view, &which, "/me/history").await
}

async fn change(app: Data<App>, view: View, caller: Caller, id: Path<String>) -> Page {
    caller.must_read("history")?;
    let found = find(&app, &id).await?;
    caller.must_be(found.user_id.as_deref().unwrap_or_default())?;
    entry(&app, &view, found, "/me/history").await
}

async fn revert(app: Data<App>, view: View, caller: Caller, id: Path<String>, form: Form) -> Page {
    let done_by =
        crate::http::api::history::take_back(&app, &caller, id.into_inner(), form.is_on("force")).await?.reverted;
    let to = done_by.first().map_or_else(|| "/me/history".to_owned(), |id| format!("/me/history/{id}"));
    Ok(done(&to, view.t("history.reverted")))
}
