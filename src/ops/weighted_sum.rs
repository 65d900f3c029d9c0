//! `weighted_sum`: the weighted sum of a token's experts' outputs.

use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::{CpuStep, StepError, vector};
use crate::device::constants::WEIGHTED_SUM_THREADS as THREADS;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `out[·, t] = Σᵤ weights[u, t] · x[·, u, t]`, added in the order of `u`: `x` F32 `[n, n_used, n_tokens]` and the
/// weights F32 `[n_used, n_tokens]` give F32 `[n, n_tokens]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightedSum {}

impl<'g> Tensor<'g> {
    /// The sum of the rows `[n]` of each `[n, n_used]` of `self`, F32 `[n, n_used, n_tokens]`, each times its weight,
    /// F32 `[n_used, n_tokens]`: F32 `[n, n_tokens]`.
    #[track_caller]
    pub fn weighted_sum(self, weights: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(WeightedSum {}, &[self, weights])
    }
}

impl Operator for WeightedSum {
    const NAME: &'static str = "weighted_sum";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, weights] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        let [n, n_used, n_tokens, n3] = x.shape.ne();
        if x.dtype != DType::F32 || weights.dtype != DType::F32 || n3 != 1 {
            return Err(ShapeError::rule("x must be F32 of three dimensions, the weights F32", inputs));
        }
        if weights.shape.ne() != [n_used, n_tokens, 1, 1] {
            let rule = format!("the weights must have the shape [{n_used}, {n_tokens}]");
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::whole_rows(inputs)?;
        Ok(Desc::contiguous(DType::F32, [n, n_tokens])?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, x, weights) = (step.isa(), step.input(0), step.input(1));
        step.for_rows(|(token, _, _), out: &mut [f32]| {
            out.fill(0.0);
            for (used, &weight) in weights.row::<f32>((token, 0, 0)).iter().enumerate() {
                vector::zip(isa, out, x.row((used, token, 0)), |sum, x| x.mul_add(weight, sum));
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [n, tokens, ..] = lower.output().shape.ne();
        if n * tokens == 0 {
            return Ok(());
        }
        let pieces = n.div_ceil(4 * THREADS);
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("x_at", Arg::Layout(Which::Input(0))),
            ("w", Arg::Address(Which::Input(1), 0)),
            ("w_at", Arg::Layout(Which::Input(1))),
            ("out", Arg::Address(Which::Output, 0)),
            ("pieces", Arg::I32(i32::try_from(pieces).unwrap_or(i32::MAX))),
        ];
        let blocks = pieces.saturating_mul(tokens);
        lower.launch(Variant::new("experts", "weighted_sum"), [blocks, 1, 1], THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let terms = inputs.first().map_or(0, |x| x.shape.elements() as u64);
        Cost::streaming(inputs, output, 2 * terms)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (n, n_used) = (draw.one_of(&[1, 7, 32, 1030]), draw.number(1..=9));
        let n_tokens = draw.number(1..=5);
        let x = draw.values(n * n_used * n_tokens, 2.0);
        let weights = draw.values(n_used * n_tokens, 1.0);
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for (x, weights) in x.chunks(n * n_used).zip(weights.chunks(n_used)) {
            for i in 0..n {
                let term = |(u, w): (usize, &f32)| f64::from(*w) * f64::from(x[u * n + i]);
                let terms = || weights.iter().enumerate().map(term);
                expected.push(terms().sum());
                // Each addition rounds once, relative to no more than the sum of magnitudes.
                let size: f64 = terms().map(f64::abs).sum();
                tolerance.push(size * n_used as f64 * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE));
            }
        }
        let inputs =
            vec![CaseInput::f32([n, n_used, n_tokens], &x), CaseInput::f32([n_used, n_tokens], &weights)];
        Case::with_tolerances(WeightedSum {}, inputs, expected, tolerance)
    }
}
