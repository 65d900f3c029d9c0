//! Code objects of the simulated device: shared objects, loaded into this process.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use libloading::Library;

use super::compiler::Folder;

/// The same as `rf_abi` in `kernels/sim_state.h`.
const ABI: c_int = 2;
/// The same as `RfWhat` in `kernels/sim_state.h`.
pub(super) mod what {
    pub const LOAD_OUTSIDE: i32 = 1;
    pub const STORE_OUTSIDE: i32 = 2;
    pub const LOAD_UNWRITTEN: i32 = 3;
    pub const SHARED_OUTSIDE: i32 = 4;
    pub const SHARED_UNWRITTEN: i32 = 5;
    pub const SHARED_RACE: i32 = 6;
    pub const BARRIER_DIVERGED: i32 = 7;
    pub const BARRIER_LEFT: i32 = 8;
    pub const LANE_ABSENT: i32 = 9;
    pub const STACK_OVERFLOW: i32 = 10;
    pub const MISALIGNED: i32 = 11;
}

/// `RfFault`: a kernel's fault and its place.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct RawFault {
    pub what: c_int,
    pub thread: c_int,
    pub other: c_int,
    pub block: [c_int; 3],
    pub line: c_int,
    pub other_line: c_int,
    pub address: u64,
    pub bytes: u64,
    pub code: u64,
    pub variable: [c_char; 64],
}

/// `RfLaunch`: the arguments of a launch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct RawLaunch {
    pub call: Trampoline,
    pub args: *mut *mut c_void,
    pub grid: [c_int; 3],
    pub threads: c_int,
    pub shared_bytes: c_int,
    pub races: c_int,
    pub seed: u64,
    pub next_block: *mut u64,
    pub stop: *mut c_int,
    pub stacks: *mut u8,
    pub stack_bytes: u64,
    pub stack_stride: u64,
    pub dynamic_shared: *mut u8,
    pub shared_limit: u64,
    pub cells: *mut c_void,
    pub clock: u64,
    pub memory: usize,
    pub memory_bytes: u64,
    pub shadow: *mut u8,
    pub pages: *mut u8,
    pub fault: RawFault,
}

/// Calls a kernel with its arguments, for the current thread.
pub(super) type Trampoline = unsafe extern "C" fn(*mut *mut c_void);

#[repr(C)]
struct RawKernel {
    name: *const c_char,
    call: Trampoline,
    threads: c_int,
    n_args: c_int,
    sizes: *const u32,
    addresses: *const u8,
}

#[repr(C)]
struct RawModule {
    abi: c_int,
    wave: c_int,
    checked: c_int,
    n_kernels: c_int,
    kernels: *const RawKernel,
    run: unsafe extern "C" fn(*mut RawLaunch) -> c_int,
    shared_bytes: u64,
    base: usize,
}

/// A kernel.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub name: String,
    pub call: Trampoline,
    /// The required number of threads per block; 0 for any number.
    pub threads: u32,
    /// Bytes of each argument, and true for addresses.
    pub args: Vec<(usize, bool)>,
}

/// A loaded shared object.
#[derive(Debug)]
pub(super) struct Module {
    pub kernels: Vec<Kernel>,
    pub run: unsafe extern "C" fn(*mut RawLaunch) -> c_int,
    /// Static shared memory of all its kernels.
    pub shared_bytes: u64,
    code: Vec<u8>,
    unloaded: AtomicBool,
    _library: Library,
}

impl Module {
    /// Loads a code object of the compiler; the error is a message.
    pub fn load(code: &[u8], wave: u32) -> Result<Module, String> {
        let folder = Folder::new().map_err(|error| format!("no temporary folder: {error}"))?;
        let path = folder.write("module.so", code).map_err(|error| format!("no temporary file: {error}"))?;
        // SAFETY: the file is our own compiler's output; its initialisers only register its shared variables.
        let library = unsafe { Library::new(&path) }.map_err(|error| error.to_string())?;
        // SAFETY: the sources define `rf_module` with this signature.
        let raw = unsafe {
            let entry = library
                .get::<unsafe extern "C" fn() -> *const RawModule>(b"rf_module\0")
                .map_err(|error| error.to_string())?;
            &*entry()
        };
        if raw.abi != ABI {
            return Err(format!("code object of another age: {} instead of {ABI}", raw.abi));
        }
        if raw.wave != wave as c_int {
            return Err(format!("code object for waves of {}; this device's have {wave} lanes", raw.wave));
        }
        let kernels = (0..raw.n_kernels.max(0) as usize)
            .map(|i| {
                // SAFETY: the table has `n_kernels` entries, each with a terminated name and `n_args` sizes.
                unsafe {
                    let kernel = &*raw.kernels.add(i);
                    let name = CStr::from_ptr(kernel.name).to_string_lossy().into_owned();
                    let args = (0..kernel.n_args.max(0) as usize)
                        .map(|arg| (*kernel.sizes.add(arg) as usize, *kernel.addresses.add(arg) != 0))
                        .collect();
                    Kernel { name, call: kernel.call, threads: kernel.threads.max(0) as u32, args }
                }
            })
            .collect();
        let (run, shared_bytes) = (raw.run, raw.shared_bytes);
        Ok(Module {
            kernels,
            run,
            shared_bytes,
            code: code.to_vec(),
            unloaded: AtomicBool::new(false),
            _library: library,
        })
    }

    /// Records that its handle was released.
    pub fn mark_unloaded(&self) {
        self.unloaded.store(true, Ordering::Relaxed);
    }

    /// True if its handle was released.
    pub fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Relaxed)
    }

    /// The source line of an instruction, if `addr2line` finds it.
    pub fn line_of(&self, code: u64) -> Option<String> {
        if code == 0 {
            return None;
        }
        let folder = Folder::new().ok()?;
        let path = folder.write("module.so", &self.code).ok()?;
        // The address is that of the instruction after the call.
        let output =
            Command::new("addr2line").arg("-e").arg(path).arg(format!("{:#x}", code - 1)).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.trim().rsplit('/').next()?.split(' ').next()?.to_string();
        (!line.starts_with('?')).then_some(line)
    }
}

/// The bytes of the code object at `image`, with the length from its ELF headers.
///
/// # Safety
/// `image` must be the start of a whole ELF file of 64 bits, or of at least 64 readable bytes.
pub(super) unsafe fn image_bytes<'i>(image: *const c_void) -> Option<&'i [u8]> {
    // SAFETY: guaranteed by the caller.
    let header = unsafe { std::slice::from_raw_parts(image.cast::<u8>(), 64) };
    if header.get(..5)? != b"\x7FELF\x02" {
        return None;
    }
    let word = |at: usize, bytes: usize| {
        header[at..at + bytes].iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte))
    };
    // Linkers write the section table last.
    let end = word(40, 8).checked_add(word(58, 2) * word(60, 2))?;
    // SAFETY: the caller guarantees that the file is complete.
    Some(unsafe { std::slice::from_raw_parts(image.cast::<u8>(), usize::try_from(end).ok()?) })
}
