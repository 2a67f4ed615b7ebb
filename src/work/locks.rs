//! Locks by name within this process: two workers never reconcile the same pair at once.
//!
//! A change of a linked end locks the link; one of an unlinked end locks its fingerprint, which the other end has too, so
//! that a record and an item that are one and the same are taken in one after the other and the second finds the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// All locks that somebody holds or waits for.
#[derive(Clone, Default)]
pub struct Locks(Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>);

/// A held lock; dropping it lets the next one in.
pub struct Held {
    locks: Locks,
    name: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for the lock of that name.
    pub async fn acquire(&self, name: String) -> Held {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(name.clone()).or_default())
        };
        let guard = lock.lock_owned().await;
        Held { locks: self.clone(), name, guard: Some(guard) }
    }

    /// How many names are locked or waited for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True when nothing is locked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard.take();
        // Nobody waits when the map holds the only reference.
        if all.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            all.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_names_are_forgotten() {
        let locks = Locks::default();
        let first = locks.acquire("a".to_owned()).await;
        let other = locks.acquire("b".to_owned()).await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.acquire("a".to_owned()).await }
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
