//! The front page: how everything stands, and what waits for somebody.

use std::collections::BTreeMap;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use askama::Template;
use chrono::{DateTime, TimeDelta, Utc};
use store::StoreError;
use store::bindings::{Binding, BindingState};
use store::history::Filter;
use store::messages::Depth;
use store::subscriptions::SubscriptionState;

use super::charts::{self, Chart};
use super::history::{Row, rows};
use super::holds::names;
use super::view::View;
use super::{Page, guard, html, redirect};
use crate::app::App;
use crate::http::api::overview::{self, Expiring, Overview};
use crate::http::session::Caller;
use crate::http::{probes, resource};
use crate::queue::Depth as InBroker;
use crate::work::received;

/// More than that in an hour are counted from the newest on.
const FATES: u64 = 5000;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(resource("/", "GET").route(web::get().to(show)).wrap(from_fn(guard::anyone)));
}

/// Something that somebody should do.
struct Todo {
    tone: &'static str,
    text: String,
    href: String,
    action: &'static str,
}

struct Numbers {
    depth: Depth,
    in_broker: u64,
    bindings: Vec<Binding>,
    holds: u64,
    subscriptions: usize,
    lapsed: usize,
    expiry: Option<DateTime<Utc>>,
    done: Chart,
    lag: Chart,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage<'a> {
    v: &'a View,
    enabled: bool,
    espocrm: Part,
    microsoft: Part,
    /// Where there is a broker.
    broker: Option<&'static str>,
    n: Numbers,
    active: usize,
    todos: Vec<Todo>,
    recent: Vec<Row>,
    public_url: bool,
    o: Overview,
    expiring: Vec<Ending>,
}

impl Ending {
    /// What somebody should do about it, when it is near.
    fn todo(&self, v: &View) -> Option<Todo> {
        let at = self.at.filter(|_| ["warn", "bad"].contains(&self.tone))?;
        let text = v.f2("overview.ends_soon", &self.what, v.until(&at));
        Some(Todo { tone: self.tone, text, href: self.href.clone(), action: v.t("overview.look") })
    }
}

/// How another system stands, and why it is not as it should be.
struct Part {
    state: String,
    why: String,
}

fn stands(o: &Overview, name: &str) -> Part {
    let text = |key: &str| o.parts.get(name).and_then(|part| part.get(key)?.as_str()).unwrap_or_default().to_owned();
    Part { state: text("state"), why: text("detail") }
}

/// Something that ends.
struct Ending {
    what: String,
    tone: &'static str,
    at: Option<DateTime<Utc>>,
    href: String,
}

async fn show(app: Data<App>, writes: Data<probes::Writes>, view: View, caller: Caller) -> Page {
    if !caller.is_admin {
        return Ok(redirect("/me"));
    }
    let broker = probes::broker(&app).await;
    let n = numbers(&app, view.now, broker.as_ref()).await?;
    let o = overview::of(&app, &writes).await?;
    let page = store::history::page(app.store().read(), &Filter::default(), None, 8).await?;
    let connections = app.connections();
    let alarm = connections.purse().alarm();
    let enabled = connections.settings().enabled;
    let names = names(&app, &view).await?;
    let expiring = endings(&view, &o, &names);
    let mut todos = todos(&view, &n, &names, enabled, alarm.as_deref(), broker.as_ref());
    todos.extend(expiring.iter().filter_map(|one| one.todo(&view)));
    let page = OverviewPage {
        v: &view,
        enabled,
        espocrm: stands(&o, "espocrm"),
        microsoft: stands(&o, "microsoft"),
        broker: broker.map(|asked| if asked.is_ok() { "configured" } else { "failed" }),
        active: n.bindings.iter().filter(|one| one.enabled && one.state == BindingState::Active).count(),
        todos,
        recent: rows(&app, &view, page.items).await?,
        public_url: app.config().server.public_url.is_some(),
        expiring,
        o,
        n,
    };
    html(&view, &page)
}

