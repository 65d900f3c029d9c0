//! A simulated device and its state.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::config::{Checks, Config};
use super::fault::{Fault, FaultKind};
use super::memory::{AddressState, DeviceMemory, Region};
use super::queue::{Capture, Clock, Lane, Op, Recorded, Work};
use super::race::History;
use super::random::Random;
use super::worker::Worker;
use crate::hip::api::{hipError_t, hipErrorInvalidValue, hipErrorOutOfMemory};

/// The largest number of faults that are kept.
const MOST_FAULTS: usize = 100;

/// The result of a call, with HIP's code as the error.
pub(super) type Answer<T = ()> = Result<T, hipError_t>;

/// A simulated device.
#[derive(Debug)]
pub(super) struct Device {
    pub ordinal: u32,
    pub config: Config,
    state: Mutex<State>,
}

/// A failure requested by a test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Injection {
    pub call: &'static str,
    /// The number of the call from now on, counted from 0.
    pub nth: u64,
    pub code: hipError_t,
}

/// An event.
#[derive(Clone, Debug, Default)]
pub(super) struct Event {
    /// The point queued by the last `hipEventRecord`.
    pub latest: Option<Arc<Recorded>>,
    pub timing: bool,
    /// The capture in which it was last recorded, and its point there.
    pub captured: Option<(u64, Arc<Recorded>)>,
}

/// The mutable state of a device.
#[derive(Debug)]
pub(super) struct State {
    pub memory: DeviceMemory,
    pub pinned: Region,
    pub lanes: Vec<Lane>,
    pub events: HashMap<usize, Event>,
    pub captures: BTreeMap<u64, Capture>,
    pub worker: Option<Worker>,
    pub history: History,
    /// The work that the host has waited for.
    pub host: Clock,
    pub random: Random,
    pub counts: BTreeMap<&'static str, u64>,
    pub injections: Vec<Injection>,
    pub refuse_above: Option<usize>,
    pub faults: Vec<Fault>,
    /// The code that every call on work returns after a fault.
    pub broken: Option<hipError_t>,
    /// True if queued work is skipped after a fault. If data was only used in a wrong order, work continues, so that
    /// the data shows the error.
    pub halted: bool,
    /// Live streams, events, modules, graphs etc., by handle.
    pub objects: BTreeMap<usize, &'static str>,
    /// The stream of each BLAS handle.
    pub blas_lanes: HashMap<usize, usize>,
    pub n_ops: u64,
    pub n_launches: u64,
    pub stalls: u64,
    pub next_capture: u64,
}

