//! The queue: changes are taken over durably before a webhook is answered.
//!
//! Every change ends in the table of messages ([`store::messages`]), which is the archive, and from which workers lease: units,
//! lanes, parking, dead letters and replay are there, once, whatever the queue. The two queues differ in how a change that
//! *somebody else* tells us of ([`Queue::receive`]) gets there:
//!
//! - **embedded**: one writer appends what concurrent requests bring to the inbox, in one row and one commit ([`store::writer`]).
//!   Workers move it into the table, as a rule in the transaction in which they lease ([`crate::work::dispatch`]); so does
//!   whoever shows or changes messages ([`crate::work::received`]), so that none is ever missing ([`store::inbox`]);
//! - **RabbitMQ**: it is published, also in groups, to a quorum queue, and the sender is answered when the broker has confirmed.
//!   A receiver so needs no database. Workers take the groups from the broker and put them into the table, each group in one
//!   transaction, before they acknowledge ([`rabbit`]).
//!
//! What we tell ourselves of ([`Queue::take`]: poll, sweep, somebody's click) goes straight into the table in either case. Who
//! polls reads the database anyway, nothing is gained by a detour; and the poll is the net below a broker that is away.

mod rabbit;
mod wire;

use metrics::counter;
use store::StoreError;
use store::messages::NewMessage;
use store::subscriptions::Plight;
use store::writer::{EnqueueError, Writer};
use sync::{Cause, Change};

pub use rabbit::{Depth, Fault, Parts, Rabbit};

/// Where changes wait. A closed set that we own, so an enum and no trait.
#[derive(Debug, Clone)]
pub enum Queue {
    /// In the database.
    Embedded(Writer),
    /// In RabbitMQ, and then in the database.
    Rabbit(Rabbit),
}

/// A change on its way into the queue.
#[derive(Debug, Clone)]
pub struct Hint {
    /// Where to look.
    pub change: Change,
    /// In whose turn: the id of the user whose mailbox is concerned. A hint at a record does not say, and many of one user's
    /// would keep the others' waiting.
    pub lane: Option<String>,
    /// What was received, for people to read.
    pub excerpt: Option<String>,
    /// What was said of a Graph subscription itself, by its id.
    pub plight: Option<(String, Plight)>,
}

impl Hint {
    /// A hint of which no more is known.
    #[must_use]
    pub const fn new(change: Change) -> Self {
        Self { change, lane: None, excerpt: None, plight: None }
    }

    fn into_message(self) -> NewMessage {
        let Self { change, lane, excerpt, plight } = self;
        let source = change.cause;
        let message = NewMessage::new(change, source.as_str());
        NewMessage { excerpt, plight, lane: lane.unwrap_or(message.lane), ..message }
    }
}

/// Why the queue did not take changes.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// More is waiting than can be written.
    #[error("the queue is full")]
    Full,
    /// The process is stopping.
    #[error("the queue is closed")]
    Closed,
    /// The database refused.
    #[error("the queue cannot be written")]
    Store(#[source] StoreError),
    /// The broker does not take anything, or has not confirmed that it did.
    #[error("the broker does not take it")]
    Broker(#[source] Fault),
    /// It cannot be written as JSON.
    #[error("the change cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
}

impl From<EnqueueError> for QueueError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Full => Self::Full,
            EnqueueError::Closed => Self::Closed,
            EnqueueError::Store(error) => Self::Store(error),
        }
    }
}

impl Queue {
    /// Takes over what somebody else told us of; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// When it was not taken over, or it is not known whether it was: the sender has to try again.
    pub async fn receive(&self, hints: Vec<Hint>, source: Cause) -> Result<(), QueueError> {
        match self {
            // What is said of a subscription itself is noted with its message: the scheduler is about to look.
            Self::Embedded(_) if hints.iter().any(|hint| hint.plight.is_some()) => self.take(hints, source).await,
            Self::Embedded(writer) => {
                let messages: Vec<NewMessage> = hints.into_iter().map(Hint::into_message).collect();
                writer.receive(&messages).await?;
                counted(source, messages.len());
                Ok(())
            }
            Self::Rabbit(rabbit) => {
                let count = hints.len();
                rabbit.publish(hints).await?;
                counted(source, count);
                Ok(())
            }
        }
    }

    /// Takes changes over that we have found ourselves; they are durable when this returns. `excerpt` is what was received, for
    /// people to read.
    ///
    /// # Errors
    ///
    /// When nothing was taken over: the sender has to try again.
    pub async fn publish(
        &self,
        changes: Vec<Change>,
        source: Cause,
        excerpt: Option<String>,
    ) -> Result<(), QueueError> {
        let hint = |change| Hint { excerpt: excerpt.clone(), ..Hint::new(change) };
        self.take(changes.into_iter().map(hint).collect(), source).await
    }

    /// The same for changes of which more is known.
    ///
    /// # Errors
    ///
    /// When nothing was taken over: the sender has to try again.
    pub async fn take(&self, hints: Vec<Hint>, source: Cause) -> Result<(), QueueError> {
        let count = hints.len();
        self.table().enqueue(hints.into_iter().map(Hint::into_message).collect()).await?;
        counted(source, count);
        Ok(())
    }

    /// Woken when something is there for a worker.
    #[must_use]
    pub fn wake(&self) -> &tokio::sync::Notify {
        self.table().wake()
    }

    /// The broker, where there is one.
    #[must_use]
    pub const fn broker(&self) -> Option<&Rabbit> {
        match self {
            Self::Embedded(_) => None,
            Self::Rabbit(rabbit) => Some(rabbit),
        }
    }

    fn table(&self) -> &Writer {
        match self {
            Self::Embedded(writer) => writer,
            Self::Rabbit(rabbit) => rabbit.table(),
        }
    }
}

fn counted(source: Cause, count: usize) {
    counter!("espo_outlook_changes_received_total", "source" => source.as_str()).increment(count as u64);
}
