//! `rfgraph bench`
use super::error::CliError;
use clap::Args;
/// Bench
#[derive(Debug, Args)]
pub(super) struct BenchArgs {}
pub(super) fn run(_args: &BenchArgs, _profile: bool) -> Result<(), CliError> {
    Ok(())
}
