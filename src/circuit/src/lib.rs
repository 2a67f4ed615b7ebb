//! A circuit for one system: after several failures in a row nothing is sent to it for a while, then a single request finds out
//! whether it is back.
//!
//! ```text
//!            failures in a row                     time is over
//!   closed ---------------------> open  ------------------------> probing
//!      ^                            ^                                |  |
//!      |                            '------- it failed: longer ------'  |
//!      '--------------------- any answer -------------------------------'
//! ```
//! A failure is what tells that the system as a whole is away: no connection, no answer in time, an answer cut off, a 5xx, a
//! page of a proxy in place of the answer. A refusal, also a 429, is an answer: the system is there. Nobody sleeps here: who
//! comes while the circuit is open is told how long it stays so, and sends nothing. Time is a parameter.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// A `Retry-After` makes the circuit stay open for as long as that, but no longer than this: a probe costs one request.
const LONGEST_FLOOR: Duration = Duration::from_secs(300);

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open at first; twice as long after each probe that fails.
    pub pause: Duration,
    /// How long at most.
    pub longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

/// How a system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Closed,
    /// It does not; nothing is sent before `until`.
    Open {
        /// Since when.
        since: DateTime<Utc>,
        /// Until when nothing is sent.
        until: DateTime<Utc>,
    },
    /// One request finds out.
    Probing {
        /// Since when it did not answer.
        since: DateTime<Utc>,
    },
}

type Closed = Box<dyn Fn() + Send + Sync>;

/// A circuit. To be shared by all who send to the system.
pub struct Circuit {
    system: &'static str,
    limits: Limits,
    inner: Mutex<Inner>,
    closed: Closed,
}

#[derive(Debug)]
struct Inner {
    state: State,
    failures: u32,
    pauses: u32,
    why: String,
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit").field("system", &self.system).field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The permission to send one request. Dropped without a word it changes nothing, and a probe is up to the next one.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    circuit: Arc<Circuit>,
    probe: bool,
}

impl Circuit {
    /// A closed circuit. `closed` is called whenever it closes again.
    pub fn new(system: &'static str, limits: Limits, closed: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let inner = Inner { state: State::Closed, failures: 0, pauses: 0, why: String::new() };
        let circuit = Self { system, limits, inner: Mutex::new(inner), closed: Box::new(closed) };
        circuit.tell(&State::Closed);
        Arc::new(circuit)
    }

    /// A circuit that nobody waits for, with the usual limits.
    #[must_use]
    pub fn unattended(system: &'static str) -> Arc<Self> {
        Self::new(system, Limits::default(), || {})
    }

    /// Which system.
    #[must_use]
    pub const fn system(&self) -> &'static str {
        self.system
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner().state
    }

    /// True when the system answers as far as is known.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() == State::Closed
    }

    /// Why it opened last; empty when it never did.
    #[must_use]
    pub fn why(&self) -> String {
        self.inner().why.clone()
    }

    /// The permission to send, or how long to stay away.
    ///
    /// # Errors
    /// While it is open, and while another request is finding out.
    pub fn enter(self: &Arc<Self>, now: DateTime<Utc>) -> Result<Pass, Duration> {
        let mut inner = self.inner();
        let probe = match inner.state {
            State::Closed => false,
            State::Open { since, until } if until <= now => {
                inner.state = State::Probing { since };
                self.tell(&inner.state);
                true
            }
            State::Open { until, .. } => return Err((until - now).to_std().unwrap_or_default()),
            State::Probing { .. } => return Err(self.limits.pause),
        };
        Ok(Pass { circuit: Arc::clone(self), probe })
    }

    /// Begins anew: the system was configured anew.
    pub fn reset(&self) {
        self.close();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut inner = self.inner();
        inner.failures = 0;
        if inner.state == State::Closed {
            return;
        }
        (inner.state, inner.pauses) = (State::Closed, 0);
        self.tell(&inner.state);
        drop(inner);
        tracing::info!(system = self.system, "it answers again; what waited goes on");
        (self.closed)();
    }

    fn fail(&self, probe: bool, now: DateTime<Utc>, after: Option<Duration>, why: &dyn fmt::Display) {
        let mut inner = self.inner();
        let since = match inner.state {
            State::Closed => {
                inner.failures += 1;
                if inner.failures < self.limits.failures {
                    return;
                }
                now
            }
            State::Probing { since } if probe => since,
            // What was on its way when it opened says nothing new.
            State::Open { .. } | State::Probing { .. } => return,
        };
        let doubled = self.limits.pause.saturating_mul(2_u32.saturating_pow(inner.pauses.min(30)));
        let pause = doubled.min(self.limits.longest).max(after.unwrap_or_default().min(LONGEST_FLOOR));
        let until = now + TimeDelta::from_std(pause).unwrap_or_default();
        let first = inner.pauses == 0;
        inner.pauses += 1;
        inner.why = why.to_string();
        inner.state = State::Open { since, until };
        self.tell(&inner.state);
        drop(inner);
        if first {
            tracing::warn!(system = self.system, error = %why, "it does not answer; work waits, and one request at a time finds out when it is back");
        }
    }

    fn tell(&self, state: &State) {
        let value = match state {
            State::Closed => 0.0,
            State::Open { .. } => 1.0,
            State::Probing { .. } => 0.5,
        };
        metrics::gauge!("espo_outlook_circuit", "system" => self.system).set(value);
    }
}

