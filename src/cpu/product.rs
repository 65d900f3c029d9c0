//! The matrix product of a step: from the step's tensors to the kernels of [`linear`](super::linear).

use super::linear::{Linear, Rows, RowsMut, Scratch, linear};
use super::{CpuStep, StepError};
use crate::tensor::Desc;

/// Which inputs of a step are the operands of a product.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// The weights, `[k, n_out]` without gaps, of any element type but I32.
    pub weight: usize,
    /// The activations, F32 `[k, tokens…]` without gaps.
    pub x: usize,
    /// F32 `[n_out]`, added to every row.
    pub bias: Option<usize>,
    /// F32 `[n_out, tokens…]` without gaps, added; may be the output's memory.
    pub residual: Option<usize>,
}

impl CpuStep<'_> {
    /// Computes `x · weightᵀ` (+ bias) (+ residual) into the output, F32 `[n_out, tokens…]` without gaps.
    pub fn product(&self, product: Product) -> Result<(), StepError> {
        let weight = self.input(product.weight);
        let (x, y) = (self.input(product.x).raw(), self.output_raw());
        let (k, n_out, tokens) = (weight.dim(0), weight.dim(1), x.desc.shape.rows());
        let residual = product.residual.map(|input| self.input(input).raw());
        let (scratch, scratch_len) = self.scratch_raw();
        let values = |desc: &Desc| desc.shape.elements();
        // SAFETY: the step's maker vouches for the extents of its tensors and of the scratch during the
        // step, and these tensors lie without gaps, so that their elements are their extents.
        let (args, scratch) = unsafe {
            let args = Linear {
                dtype: weight.desc().dtype,
                weight: weight.bytes(),
                k,
                n_out,
                tokens,
                x: Rows::from_raw(x.data.cast(), values(&x.desc), k),
                y: RowsMut::from_raw(y.data.cast(), values(&y.desc), n_out),
                bias: product.bias.map(|input| self.input(input).all()),
                residual: residual.map(|raw| Rows::from_raw(raw.data.cast(), values(&raw.desc), n_out)),
            };
            (args, Scratch::from_raw(scratch, scratch_len))
        };
        // SAFETY: every worker is given the same step, nothing else writes its inputs or touches its
        // output and scratch meanwhile, and the output shares memory with the residual alone, in the same
        // layout (the operator's `memory` names no other input).
        unsafe { linear(self.worker(), self.isa(), &args, &scratch) }?;
        Ok(())
    }
}
