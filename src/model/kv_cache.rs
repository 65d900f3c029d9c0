//! The paged KV cache: which block of memory holds which tokens of which sequence.
//!
//! The cache is cut into blocks of a fixed number of tokens. A sequence owns a list of blocks, its block
//! table; token `p` of it lies in slot `table[p / block] * block + p % block`. Blocks are handed out one
//! by one, so that several sequences of any lengths share one memory (Kwon et al., "Efficient Memory
//! Management for Large Language Model Serving with PagedAttention", 2023).

use std::fmt;

use serde::Serialize;

use super::ModelError;
use crate::ops::KvWrite;
use crate::tensor::DType;

/// Tokens in a block: small enough that a short sequence wastes little, large enough that attention
/// reads long runs.
pub const BLOCK_SIZE: usize = 32;

/// Slots that a cache may have: the graph counts them, and the positions in them, in I32.
const MAX_SLOTS: usize = i32::MAX as usize;

/// The types that keys and values are kept in: F16, BF16, F32, or in blocks of 32 elements of a head Q8_0 (8.5 bits an
/// element) or Q4_0 (4.5 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CacheTypes {
    /// Of keys.
    pub k: DType,
    /// Of values.
    pub v: DType,
}

impl CacheTypes {
    /// Every type that a cache may have.
    pub const ALL: [DType; 5] = KvWrite::TYPES;

    /// One type for both.
    pub fn both(dtype: DType) -> CacheTypes {
        CacheTypes { k: dtype, v: dtype }
    }

    /// # Errors
    /// [`ModelError::Session`] that names a type which no cache has.
    pub(super) fn check(self) -> Result<(), ModelError> {
        match [self.k, self.v].into_iter().find(|dtype| !CacheTypes::ALL.contains(dtype)) {
            Some(dtype) => {
                let known = CacheTypes::ALL.map(DType::name).join(", ");
                Err(ModelError::Session(format!("the KV cache is of one of {known}, not {dtype}")))
            }
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

/// Names a sequence of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId(pub(super) usize);

/// The sizes of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Tokens in a block.
    pub(super) block_size: usize,
    /// Blocks that one sequence may own.
    pub(super) blocks_per_sequence: usize,
    /// Sequences at a time.
    pub(super) n_sequences: usize,
}

impl CacheLayout {
    /// The longest context: that of a cache for one sequence.
    pub const MAX_N_CTX: usize = MAX_SLOTS / BLOCK_SIZE * BLOCK_SIZE;

    /// A cache for so many sequences of so many tokens each.
    ///
    /// # Errors
    /// [`ModelError::Context`] if that makes more than `i32::MAX` slots, which is what the graph can count.
    pub fn new(n_ctx: usize, n_sequences: usize) -> Result<CacheLayout, ModelError> {
        let blocks_per_sequence = n_ctx.div_ceil(BLOCK_SIZE).max(1);
        let layout =
            CacheLayout { block_size: BLOCK_SIZE, blocks_per_sequence, n_sequences: n_sequences.max(1) };
        let slots = blocks_per_sequence.checked_mul(BLOCK_SIZE);
        let slots = slots.and_then(|slots| slots.checked_mul(layout.n_sequences));
        match slots {
            Some(slots) if slots <= MAX_SLOTS => Ok(layout),
            _ => Err(ModelError::Context { n_ctx, n_sequences: layout.n_sequences, most: MAX_SLOTS }),
        }
    }

    /// Tokens that fit all together; at most `i32::MAX`.
    pub fn n_slots(&self) -> usize {
        self.n_blocks() * self.block_size
    }

    fn n_blocks(&self) -> usize {
        self.blocks_per_sequence * self.n_sequences
    }

    /// Bytes of what [`KvCache::new`] makes for it: the tables, the list of free blocks and the sequences.
    pub fn table_bytes(&self) -> usize {
        self.n_blocks() * 2 * size_of::<i32>() + self.n_sequences * size_of::<Option<usize>>()
    }
}

/// Who owns which block.
#[derive(Clone, Debug)]
pub struct KvCache {
    layout: CacheLayout,
    n_ctx: usize,
    n_ctx_train: usize,
    free: Vec<i32>,
    sequences: Vec<Option<usize>>,
    /// The block tables, `[blocks_per_sequence, n_sequences]`; -1 where a sequence has no block.
    tables: Vec<i32>,
}

impl KvCache {
    /// An empty cache for sequences of at most `n_ctx` tokens, or of as many as the layout has room for.
    /// `n_ctx_train` is only for messages. It takes [`CacheLayout::table_bytes`] bytes.
    pub fn new(layout: CacheLayout, n_ctx: usize, n_ctx_train: usize) -> KvCache {
        let blocks = layout.n_blocks();
        KvCache {
            layout,
            n_ctx: n_ctx.min(layout.blocks_per_sequence * layout.block_size),
            n_ctx_train,
            free: (0..blocks as i32).rev().collect(),
            sequences: vec![None; layout.n_sequences],
            tables: vec![-1; blocks],
        }
    }

    /// Opens an empty sequence.
    pub fn open(&mut self) -> Result<SequenceId, ModelError> {
        let n = self.sequences.len();
        let full = || ModelError::Session(format!("all {n} sequences of the session are open"));
        let id = self.sequences.iter().position(Option::is_none).ok_or_else(full)?;
        self.sequences[id] = Some(0);
        Ok(SequenceId(id))
    }

    /// Tokens in a sequence.
    pub fn len(&self, id: SequenceId) -> Result<usize, ModelError> {
        let closed = || ModelError::Session(format!("sequence {} is not open", id.0));
        self.sequences.get(id.0).copied().flatten().ok_or_else(closed)
    }

    /// Whether no sequence holds a token.
    pub fn is_empty(&self) -> bool {
        self.sequences.iter().flatten().all(|&len| len == 0)
    }

    /// Makes room for `n` more tokens of a sequence, without counting them yet.
    pub fn reserve(&mut self, id: SequenceId, n: usize) -> Result<(), ModelError> {
        let wanted = self.len(id)?.saturating_add(n);
        if wanted > self.n_ctx {
            let (n_ctx, n_ctx_train) = (self.n_ctx, self.n_ctx_train);
            return Err(ModelError::ContextFull { wanted, n_ctx, n_ctx_train });
        }
        for block in 0..wanted.div_ceil(self.layout.block_size) {
            let at = id.0 * self.layout.blocks_per_sequence + block;
            if self.tables[at] < 0 {
                // There is a block for each entry of the tables, so one is free.
                self.tables[at] = self.free.pop().unwrap_or(-1);
            }
        }
        Ok(())
    }

    /// Counts `n` tokens that have been written.
    pub fn advance(&mut self, id: SequenceId, n: usize) {
        if let Some(Some(len)) = self.sequences.get_mut(id.0) {
            *len += n;
        }
    }

    /// The slot of a token that there is room for.
    pub fn slot(&self, id: SequenceId, position: usize) -> i32 {
        let block = id.0 * self.layout.blocks_per_sequence + position / self.layout.block_size;
        let first = self.tables.get(block).copied().unwrap_or(-1);
        if first < 0 {
            -1
        } else {
            first * self.layout.block_size as i32 + (position % self.layout.block_size) as i32
        }
    }

    /// Forgets all tokens of a sequence from `len` on, and frees the blocks that are empty then.
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), ModelError> {
        let len = len.min(self.len(id)?);
        let first = id.0 * self.layout.blocks_per_sequence;
        let keep = len.div_ceil(self.layout.block_size);
        for entry in &mut self.tables[first + keep..first + self.layout.blocks_per_sequence] {
            if *entry >= 0 {
                self.free.push(std::mem::replace(entry, -1));
            }
        }
        self.sequences[id.0] = Some(len);
        Ok(())
    }

    /// Closes a sequence and frees its blocks.
    pub fn close(&mut self, id: SequenceId) -> Result<(), ModelError> {
        self.truncate(id, 0)?;
        self.sequences[id.0] = None;
        Ok(())
    }

    /// The block tables, as the graph's input wants them.
    pub fn tables(&self) -> &[i32] {
        &self.tables
    }

    /// The sizes.
    pub fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// Tokens that a sequence may hold.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_context_that_cannot_be_counted_is_refused() {
        let most = CacheLayout::MAX_N_CTX;
        let layout = CacheLayout::new(most, 1).unwrap();
        assert_eq!(layout.n_slots(), most);
        assert!(i32::try_from(layout.n_slots()).is_ok());
        let refused = [(most + 1, 1), (usize::MAX, 1), (1, usize::MAX), (most, 2), (usize::MAX, usize::MAX)];
        for (n_ctx, n_sequences) in refused {
            let error = CacheLayout::new(n_ctx, n_sequences).unwrap_err();
            assert!(
                matches!(error, ModelError::Context { .. }) && error.to_string().contains("-c"),
                "{error}"
            );
        }
    }

