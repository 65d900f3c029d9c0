//! Decides when a plan is recorded into a HIP graph: as soon as its replays are expected to repay the cost of
//! recording. The recording is made right after a run was queued step by step, so that the host records while the
//! device computes.
//!
//! The numbers were measured on an H200 with CUDA 13.0 and an 8B model. One token: 435 launches, 3.21 ms step by step
//! and 2.82 ms replayed; recording takes about 4 ms. A prompt of 16 to 256 tokens has about 700 commands, 225 of them
//! products by the BLAS library: it takes 12 to 22 ms, and its recording about 25 ms, of which 2 to 10 ms are not
//! hidden by the device's work. Long prompts gain too: in chunks of 512 tokens Q4_K_M runs at 20,770 tokens/s replayed
//! and at 19,620 step by step.

use crate::device::Command;
use crate::plan::Plan;

/// Nanoseconds that one replay saves per command.
const SAVED: u64 = 900;
/// Nanoseconds that recording costs per command.
const COST: u64 = 9_000;
/// Nanoseconds that recording costs per product by the BLAS library, which makes more driver calls.
const COST_OF_GEMM: u64 = 120_000;
/// A plan that ran n times is expected to run 16 · n times more: tokens come by the hundred, and a prompt size that
/// came often comes again. A larger number records earlier. With 16, a prompt size must come four times, so that a
/// size which comes once or twice never costs a recording.
const RUNS_TO_COME: u64 = 16;

/// The number of runs step by step before a plan is recorded. At least one, since the first run initialises things that
/// cannot be initialised while recording.
pub(super) fn runs_before_recording(plan: &Plan) -> u64 {
    let commands = || plan.steps.iter().flat_map(|step| &step.commands);
    let n = commands().count() as u64;
    let n_gemms = commands().filter(|command| matches!(command, Command::Gemm(_))).count() as u64;
    runs(n - n_gemms, n_gemms)
}

fn runs(n_others: u64, n_gemms: u64) -> u64 {
    let n = n_others + n_gemms;
    let cost = n_others * COST + n_gemms * COST_OF_GEMM;
    cost.div_ceil((n * SAVED * RUNS_TO_COME).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases with the number of commands, and the number of BLAS products among them.
    #[test]
    fn a_plan_is_recorded_when_it_pays() {
        // One token, and 8 tokens with rfgraph's own kernels: recorded in the second run.
        assert_eq!(runs(435, 0), 1);
        // Prompts: recorded in the fourth run with the library, in the second without.
        assert_eq!(runs(475, 225), 4);
        assert_eq!(runs(700, 0), 1);
        // Plans without commands are not recorded.
        assert_eq!(runs(0, 0), 1);
        assert_eq!(runs(0, 1), 9);
    }
}
