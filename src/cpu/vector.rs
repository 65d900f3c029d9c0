//! Loops over rows of numbers, compiled once for each instruction set.
//!
//! The loops are plain code that the compiler vectorises. They fix the order of every sum, and a fused multiply-add
//! always rounds once, so the bits are the same on every instruction set.

use bytemuck::Pod;
use half::{bf16, f16};

use super::Isa;

/// The number of partial sums of a reduction: element `i` of a row is added to sum `i % LANES`.
pub const LANES: usize = 16;

/// Defines functions whose body is compiled for every instruction set; the first argument chooses.
macro_rules! per_isa {
    ($($(#[$meta:meta])* pub fn $name:ident $([$($generic:tt)*])? ($($arg:ident: $type:ty),*) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        pub fn $name<$($($generic)*)?>(isa: Isa, $($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$($($generic)*)?>($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2<$($($generic)*)?>($($arg: $type),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512<$($($generic)*)?>($($arg: $type),*) $(-> $ret)? {
                body($($arg),*)
            }

            match isa {
                // SAFETY: this machine has the instruction set.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 if isa.is_available() => unsafe { avx512($($arg),*) },
                // SAFETY: this machine has the instruction set.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 if isa.is_available() => unsafe { avx2($($arg),*) },
                // NEON is part of every AArch64, so plain code uses it.
                _ => body($($arg),*),
            }
        }
    )*};
}

pub(super) use per_isa;

per_isa! {
    /// `x[i] = f(x[i])`.
    pub fn map[F: Fn(f32) -> f32](x: &mut [f32], f: F) {
        for x in x {
            *x = f(*x);
        }
    }

    /// `x[i] = f(x[i], y[i])`, up to the shorter length.
    pub fn zip[F: Fn(f32, f32) -> f32](x: &mut [f32], y: &[f32], f: F) {
        for (x, &y) in x.iter_mut().zip(y) {
            *x = f(*x, y);
        }
    }

    /// `y[i] += a[i]·b[i]` with one rounding, up to the shortest length.
    pub fn add_products(y: &mut [f32], a: &[f32], b: &[f32]) {
        for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
            *y = a.mul_add(b, *y);
        }
    }

    /// The sum of `f(x[i])`, in [`LANES`] partial sums.
    pub fn sum_of[F: Fn(f32) -> f32](x: &[f32], f: F) -> f32 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                *sum += f(x);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += f(x);
        }
        fold(sums, |a, b| a + b)
    }

    /// The sum of `a[i]·b[i]`, in [`LANES`] partial sums with one rounding per element.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let n = a.len().min(b.len());
        let ((a, a_rest), (b, b_rest)) = (a[..n].as_chunks::<LANES>(), b[..n].as_chunks::<LANES>());
        let mut sums = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum = a.mul_add(b, *sum);
            }
        }
        for (sum, (&a, &b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
            *sum = a.mul_add(b, *sum);
        }
        fold(sums, |a, b| a + b)
    }

    /// The largest element; -∞ if empty. NaN is ignored.
    pub fn max(x: &[f32]) -> f32 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for chunk in chunks.iter().map(|chunk| chunk.as_slice()).chain([rest]) {
            for (largest, &x) in largest.iter_mut().zip(chunk) {
                *largest = if x > *largest { x } else { *largest };
            }
        }
        fold(largest, |a, b| if b > a { b } else { a })
    }

    /// `c += a·b` for row-major matrices of `k` columns (`a`), `k` rows and `n` columns (`b`) and `n` columns (`c`).
    /// Each element adds its products in the order of `b`'s rows, with one rounding each. `n` must be a multiple of
    /// [`LANES`].
    pub fn multiply_add(a: &[f32], k: usize, b: &[f32], n: usize, c: &mut [f32]) {
        debug_assert!(n.is_multiple_of(LANES));
        for column in (0..n).step_by(LANES) {
            let mut a = a.chunks_exact(4 * k);
            let mut c = c.chunks_exact_mut(4 * n);
            for (a, c) in a.by_ref().zip(c.by_ref()) {
                multiply_rows::<4>(a, k, b, n, column, c);
            }
            let rows = a.remainder().chunks_exact(k).zip(c.into_remainder().chunks_exact_mut(n));
            for (a, c) in rows {
                multiply_rows::<1>(a, k, b, n, column, c);
            }
        }
    }
}

