//! The paged KV cache: which block of memory holds which tokens of which sequence.
//!
//! The cache is cut into blocks of a fixed number of tokens. A sequence owns a list of blocks, its block
//! table; token `p` of it lies in slot `table[p / block] * block + p % block`. Blocks are handed out one
//! by one, so that several sequences of any lengths share one memory (Kwon et al., "Efficient Memory
//! Management for Large Language Model Serving with PagedAttention", 2023).

use super::ModelError;

/// Tokens in a block: small enough that a short sequence wastes little, large enough that attention
/// reads long runs.
pub const BLOCK_SIZE: usize = 32;

/// Names a sequence of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId(pub(super) usize);

/// The sizes of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Tokens in a block.
    pub block_size: usize,
    /// Blocks that one sequence may own.
    pub blocks_per_sequence: usize,
    /// Sequences at a time.
    pub n_sequences: usize,
}

impl CacheLayout {
    /// A cache for so many sequences of so many tokens each.
    pub fn new(n_ctx: usize, n_sequences: usize) -> CacheLayout {
        let blocks_per_sequence = n_ctx.div_ceil(BLOCK_SIZE).max(1);
        CacheLayout { block_size: BLOCK_SIZE, blocks_per_sequence, n_sequences: n_sequences.max(1) }
    }

    /// Tokens that fit all together.
    pub fn n_slots(&self) -> usize {
        self.block_size * self.blocks_per_sequence * self.n_sequences
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
    /// An empty cache. `n_ctx_train` is only for messages.
    pub fn new(layout: CacheLayout, n_ctx: usize, n_ctx_train: usize) -> KvCache {
        let blocks = layout.blocks_per_sequence * layout.n_sequences;
        KvCache {
            layout,
            n_ctx,
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
        let wanted = self.len(id)? + n;
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

    proptest! {
        /// Whatever sequences do, no slot belongs to two tokens, and closing all frees everything.
        #[test]
        fn no_two_tokens_share_a_slot(steps in prop::collection::vec((0usize..3, 0usize..90, any::<bool>()), 1..60)) {
            let mut cache = KvCache::new(CacheLayout::new(100, 3), 100, 100);
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
