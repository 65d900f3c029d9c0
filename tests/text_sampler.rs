//! Samplers against the definitions of their filters, and what is drawn against the probabilities.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use proptest::prelude::*;
use rfgraph::text::{ParamError, SampleError, Sampler, SamplerParams};

/// Everything off, temperature 1.
fn neutral() -> SamplerParams {
    SamplerParams {
        penalty_last_n: 0,
        repeat_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        top_k: 0,
        typical_p: 1.0,
        top_p: 1.0,
        min_p: 0.0,
        temperature: 1.0,
        seed: 1,
    }
}

/// The tokens that are left, sorted, with their probabilities.
fn left(params: SamplerParams, logits: &[f32]) -> Vec<(u32, f64)> {
    let mut sampler = Sampler::new(params, logits.len()).unwrap();
    let mut left: Vec<_> = sampler.distribution(logits).unwrap().iter().map(|c| (c.id, c.p)).collect();
    left.sort_by_key(|&(id, _)| id);
    left
}

fn ids(left: &[(u32, f64)]) -> Vec<u32> {
    left.iter().map(|&(id, _)| id).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

fn probabilities(logits: &[f32]) -> Vec<f64> {
    softmax(&logits.iter().map(|&logit| f64::from(logit)).collect::<Vec<_>>())
}

/// The ids in the order of a key, the lowest id first among equals, until their probabilities reach `sum`.
fn until(p: &[f64], sum: f32, key: impl Fn(usize) -> f64) -> Vec<u32> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| key(a).partial_cmp(&key(b)).unwrap().then(a.cmp(&b)));
    let mut taken = 0.0;
    let mut kept = Vec::new();
    for id in order {
        kept.push(id as u32);
        taken += p[id];
        if taken >= f64::from(sum) {
            break;
        }
    }
    kept.sort_unstable();
    kept
}

/// Logits in steps of a half, so that ties happen, with some tokens ruled out.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![8 => (-20i8..20).prop_map(|n| f32::from(n) / 2.0), 1 => Just(f32::NEG_INFINITY)];
    prop::collection::vec(logit, 1..80)
        .prop_filter("one is possible", |logits| logits.iter().any(|logit| logit.is_finite()))
}

/// The bits of twenty logits, mostly: any numbers, or none possible.
fn any_bits() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        9 => prop::collection::vec(any::<u32>(), 20),
        1 => prop::collection::vec(any::<u32>(), 0..40),
        1 => Just(vec![f32::NEG_INFINITY.to_bits(); 20]),
    ]
}

