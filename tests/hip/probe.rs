//! The search for devices, with libraries that are absent, broken, incomplete, failing or hung.
//!
//! A process opens a platform's libraries once, so each case searches in a child process: this test binary, limited to
//! the one test that the others start.

use std::ffi::c_void;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rfgraph::device::{Gemm, PlatformKind};
use rfgraph::hip::api::{Blas, Rtc, Runtime};
use rfgraph::hip::platform::Search;
use rfgraph::hip::{
    Context, DeviceRequest, PlatformReport, Priority, Probe, ProbeError, ProbeReport, Selected,
};
use rfgraph::tensor::DType;
use serde::{Deserialize, Serialize};

use crate::support::skipped::skipped;

/// The child's task.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    platform: PlatformKind,
    folder: PathBuf,
    node: PathBuf,
    deadline_ms: u64,
    /// The child also uses the device it finds.
    compute: bool,
}

/// The child's findings.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    report: ProbeReport,
    /// The results of `--device auto`, `--device hip` and `--device hip:1`.
    auto: String,
    hip: String,
    second: String,
}

const TASK: &str = "RFGRAPH_TEST_PROBE";
const MARK: &str = "ANSWER ";

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child_process_of_the_other_tests() {
    let task: Task = serde_json::from_str(&std::env::var(TASK).unwrap()).unwrap();
    let probe = Probe {
        platforms: vec![task.platform],
        search: Some(Search { folders: vec![task.folder], loader: false }),
        nodes: vec![task.node],
        deadline: Duration::from_millis(task.deadline_ms),
    };
    let answer = Answer {
        report: probe.report(),
        auto: format!("{:?}", probe.select(DeviceRequest::Auto)),
        hip: format!("{:?}", probe.select(DeviceRequest::Hip(None))),
        second: format!("{:?}", probe.select(DeviceRequest::Hip(Some(1)))),
    };
    println!("{MARK}{}", serde_json::to_string(&answer).unwrap());
    match task.platform {
        PlatformKind::Amd if task.compute => find_no_blas(),
        _ if task.compute => compute(),
        _ => {}
    }
}

/// A folder with fake libraries.
struct Fake {
    folder: tempfile::TempDir,
    node: PathBuf,
    platform: PlatformKind,
    visible: Option<&'static str>,
    deadline: Duration,
    compute: bool,
}

impl Fake {
    fn new(platform: PlatformKind) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("node");
        fs::write(&node, "").unwrap();
        Fake { folder, node, platform, visible: None, deadline: Duration::from_secs(60), compute: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds a library from C text with macros defined; false, with a message, if there is no C compiler.
    #[must_use]
    fn build(&self, library: &str, text: &str, macros: &[&str]) -> bool {
        build(&self.path(library), text, macros)
    }

    fn ask(&self) -> Answer {
        let task = Task {
            platform: self.platform,
            folder: self.folder.path().into(),
            node: self.node.clone(),
            deadline_ms: self.deadline.as_millis() as u64,
            compute: self.compute,
        };
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "probe::child_process_of_the_other_tests", "--ignored", "--nocapture"]);
        child.env(TASK, serde_json::to_string(&task).unwrap());
        let variables = ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"];
        for variable in variables.into_iter().chain(["ROCBLAS_TENSILE_LIBPATH"]) {
            child.env_remove(variable);
        }
        child.envs(self.visible.map(|visible| ("HIP_VISIBLE_DEVICES", visible)));
        let output = child.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
        let answer = out.lines().find_map(|line| line.split_once(MARK));
        serde_json::from_str(answer.unwrap_or_else(|| panic!("no answer:\n{out}\n{err}")).1).unwrap()
    }

    fn report(&self) -> PlatformReport {
        self.ask().report.platforms.remove(0)
    }

    /// The reason why there is no device, with the folder's path replaced by FOLDER.
    fn problem(&self) -> String {
        let report = self.report();
        assert!(report.devices.is_empty(), "{report:?}");
        report.problem.unwrap().replace(&self.folder.path().display().to_string(), "FOLDER")
    }
}

