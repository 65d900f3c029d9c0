//! Dependencies between folders point one way.
//!
//! A file knows a folder if a path in its code leads there: `crate::folder::…` alone or in braces, the same path from
//! `super`, or a name that the crate's root or the folder above re-exports. Tests are not looked at.

use std::collections::BTreeSet;
use std::fs;

use crate::paths::{Source, code_of, defined, library, paths, reexports, resolve};
use crate::root;

/// The folders that each folder may know. `hip` is used by `exec` and `model` only, of the folders above it; `graphs`
/// uses the public API, which is checked by compiling [`graphs`](crate::graphs) outside of the crate.
const FOLDERS: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("gguf", &["tensor"]),
    ("device", &["tensor"]),
    ("cpu", &["tensor"]),
    ("hip", &["tensor", "device"]),
    ("text", &["gguf"]),
    ("graph", &["tensor", "cpu", "device"]),
    ("ops", &["tensor", "cpu", "device", "graph"]),
    ("plan", &["tensor", "cpu", "device", "graph", "ops"]),
    ("exec", &["tensor", "cpu", "device", "hip", "graph", "ops", "plan"]),
    (
        "model",
        &[
            "tensor", "gguf", "cpu", "device", "hip", "graph", "ops", "plan", "exec", "text", "sampling",
            "graphs",
        ],
    ),
    ("model/state", &["ops", "tensor"]),
    ("model/file", &["gguf", "tensor", "exec"]),
    ("model/build", &["gguf", "tensor", "graph", "ops"]),
    ("model/session", &["cpu", "device", "hip", "graph", "plan", "exec"]),
    ("sampling", &["text"]),
    ("engine", &["model", "sampling", "text"]),
    ("serve", &["engine", "model", "sampling", "text"]),
    ("hub", &["gguf", "sampling"]),
    ("quantize", &["tensor", "gguf", "cpu", "sampling", "model"]),
    ("graphs", &["tensor", "graph", "ops", "model"]),
];

/// The modules of `model`: each may know some of those above it.
const MODEL: &[(&str, &[&str])] = &[
    ("output", &[]),
    ("error", &["output"]),
    ("state", &["error"]),
    ("file", &["error"]),
    ("build", &["output", "error", "state", "file"]),
    ("architecture", &["error", "file", "build"]),
    ("opened", &["error", "file", "architecture"]),
    ("suggested", &["opened"]),
    ("session", &["output", "error", "state", "file", "build", "architecture", "opened"]),
];

/// True if `module` is below `folder`, a path with slashes.
fn is_below(module: &[String], folder: &str) -> bool {
    let parts: Vec<&str> = folder.split('/').collect();
    module.len() >= parts.len() && parts.iter().zip(module).all(|(part, own)| part == own)
}

/// The paths in a file's code, each to the item where it is defined.
fn targets(files: &[Source]) -> Vec<(&Vec<String>, BTreeSet<Vec<String>>)> {
    let reexports = reexports(files);
    let of = |(module, code): &Source| {
        paths(code).iter().map(|path| defined(resolve(module, path), &reexports)).collect()
    };
    files.iter().map(|file| (&file.0, of(file))).collect()
}

/// Lists the paths by which a folder's files use folders that its row does not allow.
fn against_folders(files: &[Source], all: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (module, targets) in targets(files) {
        for (folder, may) in FOLDERS.iter().filter(|(folder, _)| is_below(module, folder)) {
            let forbidden = |target: &&Vec<String>| {
                let other = &target[0];
                // The empty name is that of `crate::*`.
                let is_folder = all.contains(other) || other.is_empty();
                is_folder && *other != module[0] && !may.contains(&other.as_str())
            };
            let what = |target: &Vec<String>| {
                format!("{}: {folder} may not know {}", module.join("/"), target.join("::"))
            };
            found.extend(targets.iter().filter(forbidden).map(what));
        }
    }
    found
}

/// Lists the paths by which modules of `model` use modules that their rows do not allow.
fn against_model(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for (module, targets) in targets(files) {
        let Some(own) = module.get(1).filter(|_| module[0] == "model") else { continue };
        let Some((_, may)) = MODEL.iter().find(|(name, _)| name == own) else {
            found.push(format!("model/{own}: no row says which modules of `model` it may know"));
            continue;
        };
        for target in targets.iter().filter(|target| target.len() > 1 && target[0] == "model") {
            if target[1] != *own && !may.contains(&target[1].as_str()) {
                found.push(format!("{}: {own} may not know {}", module.join("/"), target.join("::")));
            }
        }
    }
    found
}

fn folders() -> Vec<String> {
    let folders = fs::read_dir(root().join("src")).unwrap().map(Result::unwrap);
    let folders = folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    folders.map(|name| name.into_string().unwrap()).chain(["graphs".to_string()]).collect()
}

#[test]
fn dependencies_point_one_way() {
    let all = folders();
    let has_row = |name: &String| FOLDERS.iter().any(|(folder, _)| folder == name);
    let unknown: Vec<&String> = all.iter().filter(|name| *name != "cli" && !has_row(name)).collect();
    assert!(unknown.is_empty(), "no row says what these folders may know: {unknown:?}");
    let found = against_folders(&library(), &all);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn modules_of_model_know_those_before_them() {
    for (i, (name, may)) in MODEL.iter().enumerate() {
        let before = |other: &&str| MODEL[..i].iter().any(|(name, _)| name == other);
        assert!(may.iter().all(before), "{name} may know a module that comes after it");
    }
    let found = against_model(&library());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn dependencies_are_found_in_every_way_of_writing() {
    let file = |module: &[&str], code: &str| {
        (module.iter().map(|part| part.to_string()).collect::<Vec<_>>(), code_of(code))
    };
    let all = ["tensor", "model"].map(str::to_string);
    let with = |code: &str| {
        [
            file(&[], "pub mod model;\npub mod tensor;\npub use model::{Session, Rows};"),
            file(&["model"], "mod file;\nmod state;\npub use file::Keys;\npub use state::{States, Rewind};"),
            file(&["model", "file"], "pub struct Keys;"),
            file(&["model", "state"], "pub struct States;"),
            file(&["tensor"], "mod dtype;"),
            file(&["tensor", "dtype"], code),
        ]
    };
    for code in [
        "use crate::model::Session;",
        "use crate::{model::Session};",
        "use crate::{\n    tensor::{Shape, DType},\n    model::Session,\n};",
        "use super::super::model;",
        "fn f() -> crate::model::Session { make() }",
        "use crate::Session;",
        "use crate::{Shape, Session};",
        "use super::super::Session;",
        "fn f() -> crate::Session { make() }",
        "use crate::*;",
    ] {
        assert_eq!(against_folders(&with(code), &all).len(), 1, "{code}");
    }
    for harmless in [
        "use crate::tensor::Shape;",
        "// use crate::Session;",
        "use super::model::Session;",
        "#[cfg(test)]\nmod tests {\n    use crate::Session; }",
    ] {
        assert_eq!(against_folders(&with(harmless), &all), [""; 0], "{harmless}");
    }

    let in_file = |code: &str| {
        let mut files = with("");
        files[2].1 = code_of(code);
        files
    };
    for code in [
        "use super::state::States;",
        "use super::Rewind;",
        "use crate::model::{Keys, States};",
        "use crate::{model::{States as S, Keys}};",
    ] {
        assert_eq!(against_model(&in_file(code)).len(), 1, "{code}");
    }
    for harmless in ["use super::Keys;", "use crate::model::Keys;", "use super::error::ModelError;"] {
        assert_eq!(against_model(&in_file(harmless)), [""; 0], "{harmless}");
    }
}
