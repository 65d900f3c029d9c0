//! Memory on the device, and host memory that the device can reach.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::api;
use super::context::Context;
use super::error::HipError;

/// Memory on the device, released with the value. Releasing it waits for every stream of the process, so avoid it while
/// work is queued. The owner ensures that no queued work still uses the memory.
#[derive(Debug)]
pub struct DeviceMemory {
    context: Context,
    address: u64,
    len: usize,
}

impl Context {
    /// Allocates device memory with undefined content. Zero bytes need no call and have address 0.
    ///
    /// # Errors
    /// Out of memory.
    pub fn alloc(&self, bytes: usize) -> Result<DeviceMemory, HipError> {
        let mut address = std::ptr::null_mut::<c_void>();
        if bytes > 0 {
            // SAFETY: `address` is valid for a write.
            let code = unsafe { (self.runtime()?.hipMalloc)(&mut address, bytes) };
            self.check("hipMalloc", code).map_err(|error| self.no_room(error, bytes))?;
        }
        Ok(DeviceMemory { context: self.clone(), address: address as u64, len: bytes })
    }

    /// Allocates zeroed page-locked host memory. Copies between it and the device can overlap other work.
    ///
    /// # Errors
    /// Out of memory.
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
        // SAFETY: `bytes` bytes were just allocated at `start`, and this is their only reference.
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
    /// The device address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.len > 0 {
            let address = self.address as *mut c_void;
            // SAFETY: allocated by `hipMalloc`, freed once.
            self.context.release("hipFree", |runtime| unsafe { (runtime.hipFree)(address) });
        }
    }
}

/// Page-locked host memory that the device can reach. While a queued copy uses it, its owner keeps it alive and does
/// not access it: see [`Stream::copy_to_device`](super::Stream::copy_to_device).
#[derive(Debug)]
pub struct PinnedMemory {
    context: Context,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its bytes, like a box.
unsafe impl Send for PinnedMemory {}
// SAFETY: shared references can only read.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// The address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes start at `start`; a caller that queues a copy into them promises that they
        // are not read before its fence.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The content, mutable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` initialised bytes start at `start`, not accessed by queued copies; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if self.len > 0 {
            let start = self.start.as_ptr().cast();
            // SAFETY: allocated by `hipHostMalloc`, freed once.
            self.context.release("hipHostFree", |runtime| unsafe { (runtime.hipHostFree)(start) });
        }
    }
}
