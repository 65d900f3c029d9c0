//! `rfgraph kernels`: the kernels that a model or the whole operator table needs, and whether they compile.

mod check;
mod child;
mod needs;
mod report;

use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use super::names::locate;
use super::output::print;
use crate::device::Target;
use crate::hip::jit::Cache;
use crate::model::Model;

/// The default of `--arch`: the targets that rfgraph supports.
const TARGETS: &str = "gfx906,gfx908,gfx90a,gfx942,gfx1030,gfx1100,gfx1101,gfx1151,gfx1200,gfx1201";

/// List GPU kernels, and compile them without a GPU
///
/// Lists every kernel, with its compile-time constants, that a model's prefill and decode plans use; without a model,
/// the kernels of every operator. --check compiles each kernel for each target, one process per target, and prints the
/// resources in the code object: registers, shared memory (LDS), scratch memory, spills. It needs ROCm's run-time
/// compiler (hipRTC), but no GPU.
#[derive(Debug, Args)]
#[command(after_help = "With --check the exit code is 1 if a kernel does not compile or spills registers.\n\
    RFGRAPH_CACHE_DIR names the folder of compiled kernels, RFGRAPH_CACHE_MIB its largest size.")]
pub(super) struct KernelsArgs {
    /// GGUF file, or name of a model [default: the kernels of every operator]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Compile the kernels
    #[arg(long)]
    check: bool,
    /// Targets, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = TARGETS, hide_default_value = true)]
    #[arg(value_parser = target, help = format!("Targets, separated by commas [default: {TARGETS}]"))]
    arch: Vec<Target>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Remove all compiled kernels from the user's cache folder and exit
    #[arg(long, conflicts_with_all = ["model", "check", "json"])]
    clear_cache: bool,
    /// Start the compiler processes through this command, such as the loader of another C library
    #[arg(long, value_name = "COMMAND", requires = "check")]
    through: Option<String>,
    /// Compile what standard input lists for this target: what --check starts.
    #[arg(long, hide = true, value_name = "ARCH", value_parser = target)]
    compile: Option<Target>,
}

fn target(text: &str) -> Result<Target, String> {
    Target::named(text).ok_or_else(|| "expected a target such as gfx1100, sm_90 or sim32".into())
}

pub(super) fn run(args: &KernelsArgs, verbose: bool) -> Result<(), CliError> {
    if args.clear_cache {
        return clear_cache();
    }
    if let Some(target) = &args.compile {
        return child::run(target);
    }
    let located = args.model.as_deref().map(locate).transpose()?;
    let model = located.map(|located| Model::open(located.path)).transpose()?;
    let needs = match &model {
        Some(model) => needs::of_model(model, &args.arch)?,
        None => needs::of_table(&args.arch),
    };
    match args.check {
        false => report::list(&needs, args.json),
        true => {
            let through = args.through.as_deref().unwrap_or_default();
            let checked = check::run(&needs, &args.arch, through)?;
            report::check(&needs, &checked, args.json, verbose)?;
            checked.verdict(&needs)
        }
    }
}

fn clear_cache() -> Result<(), CliError> {
    let Some(folder) = Cache::user_folder() else {
        return Err(CliError::Input(
            "there is no cache folder: neither HOME nor RFGRAPH_CACHE_DIR is set".into(),
        ));
    };
    let cache = Cache::new(&folder, Cache::LIMIT);
    let cleared = cache.clear();
    let (count, bytes) = cleared.map_err(|source| CliError::Path { verb: "clear", path: folder, source })?;
    let mib = bytes as f64 / f64::from(1 << 20);
    print(format!("removed {count} compiled programs, {mib:.1} MiB, from {}\n", cache.folder().display()))
}
