//! The choice of a product's kernel, which a plan stores.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Linear, LinearId, format};
use crate::tensor::DType;

/// The most tokens that are multiplied row by row if the result may depend on their number; more use panels.
pub const FEW_TOKENS: usize = 8;

/// The kernel of a product. It determines the order of the sums, and so the bits of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProductKernel {
    /// One row of weights at a time, summed in 16 lanes which are added at the end.
    Rows,
    /// Panels of 16 rows of weights, unpacked once for all tokens, summed in the order of the columns.
    Panels,
    /// For experts: rows for an expert that at most [`FEW_TOKENS`] rows of the result selected, panels for the others.
    ByExpert,
}

impl ProductKernel {
    /// The kernel of a product with `tokens` tokens: the faster one, or if deterministic the one for any number of
    /// tokens.
    fn of(dtype: DType, tokens: usize, deterministic: bool) -> ProductKernel {
        match (deterministic, format::is_integer(dtype)) {
            (true, true) => ProductKernel::Panels,
            (true, false) => ProductKernel::Rows,
            (false, _) if tokens <= FEW_TOKENS => ProductKernel::Rows,
            (false, _) => ProductKernel::Panels,
        }
    }

    /// The kernel of a product in which an expert multiplies any number of `rows` rows.
    fn of_experts(dtype: DType, rows: usize, deterministic: bool) -> ProductKernel {
        match ProductKernel::of(dtype, rows, deterministic) {
            ProductKernel::Panels if !deterministic => ProductKernel::ByExpert,
            kernel => kernel,
        }
    }

    /// The kernel for one matrix and `tokens` tokens.
    pub(super) fn for_tokens(self, tokens: usize) -> ProductKernel {
        match self {
            ProductKernel::ByExpert if tokens <= FEW_TOKENS => ProductKernel::Rows,
            ProductKernel::ByExpert => ProductKernel::Panels,
            kernel => kernel,
        }
    }

    /// The name, as printed in plans.
    pub fn name(self) -> &'static str {
        match self {
            ProductKernel::Rows => "rows",
            ProductKernel::Panels => "panels",
            ProductKernel::ByExpert => "by_expert",
        }
    }
}

impl fmt::Display for ProductKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The properties of a CPU executor that kernels are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTarget {
    /// The threads that run a step.
    pub threads: usize,
    /// True if a row's bits must depend on that row only: see promise P11.
    pub deterministic: bool,
}

/// The kernel of a step's product, and its scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuKernel {
    /// The kernel.
    pub product: ProductKernel,
    /// Bytes of scratch memory for the whole step.
    pub scratch: usize,
}

impl CpuKernel {
    /// For weights of this type in rows of `k`, and `tokens` tokens. Sizes that overflow get no memory, as the product
    /// refuses them.
    pub fn of_product(dtype: DType, k: usize, tokens: usize, target: CpuTarget) -> CpuKernel {
        let product = ProductKernel::of(dtype, tokens, target.deterministic);
        let scratch = Linear::scratch_bytes(dtype, k, tokens, product, target.threads).unwrap_or(0);
        CpuKernel { product, scratch }
    }

    /// For `n_expert` matrices and `rows` rows of the result, each with one expert, computed from `rows_of_x` rows of
    /// `x`.
    pub fn of_experts(
        dtype: DType,
        k: usize,
        n_expert: usize,
        (rows, rows_of_x): (usize, usize),
        target: CpuTarget,
    ) -> CpuKernel {
        let product = ProductKernel::of_experts(dtype, rows, target.deterministic);
        let rows = (rows, rows_of_x);
        let scratch = LinearId::scratch_bytes(dtype, k, n_expert, rows, product, target.threads).unwrap_or(0);
        CpuKernel { product, scratch }
    }
}
