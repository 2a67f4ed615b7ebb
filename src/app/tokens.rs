//! Access tokens: kept sealed, refreshed once at a time, and stored before they are used.
//!
//! Facts (identity platform v2.0): a refresh may answer with a new refresh token, which then is the one to use; `invalid_grant`
//! means that the user has to sign in again; an expired client secret answers `invalid_client` and is no user's fault.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{BoxFuture, FutureExt as _};
use graph::auth::Refused;
use graph::{AuthError, Authority, Mailbox, TokenSet, Tokens};
use secrecy::{ExposeSecret as _, SecretString};
use store::bindings::BindingState;
use store::tokens::{Kept, Token};
use store::{Store, StoreError};

use crate::clock::Clock;
use crate::config::Mode;
use crate::vault::{Vault, VaultError, digest};
use crate::work::locks::Locks;

/// The name under which the application's own token is kept: of each registration its own, so that a token of another
/// tenant or app is never used. EspoCRM's ids have no such sign.
fn application(tenant: &str, client_id: &str) -> String {
    let digest = digest(&format!("{tenant}/{client_id}"));
    format!("*{}", digest.get(..16).unwrap_or_default())
}
/// A token that ends so soon is not used any more.
const SPARE: TimeDelta = TimeDelta::minutes(2);

/// How long a refusal of the app registration is believed before it is asked again: every message that waits for a token
/// would ask else.
const REFUSED_FOR: TimeDelta = TimeDelta::seconds(10);

/// Where tokens are kept. Cheap to clone; clones share their locks.
#[derive(Clone)]
pub struct Purse(Arc<Inner>);

struct Inner {
    store: Store,
    vault: Vault,
    clock: Clock,
    locks: Locks,
    alarm: Mutex<Option<String>>,
}

