//! Samplers against the definitions of their filters, and what is drawn against the probabilities.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod filters;
mod penalties;
mod reference;

use reference::*;
use rfgraph::text::{Mirostat, Needs, ParamError, Sampler, SamplerParams, Stage};

/// Draws by the settings, and compares the counts with the probabilities (Pearson's chi-square).
fn assert_drawn_as_distributed(params: SamplerParams, logits: &[f32]) {
    assert_drawn_as(&left_after(params.clone(), logits, &HISTORY), params, logits);
}

/// What the penalties look at here.
const HISTORY: [u32; 6] = [3, 4, 5, 3, 4, 4];

fn assert_drawn_as(left: &[(u32, f64)], params: SamplerParams, logits: &[f32]) {
    let draws = 40_000;
    let mut sampler = Sampler::new(params, logits.len()).unwrap();
    HISTORY.iter().for_each(|&token| sampler.accept(token));
    let mut counts = vec![0u32; logits.len()];
    for _ in 0..draws {
        counts[sampler.sample(logits).unwrap() as usize] += 1;
    }
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
    assert_drawn_as_distributed(SamplerParams { top_n_sigma: 1.0, ..neutral() }, &logits);
    assert_drawn_as_distributed(
        SamplerParams { xtc_probability: 1.0, xtc_threshold: 0.1, ..neutral() },
        &logits,
    );
    assert_drawn_as_distributed(
        SamplerParams { frequency_penalty: 0.3, repeat_penalty: 1.2, ..neutral() },
        &logits,
    );
    assert_drawn_as_distributed(SamplerParams { dry: dry(0.5, 1.5, 1, 10), ..neutral() }, &logits);
    assert_drawn_as_distributed(SamplerParams { dynatemp_range: 0.5, ..neutral() }, &logits);
    assert_drawn_as_distributed(
        SamplerParams { logit_bias: vec![(3, 1.0), (4, -1.0)], ..neutral() },
        &logits,
    );
}

/// XTC acts on a share of the tokens: what is drawn is a mixture.
#[test]
fn xtc_acts_as_often_as_it_is_told() {
    let logits: Vec<f32> = (0..8u8).map(|n| f32::from(n) * 0.4).collect();
    let xtc = |xtc_probability| SamplerParams { xtc_probability, xtc_threshold: 0.1, ..neutral() };
    let (never, always) = (left(xtc(0.0), &logits), left(xtc(1.0), &logits));
    assert!(always.len() < never.len());
    let excluded = |id| always.iter().find(|&&(other, _)| other == id).map_or(0.0, |&(_, p)| p);
    let mixed: Vec<(u32, f64)> = never.iter().map(|&(id, p)| (id, 0.7 * p + 0.3 * excluded(id))).collect();
    assert_drawn_as(&mixed, xtc(0.3), &logits);
}

