//! Which of the other systems answer: one circuit each, kept over a change of the settings.

use std::sync::Arc;

use circuit::{Circuit, Limits};
use tokio::sync::Notify;

/// A system that may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// EspoCRM.
    Espocrm,
    /// Microsoft Graph.
    Graph,
    /// Microsoft's sign-in.
    SignIn,
}

/// The circuits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Circuits {
    /// To EspoCRM.
    pub espocrm: Arc<Circuit>,
    /// To Graph.
    pub graph: Arc<Circuit>,
    /// To the sign-in.
    pub sign_in: Arc<Circuit>,
}

/// Whether work may be taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Both systems answer.
    Ready,
    /// One of them is due to be asked: a single piece of work finds out.
    Probe,
    /// One of them is away.
    Wait,
}

impl Circuits {
    /// All of them closed. When one closes again, these are woken.
    #[must_use]
    pub fn new(limits: Limits, wake: &[&Arc<Notify>]) -> Self {
        let new = |system| {
            let wake: Vec<Arc<Notify>> = wake.iter().map(|one| Arc::clone(one)).collect();
            Circuit::new(system, limits, move || wake.iter().for_each(|one| one.notify_one()))
        };
        Self { espocrm: new("espocrm"), graph: new("graph"), sign_in: new("sign_in") }
    }

    /// That of a system.
    #[must_use]
    pub fn of(&self, system: System) -> &Circuit {
        match system {
            System::Espocrm => &self.espocrm,
            System::Graph => &self.graph,
            System::SignIn => &self.sign_in,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> [&Circuit; 3] {
        [&self.espocrm, &self.graph, &self.sign_in]
    }

    /// Whether work may be taken up. Nearly all of it needs both EspoCRM and Graph; a sign-in is needed once an hour only.
    #[must_use]
    pub fn readiness(&self, now: chrono::DateTime<chrono::Utc>) -> Readiness {
        let of = |circuit: &Circuit| match circuit.state() {
            circuit::State::Closed => Readiness::Ready,
            circuit::State::Open { until, .. } if until <= now => Readiness::Probe,
            circuit::State::Open { .. } | circuit::State::Probing { .. } => Readiness::Wait,
        };
        match (of(&self.espocrm), of(&self.graph)) {
            (Readiness::Wait, _) | (_, Readiness::Wait) => Readiness::Wait,
            (Readiness::Ready, Readiness::Ready) => Readiness::Ready,
            _ => Readiness::Probe,
        }
    }
}
