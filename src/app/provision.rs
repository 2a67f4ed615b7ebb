//! What EspoCRM needs for us: webhooks, with the API key, and custom fields, with the administrator account.
//!
//! Facts (EspoCRM 9.3): a webhook that ever got a 410 is removed, and administrators may delete or switch one off; an API
//! user sees its own webhooks only. `skipOwn` leaves out what the API user does itself: with an administrator account we act
//! as users, so nothing is left out, and echoes are told by their content anyhow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use espocrm::{FieldKind, Provision, Webhook};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use store::StoreError;
use store::leases::Lease;
use sync::Kind;

use super::App;
use super::connections::EspoConnection;
use crate::vault::VaultError;

/// Where EspoCRM posts to.
pub const WEBHOOK_PATH: &str = "/webhooks/espocrm";
const EVENTS: [&str; 3] = ["create", "update", "delete"];

/// Something that was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about: an event or a field.
    pub what: String,
    /// What was done about it.
    pub done: Done,
    /// More about it, with the remedy where one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was done about something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// It was there.
    Present,
    /// It was made, or would be.
    Created,
    /// It was removed, or would be.
    Removed,
    /// It is missing, and cannot be made.
    Missing,
}

/// Why provisioning stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// EspoCRM refused.
    #[error(transparent)]
    Espo(#[from] espocrm::Error),
    /// The database failed.
    #[error("the webhook's secret cannot be stored")]
    Store(#[from] StoreError),
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Not configured.
    #[error("EspoCRM is not configured; set espocrm.url and espocrm.api_key")]
    NotConfigured,
}

/// The purpose under which the secret of a webhook is sealed.
#[must_use]
pub fn secret_purpose(webhook_id: &str) -> String {
    format!("espo_webhook:{webhook_id}")
}

fn step(what: impl Into<String>, done: Done) -> Step {
    Step { what: what.into(), done, note: None }
}

/// Makes and repairs our webhooks. Without a public address there are none, and polling serves.
///
/// # Errors
///
/// When EspoCRM or the database refuses.
pub async fn webhooks(app: &App, dry_run: bool) -> Result<Vec<Step>, ProvisionError> {
    let connection = app.connections().espocrm().ok_or(ProvisionError::NotConfigured)?;
    if app.config().server.public_url.is_none() {
        let note = "server.public_url is not set, so EspoCRM cannot reach this service; it is polled instead";
        return Ok(vec![Step { note: Some(note.to_owned()), ..step("webhooks", Done::Missing) }]);
    }
    let run = Run {
        app,
        connection: &connection,
        url: format!("{}{WEBHOOK_PATH}", app.config().base_url()),
        skip_own: !connection.client.can_act_as_users(),
        dry_run,
    };
    if dry_run {
        return run.all().await;
    }
    // `setup espocrm` may run beside the service: together they would make each webhook twice.
    let lease = lease(app).await?;
    let steps = run.all().await;
    if let Some(lease) = lease {
        store::leases::release(app.store().write(), &lease).await?;
    }
    steps
}

/// The right to make webhooks. Whoever has it for longer than that has died, and it is gone on without.
async fn lease(app: &App) -> Result<Option<Lease>, ProvisionError> {
    const WAIT: Duration = Duration::from_millis(200);
    const PATIENCE: u32 = 100;
    let holder = app.ids().next();
    for _ in 0..PATIENCE {
        let (now, write) = (app.clock().now(), app.store().write());
        if let Some(lease) =
            store::leases::acquire(write, "espo_webhooks", &holder, now, TimeDelta::seconds(20)).await?
        {
            return Ok(Some(lease));
        }
        tokio::time::sleep(WAIT).await;
    }
    Ok(None)
}

/// How a webhook is called in a list of steps.
fn name(event: &str) -> String {
    format!("webhook {event}")
}

struct Run<'a> {
    app: &'a App,
    connection: &'a EspoConnection,
    url: String,
    skip_own: bool,
    dry_run: bool,
}

