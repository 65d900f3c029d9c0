//! House rules that a compiler does not check.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod circles;
mod order;
mod paths;

// The modules that a user's crate has, and no more; `graphs` finds them under the names that they have in the library.
use rfgraph::{graph, model, ops, tensor};

/// The models, compiled outside of the library: they may use its public API only.
#[path = "../../graphs/mod.rs"]
#[allow(dead_code, unused_imports, reason = "that it compiles is the test")]
mod graphs;

use std::fs;
use std::path::{Path, PathBuf};

/// The largest number of lines of a source file.
const MAX_LINES: usize = 600;

/// Places outside of tests that may panic, each with its reason.
const MAY_PANIC: &[(&str, &str)] = &[
    // The body of the fuzz target, which reports by a panic.
    ("gguf/check.rs", "unwrap_or_else(|"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Source files below these folders.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target" && name != "corpus") {
                    open.push(path);
                }
            } else if matches!(extension, Some("rs" | "hip" | "h" | "py" | "sh")) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn complaints(folders: &[&str], complain: impl Fn(&Path, &str) -> Vec<String>) {
    let mut all = Vec::new();
    for path in sources(folders) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_path_buf();
        all.extend(complain(&name, &text).into_iter().map(|what| format!("{}: {what}", name.display())));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

const EVERYWHERE: &[&str] = &["src", "graphs", "kernels", "tests", "benches", "examples", "fuzz", "tools"];
const LIBRARY: &[&str] = &["src", "graphs"];

#[test]
fn files_have_at_most_600_lines() {
    complaints(EVERYWHERE, |_, text| match text.lines().count() {
        n if n > MAX_LINES => vec![format!("{n} lines; {MAX_LINES} is the most")],
        _ => vec![],
    });
}

#[test]
fn unfinished_places_name_their_issue() {
    // Split in two parts, so that this file has no mark.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["to", "do!("].concat()];
    complaints(EVERYWHERE, |_, text| {
        let marked =
            |line: &&str| marks.iter().any(|mark| line.contains(mark.as_str())) && !line.contains('#');
        text.lines().filter(marked).map(|line| format!("no issue is named: {}", line.trim())).collect()
    });
}

#[test]
fn nothing_waits_for_a_whole_device() {
    let calls = ["hip", "cuda"].map(|api| format!("{api}Device{}", "Synchronize"));
    complaints(EVERYWHERE, |_, text| {
        calls.iter().filter(|call| text.contains(*call)).map(|call| format!("calls {call}")).collect()
    });
}

#[test]
fn only_tests_may_panic() {
    let panics = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "unimplemented!("];
    complaints(LIBRARY, |name, text| {
        // A file's tests are its last part.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
        let is_test =
            name.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
                || name.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_tests"));
        let allowed = |line: &str| {
            line.trim_start().starts_with("//")
                || MAY_PANIC.iter().any(|(file, what)| name.ends_with(file) && line.contains(what))
        };
        code.lines()
            .filter(|line| !is_test && panics.iter().any(|panic| line.contains(panic)) && !allowed(line))
            .map(|line| format!("may panic: {}", line.trim()))
            .collect()
    });
}

/// A folder's first page says what it is for, in a sentence or more. Folders of tests need none.
#[test]
fn folders_state_their_purpose() {
    let pages: Vec<PathBuf> = sources(LIBRARY).into_iter().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(
        pages.iter().any(|page| page.ends_with("src/model/session/mod.rs")),
        "nested folders are looked at"
    );
    for page in pages.iter().filter(|page| !page.iter().any(|part| part == "tests")) {
        let text = fs::read_to_string(page).unwrap();
        let says = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
        let says = says.collect::<Vec<_>>().join(" ");
        let is_sentence = says.contains('.') && says.len() >= 40;
        assert!(is_sentence, "{} opens without a sentence on what it is for: {says}", page.display());
    }
}

/// Errors give `Remedy`s; only the command line knows its options. `hip` speaks to compilers in theirs, and the
/// parameters of `sampling` are options by design.
#[test]
fn library_names_no_command_line_options() {
    let folders = [
        "src/tensor",
        "src/gguf",
        "src/device",
        "src/cpu",
        "src/graph",
        "src/ops",
        "src/plan",
        "src/exec",
        "src/text",
        "src/model",
        "src/engine",
        "src/serve",
        "src/hub",
        "src/quantize",
        "graphs",
    ];
    let names_option = |line: &str| {
        let long = line.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        long || line.contains("(-c") || line.contains(" -c ") || line.contains(" -c;")
    };
    complaints(&folders, |_, text| {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.filter(|line| names_option(line))
            .map(|line| format!("names an option: {}", line.trim()))
            .collect()
    });
}

/// The table is compiled twice: in the library, and here.
#[test]
fn graphs_are_written_against_the_public_api() {
    let names = |table: &[model::ArchitectureRow]| table.iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(graphs::TABLE), names(rfgraph::graphs::TABLE));
}
