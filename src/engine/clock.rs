//! The engine's time, which tests simulate.

use std::time::{Duration, Instant};

/// Time since the engine's start.
pub(super) trait Clock {
    fn now(&self) -> Duration;

    /// A step with so many rows was computed.
    fn stepped(&mut self, _decode_rows: usize, _prompt_rows: usize) {}

    /// The thread waited.
    fn waited(&mut self, _time: Duration) {}
}

/// The time of the machine.
pub(super) struct Wall(Instant);

impl Wall {
    pub fn start() -> Wall {
        Wall(Instant::now())
    }
}

impl Clock for Wall {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
