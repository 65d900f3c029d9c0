//! A run that was queued and not waited for, and how long runs usually take: until then the host sleeps and asks nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::exec::PlanId;

/// A run that was queued and not waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub plan: PlanId,
    /// Whether a recording was replayed, in which no step can be told from another.
    pub replayed: bool,
    /// Whether its steps are timed.
    pub timing: bool,
    /// When the host began to queue it.
    pub asked: Instant,
    /// When all of it was queued.
    pub start: Instant,
}

/// Polling starts this long before the expected end: about as exactly as a thread wakes up.
const POLL_LEAD: Duration = Duration::from_micros(150);

/// How long runs of a plan take, by whether they are timed and replayed; nothing is expected of the first run of a kind.
#[derive(Debug, Default)]
pub(super) struct ExpectedTimes(BTreeMap<(bool, bool), Option<Duration>>);

/// How the end of a run was found.
pub(super) struct EndOfRun {
    /// From its start to the answer that it is over.
    pub took: Duration,
    /// Whether the host slept before it asked.
    pub slept: bool,
    /// Whether the first answer was that it is over: then it may have been for long.
    pub over_when_asked: bool,
}

impl ExpectedTimes {
    fn kind(flight: &Flight) -> (bool, bool) {
        (flight.timing, flight.replayed)
    }

    /// How long after its start a run need not be polled; nothing, before a second one has ended.
    pub fn until_polling(&self, flight: &Flight) -> Duration {
        let known = self.0.get(&ExpectedTimes::kind(flight)).copied().flatten();
        known.unwrap_or_default().saturating_sub(POLL_LEAD)
    }

    /// Learns from a run that ended. A sleep that was too long says nothing of the device.
    pub fn learn(&mut self, flight: &Flight, end: &EndOfRun) {
        let Some(known) = self.0.get_mut(&ExpectedTimes::kind(flight)) else {
            // The first one is slow: it meets cold caches and clocks.
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
    fn a_slow_run_does_not_make_later_ones_slow() {
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
