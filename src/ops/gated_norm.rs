//! `gated_norm`: an RMS norm and a gate in one pass.

use serde::{Deserialize, Serialize};

use super::unary::UnaryKind;
use super::{RmsNorm, rule};
use crate::cpu::{CpuStep, Isa, StepError, vector};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `activation(gate) · rms_norm(x) · weight` for each row; `x` and `gate` are F32 of one shape, `weight` is `F32[n]` for
/// rows of `n`. `plan::fuse` makes it of the operators [`Gated`](super::Gated) and [`RmsNorm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatedNorm {
    /// The function of the gate.
    pub activation: UnaryKind,
    /// Prevents division by zero for a row of zeros.
    pub eps: f32,
}

impl<'g> Tensor<'g> {
    /// `activation(gate) · rms_norm(self) · weight`; see [`GatedNorm`].
    #[track_caller]
    pub fn gated_norm(
        self,
        weight: Tensor<'g>,
        gate: Tensor<'g>,
        activation: UnaryKind,
        eps: f32,
    ) -> Tensor<'g> {
        self.graph().apply(GatedNorm { activation, eps }, &[self, weight, gate])
    }
}

impl GatedNorm {
    /// Norms and gates one row in place.
    pub(super) fn row(&self, isa: Isa, row: &mut [f32], weight: &[f32], gate: &[f32]) {
        let mean = vector::sum_of(isa, row, |x| x * x) / row.len() as f32;
        let factor = 1.0 / (mean + self.eps).sqrt();
        vector::zip(isa, row, weight, |x, w| x * factor * w);
        self.activation.scale(isa, row, gate);
    }
}

impl Operator for GatedNorm {
    const NAME: &'static str = "gated_norm";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, _, gate] = inputs else {
            return Err(ShapeError::Arity { wanted: "3", found: inputs.len() });
        };
        if gate.shape.ne() != x.shape.ne() || gate.dtype != DType::F32 {
            return Err(ShapeError::rule("x and gate must be F32 of one shape", inputs));
        }
        rule::whole_rows(inputs)?;
        let output = rule::like_first(inputs)?;
        rule::vector(inputs, 1, DType::F32, output.shape.dim(0), "the weight")?;
        Ok(output)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, weight, gate) = (step.isa(), step.input(1).all::<f32>(), step.input(2));
        step.for_rows_of(0, |index, row| {
            self.row(isa, row, weight, gate.row(index));
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let args = [
            ("weight", Arg::Address(Which::Input(1), 0)),
            ("gate", Arg::Address(Which::Input(2), 0)),
            ("gate_at", Arg::Layout(Which::Input(2))),
            ("out", Arg::Address(Which::Output, 0)),
            ("kind", Arg::I32(self.activation.number())),
            ("eps", Arg::F32(self.eps)),
        ];
        super::reduce::launch_rows(lower, Variant::new("norm", "gated_norm"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 6 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let norm = RmsNorm::case(draw);
        let activation = draw.one_of(&[UnaryKind::Silu, UnaryKind::Sigmoid]);
        let eps = draw.one_of(&[1e-6, 1e-5]);
        let (x, n) = (&norm.inputs[0], norm.inputs[0].desc.shape.dim(0));
        let (w, gate) = (draw.values(n, 2.0), draw.values(x.desc.shape.elements(), 4.0));
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for (row, gate) in x.to_f32().chunks(n).zip(gate.chunks(n)) {
            let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            let root = (squares / n as f64 + f64::from(eps)).sqrt();
            for ((&x, &w), &gate) in row.iter().zip(&w).zip(gate) {
                let normed = f64::from(x) / root * f64::from(w);
                let factor = activation.exact(gate.into());
                expected.push(normed * factor);
                // The roundings of the norm, as in `rms_norm`, the function's error, and one product.
                let roundings = (n as f64 / 16.0 + 5.0) / 2.0 + 7.0;
                let of_gate = activation.tolerance(gate.into(), factor) * normed.abs();
                tolerance.push(
                    (normed * factor).abs() * roundings * 2f64.powi(-24)
                        + of_gate
                        + f64::from(f32::MIN_POSITIVE),
                );
            }
        }
        let inputs = vec![x.clone(), CaseInput::f32([n], &w).shared(), CaseInput::f32(x.desc.shape, &gate)];
        Case::with_tolerances(GatedNorm { activation, eps }, inputs, expected, tolerance)
    }
}
