//! Forbidden calls, failures on demand, counts, leaks, and the device's description of itself.

use std::ptr::null_mut;

use rfgraph::hip::api::*;
use rfgraph::hip::platform::sim::{self, Checks, Config, FaultKind};

use super::rig::{Arg, FAULTY, Rig, SOUND, call, compile, ok};

#[track_caller]
fn expect(rig: &Rig, code: i32, kind: FaultKind, word: &str) {
    assert_ne!(code, 0);
    let faults = rig.sim.take_faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].kind, kind);
    assert!(faults[0].text.contains(word), "`{word}` is not in: {}", faults[0]);
}

#[test]
fn forbidden_calls_are_found() {
    let rig = Rig::new(Config::default());
    let (x, host) = (rig.alloc(64), rig.alloc_pinned(64));
    let null = null_mut();
    expect(&rig, call!(rig, hipMemsetAsync(x, 0, 64, null)), FaultKind::Forbidden, "null stream");
    expect(&rig, call!(rig, hipEventRecord(rig.new_event(), null)), FaultKind::Forbidden, "null stream");
    let store = rig.function(rig.module(FAULTY), "store_at");
    let code = rig.try_launch(null, store, 1, 1, 0, &[Arg::P(x), Arg::L(0)]);
    expect(&rig, code, FaultKind::Forbidden, "hipModuleLaunchKernel on the null stream");
    let mut stream = null_mut();
    let code = call!(rig, hipStreamCreateWithPriority(&mut stream, 0, 0));
    expect(&rig, code, FaultKind::Forbidden, "waits for the null stream");
    let mut pageable = [0u8; 64];
    let memory = pageable.as_mut_ptr().cast();
    let code = call!(rig, hipMemcpyAsync(x, memory, 64, hipMemcpyHostToDevice, rig.stream));
    expect(&rig, code, FaultKind::Forbidden, "not pinned");
    let code = call!(rig, hipMemcpyAsync(memory, x, 64, hipMemcpyDeviceToHost, rig.stream));
    expect(&rig, code, FaultKind::Forbidden, "not pinned");
    let code = call!(rig, hipMemcpyAsync(x, host, 65, hipMemcpyHostToDevice, rig.stream));
    assert_ne!(code, 0);
    assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::OutOfBounds);
    ok!(rig, hipFree(x));
    expect(&rig, call!(rig, hipFree(x)), FaultKind::BadHandle, "not a live allocation");
    let event = rig.new_event();
    ok!(rig, hipEventDestroy(event));
    expect(&rig, call!(rig, hipEventQuery(event)), FaultKind::BadHandle, "destroyed");
    ok!(rig, hipStreamDestroy(rig.stream));
    expect(&rig, call!(rig, hipEventRecord(rig.new_event(), rig.stream)), FaultKind::BadHandle, "destroyed");
}

#[test]
fn invalid_launches_are_refused() {
    let rig = Rig::new(Config::default());
    let module = rig.module(SOUND);
    let sums = rig.function(module, "block_sums");
    let x = rig.alloc(4096);
    let launch = |grid, threads, shared| {
        rig.try_launch(rig.stream, sums, grid, threads, shared, &[Arg::P(x), Arg::P(x), Arg::I(0)])
    };
    for (grid, threads, shared) in [(0, 256, 0), (1, 0, 0), (1, 1025, 0), (1, 128, 0), (1, 256, 65537)] {
        assert_eq!(launch(grid, threads, shared), hipErrorInvalidValue);
    }
    assert_eq!(launch(1, 256, 65536), 0);
    let mut function = null_mut();
    assert_eq!(
        call!(rig, hipModuleGetFunction(&mut function, module, c"no_such_kernel".as_ptr())),
        hipErrorNotFound
    );
    let code = rig.code(SOUND);
    let mut loaded = null_mut();
    let image = [0u8; 128];
    assert_eq!(call!(rig, hipModuleLoadData(&mut loaded, image.as_ptr().cast())), hipErrorInvalidImage);
    let other = Rig::new(Config { wave: 64, ..Config::default() });
    assert_eq!(call!(other, hipModuleLoadData(&mut loaded, code.as_ptr().cast())), hipErrorInvalidImage);
}

