//! Memory of the simulated device, and pinned memory of the host: mapped address ranges from which each address is
//! allocated only once, so that uses of freed memory are found.

use std::collections::BTreeMap;
use std::io;

use memmap2::{MmapMut, MmapOptions};

/// The content of memory before it is written and after it is freed.
pub(super) const POISON: u8 = 0xA5;
/// Bits of the shadow, one byte per byte of device memory (the same as in `kernels/sim_state.h`).
pub(super) const VALID: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITTEN: u8 = 4;
pub(super) const LIVE: u8 = 8;

/// The alignment of allocations, and the least number of unused bytes after each.
const GAP: usize = 256;
/// Larger allocations are unmapped instead of poisoned when freed, as filling them would make them resident.
const POISON_LIMIT: usize = 64 << 20;
/// The most bytes that a kernel loads in one access, past the end of a range.
const SLACK: usize = 64;
/// Bytes per entry of the page map.
const PAGE: usize = 4096;

/// An allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub start: usize,
    pub bytes: usize,
    /// Its number on this device, in order of allocation.
    pub number: u64,
}

impl Block {
    fn holds(&self, at: usize, bytes: usize) -> bool {
        at >= self.start && bytes <= self.bytes && at - self.start <= self.bytes - bytes
    }
}

/// The location of an address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressState {
    /// Inside one live allocation.
    Live(Block),
    /// Inside a freed allocation.
    Freed(Block),
    /// Starts in a live allocation and ends past it.
    Past(Block),
    /// Outside all allocations.
    Unknown,
}

fn map(bytes: usize) -> io::Result<MmapMut> {
    MmapOptions::new().len(bytes).no_reserve_swap().map_anon()
}

/// An address range from which allocations are cut in order.
#[derive(Debug)]
pub(super) struct Region {
    map: MmapMut,
    base: usize,
    next: usize,
    live: BTreeMap<usize, Block>,
    freed: BTreeMap<usize, Block>,
    used: u64,
    n_made: u64,
}

impl Region {
    pub fn new(bytes: usize) -> io::Result<Region> {
        let map = map(bytes)?;
        let base = map.as_ptr() as usize;
        Ok(Region { map, base, next: GAP, live: BTreeMap::new(), freed: BTreeMap::new(), used: 0, n_made: 0 })
    }

    pub fn base(&self) -> usize {
        self.base
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn live(&self) -> impl Iterator<Item = &Block> {
        self.live.values()
    }

    /// A new allocation, poisoned; `None` if the address range is used up.
    pub fn allocate(&mut self, bytes: usize) -> Option<Block> {
        let end = self.next.checked_add(bytes)?.checked_add(GAP + SLACK)?;
        if end > self.map.len() {
            return None;
        }
        let block = Block { start: self.base + self.next, bytes, number: self.n_made };
        if bytes <= POISON_LIMIT
            && let Some(content) = self.map.get_mut(self.next..self.next + bytes)
        {
            content.fill(POISON);
        }
        self.n_made += 1;
        self.next = (self.next + bytes).next_multiple_of(GAP) + GAP;
        self.used += bytes as u64;
        self.live.insert(block.start, block);
        Some(block)
    }

    /// Frees the allocation that starts at `start`.
    pub fn free(&mut self, start: usize) -> Option<Block> {
        let block = self.live.remove(&start)?;
        self.used -= block.bytes as u64;
        self.freed.insert(start, block);
        let at = start - self.base;
        if block.bytes <= POISON_LIMIT {
            if let Some(content) = self.map.get_mut(at..at + block.bytes) {
                content.fill(POISON);
            }
        } else {
            // SAFETY: the range's old content is never read again; it reads as zeros afterwards.
            let _ = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, at, block.bytes)
            };
        }
        Some(block)
    }

    /// The location of `bytes` bytes at `at`.
    pub fn place(&self, at: usize, bytes: usize) -> AddressState {
        let below = |blocks: &BTreeMap<usize, Block>| {
            let (_, block) = blocks.range(..=at).next_back()?;
            (at < block.start + block.bytes.max(1)).then_some(*block)
        };
        match (below(&self.live), below(&self.freed)) {
            (Some(block), _) if block.holds(at, bytes) => AddressState::Live(block),
            (Some(block), _) => AddressState::Past(block),
            (_, Some(block)) => AddressState::Freed(block),
            _ => AddressState::Unknown,
        }
    }

    /// The nearest allocation at or below an address, and true if it is live: for messages.
    pub fn nearest(&self, at: usize) -> Option<(Block, bool)> {
        let live = self.live.range(..=at).next_back().map(|(_, block)| (*block, true));
        let freed = self.freed.range(..=at).next_back().map(|(_, block)| (*block, false));
        [live, freed].into_iter().flatten().max_by_key(|(block, _)| block.start)
    }
}

/// Device memory with its shadow.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    pub region: Region,
    shadow: MmapMut,
    pages: MmapMut,
    /// True if loads of bytes that were never written are faults.
    tracks_writes: bool,
}

