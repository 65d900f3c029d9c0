//! A fake run-time compiler whose "code" is its source text, and which counts compilations.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::Mutex;

use rfgraph::device::{Source, Target, Variant};
use rfgraph::hip::api::{Rtc, hiprtcProgram, hiprtcResult};

struct Program {
    name: String,
    source: String,
    n_headers: c_int,
    code: Vec<u8>,
    log: String,
}

/// The number of compilations of each source text. Every test compiles its own texts.
static COUNTS: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);

/// The number of compilations of a text.
pub fn compiles(text: &str) -> usize {
    let counts = COUNTS.lock().unwrap();
    counts.as_ref().and_then(|counts| counts.get(text).copied()).unwrap_or(0)
}

/// A kernel with a source text of its own.
pub fn variant(text: impl Into<String>) -> Variant {
    let source = Source::Own { name: "mine".into(), text: text.into().into() };
    Variant { source, ..Variant::new("", "entry") }
}

/// The fake's code of a variant.
pub fn expected(target: &Target, variant: &Variant) -> Vec<u8> {
    let Source::Own { text, .. } = &variant.source else { panic!("the tests compile texts of their own") };
    let options = rfgraph::hip::jit::options(target, variant);
    format!("{text}\n{}", options.join("\n")).into_bytes()
}

extern "C" fn version(major: *mut c_int, minor: *mut c_int) -> hiprtcResult {
    // SAFETY: the caller gives valid pointers.
    unsafe { (*major, *minor) = (1, 2) };
    0
}

fn text(pointer: *const c_char) -> String {
    // SAFETY: the caller gives strings that end with a zero.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_string()
}

extern "C" fn create(
    program: *mut hiprtcProgram,
    source: *const c_char,
    name: *const c_char,
    n_headers: c_int,
    headers: *const *const c_char,
    names: *const *const c_char,
) -> hiprtcResult {
    for i in 0..n_headers as usize {
        // SAFETY: the caller gives `n_headers` of each.
        let (header, name) = unsafe { (text(*headers.add(i)), text(*names.add(i))) };
        assert!(!header.is_empty() && name.ends_with(".h"));
    }
    let made =
        Program { name: text(name), source: text(source), n_headers, code: Vec::new(), log: String::new() };
    // SAFETY: valid for a write.
    unsafe { *program = Box::into_raw(Box::new(made)).cast() };
    0
}

fn program<'p>(program: hiprtcProgram) -> &'p mut Program {
    // SAFETY: made by `create`, not destroyed yet, used by one thread.
    unsafe { &mut *program.cast() }
}

extern "C" fn compile(handle: hiprtcProgram, n: c_int, options: *const *const c_char) -> hiprtcResult {
    let program = program(handle);
    assert!(program.n_headers > 0);
    // SAFETY: the caller gives `n` strings.
    let options: Vec<String> = (0..n as usize).map(|i| text(unsafe { *options.add(i) })).collect();
    *COUNTS.lock().unwrap().get_or_insert_default().entry(program.source.clone()).or_default() += 1;
    let wrong = program.source.lines().position(|line| line.contains("wrong"));
    if let Some(line) = wrong {
        program.log = format!("/tmp/x/{}:{}:1: error: this is wrong\n", program.name, line + 1);
        return 6;
    }
    if program.source.contains("internal") {
        return 11;
    }
    if program.source.contains("slow") {
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    program.code = format!("{}\n{}", program.source, options.join("\n")).into_bytes();
    0
}

extern "C" fn log_size(handle: hiprtcProgram, bytes: *mut usize) -> hiprtcResult {
    // SAFETY: valid for a write.
    unsafe { *bytes = program(handle).log.len() + 1 };
    0
}

extern "C" fn log(handle: hiprtcProgram, log: *mut c_char) -> hiprtcResult {
    let text = &program(handle).log;
    // SAFETY: the caller gives as many bytes as `log_size` asks for.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), log, text.len());
        *log.add(text.len()) = 0;
    }
    0
}

extern "C" fn code_size(handle: hiprtcProgram, bytes: *mut usize) -> hiprtcResult {
    // SAFETY: valid for a write.
    unsafe { *bytes = program(handle).code.len() };
    0
}

extern "C" fn code(handle: hiprtcProgram, code: *mut c_char) -> hiprtcResult {
    let bytes = &program(handle).code;
    // SAFETY: the caller gives as many bytes as `code_size` asks for.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), code, bytes.len()) };
    0
}

extern "C" fn destroy(handle: *mut hiprtcProgram) -> hiprtcResult {
    // SAFETY: made by `create`, destroyed once.
    drop(unsafe { Box::from_raw((*handle).cast::<Program>()) });
    0
}

/// The table.
pub fn rtc() -> Rtc {
    Rtc {
        hiprtcVersion: version,
        hiprtcCreateProgram: create,
        hiprtcCompileProgram: compile,
        hiprtcGetProgramLogSize: log_size,
        hiprtcGetProgramLog: log,
        hiprtcGetCodeSize: code_size,
        hiprtcGetCode: code,
        hiprtcDestroyProgram: destroy,
    }
}
