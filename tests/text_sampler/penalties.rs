//! What the text so far does to logits: the three penalties, DRY, and the stages together in any order.

use std::path::Path;

use proptest::prelude::*;
use rfgraph::gguf::Gguf;
use rfgraph::text::{DryParams, EncodeOptions, Sampler, SamplerParams, Stage, Tokenizer, VocabData};

use super::reference::*;

proptest! {
    #[test]
    fn penalties_follow_their_formula(
        logits in prop::collection::vec(-8.0f32..8.0, 12), history in prop::collection::vec(0u32..12, 0..40),
        window in 0usize..20, repeat_penalty in 0.5f32..2.0, frequency_penalty in -1.0f32..1.0, presence_penalty in -1.0f32..1.0,
    ) {
        let params = SamplerParams { penalty_last_n: window, repeat_penalty, frequency_penalty, presence_penalty, ..neutral() };
        let mut sampler = Sampler::new(params, logits.len()).unwrap();
        history.iter().for_each(|&token| sampler.accept(token));
        let recent = &history[history.len().saturating_sub(window)..];
        for candidate in sampler.distribution(&logits).unwrap() {
            let count = recent.iter().filter(|&&token| token == candidate.id).count() as f32;
            let logit = logits[candidate.id as usize];
            let expected = match count {
                0.0 => logit,
                _ => (if logit > 0.0 { logit / repeat_penalty } else { logit * repeat_penalty }) - count * frequency_penalty - presence_penalty,
            };
            // Values stay below 64, and three operations round by at most 2^-24 of them each: 1.2e-5.
            prop_assert!((candidate.logit - expected).abs() < 1.2e-5, "{} is {}, not {}", candidate.id, candidate.logit, expected);
        }
    }

    #[test]
    fn dry_penalizes_what_continues_a_repetition(
        history in prop::collection::vec(0u32..3, 0..60), multiplier in 0.1f32..2.0, base in 1.0f32..2.0,
        allowed_length in 0usize..4, penalty_last_n in 1usize..40,
    ) {
        let logits = [0.5, 1.0, 1.5, 2.0f32];
        let dry = dry(multiplier, base, allowed_length, penalty_last_n);
        let mut sampler = Sampler::new(SamplerParams { dry, ..neutral() }, logits.len()).unwrap();
        history.iter().for_each(|&token| sampler.accept(token));
        let window = &history[history.len().saturating_sub(penalty_last_n)..];
        let repetitions = repetitions(window, usize::MAX);
        for candidate in sampler.distribution(&logits).unwrap() {
            let mut expected = f64::from(logits[candidate.id as usize]);
            let lengths = repetitions.iter().filter(|&&(token, _)| token == candidate.id).map(|&(_, n)| n);
            if let Some(n) = lengths.max().filter(|&n| n >= allowed_length) {
                expected -= f64::from(multiplier) * f64::from(base).powi((n - allowed_length) as i32);
            }
            // One rounding to 24 bits.
            let off = (f64::from(candidate.logit) - expected).abs();
            prop_assert!(off <= expected.abs().max(1.0) * 2f64.powi(-24), "{} is {}, not {}", candidate.id, candidate.logit, expected);
        }
    }

    /// The stages in any order are their definitions one after the other.
    #[test]
    fn stages_act_in_their_order(
        logits in logits(), history in prop::collection::vec(0u32..20, 0..30), order in Just(Stage::ORDER.to_vec()).prop_shuffle(),
        n_stages in 1usize..=9, penalties in (0.8f32..1.5, -0.6f32..0.7, -0.6f32..0.7), xtc_threshold in 0.0f32..0.5,
        top in (1usize..60, 0.1f32..1.0, 0.1f32..1.0, 0.001f32..0.5, 0.3f32..3.0), min_keep in 0usize..5,
        temperature in 0.3f32..2.0, dynatemp_range in prop_oneof![Just(0.0f32), 0.05f32..0.3],
    ) {
        let (repeat_penalty, frequency_penalty, presence_penalty) = penalties;
        let (top_k, top_p, typical_p, min_p, top_n_sigma) = top;
        let params = SamplerParams {
            order: order[..n_stages].to_vec(), penalty_last_n: 20, repeat_penalty, frequency_penalty, presence_penalty,
            dry: dry(0.7, 1.3, 1, 25), top_n_sigma, top_k, typical_p, top_p, min_p, xtc_probability: 1.0, xtc_threshold,
            min_keep, temperature, dynatemp_range, ..neutral()
        };
        let all = (0..).zip(logits.iter().map(|&logit| f64::from(logit)));
        let mut chain = Chain { left: all.collect(), close: false };
        for &stage in &params.order {
            chain.stage(stage, &params, &history);
        }
        prop_assume!(!chain.close);
        let expected = chain.finish();
        let found = left_after(params, &logits, &history);
        // Ruled out and left out are the same.
        let possible = |left: Vec<(u32, f64)>| left.into_iter().filter(|&(_, p)| p > 0.0).collect::<Vec<_>>();
        let (found, expected) = (possible(found), possible(expected));
        prop_assert_eq!(ids(&found), ids(&expected));
        for (found, expected) in found.iter().zip(&expected) {
            // A logit below 128 is rounded by each of two stages to 8e-6, and divided by 0.3 or less before or after.
            prop_assert!((found.1 - expected.1).abs() < 1e-4, "{:?} is not {:?}", found, expected);
        }
    }
}

