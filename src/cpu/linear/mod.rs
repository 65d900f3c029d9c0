//! Products of weight matrices with activations: `y[t][r] = Σ_k W[r][k]·x[t][k]`.
//!
//! The weights are read in place, in their block format. There are two kernels ([`ProductKernel`]): one pass over the
//! rows of the weights at memory speed, and panels of 16 rows, unpacked once and multiplied with all tokens.
//!
//! The values of every block format are a scale times an integer: they are multiplied as integers, with activations
//! quantized to eight bits (`cpu/activations.rs`); plain weights as f32.
//!
//! `plain` defines every result: the lane and order of each addition, and where multiply-adds are fused. The kernels of
//! the instruction sets follow it bit by bit, so a result depends neither on the machine nor on the number of threads.
//! It does depend on the kernel, which the caller chooses: the plan, once. Either kernel takes any number of tokens,
//! and with a fixed kernel a token's result does not depend on the others.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod experts;
mod float;
mod format;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod quads;
mod rows;
#[cfg(test)]
mod tests;

pub use experts::{LinearIdArgs, linear_id};
pub use kernel::{CpuKernel, CpuTarget, FEW_TOKENS, ProductKernel};
pub use rows::{Rows, RowsMut, Scratch};

use super::{Isa, Pool, Worker};
use crate::tensor::DType;

/// The prefetch distance in bytes when there are few tokens. The hardware's own prefetching ends at each 4 KiB page.
#[cfg(target_arch = "x86_64")]
const PREFETCH: usize = 2048;

/// A product to compute.
pub struct LinearArgs<'a> {
    /// Element type of the weights.
    pub dtype: DType,
    /// The weights, `n_out` rows of `k` elements, contiguous, at any address.
    pub weight: &'a [u8],
    /// Elements in a row of weights and of `x`.
    pub k: usize,
    /// Rows of weights, and values in a row of `y`.
    pub n_out: usize,
    /// Rows of `x` and of `y`.
    pub tokens: usize,
    /// The kernel.
    pub kernel: ProductKernel,
    /// The activations, `tokens` rows of `k`.
    pub x: Rows<'a>,
    /// The result, `tokens` rows of `n_out`.
    pub y: RowsMut<'a>,
    /// `n_out` values that are added to every row of the result.
    pub bias: Option<&'a [f32]>,
    /// `tokens` rows of `n_out` that are added to the result, after `bias`. It may be `y` itself.
    pub residual: Option<Rows<'a>>,
}

/// The reason why a product was refused. Nothing was computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinearError {
    /// Weights of this type cannot be multiplied.
    #[error("weights of type {0} cannot be multiplied")]
    DType(DType),
    /// A row of weights does not fill whole blocks, sizes overflow, or rows of the result overlap.
    #[error(
        "{n_out} rows of {k} elements of {dtype} do not fill whole blocks, are too large, or overlap in the result"
    )]
    Shape {
        /// The element type.
        dtype: DType,
        /// Elements in a row.
        k: usize,
        /// Rows.
        n_out: usize,
    },
    /// A buffer is too short.
    #[error("{what} has {have} {unit}, but {need} are needed")]
    Short {
        /// The buffer.
        what: &'static str,
        /// The unit of its length.
        unit: &'static str,
        /// Its length.
        have: usize,
        /// The required length.
        need: usize,
    },
    /// A row of the result selected an expert that does not exist.
    #[error("the chosen expert is {id}, outside of 0..{n_expert}")]
    Expert {
        /// The expert.
        id: i32,
        /// The number of experts.
        n_expert: usize,
    },
    /// The machine lacks the requested instruction set.
    #[error("this machine has no {0}")]
    Isa(Isa),
}

impl LinearArgs<'_> {
    /// Bytes of scratch memory for a product; `None` if the sizes overflow.
    pub fn scratch_bytes(
        dtype: DType,
        k: usize,
        tokens: usize,
        kernel: ProductKernel,
        workers: usize,
    ) -> Option<usize> {
        dispatch::scratch(dtype, k, tokens, kernel, workers).map(|sizes| sizes.total)
    }

    /// Checks every size that the kernels rely on.
    fn check(&self, isa: Isa, scratch: usize, workers: usize) -> Result<dispatch::ScratchSizes, LinearError> {
        let LinearArgs { dtype, k, n_out, tokens, kernel, .. } = *self;
        if !dtype.is_float() {
            return Err(LinearError::DType(dtype));
        }
        if !isa.is_available() {
            return Err(LinearError::Isa(isa));
        }
        let shape = LinearError::Shape { dtype, k, n_out };
        let weight = dtype.row_bytes(k).and_then(|bytes| bytes.checked_mul(n_out));
        let sizes = dispatch::scratch(dtype, k, tokens, kernel, workers);
        let (Some(weight), Some(sizes)) = (weight, sizes) else { return Err(shape) };
        let values = |rows: Option<usize>| rows.ok_or_else(|| shape.clone());
        let x = values(self.x.needed(tokens, k))?;
        let y = values(self.y.needed(tokens, n_out))?;
        let residual = match &self.residual {
            Some(rows) => (rows.len(), values(rows.needed(tokens, n_out))?),
            None => (0, 0),
        };
        let bias = self.bias.map_or((0, 0), |bias| (bias.len(), n_out));
        for (what, unit, have, need) in [
            ("weight", "bytes", self.weight.len(), weight),
            ("x", "values", self.x.len(), x),
            ("y", "values", self.y.len(), y),
            ("bias", "values", bias.0, bias.1),
            ("residual", "values", residual.0, residual.1),
            ("scratch", "bytes", scratch, sizes.total),
        ] {
            if have < need {
                return Err(LinearError::Short { what, unit, have, need });
            }
        }
        Ok(sizes)
    }
}

/// Computes a product together with the other workers of a run. Returns when all of it is finished.
///
/// # Safety
/// Every worker of the run calls this with the same arguments, and until all have returned nothing else writes
/// `weight`, `x`, `bias` and `residual` or accesses `y` and `scratch`. `y` either does not overlap `residual` or is the
/// same rows with the same stride; it overlaps nothing else.
pub unsafe fn linear(
    worker: &Worker<'_>,
    isa: Isa,
    args: &LinearArgs<'_>,
    scratch: &Scratch<'_>,
) -> Result<(), LinearError> {
    let sizes = args.check(isa, scratch.len(), worker.count())?;
    if args.tokens > 0 && args.n_out > 0 {
        // SAFETY: the sizes are checked; the caller vouches for the rest.
        unsafe { dispatch::run(worker, isa, args, scratch, sizes) };
    }
    Ok(())
}

/// Computes one product on a pool, with its own scratch memory. It takes the product mutably, since two threads that
/// computed it at once would both write `y`.
pub fn linear_on(pool: &Pool, isa: Isa, args: &mut LinearArgs<'_>) -> Result<(), LinearError> {
    let args = &*args;
    let bytes =
        LinearArgs::scratch_bytes(args.dtype, args.k, args.tokens, args.kernel, pool.threads()).unwrap_or(0);
    let mut memory = vec![0; bytes];
    let scratch = Scratch::new(&mut memory);
    args.check(isa, scratch.len(), pool.threads())?;
    pool.run(|worker| {
        // SAFETY: every worker of this run gets the same arguments, and no other run has them. `args` borrows its
        // buffers for its whole lifetime; a caller that made `residual` from `y` guarantees the overlap.
        let result = unsafe { linear(worker, isa, args, &scratch) };
        debug_assert!(result.is_ok(), "checked above");
    });
    Ok(())
}
