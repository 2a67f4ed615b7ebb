//! RabbitMQ.
//!
//! ```text
//! receiver: requests ─▶ line ─▶ publisher ═▶ PREFIX.changes ═▶ consumer ─▶ table of messages ─▶ worker
//!           answered ◀─ confirmed ◀─┘                  │  acknowledged ◀─┘ committed
//!                                     PREFIX.dead ◀────┴─ cannot be read, given up by the broker
//! ```
//!
//! Each part has a connection of its own ([`publisher`], [`consumer`], and one for questions): RabbitMQ stops reading from a
//! connection that publishes while it is short of memory or disk, acknowledgements and answers included. Each is made again when
//! it ends, with growing pauses, queues included; nothing has to be restarted, and a broker that is away at the start is no
//! different from one that goes away later. How each stands is kept for those who ask ([`standing`]): a receiver refuses at once
//! what could not be confirmed, a worker goes on with what is in the table.

mod broker;
mod consumer;
mod examination;
mod fault;
mod lane;
mod pause;
mod publisher;
mod standing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lapin::{Channel, Connection};
use store::Store;
use store::writer::Writer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::broker::Broker;
use self::consumer::Sink;
pub use self::fault::Fault;
use self::lane::{Aloft, Lane};
use self::publisher::{BYTES, CHANGES, Job};
use self::standing::Standing;
use super::{Hint, QueueError, wire};
use crate::clock::Clock;
use crate::id::Ids;

/// What it takes to use RabbitMQ.
#[derive(Debug)]
pub struct Parts {
    /// The way into the table of messages.
    pub table: Writer,
    /// So many requests may wait to be published.
    pub line: usize,
    /// The clock.
    pub clock: Clock,
    /// Ids and randomness.
    pub ids: Ids,
    /// The process stops: nothing new is taken.
    pub stopping: CancellationToken,
}

/// The queue in RabbitMQ. Cheap to clone.
#[derive(Clone)]
pub struct Rabbit(Arc<Inner>);

struct Inner {
    broker: Broker,
    table: Writer,
    clock: Clock,
    ids: Ids,
    line: mpsc::Sender<Job>,
    /// The other end, until somebody publishes.
    unread: Mutex<Option<mpsc::Receiver<Job>>>,
    /// Open while this process can publish.
    lane: Mutex<Option<Lane>>,
    publishing: Standing,
    consuming: Standing,
    /// Messages that were delivered to us and not acknowledged.
    held: AtomicU64,
    questions: tokio::sync::Mutex<Option<(Connection, Channel)>>,
    runtime: tokio::runtime::Handle,
    /// Nothing new is taken.
    stopping: CancellationToken,
    /// Nobody publishes any more.
    closing: CancellationToken,
    publisher: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Rabbit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A connection knows its password.
        f.debug_tuple("Rabbit").field(&self.0.broker).finish()
    }
}

/// How much is in the broker, in messages, each of which holds one change or several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting there.
    pub ready: u64,
    /// Delivered to this process and not in the database yet.
    pub held: u64,
    /// Unreadable, or given up.
    pub dead: u64,
}

impl Rabbit {
    /// The queue at an address, under names that begin with `prefix`; none when it is no address of a RabbitMQ. Nothing is
    /// connected yet.
    #[must_use]
    pub fn new(url: &str, prefix: &str, parts: Parts) -> Option<Self> {
        let broker = Broker::new(url, prefix)?;
        let Parts { table, line, clock, ids, stopping } = parts;
        let (line, unread) = mpsc::channel(line.max(1));
        Some(Self(Arc::new(Inner {
            broker,
            table,
            clock,
            ids,
            line,
            unread: Mutex::new(Some(unread)),
            lane: Mutex::default(),
            publishing: Standing::new(),
            consuming: Standing::new(),
            held: AtomicU64::new(0),
            questions: tokio::sync::Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            stopping,
            closing: CancellationToken::new(),
            publisher: Mutex::default(),
        })))
    }

    pub(super) fn table(&self) -> &Writer {
        &self.0.table
    }

    /// Host and port of the broker.
    #[must_use]
    pub fn address(&self) -> String {
        self.0.broker.address()
    }

    /// The queue of what cannot be read.
    #[must_use]
    pub fn dead_queue(&self) -> &str {
        &self.0.broker.dead
    }