proptest! {
    #[test]
    fn greedy_is_the_first_of_the_largest(logits in logits()) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let expected = logits.iter().position(|&logit| logit == largest).unwrap() as u32;
        let mut sampler = Sampler::new(SamplerParams { temperature: 0.0, ..neutral() }, logits.len()).unwrap();
        prop_assert_eq!(sampler.sample(&logits).unwrap(), expected);
    }

    #[test]
    fn top_k_keeps_the_k_largest(logits in logits(), k in 1usize..90) {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap().then(a.cmp(&b)));
        order.truncate(k);
        order.sort_unstable();
        prop_assert_eq!(ids(&left(SamplerParams { top_k: k, ..neutral() }, &logits)), order);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_the_sum(logits in logits(), top_p in 0.0f32..1.0) {
        let p = probabilities(&logits);
        let expected = until(&p, top_p, |id| -f64::from(logits[id]));
        // Sums in another order differ in their last bits; a sum that close to the limit decides nothing.
        let kept: f64 = expected.iter().map(|&id| p[id as usize]).sum();
        prop_assume!((kept - f64::from(top_p)).abs() > 1e-12);
        prop_assert_eq!(ids(&left(SamplerParams { top_p, ..neutral() }, &logits)), expected);
    }

    #[test]
    fn typical_keeps_what_is_nearest_the_entropy(logits in logits(), typical_p in 0.01f32..1.0) {
        let p = probabilities(&logits);
        let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        let distance = |id: usize| (-p[id].ln() - entropy).abs();
        let expected = until(&p, typical_p, distance);
        let kept: f64 = expected.iter().map(|&id| p[id as usize]).sum();
        prop_assume!((kept - f64::from(typical_p)).abs() > 1e-12);
        // So do distances that are equal but for rounding, on both sides of the entropy.
        let mut distances: Vec<(f64, f64)> = (0..p.len()).map(|id| (distance(id), p[id])).collect();
        distances.sort_by(|a, b| a.partial_cmp(b).unwrap());
        prop_assume!(distances.windows(2).all(|d| d[0].1 == d[1].1 || d[1].0 - d[0].0 > 1e-12 || d[1].0.is_infinite()));
        prop_assert_eq!(ids(&left(SamplerParams { typical_p, ..neutral() }, &logits)), expected);
    }

    #[test]
    fn min_p_keeps_what_is_near_the_largest(logits in logits(), min_p in 0.001f32..1.0) {
        let p = probabilities(&logits);
        let largest = p.iter().copied().fold(0.0, f64::max);
        prop_assume!(p.iter().all(|p| (p / largest / f64::from(min_p) - 1.0).abs() > 1e-9));
        let expected: Vec<u32> =
            (0..p.len()).filter(|&id| p[id] >= f64::from(min_p) * largest).map(|id| id as u32).collect();
        prop_assert_eq!(ids(&left(SamplerParams { min_p, ..neutral() }, &logits)), expected);
    }

    #[test]
    fn temperature_divides_the_logits(logits in logits(), temperature in 0.05f32..5.0) {
        let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / f64::from(temperature)).collect();
        let expected = softmax(&scaled);
        // Exponents are below 400 and each is off by at most two roundings of 2^-53: 400 * 2^-52 = 9e-14.
        for (id, p) in left(SamplerParams { temperature, ..neutral() }, &logits) {
            prop_assert!((p - expected[id as usize]).abs() < 1e-12, "{} is {}, not {}", id, p, expected[id as usize]);
        }
    }

    #[test]
    fn filters_together_leave_a_distribution(
        logits in logits(), top_k in 0usize..50, top_p in 0.0f32..=1.0, typical_p in 0.01f32..=1.0, min_p in 0.0f32..=1.0, temperature in 0.01f32..3.0,
    ) {
        let left = left(SamplerParams { top_k, top_p, typical_p, min_p, temperature, ..neutral() }, &logits);
        prop_assert!(!left.is_empty());
        prop_assert!((left.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(left.iter().any(|&(id, p)| p > 0.0 && logits[id as usize].is_finite()));
    }

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
    fn any_logits_give_a_token_or_an_error(bits in any_bits(), top_k in 0usize..9, seed in any::<u64>(), temperature in 0.0f32..2.0) {
        let logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let params = SamplerParams { top_k, seed, temperature, typical_p: 0.9, top_p: 0.9, repeat_penalty: 1.1, frequency_penalty: 0.5, ..neutral() };
        let mut sampler = Sampler::new(params, 20).unwrap();
        (0..20).for_each(|token| sampler.accept(token));
        match sampler.sample(&logits) {
            Ok(id) => prop_assert!(logits[id as usize].is_finite()),
            Err(SampleError::Length { found, expected }) => prop_assert!(found == logits.len() && expected == 20 && found != 20),
            Err(SampleError::NotFinite { token }) => prop_assert!(logits[token as usize].is_nan() || logits[token as usize] == f32::INFINITY),
            Err(SampleError::NothingPossible) => prop_assert!(logits.iter().all(|&logit| logit == f32::NEG_INFINITY)),
        }
    }
}

/// Draws by the settings, and compares the counts with the probabilities (Pearson's chi-square).
fn assert_drawn_as_distributed(params: SamplerParams, logits: &[f32]) {
    let draws = 40_000;
    let mut sampler = Sampler::new(params.clone(), logits.len()).unwrap();
    let mut counts = vec![0u32; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(logits).unwrap() as usize] += 1;
    }
    let left = left(params, logits);
    assert_eq!(
        left.iter().map(|&(id, _)| counts[id as usize]).sum::<u32>(),
        draws,
        "something else was drawn"
    );
    let expected = |p: f64| p * f64::from(draws);
    assert!(left.iter().all(|&(_, p)| expected(p) > 5.0), "too rare for the test to mean anything");
    let chi_square: f64 = left
        .iter()
        .map(|&(id, p)| (f64::from(counts[id as usize]) - expected(p)).powi(2) / expected(p))
        .sum();
    // With d degrees of freedom chi-square has mean d and variance 2d; 4 deviations and a bit for its tail.
    // The seed is fixed, so this passes always or never.
    let freedom = left.len() as f64 - 1.0;
    assert!(chi_square < freedom + 4.0 * (2.0 * freedom).sqrt() + 4.0, "{chi_square} for {freedom} degrees");
}

