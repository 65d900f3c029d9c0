//! Plain definitions shared by the tests of several samplers.

use proptest::prelude::*;

use super::super::stage::Settings;
use super::super::{MinP, Sampler, SamplerParams, Temperature, TopK, TopP};
pub(crate) use crate::text::demo_tokenizer;

/// All stages off, temperature 1.
pub fn neutral() -> SamplerParams {
    SamplerParams {
        top_k: TopK { k: 0 },
        top_p: TopP { p: 1.0 },
        min_p: MinP { p: 0.0 },
        temperature: Temperature::fixed(1.0),
        seed: 1,
        ..SamplerParams::default()
    }
}

/// The tokens left after a history, sorted by id, with their probabilities.
pub fn left_after(params: SamplerParams, logits: &[f32], history: &[u32]) -> Vec<(u32, f64)> {
    let mut sampler = Sampler::new(params, logits.len()).unwrap();
    history.iter().for_each(|&token| sampler.accept(token));
    let mut left: Vec<_> = sampler.distribution(logits).unwrap().iter().map(|c| (c.id, c.p)).collect();
    left.sort_by_key(|&(id, _)| id);
    left
}

/// The tokens left without a history, sorted by id, with their probabilities.
pub fn left(params: SamplerParams, logits: &[f32]) -> Vec<(u32, f64)> {
    left_after(params, logits, &[])
}

pub fn ids(left: &[(u32, f64)]) -> Vec<u32> {
    left.iter().map(|&(id, _)| id).collect()
}

pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    softmax(&logits.iter().map(|&logit| f64::from(logit)).collect::<Vec<_>>())
}

/// The ids in the order of a key, the lowest id first among equals, until their probabilities reach `sum`.
pub fn until(p: &[f64], sum: f32, key: impl Fn(usize) -> f64) -> Vec<u32> {
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

/// Logits in steps of 0.5, so that ties occur, with some tokens ruled out.
pub fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![8 => (-20i8..20).prop_map(|n| f32::from(n) / 2.0), 1 => Just(f32::NEG_INFINITY)];
    prop::collection::vec(logit, 1..80)
        .prop_filter("one is possible", |logits| logits.iter().any(|logit| logit.is_finite()))
}

/// The length, at most `since_break`, of the longest repetition that each token would continue: compares every position
/// of the window with the window's end.
pub fn repetitions(window: &[u32], since_break: usize) -> Vec<(u32, usize)> {
    let ends = 0..window.len().saturating_sub(1);
    let common = |end: usize| {
        let pairs = window[..=end].iter().rev().zip(window.iter().rev());
        pairs.take_while(|(a, b)| a == b).count().min(since_break)
    };
    ends.map(|end| (window[end + 1], common(end))).collect()
}

/// Candidates for the stages' plain definitions, applied one after the other.
pub struct Chain {
    /// Tokens with their logits; sorted before each stage, most probable first.
    pub left: Vec<(u32, f64)>,
    /// Their probabilities before the stage.
    pub p: Vec<f64>,
    /// The minimum that filters by probability keep.
    pub min_keep: usize,
    /// True if a comparison depended on the last digits of a number.
    pub close: bool,
}

/// Numbers nearer than this are close: logits, here below 128, are rounded to 24 bits, that is to 128 · 2^-24 = 8e-6.
pub const CLOSE: f64 = 1e-4;

impl Chain {
    /// All tokens of the vocabulary.
    pub fn new(logits: &[f32], min_keep: usize) -> Chain {
        let left = (0..).zip(logits.iter().map(|&logit| f64::from(logit))).collect();
        Chain { left, p: vec![], min_keep, close: false }
    }

    fn probabilities(&self) -> Vec<f64> {
        softmax(&self.left.iter().map(|&(_, logit)| logit).collect::<Vec<_>>())
    }

    /// Keeps candidates in the given order until their probabilities reach `sum` and at least `min_keep` are kept.
    pub fn until(&mut self, order: Vec<usize>, sum: f32) {
        let (mut taken, mut kept) = (0.0, vec![]);
        for i in order {
            kept.push(self.left[i]);
            taken += self.p[i];
            self.close |= (taken - f64::from(sum)).abs() < CLOSE;
            if taken >= f64::from(sum) && kept.len() >= self.min_keep {
                break;
            }
        }
        self.left = kept;
    }

    /// Applies one stage by its definition; the temperature divides at its place in the order.
    pub fn stage(&mut self, stage: &dyn Settings, text: &[u32]) {
        self.left.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        self.close |= self.left.windows(2).any(|w| w[0].1 != w[1].1 && (w[0].1 - w[1].1).abs() < CLOSE);
        self.p = self.probabilities();
        stage.reference(self, text);
    }

    /// The tokens that are left, sorted, with their probabilities.
    pub fn finish(self) -> Vec<(u32, f64)> {
        let p = self.probabilities();
        let mut left: Vec<(u32, f64)> = self.left.iter().zip(p).map(|(&(id, _), p)| (id, p)).collect();
        left.sort_by_key(|&(id, _)| id);
        left
    }
}
