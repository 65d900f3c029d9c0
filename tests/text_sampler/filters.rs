//! Each filter against its definition.

use proptest::prelude::*;
use rfgraph::text::{Mirostat, SampleError, Sampler, SamplerParams};

use super::reference::*;

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
    fn top_n_sigma_keeps_what_is_near_the_largest(logits in logits(), n in 0.01f32..3.0) {
        let finite: Vec<f64> = logits.iter().filter(|l| l.is_finite()).map(|&l| f64::from(l)).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let deviation = (finite.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / finite.len() as f64).sqrt();
        let bar = finite.iter().copied().fold(f64::MIN, f64::max) - f64::from(n) * deviation;
        prop_assume!(deviation == 0.0 || finite.iter().all(|l| (l - bar).abs() > 1e-9));
        let expected: Vec<u32> =
            (0..logits.len()).filter(|&id| f64::from(logits[id]) >= bar).map(|id| id as u32).collect();
        // Ruled out and left out are the same: the probability is 0.
        let mut left = left(SamplerParams { top_n_sigma: n, ..neutral() }, &logits);
        left.retain(|&(_, p)| p > 0.0);
        prop_assert_eq!(ids(&left), expected);
    }

    #[test]
    fn xtc_drops_all_top_choices_but_the_last(logits in logits(), xtc_threshold in 0.0f32..0.5) {
        let p = probabilities(&logits);
        prop_assume!(p.iter().all(|p| (p - f64::from(xtc_threshold)).abs() > 1e-9));
        let mut top: Vec<usize> = (0..p.len()).filter(|&id| p[id] >= f64::from(xtc_threshold)).collect();
        top.sort_by(|&a, &b| p[b].partial_cmp(&p[a]).unwrap().then(a.cmp(&b)));
        top.pop();
        let expected: Vec<u32> = (0..p.len()).filter(|id| !top.contains(id)).map(|id| id as u32).collect();
        let always = SamplerParams { xtc_probability: 1.0, xtc_threshold, ..neutral() };
        prop_assert_eq!(ids(&left(always, &logits)), expected);
    }

    #[test]
    fn the_dynamic_temperature_follows_the_entropy(
        logits in logits(), temperature in 0.5f32..2.0, dynatemp_range in 0.01f32..0.5, dynatemp_exponent in 0.2f32..3.0,
    ) {
        let p = probabilities(&logits);
        let possible = p.iter().filter(|&&p| p > 0.0).count();
        prop_assume!(possible > 1);
        let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        let (t, range) = (f64::from(temperature), f64::from(dynatemp_range));
        let share = (entropy / (possible as f64).ln()).min(1.0);
        let dynamic = t - range + 2.0 * range * share.powf(f64::from(dynatemp_exponent));
        let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / dynamic).collect();
        let expected = softmax(&scaled);
        // The share is off by some roundings of 2^-53, and the exponents, below 40 / 0.01, by as many of themselves.
        for (id, p) in left(SamplerParams { temperature, dynatemp_range, dynatemp_exponent, ..neutral() }, &logits) {
            prop_assert!((p - expected[id as usize]).abs() < 1e-10, "{} is {}, not {}", id, p, expected[id as usize]);
        }
    }

    #[test]
    fn min_keep_leaves_so_many(logits in logits(), min_keep in 0usize..90, p in 0.01f32..1.0) {
        let least = min_keep.min(logits.len());
        let base = SamplerParams { min_keep, ..neutral() };
        for params in [
            SamplerParams { top_p: p, ..base.clone() },
            SamplerParams { typical_p: p, ..base.clone() },
            SamplerParams { min_p: p, ..base.clone() },
            SamplerParams { xtc_probability: 1.0, xtc_threshold: p / 2.0, ..base.clone() },
        ] {
            let with = left(params.clone(), &logits);
            let without = left(SamplerParams { min_keep: 0, ..params.clone() }, &logits);
            let whole_or_as_many = without.len().max(least);
            // XTC drops all it would, or nothing.
            let xtc = if without.len() >= least { without.len() } else { logits.len() };
            prop_assert_eq!(with.len(), if params.xtc_probability > 0.0 { xtc } else { whole_or_as_many });
        }
    }

    #[test]
    fn mirostat_keeps_what_is_not_too_surprising(logits in logits(), tau in 0.0f32..4.0) {
        let p = probabilities(&logits);
        let mu = 2.0 * f64::from(tau);
        prop_assume!(p.iter().all(|p| (-p.log2() - mu).abs() > 1e-9));
        let mut expected: Vec<u32> = (0..p.len()).filter(|&id| -p[id].log2() <= mu).map(|id| id as u32).collect();
        if expected.is_empty() {
            let best = (0..p.len()).fold(0, |best, id| if p[id] > p[best] { id } else { best });
            expected.push(best as u32);
        }
        let params = SamplerParams { mirostat: Some(Mirostat { tau, eta: 0.1 }), ..neutral() };
        prop_assert_eq!(ids(&left(params, &logits)), expected);
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

/// A sum that is met exactly is enough for top-p, and not for typical: as in llama.cpp.
#[test]
fn a_sum_that_is_met() {
    let kept = |params| left(params, &[1.0; 4]).len();
    assert_eq!(kept(SamplerParams { top_p: 0.5, ..neutral() }), 2);
    assert_eq!(kept(SamplerParams { typical_p: 0.5, ..neutral() }), 3);
}
