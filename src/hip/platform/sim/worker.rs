//! Runs kernels: stacks for the threads of a block, shared memory, and the call into the shared object.

use std::ffi::{CStr, c_int, c_void};
use std::io;

use memmap2::{MmapMut, MmapOptions};

use super::memory::DeviceMemory;
use super::module::{RawFault, RawLaunch};
use super::queue::{Launch, Word};
use super::text::SHARED_PREFIX;

/// The most threads of a block.
pub(super) const MAX_THREADS: u32 = 1024;
const STACK_BYTES: usize = 128 << 10;
/// Stacks are not a power of two apart, as their ends would then share the same few cache sets.
const STACK_STRIDE: usize = STACK_BYTES + 9 * 64;
/// Reserved below the first stack, so that an overflow is reported before it does harm.
const STACK_GUARD: usize = 1 << 20;
/// Bytes of `RfCell`.
const CELL_BYTES: usize = 16;

/// The memory in which kernels run.
#[derive(Debug)]
pub(super) struct Worker {
    stacks: MmapMut,
    shared: MmapMut,
    cells: MmapMut,
    clock: u64,
}

/// The limits that a launch is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub shared_limit: u32,
    pub races: bool,
    pub seed: u64,
}

fn map(bytes: usize) -> io::Result<MmapMut> {
    MmapOptions::new().len(bytes.max(1)).no_reserve_swap().map_anon()
}

impl Worker {
    pub fn new(shared_limit: u32) -> io::Result<Worker> {
        let shared = shared_limit as usize;
        Ok(Worker {
            stacks: map(STACK_GUARD + STACK_STRIDE * MAX_THREADS as usize)?,
            shared: map(shared)?,
            cells: map(CELL_BYTES * (shared + (64 << 10)))?,
            clock: 0,
        })
    }

    /// Runs a kernel until its end or its first fault.
    pub fn run(
        &mut self,
        launch: &Launch,
        memory: &mut DeviceMemory,
        watch: Watch,
    ) -> io::Result<Option<RawFault>> {
        let Some(kernel) = launch.module.kernels.get(launch.kernel) else { return Ok(None) };
        let cells = CELL_BYTES * (self.shared.len() + launch.module.shared_bytes as usize);
        if self.cells.len() < cells {
            self.cells = map(cells)?;
        }
        // Threads may modify their arguments, so the operation keeps a copy.
        let mut words: Vec<Word> = launch.words.clone();
        let mut args: Vec<*mut c_void> = Vec::with_capacity(launch.starts.len());
        for &start in &launch.starts {
            args.push(words[start..].as_mut_ptr().cast());
        }
        let mut next_block = 0u64;
        let mut stop: c_int = 0;
        let (base, bytes) = (memory.region.base(), memory.region.len());
        let (shadow, pages) = memory.maps();
        let mut raw = RawLaunch {
            call: kernel.call,
            args: args.as_mut_ptr(),
            grid: launch.grid.map(|n| n as c_int),
            threads: launch.threads as c_int,
            shared_bytes: launch.shared as c_int,
            races: c_int::from(watch.races),
            seed: watch.seed,
            next_block: &mut next_block,
            stop: &mut stop,
            stacks: self.stacks.as_mut_ptr().wrapping_add(STACK_GUARD),
            stack_bytes: STACK_BYTES as u64,
            stack_stride: STACK_STRIDE as u64,
            dynamic_shared: self.shared.as_mut_ptr(),
            shared_limit: u64::from(watch.shared_limit),
            cells: self.cells.as_mut_ptr().cast(),
            clock: self.clock,
            memory: base,
            memory_bytes: bytes as u64,
            shadow,
            pages,
            fault: RawFault {
                what: 0,
                thread: 0,
                other: 0,
                block: [0; 3],
                line: 0,
                other_line: 0,
                address: 0,
                bytes: 0,
                code: 0,
                variable: [0; 64],
            },
        };
        // SAFETY: the shared object and this process agree on `RawLaunch` (its ABI number was checked), every pointer
        // in it is valid for the size beside it until the call returns, and the device's lock is held, so no other
        // thread is in this shared object. The accesses of a checked kernel are checked there.
        let what = unsafe { (launch.module.run)(&mut raw) };
        self.clock = raw.clock;
        Ok((what != 0).then_some(raw.fault))
    }
}

impl RawFault {
    /// The shared variable of the fault.
    pub fn variable(&self) -> String {
        // SAFETY: the sources write at most 63 bytes and a zero.
        let name = unsafe { CStr::from_ptr(self.variable.as_ptr()) }.to_string_lossy();
        name.strip_prefix(SHARED_PREFIX).unwrap_or(&name).to_string()
    }
}
