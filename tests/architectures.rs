//! Every architecture against logits of another implementation for the same weights (`tests/fixtures/arch/README.md` says
//! which).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use rfgraph::graphs::TABLE;
use rfgraph::model::{Model, Session, SessionOptions};
use rfgraph::tensor::DType;

#[path = "support/inside.rs"]
mod inside;
#[path = "support/outside.rs"]
mod outside;
#[path = "support/reference.rs"]
mod reference;
use inside::inside;
use outside::outside;
use reference::{distance, ids, npy};

/// The folders of the fixtures, by name.
fn fixtures() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(inside("arch")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("model.gguf").exists()).collect();
    folders.sort();
    folders
}

/// All logits, in chunks, so that later tokens attend to a cache that earlier ones filled.
fn logits_of(file: &Path, tokens: &[u32], options: SessionOptions) -> Vec<Vec<f32>> {
    let model = Model::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut session = Session::new(&model, &SessionOptions { n_ctx: 64, ubatch: 20, ..options })
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let id = session.open().unwrap();
    let mut all = Vec::new();
    session.all_logits(id, tokens, |row| all.push(row.to_vec())).unwrap();
    all
}

fn on_cpu(cache_type: DType) -> SessionOptions {
    SessionOptions { cache_type, threads: Some(NonZeroUsize::MIN), ..SessionOptions::default() }
}

/// The files hold exactly the weights that the reference computed with, as F16, and weights of F16 are multiplied with
/// F32 activations: only the order of sums is left. Sums of a hundred F32 terms are off by some 1e-6 of their size, and a
/// handful of layers adds up some of that; a wrong activation, scale or angle moves these logits by 1e-3 at least.
#[test]
fn logits_agree_with_the_references() {
    let mut failures = Vec::new();
    for folder in fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let (tokens, wanted) = (ids(&folder.join("ids.txt")), npy(&folder.join("logits.npy")));
        let found = std::panic::catch_unwind(|| {
            distance(&logits_of(&folder.join("model.gguf"), &tokens, on_cpu(DType::F32)), &wanted)
        });
        println!("{name}: {found:?}");
        if !found.is_ok_and(|found| found.max_abs <= 1e-4) {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// What has no fixture does not count as supported.
#[test]
fn every_architecture_has_a_fixture() {
    let name_of =
        |folder: PathBuf| Model::open(folder.join("model.gguf")).unwrap().architecture_name().to_string();
    let tested: BTreeSet<String> = fixtures().into_iter().map(name_of).collect();
    let table: BTreeSet<String> = TABLE.iter().map(|row| row.name.to_string()).collect();
    assert_eq!(tested, table);
}

/// Larger random models of seven architectures, from another source.
#[test]
fn larger_models_agree_with_their_references() {
    let Some(root) = outside("fixtures/arch") else { return };
    for (name, plain, quantized) in [
        ("llama", "F16", "Q4_K_M"),
        ("qwen2", "F16", "Q4_K_M"),
        ("qwen3", "F16", "Q4_K_M"),
        ("gemma2", "F16", "Q4_K_M"),
        ("phi3", "F16", "Q4_K_M"),
        ("glm4", "F16", "Q4_K_M"),
        ("qwen3moe", "Q8_0", "Q4_K_M"),
    ] {
        let folder = root.join(name);
        let tokens = ids(&folder.join("ids.txt"));
        for dtype in [plain, quantized] {
            let (reference, limit) = match dtype {
                "F16" => ("logits.npy".to_string(), 1e-5),
                // Twice what activations of eight bits cost another implementation.
                "Q8_0" => (format!("{name}-{dtype}.dequant_ref.npy"), 5e-3),
                _ => (format!("{name}-{dtype}.dequant_ref.npy"), 1e-2),
            };
            let file = folder.join(format!("{name}-{dtype}.gguf"));
            let found =
                distance(&logits_of(&file, &tokens, on_cpu(DType::F16)), &npy(&folder.join(reference)));
            println!("{name} {dtype}: {found:?}");
            assert!(found.mean_kl <= limit, "{name} {dtype}: {found:?}");
        }
    }
}
