//! `rfgraph man`: the manual pages.

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::error::CliError;
use super::output::print_bytes;

/// Print a manual page
#[derive(Debug, Args)]
#[command(after_help = "Example: rfgraph man run | man -l -")]
pub(super) struct ManArgs {
    /// Command to document [default: rfgraph itself]
    command: Option<String>,
}

pub(super) fn run(args: &ManArgs) -> Result<(), CliError> {
    let mut rfgraph = super::Cli::command();
    rfgraph.build();
    let page = match &args.command {
        None => rfgraph,
        Some(name) => {
            let found = rfgraph.find_subcommand(name).cloned();
            found
                .ok_or_else(|| CliError::Usage(format!("there is no command `{name}`; see rfgraph --help")))?
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    print_bytes(&text)
}
