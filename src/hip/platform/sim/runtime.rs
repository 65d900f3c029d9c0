//! The functions of the runtime, for the table.
#![allow(non_snake_case, non_upper_case_globals, reason = "HIP's own names")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::call::{code, on, on_stream, resolve, same_device};
use super::device::{Answer, Device, Event, State};
use super::fault::FaultKind;
use super::launch;
use super::module::{Module, image_bytes};
use super::queue::{Recorded, Work};
use super::registry::{self, Object};
use crate::hip::api::*;

pub(super) const TABLE: Runtime = Runtime {
    hipInit,
    hipDriverGetVersion,
    hipRuntimeGetVersion,
    hipGetDeviceCount,
    hipSetDevice,
    hipDeviceGetName,
    hipDeviceGetAttribute,
    hipMemGetInfo,
    hipMalloc,
    hipFree,
    hipHostMalloc,
    hipHostFree,
    hipMemcpyAsync,
    hipMemsetAsync,
    hipDeviceGetStreamPriorityRange,
    hipStreamCreateWithPriority,
    hipStreamDestroy,
    hipStreamWaitEvent,
    hipEventCreateWithFlags,
    hipEventDestroy,
    hipEventRecord,
    hipEventQuery,
    hipEventElapsedTime,
    hipModuleLoadData,
    hipModuleUnload,
    hipModuleGetFunction,
    hipModuleLaunchKernel: launch::hipModuleLaunchKernel,
    hipStreamBeginCapture,
    hipStreamEndCapture,
    hipGraphDestroy,
    hipGraphInstantiate,
    hipGraphLaunch,
    hipGraphExecDestroy,
};

/// The version that HIP and its driver report, whose behaviour is imitated.
const VERSION: c_int = 60_000_000;

/// A call to the device of this thread.
fn here(call: &'static str, act: impl FnOnce(&Arc<Device>, &mut State) -> Answer) -> hipError_t {
    on(registry::current(), call, act)
}

fn ordinal(device: c_int) -> Answer<Arc<Device>> {
    registry::device(u32::try_from(device).map_err(|_| hipErrorInvalidDevice)?)
}

/// Stores a result at the caller's pointer.
///
/// # Safety
/// `to` must be null or valid for a write.
unsafe fn give<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(hipErrorInvalidValue);
    }
    // SAFETY: guaranteed by the caller.
    unsafe { to.write(value) };
    Ok(())
}

/// Does not use the thread's current device, as that may have been removed.
unsafe extern "C" fn hipInit(_flags: c_uint) -> hipError_t {
    on(registry::current().or_else(|_| registry::device(0)), "hipInit", |_, _| Ok(()))
}

unsafe extern "C" fn hipDriverGetVersion(version: *mut c_int) -> hipError_t {
    // SAFETY: the caller's pointer, by the function's contract.
    here("hipDriverGetVersion", |_, _| unsafe { give(version, VERSION) })
}

unsafe extern "C" fn hipRuntimeGetVersion(version: *mut c_int) -> hipError_t {
    // SAFETY: the caller's pointer, by the function's contract.
    here("hipRuntimeGetVersion", |_, _| unsafe { give(version, VERSION) })
}

unsafe extern "C" fn hipGetDeviceCount(count: *mut c_int) -> hipError_t {
    // Called before a device is chosen: the thread's own may have been removed.
    if let Ok(device) = registry::current()
        && let Err(code) = device.lock().enter("hipGetDeviceCount")
    {
        return code;
    }
    // SAFETY: the caller's pointer, by the function's contract.
    code(registry::count().and_then(|n| unsafe { give(count, n as c_int) }))
}

unsafe extern "C" fn hipSetDevice(device: c_int) -> hipError_t {
    on(ordinal(device), "hipSetDevice", |device, _| {
        registry::set_current(device.ordinal);
        Ok(())
    })
}

unsafe extern "C" fn hipDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> hipError_t {
    on(ordinal(device), "hipDeviceGetName", |_, _| {
        // SAFETY: the caller's buffer, by the function's contract.
        unsafe { write_text(name, len, "rfgraph simulated device") }
    })
}

/// Writes a text and a zero.
///
/// # Safety
/// `to` must be null or valid for `len` bytes.
unsafe fn write_text(to: *mut c_char, len: c_int, text: &str) -> Answer {
    let room = usize::try_from(len).map_err(|_| hipErrorInvalidValue)?;
    if to.is_null() || room == 0 {
        return Err(hipErrorInvalidValue);
    }
    let n = text.len().min(room - 1);
    // SAFETY: guaranteed by the caller; `n` and the zero fit.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), n);
        *to.add(n) = 0;
    }
    Ok(())
}

