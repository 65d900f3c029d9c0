//! Streams: queues of work on a device.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use super::api::{self, Runtime, hipStream_t};
use super::context::Context;
use super::error::HipError;
use super::event::Event;
use super::graph::GraphExec;
use super::module::Function;

/// Whose work goes first where the device is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// After others': the courtesy to a desktop that the same GPU draws.
    #[default]
    Low,
    /// As others'.
    Normal,
    /// Before others'.
    High,
}

/// A queue of work, done in order. It never waits for the NULL stream, nor that for it. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Stream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Context,
    raw: hipStream_t,
}

// SAFETY: the runtime takes a stream from any thread.
unsafe impl Send for Inner {}
// SAFETY: as above; the runtime locks its own state.
unsafe impl Sync for Inner {}

impl Context {
    /// Makes a stream, of the priority if the platform has one.
    ///
    /// # Errors
    /// The runtime refuses.
    pub fn stream(&self, priority: Priority) -> Result<Stream, HipError> {
        let runtime = self.runtime()?;
        let (mut least, mut greatest): (c_int, c_int) = (0, 0);
        // SAFETY: both are valid for a write.
        let code = unsafe { (runtime.hipDeviceGetStreamPriorityRange)(&mut least, &mut greatest) };
        if let Err(error) = self.check("hipDeviceGetStreamPriorityRange", code) {
            tracing::debug!("no stream priorities: {error}");
            (least, greatest) = (0, 0);
        }
        let priority = match priority {
            Priority::Low => least,
            Priority::Normal => 0,
            Priority::High => greatest,
        };
        let mut raw: hipStream_t = std::ptr::null_mut();
        // SAFETY: `raw` is valid for a write.
        let code =
            unsafe { (runtime.hipStreamCreateWithPriority)(&mut raw, api::hipStreamNonBlocking, priority) };
        self.check("hipStreamCreateWithPriority", code)?;
        if raw.is_null() {
            let text = "the runtime gave the NULL stream, which every other stream may wait for";
            return Err(HipError::with_text("hipStreamCreateWithPriority", api::hipErrorUnknown, text));
        }
        Ok(Stream { inner: Arc::new(Inner { context: self.clone(), raw }) })
    }
}

impl Stream {
    pub(super) fn raw(&self) -> hipStream_t {
        self.inner.raw
    }

    /// The device.
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    fn call(
        &self,
        call: &'static str,
        queue: impl FnOnce(&Runtime, hipStream_t) -> api::hipError_t,
    ) -> Result<(), HipError> {
        let context = &self.inner.context;
        context.check(call, queue(context.runtime()?, self.inner.raw))
    }

    /// Queues a copy of host memory to the device. Zero bytes need no call.
    ///
    /// # Safety
    /// Both ranges stay valid, and nobody writes the host's, until an event recorded after this is done.
    pub unsafe fn copy_to_device(&self, to: u64, from: *const u8, bytes: usize) -> Result<(), HipError> {
        // SAFETY: the caller's promise.
        unsafe { self.copy(to as *mut c_void, from.cast(), bytes, api::hipMemcpyHostToDevice) }
    }

    /// Queues a copy of device memory to the host. Zero bytes need no call.
    ///
    /// # Safety
    /// Both ranges stay valid, and nobody reads or writes the host's, until an event recorded after this is done.
    pub unsafe fn copy_to_host(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), HipError> {
        // SAFETY: the caller's promise.
        unsafe { self.copy(to.cast(), from as *const c_void, bytes, api::hipMemcpyDeviceToHost) }
    }

    /// Queues a copy within device memory. Zero bytes need no call.
    ///
    /// # Safety
    /// Both ranges stay valid until an event recorded after this is done, and do not overlap.
    pub unsafe fn copy_within(&self, to: u64, from: u64, bytes: usize) -> Result<(), HipError> {
        // SAFETY: the caller's promise.
        unsafe { self.copy(to as *mut c_void, from as *const c_void, bytes, api::hipMemcpyDeviceToDevice) }
    }

