//! What the filters mean, plainly and in f64, one after the other.

use proptest::prelude::*;
use rfgraph::text::{DryParams, Sampler, SamplerParams, Stage};

/// Everything off, temperature 1.
pub fn neutral() -> SamplerParams {
    SamplerParams { top_k: 0, top_p: 1.0, min_p: 0.0, temperature: 1.0, seed: 1, ..SamplerParams::default() }
}

/// DRY without sequence breakers.
pub fn dry(multiplier: f32, base: f32, allowed_length: usize, penalty_last_n: usize) -> DryParams {
    DryParams { multiplier, base, allowed_length, penalty_last_n, sequence_breakers: vec![] }
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

/// Candidates, and whether a decision among them hangs on the last digits of a number.
pub struct Chain {
    pub left: Vec<(u32, f64)>,
    pub close: bool,
}

/// Numbers nearer than this are too close: logits are rounded to 24 bits, and here below 128, to 128 · 2^-24 = 8e-6.
const CLOSE: f64 = 1e-4;

impl Chain {
    fn probabilities(&self) -> Vec<f64> {
        softmax(&self.left.iter().map(|&(_, logit)| logit).collect::<Vec<_>>())
    }

    fn sort(&mut self) {
        self.left.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        self.close |= self.left.windows(2).any(|w| w[0].1 != w[1].1 && (w[0].1 - w[1].1).abs() < CLOSE);
    }

    /// Keeps candidates in their order until their probabilities reach `sum`.
    fn until(&mut self, order: Vec<usize>, p: &[f64], sum: f32, at_least: usize) {
        let (mut taken, mut kept) = (0.0, vec![]);
        for i in order {
            kept.push(self.left[i]);
            taken += p[i];
            self.close |= (taken - f64::from(sum)).abs() < CLOSE;
            if taken >= f64::from(sum) && kept.len() >= at_least {
                break;
            }
        }
        self.left = kept;
    }

    /// One stage by its definition; the temperature is divided by where it stands.
    pub fn stage(&mut self, stage: Stage, params: &SamplerParams, history: &[u32]) {
        let window = |n: usize| &history[history.len().saturating_sub(n)..];
        self.sort();
        let p = self.probabilities();
        let all: Vec<usize> = (0..p.len()).collect();
        match stage {
            Stage::Penalties => {
                for (id, logit) in &mut self.left {
                    let count = window(params.penalty_last_n).iter().filter(|token| *token == id).count();
                    if count > 0 {
                        let repeat = f64::from(params.repeat_penalty);
                        *logit = if *logit > 0.0 { *logit / repeat } else { *logit * repeat };
                        *logit -= count as f64 * f64::from(params.frequency_penalty)
                            + f64::from(params.presence_penalty);
                    }
                }
            }
            Stage::Dry => {
                let window = window(params.dry.penalty_last_n);
                for (id, logit) in &mut self.left {
                    let repeated = repetitions(window, usize::MAX);
                    let longest = repeated.iter().filter(|(token, _)| token == id).map(|&(_, n)| n).max();
                    if let Some(n) = longest.filter(|&n| n >= params.dry.allowed_length) {
                        let beyond = (n - params.dry.allowed_length) as i32;
                        *logit -= f64::from(params.dry.multiplier) * f64::from(params.dry.base).powi(beyond);
                    }
                }
            }
            Stage::TopNSigma => {
                let finite: Vec<f64> = self.left.iter().map(|l| l.1).filter(|l| l.is_finite()).collect();
                let mean = finite.iter().sum::<f64>() / finite.len() as f64;
                let variance = finite.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / finite.len() as f64;
                let bar = self.left[0].1 - f64::from(params.top_n_sigma) * variance.sqrt();
                self.close |= self.left.iter().any(|&(_, logit)| (logit - bar).abs() < CLOSE);
                self.left.retain(|&(_, logit)| logit >= bar);
            }
            Stage::TopK => self.left.truncate(params.top_k),
            Stage::TypicalP => {
                let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
                let distance = |i: usize| (-p[i].ln() - entropy).abs();
                let mut order = all;
                order.sort_by(|&a, &b| {
                    distance(a).partial_cmp(&distance(b)).unwrap().then(self.left[a].0.cmp(&self.left[b].0))
                });
                let near = |w: &[usize]| p[w[0]] != p[w[1]] && distance(w[1]) - distance(w[0]) < CLOSE;
                self.close |= order.windows(2).any(near);
                self.until(order, &p, params.typical_p, params.min_keep);
            }
            Stage::TopP => self.until(all, &p, params.top_p, params.min_keep),
            Stage::MinP => {
                let bar = f64::from(params.min_p) * p[0];
                self.close |= p.iter().any(|p| (p / bar - 1.0).abs() < CLOSE);
                let enough = p.iter().filter(|&&p| p >= bar).count().max(params.min_keep);
                self.left.truncate(enough);
            }
            Stage::Xtc => {
                self.close |= p.iter().any(|p| (p - f64::from(params.xtc_threshold)).abs() < CLOSE);
                let top = p.iter().filter(|&&p| p >= f64::from(params.xtc_threshold)).count();
                if top >= 2 && p.len() - (top - 1) >= params.min_keep {
                    self.left.drain(..top - 1);
                }
            }
            Stage::Temperature => {
                let (t, range) = (f64::from(params.temperature), f64::from(params.dynatemp_range));
                let possible = p.iter().filter(|&&p| p > 0.0).count() as f64;
                let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
                let mut temperature = t;
                if range > 0.0 && possible >= 2.0 {
                    let (low, high) = ((t - range).max(0.0), t + range);
                    let share = (entropy / possible.ln()).min(1.0);
                    temperature = low + (high - low) * share.powf(f64::from(params.dynatemp_exponent));
                }
                self.left.iter_mut().for_each(|(_, logit)| *logit /= temperature);
            }
        }
    }

    /// The tokens that are left, sorted, with their probabilities.
    pub fn finish(self) -> Vec<(u32, f64)> {
        let p = self.probabilities();
        let mut left: Vec<(u32, f64)> = self.left.iter().zip(p).map(|(&(id, _), p)| (id, p)).collect();
        left.sort_by_key(|&(id, _)| id);
        left
    }
}