fn build(library: &Path, text: &str, macros: &[&str]) -> bool {
    let source = library.with_extension("c");
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(library).arg(&source);
    let Ok(output) = cc.args(macros.iter().map(|define| format!("-D{define}"))).output() else {
        skipped("there is no C compiler `cc` to build fake libraries with");
        return false;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// C text of a library with all these functions: those of `text`, and stubs for the others.
fn with_all(names: &[&str], text: &str) -> String {
    let mut all = text.to_string();
    for name in names.iter().filter(|name| !text.contains(&format!("int {name}("))) {
        writeln!(all, "int {name}(void) {{ return 0; }}").unwrap();
    }
    all
}

fn rocm() -> String {
    let names = [Runtime::NAMES, Rtc::NAMES].concat();
    with_all(&names, include_str!("../fixtures/hip/rocm.c"))
}

const RUNTIME: &str = "libamdhip64.so.6";

/// A ROCm whose runtime was compiled with `macros`.
fn amd(macros: &[&str]) -> Option<Fake> {
    let fake = Fake::new(PlatformKind::Amd);
    fake.build(RUNTIME, &rocm(), macros).then_some(fake)
}

/// A CUDA whose libraries were compiled with `macros`.
fn nvidia(macros: &[&str]) -> Option<Fake> {
    let fake = Fake::new(PlatformKind::Nvidia);
    let text = include_str!("../fixtures/hip/cuda.c");
    let libraries = ["libcuda.so.1", "libnvrtc.so.12", "libcublas.so.12"];
    libraries.iter().all(|library| fake.build(library, text, macros)).then_some(fake)
}

#[test]
fn absent_libraries_are_named_with_the_folders_that_were_tried() {
    let fake = Fake::new(PlatformKind::Amd);
    insta::assert_snapshot!(fake.problem(), @"ROCm's HIP runtime is not installed: libamdhip64.so.7, libamdhip64.so.6, libamdhip64.so.5 or libamdhip64.so was not found in FOLDER");
    let answer = fake.ask();
    assert!(
        answer.auto.starts_with("Ok(Cpu { why: \"no GPU was found (amd: ROCm's HIP runtime is not"),
        "{answer:?}"
    );
    assert!(answer.hip.starts_with("Err(Nothing("), "{answer:?}");
    let fake = Fake::new(PlatformKind::Nvidia);
    insta::assert_snapshot!(fake.problem(), @"NVIDIA's driver is not installed: libcuda.so.1 or libcuda.so was not found in FOLDER");
}

#[test]
fn a_file_that_is_not_a_library_is_an_error() {
    let fake = Fake::new(PlatformKind::Amd);
    fs::write(fake.path(RUNTIME), "not a library").unwrap();
    let problem = fake.problem();
    assert!(problem.starts_with("FOLDER/libamdhip64.so.6 is there but cannot be loaded: "), "{problem}");
    assert!(problem.ends_with("; install ROCm's HIP runtime again"), "{problem}");
}

#[test]
fn a_working_older_library_is_preferred_to_a_broken_newer_one() {
    let Some(fake) = amd(&[]) else { return };
    fs::write(fake.path("libamdhip64.so.7"), "not a library").unwrap();
    assert_eq!(fake.report().devices.len(), 1);
}

#[test]
fn a_library_without_a_function_is_named_with_the_function() {
    let fake = Fake::new(PlatformKind::Amd);
    if !fake.build(RUNTIME, "int hipInit(unsigned flags) { return 0; }", &[]) {
        return;
    }
    insta::assert_snapshot!(fake.problem(), @"FOLDER/libamdhip64.so.6 has no function `hipDriverGetVersion`; another version of ROCm's HIP runtime is needed");
}

#[test]
fn a_runtime_without_a_compiler_is_an_error() {
    let fake = Fake::new(PlatformKind::Amd);
    let text = rocm().replace("int hiprtc", "int other");
    if !fake.build(RUNTIME, &text, &[]) {
        return;
    }
    let problem = fake.problem();
    assert!(problem.starts_with("ROCm's run-time compiler is not installed: libhiprtc.so.7"), "{problem}");
    // A library of its own works too.
    assert!(fake.build("libhiprtc.so.6", &rocm(), &[]));
    assert_eq!(fake.report().problem, None);
}

#[test]
fn a_device_is_described_as_the_runtime_says() {
    let Some(fake) = amd(&[]) else { return };
    let answer = fake.ask();
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer.report).unwrap(), @r#"
    {
      "platforms": [
        {
          "platform": "amd",
          "versions": "amd runtime 6.4.43484, driver 6.4.43484, compiler 9.0",
          "devices": [
            {
              "index": 0,
              "ordinal": 0,
              "name": "AMD Radeon RX 7900 XTX",
              "target": {
                "platform": "amd",
                "arch": "gfx1100",
                "wave": 32,
                "compute_units": 48,
                "shared_bytes": 65536,
                "blas": false
              },
              "compute_units": 96,
              "blas_problem": null,
              "free": 21474836480,
              "total": 25769803776
            }
          ],
          "problem": null
        }
      ]
    }
    "#);
    let taken = Selected::Hip { platform: PlatformKind::Amd, ordinal: 0 };
    assert_eq!(answer.auto, format!("{:?}", Ok::<_, ProbeError>(taken.clone())));
    assert_eq!(answer.hip, answer.auto);
    assert_eq!(answer.second, "Err(NoSuchDevice { index: 1, platform: Amd, count: 1 })");
}

#[test]
fn the_older_layout_of_properties_is_read_and_another_is_not() {
    let Some(fake) = amd(&["OLD_PROPERTIES", "ARCH_OFFSET=396", "ARCH=\"gfx906:sramecc+:xnack-\""]) else {
        return;
    };
    assert_eq!(fake.report().devices[0].target.arch, "gfx906:sramecc+:xnack-");
    // An arch at an unknown offset is not read: that would be guessing.
    let fake = amd(&["ARCH_OFFSET=2000"]).unwrap();
    insta::assert_snapshot!(fake.problem(), @"hip:0: hipGetDeviceProperties failed with hipErrorNotSupported (801): the runtime does not say what to compile for where its versions 5 to 7 do");
}

#[test]
fn more_free_memory_than_there_is_is_clamped() {
    let Some(fake) = amd(&["FREE_GIB=25"]) else { return };
    let device = &fake.report().devices[0];
    assert_eq!((device.free, device.total), (24 << 30, 24 << 30));
}

/// Builds a hipBLAS that loads a rocBLAS as it starts, and aborts where a handle is made.
#[must_use]
fn with_blas(fake: &Fake) -> bool {
    let text = "#include <dlfcn.h>
        #include <stdlib.h>
        __attribute__((constructor)) static void load(void) { if (!dlopen(ROCBLAS, RTLD_NOW)) abort(); }
        int hipblasCreate(void *handle) { abort(); }
        int hipblasGemmEx_v2(void) { return 0; }";
    let library = fake.path("librocblas.so.4");
    let path = format!("ROCBLAS=\"{}\"", library.display());
    fake.build("librocblas.so.4", "int rocblas_gemm_ex(void) { return 0; }", &[])
        && fake.build("libhipblas.so.2", &with_all(Blas::NAMES, text), &[&path])
}

/// Puts an empty file of kernels where Debian has them.
fn add_kernels(fake: &Fake, file: &str) {
    let folder = fake.path("rocblas/4.4.1/library");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(file), "").unwrap();
}

