//! Aligned host memory.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Zeroed memory that starts on a cache line. Its address is constant.
#[derive(Debug)]
pub struct AlignedBuffer {
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer owns its memory, which is not tied to a thread.
unsafe impl Send for AlignedBuffer {}
// SAFETY: shared references can only read.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// The alignment in bytes: a cache line, and an AVX-512 register.
    pub const ALIGNMENT: usize = 64;

    /// `len` zero bytes; `None` if the system refuses the memory.
    pub fn zeroed(len: usize) -> Option<AlignedBuffer> {
        if len == 0 {
            return Some(AlignedBuffer { data: NonNull::<Line>::dangling().cast(), len });
        }
        let layout = Layout::from_size_align(len, Self::ALIGNMENT).ok()?;
        // SAFETY: the layout's size is not zero.
        let data = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(AlignedBuffer { data, len })
    }

    /// The address.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data.as_ptr()
    }

    /// The size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer owns `len` initialised bytes, and no mutable reference to them exists.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }

    /// The bytes, mutable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the buffer owns `len` initialised bytes, and the borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

/// Gives the dangling pointer of an empty buffer its alignment.
#[repr(align(64))]
struct Line;

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let Ok(layout) = Layout::from_size_align(self.len, Self::ALIGNMENT)
            && self.len > 0
        {
            // SAFETY: allocated with this same layout.
            unsafe { dealloc(self.data.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 63, 64, 4097] {
            let mut buffer = AlignedBuffer::zeroed(len).unwrap();
            assert_eq!(buffer.as_ptr() as usize % AlignedBuffer::ALIGNMENT, 0);
            assert_eq!(buffer.bytes(), vec![0; len]);
            buffer.bytes_mut().fill(7);
        }
        assert!(AlignedBuffer::zeroed(usize::MAX).is_none());
    }
}