    unsafe fn copy(
        &self,
        to: *mut c_void,
        from: *const c_void,
        bytes: usize,
        kind: c_int,
    ) -> Result<(), HipError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        self.call("hipMemcpyAsync", |runtime, stream| unsafe {
            (runtime.hipMemcpyAsync)(to, from, bytes, kind, stream)
        })
    }

    /// Queues writing one byte over a range of device memory. Zero bytes need no call.
    ///
    /// # Safety
    /// The range stays valid until an event recorded after this is done.
    pub unsafe fn fill(&self, at: u64, byte: u8, bytes: usize) -> Result<(), HipError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        self.call("hipMemsetAsync", |runtime, stream| unsafe {
            (runtime.hipMemsetAsync)(at as *mut c_void, c_int::from(byte), bytes, stream)
        })
    }

    /// Makes the event stand for the end of all that is queued so far.
    pub fn record(&self, event: &Event) -> Result<(), HipError> {
        // SAFETY: stream and event are alive.
        self.call("hipEventRecord", |runtime, stream| unsafe {
            (runtime.hipEventRecord)(event.raw(), stream)
        })
    }

    /// Makes work that is queued from now on start after the event. The device waits, the host does not.
    pub fn wait(&self, event: &Event) -> Result<(), HipError> {
        // SAFETY: stream and event are alive.
        self.call("hipStreamWaitEvent", |runtime, stream| unsafe {
            (runtime.hipStreamWaitEvent)(stream, event.raw(), 0)
        })
    }

    /// Queues a kernel: `grid` blocks of `block` threads, with so many bytes of dynamic shared memory.
    ///
    /// # Safety
    /// `args` points at the kernel's arguments, in its order and of its types; they are read before this returns.
    /// What the arguments point to stays valid until an event recorded after this is done, and the function
    /// stays loaded as long.
    pub unsafe fn launch(
        &self,
        function: &Function,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        args: &mut [*mut c_void],
    ) -> Result<(), HipError> {
        function.allow_shared(shared)?;
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        let (raw, args) = (function.raw(), args.as_mut_ptr());
        let none = std::ptr::null_mut();
        // SAFETY: the caller's promise.
        self.call("hipModuleLaunchKernel", |runtime, stream| unsafe {
            (runtime.hipModuleLaunchKernel)(raw, gx, gy, gz, bx, by, bz, shared, stream, args, none)
        })
    }

    /// Begins to record what is queued instead of doing it. The thread that begins also ends it.
    pub fn begin_capture(&self) -> Result<(), HipError> {
        let mode = api::hipStreamCaptureModeThreadLocal;
        // SAFETY: the stream is alive.
        self.call("hipStreamBeginCapture", |runtime, stream| unsafe {
            (runtime.hipStreamBeginCapture)(stream, mode)
        })
    }

    /// Ends recording; the graph of what was queued since it began. The stream can be used again, whatever the
    /// result.
    ///
    /// # Errors
    /// Something that was queued cannot be recorded, or the graph cannot be made.
    pub fn end_capture(&self) -> Result<GraphExec, HipError> {
        let mut graph: api::hipGraph_t = std::ptr::null_mut();
        // SAFETY: the stream is alive, and `graph` is valid for a write.
        let ended = self.call("hipStreamEndCapture", |runtime, stream| unsafe {
            (runtime.hipStreamEndCapture)(stream, &mut graph)
        });
        GraphExec::instantiate(&self.inner.context, graph, ended)
    }

    /// Queues a graph's work.
    ///
    /// # Safety
    /// All that its kernels and copies name is still valid, and stays so until an event recorded after this is
    /// done; so does the graph.
    pub unsafe fn launch_graph(&self, graph: &GraphExec) -> Result<(), HipError> {
        // SAFETY: the caller's promise.
        self.call("hipGraphLaunch", |runtime, stream| unsafe {
            (runtime.hipGraphLaunch)(graph.raw(), stream)
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: made by `hipStreamCreateWithPriority`, destroyed once; queued work is still done.
        self.context.release("hipStreamDestroy", |runtime| unsafe { (runtime.hipStreamDestroy)(self.raw) });
    }
}
