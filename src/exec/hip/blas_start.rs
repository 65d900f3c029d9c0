//! The BLAS library's start: its first product loads the library's kernels, which took about 100 ms on an H200. One is
//! made while the weights of the first plan that has products are uploaded, so that the first prompt does not wait for it.

use std::time::Duration;

use super::queue::Lanes;
use super::waiting::{Ended, wait_for};
use crate::device::{Command, Gemm, PlatformKind, Which};
use crate::exec::Budget;
use crate::hip::{Context, DeviceMemory, Event, HipError};
use crate::plan::Plan;
use crate::tensor::DType;

/// Rows, columns and depth of the product: large enough for the library's usual kernels, small enough to cost nothing.
const SIDE: usize = 128;
/// Two matrices of F16, then one of F32.
const BYTES: usize = SIDE * SIDE * (2 + 2 + 4);
/// Who holds it in the budget.
const HOLDER: &str = "start of the BLAS library";

/// What the first product needs.
#[derive(Debug)]
pub(super) struct BlasStart {
    memory: DeviceMemory,
    ended: Event,
}

impl BlasStart {
    /// What a plan's first product needs; none if the plan has no products by the library, or there is no room. A start
    /// that is left out costs time later, and nothing else.
    pub fn of(plan: &Plan, context: &Context, budget: &mut Budget) -> Option<BlasStart> {
        let is_gemm = |command: &Command| matches!(command, Command::Gemm(_));
        plan.steps.iter().flat_map(|step| &step.commands).find(|command| is_gemm(command))?;
        budget.hold(HOLDER, BYTES as u64).ok()?;
        let made =
            context.event(false).and_then(|ended| Ok(BlasStart { memory: context.alloc(BYTES)?, ended }));
        if let Err(error) = &made {
            tracing::debug!("the BLAS library is not started early: {error}");
            // To hold less is never refused.
            let _ = budget.hold(HOLDER, 0);
        }
        made.ok()
    }

    /// Makes the product while `load` does its work, and waits for both. The memory must be given back, with
    /// [`BlasStart::end`]; if the product did not end, which is said by `false`, it must be kept for ever.
    pub fn beside<T>(&self, lanes: &Lanes, timeout: Duration, load: impl FnOnce() -> T) -> (T, bool) {
        let first = || match self.multiply(lanes, timeout) {
            Ok(is_over) => is_over,
            Err(error) => {
                tracing::debug!("the BLAS library's first product: {error}");
                true
            }
        };
        // A simulated device draws its order from a seed; calls from two threads at once would add their own.
        if lanes.compute.context().target().platform == PlatformKind::Sim {
            let is_over = first();
            return (load(), is_over);
        }
        std::thread::scope(|scope| {
            let product = scope.spawn(first);
            let loaded = load();
            (loaded, product.join().unwrap_or(false))
        })
    }

    /// Gives the memory back, or keeps it for ever where the device may still use it.
    pub fn end(self, budget: &mut Budget, is_over: bool) {
        if is_over {
            drop(self);
            // To hold less is never refused.
            let _ = budget.hold(HOLDER, 0);
        } else {
            std::mem::forget(self);
        }
    }

    /// Queues the product and waits for it; gives whether it ended. After an error nothing is queued any more.
    fn multiply(&self, lanes: &Lanes, timeout: Duration) -> Result<bool, HipError> {
        let Some(blas) = &lanes.blas else { return Ok(true) };
        let start = self.memory.address();
        let at = |matrix: usize| start + (matrix * 2 * SIDE * SIDE) as u64;
        // The library is given addresses, so that these say nothing.
        let [a, b, c] = [(Which::Scratch, 0); 3];
        let gemm = Gemm { m: SIDE, n: SIDE, k: SIDE, dtype: DType::F16, a, b, c, accumulate: false };
        let compute = &lanes.compute;
        // SAFETY: the memory holds the three matrices, and is kept until the event was seen, or for ever.
        let queued =
            unsafe { compute.fill(start, 0, BYTES).and_then(|()| blas.gemm(&gemm, at(0), at(1), at(2))) };
        // Even after a call that failed: those before it are queued. A call may fail once.
        let recorded = compute.record(&self.ended).or_else(|_| compute.record(&self.ended));
        match recorded.map(|()| wait_for(&self.ended, timeout)) {
            Ok(Ended::Done) => queued.map(|()| true),
            Ok(Ended::Failed(error)) => queued.and(Err(error)),
            Ok(Ended::Late) | Err(_) => Ok(false),
        }
    }
}
