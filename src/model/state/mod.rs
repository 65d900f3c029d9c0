//! The states of sequences: memory that later tokens of a sequence read.
//!
//! A state has a kind, which the graph declares with the state: *paged* state is addressed by position (keys and
//! values; [`paged`]), *recurrent* state has one size for any length of the sequence ([`recurrent`]). Every kind
//! implements [`SequenceState`]; [`States`] calls all kinds that a model has, and owns the sequences.
//!
//! This folder counts tokens, blocks and slots. It knows no graphs, plans or devices: the bytes of a block or slot are
//! defined by the plan's states. Of tensors it knows the dtypes of cached keys and values, which `kv_write` writes.

mod blocks;
mod layout;
mod paged;
mod prefix_end;
mod recurrent;
#[cfg(test)]
mod tests;

pub use layout::{BLOCK_SIZE, CacheLayout, CacheTypes};
pub use prefix_end::PrefixEnd;

use blocks::{NO_TOKEN, Prefix};
use paged::Paged;
use recurrent::Recurrent;

use super::ModelError;

/// The operations of a kind of state. `seq` is a sequence's number, `len` the number of its tokens.
trait SequenceState {
    /// Makes room for `n` more tokens. After an error nothing has changed.
    fn reserve(&mut self, seq: usize, len: usize, n: usize) -> Result<(), ModelError>;

    /// Appends computed tokens. `end` is the findable prefix that the whole sequence now is, if its state should be
    /// kept in a snapshot.
    fn advance(&mut self, seq: usize, len: usize, tokens: &[u32], end: Option<Prefix>);

    /// The largest number of tokens, at most `to`, that the state can be rewound to.
    fn can_rewind(&self, seq: usize, len: usize, to: usize, paged: &Paged) -> usize;

    /// Rewinds to `to` tokens, as `can_rewind` allowed. `prefix` is the findable prefix of that length.
    fn rewind(&mut self, seq: usize, len: usize, to: usize, prefix: Option<Prefix>);

    /// Makes an empty sequence begin with a findable prefix that has state of this kind.
    fn share(&mut self, seq: usize, prefix: Prefix);
}

/// Identifies a sequence of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId(pub(super) usize);

impl SequenceId {
    /// Its number, below the session's number of sequences. A later sequence may get the number of a closed one.
    pub fn index(self) -> usize {
        self.0
    }
}

/// The result of rewinding a sequence to fewer tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a sequence that is shorter than was asked for lacks tokens"]
pub enum Rewind {
    /// The sequence holds the requested tokens.
    Done,
    /// The sequence now holds only this many tokens, as its state has no later point: append the others again.
    RecomputeFrom(usize),
}

/// A sequence that was put aside: its tokens, for [`Session::go_on`](super::Session::go_on).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    tokens: Vec<u32>,
    salt: u64,
}

impl Aside {
    /// All tokens of the sequence.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// An open sequence.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    /// The number of tokens and embedding rows.
    len: usize,
    /// The position of the first embedding row, if there is one.
    first_embedding: Option<usize>,
}

/// The sequences of a session, and the blocks and slots of their states.
#[derive(Clone, Debug)]
pub struct States {
    layout: CacheLayout,
    n_ctx_train: usize,
    sequences: Vec<Option<Sequence>>,
    paged: Paged,
    recurrent: Option<Recurrent>,
}

impl States {
    /// States without an open sequence, all blocks free; [`CacheLayout::table_bytes`] bytes. `n_ctx_train` is only for
    /// messages.
    pub fn new(layout: CacheLayout, n_ctx_train: usize) -> States {
        let sequences = vec![None; layout.n_sequences];
        States { layout, n_ctx_train, sequences, paged: Paged::new(layout), recurrent: None }
    }

    /// Adds slots of recurrent state, for a model that has such state. No sequence may be open.
    pub(super) fn with_recurrent(&mut self) {
        self.recurrent.get_or_insert_with(|| Recurrent::new(self.layout));
    }

