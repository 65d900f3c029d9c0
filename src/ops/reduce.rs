//! `reduce_rows` and `layer_norm`: operators based on sums of rows.

use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::{CpuStep, StepError, vector};
use crate::device::{Arg, Lower, LowerError, NamedArg, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// The sum or mean of each row of an F32 tensor `[n, ...]`, as `[1, ...]`. Computed in 16 partial sums, element `i` in
/// sum `i % 16`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReduceRows {
    /// Divide sums by the row's length.
    pub mean: bool,
}

/// `(x - mean(x)) / √(var(x) + eps) · w + b` for each row (Ba et al. 2016); `b`, or `w` and `b`, are optional; all F32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Prevents division by zero for a row of equal elements.
    pub eps: f32,
}

impl<'g> Tensor<'g> {
    /// The sum of each row of `[n, ...]`, as `[1, ...]`.
    #[track_caller]
    pub fn sum_rows(self) -> Tensor<'g> {
        self.graph().apply(ReduceRows { mean: false }, &[self])
    }

    /// The mean of each row of `[n, ...]`, as `[1, ...]`.
    #[track_caller]
    pub fn mean_rows(self) -> Tensor<'g> {
        self.graph().apply(ReduceRows { mean: true }, &[self])
    }

    /// `(self - mean) / √(variance + eps) · weight + bias` for each row; weight and bias are `F32[n]`.
    #[track_caller]
    pub fn layer_norm(self, weight: Tensor<'g>, bias: Option<Tensor<'g>>, eps: f32) -> Tensor<'g> {
        let mut inputs = vec![self, weight];
        inputs.extend(bias);
        self.graph().apply(LayerNorm { eps }, &inputs)
    }
}

/// Launches a kernel of `kernels/rows.h`: a block for each row of the first input, with these arguments after
/// the input and its layout.
pub fn launch_rows(lower: &mut Lower<'_>, variant: Variant, args: &[NamedArg]) -> Result<(), LowerError> {
    let Some(x) = lower.inputs().first() else { return Ok(()) };
    let (n, rows) = (x.shape.dim(0), x.shape.rows());
    if rows == 0 {
        return Ok(());
    }
    if i32::try_from(n).is_err() {
        return Err(lower.unsupported(format!("rows of {n} elements; at most {} can be counted", i32::MAX)));
    }
    // Eight elements a thread: enough waves to hide latency, few enough to add their sums quickly.
    let threads = n.div_ceil(8).next_power_of_two().clamp(lower.target().wave as usize, 512);
    let mut all = vec![("x", Arg::Address(Which::Input(0), 0)), ("x_at", Arg::Layout(Which::Input(0)))];
    all.extend(args);
    lower.launch(variant, [rows, 1, 1], threads, &all)
}

/// The address of an optional input; null if it is absent.
pub fn optional_input(lower: &Lower<'_>, i: usize) -> Arg {
    if i < lower.inputs().len() { Arg::Address(Which::Input(i as u32), 0) } else { Arg::Null }
}

