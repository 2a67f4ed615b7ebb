//! Setting up, step by step: EspoCRM, Microsoft, rules, the first user. Every step can be taken again, in any order.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use askama::Template;
use espocrm::User;
use graph::AuthError;
use serde_json::json;

use super::form::Form;
use super::rules::{Section, some_sections};
use super::settings::{Known, store};
use super::users::body;
use super::view::View;
use super::{Page, admin, guard, html};
use crate::app::App;
use crate::app::provision::{self, Step};
use crate::config::Mode;
use crate::http::api::bindings::{self, SignInLink};
use crate::http::api::users::People;
use crate::http::problem::{Chain, Problem};
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/setup", GET show);
    admin!(routes, "/setup/espocrm", POST espocrm);
    admin!(routes, "/setup/provision", POST provision_now);
    admin!(routes, "/setup/microsoft", POST microsoft);
    admin!(routes, "/setup/user", POST bind);
}

/// What was found, with the remedy.
struct Check {
    state: &'static str,
    text: String,
}

impl Check {
    fn ok(text: impl Into<String>) -> Self {
        Self { state: "ok", text: text.into() }
    }

    fn warning(text: impl Into<String>) -> Self {
        Self { state: "warning", text: text.into() }
    }

    fn failed(v: &View, error: &(dyn std::error::Error + 'static)) -> Self {
        Self { state: "failed", text: v.said(&Chain(error).to_string()) }
    }
}

/// Found just now, by step.
#[derive(Default)]
struct Found {
    espocrm: Vec<Check>,
    steps: Vec<Step>,
    microsoft: Vec<Check>,
    link: Option<SignInLink>,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage<'a> {
    v: &'a View,
    k: Known,
    has_espocrm: bool,
    has_microsoft: bool,
    found: Found,
    users: Vec<User>,
    bound: Vec<store::bindings::Binding>,
    permissions: &'static [&'static str],
    /// Where an administrator of the organisation consents for all.
    consent: Option<String>,
    /// The rules that matter most at first.
    sections: Vec<Section>,
    today: String,
    rules: sync::Rules,
    is_application: bool,
}

impl SetupPage<'_> {
    fn direction(&self, kind: &str) -> String {
        let kind = kind.parse::<sync::Kind>().unwrap_or(sync::Kind::Meeting);
        let direction = serde_json::to_value(self.rules.of(kind).direction).unwrap_or_default();
        direction.as_str().unwrap_or_default().to_owned()
    }
}

const DELEGATED: &[&str] =
    &["Calendars.ReadWrite", "Tasks.ReadWrite", "MailboxSettings.Read", "User.Read", "offline_access"];
const OF_THE_APP: &[&str] = &["Calendars.ReadWrite", "Tasks.ReadWrite.All", "MailboxSettings.Read", "User.Read.All"];
const FIRST_RULES: &[&str] = &["attendees", "create_participant_as", "private_events"];

async fn show(app: Data<App>, people: Data<People>, view: View) -> Page {
    page(&app, &people, &view, Found::default()).await
}

async fn page(app: &Data<App>, people: &People, view: &View, found: Found) -> Page {
    let connections = app.connections();
    let rules = store::rules::get(app.store().read(), None).await?.unwrap_or_default().over(&sync::Rules::default());
    let is_application = connections.settings().microsoft.mode == Mode::Application;
    let page = SetupPage {
        v: view,
        k: Known::of(app).await,
        has_espocrm: connections.espocrm().is_some(),
        has_microsoft: connections.microsoft().is_some(),
        found,
        users: people.all(app).await.unwrap_or_default().into_iter().filter(|user| user.active).collect(),
        bound: store::bindings::list(app.store().read()).await?,
        permissions: if is_application { OF_THE_APP } else { DELEGATED },
        consent: consent(app),
        sections: some_sections(view, &rules, FIRST_RULES),
        today: view.now.date_naive().to_string(),
        rules,
        is_application,
    };
    html(view, &page)
}

/// learn.microsoft.com/entra/identity/enterprise-apps/grant-admin-consent, "Construct the URL for granting tenant-wide admin
/// consent".
fn consent(app: &App) -> Option<String> {
    let settings = app.connections().settings();
    let (tenant, client_id) = (settings.microsoft.tenant.as_ref()?, settings.microsoft.client_id.as_ref()?);
    let mut url = app.config().microsoft.authority.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push(tenant).push("adminconsent");
    url.query_pairs_mut().append_pair("client_id", client_id);
    Some(url.to_string())
}

