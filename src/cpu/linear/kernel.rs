//! The choice of a product's kernel, which a plan stores.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{LinearArgs, LinearIdArgs, format};
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
    /// Panels of 16 rows of weights, unpacked once for all tokens, summed in the order of the columns; for few tokens four
    /// rows at a time, summed in the same order.
    Panels,
    /// For experts: for each expert the kernel of the number of rows that selected it.
    ByExpert,
}

impl ProductKernel {
    /// The kernel of a product with `tokens` tokens: the faster one, or if deterministic the one for any number of
    /// tokens.
    ///
    /// Panels of block formats are computed by four rows at a time where there are few tokens, which is faster than rows
    /// for one token (see "The CPU: the cost of `--deterministic`" in `docs/performance.md`). For more tokens of formats
    /// with minimums it is slower: their sums are long chains of additions.
    fn of(dtype: DType, tokens: usize, deterministic: bool) -> ProductKernel {
        match format::is_integer(dtype) {
            true if deterministic || tokens == 1 || !format::has_minimums(dtype) => ProductKernel::Panels,
            false if deterministic => ProductKernel::Rows,
            _ if tokens <= FEW_TOKENS => ProductKernel::Rows,
            _ => ProductKernel::Panels,
        }
    }

    /// The kernel of a product in which an expert multiplies any number of `rows` rows.
    fn of_experts(dtype: DType, rows: usize, deterministic: bool) -> ProductKernel {
        let [one, few, all] =
            [1, rows.min(FEW_TOKENS), rows].map(|rows| ProductKernel::of(dtype, rows, deterministic));
        if one == few && few == all { one } else { ProductKernel::ByExpert }
    }

    /// The kernel for one matrix of this type and `tokens` tokens.
    pub(super) fn for_tokens(self, dtype: DType, tokens: usize) -> ProductKernel {
        match self {
            ProductKernel::ByExpert => ProductKernel::of(dtype, tokens, false),
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
        let scratch = LinearArgs::scratch_bytes(dtype, k, tokens, product, target.threads).unwrap_or(0);
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
        let scratch =
            LinearIdArgs::scratch_bytes(dtype, k, n_expert, rows, product, target.threads).unwrap_or(0);
        CpuKernel { product, scratch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_depends_on_format_and_number_of_tokens() {
        let of = |dtype| [1, 2, 8, 9].map(|tokens| ProductKernel::of(dtype, tokens, false));
        use ProductKernel::{Panels, Rows};
        assert_eq!(of(DType::Q8_0), [Panels; 4]);
        assert_eq!(of(DType::Q4_K), [Panels, Rows, Rows, Panels]);
        assert_eq!(of(DType::F16), [Rows, Rows, Rows, Panels]);
    }

    /// An expert's rows have the bits that they have without the other experts, and in a deterministic plan those of any number
    /// of rows.
    #[test]
    fn experts_have_the_kernel_of_their_rows() {
        for dtype in DType::all().filter(|dtype| dtype.is_float()) {
            for deterministic in [false, true] {
                for rows in [1, 2, 7, 8, 9, 40] {
                    let all = ProductKernel::of_experts(dtype, rows, deterministic);
                    for tokens in 1..=rows {
                        let one = ProductKernel::of(dtype, tokens, deterministic);
                        assert_eq!(all.for_tokens(dtype, tokens), one, "{dtype}: {tokens} of {rows} rows");
                        assert!(!deterministic || one == ProductKernel::of(dtype, 1, true));
                    }
                }
            }
        }
    }
}
