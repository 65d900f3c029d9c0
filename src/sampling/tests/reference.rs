//! Plain definitions that the tests of several samplers share.

use proptest::prelude::*;

use super::super::stage::Settings;
use super::super::{MinP, Sampler, SamplerParams, Temperature, TopK, TopP};
pub(crate) use crate::text::demo_tokenizer;

/// Everything off, temperature 1.
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

/// The tokens that are left after a history, sorted, with their probabilities.
pub fn left_after(params: SamplerParams, logits: &[f32], history: &[u32]) -> Vec<(u32, f64)> {
    let mut sampler = Sampler::new(params, logits.len()).unwrap();
    history.iter().for_each(|&token| sampler.accept(token));
    let mut left: Vec<_> = sampler.distribution(logits).unwrap().iter().map(|c| (c.id, c.p)).collect();
    left.sort_by_key(|&(id, _)| id);
    left
}

/// The tokens that are left, sorted, with their probabilities.
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

/// Logits in steps of a half, so that ties happen, with some tokens ruled out.
pub fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![8 => (-20i8..20).prop_map(|n| f32::from(n) / 2.0), 1 => Just(f32::NEG_INFINITY)];
    prop::collection::vec(logit, 1..80)
        .prop_filter("one is possible", |logits| logits.iter().any(|logit| logit.is_finite()))
}

/// The longest repetition that each token would continue, at most `since_break` tokens long: by comparing every end of
/// the window with its end.
pub fn repetitions(window: &[u32], since_break: usize) -> Vec<(u32, usize)> {
    let ends = 0..window.len().saturating_sub(1);
    let common = |end: usize| {
        let pairs = window[..=end].iter().rev().zip(window.iter().rev());
        pairs.take_while(|(a, b)| a == b).count().min(since_break)
    };
    ends.map(|end| (window[end + 1], common(end))).collect()
}

/// Candidates as the definitions of the stages see them, one stage after the other.
pub struct Chain {
    /// Tokens with their logits; before each stage the most probable first.
    pub left: Vec<(u32, f64)>,
    /// Their probabilities before the stage.
    pub p: Vec<f64>,
    /// The fewest that filters by probability leave.
    pub min_keep: usize,
    /// Whether a decision among them hung on the last digits of a number.
    pub close: bool,
}

/// Numbers nearer than this are too close: logits are rounded to 24 bits, and here below 128, to 128 · 2^-24 = 8e-6.
pub const CLOSE: f64 = 1e-4;

impl Chain {
    /// All tokens of a vocabulary.
    pub fn new(logits: &[f32], min_keep: usize) -> Chain {
        let left = (0..).zip(logits.iter().map(|&logit| f64::from(logit))).collect();
        Chain { left, p: vec![], min_keep, close: false }
    }

    fn probabilities(&self) -> Vec<f64> {
        softmax(&self.left.iter().map(|&(_, logit)| logit).collect::<Vec<_>>())
    }

    /// Keeps candidates in an order until their probabilities reach `sum` and there are `min_keep`.
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

    /// One stage by its definition; the temperature is divided by where it stands.
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
