//! Rewinding: draws repeat, and a clone is independent.

use proptest::prelude::*;

use super::super::history::MAX_REWIND;
use super::super::{Mirostat, Penalties, Rng, SampleError, Sampler, SamplerParams, Stage, Xtc};
use super::demo_tokenizer;

/// The first tokens of the demo model's vocabulary: single characters after three special tokens.
const N_VOCAB: usize = 24;

/// Settings of the chain and of all stages, some of which act.
fn params() -> impl Strategy<Value = SamplerParams> {
    let order = (Just(Stage::ORDER.to_vec()).prop_shuffle(), 0..=Stage::ORDER.len());
    let mirostat = prop_oneof![3 => Just(None), 1 => (0.0f32..4.0, 0.0f32..0.5).prop_map(Some)];
    (SamplerParams::strategy(), order, mirostat, 0usize..4, 0.0f32..1.0, any::<u64>()).prop_map(
        |(mut params, (order, n_stages), mirostat, min_keep, xtc, seed)| {
            params.order = order[..n_stages].to_vec();
            // Breakers of two and three tokens, and the end of special tokens' names.
            params.dry.sequence_breakers = ["!\"", "%&%", "|>"].map(String::from).to_vec();
            params.xtc.probability = xtc;
            let mirostat = mirostat.map(|(tau, eta)| Mirostat { tau, eta });
            SamplerParams { mirostat, min_keep, seed, ..params }
        },
    )
}

/// The logits at a position of the text.
fn logits(seed: u64, place: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed ^ (place as u64) << 32);
    (0..N_VOCAB).map(|_| (rng.next_unit() * 12.0).floor() as f32 / 2.0).collect()
}

/// A chosen token, with the bits of its whole distribution.
type Choice = (u32, Vec<(u32, u32, u64)>);

/// Chooses and accepts a token for each of these positions.
fn go_on(sampler: &mut Sampler, seed: u64, places: std::ops::Range<usize>) -> Vec<Choice> {
    let step = |place| {
        let logits = logits(seed, place);
        let candidates = sampler.distribution(&logits).unwrap();
        let bits = candidates.iter().map(|c| (c.id, c.logit.to_bits(), c.p.to_bits())).collect();
        let token = sampler.sample(&logits).unwrap();
        sampler.accept(token);
        (token, bits)
    };
    places.map(step).collect()
}

proptest! {
    #[test]
    fn draws_repeat_after_a_rewind(
        params in params(), seed in any::<u64>(), prompt in prop::collection::vec(0u32..N_VOCAB as u32, 0..80),
        before in 0usize..40, taken in 1usize..60, unaccepted in any::<bool>(), kept in 0usize..60,
    ) {
        let mut sampler = Sampler::for_tokenizer(params, N_VOCAB, &demo_tokenizer()).unwrap();
        prompt.iter().for_each(|&token| sampler.accept(token));
        go_on(&mut sampler, seed, 0..before);
        let clone = sampler.clone();
        let first = go_on(&mut sampler, seed, before..before + taken);
        if unaccepted {
            sampler.sample(&logits(seed, 0)).unwrap();
        }
        // Rewinds to the start directly, or to a position in between and then to the start.
        let kept = kept.min(taken);
        sampler.rewind(taken - kept).unwrap();
        prop_assert_eq!(&first[kept..], go_on(&mut sampler.clone(), seed, before + kept..before + taken));
        sampler.rewind(kept).unwrap();
        prop_assert_eq!(&first, &go_on(&mut sampler, seed, before..before + taken));
        // The clone and the original do not affect each other.
        prop_assert_eq!(&first, &go_on(&mut clone.clone(), seed, before..before + taken));
        prop_assert_eq!(&first, &go_on(&mut { clone }, seed, before..before + taken));
    }

    /// Few tokens, so that breakers start and repetitions continue across the rewound position.
    #[test]
    fn rewound_text_equals_the_remaining_text(
        params in params(), logits in prop::collection::vec(-4.0f32..4.0, 9),
        steps in prop::collection::vec((prop::collection::vec(3u32..9, 0..6), 0usize..5), 1..60),
    ) {
        // XTC always acts, so that random numbers do not matter.
        let xtc = Xtc { probability: 1.0, ..params.xtc };
        let params = SamplerParams { xtc, ..params };
        let fresh = Sampler::for_tokenizer(params, logits.len(), &demo_tokenizer()).unwrap();
        let (mut sampler, mut text) = (fresh.clone(), Vec::new());
        for (tokens, taken) in steps {
            tokens.iter().for_each(|&token| sampler.accept(token));
            text.extend(tokens);
            let taken = taken.min(text.len());
            text.truncate(text.len() - taken);
            sampler.rewind(taken).unwrap();
            let mut straight = fresh.clone();
            text.iter().for_each(|&token| straight.accept(token));
            prop_assert_eq!(sampler.distribution(&logits).unwrap(), straight.distribution(&logits).unwrap());
        }
    }

    /// Rewinds by the maximum, over windows that were full long before.
    #[test]
    fn rewind_goes_back_256_tokens(params in params(), seed in any::<u64>(), before in 0usize..300) {
        let mut sampler = Sampler::for_tokenizer(params, N_VOCAB, &demo_tokenizer()).unwrap();
        go_on(&mut sampler, seed, 0..before);
        let first = go_on(&mut sampler, seed, before..before + MAX_REWIND);
        sampler.rewind(MAX_REWIND).unwrap();
        prop_assert_eq!(first, go_on(&mut sampler, seed, before..before + MAX_REWIND));
    }
}

#[test]
fn rewind_beyond_the_limit_is_refused_and_changes_nothing() {
    let params = SamplerParams {
        penalties: Penalties { frequency: 0.5, ..Penalties::default() },
        ..SamplerParams::default()
    };
    let mut sampler = Sampler::new(params, N_VOCAB).unwrap();
    assert_eq!(sampler.rewind(1), Err(SampleError::Rewind { asked: 1, kept: 0 }));
    go_on(&mut sampler, 1, 0..300);
    let mut clone = sampler.clone();
    assert_eq!(sampler.rewind(257), Err(SampleError::Rewind { asked: 257, kept: 256 }));
    assert_eq!(go_on(&mut sampler, 1, 300..310), go_on(&mut clone, 1, 300..310));
    // Forgotten text cannot be restored.
    sampler.forget();
    go_on(&mut sampler, 1, 0..3);
    assert_eq!(sampler.rewind(4), Err(SampleError::Rewind { asked: 4, kept: 3 }));
    sampler.rewind(3).unwrap();
    sampler.reset();
    assert_eq!(
        sampler.rewind(1).unwrap_err().to_string(),
        "cannot take back 1 tokens: the sampler remembers the last 0, 256 at most"
    );
}
