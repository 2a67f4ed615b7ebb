//! `/settings`, `/schedules`, `/roles`.

use std::collections::BTreeMap;

use actix_web::web::{self, Data, Json, ServiceConfig};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use store::Transaction;
use sync::Kind;
use utoipa::ToSchema;

use super::{Answer, List, nullable};
use crate::app::App;
use crate::app::settings::{ENABLED, EVENTS_PER_ITERATION, SCHEDULE, put_secret};
use crate::config::{Mode, parse};
use crate::http::extract::Object;
use crate::http::problem::Problem;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/settings", "GET, PUT").route(web::get().to(show)).route(web::put().to(put)))
        .service(
            resource("/schedules", "GET, PUT").route(web::get().to(show_schedules)).route(web::put().to(put_schedules)),
        )
        .service(resource("/roles", "GET, PUT").route(web::get().to(show_roles)).route(web::put().to(put_roles)));
}

/// The settings in force, without secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct Shown {
    /// Whether anything is synchronised at all.
    pub enabled: bool,
    /// Records of one mailbox in one iteration.
    pub events_per_iteration: u32,
    /// EspoCRM.
    pub espocrm: ShownEspocrm,
    /// Microsoft.
    pub microsoft: ShownMicrosoft,
    /// Which secrets are known.
    pub secrets: BTreeMap<&'static str, bool>,
    /// What the configuration file or the environment fixes.
    pub read_only: Vec<&'static str>,
}

/// EspoCRM.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownEspocrm {
    /// Its address.
    pub url: Option<String>,
    /// Optional admin account.
    pub admin_username: Option<String>,
}

/// Microsoft.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownMicrosoft {
    /// Tenant.
    pub tenant: Option<String>,
    /// Application ID.
    pub client_id: Option<String>,
    /// When the secret ends, as it was noted.
    pub secret_expires: Option<NaiveDate>,
    /// Whose permission is used.
    pub mode: Mode,
}

/// Settings to change; what is left out keeps its value, null or an empty text removes it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    events_per_iteration: Option<u32>,
    #[serde(default)]
    espocrm: WantedEspocrm,
    #[serde(default)]
    microsoft: WantedMicrosoft,
    /// Taken from the answer of GET and ignored.
    #[serde(default, rename = "secrets")]
    #[schema(value_type = Object)]
    _secrets: serde::de::IgnoredAny,
    /// Taken from the answer of GET and ignored.
    #[serde(default, rename = "read_only")]
    #[schema(value_type = Object)]
    _read_only: serde::de::IgnoredAny,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct WantedEspocrm {
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    url: Option<Option<String>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, write_only)]
    api_key: Option<Option<String>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, write_only)]
    secret_key: Option<Option<String>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    admin_username: Option<Option<String>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, write_only)]
    admin_password: Option<Option<String>>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct WantedMicrosoft {
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    tenant: Option<Option<String>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    client_id: Option<Option<String>>,
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, write_only)]
    client_secret: Option<Option<String>>,
    /// When the secret ends: Microsoft tells it where the secret is made, and warns of it ahead.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, format = Date)]
    secret_expires: Option<Option<NaiveDate>>,
    /// Certificate and RSA private key in PEM, in place of the secret.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, write_only)]
    client_certificate: Option<Option<String>>,
    mode: Option<Mode>,
}

/// The settings in force.
#[utoipa::path(get, path = "/api/v1/settings", tag = "settings", responses((status = 200, body = Shown)))]
pub(in crate::http) async fn show(app: Data<App>) -> Json<Shown> {
    let settings = app.connections().settings();
    let secrets = [
        ("espocrm.api_key", settings.espocrm.api_key.is_some()),
        ("espocrm.secret_key", settings.espocrm.secret_key.is_some()),
        ("espocrm.admin_password", settings.espocrm.admin_password.is_some()),
        ("microsoft.client_secret", settings.microsoft.client_secret.is_some()),
        ("microsoft.client_certificate", settings.microsoft.client_certificate.is_some()),
    ];
    Json(Shown {
        enabled: settings.enabled,
        events_per_iteration: settings.events_per_iteration,
        espocrm: ShownEspocrm {
            url: settings.espocrm.url.as_ref().map(ToString::to_string),
            admin_username: settings.espocrm.admin_username.clone(),
        },
        microsoft: ShownMicrosoft {
            tenant: settings.microsoft.tenant.clone(),
            client_id: settings.microsoft.client_id.clone(),
            secret_expires: settings.microsoft.secret_expires,
            mode: settings.microsoft.mode,
        },
        secrets: secrets.into(),
        read_only: fixed(&app),
    })
}

