//! What went wrong while a change was worked on, and what becomes of the change.

use std::time::Duration;

use store::StoreError;

use crate::app::circuits::System;

/// Why a change could not be worked on to its end.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// EspoCRM.
    #[error(transparent)]
    Espo(#[from] espocrm::Error),
    /// Microsoft.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The queue.
    #[error("the queue does not take any changes")]
    Queue,
    /// A system is not configured yet.
    #[error("{0} is not configured; enter its settings")]
    NotConfigured(&'static str),
    /// The user has no usable binding.
    #[error("the binding of the user is {0}")]
    NotActive(&'static str),
    /// The mailbox could not be used a moment ago.
    #[error("the mailbox of the user could not be used; it is looked at again soon")]
    MailboxRests {
        /// When that is.
        after: Duration,
    },
    /// The ends kept changing while they were read.
    #[error("the item kept changing while it was being written")]
    Restless,
    /// Something that was sent may still arrive.
    #[error("a request that was under way may still arrive; it is looked for again")]
    TooEarly {
        /// When to look again.
        after: Duration,
    },
    /// A write was refused for good.
    #[error("{0}")]
    Refused(String),
}

/// What becomes of a change that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Again later.
    Retry {
        /// Not before that.
        after: Option<Duration>,
        /// Whether it counts as a failed attempt: throttling and outages of others do not wear a change out.
        counts: bool,
    },
    /// Again later, a few times.
    Odd,
    /// When the user has signed in again.
    SignIn,
    /// When the operator has mended the configuration.
    Operator,
    /// When the mailbox can be used again.
    Mailbox,
    /// Never: a dead letter.
    Dead,
}

impl WorkError {
    /// The system that as a whole does not answer, where the error tells of that.
    #[must_use]
    pub fn outage(&self) -> Option<System> {
        match self {
            Self::Espo(error) => error.is_outage().then_some(System::Espocrm),
            Self::Graph(graph::Error::Auth(error)) => error.is_outage().then_some(System::SignIn),
            Self::Graph(error) => error.is_outage().then_some(System::Graph),
            _ => None,
        }
    }

    /// What becomes of the change.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self {
            Self::Espo(error) => match error.disposition() {
                espocrm::Disposition::Retry { after } => Fate::Retry { after, counts: after.is_none() },
                espocrm::Disposition::Refetch | espocrm::Disposition::Unsure => {
                    Fate::Retry { after: None, counts: true }
                }
                espocrm::Disposition::Denied => Fate::Operator,
                espocrm::Disposition::Odd => Fate::Odd,
                espocrm::Disposition::Fail => Fate::Dead,
            },
            Self::Graph(error) => match error.disposition() {
                graph::Disposition::Retry { after } => Fate::Retry { after, counts: after.is_none() },
                graph::Disposition::Refetch | graph::Disposition::Unsure | graph::Disposition::Resync => {
                    Fate::Retry { after: None, counts: true }
                }
                graph::Disposition::Odd => Fate::Odd,
                graph::Disposition::SignIn => Fate::SignIn,
                graph::Disposition::Operator => Fate::Operator,
                graph::Disposition::Mailbox => Fate::Mailbox,
                graph::Disposition::Fail => Fate::Dead,
            },
            Self::Store(_) | Self::Queue => Fate::Retry { after: None, counts: false },
            Self::NotConfigured(_) => Fate::Operator,
            Self::NotActive(_) => Fate::SignIn,
            Self::TooEarly { after } | Self::MailboxRests { after } => {
                Fate::Retry { after: Some(*after), counts: false }
            }
            Self::Restless => Fate::Retry { after: None, counts: true },
            Self::Refused(_) => Fate::Dead,
        }
    }

    /// When EspoCRM may be asked again with a credential that it refused.
    #[must_use]
    pub fn withheld(&self) -> Option<Duration> {
        match self {
            Self::Espo(espocrm::Error::Withheld { after, .. }) => Some(*after),
            _ => None,
        }
    }

    /// The whole chain of causes in one sentence, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        sentence(self)
    }
}

/// An error and its causes, joined.
#[must_use]
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// How long to wait before an attempt: exponential, with jitter, never below what the other system asked for.
///
/// `jitter` is between 0 and 1; the wait is between half and the whole of the exponential step.
#[must_use]
pub fn backoff(base: Duration, most: Duration, attempts: u32, jitter: f64, floor: Option<Duration>) -> Duration {
    let step = base.saturating_mul(2_u32.saturating_pow(attempts.min(30))).min(most);
    let wait = step.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    wait.max(floor.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_most_and_respect_the_floor() {
        let (base, most) = (Duration::from_secs(1), Duration::from_secs(900));
        assert_eq!(backoff(base, most, 0, 1.0, None), Duration::from_secs(1));
        assert_eq!(backoff(base, most, 3, 1.0, None), Duration::from_secs(8));
        assert_eq!(backoff(base, most, 3, 0.0, None), Duration::from_secs(4));
        assert_eq!(backoff(base, most, 40, 1.0, None), most);
        assert_eq!(backoff(base, most, 0, 0.0, Some(Duration::from_secs(30))), Duration::from_secs(30));
    }
}
