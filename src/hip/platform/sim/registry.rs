//! Devices by ordinal, and objects by handle. Handles are numbers that look like pointers: an invalid or destroyed one
//! is detected instead of dereferenced.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::config::Config;
use super::device::{Answer, Device, State};
use super::fault::FaultKind;
use super::module::Module;
use super::queue::Graph;
use crate::hip::api::{hipErrorInvalidDevice, hipErrorInvalidHandle, hipErrorNoDevice};

/// The object behind a handle.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Stream(usize),
    Event,
    Module(Arc<Module>),
    Function(Arc<Module>, usize),
    Graph(Arc<Graph>),
    Exec(Arc<Graph>),
    Blas,
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Object::Stream(_) => "stream",
            Object::Event => "event",
            Object::Module(_) => "module",
            Object::Function(..) => "function",
            Object::Graph(_) => "graph",
            Object::Exec(_) => "executable graph",
            Object::Blas => "BLAS handle",
        }
    }
}

#[derive(Debug, Default)]
struct Registry {
    devices: BTreeMap<u32, Arc<Device>>,
    n_added: u32,
    objects: HashMap<usize, (Arc<Device>, Object)>,
    n_objects: usize,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(0) };
    static HIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// Locks the registry. A device may be locked before, but not inside `use_it`.
fn with<R>(use_it: impl FnOnce(&mut Registry) -> R) -> R {
    let mut guard: MutexGuard<'_, Option<Registry>> = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    use_it(guard.get_or_insert_default())
}

/// Registers a device. Ordinals are not reused, and 0 is the default device's.
pub(super) fn add(config: Config) -> io::Result<Arc<Device>> {
    with(|registry| {
        let ordinal = registry.n_added + 1;
        let device = Arc::new(Device::new(ordinal, config)?);
        registry.n_added = ordinal;
        registry.devices.insert(ordinal, Arc::clone(&device));
        Ok(device)
    })
}

/// Removes a device and all its handles.
pub(super) fn remove(ordinal: u32) {
    // The removed device may be large, so it is dropped after the lock is released.
    let gone = with(|registry| {
        let gone: Vec<usize> = registry
            .objects
            .iter()
            .filter(|(_, (device, _))| device.ordinal == ordinal)
            .map(|(handle, _)| *handle)
            .collect();
        let gone: Vec<_> = gone.iter().filter_map(|handle| registry.objects.remove(handle)).collect();
        (gone, registry.devices.remove(&ordinal))
    });
    drop(gone);
}

/// The device of an ordinal. Device 0 is created on first use, configured by the environment.
pub(super) fn device(ordinal: u32) -> Answer<Arc<Device>> {
    if HIDDEN.get() {
        return Err(hipErrorNoDevice);
    }
    with(|registry| {
        if ordinal == 0 && !registry.devices.contains_key(&0) {
            let device = Device::new(0, Config::from_env()).map_err(|_| hipErrorNoDevice)?;
            registry.devices.insert(0, Arc::new(device));
        }
        registry.devices.get(&ordinal).cloned().ok_or(hipErrorInvalidDevice)
    })
}

/// One more than the greatest ordinal.
pub(super) fn count() -> Answer<u32> {
    if HIDDEN.get() {
        return Err(hipErrorNoDevice);
    }
    Ok(with(|registry| registry.devices.keys().next_back().map_or(1, |last| last + 1)))
}

/// The device that this thread's calls go to.
pub(super) fn current() -> Answer<Arc<Device>> {
    device(CURRENT.get())
}

/// Directs this thread's calls to a device.
pub(super) fn set_current(ordinal: u32) {
    CURRENT.set(ordinal);
}

/// Hides every device from this thread while `f` runs.
pub fn without_devices<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            HIDDEN.set(self.0);
        }
    }
    let _restore = Restore(HIDDEN.replace(true));
    f()
}

/// A new handle for an object of a device.
pub(super) fn insert(device: &Arc<Device>, state: &mut State, object: Object) -> *mut c_void {
    let kind = object.kind();
    let counted = !matches!(object, Object::Function(..));
    let handle = with(|registry| {
        registry.n_objects += 1;
        // Far from any address, and never null.
        let handle = 0x51_0000_0000 + registry.n_objects * 16;
        registry.objects.insert(handle, (Arc::clone(device), object));
        handle
    });
    if counted {
        state.objects.insert(handle, kind);
    }
    handle as *mut c_void
}

/// The object behind a handle.
pub(super) fn get(handle: *mut c_void) -> Option<(Arc<Device>, Object)> {
    with(|registry| registry.objects.get(&(handle as usize)).cloned())
}

/// Removes a handle, and the functions of a module.
pub(super) fn take(handle: *mut c_void, state: &mut State) {
    state.objects.remove(&(handle as usize));
    with(|registry| {
        if let Some((_, Object::Module(module))) = registry.objects.remove(&(handle as usize)) {
            registry.objects.retain(
                |_, (_, object)| !matches!(object, Object::Function(of, _) if Arc::ptr_eq(of, &module)),
            );
        }
    });
}

/// The device and the object of a handle; an invalid handle is a fault of the current device.
pub(super) fn resolve(call: &'static str, what: &str, handle: *mut c_void) -> Answer<(Arc<Device>, Object)> {
    if let Some(found) = get(handle) {
        return Ok(found);
    }
    let device = current()?;
    let mut state = device.lock();
    state.enter(call)?;
    Err(if handle.is_null() && what == "stream" {
        state.fault(FaultKind::Forbidden, format!("{call} on the null stream"))
    } else {
        let text = format!("{call}: {handle:?} is not a {what}, or was destroyed");
        state.fault(FaultKind::BadHandle, text);
        hipErrorInvalidHandle
    })
}
