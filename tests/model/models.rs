//! Whole models against reference logits and known answers.

use std::num::NonZeroUsize;

use rfgraph::model::{CacheTypes, Model, Session, SessionOptions};
use rfgraph::tensor::DType;

use crate::support::demo::greedy;
use crate::support::inside::inside;
use crate::support::outside::outside;
use crate::support::reference::{LLAMA_F16_KL, LLAMA_Q4_K_M_KL, demo_distance, distance, ids, npy};

/// One thread: tests run side by side, and threads of one step would wait for each other's cores.
fn options() -> SessionOptions {
    SessionOptions { n_ctx: 512, threads: Some(NonZeroUsize::MIN), ..SessionOptions::default() }
}

fn logits_of(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut session = Session::new(model, &options()).unwrap();
    let id = session.open().unwrap();
    let mut all = Vec::new();
    session.all_logits(id, tokens, |row| all.push(row.to_vec())).unwrap();
    assert_eq!(all.len(), tokens.len());
    all
}

#[test]
fn demo_logits_agree_with_the_reference() {
    let model = Model::demo().unwrap();
    let found = demo_distance(|tokens| logits_of(&model, tokens));
    println!("built in, Q8_0: {found:?}");
    assert!(found.mean_kl <= 1e-4, "{found:?}");
    for (name, mean_kl, max_abs) in [("f16", 1e-8, 0.02), ("Q4_K_M", 5e-4, f64::MAX)] {
        let Some(path) = outside(&format!("demo/demo-{name}.gguf")) else { return };
        let model = Model::open(&path).unwrap();
        let found = demo_distance(|tokens| logits_of(&model, tokens));
        println!("demo {name}: {found:?}");
        assert!(found.mean_kl <= mean_kl && found.max_abs <= max_abs, "{name}: {found:?}");
    }
}

/// A trained model of 260 thousand weights (karpathy/tinyllamas, MIT), F32, SentencePiece.
#[test]
fn stories_follow_greedily() {
    let model = Model::open(inside("stories260K/stories260K-F32.gguf")).unwrap();
    let prompt = ids(&inside("stories260K/stories260K.ids.txt"));
    let wanted = ids(&inside("stories260K/stories260K.greedy200.txt"));
    let mut session = Session::new(&model, &options()).unwrap();
    let id = session.open().unwrap();
    let mut next = greedy(session.prefill(id, &prompt).unwrap());
    let mut found = Vec::new();
    while found.len() < wanted.len() {
        found.push(next);
        next = greedy(session.decode(&[(id, next)]).unwrap().row(0));
    }
    assert_eq!(found, wanted);
}

/// F32 weights and an F32 cache leave only the order of sums: 1e-3 of a logit at most.
#[test]
fn stories_logits_agree_with_the_reference() {
    let model = Model::open(inside("stories260K/stories260K-F32.gguf")).unwrap();
    let prompt = ids(&inside("stories260K/stories260K.ids.txt"));
    let mut session =
        Session::new(&model, &SessionOptions { cache_types: CacheTypes::both(DType::F32), ..options() })
            .unwrap();
    let id = session.open().unwrap();
    let mut all = Vec::new();
    session.all_logits(id, &prompt, |row| all.push(row.to_vec())).unwrap();
    let found = distance(&all, &npy(&inside("stories260K/stories260K.logits.npy")));
    println!("stories F32: {found:?}");
    assert!(found.max_abs <= 1e-3, "{found:?}");
}

#[test]
fn random_llama_agrees_with_its_references() {
    let folder = inside("llama");
    let tokens = ids(&folder.join("ids.txt"));
    let run = |file: &str| logits_of(&Model::open(folder.join(file)).unwrap(), &tokens);
    let f16 = distance(&run("llama-F16.gguf"), &npy(&folder.join("logits.npy")));
    println!("llama F16: {f16:?}");
    assert!(f16.mean_kl <= LLAMA_F16_KL, "{f16:?}");
    let q4 = distance(&run("llama-Q4_K_M.gguf"), &npy(&folder.join("llama-Q4_K_M.dequant_ref.npy")));
    println!("llama Q4_K_M: {q4:?}");
    assert!(q4.mean_kl <= LLAMA_Q4_K_M_KL, "{q4:?}");
}
