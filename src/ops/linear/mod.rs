//! `linear`: activations times a weight matrix of any block format, with an optional bias and residual.

pub(in crate::ops) mod gpu;

use serde::{Deserialize, Serialize};

use self::gpu::{FEW_TOKENS as FEW_TOKENS_OF_GPU, Products};
use crate::cpu::{CpuKernel, CpuStep, CpuTarget, Product, StepError};
use crate::device::{Lower, LowerError, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc, Shape};

/// `y = x · Wᵀ (+ bias) (+ residual)`: inputs `W [k, n_out]` (any dtype but I32), `x` F32 `[k, …]`, then optionally the
/// bias F32 `[n_out]` and the residual F32 `[n_out, …]`. Output F32 `[n_out, …]`.
///
/// A weight in a block format is multiplied with activations quantized to eight bits: on a CPU always, on a GPU for few
/// tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// True if the bias is an input.
    pub bias: bool,
    /// True if the residual is an input.
    pub residual: bool,
}

impl<'g> Tensor<'g> {
    /// `self · weightᵀ`: `self` F32 `[k, …]`, `weight` `[k, n_out]`, the result F32 `[n_out, …]`.
    #[track_caller]
    pub fn linear(self, weight: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(Linear { bias: false, residual: false }, &[weight, self])
    }
}

impl Linear {
    fn arity(&self) -> usize {
        2 + usize::from(self.bias) + usize::from(self.residual)
    }

    fn bias_input(&self) -> Option<usize> {
        self.bias.then_some(2)
    }

    fn residual_input(&self) -> Option<usize> {
        self.residual.then(|| self.arity() - 1)
    }
}

impl Operator for Linear {
    const NAME: &'static str = "linear";

    fn defaults() -> Option<Linear> {
        Some(Linear { bias: false, residual: false })
    }

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        if inputs.len() != self.arity() {
            return Err(ShapeError::Arity {
                wanted: "weight, x and what the attributes say",
                found: inputs.len(),
            });
        }
        let (weight, x) = (&inputs[0], &inputs[1]);
        let (k, n_out) = (weight.shape.dim(0), weight.shape.dim(1));
        if !weight.dtype.is_float() || weight.shape.rows() != n_out || !weight.is_contiguous() {
            return Err(ShapeError::rule("the weight must be a matrix of real numbers without gaps", inputs));
        }
        if x.dtype != DType::F32 || !x.is_contiguous() {
            return Err(ShapeError::rule("x must be F32 without gaps (use `cast` or `copy`)", inputs));
        }
        if x.shape.dim(0) != k {
            let rule = format!("rows of x have {} elements, those of the weight {k}", x.shape.dim(0));
            return Err(ShapeError::rule(rule, inputs));
        }
        let mut sizes = x.shape.ne();
        sizes[0] = n_out;
        let shape = Shape::new(&sizes[..x.shape.rank()]).unwrap_or(x.shape);
        let output = Desc::contiguous(DType::F32, shape)?;
        let bias = self.bias_input().map(|i| inputs[i].shape.ne() == [n_out, 1, 1, 1]);
        let residual = self.residual_input().map(|i| inputs[i].shape.ne() == output.shape.ne());
        let plain = inputs[2..].iter().all(|desc| desc.dtype == DType::F32 && desc.is_contiguous());
        if bias == Some(false) || residual == Some(false) || !plain {
            let rule = format!("bias and residual must be F32 without gaps, of shape [{n_out}] and {shape}");
            return Err(ShapeError::rule(rule, inputs));
        }
        Ok(output)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        match self.residual_input() {
            Some(input) => Memory::InPlace(input),
            None => Memory::Fresh,
        }
    }

    fn cpu_kernel(&self, inputs: &[Desc], target: CpuTarget) -> Option<CpuKernel> {
        let (weight, x) = (&inputs[0], &inputs[1]);
        Some(CpuKernel::of_product(weight.dtype, weight.shape.dim(0), x.shape.rows(), target))
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        step.product(Product { weight: 0, x: 1, bias: self.bias_input(), residual: self.residual_input() })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [weight, x, ..] = lower.inputs() else { return Ok(()) };
        if lower.output().shape.elements() == 0 {
            return Ok(());
        }
        let place = |input: usize| (Which::Input(input as u32), 0);
        let products = Products {
            dtype: weight.dtype,
            k: weight.shape.dim(0),
            tokens: x.shape.rows(),
            weights: &[(place(0), weight.shape.dim(1))],
            gate: None,
            bias: self.bias_input().map(place),
            residual: self.residual_input().map(place),
        };
        products.of_floats(lower, place(1))
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let products = inputs[0].shape.elements() as u64 * inputs[1].shape.rows() as u64;
        Cost::streaming(inputs, output, 2 * products)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let all: Vec<DType> = DType::all().filter(|dtype| dtype.is_float()).collect();
        let dtype = draw.one_of(&all);
        let blocks = draw.number(1..=(512 / dtype.block_elements()).min(70));
        let (k, n_out) = (blocks * dtype.block_elements(), draw.number(1..=37));
        let tokens = draw.one_of(&[1, 2, 3, 8, 9, 17]);
        let op = Linear { bias: draw.flag(), residual: draw.flag() };
        let weight = CaseInput::bytes(dtype, [k, n_out], draw.blocks(dtype, k * n_out)).shared();
        let w = weight.to_f32();
        let x = draw.values(k * tokens, 2.0);
        let bias = if op.bias { draw.values(n_out, 1.0) } else { vec![0.0; n_out] };
        let residual = if op.residual { draw.values(n_out * tokens, 1.0) } else { vec![0.0; n_out * tokens] };
        let (mut expected, mut tolerance, mut device) = (Vec::new(), Vec::new(), Vec::new());
        for (t, x) in x.chunks(k).enumerate() {
            for (r, w) in w.chunks(k).enumerate() {
                let terms = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
                let rest = [f64::from(bias[r]), f64::from(residual[t * n_out + r])];
                let size = terms.clone().map(f64::abs).sum::<f64>() + rest[0].abs() + rest[1].abs();
                expected.push(terms.sum::<f64>() + rest[0] + rest[1]);
                // A sum of k products in F32, in any order, has at most k roundings of the whole. Twice that, for the
                // scale factors.
                let rounding = 2.0 * (k as f64 + 8.0) * 2f64.powi(-24) * size;
                tolerance.push(quantization(dtype, w, x) + rounding + 1e-30);
                let operands = match tokens <= FEW_TOKENS_OF_GPU {
                    true => quantization(dtype, w, x),
                    false => halves(dtype, w, x),
                };
                device.push(operands + rounding + 1e-30);
            }
        }
        let mut inputs = vec![weight, CaseInput::f32([k, tokens], &x)];
        inputs.extend(op.bias.then(|| CaseInput::f32([n_out], &bias).shared()));
        inputs.extend(op.residual.then(|| CaseInput::f32([n_out, tokens], &residual)));
        Case::with_tolerances(op, inputs, expected, tolerance).with_device_tolerance(device)
    }
}

