//! Settling: what a look at a pair leaves behind (link, history, the end of its messages) is one transaction, and looks that end
//! at the same time share it.
//!
//! As in [`crate::writer`], a commit costs a flush of the disk whatever it contains. So what workers have to store goes into a
//! line; whoever empties it writes all that waits in one transaction and tells each of them once it is on the disk. There is no
//! timer: where nothing waits, one is written at once. What is refused, such as a link whose record has one already, is written
//! again by itself, and the others with it, each in a transaction of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use sync::{Link, Target};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Result, StoreError};
use crate::history::Entry;
use crate::messages::End;
use crate::{Store, Transaction, bindings, history, insist, links, messages};

/// So many share a commit at most.
const GROUP: usize = 256;
/// So many may wait; the next one waits for a place.
const LINE: usize = 1024;
/// How exact the time of a user's last reconciliation is.
const SYNCED: TimeDelta = TimeDelta::seconds(1);

/// What is to be stored together.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The link as it is now.
    pub link: Option<Link>,
    /// What was done.
    pub entries: Vec<Entry>,
    /// The messages that are dealt with.
    pub ends: Option<End>,
    /// Targets that are in step now, and since when they were looked at: a dead letter about them has nothing left to say.
    pub in_step: Option<(Vec<Target>, DateTime<Utc>)>,
    /// The user whose pair was written.
    pub synced: Option<String>,
    /// Whether a power cut may take it, as it is found out again.
    pub is_light: bool,
    /// Now.
    pub now: DateTime<Utc>,
}

impl Settlement {
    /// Nothing yet.
    #[must_use]
    pub const fn at(now: DateTime<Utc>) -> Self {
        Self { link: None, entries: Vec::new(), ends: None, in_step: None, synced: None, is_light: false, now }
    }
}

struct Job {
    settlement: Settlement,
    answer: oneshot::Sender<Result<()>>,
}

/// The lines of a store, each emptied by a task of its own. The tasks end with the last clone of the store.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    all: Arc<[mpsc::Sender<Job>]>,
    next: Arc<AtomicUsize>,
}

impl Lines {
    /// Starts so many tasks, which write with `store`.
    pub(crate) fn start(store: &Store, count: usize) -> Self {
        let line = |_| {
            let (sender, receiver) = mpsc::channel(LINE);
            tokio::spawn(run(store.clone(), receiver));
            sender
        };
        Self { all: (0..count).map(line).collect(), next: Arc::default() }
    }

    /// One after the other.
    fn turn(&self) -> Option<&mpsc::Sender<Job>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.all.len())?;
        self.all.get(at)
    }
}

impl Store {
    /// Stores what belongs together; returns when it is on the disk. It rests on the lock of the link: nothing is written when
    /// this process was given up meanwhile.
    ///
    /// # Errors
    /// When the database fails, or another link has the record or an item (a conflict).
    pub async fn settle(&self, settlement: Settlement) -> Result<()> {
        let alone = |settlement| async move { write(self, &[settlement], &mut HashMap::new()).await };
        let Some(line) = self.lines().turn() else { return alone(settlement).await };
        let (answer, answered) = oneshot::channel();
        match line.send(Job { settlement, answer }).await {
            Ok(()) => answered.await.unwrap_or(Err(StoreError::Stopped)),
            // The runtime on which the store was opened is ending.
            Err(mpsc::error::SendError(job)) => alone(job.settlement).await,
        }
    }
}

async fn run(store: Store, mut line: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    // When a user's reconciliation was noted last.
    let mut noted = HashMap::new();
    while line.recv_many(&mut jobs, GROUP).await > 0 {
        // Who does not wait any more has given back the lock on which it rests.
        let waiting = jobs.drain(..).filter(|job| !job.answer.is_closed());
        let (group, answers): (Vec<Settlement>, Vec<_>) = waiting.map(|job| (job.settlement, job.answer)).unzip();
        if group.is_empty() {
            continue;
        }
        match write(&store, &group, &mut noted).await {
            Ok(()) => answers.into_iter().for_each(|answer| tell(answer, Ok(()))),
            Err(error) if group.len() == 1 => {
                if let Some(answer) = answers.into_iter().next() {
                    tell(answer, Err(error));
                }
            }
            Err(StoreError::Superseded) => {
                answers.into_iter().for_each(|answer| tell(answer, Err(StoreError::Superseded)));
            }
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a shared commit was refused, its parts are tried"
                );
                apart(&store, group, answers, &mut noted).await;
            }
        }
    }
}

