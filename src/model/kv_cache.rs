//! The paged KV cache: which block of memory holds which tokens of which sequence.
//!
//! The cache is cut into blocks of a fixed number of tokens. A sequence owns a list of blocks, its block
//! table; token `p` of it lies in slot `table[p / block] * block + p % block`. Blocks are handed out one
//! by one, so that several sequences of any lengths share one memory (Kwon et al., "Efficient Memory
//! Management for Large Language Model Serving with PagedAttention", 2023). Full blocks are shared by the sequences
//! that begin with the same tokens, and stay to be found by later ones (`blocks.rs`).

use std::fmt;

use serde::Serialize;

use super::ModelError;
use super::blocks::{Blocks, NONE};
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
    /// Tokens that one sequence may hold: its blocks may have room for a few more.
    pub(super) n_ctx: usize,
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
        let layout = CacheLayout {
            block_size: BLOCK_SIZE,
            blocks_per_sequence,
            n_sequences: n_sequences.max(1),
            n_ctx,
        };
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

    /// Bytes of what [`KvCache::new`] makes for it: the tables, the blocks' records and the
    /// sequences.
    pub fn table_bytes(&self) -> usize {
        let tables = self.n_blocks() * size_of::<i32>() + self.n_sequences * size_of::<Option<usize>>();
        tables + Blocks::bytes(self.n_blocks())
    }
}

/// Which sequence has which blocks, and which tokens.
#[derive(Clone, Debug)]
pub struct KvCache {
    layout: CacheLayout,
    n_ctx: usize,
    n_ctx_train: usize,
    blocks: Blocks,
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
            blocks: Blocks::new(blocks),
            sequences: vec![None; layout.n_sequences],
            tables: vec![NONE; blocks],
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
    ///
    /// A sequence that was cut off inside of a block which others hold too gets another one there, and the tokens
    /// that it loses by that are to be appended again: they are written to `again`, their number is given.
    pub(super) fn reserve(
        &mut self,
        id: SequenceId,
        n: usize,
        again: &mut [u32; BLOCK_SIZE],
    ) -> Result<usize, ModelError> {
        let wanted = self.len(id)?.saturating_add(n);
        if wanted > self.n_ctx {
            let (n_ctx, n_ctx_train) = (self.n_ctx, self.n_ctx_train);
            return Err(ModelError::ContextFull { wanted, n_ctx, n_ctx_train });
        }
        let lost = self.unshare_end(id, again)?;
        for block in 0..wanted.div_ceil(self.layout.block_size) {
            let at = self.first_entry(id) + block;
            if self.tables[at] < 0 {
                // There is a block for each entry of the tables, so one is idle.
                self.tables[at] = self.blocks.take();
            }
        }
        Ok(lost)
    }

    /// Sees to it that the block of a sequence's next token may be written.
    fn unshare_end(&mut self, id: SequenceId, again: &mut [u32; BLOCK_SIZE]) -> Result<usize, ModelError> {
        let len = self.len(id)?;
        let (at, within) = (self.first_entry(id) + len / BLOCK_SIZE, len % BLOCK_SIZE);
        if within == 0 || !self.blocks.is_findable(self.tables[at]) {
            return Ok(0);
        }
        let block = self.tables[at];
        if self.blocks.holders(block) == 1 {
            self.blocks.forget(block);
            return Ok(0);
        }
        again[..within].copy_from_slice(&self.blocks.tokens(block)[..within]);
        self.blocks.release(block);
        // Two entries had one block, so that there are fewer held blocks than entries, and one is idle.
        self.tables[at] = self.blocks.take();
        self.sequences[id.0] = Some(len - within);
        Ok(within)
    }

    /// Counts tokens that have been written. Blocks that are full now can be found.
    pub(super) fn advance(&mut self, id: SequenceId, tokens: &[i32]) {
        let Ok(len) = self.len(id) else { return };
        for (position, &token) in (len..).zip(tokens) {
            let slot = self.slot(id, position);
            if slot >= 0 {
                self.blocks.set_token(slot, token as u32);
            }
            if (position + 1).is_multiple_of(BLOCK_SIZE) && slot >= 0 {
                self.publish(self.first_entry(id), position / BLOCK_SIZE);
            }
        }
        self.sequences[id.0] = Some(len + tokens.len());
    }

