//! No circles of `use` between the files of one folder.
//!
//! A file knows a sibling if it names the sibling's module: `super::sibling::…`, or the same path from `crate`. Names
//! that a folder re-exports are the folder's face, which its files may use; tests are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths::{Source, code_of, library, paths, resolve};

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
        "src/text/answer",
        &["calls", "calls_in_python", "calls_in_tags"],
        "the two notations share the rule for a function's name with the entrance that chooses between them",
    ),
    (
        "src/serve",
        &["app", "ask", "body", "openai", "parts", "prompt", "request_log", "settings", "stream", "turn"],
        "`app` owns the responses that `openai` keeps, and all that reads and answers requests is given `app`",
    ),
];

/// The siblings that know each other in a circle, by folder.
fn circles(files: &[Source]) -> BTreeSet<(String, BTreeSet<String>)> {
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
    let files = library();
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
