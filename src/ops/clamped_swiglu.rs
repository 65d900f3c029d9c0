//! `clamped_swiglu`: the gated linear unit of gpt-oss.

use serde::{Deserialize, Serialize};

use super::rule;
use super::unary::launch_gated;
use crate::cpu::{CpuStep, StepError, math, vector};
use crate::device::{Arg, Lower, LowerError};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `g · σ(alpha · g) · (u + 1)` with `g = min(gate, limit)` and `u` = `up` clamped to `-limit..=limit`; gate and up are
/// F32 of the same shape. OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025: these models use `alpha` 1.702 and
/// `limit` 7.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClampedSwiglu {
    /// The factor of the gate inside the sigmoid.
    pub alpha: f32,
    /// The largest gate, and the largest magnitude of `up`; greater than 0.
    pub limit: f32,
}

impl<'g> Tensor<'g> {
    /// `g · σ(alpha · g) · (u + 1)` for the clamped gate `self` and the clamped `up`; see [`ClampedSwiglu`].
    #[track_caller]
    pub fn clamped_swiglu(self, up: Tensor<'g>, alpha: f32, limit: f32) -> Tensor<'g> {
        self.graph().apply(ClampedSwiglu { alpha, limit }, &[self, up])
    }
}

impl Operator for ClampedSwiglu {
    const NAME: &'static str = "clamped_swiglu";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [gate, up] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        if gate.shape.ne() != up.shape.ne() || up.dtype != DType::F32 {
            return Err(ShapeError::rule("gate and up must be F32 of one shape", inputs));
        }
        if !self.alpha.is_finite() || !self.limit.is_finite() || self.limit <= 0.0 {
            let rule = format!("alpha {} must be finite, limit {} also above 0", self.alpha, self.limit);
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::whole_rows(inputs)?;
        rule::like_first(inputs)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (up, alpha, limit) = (step.input(1), self.alpha, self.limit);
        // A comparison in this direction keeps NaN.
        let at_most = |x: f32, limit: f32| if x > limit { limit } else { x };
        step.for_spans(0, |span, gate| {
            let up = &up.row(span.row)[span.elements.clone()];
            vector::zip(step.isa(), gate, up, |gate, up| {
                let gate = at_most(gate, limit);
                let up = at_most(if up < -limit { -limit } else { up }, limit);
                gate * math::sigmoid(alpha * gate) * (up + 1.0)
            });
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        launch_gated(
            lower,
            "clamped_swiglu",
            &[("alpha", Arg::F32(self.alpha)), ("limit", Arg::F32(self.limit))],
        )
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 5 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = ClampedSwiglu { alpha: draw.one_of(&[1.702, 1.0]), limit: draw.one_of(&[7.0, 1.5]) };
        let sizes = [draw.one_of(&[1, 7, 16, 33, 5000]), draw.number(1..=3)];
        let gate = draw.values(sizes.iter().product(), 12.0);
        let up = draw.values(gate.len(), 12.0);
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        let (alpha, limit) = (f64::from(op.alpha), f64::from(op.limit));
        for (&gate, &up) in gate.iter().zip(&up) {
            let g = f64::from(gate).min(limit);
            let u = f64::from(up).clamp(-limit, limit);
            let y = g / (1.0 + (-alpha * g).exp()) * (u + 1.0);
            expected.push(y);
            // Roundings: the argument of exp, multiplied by the argument; six in the sigmoid and its product, as for
            // silu; `u + 1` and the product with it.
            let roundings = 2.0 * alpha * g.abs() + 8.0;
            tolerance.push(y.abs() * roundings * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE));
        }
        let inputs = vec![CaseInput::f32(sizes, &gate), CaseInput::f32(sizes, &up)];
        Case::with_tolerances(op, inputs, expected, tolerance)
    }
}
