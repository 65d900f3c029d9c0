//! Products of four rows at a time: code that the instruction sets share.
//!
//! For few tokens, unpacking panels does not pay off. Kernels compute the sums of a panel for four rows at a time
//! instead: one vector of products per row, reduced until the four rows' sums are in adjacent lanes.

#[cfg(target_arch = "x86_64")]
use super::format::Format;

/// Rows that are multiplied together.
pub(super) const ROWS: usize = 4;

/// Prefetches a chunk of each of the next four rows, from `at` on and in address order: prefetching in each row
/// separately, which is four places in memory at once, gave half the rate on Zen 4.
///
/// Prefetches into the first-level cache if the next rows fit it beside these and a chunk does not fill the queue of
/// misses; otherwise into the second. Measured on Zen 4 in GB/s, first and second: rows of 2048 Q4_K 16 and 13, Q8_0 10
/// and 22; rows of 8192 Q4_K 12 and 17.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch<F: Format>(at: *const u8, row_bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
    let bytes = ROWS * size_of::<F::Chunk>();
    let near = bytes < 1024 && ROWS * row_bytes <= 10 << 10;
    for line in (0..bytes).step_by(64) {
        let line = at.wrapping_add(line).cast();
        // SAFETY: SSE is part of x86-64, and a prefetch accesses no memory, whatever the address.
        unsafe {
            match near {
                true => _mm_prefetch::<_MM_HINT_T0>(line),
                false => _mm_prefetch::<_MM_HINT_T1>(line),
            }
        }
    }
}
