//! The group writer: many that enqueue share one commit.
//!
//! A commit that survives a power cut costs a flush of the disk, whatever it contains. So one task takes everything that
//! waits, writes it in one transaction, and answers all of them when it is committed; what arrives meanwhile goes into the
//! next one. There is no timer: a single message is written at once, and under load the groups grow by themselves.
//!
//! What somebody sends us goes into the [`inbox`], all of a commit in one row, which whoever brings it has written as JSON
//! already ([`Writer::receive`]); what we find ourselves goes straight among the [`messages`] ([`Writer::enqueue`]). There is one
//! line for both. A row by itself needs no transaction around it: a statement alone is committed whole or not at all, and three
//! ways to the database and back are one. And where nobody writes and nobody waits, whoever brings it writes it himself: to wake
//! the task, and to be woken by it, would take as long again. Should he go away meanwhile, nobody else is concerned.
//!
//! The line is bounded. When it is full the caller hears so at once ([`EnqueueError::Full`]) and can say so to its own caller,
//! who will try again; nothing that was accepted is ever dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::inbox::{self, Bundle};
use crate::messages::{self, NewMessage};

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

struct Job {
    load: Load,
    answer: oneshot::Sender<Result<()>>,
}

/// Hands messages to the group writer. The task ends, having written all it accepted, when the last of these is dropped.
#[derive(Debug, Clone)]
pub struct Writer {
    store: Store,
    line: mpsc::Sender<Job>,
    /// Held by whoever writes.
    desk: Arc<Mutex<()>>,
    wake: Arc<Notify>,
    tally: Arc<Tally>,
}

impl Writer {
    /// Starts the task, with a line of so many calls.
    #[must_use]
    pub fn spawn(store: Store, line: usize) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(line.max(1));
        let (desk, wake, tally) = (Arc::default(), Arc::default(), Arc::default());
        let task = run(store.clone(), receiver, Arc::clone(&desk), Arc::clone(&wake), Arc::clone(&tally));
        (Self { store, line: sender, desk, wake, tally }, tokio::spawn(task))
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
        let load = Load::Inbox(inbox::bundles(messages).map_err(EnqueueError::Store)?);
        let is_line_empty = self.line.capacity() == self.line.max_capacity();
        if is_line_empty
            && load.count() > 0
            && let Ok(_desk) = self.desk.try_lock()
        {
            let written = write(&self.store, std::slice::from_ref(&load), &self.tally).await;
            self.wake.notify_one();
            return written.map_err(EnqueueError::Store);
        }
        self.hand(load).await
    }

    async fn hand(&self, load: Load) -> Result<(), EnqueueError> {
        if load.count() == 0 {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.line.try_send(Job { load, answer }).map_err(|error| match error {
            TrySendError::Full(_) => EnqueueError::Full,
            TrySendError::Closed(_) => EnqueueError::Closed,
        })?;
        answered.await.map_err(|_| EnqueueError::Closed)?.map_err(EnqueueError::Store)
    }

    /// Told after each commit; one who queues by other means should tell it too. A notice that nobody waits for is kept.
    #[must_use]
    pub fn wake(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        Written {
            commits: self.tally.commits.load(Ordering::Relaxed),
            messages: self.tally.messages.load(Ordering::Relaxed),
        }
    }
}

async fn run(store: Store, mut line: mpsc::Receiver<Job>, desk: Arc<Mutex<()>>, wake: Arc<Notify>, tally: Arc<Tally>) {
    while let Some(first) = line.recv().await {
        let _desk = desk.lock().await;
        let mut count = first.load.count();
        let mut group = vec![first];
        while count < GROUP {
            let Ok(job) = line.try_recv() else { break };
            count += job.load.count();
            group.push(job);
        }
        write_group(&store, group, &tally).await;
        wake.notify_one();
    }
}

async fn write_group(store: &Store, group: Vec<Job>, tally: &Tally) {
    let (loads, answers): (Vec<Load>, Vec<_>) = group.into_iter().map(|job| (job.load, job.answer)).unzip();
    match write(store, &loads, tally).await {
        Ok(()) => answers.into_iter().for_each(|answer| tell(answer, Ok(()))),
        Err(error) if answers.len() == 1 => {
            if let Some(answer) = answers.into_iter().next() {
                tell(answer, Err(error));
            }
        }
        // Trying them one by one would only take longer to say the same.
        Err(StoreError::Database(error)) if StoreError::Database(error.clone()).is_busy_or_gone() => {
            answers.into_iter().for_each(|answer| tell(answer, Err(StoreError::Database(error.clone()))));
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "queue.group was refused, its parts are tried");
            for (load, answer) in loads.iter().zip(answers) {
                tell(answer, write(store, std::slice::from_ref(load), tally).await);
            }
        }
    }
}

async fn write(store: &Store, loads: &[Load], tally: &Tally) -> Result<()> {
    let (mut bundles, mut messages) = (Vec::new(), Vec::new());
    for load in loads {
        match load {
            Load::Inbox(more) => bundles.extend(more),
            Load::Messages(more) => messages.push(more.as_slice()),
        }
    }
    let rows = inbox::rows(bundles.into_iter());
    if messages.is_empty() && rows.len() == 1 {
        inbox::write(store.write(), rows).await?;
    } else {
        let transaction = store.begin().await?;
        inbox::write(&transaction, rows).await?;
        messages::insert_many(&transaction, &messages.concat()).await?;
        transaction.commit().await?;
    }
    tally.commits.fetch_add(1, Ordering::Relaxed);
    let count: usize = loads.iter().map(Load::count).sum();
    tally.messages.fetch_add(count as u64, Ordering::Relaxed);
    Ok(())
}

fn tell(answer: oneshot::Sender<Result<()>>, result: Result<()>) {
    // Who has gone away does not need to hear it: the messages are queued all the same.
    let _ = answer.send(result);
}
