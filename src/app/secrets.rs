//! Everything that is sealed at rest: whether it can be opened, and sealing it anew with another key.

use std::collections::BTreeMap;

use store::sealed::{Place, Sealed};
use store::{Store, StoreError};

use super::{provision, tokens};
use crate::vault::{Vault, VaultError, key_id};

/// The purpose of the verifier of a sign-in under way.
pub const VERIFIER: &str = "pkce";

/// Why secrets could not be sealed anew. Nothing was changed then, but that a new key may lie in the file unused.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The database failed.
    #[error("the sealed secrets cannot be read or written; the old key stays in force")]
    Store(#[from] StoreError),
    /// The key.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// One of them cannot be opened.
    #[error(
        "{what} cannot be opened with any known key, so nothing was sealed anew; give the key, or enter it again first"
    )]
    Closed {
        /// Which.
        what: String,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rotated {
    /// The id of the key that seals now.
    pub key_id: String,
    /// How many secrets were sealed anew.
    pub sealed: usize,
    /// How many had been already.
    pub kept: usize,
}

fn purpose(place: &Place) -> String {
    match place {
        Place::Setting(name) => name.clone(),
        Place::Access(user) => tokens::access_purpose(user),
        Place::Refresh(user) => tokens::refresh_purpose(user),
        Place::Webhook(id) => provision::secret_purpose(id),
        Place::SignIn(_) => VERIFIER.to_owned(),
    }
}

/// What it is, for people.
fn name(place: &Place) -> String {
    match place {
        Place::Setting(name) => format!("the setting {name}"),
        Place::Access(user) | Place::Refresh(user) if user.starts_with('*') => "the token of the app itself".to_owned(),
        Place::Access(user) | Place::Refresh(user) => format!("the Microsoft token of the user {user}"),
        Place::Webhook(id) => format!("the secret of the webhook {id}"),
        Place::SignIn(_) => "a sign-in under way".to_owned(),
    }
}

/// How many secrets each key has sealed, and which of them cannot be opened.
///
/// # Errors
///
/// When the database fails.
pub async fn survey(store: &Store, vault: &Vault) -> Result<(BTreeMap<String, usize>, Vec<String>), StoreError> {
    let mut by_key = BTreeMap::new();
    let mut closed = Vec::new();
    for Sealed { place, text } in store::sealed::list(store.read()).await? {
        *by_key.entry(key_id(&text).unwrap_or("unknown").to_owned()).or_insert(0) += 1;
        if vault.open_secret(&purpose(&place), &text).is_err() {
            closed.push(name(&place));
        }
    }
    closed.dedup();
    Ok((by_key, closed))
}

/// Puts a new key into the file, unless the keys are given in the configuration, and seals everything with it, all or nothing.
/// Keys that sealed something until now stay in the file, for the running service, which follows, and for older backups.
///
/// # Errors
///
/// When something cannot be opened, or the key or the database cannot be written.
pub async fn rotate(store: &Store, vault: &Vault) -> Result<Rotated, RotateError> {
    let (by_key, closed) = survey(store, vault).await?;
    if let Some(what) = closed.into_iter().next() {
        return Err(RotateError::Closed { what });
    }
    if vault.file().is_some() {
        let mut needed: Vec<String> = by_key.into_keys().collect();
        needed.push(vault.key_id());
        vault.renew(&needed)?;
    } else if by_key.keys().all(|key| *key == vault.key_id()) {
        return Err(VaultError::Configured.into());
    }
    let transaction = store.begin().await?;
    let mut rotated = Rotated { key_id: vault.key_id(), sealed: 0, kept: 0 };
    for sealed in store::sealed::list(&transaction).await? {
        if key_id(&sealed.text) == Some(rotated.key_id.as_str()) {
            rotated.kept += 1;
            continue;
        }
        let purpose = purpose(&sealed.place);
        let closed = |_| RotateError::Closed { what: name(&sealed.place) };
        let secret = vault.open_secret(&purpose, &sealed.text).map_err(closed)?;
        let anew = vault.seal(&purpose, secrecy::ExposeSecret::expose_secret(&secret))?;
        store::sealed::replace(&transaction, &sealed, &anew).await?;
        rotated.sealed += 1;
    }
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(rotated)
}
