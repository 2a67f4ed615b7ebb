//! The queue: changes are taken over durably before a webhook is answered.
//!
//! The embedded queue is the table of messages: one writer groups the inserts of concurrent requests into one commit.

use metrics::counter;
use store::StoreError;
use store::messages::NewMessage;
use store::writer::{EnqueueError, Writer};
use sync::{Cause, Change};

/// Where changes wait. A closed set that we own, so an enum and no trait.
#[derive(Debug, Clone)]
pub enum Queue {
    /// In the database.
    Embedded(Writer),
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
    /// Takes changes over; they are durable when this returns. `excerpt` is what was received, for people to read.
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
        let hint = |change| Hint { change, lane: None, excerpt: excerpt.clone() };
        self.take(changes.into_iter().map(hint).collect(), source).await
    }

    /// The same for changes of which more is known.
    ///
    /// # Errors
    ///
    /// When nothing was taken over: the sender has to try again.
    pub async fn take(&self, hints: Vec<Hint>, source: Cause) -> Result<(), QueueError> {
        let count = hints.len() as u64;
        let message = |Hint { change, lane, excerpt }| {
            let message = NewMessage::new(change, source.as_str());
            NewMessage { excerpt, lane: lane.unwrap_or(message.lane), ..message }
        };
        let messages = hints.into_iter().map(message).collect();
        match self {
            Self::Embedded(writer) => writer.enqueue(messages).await?,
        }
        counter!("espo_outlook_changes_received_total", "source" => source.as_str()).increment(count);
        Ok(())
    }

    /// Woken when something was queued.
    #[must_use]
    pub fn wake(&self) -> &tokio::sync::Notify {
        match self {
            Self::Embedded(writer) => writer.wake(),
        }
    }
}
