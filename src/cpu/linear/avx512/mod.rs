//! Products with AVX-512 (F, BW, DQ, VL, VNNI).

pub(super) mod float;
pub(super) mod integer;
pub(super) mod quads;

use std::arch::x86_64::*;

use super::format::Unpacked;

/// A chunk of [`super::format::Unpacked`] in registers: 64 weights each, then scales and minimums.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    pub(super) q: [__m512i; 4],
    pub(super) scale: __m512,
    pub(super) min: __m512,
}

impl Registers {
    /// Loads a chunk that was unpacked to memory.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn load(unpacked: &Unpacked) -> Registers {
        // SAFETY: the arrays have 256 bytes and 16 values, each aligned to a cache line.
        unsafe {
            Registers {
                q: products(|i| _mm512_load_si512(unpacked.q.as_ptr().add(32 * i).cast())),
                scale: _mm512_load_ps(unpacked.scale.as_ptr()),
                min: _mm512_load_ps(unpacked.min.as_ptr()),
            }
        }
    }
}

/// The nibbles of 4 · 32 bytes: in each register 32 low nibbles, then the 32 high ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn nibbles32(bytes: &[u8; 128]) -> [__m512i; 4] {
    let shift = _mm512_inserti64x4::<1>(_mm512_set1_epi16(0), _mm256_set1_epi16(4));
    products(|i| {
        // SAFETY: 32 bytes from byte 16i on are within 128, for i up to 6.
        let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().add(16 * i).cast()) };
        let bytes = _mm512_srlv_epi16(_mm512_broadcast_i64x4(bytes), shift);
        _mm512_and_si512(bytes, _mm512_set1_epi8(15))
    })
}

/// The pairs of bits of 2 · 32 bytes: 32 lowest pairs, and so on to the 32 highest.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pairs32(bytes: &[u8; 64]) -> [__m512i; 4] {
    let shift = _mm512_inserti64x4::<1>(_mm512_set1_epi16(0), _mm256_set1_epi16(2));
    let three = _mm512_set1_epi8(3);
    products(|i| {
        // SAFETY: 32 bytes from byte 0 or 32 on are within 64.
        let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().add(i / 4 * 32).cast()) };
        let bytes = _mm512_srlv_epi16(_mm512_broadcast_i64x4(bytes), shift);
        let bytes = if i % 4 == 0 { bytes } else { _mm512_srli_epi16::<4>(bytes) };
        _mm512_and_si512(bytes, three)
    })
}

/// The low nibbles of 16 bytes, then their high nibbles; then those of another 16 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn nibbles16(first: &[u8; 16], second: &[u8; 16]) -> __m512i {
    let shift = _mm512_setr_epi64(
        0,
        0,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0,
        0,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
    );
    // SAFETY: both have 16 bytes.
    let (first, second) =
        unsafe { (_mm_loadu_si128(first.as_ptr().cast()), _mm_loadu_si128(second.as_ptr().cast())) };
    let both = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(first), 0xff00, second);
    _mm512_and_si512(_mm512_srlv_epi16(both, shift), _mm512_set1_epi8(15))
}

/// The four registers of a chunk, each from the number of its first group of 32 weights.
///
/// Not `array::map`: it is compiled without the instruction set, and then does not inline the closure.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn products(register: impl Fn(usize) -> __m512i) -> [__m512i; 4] {
    [register(0), register(2), register(4), register(6)]
}

/// Eight halves as f32, in the lower lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
pub(super) fn halves(half: impl Fn(usize) -> [u8; 2]) -> __m512 {
    let half = |i| i16::from_le_bytes(half(i));
    let halves = _mm_setr_epi16(half(0), half(1), half(2), half(3), half(4), half(5), half(6), half(7));
    _mm512_castps256_ps512(_mm256_cvtph_ps(halves))
}

/// The leading halves of eight blocks of 18 bytes, as f32, in the lower lanes. Two loads and a permutation, as the
/// eight loads of [`halves`] are too slow for such small blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) fn halves_of_18<B>(chunk: &[B; 8]) -> __m512 {
    const { assert!(size_of::<B>() == 18) };
    let start = std::ptr::from_ref(chunk).cast::<u8>();
    // SAFETY: the blocks are 144 bytes; the loads end at bytes 64 and 72 + 64.
    let (low, high) = unsafe { (_mm512_loadu_si512(start.cast()), _mm512_loadu_si512(start.add(72).cast())) };
    // Blocks are 9 words apart; words of the second register count from 32.
    let words = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 32, 41, 50, 59));
    let halves = _mm512_castsi512_si128(_mm512_permutex2var_epi16(low, words, high));
    _mm512_castps256_ps512(_mm256_cvtph_ps(halves))
}

/// A half as f32 in every lane.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
pub(super) fn half(&bytes: &[u8; 2]) -> __m512 {
    let half = _mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes)));
    _mm512_broadcastss_ps(_mm_cvtph_ps(half))
}

/// The sum of all lanes, in the order of `plain::sum_lanes`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn sum_lanes(lanes: __m512) -> f32 {
    let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Transposes 16 rows of 16 four-byte values.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Now column j of each 128-bit lane of four rows is in one 128-bit lane of `fours[..][j]`.
    let mut fours = [[_mm512_setzero_si512(); 4]; 4];
    for (i, fours) in fours.iter_mut().enumerate() {
        fours[0] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        fours[3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    let mut columns = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[0][j], fours[1][j]);
        let high = _mm512_shuffle_i32x4::<0b10_00_10_00>(fours[2][j], fours[3][j]);
        columns[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        columns[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
        let low = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[0][j], fours[1][j]);
        let high = _mm512_shuffle_i32x4::<0b11_01_11_01>(fours[2][j], fours[3][j]);
        columns[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        columns[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
    }
    columns
}

/// Adds bias and residual to 16 rows' sums and stores those of the first `rows` rows.
///
/// # Safety
/// As `plain::store`, for rows `first..first + rows`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(args: &super::LinearArgs<'_>, token: usize, first: usize, rows: usize, sums: __m512) {
    let mask = ((1u32 << rows) - 1) as __mmask16;
    // SAFETY: masked lanes are not accessed; the caller vouches for the others.
    unsafe {
        let mut sums = sums;
        if let Some(bias) = args.bias {
            sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(first)));
        }
        if let Some(residual) = &args.residual {
            sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, residual.row(token).add(first)));
        }
        _mm512_mask_storeu_ps(args.y.row(token).add(first), mask, sums);
    }
}
