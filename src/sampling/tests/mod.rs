//! The chain of all samplers against the chain of their references, and draws against the probabilities.
//!
//! Tests of a single sampler are in its file.

mod reference;
mod rewind;

use proptest::prelude::*;

use super::Rng;
use super::*;
pub use reference::*;

/// The text before each draw.
const HISTORY: [u32; 6] = [3, 4, 5, 3, 4, 4];

/// Draws with these settings, and compares the counts with the probabilities.
pub fn assert_drawn_as(left: &[(u32, f64)], params: SamplerParams, logits: &[f32]) {
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
    // With d degrees of freedom chi-square has mean d and variance 2d; the bound is 4 deviations plus a margin for the
    // tail. The seed is fixed, so the result never varies.
    let freedom = left.len() as f64 - 1.0;
    assert!(chi_square < freedom + 4.0 * (2.0 * freedom).sqrt() + 4.0, "{chi_square} for {freedom} degrees");
}

#[test]
fn tokens_are_drawn_as_distributed() {
    let logits: Vec<f32> = (0..16u8).map(|n| f32::from(n * 7 % 16) * 0.25).collect();
    let temperature = |value, range| Temperature { value, range, ..Temperature::default() };
    let dry = Dry { multiplier: 0.5, base: 1.5, allowed_length: 1, last_n: 10, sequence_breakers: vec![] };
    for params in [
        neutral(),
        SamplerParams { temperature: temperature(0.6, 0.0), seed: 2, ..neutral() },
        SamplerParams { temperature: temperature(1.0, 0.5), ..neutral() },
        SamplerParams { top_k: TopK { k: 5 }, ..neutral() },
        SamplerParams { top_p: TopP { p: 0.7 }, ..neutral() },
        SamplerParams { typical_p: TypicalP { p: 0.5 }, ..neutral() },
        SamplerParams { min_p: MinP { p: 0.2 }, seed: 99, ..neutral() },
        SamplerParams { top_n_sigma: TopNSigma { n: 1.0 }, ..neutral() },
        SamplerParams { xtc: Xtc { probability: 1.0, threshold: 0.1 }, ..neutral() },
        SamplerParams {
            penalties: Penalties { frequency: 0.3, repeat: 1.2, ..Penalties::default() },
            ..neutral()
        },
        SamplerParams { dry, ..neutral() },
        SamplerParams { logit_bias: vec![(3, 1.0), (4, -1.0)], ..neutral() },
    ] {
        let left = left_after(params.clone(), &logits, &HISTORY);
        assert_drawn_as(&left, params, &logits);
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
fn settings_out_of_their_ranges_are_named() {
    let refused = |params: SamplerParams| Sampler::new(params, 8).err().map(|error| error.to_string());
    for value in [f32::NAN, f32::INFINITY, -0.1] {
        let expected = Some(format!("temperature is {value}; expected 0 or a positive number"));
        assert_eq!(refused(SamplerParams { temperature: Temperature::fixed(value), ..neutral() }), expected);
    }
    // Each number of each stage.
    let mut defaults = SamplerParams::default();
    let n_parameters = defaults.parameters().len();
    for i in 0..n_parameters {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut params = neutral();
            let mut parameters = params.parameters();
            let (name, Value::Number(value, range)) = (parameters[i].name, &mut parameters[i].value) else {
                break;
            };
            let expected = format!("{name} is {bad}; expected {}", range.describe());
            **value = bad;
            assert_eq!(refused(params), Some(expected));
        }
    }
    let last_n = Penalties { last_n: usize::MAX, ..Penalties::default() };
    assert_eq!(
        refused(SamplerParams { penalties: last_n, ..neutral() }),
        Some(format!("penalty_last_n is {}; at most 16777216 is supported", usize::MAX))
    );
    let bias = |bias| SamplerParams { logit_bias: vec![bias], ..neutral() };
    assert_eq!(refused(bias((7, f32::NEG_INFINITY))), None);
    assert!(refused(bias((7, f32::INFINITY))).is_some());
    assert_eq!(refused(bias((8, 1.0))).unwrap(), "logit_bias names token 8; the vocabulary has 8");
    let twice = SamplerParams { order: vec![Stage::Xtc, Stage::Xtc], ..neutral() };
    assert_eq!(refused(twice).unwrap(), "the sampler `xtc` is listed twice");
    let mirostat = |tau, eta| SamplerParams { mirostat: Some(Mirostat { tau, eta }), ..neutral() };
    assert!(refused(mirostat(-1.0, 0.1)).unwrap().starts_with("mirostat_tau is -1"));
    assert!(refused(mirostat(1.0, f32::NAN)).unwrap().starts_with("mirostat_eta is NaN"));
    let empty = Dry { sequence_breakers: vec![String::new()], ..Dry::default() };
    assert!(refused(SamplerParams { dry: empty, ..neutral() }).unwrap().contains("breaker is empty"));
    assert_eq!(Sampler::new(neutral(), 0).err(), Some(ParamError::EmptyVocabulary));
}

/// Programs and the command line reach each stage and each parameter by one name.
#[test]
fn names_are_unique_and_found_in_every_spelling() {
    let mut params = SamplerParams::default();
    let parameters = params.parameters();
    for (i, parameter) in parameters.iter().enumerate() {
        let same = |other: &Parameter<'_>| other.name == parameter.name || other.flag == parameter.flag;
        assert!(!parameters[..i].iter().any(same), "{}", parameter.name);
        assert!(!parameter.help.is_empty() && !parameter.value_name.is_empty(), "{}", parameter.name);
    }
    for &stage in Stage::ORDER {
        assert_eq!(stage.name().parse(), Ok(stage));
        assert_eq!(stage.name().replace('_', "-").parse(), Ok(stage));
    }
    for (name, stage) in [
        ("typical", Stage::TypicalP),
        ("typical-p", Stage::TypicalP),
        ("top-nsigma", Stage::TopNSigma),
        (" temp ", Stage::Temperature),
    ] {
        assert_eq!(name.parse(), Ok(stage));
    }
    assert_eq!("warmth".parse::<Stage>(), Err(ParamError::UnknownStage("warmth".into())));
}

#[test]
fn needs_are_minimal_for_the_settings() {
    let needs = |params: SamplerParams| Sampler::new(params, 1000).unwrap().needs();
    let greedy = SamplerParams::greedy();
    let dry = Dry { multiplier: 1.0, sequence_breakers: vec![], ..Dry::default() };
    let repeat = Penalties { repeat: 1.1, ..Penalties::default() };
    let xtc = |probability| Xtc { probability, ..Xtc::default() };
    let typical_p = |p| TypicalP { p };
    assert_eq!(needs(SamplerParams::default()), Needs::Top(40));
    assert_eq!(needs(greedy.clone()), Needs::Largest);
    for all in [
        SamplerParams { penalties: repeat, ..greedy.clone() },
        SamplerParams { logit_bias: vec![(1, 1.0)], ..greedy.clone() },
        SamplerParams { dry, ..greedy.clone() },
        SamplerParams { mirostat: Some(Mirostat::default()), ..greedy.clone() },
        SamplerParams { top_n_sigma: TopNSigma { n: 1.0 }, ..SamplerParams::default() },
        SamplerParams { order: vec![Stage::TopP, Stage::TopK], ..SamplerParams::default() },
    ] {
        assert_eq!(needs(all.clone()), Needs::Logits, "{all:?}");
    }
    let lowered = vec![(1, -1.0), (2, f32::NEG_INFINITY)];
    assert_eq!(needs(SamplerParams { logit_bias: lowered.clone(), ..greedy.clone() }), Needs::Top(3));
    assert_eq!(needs(SamplerParams { logit_bias: lowered, ..SamplerParams::default() }), Needs::Top(42));
    let many = (0..300).map(|id| (id, -1.0)).collect();
    assert_eq!(needs(SamplerParams { logit_bias: many, ..greedy.clone() }), Needs::Logits);
    // XTC and typical may drop the largest, but see only the candidates that top-k keeps.
    assert_eq!(needs(SamplerParams { xtc: xtc(0.5), ..greedy.clone() }), Needs::Top(40));
    assert_eq!(
        needs(SamplerParams { typical_p: typical_p(0.5), top_k: TopK { k: 0 }, ..greedy }),
        Needs::Logits
    );
}

/// The candidates alone give the same token as all logits.
#[test]
fn needed_logits_give_the_same_token() {
    let mut rng = Rng::new(8);
    let xtc = |probability| Xtc { probability, ..Xtc::default() };
    let dynamic = Temperature { range: 0.4, ..Temperature::default() };
    let base = SamplerParams { top_k: TopK { k: 9 }, ..SamplerParams::default() };
    // Biased tokens are among the largest: the drawn logits of these are larger than others'.
    let logit_bias: Vec<(u32, f32)> =
        vec![(0, f32::NEG_INFINITY), (1, -2.5), (1, -0.5), (2, f32::NEG_INFINITY), (60, -1.0), (3, 0.0)];
    for params in [
        SamplerParams { logit_bias: logit_bias.clone(), ..SamplerParams::greedy() },
        SamplerParams { logit_bias, ..base.clone() },
        SamplerParams { xtc: xtc(0.5), ..base.clone() },
        SamplerParams { typical_p: TypicalP { p: 0.6 }, temperature: dynamic, ..base.clone() },
        SamplerParams { xtc: xtc(1.0), temperature: Temperature::fixed(0.0), ..base },
    ] {
        let mut all = Sampler::new(params.clone(), 100).unwrap();
        let mut top = Sampler::new(params, 100).unwrap();
        let needed = match top.needs() {
            Needs::Top(k) => k,
            other => panic!("{other:?} is no part of the logits"),
        };
        for _ in 0..300 {
            let logit = |id| (rng.next_unit() * 40.0).floor() as f32 / 4.0 + if id < 4 { 2.0 } else { 0.0 };
            let logits: Vec<f32> = (0..100).map(logit).collect();
            let mut ids: Vec<i32> = (0..100).collect();
            ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
            let best: Vec<f32> = ids[..needed].iter().map(|&id| logits[id as usize]).collect();
            assert_eq!(top.sample_top(&ids[..needed], &best), all.sample(&logits));
        }
    }
}

/// Extra logits beyond the needed ones change nothing, and fewer are refused.
#[test]
fn a_longer_top_changes_nothing_and_a_shorter_one_is_refused() {
    let (ids, logits): (Vec<i32>, Vec<f32>) = (0..20).map(|id| (id, 20.0 - id as f32 / 8.0)).unzip();
    let given = |sampler: &mut Sampler, n: usize| sampler.sample_top(&ids[..n], &logits[..n]);
    let few = |found, needed| Err(SampleError::TooFew { found, needed });
    let params = SamplerParams { top_k: TopK { k: 9 }, ..SamplerParams::default() };
    let sampler = || Sampler::new(params.clone(), 100).unwrap();
    let (mut exact, mut longer) = (sampler(), sampler());
    for _ in 0..300 {
        assert_eq!(given(&mut longer, 20), given(&mut exact, 9));
    }
    assert_eq!(given(&mut exact, 8), few(8, 9));
    let mut greedy = Sampler::new(SamplerParams::greedy(), 100).unwrap();
    assert_eq!([given(&mut greedy, 1), given(&mut greedy, 20)], [Ok(0), Ok(0)]);
    assert_eq!(given(&mut greedy, 0), few(0, 1));
    let whole = SamplerParams { top_k: TopK { k: 0 }, ..SamplerParams::default() };
    assert_eq!(given(&mut Sampler::new(whole, 20).unwrap(), 20), few(20, 20));
}

/// The bits of mostly twenty logits: arbitrary numbers, or all −∞.
fn any_bits() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        9 => prop::collection::vec(any::<u32>(), 20),
        1 => prop::collection::vec(any::<u32>(), 0..40),
        1 => Just(vec![f32::NEG_INFINITY.to_bits(); 20]),
    ]
}

