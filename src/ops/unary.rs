//! `unary`: a function of each element, including the activation functions.

use serde::{Deserialize, Serialize};

use super::pieces::{Pieces, are_flat};
use super::rule;
use crate::cpu::{CpuStep, Isa, StepError, math, vector};
pub use crate::device::UnaryKind;
use crate::device::{Arg, Lower, LowerError, NamedArg, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// A function of each element of an F32 tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unary {
    /// The function.
    pub kind: UnaryKind,
}

/// `act(gate) · up`, both F32 of the same shape: the gated linear units of Shazeer 2020.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gated {
    /// The function of the gate.
    pub activation: UnaryKind,
}

/// Evaluates an expression with the function of a kind; the expression's loops are compiled once per function.
macro_rules! with_function {
    ($kind:expr, $f:ident => $use:expr) => {
        match $kind {
            UnaryKind::Silu => {
                let $f = math::silu;
                $use
            }
            UnaryKind::Gelu => {
                let $f = math::gelu;
                $use
            }
            UnaryKind::GeluErf => {
                let $f = math::gelu_erf;
                $use
            }
            UnaryKind::GeluQuick => {
                let $f = math::gelu_quick;
                $use
            }
            UnaryKind::Relu => {
                let $f = |x: f32| if x < 0.0 { 0.0 } else { x };
                $use
            }
            UnaryKind::ReluSqr => {
                let $f = |x: f32| if x < 0.0 { 0.0 } else { x * x };
                $use
            }
            UnaryKind::Sigmoid => {
                let $f = math::sigmoid;
                $use
            }
            UnaryKind::Tanh => {
                let $f = math::tanh;
                $use
            }
            UnaryKind::Exp => {
                let $f = math::exp;
                $use
            }
            UnaryKind::Neg => {
                let $f = |x: f32| -x;
                $use
            }
            UnaryKind::Abs => {
                let $f = f32::abs;
                $use
            }
            UnaryKind::Sqr => {
                let $f = |x: f32| x * x;
                $use
            }
            UnaryKind::Softplus => {
                let $f = math::softplus;
                $use
            }
            UnaryKind::Sqrt => {
                let $f = f32::sqrt;
                $use
            }
        }
    };
}

/// Adds the kernel that applies a function of this number to each element of the first input.
pub(super) fn launch_unary(
    lower: &mut Lower<'_>,
    kind: i32,
    factor: f32,
    bias: f32,
) -> Result<(), LowerError> {
    let pieces = Pieces::of(lower, lower.output().shape, are_flat(lower.inputs()), 4);
    let [n, per_row, flat] = pieces.args();
    let args = [
        ("x", Arg::Address(Which::Input(0), 0)),
        ("x_at", Arg::Layout(Which::Input(0))),
        ("out", Arg::Address(Which::Output, 0)),
        n,
        per_row,
        flat,
        ("kind", Arg::I32(kind)),
        ("factor", Arg::F32(factor)),
        ("bias", Arg::F32(bias)),
    ];
    pieces.launch(lower, Variant::new("elementwise", "unary"), &args)
}

/// Launches a kernel of `kernels/elementwise.hip` that computes each element from one of a gate and one of `up`, with
/// `args` after the layouts.
pub(super) fn launch_gated(
    lower: &mut Lower<'_>,
    entry: &'static str,
    rest: &[NamedArg],
) -> Result<(), LowerError> {
    let flat = are_flat(lower.inputs());
    let pieces = Pieces::of(lower, lower.output().shape, flat, 4);
    let mut args = vec![
        ("gate", Arg::Address(Which::Input(0), 0)),
        ("gate_at", Arg::Layout(Which::Input(0))),
        ("up", Arg::Address(Which::Input(1), 0)),
        ("up_at", Arg::Layout(Which::Input(1))),
        ("out", Arg::Address(Which::Output, 0)),
    ];
    args.extend(pieces.args());
    args.extend_from_slice(rest);
    pieces.launch(lower, Variant::new("elementwise", entry), &args)
}

impl UnaryKind {
    fn map(self, isa: Isa, x: &mut [f32]) {
        with_function!(self, f => vector::map(isa, x, f));
    }

    pub(super) fn gate(self, isa: Isa, gate: &mut [f32], up: &[f32]) {
        with_function!(self, f => vector::zip(isa, gate, up, |x, up| f(x) * up));
    }

    /// `x[i] *= f(gate[i])`.
    pub(super) fn scale(self, isa: Isa, x: &mut [f32], gate: &[f32]) {
        with_function!(self, f => vector::zip(isa, x, gate, |x, gate| f(gate) * x));
    }

    /// The function in f64.
    pub(super) fn exact(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            UnaryKind::Silu => x * sigmoid(x),
            UnaryKind::Gelu => {
                0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x.powi(3))).tanh())
            }
            UnaryKind::GeluErf => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
            UnaryKind::GeluQuick => x * sigmoid(1.702 * x),
            UnaryKind::Relu => x.max(0.0),
            UnaryKind::ReluSqr => x.max(0.0) * x.max(0.0),
            UnaryKind::Sigmoid => sigmoid(x),
            UnaryKind::Tanh => x.tanh(),
            UnaryKind::Exp => x.exp(),
            UnaryKind::Neg => -x,
            UnaryKind::Abs => x.abs(),
            UnaryKind::Sqr => x * x,
            UnaryKind::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            UnaryKind::Sqrt => x.sqrt(),
        }
    }

    /// The allowed error of the function at `x`, where its value is `y`.
    pub(super) fn tolerance(self, x: f64, y: f64) -> f64 {
        // Roundings: of the argument of exp, multiplied by the argument, and after exp.
        let (argument, after) = match self {
            UnaryKind::Silu | UnaryKind::Sigmoid => (0.0, 6.0),
            UnaryKind::Gelu => (4.0 * 1.6 * x.abs() * (1.0 + 0.045 * x * x), 6.0),
            UnaryKind::GeluQuick => (2.0 * 1.702 * x.abs(), 6.0),
            UnaryKind::Tanh | UnaryKind::Softplus => (0.0, 8.0),
            UnaryKind::Exp => (0.0, 4.0),
            UnaryKind::Relu | UnaryKind::Neg | UnaryKind::Abs => (0.0, 0.0),
            UnaryKind::ReluSqr | UnaryKind::Sqr | UnaryKind::Sqrt => (0.0, 1.0),
            // The formula's own error, and 8 roundings of numbers up to 1.
            UnaryKind::GeluErf => return x.abs() * 6e-7 + f64::from(f32::MIN_POSITIVE),
        };
        y.abs() * (argument + after) * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE)
    }
}

