//! Other spellings of options: variables of the environment, and llama.cpp's short names.

use std::ffi::OsString;

use clap::{Arg, Command};

/// llama.cpp's options of one hyphen and several letters, which are no bundles of short options.
const LLAMA: &[(&str, &str)] = &[
    ("-np", "--parallel"),
    ("-ngl", "--gpu-layers"),
    ("-ub", "--ubatch"),
    ("-cb", "--cont-batching"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
];

/// The arguments with llama.cpp's names replaced.
pub(super) fn translate(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let is_option = |arg: &OsString| arg.to_string_lossy().starts_with('-');
    let mut args = args.peekable();
    let mut translated: Vec<OsString> = Vec::new();
    while let Some(arg) = args.next() {
        let command = translated.iter().skip(1).find(|arg| !is_option(arg));
        let names_model =
            command.is_some_and(|command| command != "launch") && (arg == "-m" || arg == "--model");
        // The model is an argument without a name here.
        if names_model && args.peek().is_some_and(|next| !is_option(next)) {
            continue;
        }
        let ours = LLAMA.iter().find(|(theirs, _)| arg == *theirs).map(|(_, ours)| ours.into());
        translated.push(ours.unwrap_or(arg));
    }
    translated
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
        let translated = |given: &[&str]| translate(given.iter().map(OsString::from));
        let given = ["rfgraph", "serve", "-np", "4", "-ngl", "0", "-n", "5", "np"];
        assert_eq!(
            translated(&given),
            ["rfgraph", "serve", "--parallel", "4", "--gpu-layers", "0", "-n", "5", "np"]
        );
        assert_eq!(
            translated(&["rfgraph", "run", "-m", "a.gguf", "-p", "x"]),
            ["rfgraph", "run", "a.gguf", "-p", "x"]
        );
        // An option of its own in `launch`, and an error without a model.
        for given in ["rfgraph launch --model m", "rfgraph -v launch --model m", "rfgraph run -m -p"] {
            let given: Vec<&str> = given.split(' ').collect();
            assert_eq!(translated(&given), given);
        }
    }
}