/// One by one, until the database is gone: the others need not wait to hear the same.
async fn apart(
    store: &Store,
    group: Vec<Settlement>,
    answers: Vec<oneshot::Sender<Result<()>>>,
    noted: &mut HashMap<String, DateTime<Utc>>,
) {
    let mut gone: Option<StoreError> = None;
    for (settlement, answer) in group.into_iter().zip(answers) {
        let result = match &gone {
            Some(error) => Err(copy(error)),
            None => write(store, &[settlement], noted).await,
        };
        if let Err(error) = &result
            && error.is_busy_or_gone()
        {
            gone = Some(copy(error));
        }
        tell(answer, result);
    }
}

/// The same for another one who waited for it.
fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::Database(error) => StoreError::Database(error.clone()),
        StoreError::Superseded => StoreError::Superseded,
        StoreError::Unwritable { what, .. } => {
            StoreError::Unreadable { what, text: "a value".to_owned(), source: None }
        }
        _ => StoreError::Stopped,
    }
}

fn tell(answer: oneshot::Sender<Result<()>>, result: Result<()>) {
    // Who has gone away does not need to hear it: it is stored all the same.
    let _ = answer.send(result);
}

async fn write(store: &Store, group: &[Settlement], noted: &mut HashMap<String, DateTime<Utc>>) -> Result<()> {
    let synced = insist(|| once(store, group, noted)).await?;
    noted.extend(synced);
    Ok(())
}

/// Tells whose reconciliations were noted.
async fn once(
    store: &Store,
    group: &[Settlement],
    noted: &HashMap<String, DateTime<Utc>>,
) -> Result<HashMap<String, DateTime<Utc>>> {
    let is_light = group.iter().all(|one| one.is_light);
    let transaction = if is_light { store.begin_held_lightly().await? } else { store.begin_held().await? };
    let saved: Vec<(&Link, DateTime<Utc>)> =
        group.iter().filter_map(|one| one.link.as_ref().map(|link| (link, one.now))).collect();
    links::save_many(&transaction, &saved).await?;
    let entries: Vec<&Entry> = group.iter().flat_map(|one| &one.entries).collect();
    history::insert_all(&transaction, &entries).await?;
    let ends: Vec<(&End, DateTime<Utc>)> =
        group.iter().filter_map(|one| one.ends.as_ref().map(|end| (end, one.now))).collect();
    messages::finish_many(&transaction, &ends).await?;
    let in_step: Vec<(&[Target], DateTime<Utc>)> = group
        .iter()
        .filter_map(|one| one.in_step.as_ref().map(|(targets, began)| (targets.as_slice(), *began)))
        .collect();
    if let Some(now) = group.iter().map(|one| one.now).max() {
        messages::supersede(&transaction, &in_step, now).await?;
    }
    let synced = synced(&transaction, group, noted).await?;
    transaction.commit().await?;
    Ok(synced)
}

/// Notes reconciliations, of a user once a second at most. Tells which were noted.
async fn synced(
    transaction: &Transaction,
    group: &[Settlement],
    noted: &HashMap<String, DateTime<Utc>>,
) -> Result<HashMap<String, DateTime<Utc>>> {
    let mut due: BTreeMap<DateTime<Utc>, BTreeSet<&str>> = BTreeMap::new();
    for (user, now) in group.iter().filter_map(|one| Some((one.synced.as_deref()?, one.now))) {
        if noted.get(user).is_none_or(|at| now - *at >= SYNCED) {
            due.entry(now).or_default().insert(user);
        }
    }
    let Some((&now, _)) = due.last_key_value() else { return Ok(HashMap::new()) };
    // In one order, whoever does it: rows are locked one after the other.
    let users: BTreeSet<&str> = due.into_values().flatten().collect();
    bindings::synced_all(transaction, &users, now).await?;
    Ok(users.into_iter().map(|user| (user.to_owned(), now)).collect())
}
