//! Runs one operation, and checks its accesses.

use std::sync::OnceLock;
use std::time::Instant;

use super::config::{Checks, Config};
use super::device::State;
use super::fault::FaultKind;
use super::memory::AddressState;
use super::module::{RawFault, what};
use super::queue::{Launch, Op, Work};
use super::race::Access;
use super::worker::{Watch, Worker};
use crate::hip::api::hipErrorLaunchFailure;

/// Nanoseconds since the first call.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A checksum of the host's bytes, to detect changes.
///
/// # Safety
/// The range must be readable.
pub(super) unsafe fn sum_of(at: usize, bytes: usize) -> u64 {
    // SAFETY: guaranteed by the caller.
    let content = unsafe { std::slice::from_raw_parts(at as *const u8, bytes) };
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let mut words = content.chunks_exact(8);
    let mut sum = bytes as u64;
    for word in &mut words {
        sum = mix(sum, word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    words.remainder().iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
}

impl State {
    /// Runs the next operation of its lane.
    pub fn execute(&mut self, op: &Op, config: &Config) {
        match &op.work {
            Work::Record { point, .. } => point.finish(now()),
            Work::Wait { .. } => {}
            // After a fault, only events run.
            _ if self.halted => {}
            Work::Launch(launch) => self.run_kernel(op, launch, config),
            Work::Copy { to, from, bytes, to_host, from_host, sum } => {
                let (to, from, bytes) = (*to, *from, *bytes);
                if *from_host {
                    let ok = self.check_pinned(&op.to_string(), from, bytes).is_ok()
                        && self.check_device(&op.to_string(), to, bytes).is_ok();
                    if !ok {
                        return;
                    }
                    // SAFETY: the range is in live pinned memory.
                    if sum.is_some_and(|sum| sum != unsafe { sum_of(from, bytes) }) {
                        let text = format!(
                            "{op}: the {bytes} bytes of pinned memory at {from:#x} changed while the copy was queued"
                        );
                        self.fault(FaultKind::HostRace, text);
                    }
                    self.memory.set_written(to, bytes);
                } else if *to_host {
                    let ok = self.check_pinned(&op.to_string(), to, bytes).is_ok()
                        && self.check_device(&op.to_string(), from, bytes).is_ok()
                        && self.check_written(op, from, bytes);
                    if !ok {
                        return;
                    }
                } else {
                    let ok = self.check_device(&op.to_string(), from, bytes).is_ok()
                        && self.check_device(&op.to_string(), to, bytes).is_ok();
                    if !ok {
                        return;
                    }
                    self.memory.copy_written(to, from, bytes);
                }
                self.touch(op, from, from + bytes, false);
                self.touch(op, to, to + bytes, true);
                // SAFETY: both ranges were found to be in live memory.
                unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
            }
            Work::Fill { at, byte, bytes } => {
                if self.check_device(&op.to_string(), *at, *bytes).is_err() {
                    return;
                }
                self.touch(op, *at, at + bytes, true);
                self.memory.set_written(*at, *bytes);
                // SAFETY: the range was found to be in live memory.
                unsafe { std::ptr::write_bytes(*at as *mut u8, *byte, *bytes) };
            }
            Work::Product(product) => {
                for (at, bytes, writes) in product.ranges() {
                    let ok = self.check_device(&op.to_string(), at, bytes).is_ok();
                    if !ok || (!writes && !self.check_written(op, at, bytes)) {
                        return;
                    }
                }
                for (at, bytes, writes) in product.ranges() {
                    self.touch(op, at, at + bytes, writes);
                    if writes {
                        self.memory.set_written(at, bytes);
                    }
                }
                // SAFETY: all ranges were found to be in live memory.
                unsafe { product.run() };
            }
        }
    }

    /// Refuses to read bytes that were never written.
    fn check_written(&mut self, op: &Op, at: usize, bytes: usize) -> bool {
        let Some(first) = self.memory.first_unwritten(at, bytes) else { return true };
        let place = self.describe(first);
        self.fault(FaultKind::Uninitialised, format!("{op} reads {place}, which nothing has written"));
        false
    }

    /// Records an access; a fault if it races with one of another stream.
    fn touch(&mut self, op: &Op, start: usize, end: usize, writes: bool) {
        let access = Access { lane: op.lane, count: op.count, op: op.number };
        let Some(race) = self.history.touch(start, end, writes, access, &op.clock) else { return };
        let verb = |writes: bool| if writes { "writes" } else { "reads" };
        let place = self.describe(race.at);
        let text = format!(
            "{op} {} {} bytes at {place}, which operation {} of stream {} {}, and no event orders the two",
            verb(writes),
            race.end.min(end) - race.at.max(start),
            race.earlier.op,
            race.earlier.lane,
            verb(race.earlier_writes),
        );
        self.fault(FaultKind::StreamRace, text);
    }

    fn run_kernel(&mut self, op: &Op, launch: &Launch, config: &Config) {
        if launch.module.is_unloaded() {
            self.fault(FaultKind::UseAfterFree, format!("{op} runs a kernel of a module that was unloaded"));
            return;
        }
        let watch = Watch {
            shared_limit: config.shared,
            races: config.checks == Checks::Full,
            seed: config.seed.wrapping_add(op.number).wrapping_mul(0x2545_F491_4F6C_DD1D),
        };
        if self.worker.is_none() {
            self.worker = Worker::new(config.shared).ok();
        }
        let ran = match &mut self.worker {
            Some(worker) => worker.run(launch, &mut self.memory, watch),
            None => Err(std::io::Error::other("no memory for stacks")),
        };
        match ran {
            Ok(None) => {}
            Ok(Some(fault)) => self.report_kernel(op, launch, &fault),
            Err(error) => {
                tracing::error!("simulated device: {op}: {error}");
                self.broken.get_or_insert(hipErrorLaunchFailure);
                self.halted = true;
            }
        }
        if config.checks != Checks::Fast {
            for (start, end, writes) in self.memory.take_touched() {
                self.touch(op, start, end, writes);
            }
        }
    }

    /// Describes a kernel's fault.
    fn report_kernel(&mut self, op: &Op, launch: &Launch, fault: &RawFault) {
        let [x, y, z] = fault.block;
        let line = launch.module.line_of(fault.code).map(|line| format!(", at {line}")).unwrap_or_default();
        let at = format!("{op}, block ({x}, {y}, {z}), thread {}{line}", fault.thread);
        let address = fault.address as usize;
        let bytes = fault.bytes;
        let verb = if fault.what == what::STORE_OUTSIDE { "stores" } else { "loads" };
        let other = |n: i32| if n < 0 { "another thread".to_string() } else { format!("thread {n}") };
        let lines = |line: i32| if line == 0 { String::new() } else { format!(" at line {line}") };
        let (kind, text) = match fault.what {
            what::LOAD_OUTSIDE | what::STORE_OUTSIDE => {
                let kind = match self.memory.region.place(address, bytes as usize) {
                    AddressState::Freed(_) => FaultKind::UseAfterFree,
                    _ => FaultKind::OutOfBounds,
                };
                let base = self.memory.region.base();
                let place = if (base..base + self.memory.region.len()).contains(&address) {
                    self.describe(address)
                } else if self.pinned.place(address, 1) != AddressState::Unknown {
                    format!("{address:#x}, which is pinned memory of the host")
                } else {
                    format!("{address:#x}, which is not device memory")
                };
                (kind, format!("{verb} {bytes} bytes at {place}"))
            }
            what::LOAD_UNWRITTEN => {
                let place = self.describe(address);
                (
                    FaultKind::Uninitialised,
                    format!("loads {bytes} bytes at {place}: nothing has written there"),
                )
            }
            what::SHARED_OUTSIDE => {
                let text = format!("reaches {bytes} bytes past the end of `{}`", fault.variable());
                (FaultKind::OutOfBounds, text)
            }
            what::SHARED_UNWRITTEN => {
                let text = format!("loads from `{}` what this block has not written", fault.variable());
                (FaultKind::Uninitialised, text)
            }
            what::SHARED_RACE => {
                let text = format!(
                    "meets {} in `{}`: no barrier is between the two, and one of them writes",
                    other(fault.other),
                    fault.variable()
                );
                (FaultKind::SharedRace, text)
            }
            what::BARRIER_DIVERGED => {
                let text = format!("waits{}, others wait{}", lines(fault.line), lines(fault.other_line));
                (FaultKind::Divergence, text)
            }
            what::BARRIER_LEFT => {
                let how = if fault.other_line == 0 {
                    "has ended".into()
                } else {
                    format!("waits{}", lines(fault.other_line))
                };
                let text = format!("waits{} for {}, which {how}", lines(fault.line), other(fault.other));
                (FaultKind::Divergence, text)
            }
            what::LANE_ABSENT => {
                let text =
                    format!("shuffles{} from lane {}, which does not exist", lines(fault.line), fault.other);
                (FaultKind::Divergence, text)
            }
            what::STACK_OVERFLOW => (
                FaultKind::StackOverflow,
                format!("has more than {bytes} bytes of local variables, or reaches into another's"),
            ),
            what::MISALIGNED => {
                let place = self.describe(address);
                (
                    FaultKind::Misaligned,
                    format!("touches {bytes} bytes together at {place}: no multiple of {bytes}"),
                )
            }
            other => (FaultKind::OutOfBounds, format!("fault {other}")),
        };
        self.fault(kind, format!("{at}: {text}"));
    }
}
