//! The fence: the one place where the host waits for the device, with a deadline.

use std::thread;
use std::time::Duration;

use super::flight::{EndOfRun, Flight};
use super::loaded::GpuPlan;
use super::queue::Lanes;
use super::waiting::{Ended, wait_again, wait_for};
use crate::exec::ExecError;
use crate::hip::{Context, HipError};

/// The failure of a fence.
pub(super) struct FenceError {
    pub error: Box<ExecError>,
    /// True if the device may still be working.
    pub lost: bool,
}

impl FenceError {
    /// An error of a run that has ended.
    pub fn of_ended(error: ExecError) -> FenceError {
        FenceError { error: error.into(), lost: false }
    }
}

/// Waits for the end of a run until `timeout`.
pub(super) fn wait(
    context: &Context,
    lanes: &Lanes,
    flight: Flight,
    loaded: &mut GpuPlan,
    timeout: Duration,
) -> Result<(), FenceError> {
    // Sleep instead of polling until the expected end, which leaves the processor to other programs.
    let quiet = loaded.expected.until_polling(&flight).min(timeout);
    let rest = quiet.checked_sub(flight.start.elapsed());
    if let Some(rest) = rest {
        thread::sleep(rest);
    }
    let left = timeout.saturating_sub(flight.start.elapsed());
    let first = lanes.done.is_done();
    let over_when_asked = matches!(first, Ok(true));
    let ended = match first {
        Ok(true) => Ended::Done,
        Ok(false) if left.is_zero() => Ended::Late,
        Ok(false) => wait_for(&lanes.done, left),
        Err(error) => wait_again(&lanes.done, left, error),
    };
    match ended {
        Ended::Done => {
            let took = flight.start.elapsed();
            loaded.expected.learn(&flight, &EndOfRun { took, slept: rest.is_some(), over_when_asked });
            Ok(())
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
        Ended::Failed(error) => Err(FenceError::of_ended(stopped(context, loaded, flight, error))),
    }
}

fn stopped(context: &Context, loaded: &GpuPlan, flight: Flight, error: HipError) -> ExecError {
    let what = format!("`{}` failed on {}: {}", loaded.title(), describe(context), progress(loaded, flight));
    ExecError::gpu(what, error)
}

fn progress(loaded: &GpuPlan, flight: Flight) -> String {
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
