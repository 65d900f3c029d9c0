//! ROCm's run-time compiler by itself: it compiles where there is no GPU and no driver.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use libloading::Library;

use super::super::PlatformKind;
use super::super::api::Rtc;

/// hipRTC by itself since ROCm 5.3; inside the runtime before, and beside it up to ROCm 6.
const NAMES: [&str; 6] = [
    "libhiprtc.so.7",
    "libhiprtc.so.6",
    "libhiprtc.so.5",
    "libhiprtc.so",
    "libamdhip64.so.6",
    "libamdhip64.so.5",
];

/// The functions of hipRTC, from the first library that has them: by the loader's path, then in `$ROCM_PATH/lib`
/// (`/opt/rocm/lib`). The library stays open.
///
/// # Errors
/// None of them can be opened or is whole; why not, for each.
pub fn open_rocm() -> Result<Rtc, String> {
    let root = std::env::var_os("ROCM_PATH").filter(|value| !value.is_empty());
    let root = PathBuf::from(root.unwrap_or_else(|| "/opt/rocm".into())).join("lib");
    let plain = NAMES.iter().map(PathBuf::from);
    let mut failures = Vec::new();
    for path in plain.chain(NAMES.iter().map(|name| root.join(name))) {
        // SAFETY: loading ROCm's compiler runs its initialisers, which ask nothing of the process.
        let library = match unsafe { Library::new(&path) } {
            Ok(library) => library,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        // SAFETY: a function of that name of hipRTC has the signature of the table, and the library is never
        // closed.
        let rtc = unsafe {
            Rtc::fill(|name| library.get::<*const c_void>(name.as_bytes()).ok().map(|symbol| *symbol))
        };
        match rtc {
            Ok(rtc) => {
                tracing::debug!("hipRTC is {}", path.display());
                std::mem::forget(library);
                return Ok(rtc);
            }
            Err(name) => failures.push(format!("{}: no function {name}", path.display())),
        }
    }
    Err(format!(
        "ROCm's run-time compiler was not found; install libhiprtc, or set ROCM_PATH or LD_LIBRARY_PATH:\n  {}",
        failures.join("\n  ")
    ))
}

/// What tells the compiler's libraries, as this process loaded them, from others: file names, sizes and times.
/// Empty where the system does not list them.
pub(super) fn stamps(platform: PlatformKind) -> String {
    let prefixes: &[&str] = match platform {
        PlatformKind::Amd => &["libhiprtc", "libamdhip64", "libamd_comgr", "libLLVM"],
        PlatformKind::Nvidia => &["libnvrtc"],
        PlatformKind::Sim => &[],
    };
    let maps = match prefixes {
        [] => String::new(),
        _ => std::fs::read_to_string("/proc/self/maps").unwrap_or_default(),
    };
    let path = |line: &'_ str| line.find('/').and_then(|at| line.get(at..)).map(PathBuf::from);
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let libraries: BTreeSet<PathBuf> = maps.lines().filter_map(path).filter(is_ours).collect();
    libraries.iter().filter_map(|path| stamp(path)).collect::<Vec<_>>().join(" ")
}

fn stamp(path: &Path) -> Option<String> {
    let meta = path.metadata().ok()?;
    let time = meta.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(format!("{} {} {time}", path.file_name()?.to_string_lossy(), meta.len()))
}
