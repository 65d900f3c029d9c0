//! The sizes of a session's states, and the types of cached keys and values.

use std::fmt;

use serde::Serialize;

use super::Sequence;
use super::blocks::Blocks;
use super::recurrent::Recurrent;
use crate::model::ModelError;
use crate::ops::KvWrite;
use crate::tensor::DType;

/// Tokens in a block: small enough that a short sequence wastes little, large enough that attention
/// reads long runs.
pub const BLOCK_SIZE: usize = 32;

/// Slots that a cache may have: the graph counts them, and the positions in them, in I32.
const MAX_SLOTS: usize = i32::MAX as usize;

/// The types of cached keys and values: F16, BF16, F32, or blocks of 32 elements of a head, Q8_0 (8.5 bits per element)
/// or Q4_0 (4.5 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CacheTypes {
    /// The type of keys.
    pub k: DType,
    /// The type of values.
    pub v: DType,
}

impl CacheTypes {
    /// The supported types.
    pub const ALL: [DType; 5] = KvWrite::TYPES;

    /// The same type for keys and values.
    pub fn both(dtype: DType) -> CacheTypes {
        CacheTypes { k: dtype, v: dtype }
    }

    /// # Errors
    /// [`ModelError::CacheType`] for an unsupported dtype.
    pub(in crate::model) fn check(self) -> Result<(), ModelError> {
        match [self.k, self.v].into_iter().find(|dtype| !CacheTypes::ALL.contains(dtype)) {
            Some(dtype) => Err(ModelError::CacheType { dtype }),
            None => Ok(()),
        }
    }
}

impl Default for CacheTypes {
    fn default() -> CacheTypes {
        CacheTypes::both(DType::F16)
    }
}

impl fmt::Display for CacheTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.k == self.v {
            true => write!(f, "{}", self.k),
            false => write!(f, "{} keys and {} values", self.k, self.v),
        }
    }
}

/// The sizes of a session's states: the blocks of paged state that all sequences share, and the slots of recurrent
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Tokens in a block.
    pub(in crate::model) block_size: usize,
    /// Blocks of the pool that all sequences share.
    pub(in crate::model) n_blocks: usize,
    /// Blocks that one sequence may hold.
    pub(in crate::model) blocks_per_sequence: usize,
    /// The most sequences that are open at a time.
    pub(in crate::model) n_sequences: usize,
    /// Tokens that one sequence may hold: its blocks may have room for a few more.
    pub(in crate::model) n_ctx: usize,
    /// The most snapshots of recurrent state at the ends of prefixes.
    pub(in crate::model) n_snapshots: usize,
}

impl CacheLayout {
    /// The longest context: that of a cache for one sequence.
    pub const MAX_N_CTX: usize = MAX_SLOTS / BLOCK_SIZE * BLOCK_SIZE;

    /// A cache for `n_sequences` sequences of `n_ctx` tokens each.
    ///
    /// # Errors
    /// [`ModelError::Context`] for more than `i32::MAX` slots, as the graph counts slots in I32.
    pub fn new(n_ctx: usize, n_sequences: usize) -> Result<CacheLayout, ModelError> {
        CacheLayout::pooled(n_ctx, n_sequences, None)
    }

    /// A cache for `n_tokens` tokens in total (`None`: `n_ctx` for every sequence), of which a sequence may hold up to
    /// `n_ctx`, and for up to `n_sequences` open sequences.
    ///
    /// # Errors
    /// As [`CacheLayout::new`].
    pub fn pooled(
        n_ctx: usize,
        n_sequences: usize,
        n_tokens: Option<usize>,
    ) -> Result<CacheLayout, ModelError> {
        let n_sequences = n_sequences.max(1);
        let refused = || ModelError::Context { n_ctx, n_sequences, most: MAX_SLOTS };
        let blocks_per_sequence = n_ctx.div_ceil(BLOCK_SIZE).max(1);
        let n_blocks = match n_tokens {
            Some(n_tokens) => n_tokens.div_ceil(BLOCK_SIZE).max(1),
            None => blocks_per_sequence.checked_mul(n_sequences).ok_or_else(refused)?,
        };
        let fits = |blocks: usize| blocks.checked_mul(BLOCK_SIZE).is_some_and(|slots| slots <= MAX_SLOTS);
        // Block tables have an entry for every block of every sequence.
        let entries = blocks_per_sequence.checked_mul(n_sequences).ok_or_else(refused)?;
        if !fits(n_blocks) || !fits(blocks_per_sequence) || !fits(entries) {
            return Err(refused());
        }
        Ok(CacheLayout {
            block_size: BLOCK_SIZE,
            n_blocks,
            // A sequence cannot hold more blocks than there are.
            blocks_per_sequence: blocks_per_sequence.min(n_blocks),
            n_sequences,
            n_ctx,
            n_snapshots: n_sequences,
        })
    }

    /// The most rows of all sequences together, limited by their contexts and by the pool.
    pub(in crate::model) fn most_rows(&self) -> usize {
        self.n_ctx.saturating_mul(self.n_sequences).min(self.n_slots())
    }

    /// The tokens that fit the pool; at most `i32::MAX`.
    pub fn n_slots(&self) -> usize {
        self.n_blocks * self.block_size
    }

    /// Slots of recurrent state: two for every sequence, its own and its mark, and one for each snapshot.
    pub fn n_recurrent_slots(&self) -> usize {
        2 * self.n_sequences + self.n_snapshots
    }

    /// Bytes that [`States::new`](super::States::new) allocates for the layout: the tables, and the records of blocks,
    /// sequences and slots (the last only for a model with recurrent state).
    pub fn table_bytes(&self) -> usize {
        let tables =
            self.blocks_per_sequence.saturating_mul(self.n_sequences).saturating_mul(size_of::<i32>());
        let sequences = self.n_sequences.saturating_mul(size_of::<Option<Sequence>>());
        let records = [sequences, Recurrent::bytes(*self), Blocks::bytes(self.n_blocks)];
        records.into_iter().fold(tables, usize::saturating_add)
    }
}