/// The target's name; see [`Api::arch`].
pub(super) unsafe extern "C" fn arch(name: *mut c_char, len: c_int, device: c_int) -> hipError_t {
    on(ordinal(device), "hipGetDeviceProperties", |device, _| {
        // SAFETY: the caller's buffer, by the function's contract.
        unsafe { write_text(name, len, &device.config.arch()) }
    })
}

/// Any kernel may use all shared memory.
pub(super) unsafe extern "C" fn allow_shared(function: hipFunction_t, bytes: c_uint) -> hipError_t {
    match registry::resolve("hipFuncSetAttribute", "function", function) {
        Ok((device, Object::Function(..))) => on(Ok(device), "hipFuncSetAttribute", |device, _| {
            if bytes > device.config.shared { Err(hipErrorInvalidValue) } else { Ok(()) }
        }),
        Ok(_) => hipErrorInvalidHandle,
        Err(code) => code,
    }
}

unsafe extern "C" fn hipDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> hipError_t {
    on(ordinal(device), "hipDeviceGetAttribute", |device, _| {
        let config = &device.config;
        let answer = match attribute {
            hipDeviceAttributeWarpSize => config.wave,
            hipDeviceAttributeMultiprocessorCount => config.compute_units,
            hipDeviceAttributeMaxSharedMemoryPerBlock => config.shared,
            hipDeviceAttributeComputeCapabilityMajor => 9,
            hipDeviceAttributeClockRate => config.clock_khz,
            hipDeviceAttributeKernelExecTimeout => u32::from(config.drives_display),
            _ => return Err(hipErrorInvalidValue),
        };
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(value, answer as c_int) }
    })
}

unsafe extern "C" fn hipMemGetInfo(free: *mut usize, total: *mut usize) -> hipError_t {
    here("hipMemGetInfo", |device, state| {
        let limit = device.config.memory;
        // SAFETY: the caller's pointers, by the function's contract.
        unsafe {
            give(free, limit.saturating_sub(state.memory.region.used()) as usize)?;
            give(total, limit as usize)
        }
    })
}

unsafe extern "C" fn hipMalloc(address: *mut *mut c_void, bytes: usize) -> hipError_t {
    here("hipMalloc", |device, state| {
        state.outside_capture()?;
        let start = state.allocate(bytes, device.config.memory)?;
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(address, start as *mut c_void) }
    })
}

unsafe extern "C" fn hipFree(address: *mut c_void) -> hipError_t {
    here("hipFree", |_, state| {
        state.outside_capture()?;
        if address.is_null() { Ok(()) } else { state.free(address as usize) }
    })
}

unsafe extern "C" fn hipHostMalloc(address: *mut *mut c_void, bytes: usize, _flags: c_uint) -> hipError_t {
    here("hipHostMalloc", |_, state| {
        state.outside_capture()?;
        if bytes == 0 {
            return Err(hipErrorInvalidValue);
        }
        if state.refuse_above.is_some_and(|most| bytes > most) {
            return Err(hipErrorOutOfMemory);
        }
        let block = state.pinned.allocate(bytes).ok_or(hipErrorOutOfMemory)?;
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(address, block.start as *mut c_void) }
    })
}

unsafe extern "C" fn hipHostFree(address: *mut c_void) -> hipError_t {
    here("hipHostFree", |_, state| {
        state.outside_capture()?;
        if address.is_null() { Ok(()) } else { state.free_pinned(address as usize) }
    })
}

unsafe extern "C" fn hipMemcpyAsync(
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
    kind: c_int,
    stream: hipStream_t,
) -> hipError_t {
    on_stream("hipMemcpyAsync", stream, |device, state, lane| {
        let (to_host, from_host) = match kind {
            hipMemcpyHostToDevice => (false, true),
            hipMemcpyDeviceToHost => (true, false),
            hipMemcpyDeviceToDevice => (false, false),
            _ => return Err(hipErrorInvalidValue),
        };
        let (to, from) = (to as usize, from as usize);
        let call = "hipMemcpyAsync";
        if to_host {
            state.check_pinned(call, to, bytes)?
        } else {
            state.check_device(call, to, bytes)?
        }
        if from_host {
            state.check_pinned(call, from, bytes)?
        } else {
            state.check_device(call, from, bytes)?
        }
        let work = Work::Copy { to, from, bytes, to_host, from_host, sum: None };
        state.submit(lane, work, &device.config)
    })
}

