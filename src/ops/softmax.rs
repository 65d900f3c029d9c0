//! `softmax`: the softmax of rows, with a mask, ALiBi and sinks.

use serde::{Deserialize, Serialize};

use super::reduce::launch_rows;
use super::rule;
use crate::cpu::{CpuStep, StepError, math, vector};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `eˢ / Σ eˢ` for each row, with the scores `s = scale · x + slope · mask`.
///
/// Inputs: `x`, `F32[n, n_rows, n_head, ...]`; optionally a mask, F32 or F16, repeated along dimensions 1 to 3 where
/// its sizes divide `x`'s; and if `sinks` is set, sinks, `F32[n_head]`: an additional score per head that takes part in
/// the sum but not in the output. A row with all scores -∞ becomes zeros.
///
/// The slope of a head is 1, or with a `max_bias` that of ALiBi (Press et al. 2022).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Softmax {
    /// Factor of the scores.
    pub scale: f32,
    /// ALiBi's largest exponent, 8 in the paper; 0 turns slopes off.
    pub max_bias: f32,
    /// True if the last input is sinks.
    pub sinks: bool,
}

impl Softmax {
    /// True if there is a mask, by the number of inputs.
    fn masked(&self, inputs: usize) -> bool {
        inputs == 2 + usize::from(self.sinks)
    }

    /// The factor of a head's mask: powers of 2^(-max_bias / n) for the first n heads, where n is the largest power of
    /// two up to their number; odd powers of the root of that base for the others.
    fn slope(&self, head: usize, n_head: usize) -> f32 {
        if self.max_bias == 0.0 {
            return 1.0;
        }
        let n = 1usize << n_head.max(1).ilog2();
        let exponent = if head < n { (head + 1) as f64 } else { (2 * (head - n) + 1) as f64 / 2.0 };
        (-f64::from(self.max_bias) / n as f64 * exponent).exp2() as f32
    }
}

impl<'g> Tensor<'g> {
    /// The softmax of each row of `scale · self`.
    #[track_caller]
    pub fn softmax(self, scale: f32) -> Tensor<'g> {
        self.graph().apply(Softmax { scale, max_bias: 0.0, sinks: false }, &[self])
    }

    /// The softmax of each row of `scale · self + mask`; see [`Softmax`].
    #[track_caller]
    pub fn softmax_masked(self, mask: Tensor<'g>, scale: f32, max_bias: f32) -> Tensor<'g> {
        self.graph().apply(Softmax { scale, max_bias, sinks: false }, &[self, mask])
    }

    /// Like [`Tensor::softmax_masked`], with an additional score per head that is not in the output.
    #[track_caller]
    pub fn softmax_sinks(self, mask: Tensor<'g>, sinks: Tensor<'g>, scale: f32) -> Tensor<'g> {
        self.graph().apply(Softmax { scale, max_bias: 0.0, sinks: true }, &[self, mask, sinks])
    }
}

impl Operator for Softmax {
    const NAME: &'static str = "softmax";