#[test]
fn tokens_are_drawn_as_distributed() {
    let logits: Vec<f32> = (0..16u8).map(|n| f32::from(n * 7 % 16) * 0.25).collect();
    assert_drawn_as_distributed(neutral(), &logits);
    assert_drawn_as_distributed(SamplerParams { temperature: 0.6, seed: 2, ..neutral() }, &logits);
    assert_drawn_as_distributed(SamplerParams { top_k: 5, ..neutral() }, &logits);
    assert_drawn_as_distributed(SamplerParams { top_p: 0.7, ..neutral() }, &logits);
    assert_drawn_as_distributed(SamplerParams { typical_p: 0.5, ..neutral() }, &logits);
    assert_drawn_as_distributed(SamplerParams { min_p: 0.2, seed: 99, ..neutral() }, &logits);
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let logits: Vec<f32> = (0..1000u16).map(|n| f32::from(n * 37 % 1000) / 200.0).collect();
    let draw = |seed| -> Vec<u32> {
        let mut sampler =
            Sampler::new(SamplerParams { seed, ..SamplerParams::default() }, logits.len()).unwrap();
        let first: Vec<u32> = (0..50).map(|_| sampler.sample(&logits).unwrap()).collect();
        sampler.reset();
        let again: Vec<u32> = (0..50).map(|_| sampler.sample(&logits).unwrap()).collect();
        assert_eq!(first, again);
        first
    };
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let refused = |params: SamplerParams| Sampler::new(params, 8).err().map(|error| error.to_string());
    for bad in [f32::NAN, f32::INFINITY, -0.1] {
        let expected = Some(format!("temperature is {bad}; expected 0 or a positive number"));
        assert_eq!(refused(SamplerParams { temperature: bad, ..neutral() }), expected);
    }
    for bad in [f32::NAN, 1.1, -0.1] {
        assert!(refused(SamplerParams { top_p: bad, ..neutral() }).unwrap().starts_with("top_p is"));
        assert!(refused(SamplerParams { min_p: bad, ..neutral() }).unwrap().starts_with("min_p is"));
        assert!(refused(SamplerParams { typical_p: bad, ..neutral() }).unwrap().starts_with("typical_p is"));
    }
    for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        assert!(
            refused(SamplerParams { repeat_penalty: bad, ..neutral() })
                .unwrap()
                .starts_with("repeat_penalty")
        );
    }
    assert!(refused(SamplerParams { frequency_penalty: f32::NAN, ..neutral() }).is_some());
    assert!(refused(SamplerParams { presence_penalty: f32::INFINITY, ..neutral() }).is_some());
    assert!(refused(SamplerParams { penalty_last_n: usize::MAX, ..neutral() }).is_some());
    assert_eq!(Sampler::new(neutral(), 0).err(), Some(ParamError::EmptyVocabulary));
}
