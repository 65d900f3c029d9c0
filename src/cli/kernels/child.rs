//! The process that compiles for one target: a compiler that ends its process takes only this one along.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::error::CliError;
use crate::hip::api::Rtc;
use crate::hip::code_object::{CodeObjectError, Resources, resources};
use crate::hip::jit::{Compiler, JitError, JitOptions};
use crate::hip::platform::{self, LoadError};
use crate::hip::{PlatformKind, Target, Variant};

/// What the process writes, one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// First: the compiler.
    Compiler(String),
    /// Instead: why there is none.
    Cannot(String),
    /// A program compiled; its kernels, as far as the code object tells.
    Kernels(usize, Vec<Resources>),
    /// A program did not.
    Failed(usize, String),
}

/// Compiles the variants that standard input lists, in order, and writes what came of each.
pub(super) fn run(target: &Target) -> Result<(), CliError> {
    let variants: Vec<Variant> =
        serde_json::from_reader(io::stdin().lock()).map_err(|error| CliError::Input(error.to_string()))?;
    let rtc = match open(target.platform) {
        Ok(rtc) => rtc,
        Err(error) => return write(&Line::Cannot(error.to_string())),
    };
    let compiler = Compiler::new(&rtc, target, "", JitOptions::from_env());
    // Sizes and times of the libraries say nothing to people.
    let words = compiler.identity().split_whitespace().map(|word| word.split(':').next().unwrap_or(word));
    write(&Line::Compiler(words.collect::<Vec<_>>().join(" ")))?;
    // One after another, each told before the next begins: then it is known which one ended the process.
    for (program, variant) in variants.iter().enumerate() {
        let mut line = Line::Failed(program, "the compiling thread ended without an answer".into());
        let tried = compiler.for_each(std::slice::from_ref(variant), &mut |_, code| {
            line = match told(target, code) {
                Ok(kernels) => Line::Kernels(program, kernels),
                Err(message) => Line::Failed(program, message),
            };
        });
        tried.map_err(|error| CliError::Input(error.to_string()))?;
        write(&line)?;
    }
    Ok(())
}

fn open(kind: PlatformKind) -> Result<Rtc, LoadError> {
    match kind {
        // It compiles where there is no device and no driver.
        PlatformKind::Amd => platform::amd::compiler(),
        PlatformKind::Nvidia | PlatformKind::Sim => Ok(platform::api(kind)?.rtc),
    }
}

/// What the code object says. Other platforms' code says nothing that rfgraph reads.
fn told(target: &Target, code: Result<Arc<[u8]>, JitError>) -> Result<Vec<Resources>, String> {
    let code = code.map_err(|error| error.to_string())?;
    match target.platform {
        PlatformKind::Amd => resources(&code).map_err(|error: CodeObjectError| error.to_string()),
        PlatformKind::Nvidia | PlatformKind::Sim => Ok(Vec::new()),
    }
}

fn write(line: &Line) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
