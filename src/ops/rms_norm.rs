//! `rms_norm`: rows divided by their root mean square (Zhang and Sennrich 2019).

use serde::{Deserialize, Serialize};

use super::reduce::{launch_rows, optional_input};
use super::rule;
use crate::cpu::{CpuStep, StepError, vector};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `x / √(mean(x²) + eps) · w` for each row of `x`; `w`, one factor for each element of a row, is optional. All F32.
///
/// The squares are added in 16 partial sums, element `i` to sum `i % 16`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RmsNorm {
    /// Prevents division by zero for a row of zeros.
    pub eps: f32,
}

impl<'g> Tensor<'g> {
    /// `self / √(mean(self²) + eps) · weight` for each row; `weight` is `F32[n]` for rows of `n`.
    #[track_caller]
    pub fn rms_norm(self, weight: Tensor<'g>, eps: f32) -> Tensor<'g> {
        self.graph().apply(RmsNorm { eps }, &[self, weight])
    }

    /// `self / √(mean(self²) + eps)` for each row.
    #[track_caller]
    pub fn rms_norm_plain(self, eps: f32) -> Tensor<'g> {
        self.graph().apply(RmsNorm { eps }, &[self])
    }
}

impl Operator for RmsNorm {
    const NAME: &'static str = "rms_norm";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        if !(1..=2).contains(&inputs.len()) {
            return Err(ShapeError::Arity { wanted: "1 or 2", found: inputs.len() });
        }
        let output = rule::like_first(inputs)?;
        if inputs.len() == 2 {
            rule::vector(inputs, 1, DType::F32, output.shape.dim(0), "the weight")?;
        }
        Ok(output)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let isa = step.isa();
        let weight = (step.n_inputs() == 2).then(|| step.input(1).all::<f32>());
        step.for_rows_of(0, |_, row| {
            let mean = vector::sum_of(isa, row, |x| x * x) / row.len() as f32;
            let factor = 1.0 / (mean + self.eps).sqrt();
            match weight {
                Some(weight) => vector::zip(isa, row, weight, |x, w| x * factor * w),
                None => vector::map(isa, row, |x| x * factor),
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let args = [
            ("weight", optional_input(lower, 1)),
            ("out", Arg::Address(Which::Output, 0)),
            ("eps", Arg::F32(self.eps)),
        ];
        launch_rows(lower, Variant::new("norm", "rms_norm"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 4 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let n = draw.number(1..=70);
        let rows = [draw.number(1..=4), draw.number(1..=3)];
        let op = RmsNorm { eps: draw.one_of(&[1e-6, 1e-5]) };
        let (scale, weighted) = (draw.one_of(&[1.0, 1e-3, 1e3]), draw.flag());
        let x = draw.values(n * rows[0] * rows[1], scale);
        let w = if weighted { draw.values(n, 2.0) } else { vec![1.0; n] };
        let mut expected = Vec::with_capacity(x.len());
        for row in x.chunks(n) {
            let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            let root = (squares / n as f64 + f64::from(op.eps)).sqrt();
            expected.extend(row.iter().zip(&w).map(|(&x, &w)| f64::from(x) / root * f64::from(w)));
        }
        // A sum of positive terms is off by one rounding for each addition, relative to itself; the root halves that;
        // then the mean, eps, root, reciprocal and two products round once each.
        let roundings = (n as f64 / 16.0 + 5.0) / 2.0 + 6.0;
        let unit = roundings * 2f64.powi(-24);
        let tolerance = expected.iter().map(|y| y.abs() * unit + f64::from(f32::MIN_POSITIVE)).collect();
        let mut inputs = vec![CaseInput::f32([n, rows[0], rows[1]], &x)];
        if weighted {
            inputs.push(CaseInput::f32([n], &w).shared());
        }
        Case::with_tolerances(op, inputs, expected, tolerance)
    }
}