    /// True if the model has recurrent state, which cannot be rewound to any position.
    pub fn has_recurrent(&self) -> bool {
        self.recurrent.is_some()
    }

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// [`ModelError::NoFreeSequence`] if all sequences of the session are open.
    pub fn open(&mut self) -> Result<SequenceId, ModelError> {
        self.open_salted(0)
    }

    /// As [`States::open`]; the sequence shares blocks only with sequences of the same salt.
    ///
    /// # Errors
    /// As [`States::open`].
    pub fn open_salted(&mut self, salt: u64) -> Result<SequenceId, ModelError> {
        let n_sequences = self.sequences.len();
        let full = || ModelError::NoFreeSequence { n_sequences };
        let id = self.sequences.iter().position(Option::is_none).ok_or_else(full)?;
        self.sequences[id] = Some(Sequence::default());
        self.paged.salts[id] = salt;
        Ok(SequenceId(id))
    }

    fn sequence(&self, id: SequenceId) -> Result<Sequence, ModelError> {
        let closed = || ModelError::ClosedSequence { sequence: id.0 };
        self.sequences.get(id.0).copied().flatten().ok_or_else(closed)
    }

    /// The number of tokens (and embedding rows) in a sequence.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if it is not open.
    pub fn len(&self, id: SequenceId) -> Result<usize, ModelError> {
        Ok(self.sequence(id)?.len)
    }

    /// True if no sequence holds a token.
    pub fn is_empty(&self) -> bool {
        self.sequences.iter().flatten().all(|sequence| sequence.len == 0)
    }

    /// The sequences that are open.
    pub fn open_sequences(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.sequences
            .iter()
            .enumerate()
            .filter(|(_, sequence)| sequence.is_some())
            .map(|(i, _)| SequenceId(i))
    }

    /// The most sequences that are open at a time.
    pub fn n_sequences(&self) -> usize {
        self.layout.n_sequences
    }

    /// The number of tokens that fit blocks which no open sequence holds.
    pub fn free_tokens(&self) -> usize {
        self.paged.blocks.n_idle() * BLOCK_SIZE
    }

    fn kinds(&mut self) -> impl Iterator<Item = &mut dyn SequenceState> {
        let recurrent = self.recurrent.as_mut().map(|kind| kind as &mut dyn SequenceState);
        std::iter::once(&mut self.paged as &mut dyn SequenceState).chain(recurrent)
    }

    /// Makes room for `n` more tokens of a sequence, without appending them.
    ///
    /// # Errors
    /// [`ModelError::ContextFull`] if the sequence may not hold so many tokens, [`ModelError::CacheFull`] if other
    /// sequences hold the blocks. Nothing has changed then.
    pub(super) fn reserve(&mut self, id: SequenceId, n: usize) -> Result<(), ModelError> {
        let len = self.len(id)?;
        let (wanted, n_ctx) = (len.saturating_add(n), self.n_ctx());
        if wanted > n_ctx {
            return Err(ModelError::ContextFull { wanted, n_ctx, n_ctx_train: self.n_ctx_train });
        }
        self.kinds().try_for_each(|kind| kind.reserve(id.0, len, n))
    }

    /// Releases the room that was reserved for a step that did not run, or failed. A sequence whose recurrent state may
    /// have been overwritten is empty afterwards.
    pub(super) fn abandon(&mut self, id: SequenceId, ran: bool) {
        let Ok(len) = self.len(id) else { return };
        let lost = self.recurrent.as_mut().is_some_and(|recurrent| recurrent.abandon(id.0));
        let to = if lost && ran { 0 } else { len };
        self.cut(id, to);
    }

