//! Every architecture on a GPU, against logits of another implementation for the same weights.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/architectures.rs"]
mod architectures;
#[path = "support/gpu.rs"]
mod gpu;
#[path = "support/inside.rs"]
mod inside;
#[path = "support/reference.rs"]
mod reference;

use architectures::fixtures;
use gpu::{Gpu, config};
use rfgraph::model::{CacheTypes, SessionOptions};
use rfgraph::tensor::DType;

/// How many tests the fixtures are dealt out to.
const SHARES: usize = 4;

/// Operands of a prompt's products are F16: with weights that are F16 as they come, 1e-5 is what files of F16 are allowed.
/// With activations of eight bits, twice what they cost llama.cpp.
fn check(share: usize) {
    let dealt = || fixtures().into_iter().enumerate().filter(|(i, _)| i % SHARES == share);
    let mut failures = Vec::new();
    for (i, fixture) in dealt() {
        // Widths of a wave take turns.
        let wave = if (i / SHARES).is_multiple_of(2) { 32 } else { 64 };
        let gpus = [Some(Gpu::simulated(config(wave))), Gpu::real()];
        for gpu in gpus.iter().flatten() {
            let device = gpu.choice();
            let options = SessionOptions {
                cache_types: CacheTypes::both(DType::F32),
                device,
                ..SessionOptions::default()
            };
            let found = fixture.distance(options);
            println!("{} (wave of {wave}): {found:?}", fixture.name);
            let limit = if fixture.is_quantized() { 5e-3 } else { 1e-5 };
            // Not a number is as far as can be.
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