/// Why a token could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum PurseError {
    /// The database failed.
    #[error("the tokens cannot be read or written")]
    Store(#[from] StoreError),
    /// It was sealed with another key.
    #[error("the stored token cannot be opened; the user has to sign in again")]
    Vault(#[from] VaultError),
}

impl From<PurseError> for AuthError {
    fn from(error: PurseError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl Purse {
    pub(super) fn new(store: Store, vault: Vault, clock: Clock, locks: Locks) -> Self {
        Self(Arc::new(Inner { store, vault, clock, locks, alarm: Mutex::default() }))
    }

    /// A token of somebody who has just signed in, sealed. Storing it is the caller's, in a transaction of its own
    /// ([`store::tokens::put`]).
    ///
    /// # Errors
    ///
    /// When it cannot be sealed.
    pub fn seal(&self, user: &str, tokens: &TokenSet) -> Result<Token, VaultError> {
        let vault = &self.0.vault;
        let life = TimeDelta::from_std(tokens.expires_in).unwrap_or(TimeDelta::hours(1));
        let refresh =
            tokens.refresh.as_ref().map(|refresh| vault.seal(&refresh_purpose(user), refresh.expose_secret()));
        Ok(Token {
            access: vault.seal(&access_purpose(user), tokens.access.expose_secret())?,
            refresh: refresh.transpose()?,
            expires: self.0.clock.now() + life,
        })
    }

    /// What only the operator can help, in a sentence.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        self.0.alarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn raise(&self, error: &AuthError) {
        let sentence = error.to_string();
        let mut alarm = self.0.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::gauge!("espo_outlook_operator_alarm", "what" => "app_registration").set(1.0);
        if alarm.as_deref() != Some(sentence.as_str()) {
            tracing::error!(error = %sentence, "Microsoft refuses the app registration; no user's state is changed");
            *alarm = Some(sentence);
        }
    }

    fn calm(&self) {
        if self.0.alarm.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("Microsoft accepts the app registration again");
            metrics::gauge!("espo_outlook_operator_alarm", "what" => "app_registration").set(0.0);
        }
    }

    async fn kept(&self, name: &str) -> Result<Option<Open>, PurseError> {
        let Some(kept) = store::tokens::get(self.0.store.read(), name).await? else { return Ok(None) };
        let Kept { token, version, .. } = kept;
        let access = self.0.vault.open_secret(&access_purpose(name), &token.access)?;
        let refresh = token.refresh.as_deref().map(|sealed| self.0.vault.open_secret(&refresh_purpose(name), sealed));
        Ok(Some(Open { access, refresh: refresh.transpose()?, expires: token.expires, version }))
    }
}

pub(super) fn access_purpose(name: &str) -> String {
    format!("access:{name}")
}

pub(super) fn refresh_purpose(name: &str) -> String {
    format!("refresh:{name}")
}

struct Open {
    access: SecretString,
    refresh: Option<SecretString>,
    expires: DateTime<Utc>,
    version: i64,
}

/// Gives tokens to the Graph client.
pub struct TokenStore {
    purse: Purse,
    authority: Authority,
    mode: Mode,
    application: String,
    refused: Mutex<Option<(DateTime<Utc>, Refused)>>,
}

impl TokenStore {
    pub(super) fn new(purse: Purse, authority: Authority, mode: Mode, tenant: &str, client_id: &str) -> Self {
        Self { purse, authority, mode, application: application(tenant, client_id), refused: Mutex::default() }
    }

    fn name<'a>(&'a self, mailbox: &'a Mailbox) -> &'a str {
        match self.mode {
            Mode::Delegated => &mailbox.user,
            Mode::Application => &self.application,
        }
    }

    fn is_fresh(&self, open: &Open) -> bool {
        open.expires - SPARE > self.purse.0.clock.now()
    }

    /// A token that is fresh and not the refused one: the kept one, else a new one. One at a time per account, whatever the
    /// number of processes.
    async fn fresh(&self, mailbox: &Mailbox, refused: Option<&SecretString>) -> Result<SecretString, AuthError> {
        let name = self.name(mailbox);
        let locks = &self.purse.0.locks;
        let _one_at_a_time = locks.acquire(format!("token:{name}")).await.map_err(PurseError::from)?;
        let kept = self.purse.kept(name).await?;
        if let Some(open) = &kept
            && self.is_fresh(open)
            && refused.is_none_or(|refused| refused.expose_secret() != open.access.expose_secret())
        {
            return Ok(open.access.clone());
        }
        if let Some(refused) = self.refused_lately() {
            return Err(AuthError::Operator(refused));
        }
        let outcome = self.exchange(kept.as_ref()).await;
        let tokens = match outcome {
            Ok(tokens) => tokens,
            Err(error) => return self.failed(name, kept.as_ref(), error).await,
        };
        self.purse.calm();
        self.keep(name, kept.as_ref(), tokens).await
    }

    /// The refusal of the app registration, while it is believed.
    fn refused_lately(&self) -> Option<Refused> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.purse.0.clock.now();
        refused
            .as_ref()
            .filter(|(at, _)| now.signed_duration_since(*at) < REFUSED_FOR)
            .map(|(_, refused)| refused.clone())
    }

    async fn exchange(&self, kept: Option<&Open>) -> Result<TokenSet, AuthError> {
        match self.mode {
            // What a user would have to consent to is here for the operator to grant.
            Mode::Application => self.authority.client_credentials().await.map_err(|error| match error {
                AuthError::SignIn(refused) => AuthError::Operator(refused),
                error => error,
            }),
            Mode::Delegated => {
                let refresh = kept.and_then(|open| open.refresh.as_ref()).ok_or(AuthError::Missing)?;
                let mut tokens = self.authority.refresh(refresh).await?;
                // An answer without a new refresh token leaves the old one in force.
                tokens.refresh.get_or_insert_with(|| refresh.clone());
                Ok(tokens)
            }
        }
    }

    /// Stores a token before anybody uses it. When another process was faster, its token is used.
    async fn keep(&self, name: &str, kept: Option<&Open>, tokens: TokenSet) -> Result<SecretString, AuthError> {
        let Inner { store, clock, .. } = &*self.purse.0;
        let token = self.purse.seal(name, &tokens).map_err(PurseError::from)?;
        let stored = match kept {
            Some(open) => store::tokens::replace_if(store.write(), name, open.version, &token, clock.now()).await,
            None => store::tokens::put(store.write(), name, &token, clock.now()).await.map(|_| true),
        };
        if stored.map_err(PurseError::from)? {
            return Ok(tokens.access);
        }
        match self.purse.kept(name).await? {
            Some(open) if self.is_fresh(&open) => Ok(open.access),
            _ => Err(AuthError::Missing),
        }
    }

    async fn failed(&self, name: &str, kept: Option<&Open>, error: AuthError) -> Result<SecretString, AuthError> {
        match &error {
            AuthError::SignIn(_) => {
                // Another process may have spent the refresh token a moment ago and stored its successor.
                if let Some(open) = self.purse.kept(name).await?
                    && Some(open.version) != kept.map(|kept| kept.version)
                    && self.is_fresh(&open)
                {
                    return Ok(open.access);
                }
                self.ask_to_sign_in(name, &error).await?;
            }
            AuthError::Operator(refused) => {
                let now = self.purse.0.clock.now();
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, refused.clone()));
                self.purse.raise(&error);
            }
            AuthError::Configuration(_) => self.purse.raise(&error),
            AuthError::Temporary { .. } | AuthError::Unreachable(_) | AuthError::Missing | AuthError::Store(_) => {}
        }
        Err(error)
    }

    async fn ask_to_sign_in(&self, user: &str, error: &AuthError) -> Result<(), AuthError> {
        let Inner { store, clock, .. } = &*self.purse.0;
        tracing::warn!(user.id = user, %error, "the user has to sign in with Microsoft again");
        let sentence =
            format!("Microsoft wants a new sign-in ({error}). Use the user's sign-in link; work waits until then.");
        let state = BindingState::NeedsAuthorization;
        let done = store::bindings::set_state(store.write(), user, state, &sentence, None, clock.now()).await;
        match done {
            // A paused or unbound user stays so.
            Ok(_) | Err(StoreError::Transition { .. } | StoreError::Missing { .. }) => Ok(()),
            Err(error) => Err(PurseError::from(error).into()),
        }
    }
}

impl Tokens for TokenStore {
    fn access<'a>(&'a self, mailbox: &'a Mailbox) -> BoxFuture<'a, Result<SecretString, AuthError>> {
        async move {
            match self.purse.kept(self.name(mailbox)).await? {
                Some(open) if self.is_fresh(&open) => Ok(open.access),
                _ => self.fresh(mailbox, None).await,
            }
        }
        .boxed()
    }

    fn renew<'a>(
        &'a self,
        mailbox: &'a Mailbox,
        refused: &'a SecretString,
    ) -> BoxFuture<'a, Result<SecretString, AuthError>> {
        self.fresh(mailbox, Some(refused)).boxed()
    }
}

#[cfg(test)]
mod tests;
