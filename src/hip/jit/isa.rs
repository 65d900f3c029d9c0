//! Which targets the installed ROCm compiler knows.
//!
//! hipRTC ends the process when it is asked for a target that its code generator does not know, so the code
//! generator's own list is read first. Source: `amd_comgr.h` of ROCm 5 to 7 (`amd_comgr_get_isa_count`,
//! `amd_comgr_get_isa_name`).

use std::ffi::{CStr, OsString, c_char};
use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::Library;

use super::JitError;

type GetCount = unsafe extern "C" fn(count: *mut usize) -> u32;
type GetName = unsafe extern "C" fn(index: usize, name: *mut *const c_char) -> u32;

const NAMES: [&str; 3] = ["libamd_comgr.so.3", "libamd_comgr.so.2", "libamd_comgr.so"];

/// The compiler's list; none if its library was not found or did not tell.
pub(super) fn known() -> Option<&'static [String]> {
    static KNOWN: OnceLock<Option<Vec<String>>> = OnceLock::new();
    KNOWN.get_or_init(list).as_deref()
}

/// Refuses a target that is not on the compiler's list. Without a list every target passes.
pub(super) fn check(arch: &str) -> Result<(), JitError> {
    match known() {
        Some(known) => check_against(arch, known),
        None => {
            tracing::debug!(
                "libamd_comgr was not found; {arch} is compiled for without asking whether it is known"
            );
            Ok(())
        }
    }
}

fn check_against(arch: &str, known: &[String]) -> Result<(), JitError> {
    let base = arch.split(':').next().unwrap_or(arch);
    if known.iter().any(|name| name == base) {
        return Ok(());
    }
    // gfx1103 is of the family gfx11: the last two characters are stepping and minor version.
    let family = base.get(..base.len().saturating_sub(2)).unwrap_or(base);
    let is_relative = |name: &&String| name.len() == base.len() && name.starts_with(family);
    let relatives: Vec<&str> = known.iter().filter(is_relative).map(String::as_str).collect();
    let known = match relatives.is_empty() {
        true => format!("of its family it knows none, in all {} targets", known.len()),
        false => format!("of its family it knows {}", relatives.join(", ")),
    };
    Err(JitError::UnknownTarget { arch: arch.into(), known: format!("{known}. A newer ROCm may know it") })
}

/// The targets without their features, from the first library that can be opened.
fn list() -> Option<Vec<String>> {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let root = PathBuf::from(variable("ROCM_PATH").unwrap_or_else(|| "/opt/rocm".into()));
    let plain = NAMES.iter().map(PathBuf::from);
    let under_root = NAMES.iter().map(|name| root.join("lib").join(name));
    // SAFETY: loading ROCm's code generator runs its initialisers, which hipRTC would run anyway.
    let library = plain.chain(under_root).find_map(|path| unsafe { Library::new(path) }.ok())?;
    let names = read(&library);
    // Its initialisers registered things with the process; it must not be unloaded before hipRTC uses it.
    std::mem::forget(library);
    names
}

fn read(library: &Library) -> Option<Vec<String>> {
    // SAFETY: the functions have these signatures in comgr 2 and 3.
    let (get_count, get_name) = unsafe {
        let count = library.get::<GetCount>(b"amd_comgr_get_isa_count\0").ok()?;
        (count, library.get::<GetName>(b"amd_comgr_get_isa_name\0").ok()?)
    };
    let mut count = 0;
    // SAFETY: the pointer is valid for a write.
    if unsafe { get_count(&raw mut count) } != 0 {
        return None;
    }
    let mut names = Vec::new();
    for index in 0..count {
        let mut name = std::ptr::null();
        // SAFETY: the index is below the count, and the pointer is valid for a write.
        if unsafe { get_name(index, &raw mut name) } != 0 || name.is_null() {
            return None;
        }
        // SAFETY: on success it is a constant string of the library, which stays loaded.
        let name = unsafe { CStr::from_ptr(name) }.to_str().ok()?;
        // `amdgcn-amd-amdhsa--gfx90a:sramecc+`: triple, empty environment, processor, features.
        let base = name.rsplit("--").next().unwrap_or(name).split(':').next().unwrap_or(name);
        names.push(base.to_string());
    }
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_targets_are_refused_with_their_relatives() {
        let known: Vec<String> = ["gfx906", "gfx90a", "gfx1030", "gfx1031"].map(String::from).into();
        assert_eq!(check_against("gfx90a:sramecc+:xnack-", &known), Ok(()));
        let message = |arch| check_against(arch, &known).unwrap_err().to_string();
        assert!(
            message("gfx1036").contains("of its family it knows gfx1030, gfx1031"),
            "{}",
            message("gfx1036")
        );
        assert!(message("gfx942").contains("knows none, in all 4 targets"));
        assert!(message("gfx90").contains("knows none"));
        for odd in ["", "é", "gfx"] {
            assert!(check_against(odd, &known).is_err());
        }
    }
}
