//! Memory on the device, and host memory that the device can reach.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::api;
use super::context::Context;
use super::error::HipError;

/// Memory on the device, released with the value. Releasing waits for every stream of the process, so nobody
/// releases while work is queued; whoever holds it sees to it that no queued work still uses it.
#[derive(Debug)]
pub struct DeviceMemory {
    context: Context,
    address: u64,
    len: usize,
}

impl Context {
    /// Allocates device memory. Its content is not defined. Zero bytes need no call, and have address 0.
    ///
    /// # Errors
    /// No room.
    pub fn alloc(&self, bytes: usize) -> Result<DeviceMemory, HipError> {
        let mut address = std::ptr::null_mut::<c_void>();
        if bytes > 0 {
            // SAFETY: `address` is valid for a write.
            let code = unsafe { (self.runtime()?.hipMalloc)(&mut address, bytes) };
            self.check("hipMalloc", code).map_err(|error| self.no_room(error, bytes))?;
        }
        Ok(DeviceMemory { context: self.clone(), address: address as u64, len: bytes })
    }

    /// Allocates host memory that stays where it is, which copies to and from the device can run beside. It is
    /// zero at first.
    ///
    /// # Errors
    /// No room.
    pub fn alloc_pinned(&self, bytes: usize) -> Result<PinnedMemory, HipError> {
        let mut start = std::ptr::null_mut::<c_void>();
        if bytes > 0 {
            // SAFETY: `start` is valid for a write.
            let code =
                unsafe { (self.runtime()?.hipHostMalloc)(&mut start, bytes, api::hipHostMallocDefault) };
            self.check("hipHostMalloc", code)?;
        }
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            if bytes > 0 {
                let text = "the runtime says that it succeeded and gives no address";
                return Err(HipError::with_text("hipHostMalloc", api::hipErrorUnknown, text));
            }
            return Ok(PinnedMemory { context: self.clone(), start: NonNull::dangling(), len: 0 });
        };
        // SAFETY: `bytes` bytes were just allocated there, and nobody else knows of them.
        unsafe { start.write_bytes(0, bytes) };
        Ok(PinnedMemory { context: self.clone(), start, len: bytes })
    }

    fn no_room(&self, error: HipError, bytes: usize) -> HipError {
        match self.memory_info() {
            Ok((free, total)) if error.is_out_of_memory() => HipError {
                text: format!(
                    "{bytes} bytes asked, {free} of {total} free on {}; {}",
                    self.name(),
                    error.text
                ),
                ..error
            },
            _ => error,
        }
    }
}

impl DeviceMemory {
    /// Where it starts.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.len > 0 {
            let address = self.address as *mut c_void;
            // SAFETY: it came from `hipMalloc`, and is freed once.
            self.context.release("hipFree", |runtime| unsafe { (runtime.hipFree)(address) });
        }
    }
}

/// Host memory that the device can reach. While a queued copy reads or writes it, its holder keeps it alive
/// and does not touch it: see [`Stream::copy_to_device`](super::Stream::copy_to_device).
#[derive(Debug)]
pub struct PinnedMemory {
    context: Context,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its bytes, as a box does.
unsafe impl Send for PinnedMemory {}
// SAFETY: shared references only read.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// Where it starts.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes start there; whoever queues a copy into them promises that nobody reads
        // them before its fence.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// What it holds, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if self.len > 0 {
            let start = self.start.as_ptr().cast();
            // SAFETY: it came from `hipHostMalloc`, and is freed once.
            self.context.release("hipHostFree", |runtime| unsafe { (runtime.hipHostFree)(start) });
        }
    }
}
