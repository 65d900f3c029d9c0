//! `gated_norm_quantize`: gated norms of heads, to eight bits for the products that read them on a GPU.

use serde::{Deserialize, Serialize};

use super::GatedNorm;
use super::quantize::{BLOCK, quantize_row, words};
use super::rule;
use super::unary::UnaryKind;
use crate::cpu::{CpuStep, StepError};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError};
use crate::tensor::{DType, Desc};

/// `quantize(gated_norm(x))` for heads `x` and `gate` `F32[n, n_head, n_rows]`, `n` a multiple of 32, and a weight
/// `F32[n]`: words `I32[…, n_rows]`, in which the heads of a row are one row; see [`GatedNorm`] and
/// [`Quantize`](super::Quantize).
///
/// Models' graphs do not contain it: compiling for a GPU makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatedNormQuantize {
    /// The norm and its gate.
    #[serde(flatten)]
    pub norm: GatedNorm,
}

impl Operator for GatedNormQuantize {
    const NAME: &'static str = "gated_norm_quantize";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, _, gate] = inputs else {
            return Err(ShapeError::Arity { wanted: "3", found: inputs.len() });
        };
        let [n, n_head, n_rows, _] = x.shape.ne();
        let fits = gate.shape.ne() == [n, n_head, n_rows, 1] && x.shape.ne() == gate.shape.ne();
        if !fits || [x.dtype, gate.dtype] != [DType::F32; 2] || !n.is_multiple_of(BLOCK) {
            let rule = format!("x and gate must be F32[n, n_head, n_rows], n a multiple of {BLOCK}");
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::whole_rows(inputs)?;
        rule::vector(inputs, 1, DType::F32, n, "the weight")?;
        Ok(Desc::contiguous(DType::I32, [words(n * n_head), n_rows])?)
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        let heads = inputs.first().map_or(0, |x| x.shape.dim(0) * x.shape.dim(1));
        CpuStep::scratch_for(heads, threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, x, weight, gate) = (step.isa(), step.input(0), step.input(1).all::<f32>(), step.input(2));
        let n = x.dim(0);
        let normed = &mut step.take_scratch()[..n * x.dim(1)];
        step.for_rows::<i32>(|(row, ..), out| {
            for (head, normed) in normed.chunks_exact_mut(n).enumerate() {
                normed.copy_from_slice(x.row((head, row, 0)));
                self.norm.row(isa, normed, weight, gate.row((head, row, 0)));
            }
            quantize_row(normed, out);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let Some(x) = lower.inputs().first() else { return Ok(()) };
        let [n, n_head, n_rows, _] = x.shape.ne();
        if n * n_head * n_rows == 0 {
            return Ok(());
        }
        if i32::try_from(n * n_head).is_err() {
            return Err(lower.unsupported(format!(
                "rows of {} elements; at most {} can be counted",
                n * n_head,
                i32::MAX
            )));
        }
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("x_at", Arg::Layout(Which::Input(0))),
            ("weight", Arg::Address(Which::Input(1), 0)),
            ("gate", Arg::Address(Which::Input(2), 0)),
            ("gate_at", Arg::Layout(Which::Input(2))),
            ("out", Arg::Address(Which::Output, 0)),
            ("kind", Arg::I32(self.norm.activation.number())),
            ("eps", Arg::F32(self.norm.eps)),
        ];
        let threads = n.div_ceil(8).next_power_of_two().clamp(lower.target().wave as usize, 1024);
        let variant = Variant::new("norm_quantize", "gated_norm_quantize");
        lower.launch(variant, [n_head * n_rows, 1, 1], threads, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 9 * inputs.first().map_or(0, |x| x.shape.elements()) as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (n, n_head, n_rows) = (BLOCK * draw.number(1..=9), draw.number(1..=3), draw.number(1..=3));
        // As in the cases of `norm_quantize`, all numbers are powers of two and the gate's function exact, so that nothing
        // but the norm's factor rounds before quantizing.
        let norm = GatedNorm { activation: UnaryKind::Relu, eps: draw.one_of(&[1e-6f32, 1e-5]) };
        let mut powers = |n: usize| -> Vec<f32> {
            (0..n).map(|_| [0.5, 1.0, 2.0][(draw.unit() * 3.0) as usize]).collect()
        };
        let (weight, gate) = (powers(n), powers(n * n_head * n_rows));
        let x: Vec<f32> = (0..gate.len()).map(|_| if draw.unit() < 0.5 { -1.0 } else { 1.0 }).collect();
        let factor = 1.0 / (1.0 + norm.eps).sqrt();
        let normed: Vec<f32> =
            x.iter().zip(&gate).enumerate().map(|(i, (x, gate))| x * factor * weight[i % n] * gate).collect();
        let (k, per_row) = (n * n_head, words(n * n_head));
        let mut words_of = vec![0; per_row * n_rows];
        for (normed, out) in normed.chunks(k).zip(words_of.chunks_mut(per_row)) {
            quantize_row(normed, out);
        }
        // The scales are F32 seen as integers; the norm's factor and the reciprocal may be off by a few units in the last
        // place, and the sum is a product with one of them.
        let bound = |(i, &word): (usize, &i32)| if i % per_row >= k / 4 && word != 0 { 8.0 } else { 0.0 };
        let tolerance = words_of.iter().enumerate().map(bound).collect();
        let expected = words_of.iter().map(|&word| f64::from(word)).collect();
        let inputs = vec![
            CaseInput::f32([n, n_head, n_rows], &x),
            CaseInput::f32([n], &weight).shared(),
            CaseInput::f32([n, n_head, n_rows], &gate),
        ];
        Case::with_tolerances(GatedNormQuantize { norm }, inputs, expected, tolerance)
    }
}
