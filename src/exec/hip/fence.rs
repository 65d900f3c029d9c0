//! The fence: the one place where the host waits for the device, with a deadline.

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
    let first = match event.wait_until(timeout) {
        Ok(true) => return Ended::Done,
        Ok(false) => return Ended::Late,
        Err(error) => error,
    };
    // A question that failed says nothing about the work. One that fails again says that the device has stopped.
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
    let usual = loaded.usual.saturating_sub(EARLY).min(timeout);
    if let Some(rest) = usual.checked_sub(flight.start.elapsed()) {
        thread::sleep(rest);
    }
    let left = timeout.saturating_sub(flight.start.elapsed());
    match wait_for(&lanes.done, left) {
        Ended::Done => {
            let took = flight.start.elapsed();
            loaded.usual = if loaded.usual.is_zero() { took } else { (3 * loaded.usual + took) / 4 };
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
    format!("it was a replay, of which no single step is known, up to {last}")
}

fn describe(context: &Context) -> String {
    format!("{} ({}; {})", context.name(), context.target().arch, context.versions())
}
