//! Other spellings of options: variables of the environment, and llama.cpp's short names.

use std::ffi::OsString;

use clap::{Arg, Command};

/// llama.cpp's options of one hyphen and several letters, which are no bundles of short options.
const LLAMA: &[(&str, &str)] = &[("-np", "--parallel"), ("-ngl", "--gpu-layers"), ("-ub", "--ubatch")];

/// The arguments with llama.cpp's names replaced.
pub(super) fn translate(args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    args.map(|arg| match LLAMA.iter().find(|(theirs, _)| arg == *theirs) {
        Some((_, ours)) => ours.into(),
        None => arg,
    })
}

/// The command with a variable of the environment for each of its options: `RFGRAPH_PORT` for `--port`.
pub(super) fn with_variables(command: Command) -> Command {
    command.mut_subcommands(|command| {
        command.mut_args(|arg| match variable(&arg) {
            Some(name) => arg.env(name).hide_env(true),
            None => arg,
        })
    })
}

/// The variable of an option; none for positional arguments, `--help` and its like.
fn variable(arg: &Arg) -> Option<String> {
    let long = arg.get_long().filter(|long| !["help", "version", "verbose"].contains(long))?;
    Some(format!("RFGRAPH_{}", long.replace('-', "_").to_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_names_are_translated() {
        let given = ["serve", "-np", "4", "-ngl", "0", "-n", "5", "np"].map(OsString::from);
        let translated: Vec<OsString> = translate(given.into_iter()).collect();
        assert_eq!(translated, ["serve", "--parallel", "4", "--gpu-layers", "0", "-n", "5", "np"]);
    }
}