/// Binds the first user, and makes the sign-in link.
async fn bind(app: Data<App>, people: Data<People>, view: View, caller: Caller, form: Form) -> Page {
    let user = form.text("user_id").unwrap_or_default().to_owned();
    let wanted = json!({ "enabled": true, "sync_from": form.text("sync_from") });
    let bound =
        bindings::put(app.clone(), people.clone(), caller.clone(), web::Path::from(user.clone()), body(wanted)?);
    bound.await?;
    let link = match app.connections().microsoft() {
        Some(microsoft) if microsoft.mode == Mode::Delegated => {
            Some(bindings::authorize(app.clone(), caller, web::Path::from(user)).await?.into_inner())
        }
        _ => None,
    };
    page(&app, &people, &view, Found { link, ..Found::default() }).await
}

async fn espocrm(app: Data<App>, people: Data<People>, view: View, form: Form) -> Page {
    store(&app, &form).await?;
    let found = Found { espocrm: look_at_espocrm(&app, &view).await, ..Found::default() };
    page(&app, &people, &view, found).await
}

async fn look_at_espocrm(app: &App, v: &View) -> Vec<Check> {
    let Some(connection) = app.connections().espocrm() else {
        return vec![Check::warning(v.t("setup.espocrm_missing"))];
    };
    let asked = app.on_main(async move {
        let me = connection.me().await?;
        let admin = if connection.client.can_act_as_users() { Some(connection.client.admin().await) } else { None };
        Ok::<_, espocrm::Error>((me, admin))
    });
    let (me, admin) = match asked.await {
        Some(Ok(found)) => found,
        Some(Err(error)) => return vec![Check::failed(v, &error)],
        None => return Vec::new(),
    };
    let mut checks = vec![Check::ok(v.f2("setup.espocrm_ok", me.version.as_deref().unwrap_or("?"), &me.user_name))];
    let wanted = ["Meeting", "Call", "Task"]
        .into_iter()
        .flat_map(|scope| ["create", "read", "edit", "delete"].into_iter().map(move |action| (scope, action)));
    let lacking: Vec<String> = wanted
        .filter(|(scope, action)| matches!(me.right(scope, action), None | Some("no")))
        .map(|(scope, action)| format!("{scope} {action}"))
        .collect();
    if !lacking.is_empty() {
        checks.push(Check { state: "failed", text: v.f1("setup.rights", lacking.join(", ")) });
    }
    checks.push(match admin {
        Some(Ok(admin)) => Check::ok(v.f1("setup.admin_ok", admin.user_name)),
        Some(Err(error)) => Check::failed(v, &error),
        None => Check::warning(v.t("setup.no_admin")),
    });
    checks
}

async fn provision_now(app: Data<App>, people: Data<People>, view: View) -> Page {
    let inner = App::clone(&app);
    let work = async move {
        let mut steps = provision::fields(&inner, false, true).await?;
        steps.extend(provision::webhooks(&inner, false).await?);
        Ok::<_, provision::ProvisionError>(steps)
    };
    let found = match app.on_main(work).await {
        Some(Ok(steps)) => Found { steps, ..Found::default() },
        Some(Err(error)) => Found { espocrm: vec![Check::failed(&view, &error)], ..Found::default() },
        None => return Err(Problem::unavailable("the service is stopping")),
    };
    page(&app, &people, &view, found).await
}

async fn microsoft(app: Data<App>, people: Data<People>, view: View, form: Form) -> Page {
    store(&app, &form).await?;
    let found = Found { microsoft: vec![look_at_microsoft(&app, &view).await], ..Found::default() };
    page(&app, &people, &view, found).await
}

/// Only an attempt tells whether Microsoft accepts the registration. With delegated permissions it may refuse a token in the
/// application's own name for other reasons, which is as good.
async fn look_at_microsoft(app: &App, v: &View) -> Check {
    const WRONG: [&str; 3] = ["invalid_client", "unauthorized_client", "invalid_request"];
    let Some(connection) = app.connections().microsoft() else {
        return Check::warning(v.t("setup.microsoft_missing"));
    };
    let is_application = connection.mode == Mode::Application;
    match app.on_main(async move { connection.authority.client_credentials().await }).await {
        Some(Ok(_)) => Check::ok(v.t("setup.microsoft_ok")),
        Some(Err(AuthError::Operator(refused))) if !is_application && !WRONG.contains(&refused.error.as_str()) => {
            Check::ok(v.t("setup.microsoft_ok"))
        }
        Some(Err(error)) => Check::failed(v, &error),
        None => Check::warning(v.t("setup.microsoft_missing")),
    }
}
