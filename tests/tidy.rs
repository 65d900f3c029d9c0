//! House rules that a compiler does not check.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a source file.
const MAX_LINES: usize = 600;

/// Places outside of tests that may panic, each with its reason.
const MAY_PANIC: &[(&str, &str)] = &[
    // The body of the fuzz target: a panic is how it reports.
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
fn files_are_about_one_thing() {
    complaints(EVERYWHERE, |_, text| match text.lines().count() {
        n if n > MAX_LINES => vec![format!("{n} lines; {MAX_LINES} is the most")],
        _ => vec![],
    });
}

#[test]
fn unfinished_places_name_their_issue() {
    // Spelt in two parts, so that this file is clean.
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
        // By the house's custom, a file's tests are its last part.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
        let is_test =
            name.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
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

#[test]
fn folders_say_what_they_are_for() {
    for entry in fs::read_dir(root().join("src")).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            let text = fs::read_to_string(entry.path().join("mod.rs")).unwrap();
            assert!(
                text.starts_with("//! "),
                "{} opens without a word on what it is for",
                entry.path().display()
            );
        }
    }
}

/// Who may know whom: `tensor ← cpu, hip ← graph ← ops ← plan ← exec ← model ← cli`; `gguf` knows only
/// `tensor`, `text` knows only `gguf`.
#[test]
fn dependencies_point_one_way() {
    let knows: &[(&str, &[&str])] = &[
        ("tensor", &[]),
        ("gguf", &["tensor"]),
        ("cpu", &["tensor"]),
        ("hip", &["tensor"]),
        ("text", &["gguf"]),
        ("graph", &["tensor", "cpu", "hip"]),
        ("ops", &["tensor", "cpu", "hip", "graph"]),
        ("plan", &["tensor", "cpu", "hip", "graph", "ops"]),
        ("exec", &["tensor", "cpu", "hip", "graph", "ops", "plan"]),
        ("model", &["tensor", "cpu", "hip", "graph", "ops", "plan", "exec", "gguf", "text", "graphs"]),
    ];
    let all =
        ["tensor", "gguf", "cpu", "hip", "text", "graph", "ops", "plan", "exec", "model", "cli", "graphs"];
    for (folder, may) in knows {
        complaints(&[&format!("src/{folder}")], |_, text| {
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
            let forbidden = all.iter().filter(|other| *other != folder && !may.contains(other));
            let uses = |other: &str| {
                let path = format!("crate::{other}");
                let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                code.clone().any(|line| {
                    line.split(&path).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
                })
            };
            forbidden.filter(|other| uses(other)).map(|other| format!("knows crate::{other}")).collect()
        });
    }
}
