//! The matrix product of a step: passes the step's tensors to the kernels of [`linear`](super::linear).

use super::linear::{LinearArgs, LinearIdArgs, Rows, RowsMut, Scratch, linear, linear_id};
use super::{CpuStep, RawTensor, StepError, View};
use crate::tensor::{DType, Desc};

/// The input numbers of a product's operands.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// The weights, `[k, n_out]`, contiguous, of any element type but I32.
    pub weight: usize,
    /// The activations, F32 `[k, tokens…]`, contiguous.
    pub x: usize,
    /// F32 `[n_out]`, added to every row.
    pub bias: Option<usize>,
    /// F32 `[n_out, tokens…]`, contiguous, added; may share the output's memory.
    pub residual: Option<usize>,
}

/// The input numbers of the operands of a product with one expert's matrix per row of the result.
#[derive(Clone, Copy, Debug)]
pub struct ProductId {
    /// The weights, `[k, n_out, n_expert]`, contiguous, of any element type but I32.
    pub weight: usize,
    /// The activations, F32 `[k, n_used, n_tokens]`, or `[k, 1, n_tokens]` for all of a token's experts.
    pub x: usize,
    /// The expert of each row of the result, I32 `[n_used, n_tokens]`.
    pub ids: usize,
    /// F32 `[n_out, n_expert]`: the row of the expert is added.
    pub bias: Option<usize>,
}

impl CpuStep<'_> {
    /// Computes `x · weightᵀ` (+ bias) (+ residual) into the output, F32 `[n_out, tokens…]`, contiguous.
    ///
    /// # Errors
    /// [`StepError::Product`] if the kernels refuse the sizes; [`StepError::Misuse`] if an operand does not match
    /// [`Product`], inside a deal, after [`CpuStep::take_scratch`], or if the plan names no kernel for the step
    /// ([`Operator::cpu_kernel`](crate::graph::Operator::cpu_kernel)).
    pub fn product(&self, product: Product) -> Result<(), StepError> {
        let (weight, x) = (self.input(product.weight), self.input(product.x));
        let bias = product.bias.map(|input| self.input(input));
        let residual = product.residual.map(|input| self.input(input));
        let y = self.output_raw();
        let (k, n_out, tokens) = (weight.dim(0), weight.dim(1), x.desc().shape.rows());
        let is_rows = |desc: &Desc, n: usize| {
            let sizes = (desc.shape.dim(0), desc.shape.rows());
            desc.dtype == DType::F32 && desc.is_contiguous() && sizes == (n, tokens)
        };
        if !is_rows(x.desc(), k) || !is_rows(&y.desc, n_out) || weight.desc().shape.rows() != n_out {
            return Err(self.misused("the operands of its product do not fit each other and the output"));
        }
        if x.is_shared() {
            return Err(self.misused("its product writes over the activations"));
        }
        let fits = |residual: &View<'_>| {
            is_rows(residual.desc(), n_out) && (!residual.is_shared() || residual.raw().is_same(&y))
        };
        if !residual.as_ref().is_none_or(fits) {
            return Err(self.misused("the residual of its product is not like the output"));
        }
        if bias.as_ref().is_some_and(|bias| bias.desc().dtype != DType::F32) {
            return Err(self.misused("the bias of its product is not F32"));
        }
        if self.scratch_is_taken() {
            return Err(self.misused("it has taken the scratch memory that its product needs"));
        }
        let kernel = self.product_kernel()?;
        self.begin()?;
        let (scratch, scratch_len) = self.scratch_raw();
        let values = |raw: &RawTensor| raw.desc.shape.elements();
        let (x, residual) = (x.raw(), residual.map(|view| view.raw()));
        // SAFETY: the step's constructor guarantees the extents of its tensors and of the scratch during the step, and
        // these tensors are contiguous, so that their elements are their extents.
        let (args, scratch) = unsafe {
            let args = LinearArgs {
                dtype: weight.desc().dtype,
                weight: weight.bytes(),
                k,
                n_out,
                tokens,
                kernel,
                x: Rows::from_raw(x.data.cast(), values(&x), k),
                y: RowsMut::from_raw(y.data.cast(), values(&y), n_out),
                bias: bias.map(|bias| bias.all()),
                residual: residual.map(|raw| Rows::from_raw(raw.data.cast(), values(&raw), n_out)),
            };
            (args, Scratch::from_raw(scratch, scratch_len))
        };
        // SAFETY: every worker has the same step; nothing else writes its inputs or accesses its output and scratch
        // meanwhile (no worker has taken its share); and the output shares memory only with the residual, in the same
        // layout: an input in the output's memory gives no slice.
        unsafe { linear(self.worker(), self.isa(), &args, &scratch) }?;
        Ok(())
    }

    /// Computes `x · weight[expert]ᵀ` (+ bias) for each of a token's experts into the output, F32 `[n_out, n_used,
    /// n_tokens]`. All operands are contiguous.
    ///
    /// # Errors
    /// [`StepError::Product`] if an expert does not exist or the kernels refuse the sizes; [`StepError::Misuse`] as for
    /// [`CpuStep::product`].
    pub fn product_id(&self, product: ProductId) -> Result<(), StepError> {
        let (weight, x, ids) = (self.input(product.weight), self.input(product.x), self.input(product.ids));
        let bias = product.bias.map(|input| self.input(input));
        let y = self.output_raw();
        let [k, n_out, n_expert, _] = weight.desc().shape.ne();
        let (rows, rows_of_x) = (ids.desc().shape.elements(), x.desc().shape.rows());
        let is_rows = |desc: &Desc, n: usize, rows: usize| {
            let sizes = (desc.shape.dim(0), desc.shape.rows());
            desc.dtype == DType::F32 && desc.is_contiguous() && sizes == (n, rows)
        };
        let fits = is_rows(x.desc(), k, rows_of_x)
            && is_rows(&y.desc, n_out, rows)
            && bias.as_ref().is_none_or(|bias| is_rows(bias.desc(), n_out, n_expert))
            && rows_of_x > 0
            && rows.is_multiple_of(rows_of_x);
        if !fits || weight.dim(3) != 1 || ids.desc().dtype != DType::I32 {
            return Err(self.misused("the operands of its product do not fit each other and the output"));
        }
        if self.scratch_is_taken() {
            return Err(self.misused("it has taken the scratch memory that its product needs"));
        }
        let kernel = self.product_kernel()?;
        self.begin()?;
        let (scratch, scratch_len) = self.scratch_raw();
        // SAFETY: the step's constructor guarantees the extents of the output and of the scratch during the step, and
        // the output is contiguous.
        let (y, scratch) = unsafe {
            let y = RowsMut::from_raw(y.data.cast(), y.desc.shape.elements(), n_out);
            (y, Scratch::from_raw(scratch, scratch_len))
        };
        let args = LinearIdArgs {
            dtype: weight.desc().dtype,
            weight: weight.bytes(),
            k,
            n_out,
            n_expert,
            ids: ids.all(),
            share: rows / rows_of_x,
            kernel,
            x: x.all(),
            y,
            bias: bias.map(|bias| bias.all()),
        };
        // SAFETY: every worker has the same step; nothing else writes its inputs or accesses its output and scratch
        // meanwhile (no worker has taken its share); an input in the output's memory gives no slice.
        unsafe { linear_id(self.worker(), self.isa(), &args, &scratch) }?;
        Ok(())
    }
}
