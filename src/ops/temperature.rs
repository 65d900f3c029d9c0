//! `temperature`: scales queries with their tokens' positions, so that attention over a long context stays sharp.

use serde::{Deserialize, Serialize};

use super::pieces::Pieces;
use super::rule;
use crate::cpu::{CpuStep, StepError};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `x · (1 + scale · ln(1 + ⌊position / length⌋))`: F32 `[head_dim, n_head, n_tokens]` with the positions
/// `I32[n_tokens]`. Negative positions count as 0.
///
/// Llama 4's "inference time temperature scaling" (Meta, "The Llama 4 herd", 2025), after Nakanishi, "Scalable-Softmax
/// Is Superior for Attention", 2025; also used by Ministral 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// The factor of the logarithm.
    pub scale: f32,
    /// The number of positions with the same factor.
    pub length: usize,
}

impl<'g> Tensor<'g> {
    /// `self · (1 + scale · ln(1 + ⌊position / length⌋))`: queries F32 `[head_dim, n_head, n_tokens]` with the
    /// positions of their tokens, `I32[n_tokens]`.
    #[track_caller]
    pub fn temperature(self, positions: Tensor<'g>, scale: f32, length: usize) -> Tensor<'g> {
        self.graph().apply(Temperature { scale, length }, &[self, positions])
    }
}

impl Temperature {
    /// The factor at a position.
    fn factor(&self, position: i32) -> f64 {
        // A position is below 2³¹, so with a greater length the factor is constant.
        let steps = position.max(0) as usize / self.length.max(1);
        1.0 + f64::from(self.scale) * (1.0 + steps as f64).ln()
    }
}

impl Operator for Temperature {
    const NAME: &'static str = "temperature";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, _] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        if x.shape.dim(3) != 1 {
            return Err(ShapeError::rule("the first input must be [head_dim, n_head, n_tokens]", inputs));
        }
        if self.length == 0 {
            return Err(ShapeError::rule("length is 0; it must be above 0", inputs));
        }
        rule::vector(inputs, 1, DType::I32, x.shape.dim(2), "the positions")?;
        rule::like_first(inputs)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let positions = step.input(1).all::<i32>();
        step.for_rows_of(0, |(_, token, _), row: &mut [f32]| {
            let factor = self.factor(positions.get(token).copied().unwrap_or(0)) as f32;
            row.iter_mut().for_each(|x| *x *= factor);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let pieces = Pieces::of(lower, lower.output().shape, false, 4);
        let [n, per_row, flat] = pieces.args();
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("x_at", Arg::Layout(Which::Input(0))),
            ("positions", Arg::Address(Which::Input(1), 0)),
            ("out", Arg::Address(Which::Output, 0)),
            n,
            per_row,
            flat,
            ("scale", Arg::F32(self.scale)),
            ("length", Arg::I32(i32::try_from(self.length).unwrap_or(i32::MAX))),
        ];
        pieces.launch(lower, Variant::new("elementwise", "temperature"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = Temperature { scale: draw.one_of(&[0.1, 1.0, 0.0]), length: draw.one_of(&[1, 7, 8192]) };
        let sizes = [draw.one_of(&[1, 5, 64, 1025]), draw.number(1..=3), draw.number(1..=4)];
        let positions: Vec<i32> =
            (0..sizes[2]).map(|_| draw.one_of(&[0, 1, 6, 7, 8191, 8192, 1_000_003, -1])).collect();
        let x = draw.values(sizes.iter().product(), 4.0);
        let of_token = |i: usize| op.factor(positions[i / (sizes[0] * sizes[1])]);
        let expected: Vec<f64> = x.iter().enumerate().map(|(i, &x)| f64::from(x) * of_token(i)).collect();
        // The factor rounds to F32, and the product once more.
        let bound = |y: &f64| 2.1 * y.abs() * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE);
        let tolerance = expected.iter().map(bound).collect();
        // On a GPU the logarithm is in F32 (2 units in the last place in the vendors' tables) and rounds in the factor:
        // 4 + 2 half units of the factor, and the product's.
        let device = expected.iter().map(|y| 7.1 / 2.1 * bound(y)).collect();
        let inputs = vec![CaseInput::f32(sizes, &x), CaseInput::i32([sizes[2]], &positions)];
        Case::with_tolerances(op, inputs, expected, tolerance).with_device_tolerance(device)
    }
}
