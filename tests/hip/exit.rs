//! The end of a process that has used AMD's own runtime, which needs no GPU for that.
//!
//! The runtime is the one that `.ci/rocm-userland` installs. The process is this test binary, started through the folder's
//! own loader. A search on a thread of its own opens the library there, as rfgraph once did: that process must not end
//! well, or the other test shows nothing.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use rfgraph::device::PlatformKind;
use rfgraph::hip::platform::Search;
use rfgraph::hip::{Context, DeviceRequest, Probe};

use crate::support::skipped::skipped_for_want_of_data;

const LIBRARIES: &str = "RFGRAPH_TEST_EXIT";
const ON_A_THREAD: &str = "RFGRAPH_TEST_EXIT_ON_A_THREAD";
const MARK: &str = "CALLED";

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child_process_of_the_other_tests() {
    let folder = PathBuf::from(std::env::var_os(LIBRARIES).unwrap());
    let probe = Probe {
        platforms: vec![PlatformKind::Amd],
        search: Some(Search { folders: vec![folder], loader: false }),
        // Any file that opens: the runtime is to be called, GPU or not.
        nodes: vec!["/dev/null".into()],
        deadline: Duration::from_secs(60),
    };
    let select = move || probe.select(DeviceRequest::Hip(None));
    let selected = match std::env::var_os(ON_A_THREAD) {
        Some(_) => thread::spawn(select).join().unwrap(),
        None => select(),
    };
    let used = Context::open(PlatformKind::Amd, 0).and_then(|context| context.memory_info());
    match (selected, used) {
        (Ok(_), Ok(_)) => {}
        (Err(error), Err(used)) => {
            assert!(error.to_string().contains("the runtime works and sees no GPU"), "{error}");
            assert_eq!(used.call, "hipInit", "{used}");
        }
        (selected, used) => panic!("{selected:?}, {used:?}"),
    }
    println!("{MARK}");
    // The exit handlers run on this thread, as on one that returns from `main`.
    std::process::exit(0);
}

/// The end of a process that searches, on the calling thread or another, and then calls the runtime; `None`, with a
/// message, if there is no ROCm here.
fn end_of(on_a_thread: bool) -> Option<ExitStatus> {
    let cache = || {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?.join("rfgraph/rocm-userland"))
    };
    let folder = std::env::var_os("ROCM_USERLAND").map(PathBuf::from).or_else(cache);
    let Some(folder) = folder.filter(|folder| folder.join(".complete").exists()) else {
        skipped_for_want_of_data("there is no ROCm; .ci/rocm-userland installs one into a folder");
        return None;
    };
    let libraries = folder.join("usr/lib/x86_64-linux-gnu");
    let mut child = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    child.arg("--library-path").arg(&libraries).arg(std::env::current_exe().unwrap());
    child.args(["--exact", "exit::child_process_of_the_other_tests", "--ignored", "--nocapture"]);
    // Memory that is freed is overwritten, so a second use of it shows.
    child.env("MALLOC_PERTURB_", "165").env(LIBRARIES, &libraries);
    child.envs(on_a_thread.then_some((ON_A_THREAD, "1")));
    let output = child.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.lines().any(|line| line.ends_with(MARK)), "{}\n{out}\n{err}", output.status);
    Some(output.status)
}

#[test]
fn a_process_that_used_amds_runtime_ends_well() {
    let Some(status) = end_of(false) else { return };
    assert!(status.success(), "{status}");
}

#[test]
fn a_process_that_opened_amds_runtime_on_another_thread_crashes_at_its_end() {
    let Some(status) = end_of(true) else { return };
    assert!(!status.success(), "the runtime no longer needs to be opened on the calling thread: {status}");
}
