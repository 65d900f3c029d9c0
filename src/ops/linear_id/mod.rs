//! `linear_id`: activations times the matrices of the experts that their tokens selected.

mod gpu;

use serde::{Deserialize, Serialize};

use self::gpu::{ById, is_grouped};
use super::linear::{halves, quantization};
use crate::cpu::{CpuKernel, CpuStep, CpuTarget, ProductId, StepError};
use crate::device::{Lower, LowerError};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `y[·, u, t] = W[·, ·, ids[u, t]]ᵀ · x[·, u, t] (+ bias[·, ids[u, t]])`: inputs `W [k, n_out, n_expert]` (any dtype
/// but I32), `x` F32 `[k, n_used, n_tokens]`, or `[k, 1, n_tokens]` for all of a token's experts, the experts I32
/// `[n_used, n_tokens]`, then optionally the bias F32 `[n_out, n_expert]`. Output F32 `[n_out, n_used, n_tokens]`.
///
/// A weight in a block format is multiplied with activations quantized to eight bits: on a CPU always, on a GPU for few
/// tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearId {
    /// True if the bias is an input.
    pub bias: bool,
}

impl<'g> Tensor<'g> {
    /// `self`, F32 `[k, n_used, n_tokens]` or `[k, 1, n_tokens]`, times the matrices `ids`, I32 `[n_used, n_tokens]`,
    /// of `weight`, `[k, n_out, n_expert]`: F32 `[n_out, n_used, n_tokens]`. An expert out of range fails the run.
    #[track_caller]
    pub fn linear_id(self, weight: Tensor<'g>, ids: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(LinearId { bias: false }, &[weight, self, ids])
    }

    /// Like [`Tensor::linear_id`], plus each expert's own bias, F32 `[n_out, n_expert]`.
    #[track_caller]
    pub fn linear_id_bias(self, weight: Tensor<'g>, ids: Tensor<'g>, bias: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(LinearId { bias: true }, &[weight, self, ids, bias])
    }
}

impl Operator for LinearId {
    const NAME: &'static str = "linear_id";