#[test]
fn rocblas_without_files_for_the_gpu_is_not_used() {
    let Some(mut fake) = amd(&["ARCH=\"gfx1201\""]) else { return };
    if !with_blas(&fake) {
        return;
    }
    fake.compute = true;
    let device = fake.report().devices.remove(0);
    assert!(!device.target.blas);
    assert_eq!(device.blas_problem.as_deref(), Some("the BLAS library's files of kernels were not found"));
    add_kernels(&fake, "TensileLibrary_lazy_gfx1100.dat");
    let device = fake.report().devices.remove(0);
    assert!(!device.target.blas);
    let problem = device.blas_problem.unwrap().replace(&fake.folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(problem, @"the BLAS library has no files for gfx1201 in FOLDER/rocblas/4.4.1/library (set ROCBLAS_TENSILE_LIBPATH to a folder that has them)");
    add_kernels(&fake, "TensileLibrary_lazy_gfx1201.dat");
    fake.compute = false;
    let device = fake.report().devices.remove(0);
    assert_eq!((device.target.blas, device.blas_problem), (true, None));
}

/// A handle is not made for a device that the BLAS library has no files for; the fake would abort.
fn find_no_blas() {
    let folder = serde_json::from_str::<Task>(&std::env::var(TASK).unwrap()).unwrap().folder;
    assert!(folder.join("libhipblas.so.2").exists());
    let context = Context::open(PlatformKind::Amd, 0).unwrap();
    let stream = context.stream(Priority::Low).unwrap();
    assert!(context.blas(&stream).unwrap().is_none());
}

#[test]
fn a_runtime_that_fails_is_an_error_that_names_the_call() {
    let Some(fake) = amd(&["INIT_CODE=999"]) else { return };
    let problem = fake.problem();
    assert!(problem.starts_with("hipInit failed with hipErrorUnknown (999): "), "{problem}");
    let problem = amd(&["COUNT_CODE=35"]).unwrap().problem();
    assert!(
        problem.starts_with("hipGetDeviceCount failed with hipErrorInsufficientDriver (35): "),
        "{problem}"
    );
}

#[test]
fn a_runtime_without_a_device_says_what_may_be_the_reason() {
    for macros in [["INIT_CODE=100", "COUNT=0"], ["COUNT_CODE=100", "COUNT=0"], ["COUNT_CODE=0", "COUNT=0"]] {
        let Some(mut fake) = amd(&macros) else { return };
        let problem = fake.problem();
        assert!(
            problem.starts_with("the runtime works and sees no GPU; ROCm may not support this GPU"),
            "{problem}"
        );
        fake.visible = Some("7");
        let problem = fake.problem();
        assert!(problem.contains("; HIP_VISIBLE_DEVICES is `7`, which may hide it"), "{problem}");
    }
}

#[test]
fn without_the_drivers_node_the_runtime_is_not_called() {
    // The runtime would hang.
    let Some(mut fake) = amd(&["HANG"]) else { return };
    fake.node = fake.path("kfd");
    insta::assert_snapshot!(fake.problem(), @"ROCm is installed, but there is no FOLDER/kfd: no AMD GPU is built in, its driver `amdgpu` is not loaded, or this container is not given it (--device /dev/kfd --device /dev/dri)");
}

#[test]
fn a_runtime_that_hangs_is_an_error_and_is_not_called_again() {
    let Some(mut fake) = amd(&["HANG"]) else { return };
    fake.deadline = Duration::from_secs(1);
    let start = Instant::now();
    let answer = fake.ask();
    assert_eq!(
        answer.report.platforms[0].problem.as_deref(),
        Some("the libraries of `amd` did not answer within 1 s; is the GPU or its driver hung?")
    );
    assert!(answer.auto.contains("did not answer when they were first asked"), "{answer:?}");
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "one deadline for four questions: {:?}",
        start.elapsed()
    );
}