/// [`multiply_add`] for a few rows and [`LANES`] columns, whose sums stay in registers.
#[inline(always)]
fn multiply_rows<const ROWS: usize>(a: &[f32], k: usize, b: &[f32], n: usize, column: usize, c: &mut [f32]) {
    let mut sums = [[0.0f32; LANES]; ROWS];
    for (sums, c) in sums.iter_mut().zip(c.chunks_exact(n)) {
        sums.copy_from_slice(&c[column..column + LANES]);
    }
    let a: [&[f32]; ROWS] = std::array::from_fn(|row| &a[row * k..(row + 1) * k]);
    for (i, b) in b.chunks_exact(n).take(k).enumerate() {
        let Some(b) = b[column..].first_chunk::<LANES>() else { break };
        for row in 0..ROWS {
            let x = a[row][i];
            for lane in 0..LANES {
                sums[row][lane] = x.mul_add(b[lane], sums[row][lane]);
            }
        }
    }
    for (sums, c) in sums.iter().zip(c.chunks_exact_mut(n)) {
        c[column..column + LANES].copy_from_slice(sums);
    }
}

/// Reduces the lanes by combining the two halves repeatedly.
#[inline(always)]
pub(super) fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = f(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

/// Transposes the part that consists of full 8 by 8 blocks, and returns its rows and columns.
#[cfg(target_arch = "x86_64")]
fn transpose_blocks(
    isa: Isa,
    rows: &[f32],
    columns: usize,
    out: &mut [f32],
    stride: usize,
) -> (usize, usize) {
    if !(matches!(isa, Isa::Avx2 | Isa::Avx512) && isa.is_available()) {
        return (0, 0);
    }
    let done = (rows.len() / columns.max(1) / 8 * 8, columns / 8 * 8);
    for (i, rows) in rows.chunks_exact((8 * columns).max(1)).enumerate() {
        for j in (0..done.1).step_by(8) {
            // SAFETY: the machine has AVX2, and the blocks of 8 by 8 are inside `rows` and `out`, which the ranges
            // ensure.
            unsafe {
                transpose_8x8(
                    rows[j..j + 7 * columns + 8].as_ptr(),
                    columns,
                    out[j * stride + i * 8..(j + 7) * stride + i * 8 + 8].as_mut_ptr(),
                    stride,
                );
            }
        }
    }
    done
}

/// Without a kernel, no blocks are transposed.
#[cfg(not(target_arch = "x86_64"))]
fn transpose_blocks(_: Isa, _: &[f32], _: usize, _: &mut [f32], _: usize) -> (usize, usize) {
    (0, 0)
}

/// `out[j][i] = rows[i][j]` for a matrix of `columns` columns; `out` has `stride` columns.
pub fn transpose(isa: Isa, rows: &[f32], columns: usize, out: &mut [f32], stride: usize) {
    let n_rows = rows.len() / columns.max(1);
    debug_assert!(stride >= n_rows && out.len() >= columns * stride);
    let done = transpose_blocks(isa, rows, columns, out, stride);
    for (i, row) in rows.chunks_exact(columns.max(1)).enumerate() {
        let first = if i < done.0 { done.1 } else { 0 };
        for (j, &x) in row.iter().enumerate().skip(first) {
            out[j * stride + i] = x;
        }
    }
}

/// # Safety
/// 8 rows of 8 must be readable at `from`, `from_stride` elements apart, and likewise writable at `to`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: guaranteed by the caller.
    let row = |i: usize| unsafe { _mm256_loadu_ps(from.add(i * from_stride)) };
    // Interleave pairs of rows, then fours, then exchange the halves of the registers.
    let pairs: [__m256; 8] = std::array::from_fn(|i| {
        let (a, b) = (row(i & !1), row(i | 1));
        if i & 1 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
    });
    let four = |half: usize, column: usize| {
        let (a, b) = (pairs[4 * half + column / 2], pairs[4 * half + 2 + column / 2]);
        if column & 1 == 0 { _mm256_shuffle_ps::<0x44>(a, b) } else { _mm256_shuffle_ps::<0xEE>(a, b) }
    };
    for column in 0..4 {
        let (top, bottom) = (four(0, column), four(1, column));
        // SAFETY: guaranteed by the caller.
        unsafe {
            _mm256_storeu_ps(to.add(column * to_stride), _mm256_permute2f128_ps::<0x20>(top, bottom));
            _mm256_storeu_ps(to.add((column + 4) * to_stride), _mm256_permute2f128_ps::<0x31>(top, bottom));
        }
    }
}

/// A plain element type.
pub trait Element: Pod {
    /// `to[i] = from[i]`, up to the shorter length. Exact, except for integers of more than 24 bits.
    fn widen(from: &[Self], to: &mut [f32]);
    /// `to[i] = from[i]`, up to the shorter length, rounded to the nearest, ties to even. Integers are rounded towards
    /// zero and clamped to their range; NaN becomes 0.
    fn round(from: &[f32], to: &mut [Self]);
}

impl Element for f32 {
    fn widen(from: &[f32], to: &mut [f32]) {
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
    }
    fn round(from: &[f32], to: &mut [f32]) {
        f32::widen(from, to);
    }
}

