//! A world kept and put back, and notifications taken off the queue by hand: for tests that play thousands of short stories.

use serde_json::Value;

use super::GraphSim;
use super::state::State;
use crate::plumbing::{SimIds, lock};

/// Everything that the tenant holds at one moment. The clock is not part of it.
#[derive(Clone)]
pub struct Snapshot {
    state: State,
    ids: SimIds,
}

impl GraphSim {
    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state().clone();
        Snapshot { ids: state.ids.fork(), state }
    }

    /// Puts everything back as it was; the wire forgets its faults and its log.
    pub fn put_back(&self, snapshot: &Snapshot) {
        let mut state = snapshot.state.clone();
        state.ids = snapshot.ids.fork();
        *self.state() = state;
        lock(&self.0.steps).clear();
        self.0.wire.reset();
    }

    /// Takes the notifications off the queue that wait, each as it would stand in the list of a POST, in order.
    pub fn take_notifications(&self) -> Vec<Value> {
        self.state().queue.drain(..).map(|queued| queued.item).collect()
    }
}