#[test]
fn nvidias_devices_are_filtered_and_renumbered() {
    let Some(mut fake) = nvidia(&[]) else { return };
    let report = fake.report();
    assert_eq!(report.versions.as_deref(), Some("nvidia runtime 12.8, driver 12.8, compiler 12.8"));
    let names: Vec<&str> = report.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["Fake 0", "Fake 1"]);
    let target = &report.devices[0].target;
    assert_eq!((target.arch.as_str(), target.wave, target.compute_units), ("sm_90", 32, 132));
    assert_eq!((target.shared_bytes, target.blas), (232_448, true));
    fake.visible = Some("1");
    let answer = fake.ask();
    let devices = &answer.report.platforms[0].devices;
    assert_eq!((devices.len(), devices[0].index, devices[0].name.as_str()), (1, 0, "Fake 1"));
    assert_eq!(answer.second, "Err(NoSuchDevice { index: 1, platform: Nvidia, count: 1 })");
    fake.visible = Some("-1");
    assert!(fake.problem().contains("HIP_VISIBLE_DEVICES is `-1`, which may hide it"));
}

#[test]
fn an_incompatible_driver_is_reported_as_too_old() {
    let Some(fake) = nvidia(&["INIT_CODE=803"]) else { return };
    let problem = fake.problem();
    assert!(problem.starts_with("hipInit failed with hipErrorInsufficientDriver (35): "), "{problem}");
    assert!(problem.contains("update the driver"), "{problem}");
}

