//! Connections to EspoCRM and Microsoft: from the configuration, else from the stored settings. They are rebuilt when
//! settings change, without a restart; who holds an old one finishes with it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use espocrm::{Client as EspoClient, Me, Schema};
use graph::{Authority, Client as GraphClient};
use secrecy::SecretString;
use store::Store;
use tokio::sync::Mutex;
use url::Url;

use super::circuits::Circuits;
use super::places::Places;
use super::settings::{self, Settings, SettingsError};
use super::tokens::{Purse, TokenStore};
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::id::Ids;
use crate::vault::Vault;
use crate::work::locks::Locks;

/// How long metadata of EspoCRM is believed: fields are seldom added.
const SCHEMA_LIVES: TimeDelta = TimeDelta::hours(1);
/// While the switch or the marker field is missing: `setup espocrm` may be run beside the service at any time.
const INCOMPLETE_SCHEMA_LIVES: TimeDelta = TimeDelta::minutes(1);

fn life_of(schema: &Schema) -> TimeDelta {
    let is_complete = schema.kinds.values().all(|kind| kind.switch.is_some() && kind.marker.is_some());
    if is_complete { SCHEMA_LIVES } else { INCOMPLETE_SCHEMA_LIVES }
}

/// The connections. Cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    ids: Ids,
    vault: Vault,
    store: Store,
    http: reqwest::Client,
    purse: Purse,
    circuits: Circuits,
    /// Outlive the clients: EspoCRM counts refused logins by address.
    refusals: espocrm::Refusals,
    /// Where other processes may use the mailboxes too.
    places: Option<Places>,
    now: RwLock<Current>,
    reloading: Mutex<()>,
}

#[derive(Clone, Default)]
struct Current {
    settings: Arc<Settings>,
    espocrm: Option<Arc<EspoConnection>>,
    microsoft: Option<Arc<Microsoft>>,
}

/// The connection to Microsoft.
pub struct Microsoft {
    /// Graph.
    pub graph: Arc<GraphClient>,
    /// The identity platform.
    pub authority: Authority,
    /// When the certificate ends; none where a secret serves.
    pub certificate_ends: Option<Option<DateTime<Utc>>>,
    /// Whose permission is used.
    pub mode: Mode,
}