#[test]
fn any_call_fails_on_demand() {
    let rig = Rig::new(Config::default());
    let mut address = null_mut();
    rig.sim.fail("hipMalloc", 1, hipErrorUnknown);
    ok!(rig, hipMalloc(&mut address, 64));
    assert_eq!(call!(rig, hipMalloc(&mut address, 64)), hipErrorUnknown);
    ok!(rig, hipMalloc(&mut address, 64));

    // Every function of the runtime, with valid arguments.
    let (x, host) = (rig.alloc(64), rig.alloc_pinned(64));
    let (event, code) = (rig.new_event(), rig.code(FAULTY));
    let module = rig.module(FAULTY);
    let store = rig.function(module, "store_at");
    let (mut int, mut size, mut float, mut handle) = (0, 0usize, 0f32, null_mut());
    let mut text = [0; 64];
    let stream = rig.stream;
    let ordinal = rig.sim.ordinal() as i32;
    macro_rules! fails {
        ($($name:ident($($arg:expr),*);)*) => {
            let mut names = vec!["hipModuleLaunchKernel", "hipGraphDestroy", "hipGraphInstantiate",
                "hipGraphLaunch", "hipGraphExecDestroy", "hipStreamEndCapture"];
            $(
                rig.sim.fail(stringify!($name), 0, 777);
                assert_eq!(call!(rig, $name($($arg),*)), 777, stringify!($name));
                names.push(stringify!($name));
            )*
            names.sort_unstable();
            let mut all = Runtime::NAMES.to_vec();
            all.sort_unstable();
            assert_eq!(names, all, "every function is tried");
        };
    }
    rig.sim.fail("hipModuleLaunchKernel", 0, 777);
    assert_eq!(rig.try_launch(stream, store, 1, 1, 0, &[Arg::P(x), Arg::L(0)]), 777);
    let (mut graph, mut exec) = (null_mut(), null_mut());
    ok!(rig, hipStreamBeginCapture(stream, hipStreamCaptureModeThreadLocal));
    rig.sim.fail("hipStreamEndCapture", 0, 777);
    assert_eq!(call!(rig, hipStreamEndCapture(stream, &mut graph)), 777);
    ok!(rig, hipStreamEndCapture(stream, &mut graph));
    rig.sim.fail("hipGraphInstantiate", 0, 777);
    assert_eq!(call!(rig, hipGraphInstantiate(&mut exec, graph, null_mut(), null_mut(), 0)), 777);
    ok!(rig, hipGraphInstantiate(&mut exec, graph, null_mut(), null_mut(), 0));
    for name in ["hipGraphLaunch", "hipGraphDestroy", "hipGraphExecDestroy"] {
        rig.sim.fail(name, 0, 777);
    }
    assert_eq!(call!(rig, hipGraphLaunch(exec, stream)), 777);
    assert_eq!(call!(rig, hipGraphDestroy(graph)), 777);
    assert_eq!(call!(rig, hipGraphExecDestroy(exec)), 777);
    fails! {
        hipInit(0);
        hipDriverGetVersion(&mut int);
        hipRuntimeGetVersion(&mut int);
        hipGetDeviceCount(&mut int);
        hipSetDevice(ordinal);
        hipDeviceGetName(text.as_mut_ptr(), 64, ordinal);
        hipDeviceGetAttribute(&mut int, hipDeviceAttributeWarpSize, ordinal);
        hipMemGetInfo(&mut size, &mut size.clone());
        hipMalloc(&mut handle, 64);
        hipFree(x);
        hipHostMalloc(&mut handle, 64, 0);
        hipHostFree(host);
        hipMemcpyAsync(x, host, 64, hipMemcpyHostToDevice, stream);
        hipMemsetAsync(x, 0, 64, stream);
        hipDeviceGetStreamPriorityRange(&mut int, &mut int.clone());
        hipStreamCreateWithPriority(&mut handle, hipStreamNonBlocking, 0);
        hipStreamDestroy(stream);
        hipStreamWaitEvent(stream, event, 0);
        hipEventCreateWithFlags(&mut handle, 0);
        hipEventDestroy(event);
        hipEventRecord(event, stream);
        hipEventQuery(event);
        hipEventElapsedTime(&mut float, event, event);
        hipModuleLoadData(&mut handle, code.as_ptr().cast());
        hipModuleUnload(module);
        hipModuleGetFunction(&mut handle, module, c"store_at".as_ptr());
        hipStreamBeginCapture(stream, hipStreamCaptureModeThreadLocal);
    }
    // A failed call must have no effect.
    assert_eq!(rig.fence(), 0);
    rig.sim.assert_no_fault();
}

