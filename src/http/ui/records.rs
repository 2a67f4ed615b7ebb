//! A record: why it is or is not synchronised, both ends and what was agreed, its copies and its switch.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use askama::Template;
use askama::filters::Safe;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;
use sync::Kind;

use super::form::Form;
use super::holds::names;
use super::view::View;
use super::{Page, admin, done, guard, html, redirect};
use crate::app::App;
use crate::http::api::records::{self, Switch};
use crate::http::extract::Object;
use crate::http::page::escape;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/records", GET search);
    routes.service(
        resource("/records/{kind}/{id}", "GET, POST")
            .route(web::get().to(show))
            .route(web::post().to(switch))
            .wrap(from_fn(guard::anyone)),
    );
    admin!(routes, "/items/{user_id}/{id}", GET item);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    kind: String,
    id: String,
    user_id: String,
    item_id: String,
}

#[derive(Template)]
#[template(path = "records.html")]
struct RecordsPage<'a> {
    v: &'a View,
    people: Vec<(String, String)>,
}

async fn search(app: Data<App>, view: View, wanted: Query<Wanted>) -> Page {
    let segment = |text: &str| url::form_urlencoded::byte_serialize(text.trim().as_bytes()).collect::<String>();
    if !wanted.id.trim().is_empty() {
        // The address of a record in EspoCRM will do as well: `…/#Meeting/view/ID`.
        let (kind, id) = match wanted.id.split_once('#').map(|(_, rest)| rest.split('/').collect::<Vec<_>>()) {
            Some(parts) if parts.len() >= 3 => (parts[0].to_lowercase(), parts[2].to_owned()),
            _ => (wanted.kind.clone(), wanted.id.clone()),
        };
        return Ok(redirect(&format!("/records/{}/{}", segment(&kind), segment(&id))));
    }
    if !wanted.item_id.trim().is_empty() {
        return Ok(redirect(&format!("/items/{}/{}", segment(&wanted.user_id), segment(&wanted.item_id))));
    }
    let mut people: Vec<(String, String)> = names(&app, &view).await?.into_iter().collect();
    people.sort_by(|a, b| a.1.cmp(&b.1));
    html(&view, &RecordsPage { v: &view, people })
}

struct Row {
    field: String,
    base_espo: String,
    espo: String,
    base_outlook: String,
    outlook: String,
}

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage<'a> {
    v: &'a View,
    title: String,
    kind: String,
    record_id: Option<String>,
    summary: String,
    synchronised: bool,
    enabled: bool,
    may_switch: bool,
    reasons: Vec<String>,
    rows: Vec<Row>,
    steps: Vec<String>,
    verdict: String,
    copies: Vec<(String, String)>,
    facts: Vec<(String, Safe<String>)>,
    holds: usize,
    dead: Vec<(String, String)>,
}

async fn show(app: Data<App>, view: View, caller: Caller, path: Path<(Kind, String)>) -> Page {
    let told = records::show(app.clone(), caller.clone(), path).await?.into_inner();
    page(&app, &view, &caller, &told).await
}

