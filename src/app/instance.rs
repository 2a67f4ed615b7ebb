//! This process among the others that serve on the same database.
//!
//! It registers, counts up once in a while, and watches the others count ([`store::instances`]). One whose number stands still
//! for `server.silence` of watching is given up: what it had is taken over, and nothing that it may still write is accepted.
//! A process that finds itself given up (it was stopped, or the machine slept) ends what it has in hand without a trace and
//! registers anew. Nobody's clock is compared with another's.
//!
//! On SQLite one process serves. It neither registers nor counts: what was leased before its start is nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use store::instances::{self, Instance};
use store::{Holder, Store, StoreError, messages, signals};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::id::Ids;
use crate::work::error::sentence;

/// How long a worker may be silent about a message before another takes it. It is held for longer as long as it is in hand.
pub const LEASE: TimeDelta = TimeDelta::minutes(2);
/// So many signs of life while a silent process is not given up yet.
const BEATS: u32 = 10;
/// How often it is looked for messages that nobody came back with, in beats.
const EXPIRY: u64 = 10;

/// What this process has in hand, and whether the others know that it lives. Cheap to clone.
#[derive(Clone)]
pub struct Membership(Arc<Inner>);

struct Inner {
    store: Store,
    ids: Ids,
    silence: Duration,
    /// The name of leases where nobody registers.
    alone: String,
    /// When the last sign of life was given that the database has taken.
    beat: Mutex<Option<Instant>>,
    /// Whether another process serves on the same database, as far as was seen.
    company: AtomicBool,
    /// Leases, how many units of each, and when it ends.
    in_hand: Mutex<BTreeMap<String, (usize, DateTime<Utc>)>>,
    /// Leases under which there may be something that nobody has in hand.
    astray: Mutex<BTreeSet<String>>,
}

/// A unit in a worker's hands: its lease is held until this is dropped.
pub struct InHand {
    of: Membership,
    lease: String,
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut all = self.of.0.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = all.get_mut(&self.lease) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.lease);
            }
        }
    }
}

impl Membership {
    pub(super) fn new(store: Store, ids: Ids, silence: Duration) -> Self {
        let alone = ids.next();
        Self(Arc::new(Inner {
            store,
            ids,
            silence,
            alone,
            beat: Mutex::default(),
            company: AtomicBool::new(true),
            in_hand: Mutex::default(),
            astray: Mutex::default(),
        }))
    }

    /// Whether another process may have received something of which nobody tells this one.
    #[must_use]
    pub fn has_company(&self) -> bool {
        self.0.company.load(Ordering::Relaxed)
    }

    /// A name for a lease of messages: of this process, and of no other call.
    #[must_use]
    pub fn lease(&self) -> String {
        let call = self.0.ids.next();
        match self.0.store.holder() {
            Holder::Instance(id) => messages::lease_of(&id, &call),
            Holder::Alone | Holder::Lost => messages::lease_of(&self.0.alone, &call),
        }
    }

    /// Notes that a unit is worked on.
    #[must_use]
    pub fn hold(&self, lease: &str, until: DateTime<Utc>) -> InHand {
        let mut all = self.0.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(lease.to_owned()).or_insert((0, until)).0 += 1;
        InHand { of: self.clone(), lease: lease.to_owned() }
    }

