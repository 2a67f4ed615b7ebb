//! Locks by name: two workers never reconcile the same pair at once, in this process or in another one.
//!
//! A change of a linked end locks the link; one of an unlinked end locks its fingerprint, which the other end has too, so
//! that a record and an item that are one and the same are taken in one after the other and the second finds the first.
//!
//! Within the process a lock is a mutex. Where other processes may serve on the same database, whoever has the mutex takes the
//! lock in the store as well ([`store::locks`]), which ends with the process at the latest; what is written under it is
//! written in a transaction that makes sure of that ([`Store::begin_held`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{Holder, Store, StoreError};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::error::sentence;
use crate::clock::Clock;

/// How long to wait before a lock of another process is asked for again, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(120));

/// All locks that somebody in this process holds or waits for.
#[derive(Clone, Default)]
pub struct Locks {
    all: Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>,
    shared: Option<(Store, Clock)>,
}

/// A held lock; dropping it lets the next one in.
pub struct Held {
    local: Option<Local>,
    elsewhere: Option<(Store, Arc<str>)>,
}

/// The part of it that is in this process.
struct Local {
    locks: Locks,
    name: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Locks that hold between all processes on that database.
    #[must_use]
    pub fn new(store: &Store, clock: &Clock) -> Self {
        Self { all: Arc::default(), shared: store.is_shared().then(|| (store.clone(), clock.clone())) }
    }

    /// Waits for the lock of that name.
    ///
    /// # Errors
    /// When the database fails, or the other processes have given this one up.
    pub async fn acquire(&self, name: String) -> Result<Held, StoreError> {
        let lock = {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(name.clone()).or_default())
        };
        let mut local = Local { locks: self.clone(), name, guard: None };
        local.guard = Some(lock.lock_owned().await);
        let mut held = Held { local: Some(local), elsewhere: None };
        if let Some((store, clock)) = &self.shared {
            held.take(store, clock).await?;
        }
        Ok(held)
    }

    /// How many names are locked or waited for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True when nothing is locked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Held {
    async fn take(&mut self, store: &Store, clock: &Clock) -> Result<(), StoreError> {
        let name = self.local.as_ref().map(|local| local.name.clone()).unwrap_or_default();
        let mut wait = WAIT.0;
        loop {
            let id = match store.holder() {
                // A command beside the service: it has locks of its own only.
                Holder::Alone => return Ok(()),
                Holder::Lost => return Err(StoreError::Superseded),
                Holder::Instance(id) => id,
            };
            // Before it is asked for: whoever waits may be dropped before he hears that he has it.
            self.elsewhere = Some((store.clone(), id.clone()));
            match store::locks::take(store.write(), &name, &id, clock.now()).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    if matches!(error, StoreError::Superseded) {
                        store.lose(&id);
                    }
                    return Err(error);
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT.1);
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let mut all = self.locks.all.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard.take();
        // Nobody waits when the map holds the only reference.
        if all.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            all.remove(&self.name);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (Some(local), Some((store, id))) = (self.local.take(), self.elsewhere.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // The next one in this process is let in afterwards, or its lock would be given back.
        runtime.spawn(async move {
            let mut wait = WAIT.1;
            while let Err(error) = store::locks::give_back(store.write(), &local.name, &id).await {
                if store.holder() != Holder::Instance(id.clone()) {
                    break;
                }
                tracing::warn!(error = sentence(&error), lock = local.name, "a lock could not be given back yet");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_names_are_forgotten() {
        let locks = Locks::default();
        let first = locks.acquire("a".to_owned()).await.unwrap();
        let other = locks.acquire("b".to_owned()).await.unwrap();
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.acquire("a".to_owned()).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.unwrap();
        drop(other);
        drop(second);
        assert!(locks.is_empty());
    }
}
