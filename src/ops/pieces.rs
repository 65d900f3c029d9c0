//! How kernels over single elements divide a tensor: rows into pieces, one for a block of threads.
//! The other half is `share_of_thread` in `kernels/elements.h`.

use crate::device::{Arg, Lower, LowerError, NamedArg, Variant};
use crate::tensor::{Desc, Shape};

/// A tensor divided.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// Elements of a row.
    n: usize,
    /// Pieces of a row.
    pieces: usize,
    /// Rows.
    rows: usize,
    /// Threads of a block.
    threads: usize,
    /// Whether the whole tensor is taken for one row.
    flat: bool,
}

/// Threads of a block at most: enough blocks for every compute unit, enough threads to hide memory's latency.
const THREADS: usize = 256;

impl Pieces {
    /// Divides the elements of a shape, `each` to a thread. `flat` says that no tensor has gaps, so that rows do
    /// not matter.
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

/// Whether all of these have one shape and no gaps.
pub fn are_flat(tensors: &[Desc]) -> bool {
    tensors.iter().all(|tensor| tensor.is_contiguous() && tensor.shape.ne() == tensors[0].shape.ne())
}