impl Device {
    pub fn new(ordinal: u32, config: Config) -> io::Result<Device> {
        // Addresses are never reused, so there are many more of them than bytes of memory.
        let addresses = |memory: u64| {
            usize::try_from(memory.saturating_mul(16).clamp(1 << 30, 1 << 37)).unwrap_or(1 << 30)
        };
        let checked = config.checks != Checks::Fast;
        let state = State {
            memory: DeviceMemory::new(addresses(config.memory), checked)?,
            pinned: Region::new(addresses(config.memory))?,
            lanes: Vec::new(),
            events: HashMap::new(),
            captures: BTreeMap::new(),
            worker: None,
            history: History::default(),
            host: Clock::default(),
            random: Random::new(config.seed),
            counts: BTreeMap::new(),
            injections: Vec::new(),
            refuse_above: None,
            faults: Vec::new(),
            broken: None,
            halted: false,
            objects: BTreeMap::new(),
            blas_lanes: HashMap::new(),
            n_ops: 0,
            n_launches: 0,
            stalls: 0,
            next_capture: 0,
        };
        Ok(Device { ordinal, config, state: Mutex::new(state) })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a call, and fails it if a test requested that.
    pub fn enter(&mut self, call: &'static str) -> Answer {
        *self.counts.entry(call).or_default() += 1;
        let mut failure = None;
        self.injections.retain_mut(|injection| {
            if injection.call != call {
                return true;
            }
            if injection.nth == 0 {
                failure = failure.or(Some(injection.code));
                return false;
            }
            injection.nth -= 1;
            true
        });
        failure.map_or(Ok(()), Err)
    }

    /// Records a fault and returns the code for the failing call.
    pub fn fault(&mut self, kind: FaultKind, text: impl Into<String>) -> hipError_t {
        let fault = Fault::new(kind, text);
        let code = fault.code();
        self.broken.get_or_insert(code);
        self.halted |= !matches!(kind, FaultKind::StreamRace | FaultKind::HostRace);
        // One mistake may appear in thousands of places.
        if self.faults.len() < MOST_FAULTS {
            tracing::error!("simulated device: {fault}");
            self.faults.push(fault);
        }
        code
    }

    /// Takes and clears the faults: the device works again, and queued work is dropped.
    pub fn take_faults(&mut self) -> Vec<Fault> {
        if self.broken.take().is_some() {
            self.halted = false;
            for op in self.lanes.iter_mut().flat_map(|lane| lane.queue.drain(..)) {
                if let Work::Record { point, .. } = &op.work {
                    point.finish(0);
                }
            }
        }
        std::mem::take(&mut self.faults)
    }

    /// Refuses work on a device with a fault.
    pub fn healthy(&self) -> Answer {
        self.broken.map_or(Ok(()), Err)
    }

    /// Refuses a range that is not entirely inside live device memory.
    pub fn check_device(&mut self, what: &str, at: usize, bytes: usize) -> Answer {
        let (kind, why) = match self.memory.region.place(at, bytes) {
            AddressState::Live(_) => return Ok(()),
            _ if bytes == 0 => return Ok(()),
            AddressState::Freed(block) => (
                FaultKind::UseAfterFree,
                format!("lies in allocation {} of {} bytes, which was freed", block.number, block.bytes),
            ),
            AddressState::Past(block) => (
                FaultKind::OutOfBounds,
                format!(
                    "starts {} bytes into allocation {}, which has {} bytes",
                    at - block.start,
                    block.number,
                    block.bytes
                ),
            ),
            AddressState::Unknown => {
                (FaultKind::OutOfBounds, "lies in no allocation of device memory".into())
            }
        };
        let code = self.fault(kind, format!("{what}: {bytes} bytes at {at:#x}: the range {why}"));
        Err(code)
    }

    /// Refuses a range that is not entirely inside pinned memory: copies of other host memory would be staged, and the
    /// call would wait.
    pub fn check_pinned(&mut self, what: &str, at: usize, bytes: usize) -> Answer {
        let (kind, why) = match self.pinned.place(at, bytes) {
            AddressState::Live(_) => return Ok(()),
            _ if bytes == 0 => return Ok(()),
            AddressState::Freed(block) => (
                FaultKind::UseAfterFree,
                format!("lies in pinned allocation {}, which was freed", block.number),
            ),
            AddressState::Past(block) => (
                FaultKind::OutOfBounds,
                format!("ends behind pinned allocation {} of {} bytes", block.number, block.bytes),
            ),
            AddressState::Unknown => (FaultKind::Forbidden, "is not pinned".into()),
        };
        let code = self.fault(kind, format!("{what}: {bytes} bytes of the host at {at:#x}: the range {why}"));
        Err(code)
    }

    /// Describes the memory at an address, for messages.
    pub fn describe(&self, at: usize) -> String {
        match self.memory.region.nearest(at) {
            Some((block, live)) => {
                let state = if live { "" } else { ", freed" };
                format!(
                    "{at:#x} ({} bytes into allocation {} of {} bytes{state})",
                    at - block.start,
                    block.number,
                    block.bytes
                )
            }
            None => format!("{at:#x} (below all of device memory)"),
        }
    }

    /// The objects and memory that were not released.
    pub fn leaks(&self) -> Vec<String> {
        let device = self.memory.region.live();
        let device = device.map(|b| format!("device memory: allocation {} of {} bytes", b.number, b.bytes));
        let pinned = self.pinned.live();
        let pinned = pinned.map(|b| format!("pinned memory: allocation {} of {} bytes", b.number, b.bytes));
        let objects = self.objects.iter().map(|(handle, kind)| format!("{kind} {handle:#x}"));
        device.chain(pinned).chain(objects).collect()
    }

    /// Frees device memory. Freeing memory that queued work still uses is a fault.
    pub fn free(&mut self, start: usize) -> Answer {
        let Some(block) = self.memory.region.live().find(|block| block.start == start).copied() else {
            let place = self.describe(start);
            return Err(self
                .fault(FaultKind::BadHandle, format!("hipFree of {place}, which is not a live allocation")));
        };
        let user = self.user_of(|op| op.touches(block.start, block.bytes));
        self.stalls += u64::from(self.lanes.iter().any(|lane| !lane.queue.is_empty()));
        self.memory.free(start);
        self.history.forget(block.start, block.bytes);
        self.report_user(user, &format!("hipFree of allocation {} ({} bytes)", block.number, block.bytes))
    }

    /// Frees pinned memory.
    pub fn free_pinned(&mut self, start: usize) -> Answer {
        let Some(block) = self.pinned.live().find(|block| block.start == start).copied() else {
            let text = format!("hipHostFree of {start:#x}, which is not a live pinned allocation");
            return Err(self.fault(FaultKind::BadHandle, text));
        };
        let user = self.user_of(|op| op.touches(block.start, block.bytes));
        self.stalls += u64::from(self.lanes.iter().any(|lane| !lane.queue.is_empty()));
        self.pinned.free(start);
        self.history.forget(block.start, block.bytes);
        self.report_user(user, &format!("hipHostFree of allocation {} ({} bytes)", block.number, block.bytes))
    }

    /// The description of a queued operation for which `uses` is true.
    pub fn user_of(&self, uses: impl Fn(&Op) -> bool) -> Option<String> {
        self.lanes.iter().flat_map(|lane| &lane.queue).find(|op| uses(op)).map(|op| op.to_string())
    }

    /// Reports a fault if an object is released while an operation uses it.
    pub fn report_user(&mut self, user: Option<String>, call: &str) -> Answer {
        match user {
            None => Ok(()),
            Some(op) => Err(self.fault(
                FaultKind::FreedInFlight,
                format!("{call} while {op} is queued and uses it: wait for a fence first"),
            )),
        }
    }

    /// Allocates device memory.
    pub fn allocate(&mut self, bytes: usize, limit: u64) -> Answer<usize> {
        if bytes == 0 {
            return Err(hipErrorInvalidValue);
        }
        let used = self.memory.region.used();
        let refused = self.refuse_above.is_some_and(|most| bytes > most);
        if refused || (bytes as u64).saturating_add(used) > limit {
            return Err(hipErrorOutOfMemory);
        }
        self.memory.allocate(bytes).map(|block| block.start).ok_or(hipErrorOutOfMemory)
    }
}
