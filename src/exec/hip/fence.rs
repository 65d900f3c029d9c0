//! The fence: the one place where the host waits for the device, with a deadline.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::loaded::Loaded;
use super::queue::Lanes;
use crate::exec::ExecError;
use crate::hip::{Context, Event, HipError};

/// Runs that were queued and not waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    /// The plan's number.
    pub plan: usize,
    /// How many runs.
    pub runs: usize,
    /// Whether a recording was replayed, in which no step can be told from another.
    pub replayed: bool,
    /// Whether its steps are timed.
    pub timing: bool,
    pub start: Instant,
}

/// How a fence ended, if not well.
pub(super) struct FenceError {
    pub error: Box<ExecError>,
    /// Whether the device may still be at work.
    pub lost: bool,
}

/// A run is asked for from this much before its usual end on: that is about how exactly a thread wakes up.
const EARLY: Duration = Duration::from_micros(150);

/// How long flights of a plan take, each kind for itself: so many runs, timed, replayed.
#[derive(Debug, Default)]
pub(super) struct Usual(BTreeMap<(usize, bool, bool), Option<Duration>>);

/// How a flight's end was met.
struct Met {
    /// From its start to the answer that it is over.
    took: Duration,
    /// Whether the host slept before it asked.
    slept: bool,
    /// Whether the first answer was that it is over: then it may have been for long.
    at_once: bool,
}

impl Usual {
    fn kind(flight: &Flight) -> (usize, bool, bool) {
        (flight.runs, flight.timing, flight.replayed)
    }

    /// How long after its start a flight need not be asked for; nothing, before a second one has ended.
    fn quiet(&self, flight: &Flight) -> Duration {
        let known = self.0.get(&Usual::kind(flight)).copied().flatten();
        known.unwrap_or_default().saturating_sub(EARLY)
    }

    /// Learns from a flight that ended. What includes a sleep that was too long says nothing of the device.
    fn learn(&mut self, flight: &Flight, met: &Met) {
        let Some(known) = self.0.get_mut(&Usual::kind(flight)) else {
            // The first one is slow: it meets cold caches and clocks.
            self.0.insert(Usual::kind(flight), None);
            return;
        };
        *known = match (*known, met) {
            (Some(usual), Met { slept: true, at_once: true, .. }) => Some(usual / 2),
            (Some(usual), Met { at_once: true, took, .. }) => Some(usual.min(*took)),
            (None, Met { at_once: true, .. }) => None,
            (_, Met { took, .. }) => Some(*took),
        };
    }
}

/// How waiting for an event ended.
pub(super) enum Ended {
    Done,
    /// The work is over, and this went wrong.
    Failed(HipError),
    /// The work may still go on.
    Late,
}

/// Waits for an event, at most for `timeout`.
pub(super) fn wait_for(event: &Event, timeout: Duration) -> Ended {
    match event.wait_until(timeout) {
        Ok(true) => Ended::Done,
        Ok(false) => Ended::Late,
        Err(first) => wait_again(event, timeout, first),
    }
}

/// A question that failed says nothing about the work. One that fails again says that the device has stopped.
fn wait_again(event: &Event, timeout: Duration, first: HipError) -> Ended {
    match event.wait_until(timeout) {
        Ok(false) => Ended::Late,
        Ok(true) | Err(_) => Ended::Failed(first),
    }
}

/// Waits for the end of a flight, at most for `timeout`.
pub(super) fn wait(
    context: &Context,
    lanes: &Lanes,
    flight: Flight,
    loaded: &mut Loaded,
    timeout: Duration,
) -> Result<(), FenceError> {
    // A processor that asks all the time is one that another program misses.
    let quiet = loaded.usual.quiet(&flight).min(timeout);
    let rest = quiet.checked_sub(flight.start.elapsed());
    if let Some(rest) = rest {
        thread::sleep(rest);
    }
    let left = timeout.saturating_sub(flight.start.elapsed());
    let first = lanes.done.is_done();
    let at_once = matches!(first, Ok(true));
    let ended = match first {
        Ok(true) => Ended::Done,
        Ok(false) if left.is_zero() => Ended::Late,
        Ok(false) => wait_for(&lanes.done, left),
        Err(error) => wait_again(&lanes.done, left, error),
    };
    match ended {
        Ended::Done => {
            let took = flight.start.elapsed();
            loaded.usual.learn(&flight, &Met { took, slept: rest.is_some(), at_once });
            let timed = if flight.timing { loaded.add_times() } else { Ok(()) };
            timed.map_err(|error| FenceError { error: error.into(), lost: false })
        }
        Ended::Late => {
            let error = ExecError::Timeout {
                plan: loaded.title(),
                seconds: timeout.as_secs(),
                progress: progress(loaded, flight),
                versions: describe(context),
            };
            Err(FenceError { error: error.into(), lost: true })
        }
        Ended::Failed(error) => {
            let error = stopped(context, loaded, flight, error);
            Err(FenceError { error: error.into(), lost: false })
        }
    }
}

fn stopped(context: &Context, loaded: &Loaded, flight: Flight, error: HipError) -> ExecError {
    let what = format!("`{}` failed on {}: {}", loaded.title(), describe(context), progress(loaded, flight));
    ExecError::gpu(what, error)
}

fn progress(loaded: &Loaded, flight: Flight) -> String {
    if !flight.replayed {
        return loaded.progress();
    }
    let last = loaded.step_title(loaded.plan.steps.len().saturating_sub(1));
    format!(
        "it was a replay, of which no single step is known, up to {last}; with RFGRAPH_HIP_TRACE=1 in the environment \
         steps are queued one by one, and the last one that finished is known"
    )
}

fn describe(context: &Context) -> String {
    format!("{} ({}; {})", context.name(), context.target().arch, context.versions())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(runs: usize) -> Flight {
        Flight { plan: 0, runs, replayed: false, timing: false, start: Instant::now() }
    }

    fn met(ms: u64, slept: bool, at_once: bool) -> Met {
        Met { took: Duration::from_millis(ms), slept, at_once }
    }

    #[test]
    fn a_slow_run_does_not_make_later_ones_slow() {
        let mut usual = Usual::default();
        usual.learn(&flight(1), &met(900, false, false));
        assert_eq!(usual.quiet(&flight(1)), Duration::ZERO, "the first one is cold");
        usual.learn(&flight(1), &met(10, false, false));
        assert_eq!(usual.quiet(&flight(1)), Duration::from_millis(10) - EARLY);
        assert_eq!(usual.quiet(&flight(4)), Duration::ZERO, "another kind");
        // The host came late, which says nothing of the device.
        usual.learn(&flight(1), &met(500, false, true));
        assert_eq!(usual.quiet(&flight(1)), Duration::from_millis(10) - EARLY);
        usual.learn(&flight(1), &met(640, true, false));
        for _ in 0..7 {
            let slept = usual.quiet(&flight(1)).as_millis() as u64;
            usual.learn(&flight(1), &met(slept + 1, true, true));
        }
        assert_eq!(usual.quiet(&flight(1)), Duration::from_millis(5) - EARLY);
    }
}