unsafe extern "C" fn hipMemsetAsync(
    to: *mut c_void,
    value: c_int,
    bytes: usize,
    stream: hipStream_t,
) -> hipError_t {
    on_stream("hipMemsetAsync", stream, |device, state, lane| {
        let at = to as usize;
        state.check_device("hipMemsetAsync", at, bytes)?;
        // As in C's memset, only the value's low byte is used.
        state.submit(lane, Work::Fill { at, byte: value as u8, bytes }, &device.config)
    })
}

unsafe extern "C" fn hipDeviceGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> hipError_t {
    here("hipDeviceGetStreamPriorityRange", |_, _| {
        // SAFETY: the caller's pointers, by the function's contract.
        unsafe {
            give(least, 1)?;
            give(greatest, -1)
        }
    })
}

unsafe extern "C" fn hipStreamCreateWithPriority(
    stream: *mut hipStream_t,
    flags: c_uint,
    _priority: c_int,
) -> hipError_t {
    here("hipStreamCreateWithPriority", |device, state| {
        if flags != hipStreamNonBlocking {
            let text = format!(
                "hipStreamCreateWithPriority with flags {flags}: such a stream waits for the null stream"
            );
            return Err(state.fault(FaultKind::Forbidden, text));
        }
        let lane = state.take_lane();
        let handle = registry::insert(device, state, Object::Stream(lane));
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(stream, handle) }
    })
}

unsafe extern "C" fn hipStreamDestroy(stream: hipStream_t) -> hipError_t {
    on_stream("hipStreamDestroy", stream, |_, state, lane| {
        registry::take(stream, state);
        let user = state.lanes[lane].queue.front().map(|op| op.to_string());
        state.lanes[lane].taken = false;
        state.lanes[lane].capture = None;
        state.report_user(user, "hipStreamDestroy")
    })
}

unsafe extern "C" fn hipStreamWaitEvent(
    stream: hipStream_t,
    event: hipEvent_t,
    _flags: c_uint,
) -> hipError_t {
    let event_of = match resolve!("hipStreamWaitEvent", "event", event, Object::Event => ()) {
        Ok((device, ())) => device,
        Err(code) => return code,
    };
    on_stream("hipStreamWaitEvent", stream, |device, state, lane| {
        same_device("hipStreamWaitEvent", device, &event_of, state)?;
        state.wait_event(lane, event as usize, &device.config)
    })
}

unsafe extern "C" fn hipEventCreateWithFlags(event: *mut hipEvent_t, flags: c_uint) -> hipError_t {
    here("hipEventCreateWithFlags", |device, state| {
        let handle = registry::insert(device, state, Object::Event);
        let timing = flags & hipEventDisableTiming == 0;
        state.events.insert(handle as usize, Event { timing, ..Event::default() });
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(event, handle) }
    })
}

/// A call about an event, on the event's device.
fn on_event(
    call: &'static str,
    event: hipEvent_t,
    act: impl FnOnce(&Arc<Device>, &mut State) -> Answer,
) -> hipError_t {
    match registry::resolve(call, "event", event) {
        Ok((device, Object::Event)) => on(Ok(device), call, act),
        Ok(_) => hipErrorInvalidHandle,
        Err(code) => code,
    }
}

unsafe extern "C" fn hipEventDestroy(event: hipEvent_t) -> hipError_t {
    on_event("hipEventDestroy", event, |_, state| {
        registry::take(event, state);
        state.events.remove(&(event as usize));
        let user = state.user_of(|op| op.names_event(event as usize));
        state.report_user(user, "hipEventDestroy")
    })
}

unsafe extern "C" fn hipEventRecord(event: hipEvent_t, stream: hipStream_t) -> hipError_t {
    let event_of = match resolve!("hipEventRecord", "event", event, Object::Event => ()) {
        Ok((device, ())) => device,
        Err(code) => return code,
    };
    on_stream("hipEventRecord", stream, |device, state, lane| {
        same_device("hipEventRecord", device, &event_of, state)?;
        let work = Work::Record { event: event as usize, point: Arc::<Recorded>::default() };
        state.submit(lane, work, &device.config)
    })
}

unsafe extern "C" fn hipEventQuery(event: hipEvent_t) -> hipError_t {
    on_event("hipEventQuery", event, |device, state| state.query_event(event as usize, &device.config))
}

unsafe extern "C" fn hipEventElapsedTime(
    milliseconds: *mut f32,
    start: hipEvent_t,
    end: hipEvent_t,
) -> hipError_t {
    on_event("hipEventElapsedTime", start, |_, state| {
        let elapsed = state.elapsed(start as usize, end as usize)?;
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(milliseconds, elapsed) }
    })
}

