//! `rfgraph completions`: a script that completes rfgraph's options in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::error::CliError;
use super::output::print_bytes;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Example: rfgraph completions bash > ~/.local/share/bash-completion/completions/rfgraph"
)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "rfgraph", &mut script);
    print_bytes(&script)
}
