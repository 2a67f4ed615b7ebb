//! What was received: inspect, look at again, discard; one or many.

use std::collections::BTreeMap;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, Query, ServiceConfig};
use askama::Template;
use serde::Deserialize;
use serde_json::Value;
use store::messages::{Filter, MessageState};
use sync::{Field, Kind, Target};

use super::form::Form;
use super::holds::names;
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::api::messages::{self, ShownMessage};
use crate::http::api::{moment, word};
use crate::http::problem::Problem;
use crate::http::resource;
use crate::work::received;

const PAGE: u64 = 50;
const STATES: [&str; 6] = ["dead", "queued", "leased", "parked", "done", "superseded"];

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/messages", GET list, POST many);
    admin!(routes, "/messages/{id}", GET show, POST one);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Which {
    state: String,
    since: String,
    until: String,
    cursor: String,
}

struct Row {
    message: ShownMessage,
    /// What it is about: the title, where it is known.
    about: String,
    /// What kind of thing that is, beside its title.
    sub: String,
    href: Option<String>,
}

#[derive(Template)]
#[template(path = "messages.html")]
struct MessagesPage<'a> {
    v: &'a View,
    rows: Vec<Row>,
    which: &'a Which,
    states: [&'static str; 6],
    next: Option<String>,
    dead: u64,
}

async fn list(app: Data<App>, view: View, which: Query<Which>) -> Page {
    let filter = Filter {
        state: word::<MessageState>("state", Some(&which.state), &STATES)?,
        since: moment("since", Some(&which.since))?,
        until: moment("until", Some(&which.until))?,
        ..Filter::default()
    };
    let cursor = Some(which.cursor.as_str()).filter(|cursor| !cursor.is_empty());
    received::show(&app).await;
    let page = store::messages::page(app.store().read(), &filter, cursor, PAGE).await?;
    let names = names(&app, &view).await?;
    let name = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
    let messages: Vec<ShownMessage> = page.items.into_iter().map(Into::into).collect();
    let titles = titles(&app, messages.iter().map(|message| &message.target)).await?;
    let rows = messages.into_iter().map(|message| row(&view, message, &titles, name));
    let next = page.next.map(|cursor| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in [("state", &which.state), ("since", &which.since), ("until", &which.until)] {
            query.append_pair(key, value);
        }
        format!("/messages?{}", query.append_pair("cursor", &cursor).finish())
    });
    let page =
        MessagesPage { v: &view, rows: rows.collect(), which: &which, states: STATES, next, dead: view.waiting.dead };
    html(&view, &page)
}

type Titles = BTreeMap<(Kind, String), String>;

/// Titles of the records, as far as they are linked.
async fn titles(app: &App, targets: impl Iterator<Item = &Target>) -> Result<Titles, Problem> {
    let mut ids: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for target in targets {
        if let Target::Record { kind, id } = target {
            ids.entry(*kind).or_default().push(id.clone());
        }
    }
    let mut titles = Titles::new();
    for (kind, ids) in ids {
        for link in store::links::by_records(app.store().read(), kind, &ids).await? {
            let title = link.base.get(&Field::Title).map(|agreed| agreed.espo.to_string()).unwrap_or_default();
            if let Some(id) = link.record_id.filter(|_| !title.is_empty()) {
                titles.insert((kind, id), title);
            }
        }
    }
    Ok(titles)
}

fn row(v: &View, message: ShownMessage, titles: &Titles, name: impl Fn(&str) -> String) -> Row {
    let title = match &message.target {
        Target::Record { kind, id } => titles.get(&(*kind, id.clone())),
        _ => None,
    };
    let (about, href) = match &message.target {
        Target::Record { kind, id } => {
            (format!("{} {id}", v.word("kind", kind.as_str())), Some(format!("/records/{kind}/{id}")))
        }
        Target::Mailbox { user } => (v.f1("message.mailbox", name(user)), Some(format!("/users/{user}"))),
        target => {
            let target = serde_json::to_value(target).unwrap_or_default();
            let user = find(&target, "user").unwrap_or_default();
            (v.f1("message.item", name(&user)), Some(format!("/users/{user}")).filter(|_| !user.is_empty()))
        }
    };
    let (about, sub) = match (title, &message.target) {
        (Some(title), Target::Record { kind, .. }) => (title.clone(), v.word("kind", kind.as_str())),
        _ => (about, String::new()),
    };
    Row { about, sub, href, message }
}

/// A text of that name, however deep.
fn find(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Object(map) => match map.get(key).and_then(Value::as_str) {
            Some(text) => Some(text.to_owned()),
            None => map.values().find_map(|value| find(value, key)),
        },
        _ => None,
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    v: &'a View,
    row: Row,
    target: String,
}

async fn show(app: Data<App>, view: View, id: Path<String>) -> Page {
    let message = messages::show(app.clone(), id).await?.into_inner();
    let names = names(&app, &view).await?;
    let target = serde_json::to_string_pretty(&message.target).unwrap_or_default();
    let titles = titles(&app, std::iter::once(&message.target)).await?;
    let row = row(&view, message, &titles, |id| names.get(id).cloned().unwrap_or_else(|| id.to_owned()));
    html(&view, &MessagePage { v: &view, row, target })
}

async fn one(app: Data<App>, view: View, id: Path<String>, form: Form) -> Page {
    match form.text("do") {
        Some("replay") => {
            messages::replay(app, id.clone().into()).await?;
            Ok(done(&format!("/messages/{id}"), view.t("message.replayed")))
        }
        Some("discard") => {
            messages::delete(app, id).await?;
            Ok(done("/messages?state=dead", view.t("message.deleted")))
        }
        _ => Err(Problem::bad_request("do: replay or discard")),
    }
}

async fn many(app: Data<App>, view: View, form: Form) -> Page {
    let ids = form.all("id");
    let all_dead = form.is_on("all_dead");
    if ids.is_empty() && !all_dead {
        return Err(Problem::bad_request(view.t("message.none_chosen")));
    }
    match form.text("do") {
        Some("replay") => {
            let chosen = Filter { ids: Some(ids), ..Filter::default() };
            let dead = Filter { state: Some(MessageState::Dead), ..Filter::default() };
            let count = messages::again(&app, if all_dead { &dead } else { &chosen }).await?;
            Ok(done("/messages", view.f1("message.replayed_many", count)))
        }
        Some("discard") => {
            let chosen = Filter { ids: Some(ids), ..Filter::default() };
            let dead = Filter { state: Some(MessageState::Dead), ..Filter::default() };
            let done_with = messages::discard(&app, if all_dead { &dead } else { &chosen }).await?;
            let count = done_with.into_inner().discarded;
            Ok(done("/messages?state=dead", view.f1("message.deleted_many", count)))
        }
        _ => Err(Problem::bad_request("do: replay or discard")),
    }
}
