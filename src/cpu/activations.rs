//! Activations quantized to eight bits, the other operand of every block format's integer products.
//!
//! A row is split into groups of 32 values. A group is stored as `x ≈ d·q` with `d = max|x| / 127` and `q` the nearest
//! integer to `x·(127 / max|x|)`, ties to even. Formats with a minimum or an offset also need sums of `q`, which are
//! computed here once.
//!
//! A row is stored in the caller's buffer as six arrays, see `Layout`, zero-padded to whole chunks of [`CHUNK`] values
//! so that kernels have no tails.
//!
//! A group that contains an infinity or NaN gets `q = 0` and a non-finite `d`, so that all results computed from it are
//! NaN. A group of zeros, or with a largest magnitude below `2^-100`, gets `d = 0`.

use super::Isa;

/// Values in one group, which share a scale.
pub const GROUP: usize = 32;
/// Values that a kernel processes at a time: the size of the largest blocks.
pub const CHUNK: usize = 256;
/// The alignment of rows, a cache line.
pub(crate) const ALIGN: usize = 64;

const GROUPS: usize = CHUNK / GROUP;

/// Bytes of `rows` quantized rows of `k` values in an unaligned buffer; `None` on overflow.
pub fn activation_bytes(k: usize, rows: usize) -> Option<usize> {
    let padded = k.checked_next_multiple_of(CHUNK)?;
    padded.checked_mul(2)?.checked_add(2 * ALIGN)?;
    Layout::new(k).row_stride().checked_mul(rows)?.checked_add(ALIGN)
}

/// The layout of a row's arrays, in bytes from the start of the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    padded: usize,
}

impl Layout {
    pub(crate) fn new(k: usize) -> Layout {
        Layout { padded: k.next_multiple_of(CHUNK) }
    }

    /// Chunks in a row.
    pub(crate) fn chunks(self) -> usize {
        self.padded / CHUNK
    }

    /// `q`: i8 for each value, at 0.
    pub(crate) fn q(self) -> usize {
        0
    }

    /// `d`: f32 for each group.
    pub(crate) fn d(self) -> usize {
        self.padded
    }

    /// `-d·sum(q)`: f32 for each group.
    pub(crate) fn min32(self) -> usize {
        self.padded / 8 * 9
    }

    /// `-sum(q)`: i32 for each group.
    pub(crate) fn sum32(self) -> usize {
        self.padded / 8 * 10
    }

    /// `-d·sum(q)`: f32 for each half of a group.
    pub(crate) fn min16(self) -> usize {
        self.padded / 8 * 11
    }

    /// `-sum(q)`: i32 for each half of a group.
    pub(crate) fn sum16(self) -> usize {
        self.padded / 8 * 13
    }

    /// The distance between rows: an odd number of cache lines, since rows a power of two apart would compete for the
    /// same cache sets.
    pub(crate) fn row_stride(self) -> usize {
        (self.padded / 8 * 15).div_ceil(ALIGN) / 2 * 2 * ALIGN + ALIGN
    }
}

/// One quantized chunk, in the layout of the arrays.
pub(crate) struct QuantizedChunk {
    q: [i8; CHUNK],
    d: [f32; GROUPS],
    min32: [f32; GROUPS],
    sum32: [i32; GROUPS],
    min16: [f32; 2 * GROUPS],
    sum16: [i32; 2 * GROUPS],
}

/// Quantizes a chunk of a row. `x` may have fewer than [`CHUNK`] values only at the end of the row.
///
/// # Safety
/// This machine supports `isa`.
pub(crate) unsafe fn quantize_chunk(isa: Isa, x: &[f32]) -> QuantizedChunk {
    debug_assert!(x.len() <= CHUNK);
    let mut padded = [0f32; CHUNK];
    let x = match <&[f32; CHUNK]>::try_from(x) {
        Ok(whole) => whole,
        Err(_) => {
            padded[..x.len()].copy_from_slice(x);
            &padded
        }
    };
    match isa {
        // SAFETY: the caller guarantees the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { quantize_avx512(x) },
        // SAFETY: the caller guarantees the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { quantize_avx2(x) },
        _ => quantize(x),
    }
}