#[test]
fn hip_calls_reach_cuda() {
    let Some(mut fake) = nvidia(&[]) else { return };
    fake.compute = true;
    fake.ask();
}

/// Uses every owning type on the fake CUDA, which computes in host memory.
fn compute() {
    let context = Context::open(PlatformKind::Nvidia, 0).unwrap();
    assert_eq!(context.memory_info().unwrap(), (100 << 30, 140 << 30));
    assert_eq!(context.pace(), rfgraph::hip::Pace { clock_khz: 1_980_000, drives_display: false });
    let stream = context.stream(Priority::Low).unwrap();
    let (there, other) = (context.alloc(32).unwrap(), context.alloc(32).unwrap());
    let mut here = context.alloc_pinned(32).unwrap();
    here.bytes_mut().copy_from_slice(&std::array::from_fn::<u8, 32, _>(|i| i as u8));
    // SAFETY: all memory is alive until the end, and the fake has finished when it returns.
    unsafe {
        stream.copy_to_device(there.address(), here.as_ptr(), 32).unwrap();
        stream.fill(there.address(), 0xFF, 4).unwrap();
        stream.copy_within(other.address() + 16, there.address(), 16).unwrap();
        stream.copy_to_host(here.as_ptr(), other.address() + 16, 8).unwrap();
    }
    assert_eq!(here.bytes()[..8], [0xFF, 0xFF, 0xFF, 0xFF, 4, 5, 6, 7]);

    let (start, end) = (context.event(true).unwrap(), context.event(true).unwrap());
    stream.record(&start).unwrap();
    stream.wait(&start).unwrap();
    stream.record(&end).unwrap();
    assert!(!end.wait_until(Duration::ZERO).unwrap(), "asked once, and not done");
    assert!(end.wait_until(Duration::from_secs(5)).unwrap());
    assert_eq!(start.elapsed_ms(&end).unwrap(), 1.5);

    assert_eq!(context.load_module(b"rot\0").unwrap_err().name, "hipErrorInvalidImage");
    let module = context.load_module(b"code\0").unwrap();
    assert!(module.function("other").unwrap_err().to_string().contains("no kernel `other`"));
    let function = module.function("kernel").unwrap();
    let (mut to, mut number) = (there.address(), 77_u32);
    let mut args = [(&raw mut to).cast::<c_void>(), (&raw mut number).cast()];
    // SAFETY: the arguments are those of the fake's kernel, which stores 32 bytes.
    unsafe {
        // More shared memory than a kernel may use without opting in.
        stream.launch(&function, [1, 2, 3], [4, 5, 6], 100_000, &mut args).unwrap();
        stream.copy_to_host(here.as_ptr(), there.address(), 32).unwrap();
    }
    let launched: Vec<u32> =
        here.bytes().chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
    assert_eq!(launched, [1, 2, 3, 4, 5, 6, 100_000, 77]);

    stream.begin_capture().unwrap();
    let graph = stream.end_capture().unwrap();
    // SAFETY: the graph refers to no memory.
    unsafe { stream.launch_graph(&graph).unwrap() };

    product(&context, &stream);
    let error = context.alloc(2 << 30).unwrap_err();
    assert!(error.is_out_of_memory());
    assert!(
        error.text.starts_with("2147483648 bytes asked, 107374182400 of 150323855360 free on Fake 0; "),
        "{error}"
    );
    assert!(
        matches!(Context::open(PlatformKind::Nvidia, 2), Err(error) if error.name == "hipErrorInvalidDevice")
    );
}

