//! Detects races between streams, from the order that streams and events guarantee and not from the order in which
//! operations happened to run: records the last accesses to each range of bytes.
//!
//! The method is that of FastTrack (Flanagan and Freund, PLDI 2009): a clock for each stream, the last write and the
//! last reads of each range.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::queue::Clock;

/// An access: the lane, the number of the operation in it, and the operation's number on the device for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub lane: usize,
    pub count: u64,
    pub op: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    end: usize,
    write: Option<Access>,
    reads: SmallVec<[Access; 2]>,
}

/// Two unordered accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Race {
    pub earlier: Access,
    pub earlier_writes: bool,
    pub at: usize,
    pub end: usize,
}

/// The last accesses to every range of memory.
#[derive(Debug, Default)]
pub(super) struct History {
    segments: BTreeMap<usize, Segment>,
}

impl History {
    /// Splits segments at an address, so that none crosses it.
    fn cut(&mut self, at: usize) {
        let Some((_, segment)) = self.segments.range_mut(..at).next_back() else { return };
        if segment.end > at {
            let mut rest = segment.clone();
            segment.end = at;
            rest.end = rest.end.max(at);
            self.segments.insert(at, rest);
        }
    }

    /// Records that an operation reads or writes a range; returns the first access that is not ordered before it.
    pub fn touch(
        &mut self,
        start: usize,
        end: usize,
        writes: bool,
        access: Access,
        clock: &Clock,
    ) -> Option<Race> {
        if start >= end {
            return None;
        }
        self.cut(start);
        self.cut(end);
        let mut race = None;
        for (&at, segment) in self.segments.range(start..end) {
            let unordered = |other: &Access| clock.of(other.lane) < other.count;
            let conflict = segment.write.filter(unordered).map(|earlier| (earlier, true)).or_else(|| {
                segment.reads.iter().find(|other| writes && unordered(other)).map(|earlier| (*earlier, false))
            });
            if let Some((earlier, earlier_writes)) = conflict {
                race = race.or(Some(Race { earlier, earlier_writes, at, end: segment.end }));
            }
        }
        if writes {
            let inside: SmallVec<[usize; 8]> = self.segments.range(start..end).map(|(&at, _)| at).collect();
            for at in inside {
                self.segments.remove(&at);
            }
            self.segments.insert(start, Segment { end, write: Some(access), reads: SmallVec::new() });
        } else {
            self.read(start, end, access, clock);
        }
        self.join(start);
        self.join(end);
        race
    }

    fn read(&mut self, start: usize, end: usize, access: Access, clock: &Clock) {
        let mut gaps: SmallVec<[(usize, usize); 4]> = SmallVec::new();
        let mut at = start;
        for (&from, segment) in self.segments.range_mut(start..end) {
            if from > at {
                gaps.push((at, from));
            }
            // Reads ordered before this one are redundant: any access that races with them races with this one.
            segment.reads.retain(|other| clock.of(other.lane) < other.count);
            segment.reads.push(access);
            at = segment.end;
        }
        if at < end {
            gaps.push((at, end));
        }
        for (from, end) in gaps {
            let reads = SmallVec::from_slice(&[access]);
            self.segments.insert(from, Segment { end, write: None, reads });
        }
    }

    /// Merges two equal segments that meet at an address.
    fn join(&mut self, at: usize) {
        let Some(right) = self.segments.get(&at) else { return };
        let Some((_, left)) = self.segments.range(..at).next_back() else { return };
        if left.end != at || left.write != right.write || left.reads != right.reads {
            return;
        }
        let end = right.end;
        self.segments.remove(&at);
        if let Some((_, left)) = self.segments.range_mut(..at).next_back() {
            left.end = end;
        }
    }

    /// Clears a range that was freed.
    pub fn forget(&mut self, start: usize, bytes: usize) {
        self.cut(start);
        self.cut(start + bytes);
        let inside: Vec<usize> = self.segments.range(start..start + bytes).map(|(&at, _)| at).collect();
        for at in inside {
            self.segments.remove(&at);
        }
    }
}