impl Pass {
    /// The system has answered, whatever it said.
    pub fn answered(mut self) {
        self.probe = false;
        self.circuit.close();
    }

    /// The system is away. `after` is what a `Retry-After` asked for.
    pub fn failed(mut self, now: DateTime<Utc>, after: Option<Duration>, why: &dyn fmt::Display) {
        let probe = std::mem::take(&mut self.probe);
        self.circuit.fail(probe, now, after, why);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            let mut inner = self.circuit.inner();
            if let State::Probing { since } = inner.state {
                // At once due again.
                inner.state = State::Open { since, until: since };
                self.circuit.tell(&inner.state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn circuit() -> (Arc<Circuit>, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let limits = Limits { failures: 3, pause: Duration::from_secs(2), longest: Duration::from_secs(6) };
        let closed = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        (Circuit::new("test", limits, closed), count)
    }

    fn fail(circuit: &Arc<Circuit>, second: i64) {
        circuit.enter(at(second)).unwrap().failed(at(second), None, &"gone");
    }

    fn open() -> (Arc<Circuit>, Arc<AtomicU32>) {
        let (circuit, count) = circuit();
        (0..3).for_each(|_| fail(&circuit, 0));
        (circuit, count)
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_in_between_begins_anew() {
        let (circuit, _) = circuit();
        fail(&circuit, 0);
        fail(&circuit, 0);
        circuit.enter(at(0)).unwrap().answered();
        fail(&circuit, 0);
        fail(&circuit, 0);
        assert!(circuit.is_closed());
        fail(&circuit, 0);
        assert_eq!(circuit.state(), State::Open { since: at(0), until: at(2) });
        assert_eq!(circuit.enter(at(1)).unwrap_err(), Duration::from_secs(1));
        assert_eq!(circuit.why(), "gone");
    }

    #[test]
    fn a_single_probe_closes_it_and_what_waited_is_told() {
        let (circuit, count) = open();
        let probe = circuit.enter(at(2)).unwrap();
        assert!(circuit.enter(at(2)).is_err(), "a second request went out beside the probe");
        probe.answered();
        assert!(circuit.is_closed());
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(circuit.enter(at(2)).is_ok());
    }

    #[test]
    fn a_failed_probe_opens_it_for_longer_up_to_the_most() {
        let (circuit, _) = open();
        let mut now = 2;
        for pause in [4, 6, 6] {
            fail(&circuit, now);
            assert_eq!(circuit.state(), State::Open { since: at(0), until: at(now + pause) });
            now += pause;
        }
    }

    #[test]
    fn retry_after_is_a_floor() {
        let (circuit, _) = circuit();
        for _ in 0..3 {
            circuit.enter(at(0)).unwrap().failed(at(0), Some(Duration::from_secs(60)), &"busy");
        }
        assert_eq!(circuit.enter(at(1)).unwrap_err(), Duration::from_secs(59));
    }

    #[test]
    fn a_probe_that_was_given_up_is_up_to_the_next_request() {
        let (circuit, _) = open();
        drop(circuit.enter(at(2)).unwrap());
        assert!(circuit.enter(at(2)).is_ok());
    }

    #[test]
    fn what_was_on_its_way_when_it_opened_neither_prolongs_it_nor_ends_a_probe() {
        let (circuit, _) = circuit();
        let late = [circuit.enter(at(0)).unwrap(), circuit.enter(at(0)).unwrap()];
        (0..3).for_each(|_| fail(&circuit, 0));
        let [first, second] = late;
        first.failed(at(1), None, &"late");
        assert_eq!(circuit.state(), State::Open { since: at(0), until: at(2) });
        let probe = circuit.enter(at(2)).unwrap();
        second.failed(at(2), None, &"late");
        assert_eq!(circuit.state(), State::Probing { since: at(0) });
        probe.answered();
        assert!(circuit.is_closed());
    }
}