    /// Positions past the layout would lie in the next sequence's table.
    #[test]
    fn a_sequence_stays_in_its_own_table() {
        let mut cache = KvCache::new(CacheLayout::new(32, 2).unwrap(), 1000, 1000);
        let id = cache.open().unwrap();
        assert_eq!(cache.n_ctx(), 32);
        assert!(cache.reserve(id, 33).is_err() && cache.reserve(id, usize::MAX).is_err());
        cache.reserve(id, 32).unwrap();
        assert_eq!(cache.tables().iter().filter(|&&block| block >= 0).count(), 1);
    }

    proptest! {
        /// Whatever sequences do, no slot belongs to two tokens, and closing all frees everything.
        #[test]
        fn no_two_tokens_share_a_slot(steps in prop::collection::vec((0usize..3, 0usize..90, any::<bool>()), 1..60)) {
            let mut cache = KvCache::new(CacheLayout::new(100, 3).unwrap(), 100, 100);
            let ids: Vec<_> = (0..3).map(|_| cache.open().unwrap()).collect();
            prop_assert!(cache.open().is_err());
            for (which, n, grow) in steps {
                let id = ids[which];
                if grow {
                    let len = cache.len(id).unwrap();
                    let fits = cache.reserve(id, n).is_ok();
                    prop_assert_eq!(fits, len + n <= 100);
                    if fits {
                        cache.advance(id, n);
                    }
                } else {
                    cache.truncate(id, n).unwrap();
                }
                let mut slots = Vec::new();
                for &id in &ids {
                    slots.extend((0..cache.len(id).unwrap()).map(|p| cache.slot(id, p)));
                }
                let tokens = slots.len();
                slots.sort_unstable();
                slots.dedup();
                prop_assert_eq!(slots.len(), tokens);
                prop_assert!(slots.iter().all(|&slot| slot >= 0 && (slot as usize) < cache.layout().n_slots()));
            }
            for id in ids {
                cache.close(id).unwrap();
            }
            prop_assert_eq!(cache.free.len(), cache.tables.len());
            prop_assert!(cache.tables.iter().all(|&block| block < 0));
        }
    }
}
