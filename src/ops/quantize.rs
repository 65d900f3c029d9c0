//! `quantize`: activations to eight bits, once for all products that read them on a GPU.

use serde::{Deserialize, Serialize};

use super::linear::gpu;
use super::rule;
use crate::cpu::{CpuStep, StepError};
use crate::device::{Lower, LowerError, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc, Shape};

/// Elements that share a scale.
pub(super) const BLOCK: usize = 32;

/// A block whose largest magnitude is below this becomes zeros, as its reciprocal would overflow.
const SMALLEST: f32 = 1e-36;

/// Quantizes rows of F32 `[k, …]`, `k` a multiple of 32, to I32 words: `k` signed bytes, then for each 32 elements two
/// F32, the scale `d` and `d` times the sum of the bytes, then zeros up to a multiple of 4 words. With `a` the largest
/// magnitude of 32 elements, `d = a / 127` and each byte is `x · (127 / a)`, rounded to the nearest, ties to even. If
/// an element is infinite or NaN, `d` is infinite and the bytes are 0, so that every product with them is NaN.
///
/// Models' graphs do not contain it: compiling for a GPU inserts it before products of quantized weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantize {}

impl<'g> Tensor<'g> {
    /// `self`, F32 `[k, …]`, as rows of words for [`Project`](super::Project) and products of quantized weights; see
    /// [`Quantize`].
    #[track_caller]
    pub fn quantize(self) -> Tensor<'g> {
        self.graph().apply(Quantize {}, &[self])
    }
}

/// Words of a quantized row of `k` elements.
pub(super) fn words(k: usize) -> usize {
    gpu::quantized_bytes(k) / 4
}

/// Elements of a quantized row of `words` words; `None` if no quantized row has that length.
pub(super) fn elements(words: usize) -> Option<usize> {
    // Ten words for each block, and two more after an odd number of blocks.
    let k = words / 10 * BLOCK;
    (words == self::words(k) && k > 0).then_some(k)
}

/// Quantizes a row.
pub(super) fn quantize_row(x: &[f32], out: &mut [i32]) {
    let (bytes, rest) = out.split_at_mut(x.len() / 4);
    let (scales, padding) = rest.split_at_mut(x.len() / BLOCK * 2);
    padding.fill(0);
    let bytes: &mut [i8] = bytemuck::cast_slice_mut(bytes);
    let scales: &mut [[f32; 2]] = bytemuck::cast_slice_mut(scales);
    for ((x, q), scale) in x.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK)).zip(scales) {
        let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let (d, factor) = match largest {
            _ if !x.iter().all(|x| x.is_finite()) => (f32::INFINITY, 0.0),
            small if small < SMALLEST => (0.0, 0.0),
            largest => (largest / 127.0, 127.0 / largest),
        };
        let mut sum = 0i32;
        for (x, q) in x.iter().zip(q) {
            *q = (x * factor).round_ties_even() as i8;
            sum += i32::from(*q);
        }
        *scale = [d, d * sum as f32];
    }
}

/// The values of a quantized row.
pub(super) fn dequantize_row(words: &[i32], out: &mut [f32]) {
    let (bytes, rest) = words.split_at(out.len() / 4);
    let scales = &rest[..out.len() / BLOCK * 2];
    let bytes: &[i8] = bytemuck::cast_slice(bytes);
    let scales: &[[f32; 2]] = bytemuck::cast_slice(scales);
    for ((out, q), [d, _]) in out.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK)).zip(scales) {
        out.iter_mut().zip(q).for_each(|(out, &q)| *out = d * f32::from(q));
    }
}

impl Operator for Quantize {
    const NAME: &'static str = "quantize";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let x = rule::one(inputs)?;
        if x.dtype != DType::F32 || !x.is_contiguous() || !x.shape.dim(0).is_multiple_of(BLOCK) {
            let rule = format!("x must be F32 without gaps, in rows of a multiple of {BLOCK}");
            return Err(ShapeError::rule(rule, inputs));
        }
        let mut sizes = x.shape.ne();
        sizes[0] = words(sizes[0]);
        let shape = Shape::new(&sizes[..x.shape.rank()]).unwrap_or(x.shape);
        Ok(Desc::contiguous(DType::I32, shape)?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let x = step.input(0);
        step.for_rows::<i32>(|row, out| {
            quantize_row(x.row::<f32>(row), out);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [x] = lower.inputs() else { return Ok(()) };
        let (k, rows) = (x.shape.dim(0), x.shape.rows());
        if k * rows == 0 {
            return Ok(());
        }
        gpu::quantize(lower, (Which::Input(0), 0), (Which::Output, 0), k, rows)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 3 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (k, rows) = (BLOCK * draw.number(1..=9), draw.number(1..=5));
        let scale = draw.one_of(&[1.0, 1e-3, 1e4]);
        let x = draw.values(k * rows, scale);
        let mut out = vec![0; words(k) * rows];
        for (x, out) in x.chunks(k).zip(out.chunks_mut(words(k))) {
            quantize_row(x, out);
            // The decoded values, against the definition in f64: half a step, and the roundings of the reciprocal and
            // of the product, which may break a tie.
            let mut values = vec![0.0; k];
            dequantize_row(out, &mut values);
            debug_assert!(x.chunks(BLOCK).zip(values.chunks(BLOCK)).all(|(x, values)| {
                let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                x.iter().zip(values).all(|(x, value)| (x - value).abs() <= largest / 127.0 * 0.5001 + 1e-36)
            }));
        }
        // Products, quotients and roundings of F32 are the same everywhere, so the words are equal.
        let expected = out.iter().map(|&word| f64::from(word)).collect();
        Case::new(Quantize {}, vec![CaseInput::f32([k, rows], &x)], expected, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_elements_agree() {
        for k in (BLOCK..5000).step_by(BLOCK) {
            assert_eq!(elements(words(k)), Some(k));
            assert_eq!(elements(words(k) + 1), None);
        }
        assert_eq!(elements(0), None);
    }

    #[test]
    fn a_row_round_trips_within_half_a_step() {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 - 31.5) * 0.37).collect();
        let (mut words, mut back) = (vec![0; words(64)], vec![0.0; 64]);
        quantize_row(&x, &mut words);
        dequantize_row(&words, &mut back);
        for (x, back) in x.chunks(BLOCK).zip(back.chunks(BLOCK)) {
            let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            assert!(x.iter().zip(back).all(|(x, back)| (x - back).abs() <= largest / 127.0 * 0.5001));
        }
    }

    #[test]
    fn a_block_too_small_for_a_scale_is_zeros() {
        let mut words = vec![1; words(32)];
        quantize_row(&[1e-38; 32], &mut words);
        assert_eq!(words, vec![0; self::words(32)]);
    }
}
