//! Plans that wait for somebody's word, with what they would do.

use std::collections::BTreeMap;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, Query, ServiceConfig};
use askama::Template;
use serde::Deserialize;
use serde_json::Value;
use store::bindings::Binding;
use store::holds::{Hold, HoldKind, HoldState};

use super::form::Form;
use super::sync::{Line, lines, numbers};
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::api::sync::decide;
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/holds", GET list);
    admin!(routes, "/holds/{id}", POST decision);
}

pub(super) struct Shown {
    pub hold: Hold,
    pub user: String,
    pub reason: String,
    pub numbers: Vec<(String, u64)>,
    pub lines: Vec<Line>,
}

impl Shown {
    /// Whether its user may decide it; what would delete a lot is for administrators.
    pub fn is_for_users(&self) -> bool {
        self.hold.kind == HoldKind::FirstSync
    }
}

#[derive(Deserialize)]
struct Which {
    state: Option<String>,
}

#[derive(Template)]
#[template(path = "holds.html")]
struct HoldsPage<'a> {
    v: &'a View,
    holds: Vec<Shown>,
    all: bool,
}

async fn list(app: Data<App>, view: View, which: Query<Which>) -> Page {
    let all = which.state.as_deref() == Some("all");
    let holds = store::holds::list(app.store().read(), (!all).then_some(HoldState::Open)).await?;
    let names = names(&app, &view).await?;
    let holds = holds.into_iter().map(|hold| shown(&view, &names, hold)).collect();
    html(&view, &HoldsPage { v: &view, holds, all })
}

/// Names of bound users by id: as EspoCRM has them, else the login names.
pub(super) async fn names(app: &App, view: &View) -> Result<BTreeMap<String, String>, Problem> {
    let bindings = store::bindings::list(app.store().read()).await?;
    let mut full = match &view.people {
        Some(people) => people.names(app).await,
        None => BTreeMap::new(),
    };
    let named = |binding: Binding| {
        let name = full.remove(&binding.user_id).filter(|name| !name.is_empty()).unwrap_or(binding.user_name);
        (binding.user_id, name)
    };
    Ok(bindings.into_iter().map(named).collect())
}

pub(super) fn shown(v: &View, names: &BTreeMap<String, String>, hold: Hold) -> Shown {
    let text = |key: &str| hold.summary.get(key).and_then(Value::as_str).map(str::to_owned);
    let preview = hold.summary.get("preview").unwrap_or(&hold.summary);
    Shown {
        user: names.get(&hold.user_id).cloned().unwrap_or_else(|| hold.user_id.clone()),
        reason: text("reason").map(|reason| v.said(&reason)).unwrap_or_default(),
        numbers: numbers(v, preview),
        lines: lines(v, preview),
        hold,
    }
}

async fn decision(app: Data<App>, view: View, caller: Caller, id: Path<String>, form: Form) -> Page {
    let (decision, said) = decision_of(&form)?;
    decide(&app, &caller, &id, decision).await?;
    Ok(done("/holds", view.t(said)))
}

/// What a form decides, and what is said then.
pub(super) fn decision_of(form: &Form) -> Result<(HoldState, &'static str), Problem> {
    match form.text("decision") {
        Some("confirm") => Ok((HoldState::Confirmed, "holds.confirmed")),
        Some("discard") => Ok((HoldState::Discarded, "holds.discarded")),
        _ => Err(Problem::bad_request("decision: confirm or discard")),
    }
}