    fn defaults() -> Option<Softmax> {
        Some(Softmax { scale: 1.0, max_bias: 0.0, sinks: false })
    }

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let least = 1 + usize::from(self.sinks);
        if !(least..=least + 1).contains(&inputs.len()) {
            let wanted = if self.sinks { "2 or 3" } else { "1 or 2" };
            return Err(ShapeError::Arity { wanted, found: inputs.len() });
        }
        let output = rule::like_first(inputs)?;
        if self.masked(inputs.len()) {
            let mask = inputs[1];
            let divides = (1..4).all(|i| output.shape.dim(i).is_multiple_of(mask.shape.dim(i)));
            if mask.shape.dim(0) != output.shape.dim(0) || !divides {
                return Err(ShapeError::rule(
                    "the mask must have x's rows, its other sizes divide x's",
                    inputs,
                ));
            }
            if !matches!(mask.dtype, DType::F32 | DType::F16) {
                return Err(ShapeError::rule("the mask must be F32 or F16", inputs));
            }
        } else if self.max_bias != 0.0 {
            return Err(ShapeError::rule("ALiBi scales the mask: give one", inputs));
        }
        if self.sinks {
            rule::vector(inputs, inputs.len() - 1, DType::F32, output.shape.dim(2), "the sinks")?;
        }
        Ok(output)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize {
        if self.masked(inputs.len()) { CpuStep::scratch_for(output.shape.dim(0), threads) } else { 0 }
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, n, n_head) = (step.isa(), step.output().shape.dim(0), step.output().shape.dim(2));
        let mask = self.masked(step.n_inputs()).then(|| (step.input(1), step.take_scratch()));
        let mut mask = mask.map(|(mask, scratch)| (mask, &mut scratch[..n]));
        let sinks = self.sinks.then(|| step.input(step.n_inputs() - 1).all::<f32>());
        step.for_rows_of(0, |row, x| {
            let sink = sinks.map(|sinks| sinks[row.1]);
            vector::map(isa, x, |x| x * self.scale);
            if let Some((mask, bias)) = &mut mask {
                mask.load(0, row, bias)?;
                let slope = self.slope(row.1, n_head);
                vector::zip(isa, x, bias, |x, bias| bias.mul_add(slope, x));
            }
            let largest = vector::max(isa, x).max(sink.unwrap_or(f32::NEG_INFINITY));
            if largest == f32::NEG_INFINITY {
                x.fill(0.0);
                return Ok(());
            }
            vector::map(isa, x, |x| math::exp(x - largest));
            let sum = vector::sum_of(isa, x, |x| x) + sink.map_or(0.0, |sink| math::exp(sink - largest));
            let factor = 1.0 / sum;
            vector::map(isa, x, |x| x * factor);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let n_inputs = lower.inputs().len();
        let none = Arg::Null;
        let input = |i: usize| Which::Input(i as u32);
        let mask_type = lower.inputs().get(1).map_or(DType::F32, |mask| mask.dtype);
        // Without a mask, the kernel ignores the mask's layout: pass that of x.
        let (mask, mask_at, mask_type) = match self.masked(n_inputs) {
            true => (Arg::Address(input(1), 0), input(1), mask_type),
            false => (none, input(0), DType::F32),
        };
        let sinks = if self.sinks { Arg::Address(input(n_inputs - 1), 0) } else { none };
        let args = [
            ("mask", mask),
            ("mask_at", Arg::Layout(mask_at)),
            ("mask_type", Arg::I32(mask_type.number())),
            ("sinks", sinks),
            ("out", Arg::Address(Which::Output, 0)),
            ("scale", Arg::F32(self.scale)),
            ("max_bias", Arg::F32(self.max_bias)),
        ];
        launch_rows(lower, Variant::new("softmax", "softmax"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 5 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let n = draw.number(1..=40);
        let [rows, heads] = [draw.number(1..=3), draw.number(1..=6)];
        let (masked, sinks) = (draw.flag(), draw.flag());
        let max_bias = if masked { draw.one_of(&[0.0, 8.0]) } else { 0.0 };
        let op = Softmax { scale: draw.one_of(&[1.0, 0.125, 3.0]), max_bias, sinks };
        let x = draw.values(n * rows * heads, 10.0);
        let half_mask = draw.flag();
        // One mask for all heads; in some rows every score is -∞.
        let mask: Vec<f32> = (0..n * rows)
            .map(|i| match draw.unit() {
                _ if i / n == 2 => f32::NEG_INFINITY,
                u if u < 0.3 => f32::NEG_INFINITY,
                u => -((u * 16.0) as i32 as f32),
            })
            .collect();
        let sink: Vec<f32> = draw.values(heads, 5.0);
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for (i, row) in x.chunks(n).enumerate() {
            let head = i / rows;
            let slope = f64::from(op.slope(head, heads));
            let bias = |j: usize| if masked { slope * f64::from(mask[i % rows * n + j]) } else { 0.0 };
            let scores: Vec<f64> =
                row.iter().enumerate().map(|(j, &x)| f64::from(x) * f64::from(op.scale) + bias(j)).collect();
            let sink = if sinks { f64::from(sink[head]) } else { f64::NEG_INFINITY };
            let largest = scores.iter().copied().fold(sink, f64::max);
            let weights = scores.iter().map(|score| (score - largest).exp());
            let sum: f64 = weights.clone().sum::<f64>() + (sink - largest).exp();
            // A score rounds twice and its difference to the largest once; exp turns an error of the scores into one of
            // the shares, twice: in the numerator and the denominator. A sum of positive terms rounds once for each
            // addition; exp, reciprocal and product add 8 half units.
            let size =
                scores.iter().filter(|score| score.is_finite()).fold(sink.max(0.0), |m, s| m.max(s.abs()));
            let unit =
                (2.0 * 6.0 * (size + 10.0 * f64::from(op.scale)) + n as f64 / 16.0 + 16.0) * 2f64.powi(-24);
            for weight in weights {
                let share = if largest == f64::NEG_INFINITY { 0.0 } else { weight / sum };
                expected.push(share);
                tolerance.push(share * unit + f64::from(f32::MIN_POSITIVE));
            }
        }
        let mut inputs = vec![CaseInput::f32([n, rows, heads], &x)];
        if masked && half_mask {
            let halves: Vec<half::f16> = mask.iter().map(|&x| half::f16::from_f32(x)).collect();
            inputs.push(CaseInput::bytes(DType::F16, [n, rows], bytemuck::cast_slice(&halves).to_vec()));
        } else if masked {
            inputs.push(CaseInput::f32([n, rows], &mask));
        }
        if sinks {
            inputs.push(CaseInput::f32([heads], &sink).shared());
        }
        Case::with_tolerances(op, inputs, expected, tolerance).with_rows_in(1)
    }
}