/// The error function by its Taylor series; for |x| up to 3 its terms cancel at most 4 digits of 16.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// Methods that apply one kind.
macro_rules! methods {
    ($($(#[$meta:meta])* $name:ident = $kind:ident;)*) => {
        impl<'g> Tensor<'g> {
            /// A function of each element.
            #[track_caller]
            pub fn unary(self, kind: UnaryKind) -> Tensor<'g> {
                self.graph().apply(Unary { kind }, &[self])
            }

            $($(#[$meta])*
            #[track_caller]
            pub fn $name(self) -> Tensor<'g> {
                self.unary(UnaryKind::$kind)
            })*

            /// `activation(self) · up`.
            #[track_caller]
            pub fn gated(self, up: Tensor<'g>, activation: UnaryKind) -> Tensor<'g> {
                self.graph().apply(Gated { activation }, &[self, up])
            }

            /// `silu(self) · up`.
            #[track_caller]
            pub fn swiglu(self, up: Tensor<'g>) -> Tensor<'g> {
                self.gated(up, UnaryKind::Silu)
            }
        }
    };
}

methods! {
    /// x·σ(x) of each element.
    silu = Silu;
    /// The Gaussian error linear unit of each element, in its tanh form.
    gelu = Gelu;
    /// The Gaussian error linear unit x·Φ(x) of each element.
    gelu_erf = GeluErf;
    /// x·σ(1.702·x) of each element.
    gelu_quick = GeluQuick;
    /// max(x, 0) of each element.
    relu = Relu;
    /// max(x, 0)² of each element.
    relu_sqr = ReluSqr;
    /// 1 / (1 + e⁻ˣ) of each element.
    sigmoid = Sigmoid;
    /// The hyperbolic tangent of each element.
    tanh = Tanh;
    /// eˣ of each element.
    exp = Exp;
    /// |x| of each element.
    abs = Abs;
    /// x² of each element.
    sqr = Sqr;
    /// ln(1 + eˣ) of each element.
    softplus = Softplus;
    /// √x of each element.
    sqrt = Sqrt;
}

impl Operator for Unary {
    const NAME: &'static str = "unary";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        rule::one(inputs)?;
        rule::like_first(inputs)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        step.for_spans(0, |_, out| {
            self.kind.map(step.isa(), out);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        launch_unary(lower, self.kind.number(), 0.0, 0.0)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let kind = draw.one_of(UnaryKind::ALL);
        let sizes = [draw.one_of(&[1, 7, 16, 33, 5000]), draw.number(1..=3), draw.number(1..=2)];
        let mut x = draw.values(sizes.iter().product(), 4.0);
        if kind == UnaryKind::Sqrt {
            x.iter_mut().for_each(|x| *x = x.abs());
        }
        let expected: Vec<f64> = x.iter().map(|&x| kind.exact(x.into())).collect();
        let pairs = x.iter().zip(&expected);
        let tolerance = pairs.map(|(&x, &y)| kind.tolerance(x.into(), y)).collect();
        Case::with_tolerances(Unary { kind }, vec![CaseInput::f32(sizes, &x)], expected, tolerance)
    }
}

impl Operator for Gated {
    const NAME: &'static str = "gated";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [gate, up] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        if gate.shape.ne() != up.shape.ne() || up.dtype != DType::F32 {
            return Err(ShapeError::rule("gate and up must be F32 of one shape", inputs));
        }
        rule::whole_rows(inputs)?;
        rule::like_first(inputs)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let up = step.input(1);
        step.for_spans(0, |span, gate| {
            self.activation.gate(step.isa(), gate, &up.row(span.row)[span.elements.clone()]);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        launch_gated(lower, "gated", &[("kind", Arg::I32(self.activation.number()))])
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 2 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        // All but the square root, as gates may be negative.
        let activation = draw.one_of(&UnaryKind::ALL[..UnaryKind::ALL.len() - 1]);
        let sizes = [draw.one_of(&[1, 7, 16, 33, 5000]), draw.number(1..=3)];
        let gate = draw.values(sizes.iter().product(), 4.0);
        let up = draw.values(gate.len(), 4.0);
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for (&gate, &up) in gate.iter().zip(&up) {
            let (gate, up) = (f64::from(gate), f64::from(up));
            let y = activation.exact(gate);
            expected.push(y * up);
            // The function's error and one rounding of the product.
            let bound = (activation.tolerance(gate, y) + y.abs() * 2f64.powi(-24)) * up.abs();
            tolerance.push(bound + f64::from(f32::MIN_POSITIVE));
        }
        let inputs = vec![CaseInput::f32(sizes, &gate), CaseInput::f32(sizes, &up)];
        Case::with_tolerances(Gated { activation }, inputs, expected, tolerance)
    }
}
