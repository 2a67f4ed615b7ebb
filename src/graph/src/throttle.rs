//! The limits of a mailbox: four requests at a time, and silence for as long as a 429 asks for.
//!
//! Facts: Outlook allows one app four concurrent requests per mailbox and answers 429 `ApplicationThrottled` above that;
//! requests sent while throttled count against the limit again (learn.microsoft.com/graph/throttling-limits). Nothing sleeps
//! here: who comes while the mailbox is paused is told how long to wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may be in flight per mailbox.
pub(crate) const CONCURRENT: u32 = 4;

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

#[derive(Debug)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    paused_until: Mutex<Option<DateTime<Utc>>>,
}

impl Throttle {
    pub fn gate(&self, mailbox: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(mailbox.to_lowercase()).or_insert_with(|| {
            Arc::new(Gate { permits: Arc::new(Semaphore::new(CONCURRENT as usize)), paused_until: Mutex::new(None) })
        }))
    }
}

impl Gate {
    /// Waits for `places` of the mailbox's four. `now` is asked again after the wait: a pause may have begun meanwhile.
    pub async fn enter(
        &self,
        places: u32,
        now: impl Fn() -> DateTime<Utc>,
    ) -> Result<Option<OwnedSemaphorePermit>, Duration> {
        self.open(now())?;
        // The semaphore is never closed, so the error cannot occur; a request without a permit would be the harmless outcome.
        let permit = Arc::clone(&self.permits).acquire_many_owned(places.min(CONCURRENT)).await.ok();
        self.open(now())?;
        Ok(permit)
    }

    pub fn pause(&self, until: DateTime<Utc>) {
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |known| known.max(until)));
    }

    fn open(&self, now: DateTime<Utc>) -> Result<(), Duration> {
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        match *paused {
            Some(until) if until > now => Err((until - now).to_std().unwrap_or(Duration::ZERO)),
            _ => {
                *paused = None;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn at(second: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 22, 10, 0, second).unwrap()
    }

    #[tokio::test]
    async fn a_fifth_request_waits_until_one_of_four_is_done() {
        let throttle = Throttle::default();
        let gate = throttle.gate("Anna@contoso.example");
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(gate.enter(1, || at(0)).await.unwrap());
        }
        let same = throttle.gate("anna@contoso.example");
        let fifth = same.enter(1, || at(0));
        tokio::pin!(fifth);
        assert!(futures::poll!(fifth.as_mut()).is_pending());
        held.pop();
        assert!(fifth.await.is_ok());
    }

    #[tokio::test]
    async fn mailboxes_do_not_wait_for_each_other() {
        let throttle = Throttle::default();
        let _held = throttle.gate("anna@contoso.example").enter(4, || at(0)).await.unwrap();
        assert!(throttle.gate("boris@contoso.example").enter(1, || at(0)).await.is_ok());
    }

    #[tokio::test]
    async fn a_paused_mailbox_says_how_long_to_wait_and_opens_again() {
        let throttle = Throttle::default();
        let gate = throttle.gate("anna@contoso.example");
        gate.pause(at(30));
        gate.pause(at(20));
        assert_eq!(gate.enter(1, || at(10)).await.unwrap_err(), Duration::from_secs(20));
        assert!(gate.enter(1, || at(30)).await.is_ok());
    }

    #[tokio::test]
    async fn who_waited_for_a_place_notices_a_pause_that_began_meanwhile() {
        let throttle = Throttle::default();
        let gate = throttle.gate("anna@contoso.example");
        let held = gate.enter(4, || at(0)).await.unwrap();
        let next = gate.enter(1, || at(1));
        tokio::pin!(next);
        assert!(futures::poll!(next.as_mut()).is_pending());
        gate.pause(at(11));
        drop(held);
        assert_eq!(next.await.unwrap_err(), Duration::from_secs(10));
    }
}
