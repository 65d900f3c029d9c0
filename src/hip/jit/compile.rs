//! Compiles one source to one code object, with a table's run-time compiler.

use std::ffi::{CString, c_char};

use super::super::api::{Rtc, hiprtcProgram, hiprtcResult};
use super::super::sources;
use super::error::{describe, excerpt, file_name, meaning};
use super::{JitError, Key, isa};
use crate::device::{PlatformKind, Source, Target, Variant};

/// `HIPRTC_ERROR_COMPILATION`.
const COMPILATION: hiprtcResult = 6;

/// The compiler's options for a variant.
pub fn options(target: &Target, variant: &Variant) -> Vec<String> {
    let mut options = match target.platform {
        PlatformKind::Amd => vec![
            format!("--offload-arch={}", target.arch),
            "-O3".into(),
            "-std=c++17".into(),
            // `__forceinline__` already is an `inline` there, and `DEVICE inline` repeats it.
            "-Wno-duplicate-decl-specifier".into(),
        ],
        PlatformKind::Nvidia => vec![format!("--gpu-architecture={}", target.arch), "--std=c++17".into()],
        PlatformKind::Sim => Vec::new(),
    };
    options.push(format!("-DWAVE={}", target.wave));
    options.extend(variant.defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    options
}

/// The text of a variant's source.
pub(super) fn text(variant: &Variant) -> Result<&str, JitError> {
    match &variant.source {
        Source::Own { text, .. } => Ok(text),
        Source::BuiltIn(name) => sources::source(name)
            .ok_or_else(|| JitError::NoSource { variant: describe(variant), name: name.to_string() }),
    }
}

/// The cache key of a variant's code. Variants that differ only in their entry share it, as they are kernels of one
/// program. `compiler` distinguishes compilers of the same target.
pub(super) fn key(target: &Target, variant: &Variant, compiler: &str) -> Result<Key, JitError> {
    let text = text(variant)?;
    let options = options(target, variant);
    let (count, file) = (options.len().to_string(), file_name(&variant.source));
    let mut parts = vec![target.platform.name(), &target.arch, compiler, &count];
    parts.extend(options.iter().map(String::as_str));
    parts.extend([file.as_str(), text]);
    parts.extend(sources::included(text).iter().flat_map(|header| [header.name, header.text]));
    Ok(Key::of(parts))
}

/// Compiles a variant's program, with the headers of `kernels/` available. Needs no device. The compiler's warnings are
/// logged on success.
///
/// # Errors
/// A source, name or constant that cannot be compiled; a target that the compiler does not know.
pub fn compile(rtc: &Rtc, target: &Target, variant: &Variant) -> Result<Vec<u8>, JitError> {
    if target.platform == PlatformKind::Amd {
        isa::check(&target.arch)?;
    }
    let text = text(variant)?;
    let file = file_name(&variant.source);
    let options = options(target, variant);
    let compilation = Compilation { rtc, target, variant };
    let program = Program::new(&compilation, &file, text)?;
    let words = options
        .iter()
        .map(|option| compilation.c_string(option, "an option"))
        .collect::<Result<Vec<_>, _>>()?;
    let words: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
    let (handle, n) = (program.handle, words.len() as i32);
    // SAFETY: the program is alive, and `words` is `n` strings that outlive the call.
    let code = unsafe { (rtc.hiprtcCompileProgram)(handle, n, words.as_ptr()) };
    let log = program.log();
    if code == COMPILATION {
        return Err(JitError::Compile {
            variant: describe(variant),
            arch: target.arch.clone(),
            options: options.join(" "),
            excerpt: excerpt(&log, &file, text),
            log,
        });
    }
    if !log.is_empty() {
        tracing::debug!("compiler on {} for {}:\n{log}", describe(variant), target.arch);
    }
    compilation.check("hiprtcCompileProgram", code)?;
    program.code(&compilation)
}

/// The compilation, for messages.
struct Compilation<'j> {
    rtc: &'j Rtc,
    target: &'j Target,
    variant: &'j Variant,
}

impl Compilation<'_> {
    fn check(&self, call: &'static str, code: hiprtcResult) -> Result<(), JitError> {
        if code == 0 {
            return Ok(());
        }
        let (variant, arch) = (describe(self.variant), self.target.arch.clone());
        Err(JitError::Call { variant, arch, call, code, meaning: meaning(code) })
    }

    fn c_string(&self, text: &str, what: &str) -> Result<CString, JitError> {
        let error = |_| JitError::ZeroByte { variant: describe(self.variant), what: what.into() };
        CString::new(text).map_err(error)
    }
}

/// A program of the compiler.
struct Program<'p> {
    rtc: &'p Rtc,
    handle: hiprtcProgram,
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: the program was created and is destroyed once.
        let _ = unsafe { (self.rtc.hiprtcDestroyProgram)(&raw mut self.handle) };
    }
}

impl<'p> Program<'p> {
    fn new(compilation: &Compilation<'p>, file: &str, text: &str) -> Result<Program<'p>, JitError> {
        let (source, name) =
            (compilation.c_string(text, "its source")?, compilation.c_string(file, "its name")?);
        let headers: Vec<_> = sources::headers().collect();
        let strings = |text: fn(&sources::SourceFile) -> &'static str| {
            headers
                .iter()
                .map(|header| compilation.c_string(text(header), header.name))
                .collect::<Result<Vec<_>, _>>()
        };
        let (texts, names) = (strings(|header| header.text)?, strings(|header| header.name)?);
        let texts: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let mut handle = std::ptr::null_mut();
        let count = texts.len() as i32;
        // SAFETY: the strings and the two lists of `count` of them outlive the call, which copies them.
        let code = unsafe {
            (compilation.rtc.hiprtcCreateProgram)(
                &raw mut handle,
                source.as_ptr(),
                name.as_ptr(),
                count,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        compilation.check("hiprtcCreateProgram", code)?;
        Ok(Program { rtc: compilation.rtc, handle })
    }

    /// The compiler's log; empty if there is none or it cannot be read.
    fn log(&self) -> String {
        let mut bytes = 0;
        // SAFETY: the program is alive, and the pointer is valid for a write.
        let code = unsafe { (self.rtc.hiprtcGetProgramLogSize)(self.handle, &raw mut bytes) };
        if code != 0 || bytes == 0 {
            return String::new();
        }
        let mut log = vec![0u8; bytes];
        // SAFETY: the program is alive, and the buffer has the requested size.
        let code = unsafe { (self.rtc.hiprtcGetProgramLog)(self.handle, log.as_mut_ptr().cast()) };
        if code != 0 {
            return String::new();
        }
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        log.truncate(end);
        String::from_utf8_lossy(&log).trim_end().to_string()
    }

    fn code(&self, compilation: &Compilation<'_>) -> Result<Vec<u8>, JitError> {
        let mut bytes = 0;
        // SAFETY: the program is alive, and the pointer is valid for a write.
        let code = unsafe { (self.rtc.hiprtcGetCodeSize)(self.handle, &raw mut bytes) };
        compilation.check("hiprtcGetCodeSize", code)?;
        let mut object = vec![0u8; bytes];
        // SAFETY: the program is alive, and the buffer has the requested size.
        let code = unsafe { (self.rtc.hiprtcGetCode)(self.handle, object.as_mut_ptr().cast()) };
        compilation.check("hiprtcGetCode", code)?;
        Ok(object)
    }
}
