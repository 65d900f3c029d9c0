//! A simulated device under test, used only through its table of functions.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};
use std::ptr::null_mut;
use std::sync::Mutex;

use rfgraph::hip::api::*;
use rfgraph::hip::platform::sim::{self, Config, SimHandle};

/// The headers of the kernels in `tests/fixtures/sim`; the platform provides its own.
const HEADERS: [(&str, &str); 1] = [("platform.h", include_str!("../../../kernels/platform.h"))];
pub const SOUND: &str = include_str!("../../fixtures/sim/sound.hip");
pub const FAULTY: &str = include_str!("../../fixtures/sim/faulty.hip");

pub type Pointer = *mut c_void;

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub enum Arg {
    P(Pointer),
    I(i32),
    L(i64),
    Layout([i64; 8]),
}

/// A device with one stream, and calls that must succeed.
pub struct Rig {
    pub sim: SimHandle,
    pub rt: Runtime,
    pub api: Api,
    pub stream: hipStream_t,
}

/// Calls a function of the table.
macro_rules! call {
    ($rig:expr, $name:ident($($arg:expr),*)) => {
        // SAFETY: the arguments are those of the function.
        unsafe { ($rig.rt.$name)($($arg),*) }
    };
}
pub(crate) use call;

/// Calls a function of the table that must succeed.
macro_rules! ok {
    ($rig:expr, $name:ident($($arg:expr),*)) => {
        assert_eq!($crate::sim::rig::call!($rig, $name($($arg),*)), 0, "{} {:?}", stringify!($name), $rig.sim.faults())
    };
}

pub(crate) use ok;

/// Compiles a source; an error of the compiler returns its log.
pub fn compile(api: &Api, source: &str, options: &[&str]) -> Result<Vec<u8>, String> {
    let text = |text: &str| CString::new(text).unwrap();
    let (source, name) = (text(source), text("test.hip"));
    let headers = HEADERS.map(|(_, content)| text(content));
    let names = HEADERS.map(|(name, _)| text(name));
    let options: Vec<CString> = options.iter().map(|option| text(option)).collect();
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let mut program = null_mut();
    // SAFETY: every string lives until the calls return, and buffers are as large as the sizes that the calls report.
    unsafe {
        let created = (api.rtc.hiprtcCreateProgram)(
            &mut program,
            source.as_ptr(),
            name.as_ptr(),
            1,
            headers.each_ref().map(|header| header.as_ptr()).as_ptr(),
            names.each_ref().map(|name| name.as_ptr()).as_ptr(),
        );
        assert_eq!(created, 0);
        let compiled = (api.rtc.hiprtcCompileProgram)(program, options.len() as i32, options.as_ptr());
        let mut bytes = 0;
        let result = if compiled == 0 {
            assert_eq!((api.rtc.hiprtcGetCodeSize)(program, &mut bytes), 0);
            let mut code = vec![0u8; bytes];
            assert_eq!((api.rtc.hiprtcGetCode)(program, code.as_mut_ptr().cast()), 0);
            Ok(code)
        } else {
            assert_eq!(compiled, 6);
            assert_eq!((api.rtc.hiprtcGetProgramLogSize)(program, &mut bytes), 0);
            let mut log = vec![0u8; bytes];
            assert_eq!((api.rtc.hiprtcGetProgramLog)(program, log.as_mut_ptr().cast()), 0);
            assert_eq!(log.pop(), Some(0));
            Err(String::from_utf8(log).unwrap())
        };
        assert_eq!((api.rtc.hiprtcDestroyProgram)(&mut program), 0);
        result
    }
}

impl Rig {
    pub fn new(config: Config) -> Rig {
        let sim = sim::add(config).unwrap();
        let api = sim::api();
        let mut rig = Rig { rt: api.runtime, api, stream: null_mut(), sim };
        ok!(rig, hipSetDevice(rig.sim.ordinal() as i32));
        rig.stream = rig.new_stream();
        rig
    }

    pub fn new_stream(&self) -> hipStream_t {
        let mut stream = null_mut();
        ok!(self, hipStreamCreateWithPriority(&mut stream, hipStreamNonBlocking, 0));
        stream
    }

    pub fn new_event(&self) -> hipEvent_t {
        let mut event = null_mut();
        ok!(self, hipEventCreateWithFlags(&mut event, hipEventDefault));
        event
    }

    pub fn alloc(&self, bytes: usize) -> Pointer {
        let mut address = null_mut();
        ok!(self, hipMalloc(&mut address, bytes));
        address
    }

