//! Reads the targets that the installed ROCm compiler knows.
//!
//! hipRTC ends the process if its code generator does not know the target, so the code generator's own list is read
//! first. Source: `amd_comgr.h` of ROCm 5 to 7 (`amd_comgr_get_isa_count`, `amd_comgr_get_isa_name`).

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

use super::super::platform::{Opened, Search, sonames};
use super::JitError;
use crate::device::PlatformKind;

type GetCount = unsafe extern "C" fn(count: *mut usize) -> u32;
type GetName = unsafe extern "C" fn(index: usize, name: *mut *const c_char) -> u32;

/// The compiler's list; `None` if its library was not found or does not answer.
pub(super) fn known() -> Option<&'static [String]> {
    static KNOWN: OnceLock<Option<Vec<String>>> = OnceLock::new();
    KNOWN.get_or_init(list).as_deref()
}

/// Refuses a target that is not in the compiler's list. Without a list every target passes.
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
    // gfx1103 belongs to family gfx11: the last two characters are minor version and stepping.
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
    let search = Search::of(PlatformKind::Amd);
    let found = search.load("ROCm's code generator", &sonames("amd_comgr", &[3, 2]), |library| {
        read(library).ok_or("amd_comgr_get_isa_name")
    });
    found.inspect_err(|error| tracing::debug!("{error}")).ok()
}

fn read(library: &Opened) -> Option<Vec<String>> {
    let (get_count, get_name) =
        (library.address("amd_comgr_get_isa_count")?, library.address("amd_comgr_get_isa_name")?);
    // SAFETY: the functions of that name have these signatures in comgr 2 and 3, and stay loaded.
    let (get_count, get_name) = unsafe {
        (
            std::mem::transmute::<*const c_void, GetCount>(get_count),
            std::mem::transmute::<*const c_void, GetName>(get_name),
        )
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
        // SAFETY: on success `name` is a constant string of the library, which stays loaded.
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
    fn unknown_targets_are_refused_with_similar_ones() {
        let known: Vec<String> = ["gfx906", "gfx90a", "gfx1030", "gfx1031"].map(String::from).into();
        assert_eq!(check_against("gfx90a:sramecc+:xnack-", &known), Ok(()));
        let message = |arch| check_against(arch, &known).unwrap_err().to_string();
        assert!(
            message("gfx1036").contains("of its family it knows gfx1030, gfx1031"),
            "{}",
            message("gfx1036")
        );
        assert!(message("gfx942").contains("of its family it knows gfx906, gfx90a"), "{}", message("gfx942"));
        assert!(message("gfx1201").contains("of its family it knows none, in all 4 targets"));
        assert!(message("gfx90").contains("knows none"));
        for odd in ["", "é", "gfx"] {
            assert!(check_against(odd, &known).is_err());
        }
    }
}
