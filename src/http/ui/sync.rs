//! Synchronising by hand, with a preview and live progress.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, ServiceConfig};
use askama::Template;
use serde_json::Value;
use store::jobs::{Job, JobState};

use super::form::Form;
use super::holds::names;
use super::view::View;
use super::{Page, admin, guard, html, redirect};
use crate::app::App;
use crate::http::api::sync::of_job;
use crate::http::engine::{self, SyncRequest, Way};
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/sync", GET show, POST start);
    routes.service(resource("/jobs/{id}", "GET").route(web::get().to(job)).wrap(from_fn(guard::anyone)));
}

struct Row {
    job: Job,
    what: String,
}

#[derive(Template)]
#[template(path = "sync.html")]
struct SyncPage<'a> {
    v: &'a View,
    jobs: Vec<Row>,
    people: Vec<(String, String)>,
}

async fn show(app: Data<App>, view: View) -> Page {
    let names = names(&app, &view).await?;
    let jobs = store::jobs::list(app.store().read(), 20).await?;
    let jobs = jobs.into_iter().map(|job| Row { what: what(&view, &job, |id| names.get(id).cloned()), job }).collect();
    let mut people: Vec<(String, String)> = names.clone().into_iter().collect();
    people.sort_by(|a, b| a.1.cmp(&b.1));
    html(&view, &SyncPage { v: &view, jobs, people })
}

/// What was asked for, in words.
fn what(v: &View, job: &Job, name: impl Fn(&str) -> Option<String>) -> String {
    let text = |key: &str| job.request.get(key).and_then(Value::as_str);
    let is = |key: &str| job.request.get(key).and_then(Value::as_bool).unwrap_or_default();
    let mut words = vec![
        match () {
            () if is("relink") => v.t("job.relink"),
            () if is("first") => v.t("cause.first_sync"),
            () if is("dry_run") => v.t("user.preview"),
            () => v.t("job.sync"),
        }
        .to_owned(),
    ];
    words.extend(text("kind").map(|kind| v.word("kinds", kind)));
    words.extend(text("direction").map(|direction| v.word("direction", direction)));
    words.extend(text("user_id").map(|id| name(id).unwrap_or_else(|| id.to_owned())));
    words.join(" · ")
}

async fn start(app: Data<App>, form: Form) -> Page {
    let kind = form.text("kind").map(str::parse).transpose();
    let direction = match form.text("direction") {
        Some("to_outlook") => Some(Way::ToOutlook),
        Some("to_espo") => Some(Way::ToEspo),
        _ => None,
    };
    let request = SyncRequest {
        kind: kind.map_err(|_| Problem::bad_request("kind: meeting, call or task"))?,
        direction,
        user_id: form.text("user_id").map(str::to_owned),
        dry_run: form.is_on("dry_run"),
    };
    let id = engine::sync(&app, &request).await?;
    Ok(redirect(&format!("/jobs/{id}")))
}

/// A user's part of a preview.
struct Part {
    user: String,
    numbers: Vec<(String, u64)>,
    lines: Vec<Line>,
}

/// What would be done about one record, item or pair.
pub(super) struct Line {
    pub what: String,
    pub to: String,
    pub kind: String,
    pub title: String,
    pub why: String,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage<'a> {
    v: &'a View,
    job: Job,
    what: String,
    is_over: bool,
    numbers: Vec<(String, u64)>,
    total: Vec<(String, u64)>,
    parts: Vec<Part>,
    is_preview: bool,
    again: Option<String>,
}

async fn job(app: Data<App>, view: View, caller: Caller, id: Path<String>) -> Page {
    let job = of_job(&app, &caller, &id).await?;
    let names = names(&app, &view).await?;
    let is = |key: &str| job.request.get(key).and_then(Value::as_bool).unwrap_or_default();
    let is_preview = is("dry_run");
    let counters = [
        ("created", job.counters.created),
        ("updated", job.counters.updated),
        ("deleted", job.counters.deleted),
        ("skipped", job.counters.skipped),
        ("failed", job.counters.failed),
    ];
    let preview = job.preview.clone().unwrap_or_default();
    let parts = preview.get("users").and_then(Value::as_object).into_iter().flatten();
    let parts = parts.map(|(id, part)| Part {
        user: names.get(id).unwrap_or(id).clone(),
        numbers: numbers(&view, part),
        lines: lines(&view, part),
    });
    let page = JobPage {
        what: what(&view, &job, |id| names.get(id).cloned()),
        is_over: matches!(job.state, JobState::Done | JobState::Failed),
        numbers: counters.into_iter().map(|(name, n)| (view.word("job", name), n)).collect(),
        total: numbers(&view, preview.get("total").unwrap_or(&preview)),
        parts: parts.collect(),
        again: (is_preview && !is("relink") && caller.is_admin).then(String::new),
        v: &view,
        is_preview,
        job,
    };
    html(&view, &page)
}

/// The numbers of a preview.
pub(super) fn numbers(v: &View, preview: &Value) -> Vec<(String, u64)> {
    let names = ["creates", "updates", "deletes", "matches", "skips", "invitations"];
    names.into_iter().filter_map(|name| Some((v.word("preview", name), preview.get(name)?.as_u64()?))).collect()
}

/// The same, one by one.
pub(super) fn lines(v: &View, preview: &Value) -> Vec<Line> {
    let line = |line: &Value| {
        let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
        let word =
            |family: &str, key: &str| if text(key).is_empty() { String::new() } else { v.word(family, text(key)) };
        Line {
            what: word("line", "what"),
            to: word("side", "to"),
            kind: word("kind", "kind"),
            title: text("title").to_owned(),
            why: v.said(text("why")),
        }
    };
    preview.get("lines").and_then(Value::as_array).into_iter().flatten().map(line).collect()
}
