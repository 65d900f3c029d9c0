//! A test's handle of a simulated device.

use std::sync::Arc;

use super::config::Config;
use super::device::{Device, Injection};
use super::fault::Fault;
use super::registry;
use crate::hip::api::hipError_t;

/// A test's handle of a simulated device: reads what happened on it, and injects failures. Dropping the handle from
/// [`add`] removes the device.
#[derive(Debug)]
pub struct SimHandle {
    device: Arc<Device>,
    owns: bool,
}

/// Registers an additional device of this process.
///
/// # Errors
/// The system refuses the address range for its memory.
pub fn add(config: Config) -> std::io::Result<SimHandle> {
    let wave = config.wave;
    if wave != 32 && wave != 64 {
        return Err(std::io::Error::other(format!("a wave of {wave} lanes; there are 32 and 64")));
    }
    Ok(SimHandle { device: registry::add(config)?, owns: true })
}

/// The device of an ordinal: 0 is always present, the others are those that were added.
pub fn find(ordinal: u32) -> Option<SimHandle> {
    Some(SimHandle { device: registry::device(ordinal).ok()?, owns: false })
}

/// Hides every device from this thread while `f` runs: calls return `hipErrorNoDevice`.
pub fn without_devices<R>(f: impl FnOnce() -> R) -> R {
    registry::without_devices(f)
}

impl SimHandle {
    /// The argument of `hipSetDevice`.
    pub fn ordinal(&self) -> u32 {
        self.device.ordinal
    }

    /// The device's properties.
    pub fn config(&self) -> &Config {
        &self.device.config
    }

    /// The number of calls of a function, by HIP's name.
    pub fn count(&self, call: &str) -> u64 {
        self.device.lock().counts.get(call).copied().unwrap_or(0)
    }

    /// The number of calls of every function so far, by name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.device.lock().counts.iter().map(|(name, n)| (*name, *n)).collect()
    }

    /// Resets the numbers of calls.
    pub fn reset_counts(&self) {
        self.device.lock().counts.clear();
    }

    /// Calls of `hipFree` and `hipHostFree` while work was queued: on a real device, each waits for all of it.
    pub fn stalls(&self) -> u64 {
        self.device.lock().stalls
    }

    /// The faults so far.
    pub fn faults(&self) -> Vec<Fault> {
        self.device.lock().faults.clone()
    }

    /// Takes and clears the faults so far: the device works again. Queued work is dropped.
    pub fn take_faults(&self) -> Vec<Fault> {
        self.device.lock().take_faults()
    }

    /// Panics if a fault was found.
    #[track_caller]
    pub fn assert_no_fault(&self) {
        let faults = self.faults();
        let text: Vec<String> = faults.iter().map(Fault::to_string).collect();
        assert!(faults.is_empty(), "the simulated device found faults:\n{}", text.join("\n"));
    }

    /// Descriptions of the objects and memory that were not released.
    pub fn leaks(&self) -> Vec<String> {
        self.device.lock().leaks()
    }

    /// Panics if an object or memory was not released.
    #[track_caller]
    pub fn assert_no_leak(&self) {
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "not given back to the simulated device:\n{}", leaks.join("\n"));
    }

    /// Bytes of device memory in use.
    pub fn used_bytes(&self) -> u64 {
        self.device.lock().memory.region.used()
    }

    /// The number of operations that are queued and have not run.
    pub fn queued(&self) -> usize {
        self.device.lock().lanes.iter().map(|lane| lane.queue.len()).sum()
    }

    /// Makes a call fail once: the `nth` from now, counted from 0, returns `code`.
    pub fn fail(&self, call: &'static str, nth: u64, code: hipError_t) {
        self.device.lock().injections.push(Injection { call, nth, code });
    }

    /// Refuses allocations of more bytes, as if memory were short; `None` ends that.
    pub fn fail_alloc_above(&self, bytes: Option<usize>) {
        self.device.lock().refuse_above = bytes;
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        if self.owns {
            registry::remove(self.device.ordinal);
        }
    }
}
