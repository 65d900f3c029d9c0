//! Every architecture on a GPU, compared with another implementation's logits for the same weights.

use rfgraph::model::{CacheTypes, SessionOptions};
use rfgraph::tensor::DType;

use crate::support::architectures::fixtures;
use crate::support::gpu::{Gpu, config};

/// The number of tests that share the fixtures.
const SHARES: usize = 4;

/// Products of a prompt have F16 operands: with F16 weights the limit is 1e-5, as for F16 files. With activations of
/// eight bits it is twice what they cost llama.cpp.
fn check(share: usize) {
    let dealt = || fixtures().into_iter().enumerate().filter(|(i, _)| i % SHARES == share);
    let mut failures = Vec::new();
    for (i, fixture) in dealt() {
        // Both wave sizes, alternately.
        let wave = if (i / SHARES).is_multiple_of(2) { 32 } else { 64 };
        let gpus = [Some(Gpu::simulated(config(wave))), Gpu::real()];
        for gpu in gpus.iter().flatten() {
            let device = gpu.choice();
            let options = SessionOptions {
                ubatch: Some(20),
                cache_types: CacheTypes::both(DType::F32),
                device,
                ..SessionOptions::default()
            };
            let found = fixture.distance(options);
            println!("{} (wave of {wave}): {found:?}", fixture.name);
            let limit = if fixture.is_quantized() { 5e-3 } else { 1e-5 };
            // NaN counts as infinitely far.
            if found.mean_kl > limit || found.mean_kl.is_nan() {
                failures.push((fixture.name.clone(), found));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn the_first_share_agrees_with_the_references() {
    check(0);
}

#[test]
fn the_second_share_agrees_with_the_references() {
    check(1);
}

#[test]
fn the_third_share_agrees_with_the_references() {
    check(2);
}

#[test]
fn the_fourth_share_agrees_with_the_references() {
    check(3);
}

/// Prompts of 32 tokens and more use tiled attention if the cache is F16. Such a cache moves logits by up to 1e-2
/// (`tests/fixtures/arch/README.md`); if all logits of a distribution move by at most d, its KL divergence is at most
/// d²/2: 5e-5 more.
#[test]
fn tiled_attention_agrees_with_the_references() {
    let mut failures = Vec::new();
    for name in ["deepseek2-v2", "gemma2", "gemma3", "gpt-oss", "llama", "mistral3", "phi3-window"] {
        let fixture = fixtures().into_iter().find(|fixture| fixture.name == name).unwrap();
        for gpu in [Some(Gpu::simulated(config(32))), Gpu::real()].iter().flatten() {
            let device = gpu.choice();
            let found =
                fixture.distance(SessionOptions { ubatch: Some(48), device, ..SessionOptions::default() });
            println!("{name}: {found:?}");
            let limit = if fixture.is_quantized() { 5e-3 } else { 6e-5 };
            if found.mean_kl > limit || found.mean_kl.is_nan() {
                failures.push((name, found));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}
