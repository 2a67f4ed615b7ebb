//! Who has done what, and what came of it.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Query, ServiceConfig};
use askama::Template;
use serde::Deserialize;
use store::audit::{Entry, Filter};

use super::view::View;
use super::{Page, admin, guard, html};
use crate::app::App;
use crate::http::api::moment;
use crate::http::resource;

const PAGE: u64 = 50;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/audit", GET list);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Which {
    actor: String,
    since: String,
    until: String,
    cursor: String,
}

struct Row {
    entry: Entry,
    /// What was sent, a line each.
    told: Vec<String>,
    tone: &'static str,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage<'a> {
    v: &'a View,
    rows: Vec<Row>,
    which: &'a Which,
    next: Option<String>,
}

async fn list(app: Data<App>, view: View, which: Query<Which>) -> Page {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = Filter {
        actor: some(&which.actor),
        action: None,
        since: moment("since", Some(&which.since))?,
        until: moment("until", Some(&which.until))?,
    };
    let page = store::audit::page(app.store().read(), &filter, some(&which.cursor).as_deref(), PAGE).await?;
    let next = page.next.map(|cursor| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in [("actor", &which.actor), ("since", &which.since), ("until", &which.until)] {
            query.append_pair(key, value);
        }
        format!("/audit?{}", query.append_pair("cursor", &cursor).finish())
    });
    let rows = page.items.into_iter().map(|entry| row(&view, entry)).collect();
    html(&view, &AuditPage { v: &view, rows, which: &which, next })
}

fn row(v: &View, entry: Entry) -> Row {
    let told = entry.detail.as_object().into_iter().flatten();
    // Of a form, fields that were left empty say nothing.
    let told = told
        .filter(|(_, value)| value.as_str() != Some(""))
        .map(|(name, value)| format!("{name}: {}", v.value(value)))
        .collect();
    let tone = match entry.status {
        Some(200..400) => "ok",
        Some(_) => "bad",
        None => "idle",
    };
    Row { told, tone, entry }
}
