//! The program's help, version, completions and manual pages.

use std::process::{Command, Output};

const COMMANDS: [&str; 20] = [
    "run",
    "serve",
    "pull",
    "list",
    "show",
    "rm",
    "tokenize",
    "logits",
    "embed",
    "bench",
    "quantize",
    "perplexity",
    "inspect",
    "graph",
    "kernels",
    "devices",
    "doctor",
    "launch",
    "completions",
    "man",
];

fn rfgraph(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rfgraph"));
    command.args(args).env_remove("COLUMNS").env_remove("RFGRAPH_LOG").output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = rfgraph(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!(stdout(&["--help"]));
}

#[test]
fn help_of_each_command() {
    for command in COMMANDS {
        insta::assert_snapshot!(format!("help_{command}"), stdout(&[command, "--help"]));
    }
}

#[test]
fn each_shell_has_completions_for_each_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
        assert!(script.contains("cache-type"), "{shell} does not know an option of run");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    assert!(stdout(&["man"]).starts_with(".ie"), "no roff");
    for command in COMMANDS {
        let page = stdout(&["man", command]);
        assert!(page.contains(&format!(".TH rfgraph-{command} 1")), "{command}: {page}");
    }
    assert_eq!(rfgraph(&["man", "nothing"]).status.code(), Some(2));
}

#[test]
fn version_equals_the_package_version() {
    assert_eq!(stdout(&["--version"]), concat!("rfgraph ", env!("CARGO_PKG_VERSION"), "\n"));
}
