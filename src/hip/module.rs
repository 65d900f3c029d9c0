//! Code objects on the device, and their kernels.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::api::{self, hipFunction_t, hipModule_t};
use super::context::{Context, check};
use super::error::HipError;

/// A code object on the device. Clones share it.
#[derive(Clone, Debug)]
pub struct Module {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Context,
    raw: hipModule_t,
    /// Kept because ROCm's runtime reads the code object as long as the module is loaded.
    _code: Box<[u8]>,
}

// SAFETY: the runtime accepts a module from any thread.
unsafe impl Send for Inner {}
// SAFETY: the runtime accepts a module from any thread, and a module is immutable.
unsafe impl Sync for Inner {}

impl Context {
    /// Loads a code object that the run-time compiler made.
    ///
    /// # Errors
    /// The code object is empty, damaged, or made for another device.
    pub fn load_module(&self, code: &[u8]) -> Result<Module, HipError> {
        if code.is_empty() {
            return Err(HipError::new("hipModuleLoadData", api::hipErrorInvalidImage));
        }
        let code: Box<[u8]> = code.into();
        let mut raw: hipModule_t = std::ptr::null_mut();
        // SAFETY: `raw` is valid for a write; the code object is whole and lives as long as the module.
        let result = unsafe { (self.runtime()?.hipModuleLoadData)(&mut raw, code.as_ptr().cast()) };
        self.check("hipModuleLoadData", result)?;
        Ok(Module { inner: Arc::new(Inner { context: self.clone(), raw, _code: code }) })
    }
}

impl Module {
    /// Finds a kernel by name.
    ///
    /// # Errors
    /// The module has no kernel of that name.
    pub fn function(&self, name: &str) -> Result<Function, HipError> {
        let no_such = || {
            let text = format!("the code object has no kernel `{name}`; is it declared extern \"C\"?");
            HipError::with_text("hipModuleGetFunction", api::hipErrorNotFound, text)
        };
        let c_name = CString::new(name).map_err(|_| no_such())?;
        let context = &self.inner.context;
        let mut raw: hipFunction_t = std::ptr::null_mut();
        // SAFETY: the module is alive, the name ends with a zero, `raw` is valid for a write.
        let code =
            unsafe { (context.runtime()?.hipModuleGetFunction)(&mut raw, self.inner.raw, c_name.as_ptr()) };
        if code == api::hipErrorNotFound {
            return Err(no_such());
        }
        context.check("hipModuleGetFunction", code)?;
        let allowed = AtomicU32::new(0);
        Ok(Function { inner: Arc::new(Kernel { module: self.clone(), raw, allowed }) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: loaded by `hipModuleLoadData`, unloaded once; its functions hold it.
        self.context.release("hipModuleUnload", |runtime| unsafe { (runtime.hipModuleUnload)(self.raw) });
    }
}

/// A kernel. It keeps its module loaded. Clones share it.
#[derive(Clone, Debug)]
pub struct Function {
    inner: Arc<Kernel>,
}

#[derive(Debug)]
struct Kernel {
    module: Module,
    raw: hipFunction_t,
    /// The current limit of its dynamic shared memory in bytes.
    allowed: AtomicU32,
}

// SAFETY: the runtime accepts a function from any thread.
unsafe impl Send for Kernel {}
// SAFETY: the runtime accepts a function from any thread, and the limit is atomic.
unsafe impl Sync for Kernel {}

impl Function {
    pub(super) fn raw(&self) -> hipFunction_t {
        self.inner.raw
    }

    /// Raises the kernel's limit of dynamic shared memory to at least `bytes`.
    pub(super) fn allow_shared(&self, bytes: u32) -> Result<(), HipError> {
        if bytes <= self.inner.allowed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let context = &self.inner.module.inner.context;
        context.runtime()?;
        // SAFETY: the function is alive.
        check("hipFuncSetAttribute", unsafe { (context.api().allow_shared)(self.inner.raw, bytes) })?;
        self.inner.allowed.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }
}
