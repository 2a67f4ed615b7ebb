//! What lies around the synchronisation: connections that are made anew, the switch for everything, an app registration that
//! was mended. Where something has changed for the better, what waited for it goes on at once.

use std::sync::{Arc, Weak};

use chrono::{DateTime, TimeDelta, Utc};

use super::first::unpark;
use crate::app::provision::{self, ProvisionError};
use crate::app::{App, EspoConnection, Microsoft};
use crate::work::error::WorkError;

/// How long to wait before the webhooks are looked at again, when EspoCRM could not be asked.
const AFTER_FAILURE: TimeDelta = TimeDelta::seconds(10);

/// How things stood at the last look.
#[derive(Default)]
pub(super) struct Known {
    espocrm: Weak<EspoConnection>,
    microsoft: Weak<Microsoft>,
    enabled: bool,
    alarm: bool,
    webhooks: Webhooks,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("enabled", &self.enabled).field("alarm", &self.alarm).finish_non_exhaustive()
    }
}

/// Whether EspoCRM's webhooks were looked at since the connection was made.
#[derive(Default)]
enum Webhooks {
    #[default]
    Due,
    Done,
    Again(DateTime<Utc>),
}

pub(super) async fn tick(app: &App, known: &mut Known) -> Result<(), WorkError> {
    let (espocrm, microsoft) = (app.connections().espocrm(), app.connections().microsoft());
    let is_new_espocrm = espocrm.as_ref().is_some_and(|now| !is(&known.espocrm, now));
    let is_new_microsoft = microsoft.as_ref().is_some_and(|now| !is(&known.microsoft, now));
    if is_new_espocrm {
        known.webhooks = Webhooks::Due;
    }
    let alarm = app.connections().purse().alarm().is_some();
    let enabled = app.connections().settings().enabled;
    let better = is_new_espocrm || is_new_microsoft || (known.alarm && !alarm) || (enabled && !known.enabled);
    known.espocrm = espocrm.as_ref().map(Arc::downgrade).unwrap_or_default();
    known.microsoft = microsoft.as_ref().map(Arc::downgrade).unwrap_or_default();
    (known.alarm, known.enabled) = (alarm, enabled);
    if espocrm.is_some() {
        look_at_webhooks(app, known).await;
    }
    if better && enabled { unpark(app).await } else { Ok(()) }
}

fn is<T>(known: &Weak<T>, now: &Arc<T>) -> bool {
    known.upgrade().is_some_and(|known| Arc::ptr_eq(&known, now))
}

async fn look_at_webhooks(app: &App, known: &mut Known) {
    let now = app.clock().now();
    match known.webhooks {
        Webhooks::Done => return,
        Webhooks::Again(at) if at > now => return,
        Webhooks::Due | Webhooks::Again(_) => {}
    }
    known.webhooks = match provision::webhooks(app, false).await {
        Ok(_) => Webhooks::Done,
        Err(error) => {
            tracing::warn!(%error, "the webhooks in EspoCRM could not be looked at");
            match error {
                ProvisionError::NotConfigured => Webhooks::Done,
                _ => Webhooks::Again(now + AFTER_FAILURE),
            }
        }
    };
}
