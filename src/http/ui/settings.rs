//! The integration's settings. What the configuration gives is shown and cannot be changed here.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use askama::Template;
use serde_json::{Map, Value, json};

use super::form::Form;
use super::users::body;
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::api::settings::{self, Shown};
use crate::http::problem::Problem;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/settings", GET show, POST save);
}

/// What forms need to show the settings.
pub(super) struct Known {
    pub shown: Shown,
    pub mode: &'static str,
    pub certificate: bool,
    pub secret_expires: String,
    pub redirect: String,
    pub public_url: bool,
}

impl Known {
    pub async fn of(app: &Data<App>) -> Self {
        let shown = settings::show(app.clone()).await.into_inner();
        let is_application = shown.microsoft.mode == crate::config::Mode::Application;
        Self {
            mode: if is_application { "application" } else { "delegated" },
            certificate: app.config().microsoft.client_certificate.is_some(),
            secret_expires: shown.microsoft.secret_expires.map(|day| day.to_string()).unwrap_or_default(),
            redirect: format!("{}/oauth/microsoft/callback", app.config().base_url()),
            public_url: app.config().server.public_url.is_some(),
            shown,
        }
    }

    /// Whether the configuration gives it.
    pub fn is_fixed(&self, name: &str) -> bool {
        self.shown.read_only.contains(&name)
    }

    /// Whether that secret is known.
    pub fn has(&self, name: &str) -> bool {
        self.shown.secrets.get(name).copied().unwrap_or_default()
    }

    /// A setting that is no secret.
    pub fn text(&self, name: &str) -> &str {
        let shown = &self.shown;
        let found = match name {
            "espocrm.url" => &shown.espocrm.url,
            "espocrm.admin_username" => &shown.espocrm.admin_username,
            "microsoft.tenant" => &shown.microsoft.tenant,
            "microsoft.client_id" => &shown.microsoft.client_id,
            _ => &None,
        };
        found.as_deref().unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage<'a> {
    v: &'a View,
    k: Known,
}

async fn show(app: Data<App>, view: View) -> Page {
    html(&view, &SettingsPage { v: &view, k: Known::of(&app).await })
}

const PLAIN: [&str; 5] =
    ["espocrm.url", "espocrm.admin_username", "microsoft.tenant", "microsoft.client_id", "microsoft.mode"];
/// An empty one is none.
const DAYS: [&str; 1] = ["microsoft.secret_expires"];
const SECRETS: [&str; 5] = [
    "espocrm.api_key",
    "espocrm.secret_key",
    "espocrm.admin_password",
    "microsoft.client_secret",
    "microsoft.client_certificate",
];

/// Stores what a form says: texts as they are, secrets only where one was typed or its removal was ticked.
pub(super) async fn store(app: &Data<App>, form: &Form) -> Result<(), Problem> {
    let mut wanted = Map::new();
    let mut put = |name: &str, value: Value| {
        if let Some((part, key)) = name.split_once('.') {
            let part = wanted.entry(part).or_insert_with(|| json!({}));
            if let Some(part) = part.as_object_mut() {
                part.insert(key.to_owned(), value);
            }
        }
    };
    for name in PLAIN {
        if let Some(typed) = form.raw(name) {
            put(name, json!(typed.trim()));
        }
    }
    for name in DAYS {
        if form.raw(name).is_some() {
            put(name, json!(form.text(name)));
        }
    }
    for name in SECRETS {
        if form.is_on(&format!("remove.{name}")) {
            put(name, Value::Null);
        } else if let Some(typed) = form.text(name) {
            put(name, json!(typed));
        }
    }
    if let Some(count) = form.text("events_per_iteration") {
        let count: u32 =
            count.parse().map_err(|_| Problem::bad_request("events_per_iteration: expected a number above 0"))?;
        wanted.insert("events_per_iteration".to_owned(), json!(count));
        // The box is in the same form.
        wanted.insert("enabled".to_owned(), json!(form.is_on("enabled")));
    }
    settings::put(app.clone(), body(Value::Object(wanted))?).await?;
    Ok(())
}

async fn save(app: Data<App>, view: View, form: Form) -> Page {
    store(&app, &form).await?;
    Ok(done("/settings", view.t("user.saved")))
}
