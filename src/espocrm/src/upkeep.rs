//! What only EspoCRM's administrators can put right: how often webhooks are sent, and to which internal hosts.
//!
//! Facts (EspoCRM 9.3): the scheduled job `ProcessWebhookQueue` sends webhooks, every two minutes in a fresh installation and 20
//! events a run unless `webhookQueueEventPortionSize` says otherwise; from 9.3.4 on a receiver with an internal address must be
//! named, as `host:port`, in `webhookAllowedAddressList`. Both stand in `data/config.php`, and `GET Settings` tells them to
//! administrators. Scheduled jobs are read by administrators only.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;

use crate::Result;
use crate::client::Client;
use crate::query::{List, Where};
use crate::wire::{Call, Rows};

/// Events that one run takes unless the configuration says otherwise.
const PORTION: u64 = 20;

/// The job that sends webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookJob {
    /// Its cron expression.
    pub scheduling: String,
    /// False when an administrator has switched it off.
    pub is_active: bool,
    /// When it ran last.
    pub last_run: Option<DateTime<Utc>>,
}

/// What the configuration says of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Events a run.
    pub portion: u64,
    /// Internal receivers that are allowed, as `host:port`.
    pub allowed: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(default)]
    webhook_queue_event_portion_size: Option<u64>,
    #[serde(default)]
    webhook_allowed_address_list: Option<Vec<String>>,
}

impl Client {
    /// The job that sends webhooks, read with the administrator account; none when there is no such job.
    pub async fn webhook_job(&self) -> Result<Option<WebhookJob>> {
        let wanted = vec![Where::equals("job", "ProcessWebhookQueue")];
        let list = List::new(wanted, ["job", "scheduling", "status", "lastRun"]);
        let rows: Rows = self.send_by_admin(&Call::list("ScheduledJob", &list)).await?.json()?;
        let text = |row: &serde_json::Map<String, serde_json::Value>, name: &str| {
            row.get(name).and_then(serde_json::Value::as_str).map(str::to_owned)
        };
        // One that is active goes before others of the same kind.
        let jobs = rows.list.iter().map(|row| WebhookJob {
            scheduling: text(row, "scheduling").unwrap_or_default(),
            is_active: text(row, "status").as_deref() == Some("Active"),
            last_run: text(row, "lastRun")
                .and_then(|at| NaiveDateTime::parse_from_str(&at, "%Y-%m-%d %H:%M:%S").ok())
                .map(|at| at.and_utc()),
        });
        Ok(jobs.max_by_key(|job| job.is_active))
    }

    /// What the configuration says of webhooks, read with the administrator account.
    pub async fn webhook_settings(&self) -> Result<WebhookSettings> {
        let told: Told = self.send_by_admin(&Call::get(&["Settings"])).await?.json()?;
        Ok(WebhookSettings {
            portion: told.webhook_queue_event_portion_size.unwrap_or(PORTION),
            allowed: told.webhook_allowed_address_list.unwrap_or_default(),
        })
    }
}
