//! `scale` and `softcap`: the same function of each element.

use serde::{Deserialize, Serialize};

use super::rule;
use super::unary::{UnaryKind, launch_unary};
use crate::cpu::{CpuStep, StepError, math, vector};
use crate::device::{Lower, LowerError};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::Desc;

/// `factor · x + bias` for each element, F32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The factor.
    pub factor: f32,
    /// Added to the product.
    pub bias: f32,
}

/// `cap · tanh(x / cap)` for each element, F32: close to `x` while small, never beyond `cap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Softcap {
    /// The bound, above 0.
    pub cap: f32,
}

impl<'g> Tensor<'g> {
    /// `factor · self`.
    #[track_caller]
    pub fn scale(self, factor: f32) -> Tensor<'g> {
        self.scale_bias(factor, 0.0)
    }

    /// `factor · self + bias`.
    #[track_caller]
    pub fn scale_bias(self, factor: f32, bias: f32) -> Tensor<'g> {
        self.graph().apply(Scale { factor, bias }, &[self])
    }

    /// `cap · tanh(self / cap)`; `cap` is above 0.
    #[track_caller]
    pub fn softcap(self, cap: f32) -> Tensor<'g> {
        self.graph().apply(Softcap { cap }, &[self])
    }
}

impl Operator for Scale {
    const NAME: &'static str = "scale";

    fn defaults() -> Option<Scale> {
        Some(Scale { factor: 1.0, bias: 0.0 })
    }

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        rule::one(inputs)?;
        rule::like_first(inputs)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        step.for_spans(0, |_, out| {
            vector::map(step.isa(), out, |x| x.mul_add(self.factor, self.bias));
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        launch_unary(lower, UnaryKind::SCALE.0, self.factor, self.bias)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 2 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = Scale { factor: draw.one_of(&[2.0, -0.3, 55.5]), bias: draw.one_of(&[0.0, 1.0, -7.25]) };
        let sizes = [draw.one_of(&[1, 7, 33, 5000]), draw.number(1..=3)];
        let x = draw.values(sizes.iter().product(), 4.0);
        let (factor, bias) = (f64::from(op.factor), f64::from(op.bias));
        let expected: Vec<f64> = x.iter().map(|&x| f64::from(x) * factor + bias).collect();
        // One rounding.
        let bound = |y: &f64| y.abs() * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE);
        let tolerance = expected.iter().map(bound).collect();
        Case::with_tolerances(op, vec![CaseInput::f32(sizes, &x)], expected, tolerance)
    }
}

impl Operator for Softcap {
    const NAME: &'static str = "softcap";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        rule::one(inputs)?;
        if self.cap <= 0.0 {
            return Err(ShapeError::rule(format!("cap is {}; it must be above 0", self.cap), inputs));
        }
        rule::like_first(inputs)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        step.for_spans(0, |_, out| {
            vector::map(step.isa(), out, |x| self.cap * math::tanh(x / self.cap));
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        launch_unary(lower, UnaryKind::SOFTCAP.0, self.cap, 0.0)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 3 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = Softcap { cap: draw.one_of(&[30.0, 50.0, 0.7]) };
        let sizes = [draw.one_of(&[1, 7, 33, 5000]), draw.number(1..=3)];
        let x = draw.values(sizes.iter().product(), 80.0);
        let cap = f64::from(op.cap);
        let expected: Vec<f64> = x.iter().map(|&x| cap * (f64::from(x) / cap).tanh()).collect();
        // The quotient rounds once, which tanh does not magnify; tanh is within 8 half units in the last place; the
        // product rounds once.
        let bound = |y: &f64| y.abs() * 10.0 * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE);
        let tolerance = expected.iter().map(bound).collect();
        Case::with_tolerances(op, vec![CaseInput::f32(sizes, &x)], expected, tolerance)
    }
}