impl Run<'_> {
    async fn all(&self) -> Result<Vec<Step>, ProvisionError> {
        let present = self.connection.client.webhooks().await?;
        let known = store::espo_webhooks::list(self.app.store().read()).await?;
        let known: BTreeMap<&str, &store::espo_webhooks::Webhook> =
            known.iter().map(|webhook| (webhook.id.as_str(), webhook)).collect();
        let mut kept = BTreeSet::new();
        let mut steps = Vec::new();
        for kind in Kind::ALL {
            for verb in EVENTS {
                let event = format!("{}.{verb}", kind.entity());
                let good = present.iter().find(|webhook| webhook.event == event && self.is_good(webhook));
                match good {
                    Some(webhook) => {
                        kept.insert(webhook.id.as_str());
                        let is_kept = known.get(webhook.id.as_str()).is_some_and(|known| self.is_same(known, webhook));
                        if !is_kept && !self.dry_run {
                            self.keep(webhook).await?;
                        }
                        steps.push(step(name(&event), Done::Present));
                    }
                    None => steps.push(self.create(event).await?),
                }
            }
        }
        for webhook in present.iter().filter(|webhook| !kept.contains(webhook.id.as_str())) {
            // Ours are those that post to our address, and those that did before the address changed.
            if webhook.url == self.url || known.contains_key(webhook.id.as_str()) {
                steps.push(self.remove(webhook).await?);
            }
        }
        for id in known.keys().filter(|id| !present.iter().any(|webhook| webhook.id == **id)) {
            if !self.dry_run {
                store::espo_webhooks::delete(self.app.store().write(), id).await?;
            }
        }
        Ok(steps)
    }

    /// Whether it leaves out our own changes does not matter here: echoes are told by their content, and `setup espocrm` with
    /// an administrator account would undo what a service without one has made, and the other way round.
    fn is_good(&self, webhook: &Webhook) -> bool {
        webhook.url == self.url && webhook.is_active != Some(false) && webhook.secret_key.is_some()
    }

    /// Whether the secret that we keep is the one that it signs with: in EspoCRM it may have been made anew.
    fn is_same(&self, known: &store::espo_webhooks::Webhook, webhook: &Webhook) -> bool {
        let kept = self.app.vault().open_secret(&secret_purpose(&webhook.id), &known.secret);
        kept.is_ok_and(|kept| webhook.secret_key.as_deref() == Some(kept.expose_secret()))
    }

    async fn create(&self, event: String) -> Result<Step, ProvisionError> {
        if !self.dry_run {
            let webhook = self.connection.client.create_webhook(&event, &self.url, self.skip_own).await?;
            self.keep(&webhook).await?;
        }
        Ok(step(name(&event), Done::Created))
    }

    async fn remove(&self, webhook: &Webhook) -> Result<Step, ProvisionError> {
        if !self.dry_run {
            self.connection.client.delete_webhook(&webhook.id).await?;
            store::espo_webhooks::delete(self.app.store().write(), &webhook.id).await?;
        }
        let note = format!("it posted to {} or was switched off", webhook.url);
        Ok(Step { note: Some(note), ..step(name(&webhook.event), Done::Removed) })
    }

    async fn keep(&self, webhook: &Webhook) -> Result<(), ProvisionError> {
        let secret = match &webhook.secret_key {
            Some(secret) => secret.clone(),
            // Some versions tell it only when asked again.
            None => {
                let again = self.connection.client.webhook(&webhook.id).await?;
                again.and_then(|webhook| webhook.secret_key).ok_or(ProvisionError::NotConfigured)?
            }
        };
        let row = store::espo_webhooks::Webhook {
            id: webhook.id.clone(),
            event: webhook.event.clone(),
            secret: self.app.vault().seal(&secret_purpose(&webhook.id), &secret)?,
            created: self.app.clock().now(),
        };
        store::espo_webhooks::put(self.app.store().write(), &row).await?;
        Ok(())
    }
}

/// Puts the switch into the detail layout of a kind, where users find it.
async fn shown(client: &espocrm::Client, kind: Kind, attribute: &str, dry_run: bool) -> Result<Step, ProvisionError> {
    let what = format!("{}.{attribute} in the detail layout", kind.entity());
    if !client.can_act_as_users() {
        let note = format!(
            "only administrators may change layouts: set espocrm.admin_username and espocrm.admin_password, or add \
             {attribute} in the Layout Manager"
        );
        return Ok(Step { note: Some(note), ..step(what, Done::Missing) });
    }
    Ok(match client.show_field(kind, attribute, dry_run).await? {
        Provision::Created => step(what, Done::Created),
        Provision::Existed => step(what, Done::Present),
    })
}

/// Makes the custom fields: the switch, which users see, and the marker, which they do not. On request the switch is put into
/// the detail layouts, which are the operator's own otherwise.
///
/// # Errors
///
/// When EspoCRM refuses.
pub async fn fields(app: &App, dry_run: bool, layout: bool) -> Result<Vec<Step>, ProvisionError> {
    let connection = app.connections().espocrm().ok_or(ProvisionError::NotConfigured)?;
    let client = &connection.client;
    let names = &app.config().espocrm;
    let wanted = [
        (&names.switch_field, FieldKind::Bool { default: true }, "Synchronize with Outlook"),
        (&names.marker_field, FieldKind::Varchar { max: 100 }, "Outlook marker"),
    ];
    let mut steps = Vec::new();
    for kind in Kind::ALL {
        for (attribute, form, label) in wanted {
            let what = format!("field {}.{attribute}", kind.entity());
            if client.has_field(kind, attribute).await? {
                steps.push(step(what, Done::Present));
            } else if !client.can_act_as_users() {
                let note = format!(
                    "only administrators may make fields: set espocrm.admin_username and espocrm.admin_password, or add the \
                     field {attribute} in the Entity Manager"
                );
                steps.push(Step { note: Some(note), ..step(what, Done::Missing) });
            } else {
                if !dry_run {
                    client.create_field(kind, attribute, form, label).await?;
                }
                steps.push(step(what, Done::Created));
            }
        }
        if layout {
            steps.push(shown(client, kind, &names.switch_field, dry_run).await?);
        }
    }
    if !dry_run && steps.iter().any(|step| step.done == Done::Created) {
        connection.refresh_schema().await?;
    }
    Ok(steps)
}