    /// Makes full block `n` of a sequence findable, unless another one with the same tokens before it is.
    fn publish(&mut self, first: usize, n: usize) {
        let (parent, block) =
            (if n == 0 { NONE } else { self.tables[first + n - 1] }, self.tables[first + n]);
        let rooted = n == 0 || self.blocks.is_findable(parent);
        if rooted && self.blocks.find(parent, self.blocks.tokens(block)).is_none() {
            self.blocks.publish(block, parent);
        }
    }

    /// The tokens of a sequence.
    pub fn tokens(&self, id: SequenceId) -> Result<impl ExactSizeIterator<Item = u32> + use<'_>, ModelError> {
        Ok((0..self.len(id)?).map(move |position| self.blocks.token(self.slot(id, position))))
    }

    /// Makes a sequence hold as many of these tokens as it or any block holds, but not the last of them, and gives
    /// their number.
    pub(super) fn reuse(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let wanted = &tokens[..tokens.len().saturating_sub(1)];
        let own = self.tokens(id)?.zip(wanted).take_while(|(a, b)| a == *b).count();
        if self.blocks.find_all(wanted).1 * BLOCK_SIZE <= own {
            self.truncate(id, own)?;
            return Ok(own);
        }
        self.truncate(id, 0)?;
        let (mut block, n) = self.blocks.find_all(wanted);
        let first = self.first_entry(id);
        for entry in self.tables[first..first + n].iter_mut().rev() {
            *entry = block;
            self.blocks.hold(block);
            block = self.blocks.parent(block);
        }
        self.sequences[id.0] = Some(n * BLOCK_SIZE);
        Ok(n * BLOCK_SIZE)
    }

    /// Where a sequence's block table begins.
    fn first_entry(&self, id: SequenceId) -> usize {
        id.0 * self.layout.blocks_per_sequence
    }

    /// The slot of a token that there is room for.
    pub fn slot(&self, id: SequenceId, position: usize) -> i32 {
        let first =
            self.tables.get(self.first_entry(id) + position / self.layout.block_size).copied().unwrap_or(-1);
        if first < 0 {
            -1
        } else {
            first * self.layout.block_size as i32 + (position % self.layout.block_size) as i32
        }
    }

    /// Forgets all tokens of a sequence from `len` on, and releases the blocks that are empty then. They can be found
    /// until their memory is needed.
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), ModelError> {
        let len = len.min(self.len(id)?);
        let keep = len.div_ceil(self.layout.block_size);
        let last = self.publish_all(id, keep)?;
        let first = self.first_entry(id);
        for entry in self.tables[first + keep..first + self.layout.blocks_per_sequence].iter_mut().rev() {
            if *entry >= 0 {
                self.blocks.release(std::mem::replace(entry, NONE));
            }
        }
        self.blocks.touch(last);
        self.sequences[id.0] = Some(len);
        Ok(())
    }

    /// Makes the full blocks from `keep` on findable, which the sequence releases next: those that were not when they
    /// got full, since others with the same tokens were. Gives the findable block of the sequence's last full one.
    fn publish_all(&mut self, id: SequenceId, keep: usize) -> Result<i32, ModelError> {
        let (first, full) = (self.first_entry(id), self.len(id)? / BLOCK_SIZE);
        let mut last = NONE;
        for n in 0..full {
            let block = self.tables[first + n];
            if self.blocks.is_findable(block) {
                last = block;
            } else if let Some(same) = self.blocks.find(last, self.blocks.tokens(block)) {
                last = same;
            } else if n >= keep {
                self.blocks.publish(block, last);
                last = block;
            } else {
                // The sequence goes on to hold it, and may not hold its parent.
                break;
            }
        }
        Ok(last)
    }

    /// Closes a sequence and releases its blocks.
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
        let mut reserve = |n| cache.reserve(id, n, &mut [0; BLOCK_SIZE]);
        assert!(reserve(33).is_err() && reserve(usize::MAX).is_err());
        assert_eq!(reserve(32).unwrap(), 0);
        assert_eq!(cache.n_ctx(), 32);
        assert_eq!(cache.tables().iter().filter(|&&block| block >= 0).count(), 1);
    }

    const N_CTX: usize = 100;
    const N_SEQUENCES: usize = 3;

    /// What a device would do: for each slot, the tokens up to and with the one whose key and value lie there.
    struct Device {
        cache: KvCache,
        slots: Vec<Vec<u32>>,
        /// What each open sequence should hold.
        held: [Option<(SequenceId, Vec<u32>)>; N_SEQUENCES],
    }

    /// What a sequence does. Tokens are 0 or 1 in runs of a block, so that prefixes are often the same.
    #[derive(Clone, Debug)]
    enum Act {
        Open,
        Append(Vec<u32>),
        Reuse(Vec<u32>),
        Truncate(usize),
        Close,
    }

    fn text(runs: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u32>> {
        let len = prop_oneof![3 => Just(BLOCK_SIZE), 1 => 1..BLOCK_SIZE];
        let runs = prop::collection::vec((0u32..2, len), runs);
        runs.prop_map(|runs| runs.into_iter().flat_map(|(token, n)| vec![token; n]).collect())
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            2 => Just(Act::Open),
            3 => text(1..3).prop_map(Act::Append),
            4 => text(1..5).prop_map(Act::Reuse),
            3 => (0..N_CTX).prop_map(Act::Truncate),
            1 => Just(Act::Close),
        ]
    }

    impl Device {
        fn new() -> Device {
            let cache = KvCache::new(CacheLayout::new(N_CTX, N_SEQUENCES).unwrap(), N_CTX, N_CTX);
            let slots = vec![Vec::new(); cache.layout().n_slots()];
            Device { cache, slots, held: [None, None, None] }
        }

        /// Computes tokens, as a session does.
        fn append(&mut self, which: usize, tokens: &[u32]) {
            let Some((id, held)) = self.held[which].clone() else { return };
            let mut again = [0; BLOCK_SIZE];
            let fits = held.len() + tokens.len() <= N_CTX;
            match self.cache.reserve(id, tokens.len(), &mut again) {
                Err(error) => return assert!(!fits, "{error}"),
                Ok(lost) => {
                    assert!(fits);
                    assert_eq!(again[..lost], held[held.len() - lost..]);
                    self.write(which, &again[..lost]);
                }
            }
            self.write(which, tokens);
        }

        fn write(&mut self, which: usize, tokens: &[u32]) {
            let Some((id, held)) = &mut self.held[which] else { return };
            let start = self.cache.len(*id).unwrap();
            held.truncate(start);
            held.extend(tokens);
            let (id, held) = (*id, held.clone());
            for position in start..held.len() {
                let slot = self.cache.slot(id, position);
                for (other, tokens) in self.held.iter().flatten().filter(|(other, _)| *other != id) {
                    let reads = (0..tokens.len()).any(|p| self.cache.slot(*other, p) == slot);
                    assert!(!reads, "slot {slot} is written by {id:?} and read by {other:?}");
                }
                self.slots[usize::try_from(slot).unwrap()] = held[..=position].to_vec();
            }
            let tokens: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
            self.cache.advance(id, &tokens);
        }

        fn act(&mut self, which: usize, act: Act) {
            match (self.held[which].clone(), act) {
                (None, Act::Open) => self.held[which] = Some((self.cache.open().unwrap(), vec![])),
                (_, Act::Append(tokens)) => self.append(which, &tokens),
                (Some((id, held)), Act::Reuse(tokens)) => {
                    let n = self.cache.reuse(id, &tokens).unwrap();
                    let own = held.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
                    assert!(n < tokens.len() && n >= own.min(tokens.len() - 1));
                    self.held[which] = Some((id, tokens[..n].to_vec()));
                    self.append(which, &tokens[n..]);
                }
                (Some((id, mut held)), Act::Truncate(n)) => {
                    self.cache.truncate(id, n).unwrap();
                    held.truncate(n);
                    self.held[which] = Some((id, held));
                }
                (Some((id, _)), Act::Close) => {
                    self.cache.close(id).unwrap();
                    self.held[which] = None;
                }
                _ => {}
            }
            self.check();
        }

        /// Every sequence reads what it should, and every block is held by those that have it in their table.
        fn check(&self) {
            for (id, held) in self.held.iter().flatten() {
                assert_eq!(self.cache.len(*id).unwrap(), held.len());
                assert_eq!(&self.cache.tokens(*id).unwrap().collect::<Vec<_>>(), held);
                for position in 0..held.len() {
                    let slot = usize::try_from(self.cache.slot(*id, position)).unwrap();
                    assert_eq!(self.slots[slot], held[..=position], "{id:?} at {position}");
                }
            }
            let tables = self.cache.tables();
            let blocks = 0..tables.len() as i32;
            for block in blocks.clone() {
                let holders = tables.iter().filter(|&&entry| entry == block).count();
                assert_eq!(self.cache.blocks.holders(block) as usize, holders);
            }
            let idle = blocks.filter(|block| !tables.contains(block)).count();
            assert_eq!(self.cache.blocks.check(), idle);
        }
    }

    #[test]
    fn a_common_prefix_is_held_once_and_found_after_its_end() {
        let mut device = Device::new();
        let prompt: Vec<u32> = (0..90).collect();
        for which in 0..2 {
            device.act(which, Act::Open);
            device.act(which, Act::Reuse(prompt.clone()));
        }
        // Two blocks are common, and each has its own third.
        let blocks = |cache: &KvCache| cache.tables().iter().filter(|&&block| block >= 0).count();
        let mut tables = device.cache.tables().to_vec();
        tables.sort_unstable();
        tables.dedup();
        assert_eq!((blocks(&device.cache), tables.len()), (6, 1 + 4));
        device.act(0, Act::Close);
        device.act(1, Act::Close);
        let id = device.cache.open().unwrap();
        assert_eq!(device.cache.reuse(id, &prompt[..65]).unwrap(), 64);
        assert_eq!(device.cache.reuse(id, &prompt[..64]).unwrap(), 63, "the last token's logits are wanted");
        assert_eq!(device.cache.reuse(id, &[]).unwrap(), 0);
        assert_eq!(device.cache.reuse(id, &prompt[1..]).unwrap(), 0);
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let mut device = Device::new();
        let prompt = |seed: u32| (0..97).map(|i| seed * 1000 + i).collect::<Vec<u32>>();
        // Twelve blocks: three prompts' full ones, and a fourth block of the sequence that is open.
        for seed in [0, 1, 2, 0, 3] {
            device.act(0, Act::Open);
            device.act(0, Act::Reuse(prompt(seed)));
            device.act(0, Act::Close);
        }
        let found = [0, 1, 2, 3].map(|seed| device.cache.blocks.find_all(&prompt(seed)).1);
        assert_eq!(found, [3, 2, 3, 3], "the end of the oldest goes");
    }

    proptest! {
        /// Whatever sequences do, each reads its own tokens' keys and values, nobody writes what another reads, and
        /// closing all releases everything.
        #[test]
        fn sequences_share_blocks_and_never_disturb_each_other(
            acts in prop::collection::vec((0..N_SEQUENCES, act()), 1..60),
        ) {
            let mut device = Device::new();
            for (which, act) in acts {
                device.act(which, act);
            }
            (0..N_SEQUENCES).for_each(|which| device.act(which, Act::Close));
            prop_assert_eq!(device.cache.blocks.check(), device.cache.tables().len());
            prop_assert!(device.cache.tables().iter().all(|&block| block == NONE));
        }
    }
}
