//! The BLAS library's start-up: its first product loads the library's kernels, which took about 100 ms on an H200. A
//! dummy product runs while the weights of the first plan with products are uploaded, so that the first prompt does not
//! wait.

use std::time::Duration;

use super::queue::Lanes;
use super::waiting::{Ended, wait_for};
use crate::device::{Command, Gemm, PlatformKind, Which};
use crate::exec::{Budget, ExecError};
use crate::hip::{Context, DeviceMemory, Event, HipError};
use crate::plan::Plan;
use crate::tensor::DType;

/// Rows, columns and depth of the product: large enough for the library's usual kernels, small enough to be cheap.
const SIDE: usize = 128;
/// Two matrices of F16, then one of F32.
const BYTES: usize = SIDE * SIDE * (2 + 2 + 4);
/// The product's name in messages.
const PRODUCT: &str = "the BLAS library's first product";
/// Its name as a holder in the budget.
const HOLDER: &str = "start of the BLAS library";

/// The memory and event of the first product.
#[derive(Debug)]
pub(super) struct BlasStart {
    memory: DeviceMemory,
    ended: Event,
}

impl BlasStart {
    /// Prepares the first product; `None` if the plan does not use the library or memory is short. Leaving it out only
    /// makes the first prompt slower.
    pub fn of(plan: &Plan, context: &Context, budget: &mut Budget) -> Option<BlasStart> {
        let is_gemm = |command: &Command| matches!(command, Command::Gemm(_));
        plan.steps.iter().flat_map(|step| &step.commands).find(|command| is_gemm(command))?;
        budget.hold(HOLDER, BYTES as u64).ok()?;
        let made =
            context.event(false).and_then(|ended| Ok(BlasStart { memory: context.alloc(BYTES)?, ended }));
        if let Err(error) = &made {
            tracing::debug!("the BLAS library is not started early: {error}");
            // A decrease is never refused.
            let _ = budget.hold(HOLDER, 0);
        }
        made.ok()
    }

    /// Runs the product beside `load` and waits for both. After an error of the product the device may still be at
    /// work. Give the memory back with [`BlasStart::end`], which leaks it in that case.
    pub fn beside<T>(
        &self,
        lanes: &Lanes,
        timeout: Duration,
        load: impl FnOnce() -> T,
    ) -> (T, Result<(), ExecError>) {
        let first = || self.multiply(lanes, timeout);
        // A simulated device draws its order from a seed; calls from two threads at once would not be reproducible.
        if lanes.compute.context().target().platform == PlatformKind::Sim {
            let ended = first();
            return (load(), ended);
        }
        std::thread::scope(|scope| {
            let product = scope.spawn(first);
            let loaded = load();
            let ended = product.join().unwrap_or_else(|_| {
                tracing::error!("the thread of {PRODUCT} panicked");
                Err(late(lanes, timeout))
            });
            (loaded, ended)
        })
    }

    /// Gives the memory back, or leaks it if the device may still use it.
    pub fn end(self, budget: &mut Budget, is_over: bool) {
        if is_over {
            drop(self);
            // A decrease is never refused.
            let _ = budget.hold(HOLDER, 0);
        } else {
            std::mem::forget(self);
        }
    }

    /// Queues the product and waits for its end. A product that failed and has ended is not an error, as the library
    /// then starts with the first prompt.
    fn multiply(&self, lanes: &Lanes, timeout: Duration) -> Result<(), ExecError> {
        let Some(blas) = &lanes.blas else { return Ok(()) };
        let start = self.memory.address();
        let at = |matrix: usize| start + (matrix * 2 * SIDE * SIDE) as u64;
        // The library gets addresses, so these placeholders are not used.
        let [a, b, c] = [(Which::Scratch, 0); 3];
        let gemm = Gemm { m: SIDE, n: SIDE, k: SIDE, dtype: DType::F16, a, b, c, accumulate: false };
        let compute = &lanes.compute;
        // SAFETY: the memory holds the three matrices, and is kept until the event has happened, or leaked.
        let queued =
            unsafe { compute.fill(start, 0, BYTES).and_then(|()| blas.gemm(&gemm, at(0), at(1), at(2))) };
        // Record even after a failed call, as earlier calls are queued. Retry once: a call may fail transiently.
        let recorded = compute.record(&self.ended).or_else(|_| compute.record(&self.ended));
        let ended = match wait_for_recorded(&self.ended, recorded, timeout)? {
            Ended::Done => queued,
            Ended::Failed(error) => queued.and(Err(error)),
            Ended::Late => return Err(late(lanes, timeout)),
        };
        if let Err(error) = ended {
            tracing::debug!("{PRODUCT}: {error}");
        }
        Ok(())
    }
}

/// Waits for the event if it was recorded; without it the end of the work is not known.
fn wait_for_recorded(
    event: &Event,
    recorded: Result<(), HipError>,
    timeout: Duration,
) -> Result<Ended, ExecError> {
    recorded.map(|()| wait_for(event, timeout)).map_err(|error| ExecError::gpu(PRODUCT, error))
}

fn late(lanes: &Lanes, timeout: Duration) -> ExecError {
    ExecError::Timeout {
        plan: PRODUCT.into(),
        seconds: timeout.as_secs(),
        progress: "no kernel of a plan was queued".into(),
        versions: lanes.compute.context().versions().to_string(),
    }
}
