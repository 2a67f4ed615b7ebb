//! The limits of a mailbox: four requests at a time, and silence for as long as a 429 asks for.
//!
//! Facts: Outlook allows one app four concurrent requests per mailbox and answers 429 `ApplicationThrottled` above that;
//! requests sent while throttled count against the limit again (learn.microsoft.com/graph/throttling-limits). Nothing sleeps
//! here: who comes while the mailbox is paused is told how long to wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use std::any::Any;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may be in flight per mailbox.
pub(crate) const CONCURRENT: u32 = 4;

/// A place among the requests of a mailbox; dropping it lets the next one in.
pub type Place = Box<dyn Any + Send + Sync>;
/// Why there is no place.
pub type NoPlace = Box<dyn std::error::Error + Send + Sync>;

/// The places of a mailbox among all processes that use it, where there are several.
pub trait Places: Send + Sync {
    /// Waits for so many places at once; none where no other process can be.
    fn take<'a>(&'a self, mailbox: &'a str, count: u32) -> BoxFuture<'a, Result<Option<Place>, NoPlace>>;
}

/// What a request holds while it is in flight.
#[derive(Default)]
pub(crate) struct Permit {
    _here: Option<OwnedSemaphorePermit>,
    _everywhere: Option<Place>,
}

/// Why a request may not be sent.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The mailbox is paused for so long.
    Paused(Duration),
    /// There is no place.
    NoPlace(NoPlace),
}

#[derive(Default)]
pub(crate) struct Throttle {
    gates: Mutex<HashMap<String, Arc<Gate>>>,
    places: Option<Arc<dyn Places>>,
}

pub(crate) struct Gate {
    mailbox: String,
    permits: Arc<Semaphore>,
    places: Option<Arc<dyn Places>>,
    paused_until: Mutex<Option<DateTime<Utc>>>,
}

impl Throttle {
    pub fn with(places: Option<Arc<dyn Places>>) -> Self {
        Self { gates: Mutex::default(), places }
    }

    pub fn gate(&self, mailbox: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(mailbox.to_lowercase()).or_insert_with(|| {
            Arc::new(Gate {
                mailbox: mailbox.to_lowercase(),
                permits: Arc::new(Semaphore::new(CONCURRENT as usize)),
                places: self.places.clone(),
                paused_until: Mutex::new(None),
            })
        }))
    }
}

impl Gate {
    /// Waits for `places` of the mailbox's four. `now` is asked again after the wait: a pause may have begun meanwhile.
    pub async fn enter(&self, places: u32, now: impl Fn() -> DateTime<Utc>) -> Result<Permit, Closed> {
        let places = places.min(CONCURRENT);
        self.open(now()).map_err(Closed::Paused)?;
        // The semaphore is never closed, so the error cannot occur; a request without a permit would be the harmless outcome.
        let here = Arc::clone(&self.permits).acquire_many_owned(places).await.ok();
        let everywhere = match &self.places {
            Some(all) => all.take(&self.mailbox, places).await.map_err(Closed::NoPlace)?,
            None => None,
        };
        self.open(now()).map_err(Closed::Paused)?;
        Ok(Permit { _here: here, _everywhere: everywhere })
    }

    /// Whether a request of this process would not wait for another of it.
    pub fn is_free(&self) -> bool {
        self.permits.available_permits() > 0
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

    fn paused(outcome: Result<Permit, Closed>) -> Option<Duration> {
        match outcome {
            Err(Closed::Paused(after)) => Some(after),
            _ => None,
        }
    }

    struct None4;

    impl Places for None4 {
        fn take<'a>(&'a self, _: &'a str, count: u32) -> BoxFuture<'a, Result<Option<Place>, NoPlace>> {
            Box::pin(async move { if count == 4 { Err("no".into()) } else { Ok(Some(Box::new(count) as Place)) } })
        }
    }

    #[tokio::test]
    async fn a_request_needs_a_place_among_all_processes_too() {
        let throttle = Throttle::with(Some(Arc::new(None4)));
        let gate = throttle.gate("anna@contoso.example");
        assert!(gate.enter(3, || at(0)).await.is_ok());
        assert!(matches!(gate.enter(4, || at(0)).await, Err(Closed::NoPlace(_))));
        assert!(gate.enter(3, || at(0)).await.is_ok(), "the place in this process was given back");
    }

    #[tokio::test]
    async fn a_fifth_request_waits_until_one_of_four_is_done() {
        let throttle = Throttle::default();
        let gate = throttle.gate("Anna@contoso.example");
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(gate.enter(1, || at(0)).await.ok().unwrap());
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
        let _held = throttle.gate("anna@contoso.example").enter(4, || at(0)).await.ok().unwrap();
        assert!(throttle.gate("boris@contoso.example").enter(1, || at(0)).await.is_ok());
    }

    #[tokio::test]
    async fn a_paused_mailbox_says_how_long_to_wait_and_opens_again() {
        let throttle = Throttle::default();
        let gate = throttle.gate("anna@contoso.example");
        gate.pause(at(30));
        gate.pause(at(20));
        assert_eq!(paused(gate.enter(1, || at(10)).await), Some(Duration::from_secs(20)));
        assert!(gate.enter(1, || at(30)).await.is_ok());
    }

    #[tokio::test]
    async fn who_waited_for_a_place_notices_a_pause_that_began_meanwhile() {
        let throttle = Throttle::default();
        let gate = throttle.gate("anna@contoso.example");
        let held = gate.enter(4, || at(0)).await.ok().unwrap();
        let next = gate.enter(1, || at(1));
        tokio::pin!(next);
        assert!(futures::poll!(next.as_mut()).is_pending());
        gate.pause(at(11));
        drop(held);
        assert_eq!(paused(next.await), Some(Duration::from_secs(10)));
    }
}
