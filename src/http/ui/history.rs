//! What was changed, with old and new side by side, and taking it back.

use std::collections::BTreeMap;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, Query, ServiceConfig};
use askama::Template;
use serde::{Deserialize, Serialize};
use store::history::{ChangeType, Direction, Entry, Filter};
use sync::{Field, Kind};

use super::form::Form;
use super::holds::names;
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::api::history::ShownEntry;
use crate::http::api::{moment, word};
use crate::http::engine;
use crate::http::problem::Problem;
use crate::http::resource;

const PAGE: u64 = 50;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/history", GET list);
    admin!(routes, "/history/{id}", GET show, POST revert);
}

/// An entry with names for its ids.
pub(super) struct Row {
    pub entry: ShownEntry,
    pub title: String,
    pub user: String,
}

/// Entries with the names that people know.
pub(super) async fn rows(app: &App, view: &View, entries: Vec<Entry>) -> Result<Vec<Row>, Problem> {
    let names = names(app, view).await?;
    let mut titles: BTreeMap<String, String> = BTreeMap::new();
    let mut rows = Vec::new();
    for entry in entries {
        let title = match own_title(&entry) {
            Some(title) => title,
            None => of_link(app, &mut titles, entry.link_id.as_deref()).await?,
        };
        let user = entry.user_id.as_ref().map(|id| names.get(id).unwrap_or(id).clone()).unwrap_or_default();
        rows.push(Row { title, user, entry: entry.into() });
    }
    Ok(rows)
}

fn own_title(entry: &Entry) -> Option<String> {
    let change = entry.changes.iter().find(|change| change.field == Field::Title)?;
    let value = change.new.as_ref().or(change.old.as_ref())?;
    Some(value.to_string()).filter(|title| !title.is_empty())
}

async fn of_link(app: &App, known: &mut BTreeMap<String, String>, id: Option<&str>) -> Result<String, Problem> {
    let Some(id) = id else { return Ok(String::new()) };
    if let Some(title) = known.get(id) {
        return Ok(title.clone());
    }
    let link = store::links::by_id(app.store().read(), id).await?;
    let title =
        link.and_then(|link| link.base.get(&Field::Title).map(|agreed| agreed.espo.to_string())).unwrap_or_default();
    known.insert(id.to_owned(), title.clone());
    Ok(title)
}

/// Which entries, as the form above the list says it.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Which {
    pub kind: String,
    pub record_id: String,
    pub user_id: String,
    pub direction: String,
    pub r#type: String,
    pub since: String,
    pub until: String,
    pub cursor: String,
}

impl Which {
    pub fn filter(&self) -> Result<Filter, Problem> {
        let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let kind = some(&self.kind).map(|kind| kind.parse::<Kind>()).transpose();
        Ok(Filter {
            kind: kind.map_err(|_| Problem::bad_request("kind: meeting, call or task"))?,
            record_id: some(&self.record_id),
            user_id: some(&self.user_id),
            direction: word::<Direction>("direction", Some(&self.direction), &["to_espo", "to_outlook"])?,
            change_type: word::<ChangeType>("type", Some(&self.r#type), &["create", "update", "delete"])?,
            since: moment("since", Some(&self.since))?,
            until: moment("until", Some(&self.until))?,
        })
    }

    /// The address of the next page.
    fn next(&self, base: &str, cursor: &str) -> String {
        let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        format!("{}&cursor={cursor}", self.address(base, base))
    }

    /// The same choice on another page; `base` is the list that it was made on.
    fn address(&self, page: &str, base: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("kind", &self.kind),
            ("record_id", &self.record_id),
            ("user_id", &self.user_id),
            ("direction", &self.direction),
            ("type", &self.r#type),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let is_own = base != "/history";
        for (name, value) in
            fields.into_iter().filter(|(name, value)| !(value.is_empty() || is_own && *name == "user_id"))
        {
            query.append_pair(name, value);
        }
        format!("{page}?{}", query.finish())
    }
}

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage<'a> {
    v: &'a View,
    rows: Vec<Row>,
    which: &'a Which,
    people: Vec<(String, String)>,
    next: Option<String>,
    is_filtered: bool,
    base: &'static str,
    /// Where all of these can be taken back.
    revert: Option<String>,
}

async fn list(app: Data<App>, view: View, which: Query<Which>) -> Page {
    list_of(&app, &view, &which, "/history").await
}

/// A list; `base` is where it is. On one's own list there are no other people to choose from.
pub(super) async fn list_of(app: &App, view: &View, which: &Which, base: &'static str) -> Page {
    let filter = which.filter()?;
    let cursor = Some(which.cursor.as_str()).filter(|cursor| !cursor.is_empty());
    let page = store::history::page(app.store().read(), &filter, cursor, PAGE).await?;
    let is_own = base != "/history";
    let mut people: Vec<(String, String)> = Vec::new();
    if !is_own {
        people.extend(names(app, view).await?);
        people.sort_by(|a, b| a.1.cmp(&b.1));
    }
    let whole = Filter { user_id: filter.user_id.clone().filter(|_| is_own), ..Filter::default() };
    let page = HistoryPage {
        v: view,
        rows: rows(app, view, page.items).await?,
        next: page.next.map(|cursor| which.next(base, &cursor)),
        is_filtered: filter != whole,
        people,
        revert: (filter.record_id.is_some() || filter.since.is_some()).then(|| which.address("/history/revert", base)),
        which,
        base,
    };
    html(view, &page)
}

#[derive(Template)]
#[template(path = "entry.html")]
struct EntryPage<'a> {
    v: &'a View,
    row: Row,
    base: &'static str,
}

/// One entry; `base` is where the list is.
pub(super) async fn entry(app: &App, view: &View, found: Entry, base: &'static str) -> Page {
    let row = rows(app, view, vec![found]).await?.pop().ok_or_else(|| Problem::not_found("there is no such entry"))?;
    html(view, &EntryPage { v: view, row, base })
}

pub(super) async fn find(app: &App, id: &str) -> Result<Entry, Problem> {
    let entry = store::history::get(app.store().read(), id).await?;
    entry.ok_or_else(|| Problem::not_found(format!("there is no history entry `{id}`")))
}

async fn show(app: Data<App>, view: View, id: Path<String>) -> Page {
    let found = find(&app, &id).await?;
    entry(&app, &view, found, "/history").await
}

async fn revert(app: Data<App>, view: View, id: Path<String>, form: Form) -> Page {
    let done_by = engine::revert(&app, id.into_inner(), form.is_on("force")).await?.reverted;
    let to = done_by.first().map_or_else(|| "/history".to_owned(), |id| format!("/history/{id}"));
    Ok(done(&to, view.t("history.reverted")))
}