    pub fn alloc_pinned(&self, bytes: usize) -> Pointer {
        let mut address = null_mut();
        ok!(self, hipHostMalloc(&mut address, bytes, hipHostMallocDefault));
        address
    }

    pub fn code(&self, source: &str) -> Vec<u8> {
        let mut arch = [0u8; 64];
        // SAFETY: the buffer has the size that is passed.
        let code = unsafe { (self.api.arch)(arch.as_mut_ptr().cast(), 64, self.sim.ordinal() as i32) };
        assert_eq!(code, 0);
        let arch = std::ffi::CStr::from_bytes_until_nul(&arch).unwrap().to_str().unwrap();
        // A test builds the same kernels many times.
        static BUILT: Mutex<BTreeMap<(String, String), Vec<u8>>> = Mutex::new(BTreeMap::new());
        let mut built = BUILT.lock().unwrap();
        let key = (arch.to_string(), source.to_string());
        let build = || compile(&self.api, source, &[&format!("--offload-arch={arch}")]);
        built.entry(key).or_insert_with(|| build().unwrap_or_else(|log| panic!("{log}"))).clone()
    }

    pub fn module(&self, source: &str) -> hipModule_t {
        let code = self.code(source);
        let mut module = null_mut();
        ok!(self, hipModuleLoadData(&mut module, code.as_ptr().cast()));
        module
    }

    pub fn function(&self, module: hipModule_t, name: &str) -> hipFunction_t {
        let name = CString::new(name).unwrap();
        let mut function = null_mut();
        ok!(self, hipModuleGetFunction(&mut function, module, name.as_ptr()));
        function
    }

    /// Queues a kernel and returns the error code.
    pub fn try_launch(
        &self,
        stream: hipStream_t,
        function: hipFunction_t,
        grid: u32,
        threads: u32,
        shared: u32,
        args: &[Arg],
    ) -> hipError_t {
        let mut args = args.to_vec();
        let mut pointers: Vec<Pointer> = args
            .iter_mut()
            .map(|arg| match arg {
                Arg::P(value) => (value as *mut Pointer).cast(),
                Arg::I(value) => (value as *mut i32).cast(),
                Arg::L(value) => (value as *mut i64).cast(),
                Arg::Layout(value) => value.as_mut_ptr().cast(),
            })
            .collect();
        let args = pointers.as_mut_ptr();
        call!(
            self,
            hipModuleLaunchKernel(function, grid, 1, 1, threads, 1, 1, shared, stream, args, null_mut())
        )
    }

    pub fn launch(&self, function: hipFunction_t, grid: u32, threads: u32, shared: u32, args: &[Arg]) {
        let code = self.try_launch(self.stream, function, grid, threads, shared, args);
        assert_eq!(code, 0, "{:?}", self.sim.faults());
    }

    /// Waits for all work of a stream and returns the fence's error code.
    pub fn fence_of(&self, stream: hipStream_t) -> hipError_t {
        let event = self.new_event();
        let mut code = call!(self, hipEventRecord(event, stream));
        while code == 0 {
            code = call!(self, hipEventQuery(event));
            match code {
                600 => code = 0,
                _ => break,
            }
        }
        call!(self, hipEventDestroy(event));
        code
    }

    pub fn fence(&self) -> hipError_t {
        self.fence_of(self.stream)
    }

    /// Device memory with these values.
    pub fn upload<T: bytemuck::Pod>(&self, values: &[T]) -> Pointer {
        let bytes = std::mem::size_of_val(values);
        let (device, host) = (self.alloc(bytes), self.alloc_pinned(bytes));
        // SAFETY: the pinned memory has as many bytes.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), host.cast(), bytes) };
        ok!(self, hipMemcpyAsync(device, host, bytes, hipMemcpyHostToDevice, self.stream));
        assert_eq!(self.fence(), 0);
        ok!(self, hipHostFree(host));
        device
    }

    /// The first `n` values of device memory.
    pub fn download<T: bytemuck::Pod>(&self, device: Pointer, n: usize) -> Vec<T> {
        let mut values = vec![T::zeroed(); n];
        let bytes = std::mem::size_of_val(&values[..]);
        let host = self.alloc_pinned(bytes);
        ok!(self, hipMemcpyAsync(host, device, bytes, hipMemcpyDeviceToHost, self.stream));
        assert_eq!(self.fence(), 0, "{:?}", self.sim.faults());
        // SAFETY: the pinned memory has as many bytes, and the copy is done.
        unsafe { std::ptr::copy_nonoverlapping(host.cast::<u8>(), values.as_mut_ptr().cast(), bytes) };
        ok!(self, hipHostFree(host));
        values
    }
}