/// Why connections could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built")]
    Http(#[source] reqwest::Error),
    /// The addresses of Microsoft make no sense.
    #[error("the connection to Microsoft cannot be made")]
    Microsoft(#[from] graph::AuthError),
    /// The certificate that was entered cannot be used.
    #[error("the stored client certificate cannot be used; enter it again")]
    Certificate(#[from] graph::certificate::CertificateError),
}

/// What connections are built with.
pub(super) struct Parts<'a> {
    pub clock: &'a Clock,
    pub ids: &'a Ids,
    pub vault: &'a Vault,
    pub store: &'a Store,
    pub locks: &'a Locks,
    pub circuits: &'a Circuits,
}

impl Connections {
    pub(super) async fn open(
        config: &Config,
        parts: &Parts<'_>,
        http: Option<reqwest::Client>,
    ) -> Result<Self, ConnectionError> {
        let Parts { clock, ids, vault, store, locks, circuits } = *parts;
        let http = match http {
            Some(http) => http,
            None => espocrm::http().user_agent(USER_AGENT).build().map_err(ConnectionError::Http)?,
        };
        let connections = Self(Arc::new(Inner {
            config: config.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            vault: vault.clone(),
            store: store.clone(),
            http,
            purse: Purse::new(store.clone(), vault.clone(), clock.clone(), locks.clone()),
            places: store.is_shared().then(|| Places::new(store, clock)),
            circuits: circuits.clone(),
            refusals: espocrm::Refusals::default(),
            now: RwLock::default(),
            reloading: Mutex::new(()),
        }));
        connections.reload().await?;
        Ok(connections)
    }

    /// EspoCRM, when its address and key are known.
    #[must_use]
    pub fn espocrm(&self) -> Option<Arc<EspoConnection>> {
        self.current().espocrm
    }

    /// Graph, when the app registration is known.
    #[must_use]
    pub fn graph(&self) -> Option<Arc<GraphClient>> {
        self.current().microsoft.map(|microsoft| microsoft.graph.clone())
    }

    /// Microsoft, when the app registration is known.
    #[must_use]
    pub fn microsoft(&self) -> Option<Arc<Microsoft>> {
        self.current().microsoft
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.current().settings
    }

    /// Where tokens are kept.
    #[must_use]
    pub fn purse(&self) -> &Purse {
        &self.0.purse
    }

    /// Reads the settings again and rebuilds what has changed.
    ///
    /// # Errors
    ///
    /// When the settings cannot be read or make no connection; the old connections stay.
    pub async fn reload(&self) -> Result<(), ConnectionError> {
        let _one_at_a_time = self.0.reloading.lock().await;
        let settings = Arc::new(settings::load(&self.0.store, &self.0.vault, &self.0.config).await?);
        let old = self.current();
        let espocrm = if old.settings.espocrm == settings.espocrm && old.espocrm.is_some() {
            old.espocrm
        } else {
            self.espocrm_of(&settings)
        };
        let microsoft = if old.settings.microsoft == settings.microsoft && old.microsoft.is_some() {
            old.microsoft
        } else {
            self.microsoft_of(&settings)?
        };
        *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = Current { settings, espocrm, microsoft };
        Ok(())
    }

    fn current(&self) -> Current {
        self.0.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn espocrm_of(&self, settings: &Settings) -> Option<Arc<EspoConnection>> {
        let given = &self.0.config.espocrm;
        let config = espocrm::Config {
            url: settings.espocrm.url.clone()?,
            api_key: settings.espocrm.api_key.clone()?.into(),
            secret_key: settings.espocrm.secret_key.clone().map(Into::into),
            admin: settings.espocrm.admin_username.clone().zip(settings.espocrm.admin_password.clone().map(Into::into)),
            location_fields: given.location_fields.clone(),
            switch_field: given.switch_field.clone(),
            marker_field: given.marker_field.clone(),
            pairs: self.0.config.pairs.clone(),
            refusals: self.0.refusals.clone(),
        };
        let circuit = &self.0.circuits.espocrm;
        circuit.reset();
        let client = EspoClient::with_circuit(self.0.http.clone(), config, self.0.clock.as_fn(), Arc::clone(circuit));
        let client = client.traced(Arc::new(crate::trace::current));
        Some(Arc::new(EspoConnection {
            client,
            clock: self.0.clock.clone(),
            schema: Mutex::default(),
            me: Mutex::default(),
        }))
    }

    fn microsoft_of(&self, settings: &Settings) -> Result<Option<Arc<Microsoft>>, ConnectionError> {
        let wanted = &settings.microsoft;
        let (Some(tenant), Some(client_id)) = (wanted.tenant.clone(), wanted.client_id.clone()) else {
            return Ok(None);
        };
        let certificate = match (&self.0.config.microsoft.client_certificate, &wanted.client_certificate) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(entered)) => Some(graph::certificate::Certificate::from_pem(entered.expose())?),
            (None, None) => None,
        };
        // Where both are given the certificate is what Microsoft recommends.
        let client_secret = match (&certificate, wanted.client_secret.clone()) {
            (Some(_), _) => SecretString::default(),
            (None, Some(secret)) => secret.into(),
            (None, None) => return Ok(None),
        };
        let redirect = format!("{}/oauth/microsoft/callback", self.0.config.base_url());
        let config = graph::Config {
            authority: self.0.config.microsoft.authority.clone(),
            graph_url: self.0.config.microsoft.graph_url.clone(),
            tenant,
            client_id,
            client_secret,
            mode: match wanted.mode {
                Mode::Delegated => graph::Mode::Delegated,
                Mode::Application => graph::Mode::Application,
            },
            redirect_url: Url::parse(&redirect).ok(),
        };
        let now = self.0.clock.as_fn();
        let Circuits { graph, sign_in, .. } = &self.0.circuits;
        graph.reset();
        sign_in.reset();
        let mut authority =
            Authority::new(self.0.http.clone(), &config, now.clone())?.with_circuit(Arc::clone(sign_in));
        let certificate_ends = certificate.as_ref().map(graph::certificate::Certificate::expires);
        if let Some(certificate) = certificate {
            authority = authority.with_certificate(certificate);
        }
        let tokens = Arc::new(TokenStore::new(
            self.0.purse.clone(),
            authority.clone(),
            wanted.mode,
            &config.tenant,
            &config.client_id,
        ));
        let ids = self.0.ids.clone();
        let ids = Arc::new(move || ids.next());
        let http = self.0.http.clone();
        let graph = GraphClient::with_circuit(http, &config, tokens, now, ids, Arc::clone(graph));
        let graph = match &self.0.places {
            Some(places) => graph.with_places(Arc::new(places.clone())),
            None => graph,
        };
        let graph = graph.traced(Arc::new(crate::trace::current));
        Ok(Some(Arc::new(Microsoft { graph: Arc::new(graph), authority, certificate_ends, mode: wanted.mode })))
    }
}

const USER_AGENT: &str = concat!("espo-outlook/", env!("CARGO_PKG_VERSION"));

/// The connection to EspoCRM, with what seldom changes there.
pub struct EspoConnection {
    /// The client.
    pub client: EspoClient,
    clock: Clock,
    schema: Mutex<Option<(DateTime<Utc>, Arc<Schema>)>>,
    me: Mutex<Option<Arc<Me>>>,
}

impl EspoConnection {
    /// Which fields there are: read once an hour, more often while ours are missing.
    ///
    /// # Errors
    ///
    /// When EspoCRM does not tell and never did.
    pub async fn schema(&self) -> espocrm::Result<Arc<Schema>> {
        let mut cached = self.schema.lock().await;
        let now = self.clock.now();
        if let Some((read, schema)) = &*cached
            && now - *read < life_of(schema)
        {
            return Ok(schema.clone());
        }
        match (self.client.schema().await, &*cached) {
            (Ok(fresh), _) => {
                let fresh = Arc::new(fresh);
                *cached = Some((now, fresh.clone()));
                Ok(fresh)
            }
            (Err(error), Some((_, old))) => {
                tracing::warn!(%error, "EspoCRM's metadata cannot be read; the last known is used");
                Ok(old.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Forgets which fields there are, so that they are read again.
    pub async fn refresh_schema(&self) -> espocrm::Result<Arc<Schema>> {
        *self.schema.lock().await = None;
        self.schema().await
    }

    /// Who we are there: read once.
    ///
    /// # Errors
    ///
    /// When EspoCRM does not tell.
    pub async fn me(&self) -> espocrm::Result<Arc<Me>> {
        let mut cached = self.me.lock().await;
        if let Some(me) = &*cached {
            return Ok(me.clone());
        }
        let me = Arc::new(self.client.me().await?);
        *cached = Some(me.clone());
        Ok(me)
    }
}

/// How long an answer may take before the other side counts as unreachable (for probes; requests have their own limits).
pub const PROBE: Duration = Duration::from_secs(3);
