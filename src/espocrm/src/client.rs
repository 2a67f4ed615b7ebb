//! The client: what it is configured with and what its clones share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use circuit::Circuit;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use crate::auth::{ADMIN_ATTEMPTS, Gate, Identity, KEY_ATTEMPTS, Refusals};
use crate::people::Remembered;

/// Four requests at once saturate a small EspoCRM (one PHP start each); more only wait there.
const IN_FLIGHT: usize = 4;

/// The clock.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Tells the `traceparent` of what is being done, if there is one: requests carry it (W3C Trace Context).
pub type Trace = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Where EspoCRM is and who we are there.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its address, with or without `/api/v1`.
    pub url: Url,
    /// Key of the API user.
    pub api_key: SecretString,
    /// Turns on HMAC authentication.
    pub secret_key: Option<SecretString>,
    /// Name and password of an administrator.
    pub admin: Option<(String, SecretString)>,
    /// Attributes that may hold the location, in the order in which they are tried.
    pub location_fields: Vec<String>,
    /// Attribute of the "Synchronize with Outlook" switch.
    pub switch_field: String,
    /// Attribute of the marker.
    pub marker_field: String,
    /// Configured pairs of fields.
    pub pairs: Vec<sync::Pair>,
    /// Refused logins so far: they count against the address, whichever client made them.
    pub refusals: Refusals,
}

impl Config {
    /// With the names of fields that `setup espocrm` makes.
    #[must_use]
    pub fn new(url: Url, api_key: SecretString) -> Self {
        Self {
            url,
            api_key,
            secret_key: None,
            admin: None,
            location_fields: vec!["location".to_owned(), "cLocation".to_owned()],
            switch_field: "cSyncWithOutlook".to_owned(),
            marker_field: "cOutlookMarker".to_owned(),
            pairs: Vec::new(),
            refusals: Refusals::default(),
        }
    }

    fn base(&self) -> Url {
        let mut base = self.url.clone();
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&if path.ends_with("/api/v1") { path } else { format!("{path}/api/v1") });
        base
    }
}

/// As whom a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acting<'a> {
    /// The API user.
    Connector,
    /// A user, through the administrator's `X-Another-User`; without an administrator account, or when the user may not, the
    /// API user.
    User {
        /// The user's id.
        id: &'a str,
        /// The user's `userName`.
        name: &'a str,
    },
    /// The administrator.
    Admin,
}

/// An EspoCRM client. Clones share their limits and what they remember.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    config: Config,
    base: Url,
    now: Now,
    trace: Option<Trace>,
    key_gate: Gate,
    admin_gate: Gate,
    people_gate: Gate,
    in_flight: Semaphore,
    circuit: Arc<Circuit>,
    addresses: Mutex<HashMap<String, Remembered>>,
    creating: tokio::sync::Mutex<()>,
    large: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// How the HTTP client must be built: redirects would carry the key to another host, and EspoCRM makes none. Connections are not
/// kept for as long as the other side keeps them (Apache, which most EspoCRM run behind: `KeepAliveTimeout` 5): a request on
/// one that is being closed would end without an answer.
pub fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(4))
        .timeout(Duration::from_secs(60))
}

impl Client {
    /// A client. `http` must not follow redirects (see [`http`]).
    #[must_use]
    pub fn new(http: reqwest::Client, config: Config, now: Now) -> Self {
        Self::with_circuit(http, config, now, Circuit::unattended("espocrm"))
    }

    /// A client that sends nothing while the circuit is open.
    #[must_use]
    pub fn with_circuit(http: reqwest::Client, config: Config, now: Now, circuit: Arc<Circuit>) -> Self {
        let inner = Inner {
            http,
            base: config.base(),
            now,
            trace: None,
            key_gate: Gate::new(KEY_ATTEMPTS, config.refusals.clone()),
            admin_gate: Gate::new(ADMIN_ATTEMPTS, config.refusals.clone()),
            people_gate: Gate::of_people(config.refusals.clone()),
            config,
            in_flight: Semaphore::new(IN_FLIGHT),
            circuit,
            addresses: Mutex::default(),
            creating: tokio::sync::Mutex::new(()),
            large: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same, whose requests name the trace that they belong to (W3C Trace Context). To be called before it is cloned.
    #[must_use]
    pub fn traced(mut self, trace: Trace) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.trace = Some(trace);
        }
        self
    }

    /// What it was configured with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// True when requests can be made as users.
    #[must_use]
    pub fn can_act_as_users(&self) -> bool {
        self.inner.config.admin.is_some()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(crate) fn base(&self) -> &Url {
        &self.inner.base
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.inner.now)()
    }

    pub(crate) fn trace(&self) -> Option<String> {
        self.inner.trace.as_ref().and_then(|trace| trace())
    }

    pub(crate) fn gate(&self, identity: Identity<'_>) -> &Gate {
        match identity {
            Identity::Key => &self.inner.key_gate,
            Identity::Admin | Identity::AdminAs(_) => &self.inner.admin_gate,
            Identity::Person => &self.inner.people_gate,
        }
    }

    /// What EspoCRM refuses, as far as is known: a credential that was refused when it was last used.
    #[must_use]
    pub fn refused_credential(&self) -> Option<&'static str> {
        [Identity::Key, Identity::Admin].into_iter().find(|one| self.gate(*one).is_refused()).map(Identity::credential)
    }

    /// The permission of the circuit.
    pub(crate) fn enter(&self) -> crate::Result<circuit::Pass> {
        self.inner.circuit.enter(self.now()).map_err(|after| crate::Error::Away { after })
    }

    /// A place among the requests in flight; the semaphore is never closed.
    pub(crate) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.in_flight.acquire().await.ok()
    }

    pub(crate) fn addresses(&self) -> &Mutex<HashMap<String, Remembered>> {
        &self.inner.addresses
    }

    /// Held while a person is looked up and made, so that two workers do not make the same one.
    pub(crate) fn creating(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.creating
    }

    /// Held while a large file is sent.
    pub(crate) fn large(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.large
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_below_any_form_of_the_address() {
        for url in ["https://crm.example/x", "https://crm.example/x/", "https://crm.example/x/api/v1/?a=b#c"] {
            let config = Config::new(url.parse().expect("a url"), "key".into());
            assert_eq!(config.base().as_str(), "https://crm.example/x/api/v1");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let mut config = Config::new("https://crm.example".parse().expect("a url"), "kkkk".into());
        config.secret_key = Some("ssss".into());
        config.admin = Some(("root".to_owned(), "pppp".into()));
        let shown = format!("{config:?}");
        assert!(!["kkkk", "ssss", "pppp"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
}
