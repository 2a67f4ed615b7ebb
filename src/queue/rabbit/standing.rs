//! How a connection stands, for those who use it and those who ask.

use std::time::Duration;

use tokio::sync::watch;

use super::fault::Fault;

/// How a connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// This process has no use for it.
    Idle,
    /// It works.
    Up,
    /// It does not.
    Down(Fault),
}

/// A state that can be waited for.
#[derive(Debug, Clone)]
pub struct Standing(watch::Sender<State>);

impl Standing {
    pub fn new() -> Self {
        Self(watch::Sender::new(State::Idle))
    }

    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<Fault> {
        match &*self.0.borrow() {
            State::Idle | State::Up => None,
            State::Down(fault) => Some(fault.clone()),
        }
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Fault> {
        match &*self.0.borrow() {
            State::Up => Ok(()),
            State::Idle => Err(Fault::Connecting),
            State::Down(fault) => Err(fault.clone()),
        }
    }

    pub fn up(&self) {
        self.0.send_if_modified(|state| std::mem::replace(state, State::Up) != State::Up);
    }

    /// True when that is news.
    pub fn down(&self, fault: Fault) -> bool {
        let down = State::Down(fault);
        self.0.send_if_modified(|state| std::mem::replace(state, down.clone()) != down)
    }

    /// A confirmation has come after all.
    pub fn confirmed(&self) {
        self.0.send_if_modified(|state| {
            let was_slow = matches!(state, State::Down(Fault::Slow { .. }));
            if was_slow {
                *state = State::Up;
            }
            was_slow
        });
    }

    /// Resolves when it cannot be used any more, or `patience` has passed.
    pub async fn fails(&self, patience: Duration, slow: impl FnOnce() -> Fault) -> Fault {
        let mut receiver = self.0.subscribe();
        let failed = receiver.wait_for(|state| *state != State::Up);
        match tokio::time::timeout(patience, failed).await {
            Ok(Ok(state)) => match &*state {
                State::Down(fault) => fault.clone(),
                State::Idle | State::Up => Fault::Connecting,
            },
            Ok(Err(_)) => Fault::Connecting,
            Err(_) => {
                let slow = slow();
                self.0.send_if_modified(|state| {
                    let was_up = *state == State::Up;
                    if was_up {
                        *state = State::Down(slow.clone());
                    }
                    was_up
                });
                slow
            }
        }
    }
}
