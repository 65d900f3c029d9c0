//! Products with AArch64's Advanced SIMD. Sixteen lanes are four registers.

pub(super) mod float;
pub(super) mod integer;
pub(super) mod quads;

use std::arch::aarch64::*;

/// The sum of all lanes, in the order of `plain::sum_lanes`.
#[inline]
#[target_feature(enable = "neon")]
fn sum_lanes(lanes: [float32x4_t; 4]) -> f32 {
    let four = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
    let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
}

/// Adds bias and residual to at most 16 rows' sums and stores them.
///
/// # Safety
/// As `plain::store`, for rows `first..first + rows`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(
    args: &super::LinearArgs<'_>,
    token: usize,
    first: usize,
    rows: usize,
    sums: [float32x4_t; 4],
) {
    let mut values = [0f32; 16];
    for (values, sums) in values.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        // SAFETY: four values are a register.
        unsafe { vst1q_f32(values.as_mut_ptr(), sums) };
    }
    for (i, value) in values[..rows].iter().enumerate() {
        // SAFETY: the caller vouches for it.
        unsafe { super::plain::store(args, token, first + i, *value) };
    }
}
