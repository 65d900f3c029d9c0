//! Every architecture, compared with another implementation's logits for the same weights;
//! `tests/fixtures/arch/README.md` lists the implementations.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use rfgraph::graphs::TABLE;
use rfgraph::model::{CacheTypes, MemoryNeed, Model, Session, SessionOptions};
use rfgraph::tensor::DType;

use crate::support::architectures::{Fixture, all_fixtures, fixtures, logits_of};
use crate::support::outside::outside;
use crate::support::reference::{distance, ids, npy};

fn on_cpu(cache: DType) -> SessionOptions {
    SessionOptions {
        ubatch: Some(20),
        cache_types: CacheTypes::both(cache),
        threads: Some(NonZeroUsize::MIN),
        ..SessionOptions::default()
    }
}

/// The files hold exactly the weights of the reference, as F16, and F16 weights are multiplied with F32 activations:
/// only the order of sums differs. A sum of a hundred F32 terms is off by about 1e-6 of its size, and a handful of
/// layers adds up some of that; a wrong activation, scale or angle moves these logits by at least 1e-3. Where
/// activations of eight bits meet blocks of 32, the mean may be twice what they cost llama.cpp.
#[test]
fn logits_agree_with_the_references() {
    let mut failures = Vec::new();
    for fixture in fixtures() {
        let found = fixture.distance(on_cpu(DType::F32));
        println!("{}: {found:?}", fixture.name);
        let limits = if fixture.is_quantized() { (5e-3, f64::MAX) } else { (1e-9, 1e-4) };
        let near = found.mean_kl <= limits.0 && found.max_abs <= limits.1;
        if !near {
            failures.push((fixture.name, found));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// An architecture without a fixture is not supported.
#[test]
fn every_architecture_has_a_fixture() {
    let name_of = |fixture: Fixture| fixture.model().architecture_name().to_string();
    let tested: BTreeSet<String> = fixtures().into_iter().map(name_of).collect();
    let table: BTreeSet<String> = TABLE.iter().map(|row| row.name.to_string()).collect();
    let missing: Vec<_> = table.difference(&tested).collect();
    assert!(missing.is_empty(), "without a fixture in tests/fixtures/arch: {missing:?}");
}

/// Their fixtures wait for them.
#[test]
fn files_of_later_architectures_are_refused_by_name() {
    let (_, later) = all_fixtures();
    assert!(!later.is_empty(), "then this test goes");
    for fixture in later {
        let error = Model::open(fixture.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{}`", fixture.architecture())), "{}: {error}", fixture.name);
    }
}

/// A position beyond the learned vectors would read a row of something else.
#[test]
fn learned_positions_bound_the_context() {
    let fixture = fixtures().into_iter().find(|fixture| fixture.name == "gpt2").unwrap();
    let model = fixture.model();
    let n = model.architecture().shape().n_ctx_train;
    let open = |n_ctx| Session::new(&model, &SessionOptions { n_ctx, ..on_cpu(DType::F16) });
    assert!(open(n).is_ok());
    let error = open(n + 1).unwrap_err().to_string();
    assert!(
        error.contains(&format!("the {n} positions")) && error.contains(&format!("at most {n}")),
        "{error}"
    );
    let options = SessionOptions { n_ctx: n + 1, ..on_cpu(DType::F16) };
    assert_eq!(MemoryNeed::of(&model, &options).unwrap_err().to_string(), error);
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
            // For quantized files: twice what activations of eight bits cost llama.cpp. One token of the mixture of
            // experts is near a boundary of the router and goes to another expert, in both.
            let limit = match (name, dtype) {
                (_, "F16") => 1e-5,
                ("qwen3moe", "Q8_0") => 2.0 * 0.0074,
                ("qwen3moe", _) => 2.0 * 0.0128,
                _ => 2.0 * 5e-3,
            };
            let reference = match dtype {
                "F16" => "logits.npy".to_string(),
                _ => format!("{name}-{dtype}.dequant_ref.npy"),
            };
            let model = Model::open(folder.join(format!("{name}-{dtype}.gguf"))).unwrap();
            let options = SessionOptions { n_ctx: 64, ubatch: Some(20), ..on_cpu(DType::F16) };
            let found = distance(&logits_of(&model, &tokens, &options), &npy(&folder.join(reference)));
            println!("{name} {dtype}: {found:?}");
            assert!(found.mean_kl <= limit, "{name} {dtype}: {found:?}");
        }
    }
}
