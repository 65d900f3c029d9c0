//! The command line: one file per subcommand.
//!
//! This folder turns arguments into library calls and results into text. Results go to standard output, everything else
//! to standard error. It computes nothing that a user of the library could not compute.

mod answer;
mod bench;
mod chat;
mod completions;
#[cfg(feature = "grammar")]
mod constraint;
mod device;
mod devices;
mod embed;
mod error;
mod graph;
mod inspect;
mod interrupt;
mod kernels;
mod logging;
mod logits;
mod logprobs;
mod man;
mod options;
mod output;
mod perplexity;
mod progress;
mod quantize;
mod remedies;
mod run;
mod run_args;
mod sampling;
#[cfg(feature = "serve")]
mod serve;
mod shift;
mod text;
mod tokenize;
mod trace;
mod unfinished;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run GGUF models on the CPU or a GPU. An experimental alpha.
#[derive(Debug, Parser)]
#[command(name = "rfgraph", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, 1 the work failed, 2 the command line is wrong, 130 interrupted.\n\
    RFGRAPH_LOG sets what is logged to standard error, such as `debug` or `rfgraph::plan=trace`."
)]
struct Cli {
    /// Log more to standard error (-vv and -vvv: still more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 1000)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run_args::RunArgs>),
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    Tokenize(tokenize::TokenizeArgs),
    Logits(logits::LogitsArgs),
    Embed(embed::EmbedArgs),
    Bench(bench::BenchArgs),
    Quantize(quantize::QuantizeArgs),
    Perplexity(perplexity::PerplexityArgs),
    Inspect(inspect::InspectArgs),
    Graph(graph::GraphArgs),
    Devices(devices::DevicesArgs),
    Kernels(kernels::KernelsArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Runs the program with the process's arguments. The exit code is 0 for success, 1 if the work failed,
/// 2 if the command line is wrong and 130 after an interrupt.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose);
    let result = match &cli.command {
        Command::Run(args) => run::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Bench(args) => bench::run(args, cli.verbose > 0),
        Command::Quantize(args) => quantize::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Graph(args) => graph::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Kernels(args) => kernels::run(args, cli.verbose > 0),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
