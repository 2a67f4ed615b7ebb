//! What a worker has at hand for one pair: both connections, the owner's binding, the rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use store::bindings::{Binding, BindingState};
use sync::{Directions, Kind, NewEvents, Owner, Rules};

use super::error::WorkError;
use crate::app::{App, EspoConnection};

/// Everything about the user whose mailbox holds a pair.
#[derive(Clone)]
pub struct Context {
    /// The service.
    pub app: App,
    /// EspoCRM.
    pub espo: Arc<EspoConnection>,
    /// What EspoCRM's entities have.
    pub schema: Arc<espocrm::Schema>,
    /// Microsoft.
    pub graph: Arc<graph::Client>,
    /// The owner's binding, if there is one.
    pub binding: Option<Binding>,
    /// The owner's effective rules.
    pub rules: Rules,
    /// All bindings, for telling whose an address is.
    pub bindings: Arc<Vec<Binding>>,
    /// Addresses of bound mailboxes.
    pub bound: Arc<BTreeSet<String>>,
    /// Others read the same mailbox at this moment, so that reads are worth gathering.
    pub in_bulk: bool,
}

impl Context {
    /// The context of a user, bound or not.
    ///
    /// # Errors
    /// When a system is not configured, or the database or EspoCRM cannot be asked.
    pub async fn of(app: &App, user: Option<&str>) -> Result<Self, WorkError> {
        let espo = app.connections().espocrm().ok_or(WorkError::NotConfigured("EspoCRM"))?;
        let graph = app.connections().graph().ok_or(WorkError::NotConfigured("Microsoft"))?;
        let schema = espo.schema().await?;
        let directory = app.store().directory().await?;
        Ok(Self {
            app: app.clone(),
            espo,
            schema,
            graph,
            binding: user.and_then(|user| directory.binding(user).cloned()),
            rules: with_pairs(app, directory.rules(user)),
            bindings: directory.bindings.clone(),
            bound: directory.bound.clone(),
            in_bulk: false,
        })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.app.clock().now()
    }

    /// The owner as the core sees it.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        let binding = self.binding.as_ref()?;
        Some(Owner {
            user: binding.user_id.clone(),
            address: binding.mailbox.as_deref().map(sync::text::address).unwrap_or_default(),
            start_date: binding.sync_from,
            zone: zone(binding),
            active: binding.enabled && binding.state == BindingState::Active,
            taking_in: binding.first_sync_done,
        })
    }

    /// The owner's mailbox.
    ///
    /// # Errors
    /// When the owner is not bound or not signed in: the change waits for that.
    pub fn mailbox(&self) -> Result<graph::Mailbox, WorkError> {
        let binding = self.binding.as_ref().ok_or(WorkError::NotActive("missing"))?;
        mailbox(&self.app, binding, &self.rules)
    }

    /// The address of the owner's mailbox.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.binding.as_ref()?.mailbox.as_deref().map(sync::text::address)
    }

    /// As whom EspoCRM is written: as the owner, where an administrator's account allows it.
    #[must_use]
    pub fn acting(&self) -> espocrm::Acting<'_> {
        match &self.binding {
            Some(binding) if self.espo.client.can_act_as_users() => {
                espocrm::Acting::User { id: &binding.user_id, name: &binding.user_name }
            }
            _ => espocrm::Acting::Connector,
        }
    }

    /// Until when occurrences are taken in.
    #[must_use]
    pub fn horizon(&self) -> DateTime<Utc> {
        self.now() + Duration::days(i64::from(self.app.config().sync.horizon_days))
    }

    /// The Outlook category of a kind.
    #[must_use]
    pub fn category(&self, kind: Kind) -> Option<&str> {
        (kind == Kind::Call).then_some(self.rules.call_category.as_str())
    }

    /// The kind that an unlinked event becomes.
    #[must_use]
    pub fn kind_of(&self, item: &sync::Item) -> Kind {
        let all_day = item
            .values
            .get(&sync::Field::Time)
            .and_then(sync::Value::as_when)
            .is_some_and(|when| matches!(when, sync::When::AllDay { .. }));
        match item.kind {
            Kind::Meeting if self.rules.new_events == NewEvents::Call && !all_day => Kind::Call,
            kind => kind,
        }
    }
}

/// A binding's mailbox.
///
/// # Errors
/// When it is switched off, paused or not signed in.
pub fn mailbox(app: &App, binding: &Binding, rules: &Rules) -> Result<graph::Mailbox, WorkError> {
    if !binding.enabled {
        return Err(WorkError::NotActive("switched off"));
    }
    if let (BindingState::Error, Some(next_try)) = (binding.state, binding.next_try) {
        // A little later than the binding itself.
        let after = (next_try + Duration::seconds(1) - app.clock().now()).to_std().unwrap_or_default();
        return Err(WorkError::MailboxRests { after });
    }
    if binding.state != BindingState::Active {
        return Err(WorkError::NotActive("not active"));
    }
    let address = binding.mailbox.clone().ok_or(WorkError::NotActive("without a mailbox"))?;
    Ok(graph::Mailbox {
        user: binding.user_id.clone(),
        address,
        zone: Some(zone(binding)),
        call_category: rules.call_category.clone(),
        pairs: app.config().pairs.as_slice().into(),
    })
}

fn zone(binding: &Binding) -> Tz {
    binding.zone.as_deref().and_then(sync::time::zone).unwrap_or(Tz::UTC)
}

/// A user's effective rules: the defaults, the organisation's over them, the user's over those.
///
/// # Errors
/// When the database cannot be read.
pub async fn rules_of(app: &App, user: Option<&str>) -> Result<Rules, WorkError> {
    Ok(with_pairs(app, app.store().directory().await?.rules(user)))
}

fn with_pairs(app: &App, rules: Rules) -> Rules {
    Rules { fields: Directions::of(&app.config().pairs), ..rules }
}
