//! How long to wait before the broker is tried again.

use std::time::Duration;

use super::Rabbit;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from a tenth of a second to five, with jitter: all processes lose the broker at the same moment.
pub struct Pause {
    rabbit: Rabbit,
    next: Duration,
}

impl Pause {
    pub fn new(rabbit: &Rabbit) -> Self {
        Self { rabbit: rabbit.clone(), next: FIRST }
    }

    /// It worked.
    pub const fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits; none when the process stops.
    pub async fn over(&mut self) -> Option<()> {
        let pause = self.next.mul_f64(0.5 + self.rabbit.0.ids.fraction() / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        tokio::select! {
            () = self.rabbit.0.closing.cancelled() => None,
            () = tokio::time::sleep(pause) => Some(()),
        }
    }
}
