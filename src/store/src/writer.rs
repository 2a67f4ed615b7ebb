//! The group writer: many that enqueue share one commit.
//!
//! A commit that survives a power cut costs a flush of the disk, whatever it contains. So whoever comes first writes, and what
//! arrives meanwhile waits; when that commit is on the disk, the first of those who wait gets the turn, writes for all of them in one
//! transaction, and tells them. There is no timer: a single message is written at once, and under load the groups grow by
//! themselves. No task stands in between: to wake it, and to be woken by it, would take as long as the commit.
//!
//! Who has the turn may go away in the middle of it, such as a request that is given up. What he and the others brought is then
//! written by a task that waits for nothing else; if it was on the disk already it is found there. So is what somebody brought who
//! does not wait any more: he has told his sender to come again, who may take his time.
//!
//! What somebody sends us goes into the [`inbox`], all of a commit in one row, which whoever brings it has written as JSON
//! already ([`Writer::receive`]); what we find ourselves goes straight among the [`messages`] ([`Writer::enqueue`]). There is one
//! line for both. A row by itself needs no transaction around it: a statement alone is committed whole or not at all, and three
//! ways to the database and back are one.
//!
//! The line is bounded. When it is full the caller hears so at once ([`EnqueueError::Full`]) and can say so to its own caller,
//! who will try again; nothing that was accepted is ever dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::{Result, StoreError};
use crate::inbox::{self, Bundle};
use crate::messages::{self, NewMessage};
use crate::{Store, insist};

/// So many messages go into one commit at most, unless one caller brings more.
const GROUP: usize = 1024;

/// Why a message was not queued.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// Too many wait already.
    #[error("the queue is full")]
    Full,
    /// The writer has stopped.
    #[error("the queue is closed")]
    Closed,
    /// The database did not take it.
    #[error("the queue could not be written")]
    Store(#[source] StoreError),
}

/// What the writer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Transactions committed.
    pub commits: u64,
    /// Messages in them.
    pub messages: u64,
}

#[derive(Debug, Default)]
struct Tally {
    commits: AtomicU64,
    messages: AtomicU64,
}

/// What one caller brings, and where it goes.
enum Load {
    Inbox(Vec<Bundle>),
    Messages(Vec<NewMessage>),
}

impl Load {
    fn count(&self) -> usize {
        match self {
            Self::Inbox(bundles) => bundles.iter().map(Bundle::count).sum(),
            Self::Messages(messages) => messages.len(),
        }
    }
}

/// What somebody brings who has to wait.
struct Job {
    load: Load,
    answer: oneshot::Sender<Told>,
}

/// What they are told.
enum Told {
    /// What became of it.
    Written(Result<()>),
    /// To write, for those behind them as well.
    Turn(Turn),
}

/// Those who wait, and whether somebody has the turn: while somebody has it, whoever comes waits.
#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    is_busy: bool,
    /// The task has ended; nobody would write what is left behind.
    is_closed: bool,
}

/// What all clones of a writer share.
struct Inner {
    store: Store,
    line: Mutex<Line>,
    places: usize,
    wake: Arc<Notify>,
    tally: Tally,
}

/// Hands messages to the database in groups. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    inner: Arc<Inner>,
    /// For what was left in the middle.
    left: mpsc::UnboundedSender<VecDeque<Job>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("written", &self.written()).finish_non_exhaustive()
    }
}

/// The right, and the duty, to write what these brought, and to pass the turn on.
struct Turn {
    inner: Arc<Inner>,
    left: mpsc::WeakUnboundedSender<VecDeque<Job>>,
    /// None where whoever brought it has gone away.
    own: Option<Load>,
    others: VecDeque<Job>,
    /// Some of it may be on the disk already.
    is_second: bool,
    is_over: bool,
}

/// Where somebody stands who has come.
enum Place {
    First(Turn),
    Behind(oneshot::Receiver<Told>),
}

