//! Reading and writing states from the host: for tests, and for who saves a KV cache.

use bytemuck::Pod;

use super::HipExecutor;
use super::upload::{Upload, upload};
use crate::exec::ExecError;
use crate::exec::error::size_mismatch;
use crate::tensor::DType;

impl HipExecutor {
    /// The bytes of a state. Waits for the device.
    pub fn state(&mut self, name: &str) -> Result<Vec<u8>, ExecError> {
        self.ready()?;
        let failed = |error| ExecError::gpu(format!("the download of state `{name}`"), error);
        let (_, memory) = self.store.state(name)?;
        let pinned = self.context.alloc_pinned(memory.len()).map_err(failed)?;
        // SAFETY: both live until the wait below.
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
    pub fn set_state<T: Pod>(&mut self, name: &str, data: &[T]) -> Result<(), ExecError> {
        self.ready()?;
        let (_, memory) = self.store.state(name)?;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        if bytes.len() != memory.len() {
            return Err(size_mismatch("state", name, bytes.len(), memory.len()));
        }
        // The element's type does not matter: plain bytes go as they are.
        let whole = [Upload { name, dtype: DType::F32, bytes, address: memory.address() }];
        let odd = [Upload { name, dtype: DType::F16, bytes, address: memory.address() }];
        let uploads = if bytes.len().is_multiple_of(DType::F32.block_bytes()) { &whole } else { &odd };
        let sent = upload(&self.context, &self.lanes.copy, uploads, self.options.timeout, None);
        sent.map_err(|failed| {
            self.store.lost |= failed.lost;
            *failed.error
        })
    }
}
