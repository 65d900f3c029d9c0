//! Faults that the simulated device finds.

use std::fmt;

use crate::hip::api::{
    hipError_t, hipErrorIllegalAddress, hipErrorInvalidHandle, hipErrorInvalidValue, hipErrorLaunchFailure,
};

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside live memory, or past the end of a shared variable.
    OutOfBounds,
    /// An access to memory that was freed.
    UseAfterFree,
    /// A read of memory that was never written.
    Uninitialised,
    /// An access of 2, 4, 8 or 16 bytes at an address that is not a multiple of its size: real devices refuse it, or
    /// read elsewhere.
    Misaligned,
    /// Conflicting accesses of two threads of a block without a barrier between them.
    SharedRace,
    /// A barrier that not all threads of a block (lanes of a wave) reach, or a shuffle from an inactive lane.
    Divergence,
    /// A thread's stack overflowed.
    StackOverflow,
    /// Conflicting accesses of two operations of different streams, not ordered by an event.
    StreamRace,
    /// Host memory changed while a copy from it was queued.
    HostRace,
    /// Memory, a module, a stream or an event was released while queued work uses it.
    FreedInFlight,
    /// A call that rfgraph forbids: the null stream, a blocking stream, a copy of memory that is not pinned.
    Forbidden,
    /// An invalid handle or address, or one that was released.
    BadHandle,
}

/// A fault that the simulated device found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// A description, with the operation and the addresses.
    pub text: String,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, text: impl Into<String>) -> Fault {
        Fault { kind, text: text.into() }
    }

    /// The code that later calls and fences return.
    pub(super) fn code(&self) -> hipError_t {
        match self.kind {
            FaultKind::OutOfBounds | FaultKind::UseAfterFree | FaultKind::FreedInFlight => {
                hipErrorIllegalAddress
            }
            FaultKind::Forbidden => hipErrorInvalidValue,
            FaultKind::BadHandle => hipErrorInvalidHandle,
            _ => hipErrorLaunchFailure,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}