impl Writer {
    /// A writer with a line of so many calls, and the task that finishes what others leave. It ends when the last clone of the
    /// writer is dropped.
    #[must_use]
    pub fn spawn(store: Store, line: usize) -> (Self, JoinHandle<()>) {
        let (left, found) = mpsc::unbounded_channel();
        let (places, wake, tally) = (line.max(1), Arc::default(), Tally::default());
        let inner = Arc::new(Inner { store, line: Mutex::default(), places, wake, tally });
        let task = tokio::spawn(finish(Arc::clone(&inner), left.downgrade(), found));
        (Self { inner, left }, task)
    }

    /// Queues messages, all or none; returns when the commit that contains them is on the disk.
    ///
    /// # Errors
    /// When the line is full, the writer has stopped, or the database does not take them.
    pub async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), EnqueueError> {
        self.hand(Load::Messages(messages)).await
    }

    /// The same for what goes into the inbox: it is a message once it is taken in.
    ///
    /// # Errors
    /// When the line is full, the writer has stopped, or the database does not take them.
    pub async fn receive(&self, messages: &[NewMessage]) -> Result<(), EnqueueError> {
        self.hand(Load::Inbox(inbox::bundles(messages).map_err(EnqueueError::Store)?)).await
    }

    async fn hand(&self, load: Load) -> Result<(), EnqueueError> {
        if load.count() == 0 {
            return Ok(());
        }
        let turn = match self.step_up(load)? {
            Place::First(turn) => turn,
            Place::Behind(answered) => match answered.await.map_err(|_| EnqueueError::Closed)? {
                Told::Written(result) => return result.map_err(EnqueueError::Store),
                Told::Turn(turn) => turn,
            },
        };
        turn.write().await.map_err(EnqueueError::Store)
    }

    fn step_up(&self, load: Load) -> Result<Place, EnqueueError> {
        let mut line = self.inner.line();
        if line.is_closed {
            return Err(EnqueueError::Closed);
        }
        if !line.is_busy {
            line.is_busy = true;
            return Ok(Place::First(Turn::new(&self.inner, self.left.downgrade(), Some(load), VecDeque::new())));
        }
        if line.jobs.len() >= self.inner.places {
            return Err(EnqueueError::Full);
        }
        let (answer, answered) = oneshot::channel();
        line.jobs.push_back(Job { load, answer });
        Ok(Place::Behind(answered))
    }

    /// Told after each commit; one who queues by other means should tell it too. A notice that nobody waits for is kept.
    #[must_use]
    pub fn wake(&self) -> &Arc<Notify> {
        &self.inner.wake
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        let Tally { commits, messages } = &self.inner.tally;
        Written { commits: commits.load(Ordering::Relaxed), messages: messages.load(Ordering::Relaxed) }
    }
}

/// Writes what was left in the middle.
async fn finish(
    inner: Arc<Inner>,
    left: mpsc::WeakUnboundedSender<VecDeque<Job>>,
    mut found: mpsc::UnboundedReceiver<VecDeque<Job>>,
) {
    while let Some(jobs) = found.recv().await {
        let mut turn = Turn::new(&inner, left.clone(), None, jobs);
        turn.is_second = true;
        // Nothing of one's own: each of the others is told.
        drop(turn.write().await);
    }
}

impl Turn {
    fn new(
        inner: &Arc<Inner>,
        left: mpsc::WeakUnboundedSender<VecDeque<Job>>,
        own: Option<Load>,
        others: VecDeque<Job>,
    ) -> Self {
        Self { inner: Arc::clone(inner), left, own, others, is_second: false, is_over: false }
    }

    /// Writes all of it, tells the others, and passes the turn on. What became of one's own.
    async fn write(mut self) -> Result<()> {
        let own = self.write_all().await;
        self.inner.wake.notify_one();
        self.pass_on();
        own
    }