/// What the configuration fixes.
fn fixed(app: &App) -> Vec<&'static str> {
    let (espocrm, microsoft) = (&app.config().espocrm, &app.config().microsoft);
    let all = [
        ("espocrm.url", espocrm.url.is_some()),
        ("espocrm.api_key", espocrm.api_key.is_some()),
        ("espocrm.secret_key", espocrm.secret_key.is_some()),
        ("espocrm.admin_username", espocrm.admin_username.is_some()),
        ("espocrm.admin_password", espocrm.admin_password.is_some()),
        ("microsoft.tenant", microsoft.tenant.is_some()),
        ("microsoft.client_id", microsoft.client_id.is_some()),
        ("microsoft.client_secret", microsoft.client_secret.is_some()),
        ("microsoft.client_certificate", microsoft.client_certificate.is_some()),
        ("microsoft.mode", microsoft.mode.is_some()),
    ];
    all.into_iter().filter(|(_, is_fixed)| *is_fixed).map(|(name, _)| name).collect()
}

/// Changes settings; connections are rebuilt without a restart.
#[utoipa::path(put, path = "/api/v1/settings", tag = "settings", request_body = Wanted, responses((status = 200, body = Shown)))]
pub(in crate::http) async fn put(app: Data<App>, wanted: Json<Object<Wanted>>) -> Answer<Shown> {
    let Object(wanted) = wanted.into_inner();
    if wanted.events_per_iteration == Some(0) {
        return Err(Problem::bad_request("events_per_iteration: expected a number above 0"));
    }
    let mut url = wanted.espocrm.url;
    if let Some(Some(text)) = &mut url
        && !text.is_empty()
    {
        let parsed = parse::url(text).map_err(|expected| Problem::bad_request(format!("espocrm.url: {expected}")))?;
        *text = parsed.to_string();
    }
    if let Some(Some(pem)) = &wanted.microsoft.client_certificate
        && !pem.trim().is_empty()
    {
        if !pem.trim_start().starts_with("-----BEGIN") {
            let detail = "microsoft.client_certificate: expected PEM text: the certificate and its RSA private key";
            return Err(Problem::bad_request(detail));
        }
        parse::certificate(pem.trim_start())
            .map_err(|expected| Problem::bad_request(format!("microsoft.client_certificate: {expected}")))?;
    }
    let settings = app.connections().settings();
    let current_url = settings.espocrm.url.as_ref().map(ToString::to_string);
    let transaction = app.store().begin().await?;
    let write = Write { app: &app, conn: &transaction, fixed: fixed(&app), now: app.clock().now() };
    if let Some(enabled) = wanted.enabled {
        store::settings::put(&transaction, ENABLED, &enabled, write.now).await?;
    }
    if let Some(count) = wanted.events_per_iteration {
        store::settings::put(&transaction, EVENTS_PER_ITERATION, &count, write.now).await?;
    }
    write.plain("espocrm.url", url, current_url.as_deref()).await?;
    write
        .plain("espocrm.admin_username", wanted.espocrm.admin_username, settings.espocrm.admin_username.as_deref())
        .await?;
    write.plain("microsoft.tenant", wanted.microsoft.tenant, settings.microsoft.tenant.as_deref()).await?;
    write.plain("microsoft.client_id", wanted.microsoft.client_id, settings.microsoft.client_id.as_deref()).await?;
    let word = |mode| if mode == Mode::Application { "application" } else { "delegated" };
    let mode = wanted.microsoft.mode.map(|mode| Some(word(mode).to_owned()));
    write.plain("microsoft.mode", mode, Some(word(settings.microsoft.mode))).await?;
    write.secret("espocrm.api_key", wanted.espocrm.api_key).await?;
    write.secret("espocrm.secret_key", wanted.espocrm.secret_key).await?;
    write.secret("espocrm.admin_password", wanted.espocrm.admin_password).await?;
    write.secret("microsoft.client_secret", wanted.microsoft.client_secret).await?;
    write.secret("microsoft.client_certificate", wanted.microsoft.client_certificate).await?;
    let noted = settings.microsoft.secret_expires.map(|day| day.to_string());
    let ends = wanted.microsoft.secret_expires.map(|day| day.map(|day| day.to_string()));
    write.plain("microsoft.secret_expires", ends, noted.as_deref()).await?;
    store::signals::raise(&transaction, store::signals::SETTINGS).await?;
    transaction.commit().await.map_err(store::StoreError::from)?;
    app.connections().reload().await?;
    app.wake_schedule();
    Ok(show(app).await)
}

