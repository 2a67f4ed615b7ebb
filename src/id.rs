//! Ids and random secrets: the only place that asks the machine for randomness.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::Generate as _;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use crate::clock::Clock;

/// Where ids and secrets come from. Ids are UUIDs of version 7: they sort by the time at which they were made, and those of
/// one process never repeat or go back within a millisecond.
#[derive(Debug, Clone)]
pub struct Ids(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    seed: Option<u64>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    millis: u64,
    /// The 12 bits after the time: they count within a millisecond.
    step: u16,
    /// How much was drawn from a seed.
    drawn: u64,
    /// Random bytes for what is no secret: to ask the machine each time would cost more than all the rest of an id.
    random: Vec<u8>,
}

/// So much is asked for at once.
const STOCK: usize = 2048;

impl Ids {
    /// Random ids.
    #[must_use]
    pub fn system(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, seed: None, last: Mutex::default() }))
    }

    /// Ids that a seed determines: for tests, never for secrets that anybody should be unable to guess.
    #[must_use]
    pub fn seeded(clock: Clock, seed: u64) -> Self {
        Self(Arc::new(Inner { clock, seed: Some(seed), last: Mutex::default() }))
    }

    /// A new id.
    #[must_use]
    pub fn next(&self) -> String {
        let now = u64::try_from(self.0.clock.now().timestamp_millis()).unwrap_or_default();
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut random = self.some(&mut last);
        if now > last.millis {
            (last.millis, last.step) = (now, 0);
        } else if last.step < 0x0fff {
            last.step += 1;
        } else {
            (last.millis, last.step) = (last.millis + 1, 0);
        }
        let [high, low] = last.step.to_be_bytes();
        (random[0], random[1]) = (high, low);
        Builder::from_unix_timestamp_millis(last.millis, &random).into_uuid().to_string()
    }

    /// 256 random bits, as text for URLs, headers and cookies.
    #[must_use]
    pub fn secret(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.draw())
    }

    /// Two random numbers, for a trace and a step of it.
    #[must_use]
    pub fn trace(&self) -> ([u8; 16], [u8; 8]) {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        (self.some(&mut last), self.some(&mut last))
    }

    /// A random number in `0.0..1.0`, for jitter.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let [a, b, c, d, ..] = self.draw();
        f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
    }

    fn draw(&self) -> [u8; 32] {
        if self.0.seed.is_none() {
            return <[u8; 32]>::generate();
        }
        self.some(&mut self.0.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// So many bytes of the stock.
    fn some<const N: usize>(&self, last: &mut Last) -> [u8; N] {
        let mut bytes = [0; N];
        if last.random.len() < N {
            match self.0.seed {
                None => last.random.extend_from_slice(&<[u8; STOCK]>::generate()),
                Some(seed) => {
                    last.drawn += 1;
                    let mut hash = Sha256::new();
                    hash.update(seed.to_be_bytes());
                    hash.update(last.drawn.to_be_bytes());
                    last.random = hash.finalize().to_vec();
                }
            }
        }
        let rest = last.random.len().saturating_sub(N);
        bytes.iter_mut().zip(last.random.drain(rest..)).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// When an id was made, if it is one of ours.
#[must_use]
pub fn made_at(id: &str) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = uuid::Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_sort_by_the_order_in_which_they_were_made_even_within_a_millisecond() {
        let clock = Clock::Manual(ManualClock::at(DateTime::from_timestamp_millis(1_700_000_000_000).unwrap()));
        let ids = Ids::system(clock);
        let made: Vec<String> = (0..10_000).map(|_| ids.next()).collect();
        assert!(made.is_sorted());
        assert_eq!(made.iter().collect::<HashSet<_>>().len(), made.len());
    }

    #[test]
    fn ids_are_uuids_of_version_7() {
        let id = uuid::Uuid::parse_str(&Ids::system(Clock::System).next()).unwrap();
        assert_eq!(id.get_version_num(), 7);
    }

    #[test]
    fn equal_seeds_make_equal_ids_and_other_seeds_others() {
        let clock = Clock::Manual(ManualClock::at(DateTime::UNIX_EPOCH));
        assert_eq!(Ids::seeded(clock.clone(), 7).next(), Ids::seeded(clock.clone(), 7).next());
        assert_ne!(Ids::seeded(clock.clone(), 7).secret(), Ids::seeded(clock, 8).secret());
    }

    #[test]
    fn fractions_stay_below_one() {
        let ids = Ids::seeded(Clock::System, 1);
        assert!((0..1000).map(|_| ids.fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}
