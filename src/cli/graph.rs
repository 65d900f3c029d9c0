//! `rfgraph graph`: the plan compiled from a model's graph.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::device::DeviceArg;
use super::error::CliError;
use super::options::{CacheArgs, ContextArg, ModelArg, ThreadsArg, one_or_more};
use super::output::{print, write_file};
use super::output_file::refuse_target;
use crate::model::{CacheLayout, ModelError};
use crate::plan::{DeviceDesc, Plan, compile};

/// Show the plan of a model's graph
///
/// Per step: operator, shapes, memory read and written, events waited for, bytes and flops. Then the totals and the
/// size of the arena. One token gives a decode plan; more tokens give the plan of a prompt's chunk (a ubatch of --tokens),
/// with logits for the last token.
#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Batch size in tokens
    #[arg(long, value_name = "N", default_value = "1", value_parser = one_or_more)]
    tokens: NonZeroUsize,
    /// Decode one token for each of N sequences
    #[arg(short, long, value_name = "N", conflicts_with = "tokens", value_parser = one_or_more)]
    sequences: Option<NonZeroUsize>,
    /// The plan of --deterministic: each sequence has the same bits alone and in any batch
    #[arg(long)]
    deterministic: bool,
    #[command(flatten)]
    ctx: ContextArg,
    #[command(flatten)]
    threads: ThreadsArg,
    #[command(flatten)]
    cache: CacheArgs,
    /// Device to compile for: cpu, hip, hip:N, or auto (the device that `run` would use)
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceArg,
    /// Output format
    #[arg(long, default_value = "text")]
    format: Format,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The steps in their order
    Text,
    /// A self-contained page for a browser: graph, steps, a picture of the arena
    Html,
    /// A graph for Graphviz
    Dot,
    /// The plan in the library's serialized form
    Json,
}

pub(super) fn run(args: &GraphArgs) -> Result<(), CliError> {
    let model = args.model.open()?;
    if let Some(output) = &args.output {
        refuse_target("-o", output, model.gguf().paths())?;
    }
    let n_ctx = args.ctx.size(model.architecture().shape().n_ctx_train, &args.model);
    let (n_sequences, n_rows) = match args.sequences {
        Some(n) => (n.get(), n.get()),
        None => (1, args.tokens.get()),
    };
    let layout = CacheLayout::new(n_ctx, n_sequences)?;
    let graph = model.graph(n_rows, n_sequences, layout, args.cache.types())?;
    let (_, gpu) = args.device.open(&model)?;
    let device = gpu.map_or_else(
        || DeviceDesc::cpu(args.threads.count().get()),
        |context| DeviceDesc::hip(context.target().clone()),
    );
    let device = device.with_deterministic(args.deterministic);
    let plan = compile(&graph, &device).map_err(ModelError::from)?;
    let title = match (args.sequences, n_rows) {
        (Some(n), _) => format!("{}, 1 token of each of {n} sequences", args.model.label()),
        (None, 1) => format!("{}, 1 token", args.model.label()),
        (None, n) => format!("{}, {n} tokens", args.model.label()),
    };
    match args.format {
        Format::Text => write(args, &plan),
        Format::Html => write(args, plan.page(&title)),
        Format::Dot => write(args, plan.dot()),
        Format::Json => write(args, Pretty(&plan)),
    }
}

/// Writes the plan to the requested output.
fn write(args: &GraphArgs, shown: impl fmt::Display) -> Result<(), CliError> {
    match &args.output {
        None => print(shown),
        Some(path) => write_file(path, |file| write!(file, "{shown}")),
    }
}

/// The plan as JSON, with a final newline.
struct Pretty<'p>(&'p Plan);

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string_pretty(self.0).map_err(|_| fmt::Error)?;
        writeln!(f, "{json}")
    }
}
