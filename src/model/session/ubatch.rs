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
pub(super) const DEFAULT: usize = 512;
/// The ubatch of a GPU whose speed is not known and that drives a display.
const UNKNOWN_WITH_DISPLAY: usize = 128;
/// The candidates for a GPU, the largest first: sizes that plans are made for. The smallest may take longer than [`TIME`].
pub(super) const SIZES: [usize; 8] = [2048, 1536, 1024, 768, DEFAULT, 256, 128, 64];

/// The longest time that a chunk may keep the device busy.
const TIME: Duration = Duration::from_millis(200);
/// The same where the device drives a display: the estimate may be off by two, and the display still gets its turn.
const TIME_WITH_DISPLAY: Duration = Duration::from_millis(100);
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

/// The largest ubatch of a GPU, for a model of which one row takes this many operations; they are asked for only if the
/// device's rate is known.
pub(super) fn of_gpu<E>(
    target: &Target,
    pace: Pace,
    flops_per_row: impl FnOnce() -> Result<f64, E>,
) -> Result<usize, E> {
    match trusted_rate(target, pace) {
        Some(rate) => Ok(of_rate(rate, flops_per_row()?, pace.drives_display)),
        None if pace.drives_display => Ok(UNKNOWN_WITH_DISPLAY),
        None => Ok(DEFAULT),
    }
}

/// The largest of [`SIZES`] that takes at most [`TIME`] at `rate` operations per second; with a display, at most
/// [`TIME_WITH_DISPLAY`] and [`DEFAULT`] rows.
fn of_rate(rate: f64, flops_per_row: f64, drives_display: bool) -> usize {
    let (time, most) = if drives_display { (TIME_WITH_DISPLAY, DEFAULT) } else { (TIME, SIZES[0]) };
    let fits = |rows: &usize| *rows <= most && *rows as f64 * flops_per_row <= rate * time.as_secs_f64();
    SIZES.into_iter().find(fits).unwrap_or(SIZES[SIZES.len() - 1])
}

/// The operations of a row in the plan of `rows` rows.
pub(super) fn flops_per_row(plan: &Plan, rows: usize) -> f64 {
    let flops: u64 = plan.steps.iter().map(|step| step.cost.flops).sum();
    flops as f64 / rows.max(1) as f64
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
        let ubatch = |arch, pace| of_gpu(&target(arch, true), pace, || Ok::<_, ()>(1e9)).unwrap();
        let display = Pace { drives_display: true, ..pace };
        assert_eq!((ubatch("sm_90", pace), ubatch("sim32", pace)), (2048, DEFAULT));
        assert_eq!((ubatch("sm_90", display), ubatch("sim32", display)), (DEFAULT, UNKNOWN_WITH_DISPLAY));
        assert_eq!(ubatch("sm_90", Pace { clock_khz: 0, ..pace }), DEFAULT, "a clock that is not known");
    }

    #[test]
    fn chunks_stay_below_the_time_limit() {
        // Expected rates of an H200, a 7900 XTX and an RTX 4090 with the BLAS library, and of the H200 without it.
        let (h200, xtx, rtx, own) = (267e12, 31e12, 41e12, 64e12);
        let (model_1b, model_8b, model_70b) = (2.5e9, 14e9, 140e9);
        let table = [
            (h200, model_1b, false, 2048),
            (h200, model_8b, false, 2048),
            (h200, model_70b, false, 256),
            (own, model_8b, false, 768),
            (xtx, model_1b, false, 2048),
            (xtx, model_8b, false, 256),
            (rtx, model_8b, false, 512),
            (rtx, 4e9, false, 2048),
            (h200, model_1b, true, 512),
            (xtx, model_1b, true, 512),
            (xtx, model_8b, true, 128),
            (h200, 0.0, false, 2048),
        ];
        for (rate, flops, display, wanted) in table {
            let found = of_rate(rate, flops, display);
            assert_eq!(found, wanted, "{rate} {flops} {display}");
            let limit = if display { TIME_WITH_DISPLAY } else { TIME };
            assert!(found as f64 * flops / rate <= limit.as_secs_f64(), "{rate} {flops} {display}");
        }
        assert_eq!(of_rate(xtx, model_70b, true), 64, "no smaller size is used, though it takes 0.29 s");
    }
}