struct Write<'a> {
    app: &'a App,
    conn: &'a Transaction,
    fixed: Vec<&'static str>,
    now: DateTime<Utc>,
}

impl Write<'_> {
    fn check(&self, name: &str) -> Result<(), Problem> {
        if self.fixed.contains(&name) {
            let detail = format!("{name} is fixed by the configuration file or the environment; change it there");
            return Err(Problem::conflict(detail));
        }
        Ok(())
    }

    async fn plain(&self, name: &str, wanted: Option<Option<String>>, current: Option<&str>) -> Result<(), Problem> {
        let Some(wanted) = wanted else { return Ok(()) };
        let wanted = wanted.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if wanted.as_deref() == current {
            return Ok(());
        }
        self.check(name)?;
        match wanted {
            Some(text) => store::settings::put(self.conn, name, &text, self.now).await?,
            None => drop(store::settings::delete(self.conn, name).await?),
        }
        Ok(())
    }

    async fn secret(&self, name: &str, wanted: Option<Option<String>>) -> Result<(), Problem> {
        let Some(wanted) = wanted else { return Ok(()) };
        self.check(name)?;
        match wanted.filter(|secret| !secret.is_empty()) {
            Some(secret) => put_secret(self.conn, self.app.vault(), name, &secret, self.now).await?,
            None => drop(store::settings::delete(self.conn, name).await?),
        }
        Ok(())
    }
}

/// Cron expressions, as the document describes them. In a PUT each key may be left out.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what a map by kind is in JSON")]
pub struct Schedules {
    /// When meetings are swept.
    #[schema(example = "*/10 * * * *")]
    meeting: Option<String>,
    /// When calls are swept.
    #[schema(example = "*/10 * * * *")]
    call: Option<String>,
    /// When tasks are swept.
    #[schema(example = "0 */10 * * * *")]
    task: Option<String>,
}

/// Cron expressions of the sweeps, by kind.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "settings", responses((status = 200, body = Schedules)))]
pub(in crate::http) async fn show_schedules(app: Data<App>) -> Json<BTreeMap<Kind, String>> {
    Json(app.connections().settings().schedules.clone())
}

