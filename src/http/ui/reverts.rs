//! Taking many changes back: first what that would do, then doing it.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Query, ServiceConfig};
use askama::Template;
use store::history::Filter;

use super::form::Form;
use super::history::{Row, Which, rows};
use super::view::View;
use super::{Page, admin, guard, html};
use crate::app::App;
use crate::http::engine::{self, Skipped};
use crate::http::problem::Problem;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/history/revert", GET preview, POST revert);
}

#[derive(Template)]
#[template(path = "reverts.html")]
struct PreviewPage<'a> {
    v: &'a View,
    which: &'a Which,
    rows: Vec<Row>,
    /// What is left as it is, and why.
    kept: Vec<(Row, String)>,
    more: bool,
    /// To delete, to put back, to bring back.
    numbers: Vec<(String, u64)>,
    base: &'static str,
}

fn filter(which: &Which) -> Result<Filter, Problem> {
    // Kind, direction and type are not asked for: half of what happened to a record is no state that it ever was in.
    let all = which.filter()?;
    let filter = Filter {
        record_id: all.record_id,
        user_id: all.user_id,
        since: all.since,
        until: all.until,
        ..Filter::default()
    };
    if filter.record_id.is_none() && filter.since.is_none() {
        let detail = "give a record, or a time from which on: everything at once is never taken back";
        return Err(Problem::bad_request(detail));
    }
    Ok(filter)
}

async fn preview(app: Data<App>, view: View, which: Query<Which>) -> Page {
    let filter = filter(&which)?;
    let found = engine::preview_range(&app, &filter, false).await?;
    let (open, reasons) = (found.open, found.skipped);
    let (kept, reasons): (Vec<_>, Vec<_>) = reasons.into_iter().unzip();
    let count = |word: &str| open.iter().filter(|entry| entry.change_type.as_str() == word).count() as u64;
    let numbers =
        [("create", "reverts.to_delete"), ("update", "reverts.to_put_back"), ("delete", "reverts.to_restore")];
    let numbers = numbers.into_iter().map(|(word, key)| (view.t(key).to_owned(), count(word))).collect();
    let page = PreviewPage {
        v: &view,
        which: &which,
        more: found.more,
        numbers,
        rows: rows(&app, &view, open).await?,
        kept: rows(&app, &view, kept).await?.into_iter().zip(reasons.iter().map(|reason| view.said(reason))).collect(),
        base: "/history",
    };
    html(&view, &page)
}

#[derive(Template)]
#[template(path = "reverted.html")]
struct DonePage<'a> {
    v: &'a View,
    reverted: usize,
    skipped: Vec<Skipped>,
}

async fn revert(app: Data<App>, view: View, form: Form) -> Page {
    let text = |name: &str| form.text(name).unwrap_or_default().to_owned();
    let which = Which {
        record_id: text("record_id"),
        user_id: text("user_id"),
        since: text("since"),
        until: text("until"),
        ..Which::default()
    };
    let done = engine::revert_range(&app, filter(&which)?, form.is_on("force")).await?;
    html(&view, &DonePage { v: &view, reverted: done.reverted.len(), skipped: done.skipped })
}