fn endings(v: &View, o: &Overview, names: &BTreeMap<String, String>) -> Vec<Ending> {
    let name = |id: &String| names.get(id).unwrap_or(id).clone();
    let ending = |one: &Expiring| Ending {
        what: match &one.user_id {
            Some(user) => format!("{} · {}", v.word("expiring", one.what), name(user)),
            None => v.word("expiring", one.what),
        },
        tone: match one.at {
            Some(at) if at <= v.now => "bad",
            Some(at) if at - v.now < TimeDelta::days(30) => "warn",
            Some(_) => "ok",
            None => "idle",
        },
        at: one.at,
        href: match (one.what, &one.user_id) {
            ("subscription", _) => "/subscriptions".to_owned(),
            (_, Some(user)) => format!("/users/{user}"),
            _ => "/settings".to_owned(),
        },
    };
    o.expiring.iter().map(ending).collect()
}

async fn numbers(
    app: &App,
    now: DateTime<Utc>,
    broker: Option<&Result<InBroker, String>>,
) -> Result<Numbers, StoreError> {
    let conn = app.store().read();
    let subscriptions = store::subscriptions::list(conn).await?;
    let (active, lapsed): (Vec<_>, Vec<_>) =
        subscriptions.iter().partition(|one| one.state == SubscriptionState::Active && one.expires > now);
    received::show(app).await;
    let fates = store::messages::fates(conn, now - TimeDelta::minutes(90), FATES).await?;
    let (done, lag) = charts::of(&fates, FATES, now);
    Ok(Numbers {
        depth: store::messages::depth(conn).await?,
        in_broker: broker.and_then(|asked| asked.as_ref().ok()).map_or(0, |depth| depth.ready + depth.held),
        bindings: store::bindings::list(conn).await?,
        holds: store::holds::open_count(conn).await?,
        subscriptions: active.len(),
        lapsed: lapsed.len(),
        expiry: active.iter().map(|one| one.expires).min(),
        done,
        lag,
    })
}

fn todos(
    v: &View,
    n: &Numbers,
    names: &BTreeMap<String, String>,
    enabled: bool,
    alarm: Option<&str>,
    broker: Option<&Result<InBroker, String>>,
) -> Vec<Todo> {
    let mut todos = Vec::new();
    let mut add = |tone, text: String, href: &str, action| {
        todos.push(Todo { tone, text, href: href.to_owned(), action: v.t(action) });
    };
    if let Some(alarm) = alarm {
        add("bad", v.said(alarm), "/settings", "overview.to_settings");
    }
    match broker {
        Some(Err(fault)) => add("bad", v.said(fault), "/log", "overview.look"),
        Some(Ok(depth)) if depth.dead > 0 => {
            add("bad", v.f1("overview.unreadable", depth.dead), "/messages?state=dead", "overview.look");
        }
        _ => {}
    }
    if !enabled {
        add("warn", v.t("overview.switched_off").to_owned(), "/settings", "overview.to_settings");
    }
    if n.depth.dead > 0 {
        add("bad", v.f1("overview.dead", n.depth.dead), "/messages?state=dead", "overview.look");
    }
    if n.holds > 0 {
        add("warn", v.f1("overview.holds", n.holds), "/holds", "overview.decide");
    }
    for binding in n.bindings.iter().filter(|one| one.enabled) {
        let (tone, key) = match binding.state {
            BindingState::NeedsAuthorization => ("warn", "overview.must_sign_in"),
            BindingState::Error => ("bad", "overview.has_error"),
            _ => continue,
        };
        let name = names.get(&binding.user_id).unwrap_or(&binding.user_name);
        add(tone, v.f1(key, name), &format!("/users/{}", binding.user_id), "overview.look");
    }
    if n.lapsed > 0 {
        add("warn", v.f1("overview.lapsed", n.lapsed), "/subscriptions", "overview.look");
    }
    if n.bindings.is_empty() {
        add("info", v.t("overview.nobody").to_owned(), "/users", "overview.bind");
    }
    todos
}