/// µ moves by η times what each token's surprise is off by, so that the mean surprise over n tokens is off by what µ
/// moved over ηn. µ stays between 0 and the most surprise that a token has: of 1000 logits within 4 of each other,
/// log₂ 1000 + 4 log₂ e = 15.7 bits.
#[test]
fn mirostat_keeps_the_mean_surprise() {
    let mut rng = rfgraph::text::Rng::new(3);
    for (tau, eta) in [(2.0f32, 0.1f32), (5.0, 0.1), (5.0, 0.5)] {
        let mirostat = Some(Mirostat { tau, eta });
        let mut sampler = Sampler::new(SamplerParams { mirostat, ..neutral() }, 1000).unwrap();
        let n = 4000;
        let mut surprise = 0.0;
        for _ in 0..n {
            // About 9 bits of entropy: more than is wanted.
            let logits: Vec<f32> = (0..1000).map(|_| rng.next_unit() as f32 * 4.0).collect();
            let before: Vec<_> = sampler.distribution(&logits).unwrap().to_vec();
            let token = sampler.sample(&logits).unwrap();
            surprise -= before.iter().find(|candidate| candidate.id == token).unwrap().p.log2();
        }
        let mean = surprise / f64::from(n);
        let bound = 15.8 / f64::from(eta) / f64::from(n);
        assert!((mean - f64::from(tau)).abs() <= bound, "{mean} bits, not {tau} +- {bound}");
    }
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
    let bias = |bias| SamplerParams { logit_bias: vec![bias], ..neutral() };
    assert_eq!(refused(bias((7, f32::NEG_INFINITY))), None);
    assert!(refused(bias((7, f32::INFINITY))).is_some());
    assert_eq!(refused(bias((8, 1.0))).unwrap(), "logit_bias names token 8; the vocabulary has 8");
    let twice = SamplerParams { order: vec![Stage::Xtc, Stage::Xtc], ..neutral() };
    assert_eq!(refused(twice).unwrap(), "the sampler `xtc` is listed twice");
    assert!(refused(SamplerParams { dry: dry(f32::NAN, 1.0, 1, 1), ..neutral() }).is_some());
    assert!(
        refused(SamplerParams { mirostat: Some(Mirostat { tau: -1.0, eta: 0.1 }), ..neutral() }).is_some()
    );
    assert!(refused(SamplerParams { xtc_threshold: 1.5, ..neutral() }).unwrap().starts_with("xtc_threshold"));
    assert_eq!(Sampler::new(neutral(), 0).err(), Some(ParamError::EmptyVocabulary));
}

/// What is asked of the logits is what the settings look at.
#[test]
fn settings_say_what_they_need() {
    let needs = |params: SamplerParams| Sampler::new(params, 1000).unwrap().needs();
    let greedy = SamplerParams { temperature: 0.0, ..SamplerParams::default() };
    assert_eq!(needs(SamplerParams::default()), Needs::Top(40));
    assert_eq!(needs(greedy.clone()), Needs::Largest);
    for all in [
        SamplerParams { repeat_penalty: 1.1, ..greedy.clone() },
        SamplerParams { logit_bias: vec![(1, 1.0)], ..greedy.clone() },
        SamplerParams { dry: dry(1.0, 2.0, 1, 9), ..greedy.clone() },
        SamplerParams { mirostat: Some(Mirostat::default()), ..greedy.clone() },
        SamplerParams { top_n_sigma: 1.0, ..SamplerParams::default() },
        SamplerParams { order: vec![Stage::TopP, Stage::TopK], ..SamplerParams::default() },
    ] {
        assert_eq!(needs(all.clone()), Needs::Logits, "{all:?}");
    }
    // XTC and typical may drop the largest, but see only what top-k leaves them.
    assert_eq!(needs(SamplerParams { xtc_probability: 0.5, ..greedy.clone() }), Needs::Top(40));
    assert_eq!(needs(SamplerParams { typical_p: 0.5, top_k: 0, ..greedy }), Needs::Logits);
}

/// From the candidates alone the same token is chosen as from all logits.
#[test]
fn the_top_is_enough() {
    let mut rng = rfgraph::text::Rng::new(8);
    for params in [
        SamplerParams { top_k: 9, xtc_probability: 0.5, ..SamplerParams::default() },
        SamplerParams { top_k: 9, typical_p: 0.6, dynatemp_range: 0.4, ..SamplerParams::default() },
        SamplerParams { top_k: 9, xtc_probability: 1.0, temperature: 0.0, ..SamplerParams::default() },
    ] {
        let mut all = Sampler::new(params.clone(), 100).unwrap();
        let mut top = Sampler::new(params, 100).unwrap();
        for _ in 0..300 {
            let logits: Vec<f32> = (0..100).map(|_| (rng.next_unit() * 40.0).floor() as f32 / 4.0).collect();
            let mut ids: Vec<i32> = (0..100).collect();
            ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
            let best: Vec<f32> = ids[..9].iter().map(|&id| logits[id as usize]).collect();
            assert_eq!(top.sample_top(&ids[..9], &best), all.sample(&logits));
        }
    }
}
