//! Products with AVX2, FMA and F16C. Sixteen lanes are two registers.

pub(super) mod float;
pub(super) mod integer;
pub(super) mod quads;

use std::arch::x86_64::*;

/// The sum of all lanes, in the order of `plain::sum_lanes`.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_lanes([low, high]: [__m256; 2]) -> f32 {
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// An f16 as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn half(bytes: [u8; 2]) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes)))))
}

/// Adds bias and residual to at most 16 rows' sums and stores them.
///
/// # Safety
/// As `plain::store`, for rows `first..first + rows`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(args: &super::LinearArgs<'_>, token: usize, first: usize, rows: usize, sums: [__m256; 2]) {
    let mut values = [0f32; 16];
    // SAFETY: the array holds both registers; the caller vouches for the rows.
    unsafe {
        _mm256_storeu_ps(values.as_mut_ptr(), sums[0]);
        _mm256_storeu_ps(values.as_mut_ptr().add(8), sums[1]);
        for (i, value) in values[..rows].iter().enumerate() {
            super::plain::store(args, token, first + i, *value);
        }
    }
}
