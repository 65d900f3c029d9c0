//! The default ubatch, the largest number of a prompt's rows in one batch.
//!
//! A larger ubatch reads the weights less often: on an H200 prompts of the 8B model ran at 20,900 tokens/s in chunks of
//! 512 and at 30,600 in chunks of 2048. But a chunk keeps the device busy for its whole time, and a desktop on the same
//! device stutters: no chunk should take longer than about 200 ms.

use std::time::Duration;

use crate::device::Target;
use crate::hip::Pace;
use crate::plan::Plan;

/// The ubatch of a CPU, and of a GPU whose speed is not known.
pub(super) const LEAST: usize = 512;
/// The candidates for a GPU, the largest first: sizes that plans are made for.
pub(super) const SIZES: [usize; 5] = [2048, 1536, 1024, 768, LEAST];

/// The longest time that a chunk may keep the device busy.
const TIME: Duration = Duration::from_millis(200);
/// The fraction of its peak matrix rate that a GPU is expected to reach. With the BLAS library an H200 reached 0.43 of
/// 132 units · 1.98 GHz · 4096 (8B Q4_K_M, chunks of 2048), without it 0.06 to 0.09; other devices may reach less.
const SHARE_WITH_BLAS: f64 = 0.25;
const SHARE_WITHOUT: f64 = 0.06;

/// The expected rate of a GPU's matrix products in operations per second, if it is known.
fn trusted_rate(target: &Target, pace: Pace) -> Option<f64> {
    let khz = pace.clock_khz;
    let per_cycle = target.matrix_flops_per_cycle().filter(|_| khz > 0)?;
    let share = if target.blas { SHARE_WITH_BLAS } else { SHARE_WITHOUT };
    Some(share * f64::from(target.compute_units) * f64::from(per_cycle) * f64::from(khz) * 1e3)
}

/// True if a GPU may use a ubatch above [`LEAST`].
pub(super) fn may_be_larger(target: &Target, pace: Pace) -> bool {
    trusted_rate(target, pace).is_some() && !pace.drives_display
}

/// The largest ubatch of a GPU, for a model whose plan for `rows` rows is `plan`.
pub(super) fn of_gpu(target: &Target, pace: Pace, plan: &Plan, rows: usize) -> usize {
    let flops: u64 = plan.steps.iter().map(|step| step.cost.flops).sum();
    of_rate(trusted_rate(target, pace), flops as f64 / rows.max(1) as f64, pace.drives_display)
}

/// The largest of [`SIZES`] that takes at most [`TIME`] at `rate` operations per second, `flops_per_row` for each row;
/// [`LEAST`] if the device drives a display or its rate is not known.
fn of_rate(rate: Option<f64>, flops_per_row: f64, drives_display: bool) -> usize {
    let Some(rate) = rate.filter(|_| !drives_display) else { return LEAST };
    let fits = |rows: &usize| *rows as f64 * flops_per_row <= rate * TIME.as_secs_f64();
    SIZES.into_iter().find(fits).unwrap_or(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_the_target() {
        let pace = Pace { clock_khz: 1_980_000, drives_display: false };
        let target = |arch, blas| Target { blas, ..Target::named(arch).unwrap() };
        let rate = |arch, blas| trusted_rate(&target(arch, blas), pace).map(|rate| (rate / 1e12).round());
        assert_eq!((rate("sm_90", true), rate("sm_90", false)), (Some(268.0), Some(64.0)));
        assert_eq!((rate("gfx803", true), rate("sim32", true)), (None, None));
        let is_larger = |arch, pace| may_be_larger(&target(arch, true), pace);
        assert!(is_larger("sm_90", pace) && !is_larger("sim32", pace));
        assert!(!is_larger("sm_90", Pace { drives_display: true, ..pace }));
        assert!(!is_larger("sm_90", Pace { clock_khz: 0, ..pace }), "a clock that is not known");
    }

    #[test]
    fn chunks_stay_below_the_time_limit() {
        // Expected rates of an H200, a 7900 XTX and an RTX 4090 with the BLAS library, and of the H200 without it.
        let (h200, xtx, rtx, own) = (267e12, 31e12, 41e12, 64e12);
        let (model_1b, model_8b, model_70b) = (2.5e9, 14e9, 140e9);
        let table = [
            (Some(h200), model_1b, false, 2048),
            (Some(h200), model_8b, false, 2048),
            (Some(h200), model_70b, false, 512),
            (Some(own), model_8b, false, 768),
            (Some(xtx), model_1b, false, 2048),
            (Some(xtx), model_8b, false, 512),
            (Some(rtx), model_8b, false, 512),
            (Some(rtx), 4e9, false, 2048),
            (Some(h200), model_1b, true, 512),
            (None, model_1b, false, 512),
            (Some(h200), 0.0, false, 2048),
        ];
        for (rate, flops, display, wanted) in table {
            assert_eq!(of_rate(rate, flops, display), wanted, "{rate:?} {flops} {display}");
        }
    }
}