impl QuantizedChunk {
    /// Writes the chunk into a row as chunk number `chunk`.
    ///
    /// # Safety
    /// `row` points to a row laid out as `layout`, nothing else accesses this chunk meanwhile, and `chunk` is less than
    /// `layout.chunks()`.
    pub(crate) unsafe fn store(&self, row: *mut u8, layout: Layout, chunk: usize) {
        debug_assert!(chunk < layout.chunks());
        // SAFETY: the arrays of a row hold `layout.chunks()` chunks each.
        unsafe {
            put(row.add(layout.q()), chunk, &self.q);
            put(row.add(layout.d()), chunk, &self.d);
            put(row.add(layout.min32()), chunk, &self.min32);
            put(row.add(layout.sum32()), chunk, &self.sum32);
            put(row.add(layout.min16()), chunk, &self.min16);
            put(row.add(layout.sum16()), chunk, &self.sum16);
        }
    }
}

/// # Safety
/// `array` points to more than `chunk` values of `T` and may be written.
unsafe fn put<T: Copy>(array: *mut u8, chunk: usize, value: &T) {
    // SAFETY: guaranteed by the caller.
    unsafe { array.cast::<T>().add(chunk).write_unaligned(*value) }
}

// The compiler vectorizes this one definition for each instruction set. The bits are the same, since it may not reorder
// floating-point operations and the sums are of integers.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn quantize_avx512(x: &[f32; CHUNK]) -> QuantizedChunk {
    quantize(x)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn quantize_avx2(x: &[f32; CHUNK]) -> QuantizedChunk {
    quantize(x)
}

#[inline(always)]
fn quantize(x: &[f32; CHUNK]) -> QuantizedChunk {
    let mut out = QuantizedChunk {
        q: [0; CHUNK],
        d: [0.0; GROUPS],
        min32: [0.0; GROUPS],
        sum32: [0; GROUPS],
        min16: [0.0; 2 * GROUPS],
        sum16: [0; 2 * GROUPS],
    };
    for (group, x) in x.as_chunks::<GROUP>().0.iter().enumerate() {
        // Without their sign, floats are ordered like their bits, with NaN above infinity.
        let largest = x.iter().fold(0, |largest, x| largest.max(x.to_bits() & 0x7fff_ffff));
        let largest = f32::from_bits(largest);
        let (d, inverse) = if !largest.is_finite() {
            (largest, 0.0)
        } else if largest >= TINY {
            (largest / 127.0, 127.0 / largest)
        } else {
            (0.0, 0.0)
        };
        let mut sums = [0; 2];
        if inverse != 0.0 {
            let q = &mut out.q.as_chunks_mut::<GROUP>().0[group];
            for ((q, x), sum) in q.chunks_exact_mut(16).zip(x.chunks_exact(16)).zip(&mut sums) {
                for (q, x) in q.iter_mut().zip(x) {
                    let rounded = (x * inverse).round_ties_even() as i32;
                    *q = rounded as i8;
                    *sum -= rounded;
                }
            }
        }
        out.d[group] = d;
        out.sum32[group] = sums[0] + sums[1];
        out.min32[group] = d * (sums[0] + sums[1]) as f32;
        for (half, sum) in sums.into_iter().enumerate() {
            out.sum16[2 * group + half] = sum;
            out.min16[2 * group + half] = d * sum as f32;
        }
    }
    out
}