    async fn write_all(&mut self) -> Result<()> {
        let loads: Vec<&Load> = self.own.iter().chain(self.others.iter().map(|job| &job.load)).collect();
        if loads.is_empty() {
            return Ok(());
        }
        match self.inner.write(&loads, self.is_second).await {
            Ok(()) => {
                self.tell_others(|| Ok(()));
                Ok(())
            }
            Err(error) if loads.len() == 1 && self.own.is_some() => Err(error),
            // Trying them one by one would only take longer to say the same.
            Err(StoreError::Database(error)) if StoreError::Database(error.clone()).is_busy_or_gone() => {
                self.tell_others(|| Err(StoreError::Database(error.clone())));
                Err(StoreError::Database(error))
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "queue.group was refused, its parts are tried"
                );
                self.each_by_itself().await
            }
        }
    }

    fn tell_others(&mut self, result: impl Fn() -> Result<()>) {
        for job in self.others.drain(..) {
            // Who has gone away does not need to hear it: the messages are queued all the same.
            drop(job.answer.send(Told::Written(result())));
        }
    }

    async fn each_by_itself(&mut self) -> Result<()> {
        let own = match &self.own {
            Some(load) => self.inner.write(&[load], self.is_second).await,
            None => Ok(()),
        };
        while let Some(job) = self.others.front() {
            let result = self.inner.write(&[&job.load], self.is_second).await;
            if let Some(job) = self.others.pop_front() {
                drop(job.answer.send(Told::Written(result)));
            }
        }
        own
    }

    /// Gives the turn to the first of those who wait.
    fn pass_on(&mut self) {
        self.is_over = true;
        loop {
            let Some((first, others)) = self.inner.line().next() else { return };
            let Some(first) = first else { return self.leave(others) };
            let turn = Self::new(&self.inner, self.left.clone(), Some(first.load), others);
            match first.answer.send(Told::Turn(turn)) {
                Err(Told::Turn(mut turn)) => {
                    // He has gone just now.
                    turn.is_over = true;
                    let all = turn.all();
                    self.inner.line().put_back(all);
                }
                _ => return,
            }
        }
    }

    /// What he brought who has the turn, and the others.
    fn all(&mut self) -> VecDeque<Job> {
        let mut all = std::mem::take(&mut self.others);
        if let Some(load) = self.own.take() {
            let (answer, _) = oneshot::channel();
            all.push_front(Job { load, answer });
        }
        all
    }

    /// Leaves the turn to the task.
    fn leave(&self, jobs: VecDeque<Job>) {
        if self.left.upgrade().is_none_or(|left| left.send(jobs).is_err()) {
            self.inner.line().close();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            let all = self.all();
            self.leave(all);
        }
    }
}

impl Line {
    /// Those who are to be written next: who is to do it, where anybody waits for it, and the others. Nobody has the turn when there
    /// are none.
    fn next(&mut self) -> Option<(Option<Job>, VecDeque<Job>)> {
        let (mut first, mut others, mut count) = (None, VecDeque::new(), 0);
        while count < GROUP
            && let Some(job) = self.jobs.pop_front()
        {
            count += job.load.count();
            if first.is_none() && !job.answer.is_closed() {
                first = Some(job);
            } else {
                others.push_back(job);
            }
        }
        self.is_busy = first.is_some() || !others.is_empty();
        self.is_busy.then_some((first, others))
    }

    fn put_back(&mut self, others: VecDeque<Job>) {
        others.into_iter().rev().for_each(|job| self.jobs.push_front(job));
    }

    /// Whoever waits, and whoever comes, hears that nothing is written any more.
    fn close(&mut self) {
        self.is_closed = true;
        self.jobs.clear();
    }
}

impl Inner {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, loads: &[&Load], is_second: bool) -> Result<()> {
        let (mut bundles, mut messages) = (Vec::new(), Vec::new());
        for load in loads {
            match load {
                Load::Inbox(more) => bundles.extend(more),
                Load::Messages(more) => messages.push(more.as_slice()),
            }
        }
        let rows = inbox::rows(bundles.into_iter());
        if messages.is_empty() && rows.len() == 1 {
            inbox::write(self.store.write(), rows).await?;
        } else {
            let messages = messages.concat();
            insist(|| async {
                let transaction = self.store.begin().await?;
                inbox::write(&transaction, rows.clone()).await?;
                if is_second {
                    messages::insert_new(&transaction, &messages).await?;
                } else {
                    messages::insert_many(&transaction, &messages).await?;
                }
                Ok(transaction.commit().await?)
            })
            .await?;
        }
        self.tally.commits.fetch_add(1, Ordering::Relaxed);
        let count: usize = loads.iter().map(|load| load.count()).sum();
        self.tally.messages.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }
}
