//! The paths in a file's code, read without a compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{LIBRARY, root, sources};

/// A source file: its module's path, and its code without comments and tests.
pub type Source = (Vec<String>, String);

/// The library's source files, tests left out.
pub fn library() -> Vec<Source> {
    let files = sources(LIBRARY).into_iter().filter_map(|path| {
        let name = path.strip_prefix(root()).unwrap();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let is_program = name == Path::new("src/main.rs");
        (is_rust && !is_program).then(|| (module_of(name), code_of(&fs::read_to_string(&path).unwrap())))
    });
    files.filter(|(module, _)| !module.iter().any(|part| part == "tests")).collect()
}

/// The module path of a source file: `["plan", "lower"]` for `src/plan/lower.rs`.
fn module_of(name: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        name.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path[0] == "src" {
        path.remove(0);
    }
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

/// A file's code without comments and tests.
pub fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    code.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The paths that begin with `super` or `crate`, those in braces written out.
pub fn paths(code: &str) -> Vec<Vec<String>> {
    let starts = |word: &'static str| code.match_indices(word).map(|(at, _)| at);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: &usize| !code[..*at].ends_with(|c: char| is_word(c) || c == ':');
    let mut found = Vec::new();
    for at in starts("super::").chain(starts("crate::")).filter(whole) {
        follow(&code[at..], &mut Vec::new(), &mut found);
    }
    found
}

/// Reads a path, or a tree of paths in braces, and returns the text after it.
fn follow<'c>(mut rest: &'c str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'c str {
    let depth = path.len();
    loop {
        rest = rest.trim_start();
        if let Some(mut inner) = rest.strip_prefix('{') {
            while !inner.trim_start().starts_with('}') && !inner.is_empty() {
                let before = inner;
                inner = follow(inner, path, found).trim_start();
                inner = match inner.find([',', '}']) {
                    Some(at) if inner[at..].starts_with(',') => &inner[at + 1..],
                    Some(at) => &inner[at..],
                    None => "",
                };
                if inner.len() == before.len() {
                    break;
                }
            }
            rest = inner.trim_start().strip_prefix('}').unwrap_or_default();
            break;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        path.push(rest[..end].to_string());
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(more) if !more.starts_with('<') => rest = more,
            _ => {
                found.push(path.clone());
                break;
            }
        }
    }
    path.truncate(depth);
    rest
}

/// The full path that a path in `module` stands for.
pub fn resolve(module: &[String], path: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let base = if ups == 0 { &[][..] } else { &module[..module.len().saturating_sub(ups)] };
    base.iter().chain(&path[ups.max(1)..]).cloned().collect()
}

/// The names that folders re-export from their own modules, those of a private `use` included, which children see: the
/// path as it is written → the path of the module's item. A module's own name stands for the module.
pub fn reexports(files: &[Source]) -> BTreeMap<Vec<String>, Vec<String>> {
    let modules: BTreeSet<&[String]> =
        files.iter().flat_map(|(module, _)| (1..=module.len()).map(|n| &module[..n])).collect();
    let mut found = BTreeMap::new();
    for (module, code) in files {
        for (at, _) in code.match_indices("use ") {
            let mut paths = Vec::new();
            follow(&code[at + 4..], &mut Vec::new(), &mut paths);
            for path in paths.iter().filter(|path| path.len() > 1) {
                let target: Vec<String> = module.iter().chain(path).cloned().collect();
                let name: Vec<String> = module.iter().chain(path.last()).cloned().collect();
                if modules.contains(&target[..=module.len()]) && !modules.contains(&name[..]) {
                    found.insert(name, target);
                }
            }
        }
    }
    found
}

/// The path of an item where it is defined, for a path that may go through re-exports.
pub fn defined(mut path: Vec<String>, reexports: &BTreeMap<Vec<String>, Vec<String>>) -> Vec<String> {
    while let Some((n, target)) = (1..=path.len()).find_map(|n| Some((n, reexports.get(&path[..n])?))) {
        path = target.iter().chain(&path[n..]).cloned().collect();
    }
    path
}