/// `2^-100`: below it 127 / x may overflow, and models do not compute with such small values.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Quantizes consecutive rows of `k` values and returns the bytes.
    fn quantize_rows(isa: Isa, x: &[f32], k: usize) -> Vec<u8> {
        let layout = Layout::new(k);
        let stride = layout.row_stride();
        let mut bytes = vec![0u8; stride * (x.len() / k)];
        for (x, row) in x.chunks(k).zip(bytes.chunks_mut(stride)) {
            for (chunk, x) in x.chunks(CHUNK).enumerate() {
                // SAFETY: `row` has `row_stride` bytes and `isa` is available.
                unsafe { quantize_chunk(isa, x).store(row.as_mut_ptr(), layout, chunk) };
            }
        }
        bytes
    }

    fn array<const N: usize>(bytes: &[u8], offset: usize, count: usize) -> Vec<[u8; N]> {
        bytes[offset..].as_chunks::<N>().0[..count].to_vec()
    }

    /// The values that a row of activations is rounded to.
    pub(crate) fn round_trip(x: &[f32]) -> Vec<f64> {
        let layout = Layout::new(x.len());
        let bytes = quantize_rows(Isa::Plain, x, x.len());
        let d = array::<4>(&bytes, layout.d(), x.len().div_ceil(GROUP));
        let value = |i: usize| f64::from(bytes[i] as i8) * f64::from(f32::from_le_bytes(d[i / GROUP]));
        (0..x.len()).map(value).collect()
    }

    #[test]
    fn arrays_do_not_overlap() {
        for k in [32, 256, 288, 2048, 11008] {
            let layout = Layout::new(k);
            let padded = layout.chunks() * CHUNK;
            assert_eq!(layout.d(), layout.q() + padded);
            assert_eq!(layout.min32(), layout.d() + padded / GROUP * 4);
            assert_eq!(layout.sum32(), layout.min32() + padded / GROUP * 4);
            assert_eq!(layout.min16(), layout.sum32() + padded / GROUP * 4);
            assert_eq!(layout.sum16(), layout.min16() + padded / 16 * 4);
            assert!(layout.row_stride() >= layout.sum16() + padded / 16 * 4);
            assert_eq!(layout.row_stride() / ALIGN % 2, 1);
        }
        assert_eq!(activation_bytes(usize::MAX, 1), None);
        assert_eq!(activation_bytes(usize::MAX / 4, 9), None);
    }

    #[test]
    fn nonfinite_groups_get_a_nonfinite_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; 64];
            x[3] = bad;
            let bytes = quantize_rows(Isa::Plain, &x, 64);
            let d = array::<4>(&bytes, Layout::new(64).d(), 2).into_iter().map(f32::from_le_bytes);
            assert_eq!(d.map(f32::is_finite).collect::<Vec<_>>(), [false, true]);
            assert!(bytes[..32].iter().all(|&q| q == 0));
        }
    }

    fn values(k: usize) -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![
            8 => -3f32..3.0,
            1 => Just(0.0),
            1 => any::<f32>(),
        ];
        prop::collection::vec(value, k)
    }

    proptest! {
        #[test]
        fn every_isa_gives_the_same_bits((k, x) in (1usize..20).prop_flat_map(|groups| {
            (Just(groups * GROUP), values(2 * groups * GROUP))
        })) {
            let plain = quantize_rows(Isa::Plain, &x, k);
            for isa in Isa::available() {
                prop_assert_eq!(&quantize_rows(isa, &x, k), &plain, "{}", isa);
            }
        }

        /// The nearest of 255 steps is at most half a step away. `d`, the inverse and the product are each rounded
        /// once: 3·2^-24 relative to values of at most 127 steps adds less than 2^-14 steps.
        #[test]
        fn values_are_off_by_half_a_step(x in prop::collection::vec(-100f32..100.0, 96)) {
            let layout = Layout::new(96);
            let bytes = quantize_rows(Isa::Plain, &x, 96);
            let d: Vec<f32> = array(&bytes, layout.d(), 8).into_iter().map(f32::from_le_bytes).collect();
            let sums: Vec<i32> = array(&bytes, layout.sum16(), 16).into_iter().map(i32::from_le_bytes).collect();
            let mut expected = [0; 16];
            for (i, &x) in x.iter().enumerate() {
                let (q, d) = (bytes[i] as i8, d[i / GROUP]);
                prop_assert!((f64::from(q) * f64::from(d) - f64::from(x)).abs() <= f64::from(d) * (0.5 + 2f64.powi(-14)));
                expected[i / 16] -= i32::from(q);
            }
            prop_assert_eq!(&sums, &expected);
            prop_assert!(bytes[96..CHUNK].iter().all(|&q| q == 0) && d[3..].iter().all(|&d| d == 0.0));
        }
    }
}
