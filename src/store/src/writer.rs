//! The group writer: many that enqueue share one commit.
//!
//! A commit that survives a power cut costs a flush of the disk, whatever it contains. So one task takes everything that
//! waits, writes it in one transaction, and answers all of them when it is committed; what arrives meanwhile goes into the
//! next one. There is no timer: a single message is written at once, and under load the groups grow by themselves.
//!
//! The line is bounded. When it is full the caller hears so at once ([`EnqueueError::Full`]) and can say so to its own caller,
//! who will try again; nothing that was accepted is ever dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Store;
use crate::error::{Result, StoreError};
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

struct Job {
    messages: Vec<NewMessage>,
    answer: oneshot::Sender<Result<()>>,
}

/// Hands messages to the group writer. The task ends, having written all it accepted, when the last of these is dropped.
#[derive(Debug, Clone)]
pub struct Writer {
    line: mpsc::Sender<Job>,
    wake: Arc<Notify>,
    tally: Arc<Tally>,
}

impl Writer {
    /// Starts the task, with a line of so many calls.
    #[must_use]
    pub fn spawn(store: Store, line: usize) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(line.max(1));
        let writer = Self { line: sender, wake: Arc::default(), tally: Arc::default() };
        let task = tokio::spawn(run(store, receiver, writer.wake.clone(), writer.tally.clone()));
        (writer, task)
    }

    /// Queues messages, all or none; returns when the commit that contains them is on the disk.
    ///
    /// # Errors
    /// When the line is full, the writer has stopped, or the database does not take them.
    pub async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<(), EnqueueError> {
        if messages.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.line.try_send(Job { messages, answer }).map_err(|error| match error {
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

async fn run(store: Store, mut line: mpsc::Receiver<Job>, wake: Arc<Notify>, tally: Arc<Tally>) {
    while let Some(first) = line.recv().await {
        let mut count = first.messages.len();
        let mut group = vec![first];
        while count < GROUP {
            let Ok(job) = line.try_recv() else { break };
            count += job.messages.len();
            group.push(job);
        }
        write_group(&store, group, &tally).await;
        wake.notify_one();
    }
}

async fn write_group(store: &Store, mut group: Vec<Job>, tally: &Tally) {
    let lengths: Vec<usize> = group.iter().map(|job| job.messages.len()).collect();
    let all: Vec<NewMessage> = group.iter_mut().flat_map(|job| std::mem::take(&mut job.messages)).collect();
    match (write(store, &all, tally).await, group.len()) {
        (Ok(()), _) => group.into_iter().for_each(|job| answer(job, Ok(()))),
        (Err(error), 1) => {
            if let Some(job) = group.pop() {
                answer(job, Err(error));
            }
        }
        // Trying them one by one would only take longer to say the same.
        (Err(StoreError::Database(error)), _) if StoreError::Database(error.clone()).is_busy_or_gone() => {
            group.into_iter().for_each(|job| answer(job, Err(StoreError::Database(error.clone()))));
        }
        (Err(error), _) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "queue.group was refused, its parts are tried");
            let mut all = all.into_iter();
            for (job, length) in group.into_iter().zip(lengths) {
                let messages: Vec<NewMessage> = all.by_ref().take(length).collect();
                answer(job, write(store, &messages, tally).await);
            }
        }
    }
}

async fn write(store: &Store, messages: &[NewMessage], tally: &Tally) -> Result<()> {
    let transaction = store.begin().await?;
    messages::insert_many(&transaction, messages).await?;
    transaction.commit().await?;
    tally.commits.fetch_add(1, Ordering::Relaxed);
    tally.messages.fetch_add(messages.len() as u64, Ordering::Relaxed);
    Ok(())
}

fn answer(job: Job, result: Result<()>) {
    // Who has gone away does not need to hear it: the messages are queued all the same.
    let _ = job.answer.send(result);
}
