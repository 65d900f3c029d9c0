//! hipRTC of the simulated device.
#![allow(non_snake_case, reason = "HIP's own names")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::compiler::Compiler;
use super::registry;
use crate::hip::api::{Rtc, hiprtcProgram, hiprtcResult};

/// `hiprtcResult`, in hipRTC's numbering.
mod result {
    pub const SUCCESS: i32 = 0;
    pub const INTERNAL_ERROR: i32 = 11;
    pub const INVALID_INPUT: i32 = 3;
    pub const INVALID_PROGRAM: i32 = 4;
    pub const COMPILATION: i32 = 6;
}

pub(super) const TABLE: Rtc = Rtc {
    hiprtcVersion,
    hiprtcCreateProgram,
    hiprtcCompileProgram,
    hiprtcGetProgramLogSize,
    hiprtcGetProgramLog,
    hiprtcGetCodeSize,
    hiprtcGetCode,
    hiprtcDestroyProgram,
};

#[derive(Clone, Debug, Default)]
struct Program {
    source: String,
    name: String,
    headers: Vec<(String, String)>,
    log: String,
    code: Vec<u8>,
}

static PROGRAMS: Mutex<Option<HashMap<usize, Program>>> = Mutex::new(None);

fn programs<R>(use_them: impl FnOnce(&mut HashMap<usize, Program>) -> R) -> R {
    let mut guard = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    use_them(guard.get_or_insert_default())
}

/// Counts a call on the thread's device; a failure requested by a test is an internal error.
fn enter(call: &'static str) -> Result<(), hiprtcResult> {
    let Ok(device) = registry::current() else { return Ok(()) };
    device.lock().enter(call).map_err(|_| result::INTERNAL_ERROR)
}

fn code(answer: Result<(), hiprtcResult>) -> hiprtcResult {
    answer.err().unwrap_or(result::SUCCESS)
}

/// # Safety
/// `text` must be null or a terminated string.
unsafe fn string(text: *const c_char) -> Option<String> {
    // SAFETY: guaranteed by the caller.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

unsafe extern "C" fn hiprtcVersion(major: *mut c_int, minor: *mut c_int) -> hiprtcResult {
    code(enter("hiprtcVersion").map(|()| {
        let (first, second) = Compiler::find().map(|compiler| compiler.version).unwrap_or_default();
        // SAFETY: the caller's pointers, by the function's contract.
        unsafe {
            *major = first;
            *minor = second;
        }
    }))
}

unsafe extern "C" fn hiprtcCreateProgram(
    program: *mut hiprtcProgram,
    source: *const c_char,
    name: *const c_char,
    n_headers: c_int,
    headers: *const *const c_char,
    header_names: *const *const c_char,
) -> hiprtcResult {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    code(enter("hiprtcCreateProgram").and_then(|()| {
        // SAFETY: the caller's strings, by the function's contract.
        let made = unsafe {
            let header = |i: usize| Some((string(*header_names.add(i))?, string(*headers.add(i))?));
            let headers: Option<Vec<_>> = (0..n_headers.max(0) as usize).map(header).collect();
            let (Some(source), Some(headers)) = (string(source), headers) else {
                return Err(result::INVALID_INPUT);
            };
            let name = string(name).unwrap_or_else(|| "program.hip".into());
            Program { source, name, headers, ..Program::default() }
        };
        let handle = NEXT.fetch_add(1, Ordering::Relaxed) * 16;
        programs(|all| all.insert(handle, made));
        // SAFETY: the caller's pointer, by the function's contract.
        unsafe { *program = handle as hiprtcProgram };
        Ok(())
    }))
}

unsafe extern "C" fn hiprtcCompileProgram(
    program: hiprtcProgram,
    n_options: c_int,
    options: *const *const c_char,
) -> hiprtcResult {
    code(enter("hiprtcCompileProgram").and_then(|()| {
        let input = programs(|all| all.get(&(program as usize)).cloned());
        let input = input.ok_or(result::INVALID_PROGRAM)?;
        // SAFETY: the caller's strings, by the function's contract.
        let options: Option<Vec<String>> =
            (0..n_options.max(0) as usize).map(|i| unsafe { string(*options.add(i)) }).collect();
        let options = options.ok_or(result::INVALID_INPUT)?;
        // Compile without the lock, as several threads do it at once.
        let compiled = Compiler::find()
            .map_err(str::to_string)
            .and_then(|compiler| compiler.compile(&input.source, &input.name, &input.headers, &options));
        programs(|all| {
            let output = all.get_mut(&(program as usize)).ok_or(result::INVALID_PROGRAM)?;
            match compiled {
                Ok(code) => {
                    output.code = code;
                    Ok(())
                }
                Err(log) => {
                    output.log = log;
                    Err(result::COMPILATION)
                }
            }
        })
    }))
}

/// Passes a program to `use_it`.
fn read(call: &'static str, program: hiprtcProgram, use_it: impl FnOnce(&Program)) -> hiprtcResult {
    code(enter(call).and_then(|()| {
        programs(|all| all.get(&(program as usize)).map(use_it)).ok_or(result::INVALID_PROGRAM)
    }))
}

unsafe extern "C" fn hiprtcGetProgramLogSize(program: hiprtcProgram, bytes: *mut usize) -> hiprtcResult {
    // SAFETY: the caller's pointer, by the function's contract. The size counts the terminating zero.
    read("hiprtcGetProgramLogSize", program, |program| unsafe { *bytes = program.log.len() + 1 })
}

unsafe extern "C" fn hiprtcGetProgramLog(program: hiprtcProgram, log: *mut c_char) -> hiprtcResult {
    read("hiprtcGetProgramLog", program, |program| {
        // SAFETY: the caller's buffer has the size that was returned before.
        unsafe {
            std::ptr::copy_nonoverlapping(program.log.as_ptr(), log.cast(), program.log.len());
            *log.add(program.log.len()) = 0;
        }
    })
}

unsafe extern "C" fn hiprtcGetCodeSize(program: hiprtcProgram, bytes: *mut usize) -> hiprtcResult {
    // SAFETY: the caller's pointer, by the function's contract.
    read("hiprtcGetCodeSize", program, |program| unsafe { *bytes = program.code.len() })
}

unsafe extern "C" fn hiprtcGetCode(program: hiprtcProgram, code: *mut c_char) -> hiprtcResult {
    read("hiprtcGetCode", program, |program| {
        // SAFETY: the caller's buffer has the size that was returned before.
        unsafe { std::ptr::copy_nonoverlapping(program.code.as_ptr(), code.cast(), program.code.len()) };
    })
}

unsafe extern "C" fn hiprtcDestroyProgram(program: *mut hiprtcProgram) -> hiprtcResult {
    code(enter("hiprtcDestroyProgram").and_then(|()| {
        // SAFETY: the caller's pointer, by the function's contract.
        let handle = unsafe { *program } as usize;
        programs(|all| all.remove(&handle)).map(drop).ok_or(result::INVALID_PROGRAM)
    }))
}