proptest! {
    /// Stages in any order equal their definitions applied in that order.
    #[test]
    fn stages_act_in_their_order(
        params in SamplerParams::strategy(), logits in logits(), history in prop::collection::vec(0u32..20, 0..30),
        order in Just(Stage::ORDER.to_vec()).prop_shuffle(), n_stages in 1..=Stage::ORDER.len(), min_keep in 0usize..5,
    ) {
        let params = SamplerParams { order: order[..n_stages].to_vec(), min_keep, ..params };
        let mut chain = Chain::new(&logits, min_keep);
        for &stage in &params.order {
            chain.stage(params.stage(stage), &history);
        }
        prop_assume!(!chain.close);
        let expected = chain.finish();
        let found = left_after(params, &logits, &history);
        // Ruled out and dropped count as the same.
        let possible = |left: Vec<(u32, f64)>| left.into_iter().filter(|&(_, p)| p > 0.0).collect::<Vec<_>>();
        let (found, expected) = (possible(found), possible(expected));
        prop_assert_eq!(ids(&found), ids(&expected));
        for (found, expected) in found.iter().zip(&expected) {
            // Two stages round a logit below 128 to 8e-6 each, and it may be divided by 0.3 before or after.
            prop_assert!((found.1 - expected.1).abs() < 1e-4, "{:?} is not {:?}", found, expected);
        }
    }

    #[test]
    fn filters_together_leave_a_distribution(
        logits in logits(), top_k in 0usize..50, top_p in 0.0f32..=1.0, typical_p in 0.01f32..=1.0, min_p in 0.0f32..=1.0, temperature in 0.01f32..3.0,
    ) {
        let params = SamplerParams {
            top_k: TopK { k: top_k },
            top_p: TopP { p: top_p },
            typical_p: TypicalP { p: typical_p },
            min_p: MinP { p: min_p },
            temperature: Temperature::fixed(temperature),
            ..neutral()
        };
        let left = left(params, &logits);
        prop_assert!(!left.is_empty());
        prop_assert!((left.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(left.iter().any(|&(id, p)| p > 0.0 && logits[id as usize].is_finite()));
    }

    #[test]
    fn min_keep_is_a_lower_bound(logits in logits(), min_keep in 0usize..90, p in 0.01f32..1.0) {
        let least = min_keep.min(logits.len());
        let base = SamplerParams { min_keep, ..neutral() };
        for params in [
            SamplerParams { top_p: TopP { p }, ..base.clone() },
            SamplerParams { typical_p: TypicalP { p }, ..base.clone() },
            SamplerParams { min_p: MinP { p }, ..base.clone() },
            SamplerParams { xtc: Xtc { probability: 1.0, threshold: p / 2.0 }, ..base.clone() },
        ] {
            let with = left(params.clone(), &logits);
            let without = left(SamplerParams { min_keep: 0, ..params.clone() }, &logits);
            let whole_or_as_many = without.len().max(least);
            // XTC drops either all top choices but one, or none.
            let xtc = if without.len() >= least { without.len() } else { logits.len() };
            prop_assert_eq!(with.len(), if params.xtc.probability > 0.0 { xtc } else { whole_or_as_many });
        }
    }

    #[test]
    fn a_bias_adds_to_logits(
        logits in prop::collection::vec(-8.0f32..8.0, 12), added in -8.0f32..8.0, token in 0u32..12, out in 0u32..12,
    ) {
        prop_assume!(token != out);
        let logit_bias = vec![(token, added), (out, f32::NEG_INFINITY)];
        let mut biased = logits.clone();
        biased[token as usize] += added;
        biased[out as usize] = f32::NEG_INFINITY;
        prop_assert_eq!(
            left(SamplerParams { logit_bias, ..neutral() }, &logits),
            left(neutral(), &biased)
        );
    }

    #[test]
    fn any_logits_give_a_token_or_an_error(bits in any_bits(), top_k in 0usize..9, seed in any::<u64>(), temperature in 0.0f32..2.0) {
        let logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let params = SamplerParams {
            top_k: TopK { k: top_k },
            temperature: Temperature::fixed(temperature),
            typical_p: TypicalP { p: 0.9 },
            top_p: TopP { p: 0.9 },
            penalties: Penalties { repeat: 1.1, frequency: 0.5, ..Penalties::default() },
            seed,
            ..neutral()
        };
        let mut sampler = Sampler::new(params, 20).unwrap();
        (0..20).for_each(|token| sampler.accept(token));
        match sampler.sample(&logits) {
            Ok(id) => prop_assert!(logits[id as usize].is_finite()),
            Err(SampleError::Length { found, expected }) => prop_assert!(found == logits.len() && expected == 20 && found != 20),
            Err(SampleError::NotFinite { token }) => prop_assert!(logits[token as usize].is_nan() || logits[token as usize] == f32::INFINITY),
            Err(SampleError::NothingPossible) => prop_assert!(logits.iter().all(|&logit| logit == f32::NEG_INFINITY)),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
