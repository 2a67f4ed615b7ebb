//! `settings`, `schedules`, `roles`: what administrators decide.

use anyhow::bail;
use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Service, flat, json_out, pairs, place, print, text, words};
use super::columns;
use crate::config::Config;

/// Which settings.
#[derive(Debug, ClapArgs)]
pub struct SettingsArgs {
    #[command(subcommand)]
    what: Option<SettingsWhat>,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SettingsWhat {
    /// Changes settings without a restart: `enabled=true espocrm.url=https://crm.example.com espocrm.api_key=-`. A value `-` is
    /// read from the standard input, `@FILE` from a file; an empty one removes the setting.
    Set {
        /// `NAME=VALUE`.
        #[arg(required = true)]
        settings: Vec<String>,
    },
}

/// Which schedules.
#[derive(Debug, ClapArgs)]
pub struct SchedulesArgs {
    #[command(subcommand)]
    what: Option<SchedulesWhat>,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SchedulesWhat {
    /// Changes schedules: `"meeting=*/5 * * * *"`.
    Set {
        /// `KIND=CRON`.
        #[arg(required = true)]
        schedules: Vec<String>,
    },
}

/// Which roles.
#[derive(Debug, ClapArgs)]
pub struct RolesArgs {
    #[command(subcommand)]
    what: Option<RolesWhat>,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RolesWhat {
    /// Says what users of a role may do with their own preferences: `ROLE access=edit sync_from=read token=no`; an empty value
    /// says nothing of that field any more.
    Set {
        /// EspoCRM id of the role.
        role: String,
        /// `access` or a field, and `edit`, `read` or `no`.
        #[arg(required = true)]
        access: Vec<String>,
    },
    /// Forgets what was said of a role.
    Forget {
        /// EspoCRM id of the role.
        role: String,
    },
}

pub(super) async fn settings(config: &Config, args: &SettingsArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let settings = match &args.what {
        None => service.get("/settings", &[]).await?,
        Some(SettingsWhat::Set { settings }) => {
            let mut wanted = Map::new();
            for (name, text) in pairs(settings)? {
                let value = match (name.as_str(), text.as_str()) {
                    (_, "") => Value::Null,
                    ("enabled", "true" | "on") => json!(true),
                    ("enabled", "false" | "off") => json!(false),
                    ("events_per_iteration", text) => text.parse::<u32>().map_or_else(|_| json!(text), |n| json!(n)),
                    (_, text) => json!(text),
                };
                place(&mut wanted, &name, value);
            }
            service.put("/settings", Value::Object(wanted)).await?
        }
    };
    if args.json { json_out(&settings) } else { columns::print(&["SETTING", "VALUE"], &flat(&settings)) }
}

pub(super) async fn schedules(config: &Config, args: &SchedulesArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let schedules = match &args.what {
        None => service.get("/schedules", &[]).await?,
        Some(SchedulesWhat::Set { schedules }) => {
            let wanted: Map<String, Value> =
                pairs(schedules)?.into_iter().map(|(kind, cron)| (kind, json!(cron))).collect();
            service.put("/schedules", Value::Object(wanted)).await?
        }
    };
    if args.json { json_out(&schedules) } else { columns::print(&["KIND", "CRON"], &flat(&schedules)) }
}

pub(super) async fn roles(config: &Config, args: &RolesArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let before = service.get("/roles", &[]).await?;
    let roles = match &args.what {
        None => before,
        Some(RolesWhat::Forget { role }) => service.put("/roles", json!({ role: null })).await?,
        Some(RolesWhat::Set { role, access }) => {
            let known = before.get("items").and_then(Value::as_array).into_iter().flatten();
            let known = known.into_iter().find(|one| text(one, "role_id") == role);
            let fields = known.and_then(|one| one.get("fields")).and_then(Value::as_object);
            let mut fields = fields.cloned().unwrap_or_default();
            let mut whole = known.and_then(|one| one.get("access")).cloned();
            for (name, word) in pairs(access)? {
                if !["edit", "read", "no", ""].contains(&word.as_str()) {
                    bail!("{name}: expected edit, read or no");
                }
                match (name.as_str(), word.is_empty()) {
                    ("access", is_empty) => whole = Some(if is_empty { Value::Null } else { json!(word) }),
                    // Left out would mean: as it is.
                    (name, true) => drop(fields.insert(name.to_owned(), Value::Null)),
                    (name, false) => drop(fields.insert(name.to_owned(), json!(word))),
                }
            }
            let mut document = Map::new();
            document.extend(whole.map(|whole| ("access".to_owned(), whole)));
            document.insert("fields".to_owned(), Value::Object(fields));
            service.put("/roles", json!({ role: document })).await?
        }
    };
    print(&roles, args.json, &["ROLE", "ACCESS", "FIELDS"], |role| {
        let cell = |key: &str| words(role.get(key).unwrap_or(&Value::Null));
        vec![cell("role_id"), cell("access"), cell("fields")]
    })
}