fn demo_tokenizer() -> Tokenizer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/demo-vocab.gguf");
    Tokenizer::new(VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap()).unwrap()
}

/// Breakers lie in one token or across several; what was said before one is not repeated after it.
#[test]
fn dry_sees_no_repetition_over_a_breaker() {
    let tokenizer = demo_tokenizer();
    let breakers = ["\n", "ab", ":"];
    let dry = DryParams { multiplier: 1.0, base: 1.5, allowed_length: 1, ..dry(1.0, 1.5, 1, 30) };
    let dry = DryParams { sequence_breakers: breakers.map(String::from).to_vec(), ..dry };
    let n_vocab = tokenizer.n_vocab();
    let params = SamplerParams { dry: dry.clone(), ..neutral() };
    let mut sampler = Sampler::for_tokenizer(params.clone(), n_vocab, &tokenizer).unwrap();
    assert!(Sampler::new(params, n_vocab).is_err(), "breakers need texts");
    // Single characters, so that `ab` is always two tokens.
    let id = |c: &str| match tokenizer.encode(c, EncodeOptions::default())[..] {
        [id] => id,
        ref ids => panic!("{c} is {ids:?}"),
    };
    let ids = ["a", "b", "c", "d", ":", "\n"].map(id);
    let mut rng = rfgraph::text::Rng::new(5);
    let (mut broken, mut penalized) = (0, 0);
    for _ in 0..400 {
        sampler.reset();
        let history: Vec<u32> = (0..24).map(|_| ids[(rng.next_u64() % 13 / 2).min(5) as usize]).collect();
        history.iter().for_each(|&token| sampler.accept(token));
        let text = tokenizer.decode(&history, true);
        assert_eq!(text.len(), history.len(), "one byte for each token");
        let last = breakers.iter().filter_map(|b| text.rfind(b).map(|at| at + b.len())).max().unwrap_or(0);
        let since_break = text.len() - last;
        let repetitions = repetitions(&history, since_break);
        let logits = vec![0.0; n_vocab];
        for candidate in sampler.distribution(&logits).unwrap() {
            let lengths = repetitions.iter().filter(|&&(token, _)| token == candidate.id).map(|&(_, n)| n);
            let breaks = [ids[4], ids[5]].contains(&candidate.id);
            let expected = match lengths.max() {
                Some(n) if n >= 1 && !breaks => -(1.5f64.powi(n as i32 - 1)) as f32,
                _ => 0.0,
            };
            assert_eq!(candidate.logit, expected, "{text:?} before token {}", candidate.id);
            penalized += u32::from(expected < 0.0);
        }
        broken += u32::from(since_break == 0);
    }
    assert!(broken > 20 && penalized > 100, "{broken} and {penalized}: too few to mean anything");
}