    fn defaults() -> Option<LinearId> {
        Some(LinearId { bias: false })
    }

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let fits = inputs.len() == 3 + usize::from(self.bias);
        let Some([weight, x, ids]) = inputs.first_chunk().filter(|_| fits) else {
            let wanted = "weight, x, the experts and what the attribute says";
            return Err(ShapeError::Arity { wanted, found: inputs.len() });
        };
        let [k, n_out, n_expert, n3] = weight.shape.ne();
        let [n_used, n_tokens, ..] = ids.shape.ne();
        if !weight.dtype.is_float() || n3 != 1 || !weight.is_contiguous() {
            let rule = "the weight must be [k, n_out, n_expert] real numbers without gaps";
            return Err(ShapeError::rule(rule, inputs));
        }
        if ids.dtype != DType::I32 || ids.shape.rows() != n_tokens || !ids.is_contiguous() {
            return Err(ShapeError::rule("the experts must be I32 [n_used, n_tokens] without gaps", inputs));
        }
        let rows = [[k, n_used, n_tokens, 1], [k, 1, n_tokens, 1]];
        if x.dtype != DType::F32 || !x.is_contiguous() || !rows.contains(&x.shape.ne()) {
            let rule = format!("x must be F32 [{k}, {n_used} or 1, {n_tokens}] without gaps");
            return Err(ShapeError::rule(rule, inputs));
        }
        let plain = |bias: &Desc| {
            bias.dtype == DType::F32 && bias.is_contiguous() && bias.shape.ne() == [n_out, n_expert, 1, 1]
        };
        if !inputs.get(3).is_none_or(plain) {
            let rule = format!("the bias must be F32 [{n_out}, {n_expert}] without gaps");
            return Err(ShapeError::rule(rule, inputs));
        }
        Ok(Desc::contiguous(DType::F32, [n_out, n_used, n_tokens])?)
    }

    fn cpu_kernel(&self, inputs: &[Desc], target: CpuTarget) -> Option<CpuKernel> {
        let [weight, x, ids, ..] = inputs else { return None };
        let [k, _, n_expert, _] = weight.shape.ne();
        let rows = (ids.shape.elements(), x.shape.rows());
        Some(CpuKernel::of_experts(weight.dtype, k, n_expert, rows, target))
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        step.product_id(ProductId { weight: 0, x: 1, ids: 2, bias: self.bias.then_some(3) })
    }

    /// A GPU kernel cannot fail: an expert out of range gives a row of NaN.
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [weight, x, ids, ..] = lower.inputs() else { return Ok(()) };
        let [k, n_out, n_expert, _] = weight.shape.ne();
        let rows = ids.shape.elements();
        if n_out * rows == 0 {
            return Ok(());
        }
        if [n_out.saturating_mul(n_expert), rows].iter().any(|&n| i32::try_from(n).is_err()) {
            return Err(lower.unsupported(format!(
                "{n_expert} experts of {n_out} rows, for {rows} rows: I32 must count them"
            )));
        }
        let rows_of_x = x.shape.rows();
        let product = ById { dtype: weight.dtype, k, n_out, n_expert, rows, rows_of_x, bias: self.bias };
        product.lower(lower, ids.shape.dim(1))
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let [weight, rest @ ..] = inputs else { return Cost::default() };
        let [k, n_out, n_expert, _] = weight.shape.ne();
        let rows = output.shape.rows();
        // Only the experts that are used, at most one per row of the output.
        let one = weight.data_bytes() / n_expert.max(1);
        let others = Cost::streaming(rest, output, (2 * k * n_out * rows) as u64);
        Cost { bytes: others.bytes + (one * rows.min(n_expert)) as u64, ..others }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let all: Vec<DType> = DType::all().filter(|dtype| dtype.is_float()).collect();
        let dtype = draw.one_of(&all);
        let blocks = draw.number(1..=(512 / dtype.block_elements()).min(70));
        let (k, n_out) = (blocks * dtype.block_elements(), draw.number(1..=37));
        let (n_expert, n_used) = (draw.number(1..=5), draw.number(1..=4));
        let tokens = draw.one_of(&[1, 2, 3, 8, 9, 17]);
        let rows_of_x = if draw.flag() { n_used * tokens } else { tokens };
        let op = LinearId { bias: draw.flag() };
        let weight = draw.blocks(dtype, k * n_out * n_expert);
        let weight = CaseInput::bytes(dtype, [k, n_out, n_expert], weight).shared();
        let w = weight.to_f32();
        let x = draw.values(k * rows_of_x, 2.0);
        let bias = if op.bias { draw.values(n_out * n_expert, 1.0) } else { vec![0.0; n_out * n_expert] };
        let ids: Vec<i32> = (0..n_used * tokens).map(|_| (draw.unit() * n_expert as f64) as i32).collect();
        let (mut expected, mut tolerance, mut device) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &id) in ids.iter().enumerate() {
            let x = &x[row * rows_of_x / ids.len() * k..][..k];
            let expert = w[id as usize * n_out * k..][..n_out * k].chunks(k);
            for (w, &bias) in expert.zip(&bias[id as usize * n_out..]) {
                let terms = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
                let size = terms.clone().map(f64::abs).sum::<f64>() + f64::from(bias.abs());
                expected.push(terms.sum::<f64>() + f64::from(bias));
                // As in `linear`.
                let rounding = 2.0 * (k as f64 + 8.0) * 2f64.powi(-24) * size;
                tolerance.push(quantization(dtype, w, x) + rounding + 1e-30);
                let operands = match is_grouped(dtype, n_expert, ids.len(), tokens) {
                    true => halves(dtype, w, x),
                    false => quantization(dtype, w, x),
                };
                device.push(operands + rounding + 1e-30);
            }
        }
        let x_sizes = [k, rows_of_x / tokens, tokens];
        let mut inputs = vec![weight, CaseInput::f32(x_sizes, &x), CaseInput::i32([n_used, tokens], &ids)];
        inputs.extend(op.bias.then(|| CaseInput::f32([n_out, n_expert], &bias).shared()));
        Case::with_tolerances(op, inputs, expected, tolerance).with_device_tolerance(device)
    }
}
