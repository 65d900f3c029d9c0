//! No circles of `use` between the files of one folder.
//!
//! A file knows a sibling if it names the sibling's module: `super::sibling::…`, or the same path from `crate`. Names
//! that a folder re-exports are the folder's face, which its files may use; tests are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{LIBRARY, root, sources};

/// Circles that stay, each with its reason: the folder (empty: the crate), and the siblings that may know each other.
const CIRCLES: &[(&str, &[&str], &str)] = &[
    (
        "",
        &["graphs", "model"],
        "architectures are written against `model`, whose registry begins with the table of the built-in ones",
    ),
    (
        "src/cpu/linear",
        &["avx2", "avx512", "dispatch", "float", "format", "neon", "plain", "quads"],
        "a format's `Unpacked` has one method per instruction set, an instruction set's kernels are generic over the \
         format, and `dispatch` and `float` join both at compile time; without the circle every product would call \
         through a pointer in its inner loop",
    ),
    (
        "src/text/template/python",
        &[
            "arguments",
            "filters",
            "format",
            "functions",
            "json",
            "methods",
            "operators",
            "print",
            "sequences",
            "value",
        ],
        "Python's values are defined by each other: printing a list prints its items, `==` compares them, a filter \
         calls methods, and a method formats",
    ),
    (
        "src/text/constraint/schema",
        &["placeholders", "rewrite"],
        "a placeholder's schema is rewritten in its turn, by the same rewriter",
    ),
    (
        "src/text/constraint/schema",
        &["keywords", "pointer"],
        "keywords contain references, and a reference stands beside keywords",
    ),
    (
        "src/text/answer",
        &["calls", "calls_in_python", "calls_in_tags"],
        "the two notations share the rule for a function's name with the entrance that chooses between them",
    ),
    (
        "src/text/tools",
        &["members", "probe"],
        "probing reads the members of a rendered call, and members are found by probing with values",
    ),
    (
        "src/serve",
        &["app", "ask", "body", "openai", "parts", "prompt", "request_log", "settings", "stream", "turn"],
        "`app` owns the responses that `openai` keeps, and all that reads and answers requests is given `app`",
    ),
    (
        "src/serve/llama",
        &["completion", "completion_answer"],
        "one answer, whole or in events, from one request",
    ),
    ("src/serve/openai", &["chat", "chat_stream"], "one answer, whole or in events, from one request"),
];

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
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    code.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The paths that begin with `super` or `crate`, those in braces written out.
fn paths(code: &str) -> Vec<Vec<String>> {
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
fn resolve(module: &[String], path: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let base = if ups == 0 { &[][..] } else { &module[..module.len().saturating_sub(ups)] };
    base.iter().chain(&path[ups.max(1)..]).cloned().collect()
}

/// The siblings that know each other in a circle, by folder.
fn circles(files: &[(Vec<String>, String)]) -> BTreeSet<(String, BTreeSet<String>)> {
    let modules: BTreeSet<&[String]> =
        files.iter().flat_map(|(module, _)| (1..=module.len()).map(|n| &module[..n])).collect();
    // By folder: who knows whom.
    let mut knows: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, code) in files {
        for path in paths(code) {
            let target = resolve(module, &path);
            let common = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if common < module.len() && common < target.len() && modules.contains(&target[..=common]) {
                let siblings = knows.entry(module[..common].join("/")).or_default();
                siblings.entry(module[common].clone()).or_default().insert(target[common].clone());
            }
        }
    }
    let mut circles = BTreeSet::new();
    for (folder, edges) in &knows {
        let reach = |from: &String| {
            let (mut open, mut seen) = (vec![from.clone()], BTreeSet::new());
            while let Some(file) = open.pop() {
                for next in edges.get(&file).into_iter().flatten() {
                    if seen.insert(next.clone()) {
                        open.push(next.clone());
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<&String, BTreeSet<String>> =
            edges.keys().map(|file| (file, reach(file))).collect();
        for (file, seen) in reached.iter().filter(|(file, seen)| seen.contains(**file)) {
            let back = |other: &&String| reached.get(other).is_some_and(|seen| seen.contains(*file));
            circles.insert((folder.clone(), seen.iter().filter(back).cloned().collect()));
        }
    }
    circles
}

#[test]
fn files_of_a_folder_know_each_other_one_way() {
    let files: Vec<(Vec<String>, String)> = sources(LIBRARY)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap();
            (module_of(name), code_of(&fs::read_to_string(&path).unwrap()))
        })
        .filter(|(module, _)| !module.iter().any(|part| part == "tests"))
        .collect();
    let allowed: BTreeSet<(String, BTreeSet<String>)> = CIRCLES
        .iter()
        .map(|(folder, files, _)| {
            let folder = folder.trim_start_matches("src/").to_string();
            (folder, files.iter().map(|file| file.to_string()).collect())
        })
        .collect();
    let found = circles(&files);
    let text = |circles: Vec<&(String, BTreeSet<String>)>| {
        circles.iter().map(|(folder, files)| format!("{folder}: {files:?}")).collect::<Vec<_>>().join("\n")
    };
    let (more, gone) =
        (text(found.difference(&allowed).collect()), text(allowed.difference(&found).collect()));
    assert!(
        more.is_empty(),
        "files that use each other; move the shared items into a file of their own:\n{more}"
    );
    assert!(gone.is_empty(), "circles that are no more; delete their rows:\n{gone}");
}

#[test]
fn circles_are_found_in_every_way_of_writing() {
    let file = |module: &[&str], code: &str| {
        (module.iter().map(|part| part.to_string()).collect::<Vec<_>>(), code_of(code))
    };
    let b = [
        "use super::a::X;",
        "use super::{Y, a::{self, X}};",
        "fn f() -> crate::m::a::X { make() }",
        "use crate::{k::Z, m::{c, a}};",
    ];
    for b in b {
        let files = [file(&["m", "a"], "use super::b::{self, Y};"), file(&["m", "b"], b)];
        let wanted = ("m".to_string(), ["a", "b"].map(str::to_string).into_iter().collect());
        assert_eq!(circles(&files), BTreeSet::from([wanted]), "{b}");
    }
    let nested =
        [file(&["m", "a", "x"], "use super::super::b::Y;"), file(&["m", "b"], "use super::a::x::X;")];
    assert_eq!(circles(&nested).len(), 1);
    for harmless in [
        "use super::c::X;",
        "// use super::a::X;",
        "#[cfg(test)]\nmod tests {\n    use super::super::a::X; }",
    ] {
        let files =
            [file(&["m", "a"], "use super::b::Y;"), file(&["m", "b"], harmless), file(&["m", "c"], "")];
        assert_eq!(circles(&files), BTreeSet::new(), "{harmless}");
    }
}
