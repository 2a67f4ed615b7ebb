//! The way to the broker while it is open, for whoever finds it empty: a single message needs no task in between, which would have to
//! be woken twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::Channel;
use tokio::sync::mpsc;

use super::fault::Fault;

/// The way to the broker. Cheap to clone.
#[derive(Clone)]
pub struct Lane {
    /// Where messages are sent.
    pub channel: Channel,
    aloft: Arc<AtomicUsize>,
    troubles: mpsc::UnboundedSender<Fault>,
}

/// A message on its way, until it is dropped.
pub struct Aloft(Arc<AtomicUsize>);

impl Lane {
    /// The way over a channel, and what is heard of it by others.
    pub fn open(channel: Channel) -> (Self, mpsc::UnboundedReceiver<Fault>) {
        let (troubles, heard) = mpsc::unbounded_channel();
        (Self { channel, aloft: Arc::default(), troubles }, heard)
    }

    /// A message takes off.
    pub fn take_off(&self) -> Aloft {
        self.aloft.fetch_add(1, Ordering::AcqRel);
        Aloft(Arc::clone(&self.aloft))
    }

    /// The same, if no other is on its way.
    pub fn take_off_alone(&self) -> Option<Aloft> {
        let first = self.aloft.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
        first.is_ok().then(|| Aloft(Arc::clone(&self.aloft)))
    }

    /// The connection is of no use any more.
    pub fn fails(&self, fault: Fault) {
        // Nobody listens where that is known already.
        drop(self.troubles.send(fault));
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
