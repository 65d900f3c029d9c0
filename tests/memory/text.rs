//! Work that runs once per generated token allocates nothing once its buffers have grown.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[allow(dead_code, reason = "each program counts something else")]
mod counting;

use std::path::Path;

use counting::{Counting, calls_here};
use rfgraph::gguf::Gguf;
use rfgraph::sampling::{
    Dry, Mirostat, Penalties, Sampler, SamplerParams, Stage, Temperature, TopK, TopNSigma, TypicalP, Xtc,
};
use rfgraph::text::{EncodeOptions, StreamDecoder, Tokenizer, VocabData};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sampling_does_not_allocate() {
    let base = SamplerParams {
        penalties: Penalties { repeat: 1.1, frequency: 0.1, last_n: 50, ..Penalties::default() },
        typical_p: TypicalP { p: 0.95 },
        ..SamplerParams::default()
    };
    let dry = Dry { multiplier: 0.5, sequence_breakers: vec![], ..Dry::default() };
    let temperature = |value, range| Temperature { value, range, ..Temperature::default() };
    let mut logits: Vec<f32> = (0..3000u16).map(|n| f32::from(n % 61) + f32::from(n) / 3000.0).collect();
    for params in [
        base.clone(),
        SamplerParams { top_k: TopK { k: 0 }, ..base.clone() },
        SamplerParams { top_k: TopK { k: 0 }, typical_p: TypicalP { p: 1.0 }, ..base.clone() },
        SamplerParams { temperature: temperature(0.0, 0.0), ..base.clone() },
        SamplerParams {
            dry: dry.clone(),
            xtc: Xtc { probability: 0.5, ..Xtc::default() },
            top_n_sigma: TopNSigma { n: 2.0 },
            ..base.clone()
        },
        SamplerParams {
            dry,
            order: vec![Stage::TopP, Stage::Dry, Stage::TopK, Stage::Penalties],
            ..base.clone()
        },
        SamplerParams {
            temperature: temperature(0.8, 0.3),
            logit_bias: vec![(3, 1.0)],
            min_keep: 5,
            ..base.clone()
        },
        SamplerParams { mirostat: Some(Mirostat::default()), ..base.clone() },
    ] {
        let mut sampler = Sampler::new(params, logits.len()).unwrap();
        let count = calls_here(|| {
            // Many different tokens, so that the window's table gains and loses keys all the time.
            for step in 0..5000usize {
                logits[step * 7 % 3000] += 1.0;
                let token = sampler.sample(&logits).unwrap();
                sampler.accept(token);
                sampler.accept((step % 3000) as u32);
            }
        });
        assert_eq!(count, 0);
        // A clone has its own buffers, and a rewind needs none.
        let mut clone = sampler.clone();
        let count = calls_here(|| {
            for _ in 0..20 {
                let token = clone.sample(&logits).unwrap();
                clone.accept(token);
            }
            clone.rewind(20).unwrap();
        });
        assert_eq!(count, 0);
    }
}

#[test]
fn decoding_does_not_allocate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/demo-vocab.gguf");
    let data = VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap();
    let tokenizer = Tokenizer::new(data).unwrap();
    let ids = tokenizer.encode("Once upon a time 🦙🦙 한국어, a kind pony lived.", EncodeOptions::default());
    let mut stream = StreamDecoder::new(&tokenizer, true);
    let mut bytes = Vec::with_capacity(4096);
    let mut pass = || {
        bytes.clear();
        for &id in &ids {
            tokenizer.decode_into(id, true, &mut bytes);
            bytes.extend_from_slice(stream.push(id).as_bytes());
        }
        stream.finish();
    };
    // The buffers grow in the first pass.
    pass();
    assert_eq!(calls_here(|| (0..100).for_each(|_| pass())), 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(calls_here(|| drop(std::hint::black_box(vec![1u8]))), 2, "one to take, one to give back");
}
