//! The frame of a call: the device or object of its handle, the count, a requested failure, the lock.

use std::sync::Arc;

use super::device::{Answer, Device, State};
use super::fault::FaultKind;
use super::registry::{self, Object};
use crate::hip::api::{hipError_t, hipErrorInvalidHandle, hipStream_t, hipSuccess};

/// HIP's code for an answer.
pub(super) fn code(answer: Answer) -> hipError_t {
    answer.err().unwrap_or(hipSuccess)
}

/// A call to a device: counted, failed if a test requested that, and with the device locked.
pub(super) fn on(
    device: Answer<Arc<Device>>,
    call: &'static str,
    act: impl FnOnce(&Arc<Device>, &mut State) -> Answer,
) -> hipError_t {
    code(device.and_then(|device| {
        let mut state = device.lock();
        state.enter(call)?;
        act(&device, &mut state)
    }))
}

/// The device and object of a handle of one kind.
macro_rules! resolve {
    ($call:literal, $what:literal, $handle:expr, $object:pat => $use:expr) => {
        match registry::resolve($call, $what, $handle) {
            Ok((device, $object)) => Ok((device, $use)),
            Ok(_) => Err(hipErrorInvalidHandle),
            Err(code) => Err(code),
        }
    };
}
pub(super) use resolve;

/// A call about a stream: runs with its lane, on the stream's device.
pub(super) fn on_stream(
    call: &'static str,
    stream: hipStream_t,
    act: impl FnOnce(&Arc<Device>, &mut State, usize) -> Answer,
) -> hipError_t {
    match registry::resolve(call, "stream", stream) {
        Ok((device, Object::Stream(lane))) => on(Ok(device), call, |device, state| act(device, state, lane)),
        Ok(_) => hipErrorInvalidHandle,
        Err(code) => code,
    }
}

/// Refuses to combine a stream with an object of another device.
pub(super) fn same_device(call: &str, of: &Device, other: &Device, state: &mut State) -> Answer {
    if of.ordinal == other.ordinal {
        return Ok(());
    }
    let text =
        format!("{call} on a stream of device {} with an object of device {}", of.ordinal, other.ordinal);
    Err(state.fault(FaultKind::BadHandle, text))
}
