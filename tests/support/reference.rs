//! Logits of reference implementations, and the distance of other logits from them.

use std::path::Path;

use serde_json::Value;

use super::inside::inside;

/// The values of a file of little-endian F32.
fn f32_file(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The values of a float32 `.npy` file, whose header is text with its length at byte 8.
pub fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(&bytes[10..10 + header]).unwrap();
    assert!(text.contains("'<f4'") && text.contains("'fortran_order': False"), "{text}");
    bytes[10 + header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The token ids in a text file.
pub fn ids(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(|id| id.parse().unwrap())
        .collect()
}

/// A distance of logits from the reference: mean KL divergence of the distributions in nats, and the largest difference
/// of a logit.
#[derive(Debug)]
pub struct Distance {
    pub mean_kl: f64,
    pub max_abs: f64,
}

/// The distance of rows of logits from a reference's rows, which are concatenated.
pub fn distance(found: &[Vec<f32>], reference: &[f32]) -> Distance {
    let n_vocab = found[0].len();
    assert_eq!(reference.len(), n_vocab * found.len());
    let (mut kl, mut max_abs) = (0.0, 0.0f64);
    for (found, reference) in found.iter().zip(reference.chunks(n_vocab)) {
        let (p, q) = (log_softmax(reference), log_softmax(found));
        kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        let differences = found.iter().zip(reference).map(|(a, b)| f64::from((a - b).abs()));
        // NaN counts as infinitely far; `f64::max` would ignore it.
        max_abs = differences.fold(max_abs, |most, d| if d > most || d.is_nan() { d } else { most });
    }
    Distance { mean_kl: kl / found.len() as f64, max_abs }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let shifted: Vec<f64> = logits.iter().map(|&x| f64::from(x - largest)).collect();
    let sum: f64 = shifted.iter().map(|x| x.exp()).sum();
    shifted.iter().map(|x| x - sum.ln()).collect()
}

/// The mean distance over the demo's reference conversations of logits computed by a function.
pub fn demo_distance(mut logits_of: impl FnMut(&[u32]) -> Vec<Vec<f32>>) -> Distance {
    let reference = inside("demo/reference.json");
    let conversations: Value = serde_json::from_slice(&std::fs::read(&reference).unwrap()).unwrap();
    let mut all = Distance { mean_kl: 0.0, max_abs: 0.0 };
    let conversations = conversations.as_array().unwrap();
    assert!(!conversations.is_empty());
    for conversation in conversations {
        let tokens: Vec<u32> =
            conversation["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let logits = f32_file(&reference.with_file_name(conversation["logits"].as_str().unwrap()));
        let found = distance(&logits_of(&tokens), &logits);
        all.mean_kl += found.mean_kl / conversations.len() as f64;
        all.max_abs = all.max_abs.max(found.max_abs);
    }
    all
}

/// The limit for the mean KL divergence of the random model (`fixtures/llama`) with F16 weights: rounding alone.
pub const LLAMA_F16_KL: f64 = 1e-5;

/// With Q4_K_M weights activations are quantized to eight bits: twice llama.cpp's mean for K-quants.
pub const LLAMA_Q4_K_M_KL: f64 = 2.0 * 5e-3;