impl Element for f16 {
    fn widen(from: &[f16], to: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("f16c") {
            // SAFETY: the machine has F16C.
            return unsafe { widen_f16c(from, to) };
        }
        for (from, to) in from.iter().zip(to) {
            *to = from.to_f32();
        }
    }
    fn round(from: &[f32], to: &mut [f16]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("f16c") {
            // SAFETY: the machine has F16C.
            return unsafe { round_f16c(from, to) };
        }
        for (from, to) in from.iter().zip(to) {
            *to = f16::from_f32(*from);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "f16c")]
fn widen_f16c(from: &[f16], to: &mut [f32]) {
    use std::arch::x86_64::*;
    let n = from.len().min(to.len());
    let (from, rest) = from[..n].as_chunks::<8>();
    let (to, to_rest) = to[..n].as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: 8 halves are 16 bytes, 8 floats 32, and unaligned access is allowed.
        unsafe {
            let halves = _mm_loadu_si128(from.as_ptr().cast());
            _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
    }
    for (from, to) in rest.iter().zip(to_rest) {
        *to = from.to_f32();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "f16c")]
fn round_f16c(from: &[f32], to: &mut [f16]) {
    use std::arch::x86_64::*;
    let n = from.len().min(to.len());
    let (from, rest) = from[..n].as_chunks::<8>();
    let (to, to_rest) = to[..n].as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: 8 floats are 32 bytes, 8 halves 16, and unaligned access is allowed.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
        }
    }
    for (from, to) in rest.iter().zip(to_rest) {
        *to = f16::from_f32(*from);
    }
}

impl Element for i32 {
    fn widen(from: &[i32], to: &mut [f32]) {
        for (from, to) in from.iter().zip(to) {
            *to = *from as f32;
        }
    }
    fn round(from: &[f32], to: &mut [i32]) {
        for (from, to) in from.iter().zip(to) {
            *to = *from as i32;
        }
    }
}

impl Element for bf16 {
    fn widen(from: &[bf16], to: &mut [f32]) {
        for (from, to) in from.iter().zip(to) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }
    fn round(from: &[f32], to: &mut [bf16]) {
        for (from, to) in from.iter().zip(to) {
            *to = bf16::from_f32(*from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(n: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-4.0f32..4.0, n)
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_same_bits(
            x in values(100), n in 1usize..100, rows in 1usize..7, k in 1usize..9, blocks in 1usize..3
        ) {
            let (y, c) = (&x[100 - n..], vec![0.5; rows * blocks * LANES]);
            let run = |isa: Isa| {
                let mut mapped = x[..n].to_vec();
                map(isa, &mut mapped, crate::cpu::math::gelu);
                zip(isa, &mut mapped, y, |a, b| a * crate::cpu::math::tanh(b));
                mapped.push(sum_of(isa, y, |x| x * x));
                mapped.push(dot(isa, &x[..n], y));
                mapped.push(max(isa, y));
                let mut c = c.clone();
                let a: Vec<f32> = (0..rows * k).map(|i| x[i % 100]).collect();
                let b: Vec<f32> = (0..k * blocks * LANES).map(|i| x[i * 7 % 100]).collect();
                multiply_add(isa, &a, k, &b, blocks * LANES, &mut c);
                for (row, c) in c.chunks(blocks * LANES).enumerate() {
                    for (column, &c) in c.iter().enumerate() {
                        let products = (0..k).map(|i| (a[row * k + i], b[i * blocks * LANES + column]));
                        assert_eq!(c, products.fold(0.5, |sum, (a, b)| a.mul_add(b, sum)));
                    }
                }
                mapped.extend(c);
                mapped.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            for isa in Isa::available() {
                prop_assert_eq!(run(isa), run(Isa::Plain), "{}", isa);
            }
        }

        #[test]
        fn halves_are_exact_and_rounded_to_the_nearest(bits in prop::collection::vec(any::<u32>(), 0..40)) {
            let x: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let (mut halves, mut back) = (vec![f16::ZERO; x.len()], vec![0.0; x.len()]);
            f16::round(&x, &mut halves);
            f16::widen(&halves, &mut back);
            for (&x, (half, back)) in x.iter().zip(halves.iter().zip(&back)) {
                let want = f16::from_f32(x);
                prop_assert!(half.to_bits() == want.to_bits() || (half.is_nan() && x.is_nan()));
                prop_assert!(*back == want.to_f32() || (back.is_nan() && x.is_nan()));
            }
        }

        #[test]
        fn transposing_moves_every_element(rows in 1usize..20, columns in 1usize..20, pad in 0usize..3) {
            let from: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            for isa in Isa::available() {
                let mut to = vec![-1.0; columns * (rows + pad)];
                transpose(isa, &from, columns, &mut to, rows + pad);
                for (i, &x) in to.iter().enumerate() {
                    let (column, row) = (i / (rows + pad), i % (rows + pad));
                    prop_assert_eq!(x, if row < rows { from[row * columns + column] } else { -1.0 });
                }
            }
        }
    }
}