unsafe extern "C" fn hipModuleLoadData(module: *mut hipModule_t, image: *const c_void) -> hipError_t {
    here("hipModuleLoadData", |device, state| {
        state.outside_capture()?;
        if image.is_null() {
            return Err(hipErrorInvalidValue);
        }
        // SAFETY: the caller's image, by the function's contract.
        let code = unsafe { image_bytes(image) }.ok_or(hipErrorInvalidImage)?;
        let loaded = Module::load(code, device.config.wave).map_err(|error| {
            tracing::error!("simulated device: hipModuleLoadData: {error}");
            hipErrorInvalidImage
        })?;
        let handle = registry::insert(device, state, Object::Module(Arc::new(loaded)));
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(module, handle) }
    })
}

unsafe extern "C" fn hipModuleUnload(module: hipModule_t) -> hipError_t {
    match resolve!("hipModuleUnload", "module", module, Object::Module(module) => module) {
        Err(code) => code,
        Ok((device, loaded)) => on(Ok(device), "hipModuleUnload", |_, state| {
            state.outside_capture()?;
            registry::take(module, state);
            loaded.mark_unloaded();
            let user = state.user_of(|op| op.runs(&loaded));
            state.report_user(user, "hipModuleUnload")
        }),
    }
}

unsafe extern "C" fn hipModuleGetFunction(
    function: *mut hipFunction_t,
    module: hipModule_t,
    name: *const c_char,
) -> hipError_t {
    match resolve!("hipModuleGetFunction", "module", module, Object::Module(module) => module) {
        Err(code) => code,
        Ok((device, module)) => on(Ok(device), "hipModuleGetFunction", |device, state| {
            if name.is_null() {
                return Err(hipErrorInvalidValue);
            }
            // SAFETY: the caller's string, by the function's contract.
            let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
            let at = module.kernels.iter().position(|kernel| kernel.name == name).ok_or(hipErrorNotFound)?;
            let handle = registry::insert(device, state, Object::Function(module, at));
            // SAFETY: the caller's pointer, by the function's contract.
            unsafe { give(function, handle) }
        }),
    }
}

unsafe extern "C" fn hipStreamBeginCapture(stream: hipStream_t, _mode: c_int) -> hipError_t {
    on_stream("hipStreamBeginCapture", stream, |_, state, lane| state.begin_capture(lane))
}

unsafe extern "C" fn hipStreamEndCapture(stream: hipStream_t, graph: *mut hipGraph_t) -> hipError_t {
    on_stream("hipStreamEndCapture", stream, |device, state, lane| {
        let captured = state.end_capture(lane)?;
        let handle = registry::insert(device, state, Object::Graph(Arc::new(captured)));
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { give(graph, handle) }
    })
}

unsafe extern "C" fn hipGraphDestroy(graph: hipGraph_t) -> hipError_t {
    match resolve!("hipGraphDestroy", "graph", graph, Object::Graph(_) => ()) {
        Err(code) => code,
        Ok((device, ())) => on(Ok(device), "hipGraphDestroy", |_, state| {
            registry::take(graph, state);
            Ok(())
        }),
    }
}

unsafe extern "C" fn hipGraphInstantiate(
    exec: *mut hipGraphExec_t,
    graph: hipGraph_t,
    _error_node: *mut *mut c_void,
    _log: *mut c_char,
    _log_len: usize,
) -> hipError_t {
    match resolve!("hipGraphInstantiate", "graph", graph, Object::Graph(graph) => graph) {
        Err(code) => code,
        Ok((device, graph)) => on(Ok(device), "hipGraphInstantiate", |device, state| {
            let handle = registry::insert(device, state, Object::Exec(graph));
            // SAFETY: the caller's pointer, by the function's contract.
            unsafe { give(exec, handle) }
        }),
    }
}

unsafe extern "C" fn hipGraphLaunch(exec: hipGraphExec_t, stream: hipStream_t) -> hipError_t {
    match resolve!("hipGraphLaunch", "executable graph", exec, Object::Exec(graph) => graph) {
        Err(code) => code,
        Ok((graph_of, graph)) => on_stream("hipGraphLaunch", stream, |device, state, lane| {
            same_device("hipGraphLaunch", device, &graph_of, state)?;
            state.queue_graph(lane, &graph, exec as usize, &device.config)
        }),
    }
}

unsafe extern "C" fn hipGraphExecDestroy(exec: hipGraphExec_t) -> hipError_t {
    match resolve!("hipGraphExecDestroy", "executable graph", exec, Object::Exec(_) => ()) {
        Err(code) => code,
        Ok((device, ())) => on(Ok(device), "hipGraphExecDestroy", |_, state| {
            registry::take(exec, state);
            let user = state.user_of(|op| op.graph == Some(exec as usize));
            state.report_user(user, "hipGraphExecDestroy")
        }),
    }
}
