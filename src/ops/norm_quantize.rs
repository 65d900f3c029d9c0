//! `norm_quantize`: an RMS norm whose result is only read by quantized products.

use serde::{Deserialize, Serialize};

use super::quantize::{BLOCK, quantize_row, words};
use super::reduce::optional_input;
use super::rule;
use crate::cpu::{CpuStep, StepError, vector};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc, Shape};

/// `quantize(rms_norm(x) · w)`: inputs `x`, F32 `[k, …]` and optionally `w`, F32 `[k]`; output as
/// [`Quantize`](super::Quantize). Compiling for a GPU creates it, so that the norm is never written as F32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormQuantize {
    /// Prevents division by zero for a row of zeros.
    pub eps: f32,
}

impl<'g> Tensor<'g> {
    /// The quantized rows of `self.rms_norm(weight, eps)`; see [`NormQuantize`].
    #[track_caller]
    pub fn rms_norm_quantized(self, weight: Tensor<'g>, eps: f32) -> Tensor<'g> {
        self.graph().apply(NormQuantize { eps }, &[self, weight])
    }
}

impl Operator for NormQuantize {
    const NAME: &'static str = "norm_quantize";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, ..] = inputs else { return Err(ShapeError::Arity { wanted: "1 or 2", found: 0 }) };
        let k = x.shape.dim(0);
        if inputs.len() > 2 {
            return Err(ShapeError::Arity { wanted: "1 or 2", found: inputs.len() });
        }
        if x.dtype != DType::F32 || !x.is_contiguous() || !k.is_multiple_of(BLOCK) {
            let rule = format!("x must be F32 without gaps, in rows of a multiple of {BLOCK}");
            return Err(ShapeError::rule(rule, inputs));
        }
        if inputs.len() == 2 {
            rule::vector(inputs, 1, DType::F32, k, "the weight")?;
        }
        let mut sizes = x.shape.ne();
        sizes[0] = words(k);
        let shape = Shape::new(&sizes[..x.shape.rank()]).unwrap_or(x.shape);
        Ok(Desc::contiguous(DType::I32, shape)?)
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        CpuStep::scratch_for(inputs.first().map_or(0, |x| x.shape.dim(0)), threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, x) = (step.isa(), step.input(0));
        let weight = (step.n_inputs() == 2).then(|| step.input(1).all::<f32>());
        let normed = &mut step.take_scratch()[..x.dim(0)];
        step.for_rows::<i32>(|row, out| {
            normed.copy_from_slice(x.row(row));
            let mean = vector::sum_of(isa, normed, |x| x * x) / normed.len() as f32;
            let factor = 1.0 / (mean + self.eps).sqrt();
            match weight {
                Some(weight) => vector::zip(isa, normed, weight, |x, w| x * factor * w),
                None => vector::map(isa, normed, |x| x * factor),
            }
            quantize_row(normed, out);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let Some(x) = lower.inputs().first() else { return Ok(()) };
        let (k, rows) = (x.shape.dim(0), x.shape.rows());
        if k * rows == 0 {
            return Ok(());
        }
        if i32::try_from(k).is_err() {
            return Err(
                lower.unsupported(format!("rows of {k} elements; at most {} can be counted", i32::MAX))
            );
        }
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("weight", optional_input(lower, 1)),
            ("out", Arg::Address(Which::Output, 0)),
            ("k", Arg::I32(k as i32)),
            ("eps", Arg::F32(self.eps)),
        ];
        // Four elements a thread: one block computes a row, and the whole step waits for it.
        let threads = k.div_ceil(4).next_power_of_two().clamp(lower.target().wave as usize, 1024);
        lower.launch(Variant::new("norm_quantize", "norm_quantize"), [rows, 1, 1], threads, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 7 * inputs.first().map_or(0, |x| x.shape.elements()) as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (k, rows) = (BLOCK * draw.number(1..=9), draw.number(1..=3));
        let weighted = draw.flag();
        let eps = draw.one_of(&[1e-6f32, 1e-5]);
        // Rows with mean square 1 whose elements are powers of two: the norm divides by √(1 + eps) and nothing else
        // rounds before quantizing, so the bytes are those of the pattern itself.
        let signs: Vec<f32> = (0..k * rows).map(|_| if draw.unit() < 0.5 { -1.0 } else { 1.0 }).collect();
        let weight: Vec<f32> =
            (0..k).map(|i| if weighted { [0.5, 1.0, 2.0, 4.0][i % 4] } else { 1.0 }).collect();
        let mut words_of = vec![0; words(k) * rows];
        let factor = 1.0 / (1.0 + eps).sqrt();
        for (x, out) in signs.chunks(k).zip(words_of.chunks_mut(words(k))) {
            let normed: Vec<f32> = x.iter().zip(&weight).map(|(x, w)| x * factor * w).collect();
            quantize_row(&normed, out);
        }
        let expected: Vec<f64> = words_of.iter().map(|&word| f64::from(word)).collect();
        let mut tolerance = vec![0.0; expected.len()];
        // The scales are F32 seen as integers. The kernel's and the device's square root and reciprocal may be off by a
        // few units in the last place, and d_sum is a product with one of them.
        for (row, bound) in tolerance.chunks_mut(words(k)).enumerate() {
            for (i, bound) in bound.iter_mut().enumerate().skip(k / 4) {
                let is_zero = words_of[row * words(k) + i] == 0;
                *bound = if is_zero { 0.0 } else { 8.0 };
            }
        }
        let mut inputs = vec![CaseInput::f32([k, rows], &signs)];
        inputs.extend(weighted.then(|| CaseInput::f32([k], &weight).shared()));
        Case::with_tolerances(NormQuantize { eps }, inputs, expected, tolerance)
    }
}
