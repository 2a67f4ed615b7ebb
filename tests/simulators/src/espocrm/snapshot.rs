//! A world kept and put back, and events taken off the queue by hand: for tests that play thousands of short stories.

use super::EspoSim;
use super::state::State;
use crate::plumbing::{SimIds, lock};

/// Everything that EspoCRM holds at one moment. The clock is not part of it.
#[derive(Clone)]
pub struct Snapshot {
    state: State,
    ids: SimIds,
}

impl EspoSim {
    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let state = lock(&self.shared.state).clone();
        Snapshot { ids: state.ids.fork(), state }
    }

    /// Puts everything back as it was; the wire forgets its faults and its log.
    pub fn put_back(&self, snapshot: &Snapshot) {
        let mut state = snapshot.state.clone();
        state.ids = snapshot.ids.fork();
        *lock(&self.shared.state) = state;
        self.shared.wire.reset();
    }

    /// Takes the events off the queue that the webhook job would send next: entity and id of the record, in order.
    pub fn take_events(&self) -> Vec<(String, String)> {
        lock(&self.shared.state).events.drain(..).map(|event| event.subject()).collect()
    }
}
