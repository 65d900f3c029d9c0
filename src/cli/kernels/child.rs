//! The process that compiles for one target: a compiler crash only terminates this process.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::error::CliError;
use crate::device::{PlatformKind, Target, Variant};
use crate::hip::api::Rtc;
use crate::hip::code_object::{CodeObjectError, Resources, resources};
use crate::hip::jit::{Compiler, JitError, JitOptions, batch};
use crate::hip::platform::{self, LoadError};

/// Input of the process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// One variant of each program.
    pub variants: Vec<Variant>,
    /// Compile one by one, reporting each before the next starts, so that a crash can be attributed to its program.
    pub alone: bool,
}

/// Output of the process, one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// First line: the compiler.
    Compiler(String),
    /// The reason why no compiler is available, instead of results.
    Cannot(String),
    /// A program compiled; its kernels, as far as the code object reports them.
    Kernels(usize, Vec<Resources>),
    /// A program failed to compile.
    Failed(usize, String),
    /// Last line: the number of compiler calls.
    Compilations(usize),
}

/// Compiles the variants listed on standard input, and writes the results.
pub(super) fn run(target: &Target) -> Result<(), CliError> {
    let task: Task =
        serde_json::from_reader(io::stdin().lock()).map_err(|error| CliError::Input(error.to_string()))?;
    let rtc = match open(target.platform) {
        Ok(rtc) => rtc,
        Err(error) => return write(&Line::Cannot(error.to_string())),
    };
    let compiler = Compiler::new(&rtc, target, "", JitOptions::from_env());
    // Sizes and times of the libraries are omitted.
    let words = compiler.identity().split_whitespace().map(|word| word.split(':').next().unwrap_or(word));
    write(&Line::Compiler(words.collect::<Vec<_>>().join(" ")))?;
    let mut work = Work { compiler: &compiler, variants: &task.variants, compilations: 0 };
    // Only AMD's code objects report each kernel's resources.
    match task.alone || target.platform != PlatformKind::Amd {
        true => (0..task.variants.len()).try_for_each(|program| work.alone(program))?,
        false => batch::groups(&task.variants).iter().try_for_each(|group| work.together(group))?,
    }
    write(&Line::Compilations(work.compilations))
}

struct Work<'w> {
    compiler: &'w Compiler,
    variants: &'w [Variant],
    compilations: usize,
}

impl Work<'_> {
    /// Compiles programs as one, or as two halves if that fails.
    fn together(&mut self, programs: &[usize]) -> Result<(), CliError> {
        if let [program] = programs {
            return self.alone(*program);
        }
        match self.kernels_together(programs)? {
            Ok(found) => {
                for (&program, kernels) in programs.iter().zip(found) {
                    let spills = |kernel: &Resources| kernel.vgpr_spills > 0 || kernel.sgpr_spills > 0;
                    // A spilling kernel is reported as a user's compiler would compile it.
                    match kernels.is_empty() || kernels.iter().any(spills) {
                        true => self.alone(program)?,
                        false => write(&Line::Kernels(program, kernels))?,
                    }
                }
                Ok(())
            }
            Err(error) => {
                tracing::debug!("{} programs do not compile as one: {error}", programs.len());
                let (first, second) = programs.split_at(programs.len() / 2);
                self.together(first)?;
                self.together(second)
            }
        }
    }

    /// The kernels of each program, from the code of all programs.
    fn kernels_together(
        &mut self,
        programs: &[usize],
    ) -> Result<Result<Vec<Vec<Resources>>, String>, CliError> {
        let variants: Vec<&Variant> = programs.iter().filter_map(|&i| self.variants.get(i)).collect();
        let found = match batch::together(&variants) {
            Ok(program) => self.kernels(&program)?,
            Err(error) => Err(error.to_string()),
        };
        Ok(found.map(|found| {
            let mut of_each = vec![Vec::new(); programs.len()];
            for kernel in found {
                let own = batch::own_name(&kernel.name).map(|(number, name)| (number, name.to_string()));
                if let Some((number, name)) = own
                    && let Some(kernels) = of_each.get_mut(number)
                {
                    kernels.push(Resources { name, ..kernel });
                }
            }
            of_each
        }))
    }

    /// Compiles a program alone, as on first use, and writes the result.
    fn alone(&mut self, program: usize) -> Result<(), CliError> {
        let Some(variant) = self.variants.get(program) else { return Ok(()) };
        write(&match self.kernels(variant)? {
            Ok(kernels) => Line::Kernels(program, kernels),
            Err(message) => Line::Failed(program, message),
        })
    }

    fn kernels(&mut self, variant: &Variant) -> Result<Result<Vec<Resources>, String>, CliError> {
        self.compilations += 1;
        let mut found = Err("the compiling thread ended without an answer".into());
        let tried = self.compiler.for_each(std::slice::from_ref(variant), &mut |_, code| {
            found = told(self.compiler.target(), code);
        });
        tried.map_err(|error| CliError::Input(error.to_string()))?;
        Ok(found)
    }
}

fn open(kind: PlatformKind) -> Result<Rtc, LoadError> {
    match kind {
        // This compiler needs no device and no driver.
        PlatformKind::Amd => platform::amd::compiler(),
        PlatformKind::Nvidia | PlatformKind::Sim => Ok(platform::api(kind)?.rtc),
    }
}

/// Resources in the code object. rfgraph reads none from other platforms' code.
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
