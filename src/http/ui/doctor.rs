//! What works and what does not, each with its remedy. Looking takes some seconds, so the page comes first and the report after.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use askama::Template;

use super::view::View;
use super::{Page, admin, guard, html};
use crate::app::App;
use crate::app::doctor::{Report, Verdict};
use crate::http::api;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/doctor", GET show);
    admin!(routes, "/doctor/report", GET report);
}

struct Row {
    state: &'static str,
    name: &'static str,
    detail: String,
    remedy: Option<String>,
}

#[derive(Template)]
#[template(path = "doctor.html")]
struct DoctorPage<'a> {
    v: &'a View,
    /// None while it is being looked at.
    rows: Option<Vec<Row>>,
    failed: usize,
    warned: usize,
}

async fn show(view: View) -> Page {
    html(&view, &DoctorPage { v: &view, rows: None, failed: 0, warned: 0 })
}

async fn report(app: Data<App>, view: View) -> Page {
    let report = api::doctor::show(app).await?.into_inner();
    let warned = report.checks.iter().filter(|check| check.verdict == Verdict::Warning).count();
    let page = DoctorPage { v: &view, failed: report.failed(), warned, rows: Some(rows(&view, report)) };
    html(&view, &page)
}

/// What needs somebody first.
fn rows(v: &View, report: Report) -> Vec<Row> {
    let mut rows: Vec<Row> = report
        .checks
        .into_iter()
        .map(|check| Row {
            state: match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Failed => "failed",
                Verdict::Skipped => "skipped",
            },
            name: check.name,
            detail: v.said(&check.detail),
            remedy: check.remedy.map(|remedy| v.said(&remedy)),
        })
        .collect();
    rows.sort_by_key(|row| ["failed", "warning", "skipped", "ok"].iter().position(|state| *state == row.state));
    rows
}
