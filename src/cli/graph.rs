//! `rfgraph graph`: the plan that a model's graph is compiled to.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};

use super::device::DeviceArg;
use super::error::CliError;
use super::options::{CacheArgs, ContextArg, ModelArg, ThreadsArg};
use super::output::{print, print_json};
use crate::model::{CacheLayout, ModelError};
use crate::plan::{DeviceDesc, compile};

/// Show the plan that a model is compiled to
///
/// For each step: its operator, shapes, where it reads and writes, what it waits for, bytes and flops.
/// Then totals and the size of the arena. One token is a decode plan; more are a prefill plan, of whose
/// tokens the last one's logits are wanted.
#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Tokens in a batch
    #[arg(long, value_name = "N", default_value = "1")]
    tokens: NonZeroUsize,
    #[command(flatten)]
    ctx: ContextArg,
    #[command(flatten)]
    threads: ThreadsArg,
    #[command(flatten)]
    cache: CacheArgs,
    /// The device that the plan is for: cpu, hip, hip:N, or auto (a GPU if there is one)
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceArg,
    /// How to show it
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for each step
    Text,
    /// A drawing for Graphviz
    Dot,
    /// The plan as the library reads and writes it
    Json,
}

pub(super) fn run(args: &GraphArgs) -> Result<(), CliError> {
    let model = args.model.open()?;
    let n_ctx = args.ctx.size(model.architecture().shape().n_ctx_train);
    let layout = CacheLayout::new(n_ctx, 1)?;
    let graph = model.graph(args.tokens.get(), 1, layout, args.cache.types())?;
    let device = args.device.open()?.map_or_else(
        || DeviceDesc::cpu(args.threads.count().get()),
        |context| DeviceDesc::hip(context.target().clone()),
    );
    let plan = compile(&graph, &device).map_err(ModelError::from)?;
    match args.format {
        Format::Text => print(&plan),
        Format::Dot => print(plan.dot()),
        Format::Json => print_json(&plan),
    }
}