/// The error of a product due to operands of 16 bits. F16 has 11 significant bits, so each operand is off by up to 2⁻¹¹
/// of itself, or by half of the smallest subnormal number, 2⁻²⁵; BF16 has 8 bits (2⁻⁸), and a weight of that type is exact.
/// Zero for F32 weights, which are multiplied in F32.
pub(in crate::ops) fn halves(dtype: DType, w: &[f32], x: &[f32]) -> f64 {
    let (relative, smallest) = match dtype {
        DType::F32 => return 0.0,
        DType::BF16 => (2f64.powi(-8), 0.0),
        // The second-order term is below the last digit of this sum.
        _ => (2.002 * 2f64.powi(-11), 2f64.powi(-25)),
    };
    let off = |(&w, &x): (&f32, &f32)| {
        let (w, x) = (f64::from(w.abs()), f64::from(x.abs()));
        relative * w * x + smallest * (w + x + smallest)
    };
    w.iter().zip(x).map(off).sum()
}

/// The error of a product due to quantizing activations to eight bits: half a step for each of 32 adjacent elements,
/// where a step is 1/127 of the largest. Zero for plain weights, whose activations stay F32.
pub(in crate::ops) fn quantization(dtype: DType, w: &[f32], x: &[f32]) -> f64 {
    if dtype.is_plain() {
        return 0.0;
    }
    let blocks = w.chunks(32).zip(x.chunks(32));
    blocks
        .map(|(w, x)| {
            let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            // The half step is itself rounded in F32; 1 % covers that.
            let half_step = f64::from(largest) / 127.0 * 0.505;
            w.iter().map(|w| f64::from(w.abs()) * half_step).sum::<f64>()
        })
        .sum()
}
