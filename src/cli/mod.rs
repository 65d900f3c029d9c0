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
mod doctor;
mod embed;
mod error;
mod graph;
mod inspect;
mod interrupt;
mod kernels;
#[cfg(feature = "hub")]
mod launch;
#[cfg(feature = "hub")]
mod list;
mod logging;
mod logits;
mod logprobs;
mod man;
mod names;
mod options;
mod output;
mod output_file;
mod perplexity;
mod progress;
#[cfg(feature = "hub")]
mod pull;
mod quantize;
mod remedies;
#[cfg(feature = "hub")]
mod rm;
mod run;
mod run_args;
mod sampling;
#[cfg(feature = "serve")]
mod serve;
mod shift;
#[cfg(feature = "hub")]
mod show;
mod spellings;
mod text;
mod tokenize;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Run GGUF models on the CPU or a GPU. An experimental alpha.
#[derive(Debug, Parser)]
#[command(name = "rfgraph", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, 1 the work failed, 2 the command line is wrong, 130 interrupted.\n\
    Each option can be set by a variable of the environment: --cache-type by RFGRAPH_CACHE_TYPE.\n\
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
    #[command(mut_arg("model", |model| model.help(serve::MODEL).long_help(None)))]
    Serve(Box<serve::ServeArgs>),
    #[cfg(feature = "hub")]
    Pull(pull::PullArgs),
    #[cfg(feature = "hub")]
    List(list::ListArgs),
    #[cfg(feature = "hub")]
    Show(show::ShowArgs),
    #[cfg(feature = "hub")]
    Rm(rm::RmArgs),
    Tokenize(tokenize::TokenizeArgs),
    Logits(logits::LogitsArgs),
    Embed(embed::EmbedArgs),
    Bench(bench::BenchArgs),
    Quantize(quantize::QuantizeArgs),
    Perplexity(perplexity::PerplexityArgs),
    Inspect(inspect::InspectArgs),
    Graph(graph::GraphArgs),
    Devices(devices::DevicesArgs),
    Doctor(doctor::DoctorArgs),
    #[cfg(feature = "hub")]
    Launch(launch::LaunchArgs),
    Kernels(kernels::KernelsArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Runs the program with the process's arguments. The exit code is 0 for success, 1 if the work failed,
/// 2 if the command line is wrong and 130 after an interrupt.
pub fn main() -> ExitCode {
    let command = spellings::with_variables(Cli::command());
    let args = spellings::translate(std::env::args_os()).into_iter();
    let matches = command.get_matches_from(names::spell_out(args, &Cli::command()));
    // The command that parsed the arguments made the matches.
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    logging::start(cli.verbose);
    let result = match &cli.command {
        Command::Run(args) => run::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::run(args),
        #[cfg(feature = "hub")]
        Command::List(args) => list::run(args),
        #[cfg(feature = "hub")]
        Command::Show(args) => show::run(args),
        #[cfg(feature = "hub")]
        Command::Rm(args) => rm::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Bench(args) => bench::run(args, cli.verbose > 0),
        Command::Quantize(args) => quantize::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Graph(args) => graph::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Doctor(args) => doctor::run(args),
        #[cfg(feature = "hub")]
        Command::Launch(args) => launch::run(args),
        Command::Kernels(args) => kernels::run(args, cli.verbose > 0),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