impl DeviceMemory {
    pub fn new(bytes: usize, tracks_writes: bool) -> io::Result<DeviceMemory> {
        Ok(DeviceMemory {
            region: Region::new(bytes)?,
            shadow: map(bytes + SLACK)?,
            pages: map(bytes / PAGE + 2)?,
            tracks_writes,
        })
    }

    fn shadow_of(&mut self, at: usize, bytes: usize) -> &mut [u8] {
        let at = at.wrapping_sub(self.region.base);
        let end = at.saturating_add(bytes);
        self.shadow.get_mut(at..end).unwrap_or_default()
    }

    pub fn allocate(&mut self, bytes: usize) -> Option<Block> {
        let block = self.region.allocate(bytes)?;
        let state = if self.tracks_writes { LIVE } else { LIVE | VALID };
        self.shadow_of(block.start, bytes).fill(state);
        Some(block)
    }

    pub fn free(&mut self, start: usize) -> Option<Block> {
        let block = self.region.free(start)?;
        self.shadow_of(start, block.bytes).fill(0);
        Some(block)
    }

    /// Marks a range as written.
    pub fn set_written(&mut self, at: usize, bytes: usize) {
        for state in self.shadow_of(at, bytes) {
            *state |= VALID;
        }
    }

    /// The first byte of a range that was never written.
    pub fn first_unwritten(&mut self, at: usize, bytes: usize) -> Option<usize> {
        self.shadow_of(at, bytes).iter().position(|state| state & VALID == 0).map(|i| at + i)
    }

    /// Copies the written marks of one range to another.
    pub fn copy_written(&mut self, to: usize, from: usize, bytes: usize) {
        let (to, from) = (to - self.region.base, from - self.region.base);
        self.shadow.copy_within(from..from + bytes, to);
    }

    /// Addresses of the shadow and of the page map, for kernels.
    pub fn maps(&mut self) -> (*mut u8, *mut u8) {
        (self.shadow.as_mut_ptr(), self.pages.as_mut_ptr())
    }

    /// Takes and clears the ranges that a kernel read and wrote, as `(start, end, written)`.
    pub fn take_touched(&mut self) -> Vec<(usize, usize, bool)> {
        let used = (self.region.next / PAGE + 1).min(self.pages.len());
        let mut ranges: Vec<(usize, usize, bool)> = Vec::new();
        // The last range of reads, and the last of writes.
        let mut open: [Option<(usize, usize)>; 2] = [None, None];
        // Most pages are untouched, so groups of them are skipped at once.
        let touched = |pages: &[u8]| pages.iter().fold(0, |all, page| all | page) != 0;
        let groups = self.pages[..used].chunks_mut(64).enumerate().filter(|(_, pages)| touched(pages));
        let touched = groups.flat_map(|(group, pages)| {
            pages.iter_mut().enumerate().filter(|(_, page)| **page != 0).map(move |(i, page)| {
                *page = 0;
                group * 64 + i
            })
        });
        for page in touched {
            let start = page * PAGE;
            let end = (start + PAGE).min(self.shadow.len());
            let states = &mut self.shadow[start..end];
            for (chunk, states) in states.chunks_mut(8).enumerate() {
                let at = self.region.base + start + chunk * 8;
                let word = states.first_chunk::<8>().map(|states| u64::from_ne_bytes(*states));
                let bits = [READ, WRITTEN].map(|bit| u64::from_ne_bytes([bit; 8]));
                match word {
                    Some(word) if word & (bits[0] | bits[1]) == 0 => continue,
                    // All eight are alike, as in nearly all cases.
                    Some(word) if bits.iter().all(|bit| word & bit == 0 || word & bit == *bit) => {
                        for (which, bit) in bits.into_iter().enumerate() {
                            if word & bit != 0 {
                                extend(&mut open[which], at, 8, which == 1, &mut ranges);
                            }
                        }
                    }
                    _ => {
                        for (i, state) in states.iter().enumerate() {
                            for (which, bit) in [READ, WRITTEN].into_iter().enumerate() {
                                if state & bit != 0 {
                                    extend(&mut open[which], at + i, 1, which == 1, &mut ranges);
                                }
                            }
                        }
                    }
                }
                states.iter_mut().for_each(|state| *state &= !(READ | WRITTEN));
            }
        }
        for (which, range) in open.into_iter().enumerate() {
            ranges.extend(range.map(|(start, end)| (start, end, which == 1)));
        }
        ranges
    }
}

/// Extends a range, or starts a new one after a gap.
fn extend(
    open: &mut Option<(usize, usize)>,
    at: usize,
    bytes: usize,
    written: bool,
    ranges: &mut Vec<(usize, usize, bool)>,
) {
    match open {
        Some((_, end)) if *end == at => *end += bytes,
        other => {
            if let Some((start, end)) = other.replace((at, at + bytes)) {
                ranges.push((start, end, written));
            }
        }
    }
}
