//! Reading and writing states from the host: for tests, and for callers that save a KV cache.

use bytemuck::Pod;

use super::HipExecutor;
use super::store::STATE_STAGING;
use super::upload::{Upload, Uploader, staging_bytes, upload};
use crate::exec::ExecError;
use crate::exec::error::size_mismatch;
use crate::tensor::DType;

impl HipExecutor {
    /// The bytes of a state. Waits for the device.
    ///
    /// # Errors
    /// The budget has no room for `state`'s bytes of pinned memory, or the device fails.
    pub fn state(&mut self, name: &str) -> Result<Vec<u8>, ExecError> {
        self.ready()?;
        let bytes = self.store.states.get(name)?.len();
        self.store.budget.hold(STATE_STAGING, bytes as u64)?;
        let result = self.download(name);
        self.release_staging(result)
    }

    fn download(&mut self, name: &str) -> Result<Vec<u8>, ExecError> {
        let failed = |error| ExecError::gpu(format!("the download of state `{name}`"), error);
        let memory = self.store.states.get(name)?;
        let pinned = self.context.alloc_pinned(memory.len()).map_err(failed)?;
        // SAFETY: both ranges live until the wait below.
        let copied = unsafe { self.lanes.copy.copy_to_host(pinned.as_ptr(), memory.address(), memory.len()) };
        self.drain();
        if self.store.lost {
            std::mem::forget(pinned);
            let name = name.to_string();
            return Err(self.fail(ExecError::Unknown { what: "end of the download of state", name }));
        }
        copied.map_err(failed)?;
        Ok(pinned.bytes().to_vec())
    }

    /// Overwrites a state. Waits for the device.
    ///
    /// # Errors
    /// `data` does not have the state's size, the budget has no room for pinned memory, or the device fails.
    pub fn set_state<T: Pod>(&mut self, name: &str, data: &[T]) -> Result<(), ExecError> {
        self.ready()?;
        let memory = self.store.states.get(name)?;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        if bytes.len() != memory.len() {
            return Err(size_mismatch("state", name, bytes.len(), memory.len()));
        }
        let address = memory.address();
        self.store.budget.hold(STATE_STAGING, staging_bytes(bytes.len()) as u64)?;
        // The element type does not matter, as plain bytes are copied unchanged.
        let whole = bytes.len().is_multiple_of(DType::F32.block_bytes());
        let dtype = if whole { DType::F32 } else { DType::F16 };
        let uploads = [Upload { name, dtype, bytes, address }];
        let (context, stream, timeout) = (&self.context, &self.lanes.copy, self.options.timeout);
        let sent = upload(&Uploader { context, stream, timeout, progress: None }, &uploads);
        let result = sent.map_err(|failed| {
            self.store.lost |= failed.lost;
            if failed.lost { self.fail(*failed.error) } else { *failed.error }
        });
        self.release_staging(result)
    }

    /// Returns the staging memory to the budget, unless it is kept for work that may still run.
    fn release_staging<T>(&mut self, result: Result<T, ExecError>) -> Result<T, ExecError> {
        if !self.store.lost {
            self.store.budget.hold(STATE_STAGING, 0)?;
        }
        result
    }
}