impl Operator for ReduceRows {
    const NAME: &'static str = "reduce_rows";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let input = rule::one(inputs)?;
        rule::like_first(inputs)?;
        rule::whole_rows(inputs)?;
        let [_, n1, n2, n3] = input.shape.ne();
        Ok(Desc::contiguous(DType::F32, [1, n1, n2, n3])?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, x) = (step.isa(), step.input(0));
        let divisor = if self.mean { x.dim(0) as f32 } else { 1.0 };
        step.for_rows(|row, out: &mut [f32]| {
            out.fill(vector::sum_of(isa, x.row(row), |x| x) / divisor);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let n = lower.inputs().first().map_or(1, |x| x.shape.dim(0));
        let divisor = if self.mean { n as f32 } else { 1.0 };
        let args = [("out", Arg::Address(Which::Output, 0)), ("divisor", Arg::F32(divisor))];
        launch_rows(lower, Variant::new("norm", "reduce_rows"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, inputs.first().map_or(0, |x| x.shape.elements() as u64))
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = ReduceRows { mean: draw.flag() };
        let (n, rows) = (draw.number(1..=200), draw.number(1..=4));
        let x = draw.values(n * rows, 5.0);
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for row in x.chunks(n) {
            let divisor = if op.mean { n as f64 } else { 1.0 };
            let exact = |f: fn(f64) -> f64| row.iter().map(|&x| f(x.into())).sum::<f64>() / divisor;
            expected.push(exact(|x| x));
            // One rounding for each addition of a partial sum, 4 to join the sums, one for the division, relative to
            // the sum of magnitudes.
            let bound = exact(f64::abs) * (n as f64 / 16.0 + 6.0) * 2f64.powi(-24);
            tolerance.push(bound + f64::from(f32::MIN_POSITIVE));
        }
        Case::with_tolerances(op, vec![CaseInput::f32([n, rows], &x)], expected, tolerance).with_rows_in(1)
    }
}

impl Operator for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        if !(1..=3).contains(&inputs.len()) {
            return Err(ShapeError::Arity { wanted: "1 to 3", found: inputs.len() });
        }
        let output = rule::like_first(inputs)?;
        for i in 1..inputs.len() {
            rule::vector(inputs, i, DType::F32, output.shape.dim(0), "weight and bias")?;
        }
        Ok(output)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let isa = step.isa();
        let vector_of = |i: usize| (step.n_inputs() > i).then(|| step.input(i).all::<f32>());
        let (weight, bias) = (vector_of(1), vector_of(2));
        step.for_rows_of(0, |_, row| {
            let n = row.len() as f32;
            let mean = vector::sum_of(isa, row, |x| x) / n;
            vector::map(isa, row, |x| x - mean);
            let factor = 1.0 / (vector::sum_of(isa, row, |x| x * x) / n + self.eps).sqrt();
            vector::map(isa, row, |x| x * factor);
            if let Some(weight) = weight {
                vector::zip(isa, row, weight, |x, w| x * w);
            }
            if let Some(bias) = bias {
                vector::zip(isa, row, bias, |x, b| x + b);
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let (weight, bias) = (optional_input(lower, 1), optional_input(lower, 2));
        let args = [
            ("weight", weight),
            ("bias", bias),
            ("out", Arg::Address(Which::Output, 0)),
            ("eps", Arg::F32(self.eps)),
        ];
        launch_rows(lower, Variant::new("norm", "layer_norm"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 7 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (n, rows, given) = (draw.number(1..=70), draw.number(1..=4), draw.number(0..=2));
        let op = LayerNorm { eps: draw.one_of(&[1e-5, 1e-2]) };
        let x = draw.values(n * rows, 2.0);
        let parameters = [draw.values(n, 2.0), draw.values(n, 2.0)];
        let parameter = |i: usize, j: usize, default: f64| {
            if given > i { f64::from(parameters[i][j]) } else { default }
        };
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for row in x.chunks(n) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
            let root = (variance + f64::from(op.eps)).sqrt();
            let largest = row.iter().fold(0.0, |m: f64, &x| m.max(f64::from(x).abs()));
            // The mean is off by d, one rounding of the largest magnitude for each addition; so is each difference, and
            // the root by no more. The rest rounds as in `rms_norm`.
            let roundings = n as f64 / 16.0 + 6.0;
            let shift = roundings * 2f64.powi(-24) * largest / root;
            for (j, &x) in row.iter().enumerate() {
                let (y, w, b) = ((f64::from(x) - mean) / root, parameter(0, j, 1.0), parameter(1, j, 0.0));
                expected.push(y * w + b);
                let error = shift * (1.0 + y.abs()) + y.abs() * (roundings + 8.0) * 2f64.powi(-24);
                let last = (y * w + b).abs() * 2f64.powi(-24);
                tolerance.push(error * w.abs() + last + f64::from(f32::MIN_POSITIVE));
            }
        }
        let mut inputs = vec![CaseInput::f32([n, rows], &x)];
        inputs.extend(parameters.iter().take(given).map(|values| CaseInput::f32([n], values).shared()));
        Case::with_tolerances(op, inputs, expected, tolerance)
    }
}