#[test]
fn allocations_beyond_the_memory_are_refused() {
    let rig = Rig::new(Config { memory: 1 << 20, ..Config::default() });
    let mut address = null_mut();
    assert_eq!(call!(rig, hipMalloc(&mut address, (1 << 20) + 1)), hipErrorOutOfMemory);
    let first = rig.alloc(1 << 19);
    assert_eq!(call!(rig, hipMalloc(&mut address, (1 << 19) + 1)), hipErrorOutOfMemory);
    let (mut free, mut total) = (0, 0);
    ok!(rig, hipMemGetInfo(&mut free, &mut total));
    assert_eq!((free, total), (1 << 19, 1 << 20));
    ok!(rig, hipFree(first));
    ok!(rig, hipMalloc(&mut address, 1 << 20));
    ok!(rig, hipFree(address));
    rig.sim.fail_alloc_above(Some(100));
    ok!(rig, hipMalloc(&mut address, 100));
    assert_eq!(call!(rig, hipMalloc(&mut address, 101)), hipErrorOutOfMemory);
    rig.sim.fail_alloc_above(None);
    ok!(rig, hipMalloc(&mut address, 101));
    rig.sim.assert_no_fault();
}

#[test]
fn devices_can_be_absent() {
    let rig = Rig::new(Config::default());
    let mut count = 0;
    ok!(rig, hipGetDeviceCount(&mut count));
    assert!(count as u32 > rig.sim.ordinal());
    sim::without_devices(|| {
        assert_eq!(call!(rig, hipInit(0)), hipErrorNoDevice);
        assert_eq!(call!(rig, hipGetDeviceCount(&mut count)), hipErrorNoDevice);
        assert_eq!(call!(rig, hipSetDevice(0)), hipErrorNoDevice);
    });
    let ordinal = rig.sim.ordinal() as i32;
    ok!(rig, hipSetDevice(ordinal));
    let rt = rig.rt;
    drop(rig);
    // SAFETY: a number is its only argument.
    assert_eq!(unsafe { (rt.hipSetDevice)(ordinal) }, hipErrorInvalidDevice);
}

#[test]
fn leaks_and_counts_are_exact() {
    for wave in [32, 64] {
        let rig = Rig::new(Config { wave, ..Config::default() });
        ok!(rig, hipStreamDestroy(rig.stream));
        rig.sim.assert_no_leak();
        rig.sim.reset_counts();
        let (x, host, stream) = (rig.alloc(10), rig.alloc_pinned(20), rig.new_stream());
        let (event, module) = (rig.new_event(), rig.module(FAULTY));
        let leaks = rig.sim.leaks().join("\n");
        for word in ["device memory", "10 bytes", "pinned memory", "20 bytes", "stream", "event", "module"] {
            assert!(leaks.contains(word), "`{word}` is not in {leaks}");
        }
        assert_eq!(rig.sim.used_bytes(), 10);
        for _ in 0..3 {
            ok!(rig, hipMemsetAsync(x, 0, 10, stream));
        }
        assert_eq!(rig.fence_of(stream), 0);
        ok!(rig, hipFree(x));
        ok!(rig, hipHostFree(host));
        ok!(rig, hipStreamDestroy(stream));
        ok!(rig, hipEventDestroy(event));
        assert_eq!(rig.sim.leaks().len(), 1);
        ok!(rig, hipModuleUnload(module));
        rig.sim.assert_no_leak();
        for (name, n) in [("hipMemsetAsync", 3), ("hipMalloc", 1), ("hipFree", 1), ("hipEventRecord", 1)] {
            assert_eq!(rig.sim.count(name), n, "{name}");
        }
        assert!(rig.sim.count("hipEventQuery") >= 1);
        assert_eq!(rig.sim.count("hipMemcpyAsync"), 0);
        assert_eq!(rig.sim.stalls(), 0);
    }
}

