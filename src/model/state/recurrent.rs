//! Recurrent state: memory of one size for each sequence, independent of its length (a convolution's last inputs, a
//! scan's matrix).
//!
//! It describes the end of the sequence and no earlier position, so it cannot be cut. Instead a step reads one slot and
//! may write another: an old slot that still has a holder is a snapshot, and costs no copy. Holders are each sequence
//! (its current slot), its mark (before guesses), and snapshots at the ends of prefixes, of which the least recently
//! used is dropped first.

use super::blocks::{Blocks, Prefix};
use super::paged::Paged;
use super::{BLOCK_SIZE, CacheLayout, SequenceState};
use crate::model::ModelError;

/// The slots of recurrent state and their holders.
#[derive(Clone, Debug)]
pub(super) struct Recurrent {
    /// The number of holders of each slot.
    holders: Vec<u32>,
    sequences: Vec<Sequence>,
    snapshots: Vec<Snapshot>,
    n_snapshots: usize,
    /// Counts uses, to find the least recently used snapshot.
    clock: u64,
}

/// The slots of one sequence.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    /// The slot of the state after the last token; `None` before the first token.
    current: Option<u32>,
    /// A position, and the slot of the state there.
    mark: Option<(usize, u32)>,
    /// The slot that the current step writes.
    target: Option<u32>,
}

/// The state at the end of a findable prefix.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    prefix: Prefix,
    slot: u32,
    used: u64,
}

impl Recurrent {
    /// Free slots for the sequences of a layout.
    pub fn new(layout: CacheLayout) -> Recurrent {
        Recurrent {
            holders: vec![0; layout.n_recurrent_slots()],
            sequences: vec![Sequence::default(); layout.n_sequences],
            snapshots: Vec::with_capacity(layout.n_snapshots),
            n_snapshots: layout.n_snapshots,
            clock: 0,
        }
    }

    /// Bytes of the records that [`Recurrent::new`] makes.
    pub fn bytes(layout: CacheLayout) -> usize {
        let sequences = layout.n_sequences.saturating_mul(size_of::<Sequence>());
        let snapshots = layout.n_snapshots.saturating_mul(size_of::<Snapshot>());
        let holders = layout.n_recurrent_slots().saturating_mul(size_of::<u32>());
        sequences.saturating_add(snapshots).saturating_add(holders)
    }

    /// The slots that the current step reads and writes; the first is -1 for a sequence that begins with zeros.
    pub fn source_and_target(&self, seq: usize) -> [i32; 2] {
        let slot = |slot: Option<u32>| slot.map_or(-1, |slot| slot as i32);
        self.sequences.get(seq).map_or([-1, -1], |sequence| [slot(sequence.current), slot(sequence.target)])
    }

    /// Keeps the present state, after `len` tokens, until the next mark.
    pub fn mark(&mut self, seq: usize, len: usize) {
        self.unmark(seq);
        if let Some(current) = self.sequences[seq].current {
            self.hold(current);
            self.sequences[seq].mark = Some((len, current));
        }
    }

    /// Abandons the current step, which failed. Returns true if it may have overwritten the sequence's state.
    pub fn abandon(&mut self, seq: usize) -> bool {
        let Some(target) = self.sequences[seq].target.take() else { return false };
        if self.sequences[seq].current == Some(target) {
            return true;
        }
        self.release(target);
        false
    }

    fn unmark(&mut self, seq: usize) {
        if let Some((_, slot)) = self.sequences[seq].mark.take() {
            self.release(slot);
        }
    }

    fn hold(&mut self, slot: u32) {
        self.holders[slot as usize] += 1;
    }

    fn release(&mut self, slot: u32) {
        self.holders[slot as usize] -= 1;
    }

    /// Takes a slot without holders, dropping snapshots if necessary.
    fn take(&mut self) -> Result<u32, ModelError> {
        loop {
            if let Some(slot) = self.holders.iter().position(|&holders| holders == 0) {
                self.holders[slot] = 1;
                return Ok(slot as u32);
            }
            if !self.drop_oldest_snapshot() {
                return Err(ModelError::NoFreeSlot { n_slots: self.holders.len() });
            }
        }
    }

    fn drop_oldest_snapshot(&mut self) -> bool {
        let oldest = self.snapshots.iter().enumerate().min_by_key(|(_, snapshot)| snapshot.used);
        let Some(at) = oldest.map(|(at, _)| at) else { return false };
        let snapshot = self.snapshots.swap_remove(at);
        self.release(snapshot.slot);
        true
    }

    /// Drops the snapshots of prefixes that are not findable any more: their blocks now hold other tokens.
    pub fn drop_void(&mut self, blocks: &Blocks) {
        let is_void = |snapshot: &Snapshot| blocks.prefix(snapshot.prefix.block) != Some(snapshot.prefix);
        while let Some(at) = self.snapshots.iter().position(is_void) {
            let snapshot = self.snapshots.swap_remove(at);
            self.release(snapshot.slot);
        }
    }