async fn item(app: Data<App>, view: View, caller: Caller, path: Path<(String, String)>) -> Page {
    let place = Query(records::InList { list: None });
    let told = records::item(app.clone(), path, place).await?.into_inner();
    page(&app, &view, &caller, &told).await
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

async fn page(app: &App, view: &View, caller: &Caller, told: &Value) -> Page {
    let names = names(app, view).await?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let is = |key: &str| told.get(key).and_then(Value::as_bool).unwrap_or_default();
    let at = |path: &str| told.pointer(path);
    let name = |id: String| names.get(&id).cloned().unwrap_or(id);
    let rows = rows(view, told);
    let kind = text(told, "kind").unwrap_or_default();
    let title = rows.iter().find(|row| row.field == view.word("field", "title"));
    let title = title.map(|row| if row.espo == "–" { row.outlook.clone() } else { row.espo.clone() });
    let copies = told.get("replicas").and_then(Value::as_array).into_iter().flatten().map(|copy| {
        (name(text(copy, "user").unwrap_or_default()), view.word("copy", &text(copy, "role").unwrap_or_default()))
    });
    let steps = at("/decision/steps").and_then(Value::as_array).into_iter().flatten();
    let steps = steps.filter_map(|step| Some(view.said(&text(step, "reason")?)));
    let mut facts = Vec::new();
    for (label, pointer) in [
        ("record.owner", "/link/owner"),
        ("record.modified_espo", "/espo/modified"),
        ("record.modified_outlook", "/outlook/modified"),
        ("record.reconciled", "/link/reconciled"),
    ] {
        if let Some(found) = at(pointer).and_then(Value::as_str) {
            let moment = DateTime::parse_from_rfc3339(found).ok().filter(|_| pointer != "/link/owner");
            let shown = match moment {
                Some(at) => view.when(&at.to_utc()),
                None => Safe(escape(&name(found.to_owned()))),
            };
            facts.push((view.t(label).to_owned(), shown));
        }
    }
    let dead = told.get("dead_letters").and_then(Value::as_array).into_iter().flatten();
    let dead =
        dead.map(|one| (text(one, "id").unwrap_or_default(), view.said(&text(one, "error").unwrap_or_default())));
    let page = RecordPage {
        v: view,
        title: title.filter(|title| title != "–").unwrap_or_else(|| view.word("kind", &kind)),
        record_id: text(told, "record_id"),
        summary: text(told, "summary").map(|text| view.said(&text)).unwrap_or_default(),
        synchronised: is("synchronised"),
        enabled: is("enabled"),
        may_switch: caller.must_edit("records").is_ok(),
        reasons: texts(told.get("reasons")).iter().map(|text| view.said(text)).collect(),
        steps: steps.collect(),
        verdict: view.said(at("/decision/verdict").and_then(Value::as_str).unwrap_or_default()),
        copies: copies.collect(),
        holds: told.get("holds").and_then(Value::as_array).map_or(0, Vec::len),
        dead: dead.collect(),
        kind,
        rows,
        facts,
    };
    html(view, &page)
}

/// Field by field: what was agreed, and what stands on both sides now.
fn rows(v: &View, told: &Value) -> Vec<Row> {
    let mut fields: Vec<&String> = Vec::new();
    for pointer in ["/base", "/espo/values", "/outlook/values"] {
        for field in told.pointer(pointer).and_then(Value::as_object).into_iter().flat_map(|map| map.keys()) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
    }
    const ORDER: [&str; 4] = ["title", "time", "status", "location"];
    fields.sort_by_key(|field| ORDER.iter().position(|known| known == field).unwrap_or(ORDER.len()));
    let show = |pointer: String| told.pointer(&pointer).map_or_else(|| "–".to_owned(), |value| v.value(value));
    let row = |field: &String| {
        let key = field.replace('~', "~0").replace('/', "~1");
        Row {
            field: v.word("field", field),
            base_espo: show(format!("/base/{key}/espo")),
            espo: show(format!("/espo/values/{key}")),
            base_outlook: show(format!("/base/{key}/outlook")),
            outlook: show(format!("/outlook/values/{key}")),
        }
    };
    // What is empty everywhere says nothing.
    let says = |row: &Row| [&row.espo, &row.base_espo, &row.outlook, &row.base_outlook].iter().any(|text| *text != "–");
    fields.into_iter().map(row).filter(says).collect()
}

async fn switch(app: Data<App>, view: View, caller: Caller, path: Path<(Kind, String)>, form: Form) -> Page {
    let to = format!("/records/{}/{}", path.0, path.1);
    let enabled = form.is_on("enabled");
    records::switch(app, caller, path, Json(Object(Switch { enabled }))).await?;
    Ok(done(&to, view.t(if enabled { "record.switched_on" } else { "record.switched_off" })))
}
