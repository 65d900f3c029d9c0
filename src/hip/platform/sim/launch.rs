//! `hipModuleLaunchKernel`: reads a kernel's arguments when it is queued.
#![allow(non_snake_case, reason = "HIP's own names")]

use std::ffi::{c_uint, c_void};

use super::call::{on_stream, resolve, same_device};
use super::queue::{Launch, Word, Work};
use super::registry::{self, Object};
use super::worker::MAX_THREADS;
use crate::hip::api::{hipError_t, hipErrorInvalidHandle, hipErrorInvalidValue, hipFunction_t, hipStream_t};

/// The largest grid of real devices.
const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

#[allow(clippy::too_many_arguments, reason = "HIP's own signature")]
pub(super) unsafe extern "C" fn hipModuleLaunchKernel(
    function: hipFunction_t,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: hipStream_t,
    args: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> hipError_t {
    let found =
        resolve!("hipModuleLaunchKernel", "function", function, Object::Function(module, at) => (module, at));
    let (kernel_of, (module, at)) = match found {
        Ok(found) => found,
        Err(code) => return code,
    };
    on_stream("hipModuleLaunchKernel", stream, |device, state, lane| {
        same_device("hipModuleLaunchKernel", device, &kernel_of, state)?;
        let grid = [grid_x, grid_y, grid_z];
        let kernel = module.kernels.get(at).ok_or(hipErrorInvalidHandle)?;
        let fits = grid.iter().zip(MAX_GRID).all(|(&n, most)| n != 0 && n <= most)
            && (1..=MAX_THREADS).contains(&block_x)
            && (block_y, block_z) == (1, 1)
            && shared_bytes <= device.config.shared
            && (kernel.threads == 0 || kernel.threads == block_x);
        let no_args = args.is_null() && !kernel.args.is_empty();
        if !fits || no_args || !extra.is_null() {
            tracing::error!(
                "simulated device: kernel `{}` cannot be launched with a grid of {grid:?}, blocks of {:?} and \
                 {shared_bytes} bytes of shared memory",
                kernel.name,
                [block_x, block_y, block_z],
            );
            return Err(hipErrorInvalidValue);
        }
        let mut launch = Launch {
            kernel: at,
            grid,
            threads: block_x,
            shared: shared_bytes,
            words: Vec::new(),
            starts: Vec::new(),
            addresses: Vec::new(),
            module: module.clone(),
        };
        for (i, &(bytes, is_address)) in kernel.args.iter().enumerate() {
            // SAFETY: by the function's contract, `args` points to one pointer for each of the kernel's arguments, each
            // to a value of its type.
            unsafe { launch.push((*args.add(i)).cast(), bytes, is_address) };
        }
        state.n_launches += 1;
        state.submit(lane, Work::Launch(launch), &device.config)
    })
}

impl Launch {
    /// # Safety
    /// `from` must be readable for `bytes` bytes.
    unsafe fn push(&mut self, from: *const u8, bytes: usize, is_address: bool) {
        let start = self.words.len();
        self.starts.push(start);
        self.words.resize(start + bytes.div_ceil(16).max(1), Word([0; 16]));
        // SAFETY: guaranteed by the caller; as many words were added.
        unsafe { std::ptr::copy_nonoverlapping(from, self.words[start..].as_mut_ptr().cast(), bytes) };
        if is_address && let Some(bytes) = self.words[start].0.first_chunk::<8>() {
            self.addresses.push(u64::from_ne_bytes(*bytes) as usize);
        }
    }
}