    /// Appends computed tokens, [`NO_TOKEN`] for an embedding row. Blocks that are now full become findable.
    pub(super) fn advance(&mut self, id: SequenceId, tokens: &[u32]) {
        let Ok(mut sequence) = self.sequence(id) else { return };
        let len = sequence.len;
        self.paged.advance(id.0, len, tokens, None);
        let end = len + tokens.len();
        // Snapshots after single tokens of an answer would evict those of prompts. The room of a prompt is reserved at
        // once, so before its last token the sequence has room for more.
        let of_prompt = tokens.len() > 1 || self.paged.slot(id.0, end) >= 0;
        let prefix = self.paged.prefix(id.0, end).filter(|_| of_prompt);
        if let Some(recurrent) = &mut self.recurrent {
            if prefix.is_some() {
                recurrent.drop_void(&self.paged.blocks);
            }
            recurrent.advance(id.0, len, tokens, prefix);
        }
        if sequence.first_embedding.is_none() {
            sequence.first_embedding = tokens.iter().position(|&token| token == NO_TOKEN).map(|at| len + at);
        }
        sequence.len += tokens.len();
        self.sequences[id.0] = Some(sequence);
    }

    /// Keeps the present state, so that the sequence can be rewound to this point until the next mark: call it before
    /// tokens that are guesses. Paged state needs no mark.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub fn mark(&mut self, id: SequenceId) -> Result<(), ModelError> {
        let len = self.len(id)?;
        if let Some(recurrent) = &mut self.recurrent {
            recurrent.mark(id.0, len);
        }
        Ok(())
    }

    /// The largest number of tokens, at most `to`, that all kinds of state can be rewound to.
    fn can_rewind(&self, id: SequenceId, len: usize, to: usize) -> usize {
        let mut to = to.min(len);
        loop {
            let paged = self.paged.can_rewind(id.0, len, to, &self.paged);
            let all =
                self.recurrent.as_ref().map_or(paged, |kind| kind.can_rewind(id.0, len, paged, &self.paged));
            if all == to {
                return to;
            }
            to = all;
        }
    }

    /// Forgets all tokens of a sequence from `to` on, and releases the blocks that are then empty. They stay findable
    /// until their memory is needed.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub fn rewind(&mut self, id: SequenceId, to: usize) -> Result<Rewind, ModelError> {
        let len = self.len(id)?;
        let to = to.min(len);
        let held = self.can_rewind(id, len, to);
        self.cut(id, held);
        Ok(if held == to { Rewind::Done } else { Rewind::RecomputeFrom(held) })
    }

    /// Cuts a sequence to a length that `can_rewind` allowed.
    fn cut(&mut self, id: SequenceId, to: usize) {
        let Ok(mut sequence) = self.sequence(id) else { return };
        let prefix = self.paged.prefix(id.0, to);
        let len = sequence.len;
        // First, since recurrent state is found by the prefix, which rewinding paged state may forget.
        if let Some(recurrent) = &mut self.recurrent {
            recurrent.rewind(id.0, len, to, prefix);
        }
        self.paged.rewind(id.0, len, to, prefix);
        sequence.len = to;
        sequence.first_embedding = sequence.first_embedding.filter(|&at| at < to);
        self.sequences[id.0] = Some(sequence);
    }

    /// The tokens of a sequence.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`], [`ModelError::EmbeddingRow`].
    pub fn tokens(&self, id: SequenceId) -> Result<impl ExactSizeIterator<Item = u32> + use<'_>, ModelError> {
        let sequence = self.sequence(id)?;
        if let Some(row) = sequence.first_embedding {
            return Err(ModelError::EmbeddingRow { sequence: id.0, row });
        }
        Ok((0..sequence.len).map(move |position| self.paged.token(id.0, position)))
    }

    /// The number of these tokens that a sequence begins with.
    fn common(&self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let held = (0..self.len(id)?).map(|position| self.paged.token(id.0, position));
        // An embedding row equals no token, not even a token with the number of `NO_TOKEN`.
        Ok(held.zip(tokens).take_while(|(held, token)| held == *token && *held != NO_TOKEN).count())
    }

    /// The number of these tokens that a sequence with this salt would find in the states.
    pub fn findable(&self, salt: u64, tokens: &[u32]) -> usize {
        self.find(salt, tokens).map_or(0, |(_, n)| n)
    }

    /// The longest findable prefix of these tokens that has state of every kind, and its length.
    fn find(&self, salt: u64, tokens: &[u32]) -> Option<(Prefix, usize)> {
        let (mut block, mut n) = self.paged.blocks.find_all(salt, tokens);
        while let Some(prefix) = self.paged.blocks.prefix(block) {
            if self.recurrent.as_ref().is_none_or(|recurrent| recurrent.has(prefix)) {
                return Some((prefix, n * BLOCK_SIZE));
            }
            (block, n) = (self.paged.blocks.parent(block), n - 1);
        }
        None
    }

    /// Makes a sequence hold as many of these tokens as it or the pool holds, and returns their number.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub(super) fn reuse(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let len = self.len(id)?;
        let own = self.can_rewind(id, len, self.common(id, tokens)?);
        let salt = self.salt(id);
        if self.find(salt, tokens).is_none_or(|(_, n)| n <= own) {
            self.cut(id, own);
            return Ok(own);
        }
        self.cut(id, 0);
        // Cutting may have made more of the tokens findable.
        let Some((prefix, n)) = self.find(salt, tokens) else { return Ok(0) };
        self.kinds().for_each(|kind| kind.share(id.0, prefix));
        self.sequences[id.0] = Some(Sequence { len: n, first_embedding: None });
        Ok(n)
    }

    /// Closes a sequence and releases its blocks.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if it is not open.
    pub fn close(&mut self, id: SequenceId) -> Result<(), ModelError> {
        self.sequence(id)?;
        self.cut(id, 0);
        self.sequences[id.0] = None;
        Ok(())
    }

    /// Closes a sequence that will go on later; its blocks stay findable until their memory is needed.
    ///
    /// # Errors
    /// As [`States::tokens`]: a sequence with embedding rows cannot be computed again.
    pub fn put_aside(&mut self, id: SequenceId) -> Result<Aside, ModelError> {
        let tokens = self.tokens(id)?.collect();
        let salt = self.salt(id);
        self.close(id)?;
        Ok(Aside { tokens, salt })
    }

    /// Opens a sequence that was put aside, and returns the number of its tokens that the states still hold.
    ///
    /// # Errors
    /// As [`States::open`].
    pub(super) fn go_on(&mut self, aside: &Aside) -> Result<(SequenceId, usize), ModelError> {
        let id = self.open_salted(aside.salt)?;
        Ok((id, self.reuse(id, &aside.tokens)?))
    }

    /// Opens a sequence that begins as an open one, and returns the number of tokens that both share.
    ///
    /// # Errors
    /// As [`States::open`] and [`States::tokens`].
    pub(super) fn fork(&mut self, id: SequenceId) -> Result<(SequenceId, usize), ModelError> {
        let tokens: Vec<u32> = self.tokens(id)?.collect();
        let fork = self.open_salted(self.salt(id))?;
        Ok((fork, self.reuse(fork, &tokens)?))
    }

    fn salt(&self, id: SequenceId) -> u64 {
        self.paged.salts.get(id.0).copied().unwrap_or_default()
    }

    /// The slot of a position of a sequence; -1 if the sequence has no block for it.
    pub fn slot(&self, id: SequenceId, position: usize) -> i32 {
        self.paged.slot(id.0, position)
    }

    /// The slots of recurrent state that the current step reads and writes; -1 for none.
    pub(super) fn source_and_target(&self, id: SequenceId) -> [i32; 2] {
        self.recurrent.as_ref().map_or([-1, -1], |recurrent| recurrent.source_and_target(id.0))
    }

    /// The block tables in the layout of the graph's input.
    pub fn tables(&self) -> &[i32] {
        &self.paged.tables
    }

    /// The sizes of the states.
    pub fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// The most tokens of a sequence: its context, or all tokens of the pool if these are fewer.
    pub fn n_ctx(&self) -> usize {
        self.layout.n_ctx.min(self.layout.blocks_per_sequence * BLOCK_SIZE)
    }
}

/// The token that stands for an embedding row.
pub(super) const EMBEDDING_ROW: u32 = NO_TOKEN;
