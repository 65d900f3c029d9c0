//! What the simulated device found wrong.

use std::fmt;

use crate::hip::api::{
    hipError_t, hipErrorIllegalAddress, hipErrorInvalidHandle, hipErrorInvalidValue, hipErrorLaunchFailure,
};

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An access outside of live memory, or past the end of a shared variable.
    OutOfBounds,
    /// An access to memory that was freed.
    UseAfterFree,
    /// A read of memory that nothing has written.
    Uninitialised,
    /// An access of 2, 4, 8 or 16 bytes at an address that is no multiple of as much: real devices refuse it, or read
    /// elsewhere.
    Misaligned,
    /// Two threads of a block, one of them writing, without a barrier between them.
    SharedRace,
    /// A barrier that not all threads of a block (lanes of a wave) reach, or a shuffle from a lane that is not there.
    Divergence,
    /// A thread's stack overflowed.
    StackOverflow,
    /// Two operations of different streams, one of them writing, that no event orders.
    StreamRace,
    /// Memory of the host changed while a copy from it was queued.
    HostRace,
    /// Memory, a module, a stream or an event that queued work uses was given back.
    FreedInFlight,
    /// A call that rfgraph's rules forbid: the null stream, a blocking stream, a copy of memory that is not pinned.
    Forbidden,
    /// A handle or an address that is none, or no longer.
    BadHandle,
}

/// What the simulated device found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// What happened, which operation and which addresses.
    pub text: String,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, text: impl Into<String>) -> Fault {
        Fault { kind, text: text.into() }
    }

    /// The code that calls and fences answer after it.
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