    /// The slot of the snapshot of a prefix.
    fn find(&self, prefix: Prefix) -> Option<u32> {
        self.snapshots.iter().find(|snapshot| snapshot.prefix == prefix).map(|snapshot| snapshot.slot)
    }

    /// True if there is a snapshot of a prefix.
    pub fn has(&self, prefix: Prefix) -> bool {
        self.find(prefix).is_some()
    }

    /// Keeps a snapshot of the state of a sequence that is now a findable prefix.
    fn keep(&mut self, prefix: Prefix, slot: u32) {
        self.clock += 1;
        let used = self.clock;
        if let Some(known) = self.snapshots.iter_mut().find(|snapshot| snapshot.prefix == prefix) {
            known.used = used;
            return;
        }
        if self.snapshots.len() >= self.n_snapshots && !self.drop_oldest_snapshot() {
            return;
        }
        self.hold(slot);
        self.snapshots.push(Snapshot { prefix, slot, used });
    }

    /// Makes a slot the current state of a sequence.
    fn set_current(&mut self, seq: usize, slot: Option<u32>) {
        if let Some(slot) = slot {
            self.hold(slot);
        }
        if let Some(old) = std::mem::replace(&mut self.sequences[seq].current, slot) {
            self.release(old);
        }
    }
}

impl SequenceState for Recurrent {
    /// A slot that only the sequence holds is written in place; otherwise a new slot is written.
    fn reserve(&mut self, seq: usize, _: usize, _: usize) -> Result<(), ModelError> {
        self.abandon(seq);
        let target = match self.sequences[seq].current {
            Some(current) if self.holders[current as usize] == 1 => current,
            _ => self.take()?,
        };
        self.sequences[seq].target = Some(target);
        Ok(())
    }

    fn advance(&mut self, seq: usize, _: usize, _: &[u32], end: Option<Prefix>) {
        let Some(target) = self.sequences[seq].target.take() else { return };
        if self.sequences[seq].current != Some(target) {
            // The sequence takes over the reservation's hold.
            if let Some(old) = self.sequences[seq].current.replace(target) {
                self.release(old);
            }
        }
        if let Some(prefix) = end {
            self.keep(prefix, target);
        }
    }

    fn can_rewind(&self, seq: usize, len: usize, to: usize, paged: &Paged) -> usize {
        if to >= len {
            return len;
        }
        let mark = self.sequences[seq].mark.map_or(0, |(position, _)| position);
        let mark = if mark <= to { mark } else { 0 };
        let at_blocks = (1..=to / BLOCK_SIZE).rev().map(|n| n * BLOCK_SIZE);
        let kept = |&at: &usize| paged.prefix(seq, at).is_some_and(|prefix| self.has(prefix));
        at_blocks.take_while(|&at| at > mark).find(kept).unwrap_or(mark)
    }

    fn rewind(&mut self, seq: usize, len: usize, to: usize, prefix: Option<Prefix>) {
        self.abandon(seq);
        if to < len {
            let marked = self.sequences[seq].mark.filter(|(position, _)| *position == to);
            let slot = match marked {
                Some((_, slot)) => Some(slot),
                None => prefix.and_then(|prefix| self.find(prefix)),
            };
            self.set_current(seq, slot.filter(|_| to > 0));
        }
        if self.sequences[seq].mark.is_some_and(|(position, _)| position > to || to == 0) {
            self.unmark(seq);
        }
    }

    fn share(&mut self, seq: usize, prefix: Prefix) {
        self.clock += 1;
        let used = self.clock;
        if let Some(snapshot) = self.snapshots.iter_mut().find(|snapshot| snapshot.prefix == prefix) {
            snapshot.used = used;
            let slot = snapshot.slot;
            self.set_current(seq, Some(slot));
        }
    }
}

#[cfg(test)]
impl Recurrent {
    /// The slot of a sequence's state.
    pub fn current(&self, seq: usize) -> Option<u32> {
        self.sequences[seq].current
    }

    /// Panics unless the number of holders of every slot is right.
    pub fn check(&self) {
        let mut named = vec![0; self.holders.len()];
        for sequence in &self.sequences {
            let mark = sequence.mark.map(|(_, slot)| slot);
            let target = sequence.target.filter(|target| sequence.current != Some(*target));
            for slot in sequence.current.into_iter().chain(mark).chain(target) {
                named[slot as usize] += 1;
            }
        }
        self.snapshots.iter().for_each(|snapshot| named[snapshot.slot as usize] += 1);
        assert_eq!(self.holders, named);
        assert!(self.snapshots.len() <= self.n_snapshots);
    }
}