    /// Notes that the end of something under that lease could not be recorded: it is queued again once the database answers,
    /// without waiting for the lease to end.
    pub fn lead_astray(&self, lease: &str) {
        self.0.astray.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.to_owned());
    }

    /// Queues again what went astray and is in nobody's hands any more. Tells how many messages.
    async fn bring_back(&self) -> Result<u64, StoreError> {
        let lost: Vec<String> = {
            let in_hand = self.0.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            let astray = self.0.astray.lock().unwrap_or_else(PoisonError::into_inner);
            astray.iter().filter(|lease| !in_hand.contains_key(*lease)).cloned().collect()
        };
        if lost.is_empty() {
            return Ok(0);
        }
        let count = messages::requeue_under(self.0.store.write(), &lost).await?;
        self.0.astray.lock().unwrap_or_else(PoisonError::into_inner).retain(|lease| !lost.contains(lease));
        Ok(count)
    }

    /// Whether the others are sure to know that this process lives, so that nobody else does what it is about to do. Asked
    /// before something is written outside, where no transaction can refuse it.
    ///
    /// # Errors
    /// When they may have given it up.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.0.store.holder() {
            Holder::Alone => return Ok(()),
            Holder::Lost => return Err(StoreError::Superseded),
            Holder::Instance(_) => {}
        }
        let beat = *self.0.beat.lock().unwrap_or_else(PoisonError::into_inner);
        // What is sent now arrives before they can have given it up.
        if beat.is_some_and(|at| at.elapsed() < self.0.silence.mul_f64(0.6)) {
            Ok(())
        } else {
            Err(StoreError::Superseded)
        }
    }

    fn interval(&self) -> Duration {
        if self.0.store.is_shared() { self.0.silence / BEATS } else { Duration::from_secs(1) }
    }

    fn is_empty_handed(&self) -> bool {
        self.0.in_hand.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    async fn register(&self, node: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
        let (id, at) = (self.0.ids.next(), Instant::now());
        store::insist(|| async {
            let transaction = self.0.store.begin().await?;
            instances::register(&transaction, &id, node, now).await?;
            Ok(transaction.commit().await?)
        })
        .await?;
        *self.0.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        self.0.store.hold_as(Holder::Instance(id.into()));
        Ok(())
    }

    /// Leases that end soon are held for longer.
    async fn extend(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let soon: Vec<String> = {
            let all = self.0.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter(|(_, (_, until))| *until < now + LEASE / 2).map(|(lease, _)| lease.clone()).collect()
        };
        if soon.is_empty() {
            return Ok(());
        }
        messages::extend_all(self.0.store.write(), &soon, now + LEASE).await?;
        let mut all = self.0.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        for lease in soon {
            if let Some((_, until)) = all.get_mut(&lease) {
                *until = now + LEASE;
            }
        }
        Ok(())
    }
}

/// Where this process runs: two that have the same cannot be alive together, as they would listen at the same address of the
/// same network. Empty where the system does not tell.
fn node(address: Option<SocketAddr>) -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let parts = (
        read("/proc/sys/kernel/random/boot_id"),
        read("/proc/sys/kernel/hostname"),
        std::fs::read_link("/proc/self/ns/net").ok(),
        address.filter(|address| address.port() != 0),
    );
    match parts {
        (Some(boot), Some(host), Some(network), Some(address)) => {
            format!("{host}/{boot}/{}/{address}", network.display())
        }
        _ => String::new(),
    }
}

/// Takes this process's place among the others.
///
/// # Errors
/// When the database fails.
pub(super) async fn join(app: &App, address: Option<SocketAddr>) -> Result<(), StoreError> {
    if app.store().is_shared() {
        app.membership().register(&node(address), app.clock().now()).await?;
    }
    Ok(())
}

/// Gives everything back: the others go on at once.
pub(super) async fn leave(app: &App) {
    let Holder::Instance(id) = app.store().holder() else { return };
    let left = store::insist(|| async {
        let transaction = app.store().begin().await?;
        instances::leave(&transaction, &id).await?;
        Ok(transaction.commit().await?)
    });
    if let Err(error) = left.await {
        tracing::warn!(error = sentence(&error), "this process could not take its leave; the others will notice");
    }
}

/// Gives signs of life, watches the others and what they have changed, until it is told to end: after everything else.
pub(super) async fn run(app: App, end: CancellationToken) {
    let interval = app.membership().interval();
    let (mut watch, mut signals) = (Watch::new(app.membership().0.silence), BTreeMap::new());
    let mut reaper: Option<tokio::task::JoinHandle<()>> = None;
    let mut failing = false;
    for round in 0_u64.. {
        match tick(&app, &mut watch, &mut signals, round).await {
            Ok(silent) => {
                failing = false;
                // In a task of its own: what a stopped process has locked may be waited for.
                if !silent.is_empty() && reaper.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    reaper = Some(tokio::spawn(give_up(app.clone(), silent)));
                }
            }
            Err(error) => {
                watch.blink();
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error = sentence(&error), "no sign of life can be given: the database fails");
                }
            }
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

