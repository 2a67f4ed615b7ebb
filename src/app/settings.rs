//! Settings in force: the configuration, and where it says nothing what was entered in the pages.
//!
//! Secrets that were entered are sealed ([`crate::vault`]) under the name of their setting.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use secrecy::ExposeSecret as _;
use store::settings::Setting;
use store::{ConnectionTrait, Store, StoreError};
use sync::Kind;
use url::Url;

use crate::config::{Config, Mode};
use crate::vault::{Vault, VaultError};

/// Whether anything is synchronised at all.
pub const ENABLED: &str = "enabled";
/// Records of one mailbox in one iteration.
pub const EVENTS_PER_ITERATION: &str = "events_per_iteration";
/// Cron expression of a kind's sweep: this and the kind.
pub const SCHEDULE: &str = "schedule.";
/// The token of the admin API, when none is configured (sealed).
pub const ADMIN_TOKEN: &str = "server.admin_token";
/// What tells whether a process has the right key (sealed).
pub const KEY_CHECK: &str = "security.key_check";

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether anything is synchronised at all.
    pub enabled: bool,
    /// Records of one mailbox in one iteration.
    pub events_per_iteration: u32,
    /// EspoCRM.
    pub espocrm: Espocrm,
    /// Microsoft.
    pub microsoft: Microsoft,
    /// Cron expressions of the sweeps.
    pub schedules: BTreeMap<Kind, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            events_per_iteration: 10,
            espocrm: Espocrm::default(),
            microsoft: Microsoft::default(),
            schedules: BTreeMap::new(),
        }
    }
}

/// A secret that can be compared, and that no `Debug` form shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Whether it begins with what its issuer tells of it.
    #[must_use]
    pub fn begins_with(&self, hint: &str) -> bool {
        !hint.is_empty() && self.0.starts_with(hint)
    }

    /// The secret, for whom it is meant.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl From<Secret> for secrecy::SecretString {
    fn from(secret: Secret) -> Self {
        Self::from(secret.0)
    }
}

/// EspoCRM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Espocrm {
    /// Address.
    pub url: Option<Url>,
    /// API key.
    pub api_key: Option<Secret>,
    /// Secret key.
    pub secret_key: Option<Secret>,
    /// Admin account.
    pub admin_username: Option<String>,
    /// Its password.
    pub admin_password: Option<Secret>,
}

/// Microsoft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Microsoft {
    /// Tenant.
    pub tenant: Option<String>,
    /// Application ID.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
    /// When that ends, as its maker has noted it.
    pub secret_expires: Option<NaiveDate>,
    /// Certificate and private key in PEM, in place of the secret, where they were entered in the pages.
    pub client_certificate: Option<Secret>,
    /// Whose permission is used.
    pub mode: Mode,
}

impl Default for Microsoft {
    fn default() -> Self {
        Self {
            tenant: None,
            client_id: None,
            client_secret: None,
            secret_expires: None,
            client_certificate: None,
            mode: Mode::Delegated,
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The database failed.
    #[error("the settings cannot be read")]
    Store(#[from] StoreError),
    /// A secret cannot be opened.
    #[error("the stored setting {name} cannot be used; enter it again")]
    Secret {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: VaultError,
    },
    /// A value is of another form.
    #[error("the stored setting {name} cannot be read; enter it again")]
    Form {
        /// Which.
        name: String,
    },
}

/// Reads what is in force.
///
/// # Errors
///
/// When the database fails, or a stored setting cannot be read.
pub async fn load(store: &Store, vault: &Vault, config: &Config) -> Result<Settings, SettingsError> {
    let stored = Stored { vault, all: store::settings::all(store.read()).await? };
    let secret = |given: &Option<secrecy::SecretString>, name: &str| match given {
        Some(given) => Ok(Some(Secret(given.expose_secret().to_owned()))),
        None => stored.secret(name),
    };
    let (espocrm, microsoft) = (&config.espocrm, &config.microsoft);
    Ok(Settings {
        enabled: stored.plain(ENABLED)?.unwrap_or(true),
        events_per_iteration: stored.plain(EVENTS_PER_ITERATION)?.unwrap_or(config.sync.events_per_iteration),
        espocrm: Espocrm {
            url: espocrm.url.clone().map_or_else(|| stored.plain("espocrm.url"), |url| Ok(Some(url)))?,
            api_key: secret(&espocrm.api_key, "espocrm.api_key")?,
            secret_key: secret(&espocrm.secret_key, "espocrm.secret_key")?,
            admin_username: stored.or(&espocrm.admin_username, "espocrm.admin_username")?,
            admin_password: secret(&espocrm.admin_password, "espocrm.admin_password")?,
        },
        microsoft: Microsoft {
            tenant: stored.or(&microsoft.tenant, "microsoft.tenant")?,
            client_id: stored.or(&microsoft.client_id, "microsoft.client_id")?,
            client_secret: secret(&microsoft.client_secret, "microsoft.client_secret")?,
            secret_expires: stored.plain("microsoft.secret_expires")?,
            client_certificate: match microsoft.client_certificate {
                Some(_) => None,
                None => stored.secret("microsoft.client_certificate")?,
            },
            mode: stored.or(&microsoft.mode, "microsoft.mode")?.unwrap_or(Mode::Delegated),
        },
        schedules: Kind::ALL
            .into_iter()
            .map(|kind| {
                let given = match kind {
                    Kind::Meeting => &config.schedule.meeting,
                    Kind::Call => &config.schedule.call,
                    Kind::Task => &config.schedule.task,
                };
                Ok((kind, stored.plain(&format!("{SCHEDULE}{kind}"))?.unwrap_or_else(|| given.clone())))
            })
            .collect::<Result<_, SettingsError>>()?,
    })
}

struct Stored<'a> {
    vault: &'a Vault,
    all: BTreeMap<String, Setting>,
}

impl Stored<'_> {
    fn plain<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SettingsError> {
        let form = || SettingsError::Form { name: name.to_owned() };
        match self.all.get(name) {
            None => Ok(None),
            Some(Setting::Plain(value)) => serde_json::from_value(value.clone()).map(Some).map_err(|_| form()),
            Some(Setting::Sealed(_)) => Err(form()),
        }
    }

    fn or<T: serde::de::DeserializeOwned + Clone>(
        &self,
        given: &Option<T>,
        name: &str,
    ) -> Result<Option<T>, SettingsError> {
        if given.is_some() { Ok(given.clone()) } else { self.plain(name) }
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, SettingsError> {
        match self.all.get(name) {
            None => Ok(None),
            Some(Setting::Sealed(sealed)) => {
                let opened = self.vault.open_secret(name, sealed);
                let secret = opened.map_err(|source| SettingsError::Secret { name: name.to_owned(), source })?;
                Ok(Some(Secret(secret.expose_secret().to_owned())))
            }
            Some(Setting::Plain(_)) => Err(SettingsError::Form { name: name.to_owned() }),
        }
    }
}

/// Seals a secret and stores it under its name.
///
/// # Errors
///
/// When the database or the vault fails.
pub async fn put_secret(
    conn: &impl ConnectionTrait,
    vault: &Vault,
    name: &str,
    secret: &str,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), SettingsError> {
    let sealed = vault.seal(name, secret).map_err(|source| SettingsError::Secret { name: name.to_owned(), source })?;
    store::settings::put_sealed(conn, name, &sealed, now).await?;
    Ok(())
}
