//! Whole models against reference logits and known answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use rfgraph::model::{Model, Session, SessionOptions};
use rfgraph::tensor::DType;
use serde_json::Value;

#[path = "support/outside.rs"]
mod outside;
use outside::outside;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn greedy(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best });
    best.unwrap() as u32
}

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

fn f32_file(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The values of a float32 `.npy` file: its header is a length at byte 8, then text.
fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(&bytes[10..10 + header]).unwrap();
    assert!(text.contains("'<f4'") && text.contains("'fortran_order': False"), "{text}");
    bytes[10 + header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn ids(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(|id| id.parse().unwrap())
        .collect()
}

/// How far logits are from the reference: mean KL divergence of the distributions in nats, and the
/// largest difference of a logit.
#[derive(Debug)]
struct Distance {
    mean_kl: f64,
    max_abs: f64,
}

fn distance(found: &[Vec<f32>], reference: &[f32]) -> Distance {
    let n_vocab = found[0].len();
    assert_eq!(reference.len(), n_vocab * found.len());
    let (mut kl, mut max_abs) = (0.0, 0.0f64);
    for (found, reference) in found.iter().zip(reference.chunks(n_vocab)) {
        let (p, q) = (log_softmax(reference), log_softmax(found));
        kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        let differences = found.iter().zip(reference).map(|(a, b)| f64::from((a - b).abs()));
        max_abs = differences.fold(max_abs, f64::max);
    }
    Distance { mean_kl: kl / found.len() as f64, max_abs }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let shifted: Vec<f64> = logits.iter().map(|&x| f64::from(x - largest)).collect();
    let sum: f64 = shifted.iter().map(|x| x.exp()).sum();
    shifted.iter().map(|x| x - sum.ln()).collect()
}

/// Mean over the demo's reference conversations.
fn demo_distance(model: &Model) -> Distance {
    let reference = fixture("demo/reference.json");
    let conversations: Value = serde_json::from_slice(&std::fs::read(&reference).unwrap()).unwrap();
    let mut all = Distance { mean_kl: 0.0, max_abs: 0.0 };
    let conversations = conversations.as_array().unwrap();
    for conversation in conversations {
        let tokens: Vec<u32> =
            conversation["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let logits = f32_file(&reference.with_file_name(conversation["logits"].as_str().unwrap()));
        let found = distance(&logits_of(model, &tokens), &logits);
        all.mean_kl += found.mean_kl / conversations.len() as f64;
        all.max_abs = all.max_abs.max(found.max_abs);
    }
    all
}

#[test]
fn demo_logits_agree_with_the_reference() {
    let found = demo_distance(&Model::demo().unwrap());
    println!("built in, Q8_0: {found:?}");
    assert!(found.mean_kl <= 1e-4, "{found:?}");
    for (name, mean_kl, max_abs) in [("f16", 1e-8, 0.02), ("Q4_K_M", 5e-4, f64::MAX)] {
        let Some(path) = outside(&format!("demo/demo-{name}.gguf")) else { return };
        let found = demo_distance(&Model::open(&path).unwrap());
        println!("demo {name}: {found:?}");
        assert!(found.mean_kl <= mean_kl && found.max_abs <= max_abs, "{name}: {found:?}");
    }
}

/// A trained model of 260 thousand weights (karpathy/tinyllamas, MIT), F32, SentencePiece.
#[test]
fn stories_follow_greedily() {
    let model = Model::open(fixture("stories260K/stories260K-F32.gguf")).unwrap();
    let prompt = ids(&fixture("stories260K/stories260K.ids.txt"));
    let wanted = ids(&fixture("stories260K/stories260K.greedy200.txt"));
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
    let model = Model::open(fixture("stories260K/stories260K-F32.gguf")).unwrap();
    let prompt = ids(&fixture("stories260K/stories260K.ids.txt"));
    let mut session = Session::new(&model, &SessionOptions { cache_type: DType::F32, ..options() }).unwrap();
    let id = session.open().unwrap();
    let mut all = Vec::new();
    session.all_logits(id, &prompt, |row| all.push(row.to_vec())).unwrap();
    let found = distance(&all, &npy(&fixture("stories260K/stories260K.logits.npy")));
    println!("stories F32: {found:?}");
    assert!(found.max_abs <= 1e-3, "{found:?}");
}

#[test]
fn random_llama_agrees_with_its_references() {
    let folder = fixture("llama");
    let tokens = ids(&folder.join("ids.txt"));
    let run = |file: &str| logits_of(&Model::open(folder.join(file)).unwrap(), &tokens);
    let f16 = distance(&run("llama-F16.gguf"), &npy(&folder.join("logits.npy")));
    println!("llama F16: {f16:?}");
    assert!(f16.mean_kl <= 1e-5, "{f16:?}");
    let q4 = distance(&run("llama-Q4_K_M.gguf"), &npy(&folder.join("llama-Q4_K_M.dequant_ref.npy")));
    println!("llama Q4_K_M: {q4:?}");
    // Activations quantized to eight bits: twice what llama.cpp's mean is for K-quants.
    assert!(q4.mean_kl <= 2.0 * 5e-3, "{q4:?}");
}