async fn tick(
    app: &App,
    watch: &mut Watch,
    known: &mut BTreeMap<String, i64>,
    round: u64,
) -> Result<Vec<Instance>, StoreError> {
    let (membership, store, now) = (app.membership(), app.store(), app.clock().now());
    let mut silent = Vec::new();
    match store.holder() {
        Holder::Alone => membership.0.company.store(false, Ordering::Relaxed),
        Holder::Lost => {
            // Only when nobody works any more on what others have by now.
            if app.locks().is_empty() && membership.is_empty_handed() {
                membership.register("", now).await?;
                tracing::warn!("this process was given up by the others while it was silent; it has started anew");
            }
        }
        Holder::Instance(id) => {
            let at = Instant::now();
            if instances::beat(store.pulse(), &id).await? {
                *membership.0.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
            } else {
                store.lose(&id);
            }
            let mut others = instances::list(store.pulse()).await?;
            others.retain(|one| *one.id != *id);
            membership.0.company.store(!others.is_empty(), Ordering::Relaxed);
            silent = watch.look(others, at);
        }
    }
    let seen = signals::all(store.pulse()).await?;
    let changed = |name: &str| seen.get(name) != known.get(name);
    if changed(signals::SETTINGS)
        && let Err(error) = app.connections().reload().await
    {
        tracing::warn!(error = sentence(&error), "the settings cannot be read; the last known stay in force");
    }
    if changed(signals::SCHEDULE) {
        app.wake_own_schedule();
    }
    *known = seen;
    membership.extend(now).await?;
    let back = membership.bring_back().await?;
    if back > 0 {
        tracing::warn!(count = back, "messages whose end could not be recorded are queued again");
        app.queue().wake().notify_one();
    }
    if round % EXPIRY == EXPIRY - 1 && messages::has_expired(store.read(), now).await? {
        let count = messages::requeue_expired(store.write(), now).await?;
        tracing::warn!(count, "messages that a worker did not come back with are queued again");
    }
    Ok(silent)
}

async fn give_up(app: App, silent: Vec<Instance>) {
    for one in silent {
        let removed = store::insist(|| async {
            let transaction = app.store().begin().await?;
            let removed = instances::remove(&transaction, &one).await?;
            transaction.commit().await?;
            Ok(removed)
        });
        match removed.await {
            Ok(true) => {
                tracing::warn!(instance.id = one.id, "a process is silent; what it had in hand is taken over");
                app.queue().wake().notify_one();
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(error = sentence(&error), "a silent process could not be given up yet"),
        }
    }
}

/// What was seen of the others: a number, and since when it has stood.
struct Watch {
    silence: Duration,
    seen: BTreeMap<String, (i64, Instant)>,
    last: Option<Instant>,
}

impl Watch {
    const fn new(silence: Duration) -> Self {
        Self { silence, seen: BTreeMap::new(), last: None }
    }

    /// The database did not answer: nobody can have counted, and nobody is silent for that.
    fn blink(&mut self) {
        self.seen.clear();
    }

    /// Looks; those that have been silent for too long.
    fn look(&mut self, others: Vec<Instance>, at: Instant) -> Vec<Instance> {
        // Whoever did not look could not see them count either.
        if self.last.is_some_and(|last| at.duration_since(last) > self.silence / 2) {
            self.seen.clear();
        }
        self.last = Some(at);
        let mut seen = BTreeMap::new();
        let mut silent = Vec::new();
        for one in others {
            let since = match self.seen.get(&one.id) {
                Some((beat, since)) if *beat == one.beat => *since,
                _ => at,
            };
            seen.insert(one.id.clone(), (one.beat, since));
            if at.duration_since(since) >= self.silence {
                silent.push(one);
            }
        }
        self.seen = seen;
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str, beat: i64) -> Instance {
        Instance { id: id.to_owned(), node: String::new(), beat }
    }

    #[test]
    fn who_stands_still_for_the_whole_time_is_silent_and_who_counts_is_not() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut watch = Watch::new(second * 10);
        for n in 0..10 {
            let beat = i64::from(n);
            assert!(watch.look(vec![one("a", 5), one("b", beat)], start + second * n).is_empty(), "{n}");
        }
        assert_eq!(watch.look(vec![one("a", 5), one("b", 10)], start + second * 10), [one("a", 5)]);
    }

    #[test]
    fn nobody_is_silent_because_the_watcher_slept_or_the_database_did_not_answer() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut watch = Watch::new(second * 10);
        assert!(watch.look(vec![one("a", 5)], start).is_empty());
        assert!(watch.look(vec![one("a", 5)], start + second * 60).is_empty(), "it slept");
        watch.blink();
        assert!(watch.look(vec![one("a", 5)], start + second * 62).is_empty());
        assert!(watch.look(vec![one("a", 5)], start + second * 66).is_empty());
        assert!(watch.look(vec![one("a", 5)], start + second * 70).is_empty(), "eight seconds since the answer");
        assert_eq!(watch.look(vec![one("a", 5)], start + second * 73), [one("a", 5)]);
    }
}