/// `C = A · Bᵀ + C` for two rows of `A` and three rows of `B`, of four elements each.
fn product(context: &Context, stream: &rfgraph::hip::Stream) {
    let a: [f32; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let b: [f32; 12] = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
    let mut c = [100.0_f32; 6];
    let blas = context.blas(stream).unwrap().unwrap();
    let gemm = |dtype| Gemm {
        m: 2,
        n: 3,
        k: 4,
        dtype,
        a: (rfgraph::device::Which::Input(0), 0),
        b: (rfgraph::device::Which::Input(1), 0),
        c: (rfgraph::device::Which::Output, 0),
        accumulate: true,
    };
    let (a, b) = (a.as_ptr() as u64, b.as_ptr() as u64);
    // SAFETY: the fake's device memory is the host's, and the matrices have these sizes.
    unsafe {
        blas.gemm(&gemm(DType::F32), a, b, c.as_mut_ptr() as u64).unwrap();
        let error = blas.gemm(&gemm(DType::Q4_0), a, b, c.as_mut_ptr() as u64).unwrap_err();
        assert_eq!(error.name, "HIPBLAS_STATUS_INVALID_VALUE");
    }
    // The rows of A are multiplied with a selector of the first element, one of the second, and the sum.
    assert_eq!(c, [101.0, 102.0, 110.0, 105.0, 106.0, 126.0]);
}

#[cfg(feature = "cli")]
mod cli {
    use super::*;

    fn devices(args: &[&str], envs: &[(&str, &str)]) -> (String, String, Option<i32>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rfgraph"));
        command.arg("devices").args(args).env_remove("RFGRAPH_LOG").env_remove("RFGRAPH_HIP_PLATFORM");
        let output = command.envs(envs.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }

    #[test]
    fn devices_are_listed_on_any_machine() {
        let (out, err, code) = devices(&[], &[]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains("amd") && out.contains("nvidia") && !out.contains("sim"), "{out}");
        assert!(out.lines().last().unwrap().starts_with("--device auto takes "), "{out}");
        let (out, _, code) = devices(&["--json"], &[("RFGRAPH_HIP_PLATFORM", "nvidia")]);
        assert_eq!(code, Some(0));
        let report: ProbeReport = serde_json::from_str(&out).unwrap();
        assert_eq!(report.platforms.len(), 1);
        assert_eq!(report.platforms[0].platform, PlatformKind::Nvidia);
    }

    #[test]
    fn the_simulated_device_is_listed_if_named() {
        let sim = ("RFGRAPH_HIP_PLATFORM", "sim");
        let (out, err, code) = devices(&["--json"], &[sim]);
        assert_eq!(code, Some(0), "{out}{err}");
        let report: ProbeReport = serde_json::from_str(&out).unwrap();
        let [platform] = &report.platforms[..] else { panic!("{report:?}") };
        assert_eq!((platform.platform, platform.devices.len()), (PlatformKind::Sim, 1), "{report:?}");
        assert!(platform.devices[0].target.arch.starts_with("sim"), "{report:?}");
        assert!(devices(&[], &[sim]).0.contains("--device auto takes hip:0 ("));
        let (out, _, _) = devices(&[], &[sim, ("HIP_VISIBLE_DEVICES", "3")]);
        assert!(
            out.starts_with("sim: the runtime works and sees no GPU; HIP_VISIBLE_DEVICES is `3`"),
            "{out}"
        );
    }

    #[test]
    fn an_unknown_platform_is_a_usage_error() {
        let (out, err, code) = devices(&[], &[("RFGRAPH_HIP_PLATFORM", "intel")]);
        assert_eq!((out.as_str(), code), ("", Some(2)));
        assert_eq!(err, "error: RFGRAPH_HIP_PLATFORM is `intel`; it can be amd, nvidia or sim\n");
    }

    #[test]
    fn a_library_that_ends_its_process_does_not_end_the_program() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lib");
        fs::create_dir(&folder).unwrap();
        if !build(&folder.join("libamdhip64.so.7"), &rocm(), &["ABORT_AT_LOAD"]) {
            return;
        }
        let (out, err, code) =
            devices(&[], &[("RFGRAPH_HIP_PLATFORM", "amd"), ("ROCM_PATH", root.path().to_str().unwrap())]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(
            out.starts_with("amd: the libraries of `amd` ended the process that asked them (signal: 6"),
            "{out}"
        );
    }
}