/// Changes when sweeps run: 5 fields, or 6 with the seconds first.
#[utoipa::path(put, path = "/api/v1/schedules", tag = "settings", request_body = Schedules, responses((status = 200, body = Schedules)))]
pub(in crate::http) async fn put_schedules(
    app: Data<App>,
    wanted: Json<Object<BTreeMap<String, serde_json::Value>>>,
) -> Answer<BTreeMap<Kind, String>> {
    let mut checked = Vec::new();
    for (name, cron) in wanted.into_inner().0 {
        let kind: Kind =
            name.parse().map_err(|_| Problem::bad_request(format!("unknown key `{name}`: meeting, call or task")))?;
        let text = || Problem::bad_request(format!("{kind}: expected a cron expression like */10 * * * *"));
        let cron = cron.as_str().ok_or_else(text)?;
        let cron =
            parse::cron_text(cron.trim()).map_err(|expected| Problem::bad_request(format!("{kind}: {expected}")))?;
        checked.push((kind, cron));
    }
    store::insist(|| async {
        let transaction = app.store().begin().await?;
        for (kind, cron) in &checked {
            store::settings::put(&transaction, &format!("{SCHEDULE}{kind}"), cron, app.clock().now()).await?;
        }
        store::signals::raise(&transaction, store::signals::SETTINGS).await?;
        Ok(transaction.commit().await?)
    })
    .await?;
    app.connections().reload().await?;
    app.wake_schedule();
    Ok(show_schedules(app).await)
}

/// What users of an EspoCRM role may do with their own preferences.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// In all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// By field of the preferences.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Access>,
}

/// What to say of a role; what is left out keeps its value, null forgets it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WantedRole {
    /// In all.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<Access>)]
    access: Option<Option<Access>>,
    /// By field of the preferences.
    #[schema(value_type = BTreeMap<String, Access>)]
    fields: BTreeMap<String, Option<Access>>,
}

impl WantedRole {
    /// All that a role says, and nothing else.
    pub(in crate::http) fn whole(role: &Role, forgotten: impl IntoIterator<Item = String>) -> Self {
        let mut fields: BTreeMap<String, Option<Access>> = forgotten.into_iter().map(|field| (field, None)).collect();
        fields.extend(role.fields.iter().map(|(field, access)| (field.clone(), Some(*access))));
        Self { access: Some(role.access), fields }
    }

    fn over(self, mut role: Role) -> Role {
        role.access = self.access.unwrap_or(role.access);
        for (field, access) in self.fields {
            match access {
                Some(access) => drop(role.fields.insert(field, access)),
                None => drop(role.fields.remove(&field)),
            }
        }
        role
    }
}

/// What one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// See and change.
    Edit,
    /// See.
    Read,
    /// Neither.
    No,
}

/// A role and what was said about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownRole {
    /// EspoCRM's id of the role.
    pub role_id: String,
    /// What was said.
    #[schema(value_type = Object)]
    #[serde(flatten)]
    pub document: serde_json::Value,
}

/// All roles that something was said about.
#[utoipa::path(get, path = "/api/v1/roles", tag = "settings", responses((status = 200, body = List<ShownRole>)))]
pub(in crate::http) async fn show_roles(app: Data<App>) -> Answer<List<ShownRole>> {
    let roles = store::roles::all(app.store().read()).await?;
    let items = roles.into_iter().map(|(role_id, document)| ShownRole { role_id, document });
    Ok(Json(List::whole(items.collect())))
}

/// Says what holds for roles, by role id; what is left out of a role keeps its value, null forgets it: the role, its
/// access, or one of its fields.
#[utoipa::path(put, path = "/api/v1/roles", tag = "settings", request_body = BTreeMap<String, WantedRole>, responses((status = 200, body = List<ShownRole>)))]
pub(in crate::http) async fn put_roles(
    app: Data<App>,
    wanted: Json<Object<BTreeMap<String, Option<Object<WantedRole>>>>>,
) -> Answer<List<ShownRole>> {
    let transaction = app.store().begin().await?;
    let mut stored = store::roles::all(&transaction).await?;
    for (role_id, wanted) in wanted.into_inner().0 {
        let before = stored.remove(&role_id).and_then(|document| serde_json::from_value::<Role>(document).ok());
        match wanted {
            Some(Object(wanted)) => {
                let role = wanted.over(before.unwrap_or_default());
                let document = serde_json::to_value(&role).map_err(|error| Problem::internal(&error))?;
                store::roles::put(&transaction, &role_id, &document, app.clock().now()).await?;
            }
            None => drop(store::roles::delete(&transaction, &role_id).await?),
        }
    }
    transaction.commit().await.map_err(store::StoreError::from)?;
    show_roles(app).await
}