#[test]
fn compiler_messages_are_returned() {
    let api = sim::api();
    let source = "#include \"platform.h\"\nKERNEL(k)(int* y) {\n    y[0] = no_such_name;\n}\n";
    let log = compile(&api, source, &["--offload-arch=sim32"]).unwrap_err();
    assert!(log.contains("test.hip:3") && log.contains("no_such_name"), "{log}");
    let log = compile(&api, SOUND, &["--offload-arch=gfx1100"]).unwrap_err();
    assert!(log.contains("gfx1100") && log.contains("sim32"), "{log}");
    // Kernels that exist only after macro expansion are found; those that are compiled out are not.
    let source = "#include \"platform.h\"\n#define MAKE(T) KERNEL(set_##T)(T* y, T x) { y[0] = x; }\nMAKE(float)\n\
                  #ifdef WITH_INT\nMAKE(int)\n#endif\n";
    let rig = Rig::new(Config::default());
    for (options, code) in [(&["-DWITH_INT"][..], 0), (&[], hipErrorNotFound)] {
        let image = compile(&rig.api, source, options).unwrap();
        let (mut module, mut function) = (null_mut(), null_mut());
        ok!(rig, hipModuleLoadData(&mut module, image.as_ptr().cast()));
        ok!(rig, hipModuleGetFunction(&mut function, module, c"set_float".as_ptr()));
        assert_eq!(call!(rig, hipModuleGetFunction(&mut function, module, c"set_int".as_ptr())), code);
    }
}

#[test]
fn the_device_describes_itself() {
    let rig = Rig::new(Config { wave: 64, compute_units: 7, shared: 32 << 10, ..Config::default() });
    let ordinal = rig.sim.ordinal() as i32;
    let attribute = |which| {
        let mut value = 0;
        ok!(rig, hipDeviceGetAttribute(&mut value, which, ordinal));
        value
    };
    assert_eq!(attribute(hipDeviceAttributeWarpSize), 64);
    assert_eq!(attribute(hipDeviceAttributeMultiprocessorCount), 7);
    assert_eq!(
        (attribute(hipDeviceAttributeClockRate), attribute(hipDeviceAttributeKernelExecTimeout)),
        (1_000_000, 0)
    );
    assert_eq!(attribute(hipDeviceAttributeMaxSharedMemoryPerBlock), 32 << 10);
    let mut name = [0u8; 64];
    ok!(rig, hipDeviceGetName(name.as_mut_ptr().cast(), 64, ordinal));
    assert!(name.starts_with(b"rfgraph simulated device\0"));
    let (start, end) = (rig.new_event(), rig.new_event());
    let x = rig.alloc(1 << 20);
    ok!(rig, hipEventRecord(start, rig.stream));
    ok!(rig, hipMemsetAsync(x, 0, 1 << 20, rig.stream));
    ok!(rig, hipEventRecord(end, rig.stream));
    let mut elapsed = -1.0;
    assert_eq!(call!(rig, hipEventElapsedTime(&mut elapsed, start, end)), hipErrorNotReady);
    assert_eq!(rig.fence(), 0);
    ok!(rig, hipEventElapsedTime(&mut elapsed, start, end));
    assert!(elapsed > 0.0);
}

