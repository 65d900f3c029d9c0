//! `add`, `sub`, `mul`, `div`: elementwise arithmetic, with the second operand broadcast.

use serde::{Deserialize, Serialize};

use super::pieces::{Pieces, are_flat};
use crate::cpu::{CpuStep, StepError};
pub use crate::device::BinaryKind;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `a ∘ b`, both F32. `b` is repeated along each dimension where its size divides `a`'s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binary {
    /// The kind of arithmetic.
    pub kind: BinaryKind,
}

impl<'g> Tensor<'g> {
    /// `self + other`; both F32, `other` repeated where its sizes divide `self`'s.
    #[track_caller]
    #[allow(clippy::should_implement_trait, reason = "the trait's method cannot report the caller's line")]
    pub fn add(self, other: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(Binary { kind: BinaryKind::Add }, &[self, other])
    }

    /// `self - other`; see [`Tensor::add`].
    #[track_caller]
    #[allow(clippy::should_implement_trait, reason = "the trait's method cannot report the caller's line")]
    pub fn sub(self, other: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(Binary { kind: BinaryKind::Sub }, &[self, other])
    }

    /// The elementwise `self · other`; see [`Tensor::add`].
    #[track_caller]
    #[allow(clippy::should_implement_trait, reason = "the trait's method cannot report the caller's line")]
    pub fn mul(self, other: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(Binary { kind: BinaryKind::Mul }, &[self, other])
    }

    /// `self / other`; see [`Tensor::add`].
    #[track_caller]
    #[allow(clippy::should_implement_trait, reason = "the trait's method cannot report the caller's line")]
    pub fn div(self, other: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(Binary { kind: BinaryKind::Div }, &[self, other])
    }
}

impl Operator for Binary {
    const NAME: &'static str = "binary";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [a, b] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        if a.dtype != DType::F32 || b.dtype != DType::F32 {
            return Err(ShapeError::rule("both operands must be F32 (use `cast`)", inputs));
        }
        let divides = |(&a, &b): (&usize, &usize)| a % b == 0;
        if !a.shape.ne().iter().zip(&b.shape.ne()).all(divides) {
            return Err(ShapeError::rule("the second operand's sizes must divide the first's", inputs));
        }
        Ok(Desc::contiguous(DType::F32, a.shape)?)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let b = step.input(1);
        let n = b.dim(0);
        match self.kind {
            BinaryKind::Add => zip(step, n, |a, b| a + b),
            BinaryKind::Sub => zip(step, n, |a, b| a - b),
            BinaryKind::Mul => zip(step, n, |a, b| a * b),
            BinaryKind::Div => zip(step, n, |a, b| a / b),
        }
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [a, b] = lower.inputs() else { return Ok(()) };
        let single = a.is_contiguous() && b.shape.elements() == 1;
        let flat = single || are_flat(lower.inputs());
        // If everything is one row, `b` is only repeated if it is a single element.
        let b_row = if flat && !single { b.shape.elements() } else { b.shape.dim(0) };
        let pieces = Pieces::of(lower, a.shape, flat, 4);
        let [n, per_row, flat] = pieces.args();
        let args = [
            ("a", Arg::Address(Which::Input(0), 0)),
            ("a_at", Arg::Layout(Which::Input(0))),
            ("b", Arg::Address(Which::Input(1), 0)),
            ("b_at", Arg::Layout(Which::Input(1))),
            ("b_n", Arg::I64(b_row as i64)),
            ("out", Arg::Address(Which::Output, 0)),
            n,
            per_row,
            flat,
            ("kind", Arg::I32(self.kind.number())),
        ];
        pieces.launch(lower, Variant::new("elementwise", "binary"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let kind = draw.one_of(&[BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div]);
        let b_sizes = [(); 4].map(|()| draw.number(1..=5));
        let a_sizes = b_sizes.map(|b| b * draw.number(1..=3));
        let a = draw.values(a_sizes.iter().product(), 4.0);
        let mut b = draw.values(b_sizes.iter().product(), 4.0);
        if kind == BinaryKind::Div {
            b.iter_mut().for_each(|b| *b = b.abs() + 0.5);
        }
        let mut expected = Vec::with_capacity(a.len());
        for (i, &a) in a.iter().enumerate() {
            let (mut rest, mut at, mut step) = (i, 0, 1);
            for (a_size, b_size) in a_sizes.iter().zip(b_sizes) {
                at += rest % a_size % b_size * step;
                rest /= a_size;
                step *= b_size;
            }
            let (a, b) = (f64::from(a), f64::from(b[at]));
            expected.push(match kind {
                BinaryKind::Add => a + b,
                BinaryKind::Sub => a - b,
                BinaryKind::Mul => a * b,
                BinaryKind::Div => a / b,
            });
        }
        // One correctly rounded operation: half a unit in the last place of F32.
        let tolerance =
            expected.iter().map(|x: &f64| x.abs() * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE)).collect();
        let inputs = vec![CaseInput::f32(a_sizes, &a), CaseInput::f32(b_sizes, &b)];
        Case::with_tolerances(Binary { kind }, inputs, expected, tolerance)
    }
}

/// Applies `f` to each element of the first operand and its counterpart, for rows of `n` elements.
fn zip(step: &CpuStep<'_>, n: usize, f: impl Fn(f32, f32) -> f32) -> Result<(), StepError> {
    let b = step.input(1);
    let contiguous = b.desc().rows_are_contiguous();
    step.for_spans(0, |span, out| {
        if n == 1 {
            let mut partner = [0.0];
            b.load(0, span.row, &mut partner)?;
            out.iter_mut().for_each(|a| *a = f(*a, partner[0]));
        } else if n == step.output().shape.dim(0) && contiguous {
            let partner = &b.row::<f32>(span.row)[span.elements.clone()];
            out.iter_mut().zip(partner).for_each(|(a, &b)| *a = f(*a, b));
        } else {
            for (a, i) in out.iter_mut().zip(span.elements.clone()) {
                let mut partner = [0.0];
                b.load(i % n, span.row, &mut partner)?;
                *a = f(*a, partner[0]);
            }
        }
        Ok(())
    })
}
