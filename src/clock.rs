//! The clock: the only place that asks the machine for the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Where the time comes from. Moments have millisecond precision, as the database keeps them.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that stands still until it is moved.
    Manual(ManualClock),
}

/// Milliseconds since 1970, shared by all clones.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at this moment.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(AtomicI64::new(now.timestamp_millis())))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }

    /// Sets the clock.
    pub fn set(&self, now: DateTime<Utc>) {
        self.0.store(now.timestamp_millis(), Ordering::SeqCst);
    }
}

impl Clock {
    /// The current moment.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let millis = match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
            Self::System => Utc::now().timestamp_millis(),
            Self::Manual(clock) => clock.0.load(Ordering::SeqCst),
        };
        DateTime::from_timestamp_millis(millis).unwrap_or_default()
    }

    /// The clock as a function, for the adapters.
    #[must_use]
    pub fn as_fn(&self) -> Arc<dyn Fn() -> DateTime<Utc> + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_in_all_its_clones() {
        let start = DateTime::from_timestamp_millis(1_000).unwrap();
        let hand = ManualClock::at(start);
        let clock = Clock::Manual(hand.clone());
        let other = clock.clone();
        hand.advance(TimeDelta::seconds(2));
        assert_eq!(other.now(), start + TimeDelta::seconds(2));
    }

    #[test]
    fn the_system_clock_has_millisecond_precision() {
        assert_eq!(Clock::System.now().timestamp_subsec_nanos() % 1_000_000, 0);
    }
}
