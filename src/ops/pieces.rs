//! The division of a tensor for elementwise kernels: rows into pieces, one per block of threads. Its counterpart is
//! `share_of_thread` in `kernels/elements.h`.

use crate::device::{Arg, Lower, LowerError, NamedArg, Variant};
use crate::tensor::{Desc, Shape};

/// A divided tensor.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// Elements per row.
    n: usize,
    /// Pieces per row.
    pieces: usize,
    /// Rows.
    rows: usize,
    /// Threads per block.
    threads: usize,
    /// True if the whole tensor is treated as one row.
    flat: bool,
}

/// The most threads per block: enough blocks for every compute unit, enough threads to hide memory latency.
const THREADS: usize = 256;

impl Pieces {
    /// Divides the elements of a shape, `each` per thread. `flat` means that all tensors are contiguous, so that rows
    /// do not matter.
    pub fn of(lower: &Lower<'_>, shape: Shape, flat: bool, each: usize) -> Pieces {
        let (n, rows) = if flat { (shape.elements(), 1) } else { (shape.dim(0), shape.rows()) };
        let wave = lower.target().wave as usize;
        let threads = n.div_ceil(each).next_multiple_of(wave).clamp(wave, THREADS);
        Pieces { n, pieces: n.div_ceil(each * threads), rows, threads, flat }
    }

    /// The arguments that say so: `i64 n, i32 pieces, i32 flat`.
    pub fn args(self) -> [NamedArg; 3] {
        // More pieces than I32 counts are refused with the grid.
        let pieces = i32::try_from(self.pieces).unwrap_or(i32::MAX);
        [("n", Arg::I64(self.n as i64)), ("pieces", Arg::I32(pieces)), ("flat", Arg::I32(self.flat.into()))]
    }

    /// Adds a kernel that runs over the pieces. There is nothing to launch for a tensor without elements.
    pub fn launch(
        self,
        lower: &mut Lower<'_>,
        variant: Variant,
        args: &[NamedArg],
    ) -> Result<(), LowerError> {
        if self.n == 0 || self.rows == 0 {
            return Ok(());
        }
        let blocks = self.pieces.saturating_mul(self.rows);
        lower.launch(variant, [blocks, 1, 1], self.threads, args)
    }
}

/// True if all of these have the same shape and are contiguous.
pub fn are_flat(tensors: &[Desc]) -> bool {
    tensors.iter().all(|tensor| tensor.is_contiguous() && tensor.shape.ne() == tensors[0].shape.ne())
}
