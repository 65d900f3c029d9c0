//! Runs in flight, and the expected time of runs, during which the host sleeps instead of polling.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::exec::PlanId;

/// A run that was queued but not waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub plan: PlanId,
    /// True if a recording was replayed, in which steps cannot be told apart.
    pub replayed: bool,
    /// True if its steps are timed.
    pub timing: bool,
    /// The time when the host began to queue the run.
    pub asked: Instant,
    /// The time when all of the run was queued.
    pub start: Instant,
}

/// Polling starts this long before the expected end: about the precision of a thread's wake-up.
const POLL_LEAD: Duration = Duration::from_micros(150);

/// Expected times of a plan's runs, by (timed, replayed). The first run of a kind sets no expectation.
#[derive(Debug, Default)]
pub(super) struct ExpectedTimes(BTreeMap<(bool, bool), Option<Duration>>);

/// The way in which the end of a run was detected.
pub(super) struct EndOfRun {
    /// The time from the run's start to the poll that found it over.
    pub took: Duration,
    /// True if the host slept before its first poll.
    pub slept: bool,
    /// True if the first poll found the run over; then it may have ended long before.
    pub over_when_asked: bool,
}

impl ExpectedTimes {
    fn kind(flight: &Flight) -> (bool, bool) {
        (flight.timing, flight.replayed)
    }

    /// The time after a run's start during which it need not be polled; zero until a second run has ended.
    pub fn until_polling(&self, flight: &Flight) -> Duration {
        let known = self.0.get(&ExpectedTimes::kind(flight)).copied().flatten();
        known.unwrap_or_default().saturating_sub(POLL_LEAD)
    }

    /// Learns from a finished run. A sleep that was too long says nothing about the device.
    pub fn learn(&mut self, flight: &Flight, end: &EndOfRun) {
        let Some(known) = self.0.get_mut(&ExpectedTimes::kind(flight)) else {
            // The first run is slow, because of cold caches and clocks.
            self.0.insert(ExpectedTimes::kind(flight), None);
            return;
        };
        *known = match (*known, end) {
            (Some(expected), EndOfRun { slept: true, over_when_asked: true, .. }) => Some(expected / 2),
            (Some(expected), EndOfRun { over_when_asked: true, took, .. }) => Some(expected.min(*took)),
            (None, EndOfRun { over_when_asked: true, .. }) => None,
            (_, EndOfRun { took, .. }) => Some(*took),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(timing: bool) -> Flight {
        let now = Instant::now();
        Flight { plan: PlanId(0), replayed: false, timing, asked: now, start: now }
    }

    fn end(ms: u64, slept: bool, over_when_asked: bool) -> EndOfRun {
        EndOfRun { took: Duration::from_millis(ms), slept, over_when_asked }
    }

    #[test]
    fn slow_run_does_not_delay_polling_of_later_runs() {
        let (mut expected, plain) = (ExpectedTimes::default(), flight(false));
        expected.learn(&plain, &end(900, false, false));
        assert_eq!(expected.until_polling(&plain), Duration::ZERO, "the first one is cold");
        expected.learn(&plain, &end(10, false, false));
        assert_eq!(expected.until_polling(&plain), Duration::from_millis(10) - POLL_LEAD);
        assert_eq!(expected.until_polling(&flight(true)), Duration::ZERO, "another kind");
        // The host was late, which says nothing about the device.
        expected.learn(&plain, &end(500, false, true));
        assert_eq!(expected.until_polling(&plain), Duration::from_millis(10) - POLL_LEAD);
        expected.learn(&plain, &end(640, true, false));
        for _ in 0..7 {
            let slept = expected.until_polling(&plain).as_millis() as u64;
            expected.learn(&plain, &end(slept + 1, true, true));
        }
        assert_eq!(expected.until_polling(&plain), Duration::from_millis(5) - POLL_LEAD);
    }
}
