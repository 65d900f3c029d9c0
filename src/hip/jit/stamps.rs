//! Distinguishes installed compilers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::device::PlatformKind;

/// File names, sizes and times of the compiler's libraries, as loaded by this process. Empty if the system does not
/// list them.
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
    Some(format!("{}:{}:{time}", path.file_name()?.to_string_lossy(), meta.len()))
}
