//! Streams: queues of work on a device.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use super::api::{self, Runtime, hipStream_t};
use super::context::Context;
use super::error::HipError;
use super::event::Event;
use super::graph::GraphExec;
use super::module::Function;

/// The priority of a stream's work when the device is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// After other work: a courtesy to a desktop drawn by the same GPU.
    #[default]
    Low,
    /// Like other work.
    Normal,
    /// Before other work.
    High,
}

/// A queue of work, done in order. It and the NULL stream do not wait for each other. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Stream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Context,
    raw: hipStream_t,
}

// SAFETY: the runtime accepts a stream from any thread.
unsafe impl Send for Inner {}
// SAFETY: the runtime accepts a stream from any thread and locks its own state.
unsafe impl Sync for Inner {}

impl Context {
    /// Makes a stream, with the priority if the platform supports priorities.
    ///
    /// # Errors
    /// The runtime refuses the stream.
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
    /// Both ranges stay valid, and the host's is not written, until an event recorded after the copy is done.
    pub unsafe fn copy_to_device(&self, to: u64, from: *const u8, bytes: usize) -> Result<(), HipError> {
        // SAFETY: guaranteed by the caller.
        unsafe { self.copy(to as *mut c_void, from.cast(), bytes, api::hipMemcpyHostToDevice) }
    }

    /// Queues a copy of device memory to the host. Zero bytes need no call.
    ///
    /// # Safety
    /// Both ranges stay valid, and the host's is not read or written, until an event recorded after the copy is done.
    pub unsafe fn copy_to_host(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), HipError> {
        // SAFETY: guaranteed by the caller.
        unsafe { self.copy(to.cast(), from as *const c_void, bytes, api::hipMemcpyDeviceToHost) }
    }

    /// Queues a copy within device memory. Zero bytes need no call.
    ///
    /// # Safety
    /// Both ranges stay valid until an event recorded after the copy is done, and do not overlap.
    pub unsafe fn copy_within(&self, to: u64, from: u64, bytes: usize) -> Result<(), HipError> {
        // SAFETY: guaranteed by the caller.
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
        // SAFETY: guaranteed by the caller.
        self.call("hipMemcpyAsync", |runtime, stream| unsafe {
            (runtime.hipMemcpyAsync)(to, from, bytes, kind, stream)
        })
    }

    /// Queues filling a range of device memory with one byte value. Zero bytes need no call.
    ///
    /// # Safety
    /// The range stays valid until an event recorded after the fill is done.
    pub unsafe fn fill(&self, at: u64, byte: u8, bytes: usize) -> Result<(), HipError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: guaranteed by the caller.
        self.call("hipMemsetAsync", |runtime, stream| unsafe {
            (runtime.hipMemsetAsync)(at as *mut c_void, c_int::from(byte), bytes, stream)
        })
    }

    /// Makes the event mark the end of all work queued so far.
    pub fn record(&self, event: &Event) -> Result<(), HipError> {
        // SAFETY: stream and event are alive.
        self.call("hipEventRecord", |runtime, stream| unsafe {
            (runtime.hipEventRecord)(event.raw(), stream)
        })
    }

    /// Makes work queued from now on start after the event. The device waits; the host does not.
    pub fn wait(&self, event: &Event) -> Result<(), HipError> {
        // SAFETY: stream and event are alive.
        self.call("hipStreamWaitEvent", |runtime, stream| unsafe {
            (runtime.hipStreamWaitEvent)(stream, event.raw(), 0)
        })
    }

    /// Queues a kernel: `grid` blocks of `block` threads, with `shared` bytes of dynamic shared memory.
    ///
    /// # Safety
    /// `args` points at the kernel's arguments, in its order and of its types; they are read before this returns. The
    /// memory that the arguments point to stays valid, and the function stays loaded, until an event recorded after the
    /// launch is done.
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
        // SAFETY: guaranteed by the caller.
        self.call("hipModuleLaunchKernel", |runtime, stream| unsafe {
            (runtime.hipModuleLaunchKernel)(raw, gx, gy, gz, bx, by, bz, shared, stream, args, none)
        })
    }

    /// Begins to record queued work instead of running it. The same thread must end the recording.
    pub fn begin_capture(&self) -> Result<(), HipError> {
        let mode = api::hipStreamCaptureModeThreadLocal;
        // SAFETY: the stream is alive.
        self.call("hipStreamBeginCapture", |runtime, stream| unsafe {
            (runtime.hipStreamBeginCapture)(stream, mode)
        })
    }

    /// Ends recording and returns the graph of the recorded work. The stream is usable afterwards, whatever the result.
    ///
    /// # Errors
    /// Some queued work cannot be recorded, or the graph cannot be made.
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
    /// The graph, and all memory and kernels that it refers to, stay valid until an event recorded after the launch is
    /// done.
    pub unsafe fn launch_graph(&self, graph: &GraphExec) -> Result<(), HipError> {
        // SAFETY: guaranteed by the caller.
        self.call("hipGraphLaunch", |runtime, stream| unsafe {
            (runtime.hipGraphLaunch)(graph.raw(), stream)
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: made by `hipStreamCreateWithPriority`, destroyed once; queued work still completes.
        self.context.release("hipStreamDestroy", |runtime| unsafe { (runtime.hipStreamDestroy)(self.raw) });
    }
}