    /// From now on this process publishes, until [`Self::close`].
    pub fn start_publishing(&self) {
        let line = self.0.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(line) = line else { return };
        self.0.publishing.down(Fault::Connecting);
        let task = tokio::spawn(publisher::run(self.clone(), line));
        *self.0.publisher.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Moves what comes from the broker into the table of messages, until the process stops. `urgent` is called when the
    /// scheduler has something to do at once.
    pub async fn consume(self, store: Store, urgent: impl Fn() + Send + Sync + 'static) {
        consumer::run(self, Sink { store, urgent: Box::new(urgent) }).await;
    }

    /// Waits for the last confirmations, and takes leave of the broker.
    pub async fn close(&self) {
        self.0.closing.cancel();
        let publisher = self.0.publisher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(publisher) = publisher {
            publisher.await.ok();
        }
        if let Some((connection, _)) = self.0.questions.lock().await.take() {
            connection.close(200, "the process stops".into()).await.ok();
        }
    }

    /// Publishes; all of it is confirmed when this returns.
    ///
    /// # Errors
    /// When the broker takes nothing, or has not confirmed in time.
    pub async fn publish(&self, hints: Vec<Hint>) -> Result<(), QueueError> {
        if hints.is_empty() {
            return Ok(());
        }
        self.0.publishing.check().map_err(QueueError::Broker)?;
        let mut answers = Vec::new();
        let mut entries = String::new();
        let mut changes = 0;
        let trace = hints.first().and_then(|hint| hint.change.trace.clone());
        for hint in &hints {
            let entry = wire::entry(hint).map_err(QueueError::Unwritable)?;
            if changes > 0 && (changes >= CHANGES || entries.len() + entry.len() > BYTES) {
                answers.push(self.line_up(std::mem::take(&mut entries), changes, trace.clone())?);
                changes = 0;
            }
            if entries.is_empty() {
                entries = entry;
            } else {
                entries.push(',');
                entries.push_str(&entry);
            }
            changes += 1;
        }
        if answers.is_empty()
            && let Some(alone) = self.take_off_alone()
        {
            return publisher::alone(self, alone, (entries, changes, trace)).await.map_err(QueueError::Broker);
        }
        answers.push(self.line_up(entries, changes, trace)?);
        for answer in answers {
            match answer.await {
                Ok(confirmed) => confirmed.map_err(QueueError::Broker)?,
                // The connection has ended meanwhile.
                Err(_) => return Err(QueueError::Broker(self.0.publishing.fault().unwrap_or(Fault::Connecting))),
            }
        }
        Ok(())
    }

    fn open_lane(&self, lane: Option<Lane>) {
        *self.0.lane.lock().unwrap_or_else(PoisonError::into_inner) = lane;
    }

    /// The way to the broker, where nobody waits and nothing is on its way.
    fn take_off_alone(&self) -> Option<(Lane, Aloft)> {
        if self.0.line.capacity() < self.0.line.max_capacity() {
            return None;
        }
        let lane = self.0.lane.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lane.as_ref()?;
        Some((lane.clone(), lane.take_off_alone()?))
    }

    fn line_up(
        &self,
        entries: String,
        changes: usize,
        trace: Option<String>,
    ) -> Result<oneshot::Receiver<Result<(), Fault>>, QueueError> {
        let (answer, answered) = oneshot::channel();
        self.0.line.try_send(Job { entries, changes, trace, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => QueueError::Full,
            mpsc::error::TrySendError::Closed(_) => QueueError::Closed,
        })?;
        Ok(answered)
    }

    /// What keeps this process from doing its part, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.0.publishing.fault().or_else(|| self.0.consuming.fault())
    }

    /// How much is in the broker.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn depth(&self) -> Result<Depth, Fault> {
        let this = self.clone();
        // A connection lives on the runtime on which it was made, and that of an HTTP worker ends first.
        let asked = self.0.runtime.spawn(async move { this.ask().await }).await;
        asked.unwrap_or(Err(Fault::Connecting))
    }

    async fn ask(&self) -> Result<Depth, Fault> {
        let mut questions = self.0.questions.lock().await;
        let (connection, channel) = match questions.take() {
            Some((connection, channel)) if connection.status().connected() && channel.status().connected() => {
                (connection, channel)
            }
            _ => {
                let connection = self.0.broker.connect("questions").await?;
                let channel = self.channel(&connection).await?;
                (connection, channel)
            }
        };
        let held = self.0.held.load(Ordering::Relaxed);
        let declared = self.0.broker.declare(&channel).await?;
        *questions = Some((connection, channel));
        // What was delivered in between is counted twice rather than not at all.
        let held = held.max(self.0.held.load(Ordering::Relaxed));
        Ok(Depth { ready: declared.ready, held, dead: declared.dead })
    }

    async fn channel(&self, connection: &Connection) -> Result<Channel, Fault> {
        self.0.broker.in_time(connection.create_channel()).await
    }
}