#[test]
fn gemm_agrees_with_its_definition() {
    let rig = Rig::new(Config::default());
    let blas = rig.api.blas.unwrap();
    let (m, n, k) = (3usize, 5usize, 7usize);
    let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
    let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.3).cos()).collect();
    let (da, db, dc) = (rig.upload(&a), rig.upload(&b), rig.upload(&vec![1.0f32; m * n]));
    let (mut handle, one) = (null_mut(), 1.0f32);
    let one = (&raw const one).cast();
    let (mi, ni, ki) = (m as i32, n as i32, k as i32);
    // SAFETY: the matrices have these sizes.
    let gemm = |handle, lda| unsafe {
        (blas.hipblasGemmEx)(
            handle,
            HIPBLAS_OP_T,
            HIPBLAS_OP_N,
            mi,
            ni,
            ki,
            one,
            da,
            HIP_R_32F,
            lda,
            db,
            HIP_R_32F,
            ki,
            one,
            dc,
            HIP_R_32F,
            mi,
            HIPBLAS_COMPUTE_32F,
            HIPBLAS_GEMM_DEFAULT,
        )
    };
    // SAFETY: the handle is stored in a variable.
    unsafe { assert_eq!((blas.hipblasCreate)(&mut handle), 0) };
    assert_ne!(gemm(handle, ki), 0);
    assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::Forbidden, "no stream was set");
    // SAFETY: both handles are alive.
    unsafe { assert_eq!((blas.hipblasSetStream)(handle, rig.stream), 0) };
    assert_ne!(gemm(handle, ki - 1), 0);
    assert_eq!(gemm(handle, ki), 0);
    let c: Vec<f32> = rig.download(dc, m * n);
    for column in 0..n {
        for row in 0..m {
            let products = (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[column * k + i]));
            let want = 1.0 + products.sum::<f64>();
            // Seven products of at most 1 and seven sums: 14 roundings of values below 8.
            assert!((f64::from(c[column * m + row]) - want).abs() < 14.0 * 8.0 * f64::from(f32::EPSILON));
        }
    }
    // Freed memory is detected as it is under a kernel.
    assert_eq!(gemm(handle, ki), 0);
    assert_ne!(call!(rig, hipFree(db)), 0);
    assert_eq!(rig.sim.take_faults()[0].kind, FaultKind::FreedInFlight);
    // SAFETY: the handle is alive.
    unsafe { assert_eq!((blas.hipblasDestroy)(handle), 0) };
}

/// CPU time of this thread, since other processes may use the cores, too. Linux only.
fn busy_nanoseconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Prints the cost of a launch, a barrier, a shuffle and a load. Run with `--run-ignored only`.
#[test]
#[ignore = "measures"]
fn cost_of_simulated_operations() {
    for checks in [Checks::Full, Checks::Memory, Checks::Fast] {
        let rig = Rig::new(Config { checks, ..Config::default() });
        let module = rig.module(SOUND);
        let y = rig.alloc(4096);
        let x = rig.upload(&vec![1u32; 1 << 20]);
        let time = |name: &str, launches: usize, threads, args: &[Arg]| {
            let function = rig.function(module, name);
            let start = busy_nanoseconds();
            for _ in 0..launches {
                rig.launch(function, 1, threads, 0, args);
            }
            assert_eq!(rig.fence(), 0);
            (busy_nanoseconds() - start) / launches as f64
        };
        let launch = time("nothing", 50_000, 1, &[Arg::P(y)]);
        let thread = (time("nothing", 2000, 1024, &[Arg::P(y)]) - launch) / 1024.0;
        let barrier = time("barriers", 1, 256, &[Arg::I(10_000)]) / 2560e3;
        let shuffle = time("many_shuffles", 1, 256, &[Arg::I(10_000), Arg::P(y)]) / 2560e3;
        let load = time("loads", 10, 64, &[Arg::P(x), Arg::P(y), Arg::I(1 << 18)]) / f64::from(1 << 18);
        println!(
            "{checks:?}: launch {launch:.0} ns, thread {thread:.1} ns; of each thread: barrier {barrier:.1} ns, \
             shuffle {shuffle:.1} ns, load of 16 bytes {load:.1} ns"
        );
        assert!(launch < 1e6 && barrier < 1e4);
    }
}
