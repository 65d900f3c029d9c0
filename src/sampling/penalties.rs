//! Penalties on recent tokens of the text: repetition (Keskar et al. 2019, arXiv 1909.05858), frequency and presence.

use std::collections::HashMap;

use super::candidates::{Candidates, subtract};
use super::history::{MAX_WINDOW, Ring};
use super::stage::{ActiveStage, Settings};
use super::{Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of the three penalties.
#[derive(Clone, Debug, PartialEq)]
pub struct Penalties {
    /// Window: the number of last tokens they look at, at most 16777216; 0 turns them off.
    pub last_n: usize,
    /// Divides the positive logits of tokens in the window and multiplies their negative ones. Above 0; 1 has no
    /// effect.
    pub repeat: f32,
    /// Subtracted from a token's logit once per occurrence in the window. 0 has no effect.
    pub frequency: f32,
    /// Subtracted from the logit of every token in the window. 0 has no effect.
    pub presence: f32,
}

impl Default for Penalties {
    fn default() -> Penalties {
        Penalties { last_n: 64, repeat: 1.0, frequency: 0.0, presence: 0.0 }
    }
}

impl Penalties {
    /// Penalizes a token with `count` occurrences in the window; its logit will be multiplied by `scale` later.
    fn penalize(&self, logit: &mut f32, count: u32, scale: f64) {
        if count > 0 && *logit > f32::NEG_INFINITY {
            let repeat = f64::from(self.repeat);
            let (frequency, presence) = (f64::from(self.frequency), f64::from(self.presence));
            let repeated = if *logit > 0.0 { f64::from(*logit) / repeat } else { f64::from(*logit) * repeat };
            *logit = repeated.clamp(f32::MIN.into(), f32::MAX.into()) as f32;
            subtract(logit, (f64::from(count) * frequency + presence) / scale);
        }
    }
}

impl Settings for Penalties {
    fn name() -> &'static str {
        "penalties"
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let repeat = Value::Number(&mut self.repeat, Range::Positive);
        let last_n = Value::Count(&mut self.last_n, MAX_WINDOW);
        let frequency = Value::Number(&mut self.frequency, Range::Finite);
        let presence = Value::Number(&mut self.presence, Range::Finite);
        vec![
            Parameter::new("repeat_penalty", "repeat-penalty", "R", repeat)
                .common()
                .help("Repetition penalty on the last --repeat-last-n tokens; 1: off"),
            Parameter::new("penalty_last_n", "repeat-last-n", "N", last_n)
                .common()
                .help("Number of last tokens that the repetition, frequency and presence penalties count"),
            Parameter::new("frequency_penalty", "frequency-penalty", "A", frequency)
                .help("Frequency penalty, per occurrence among the last tokens; 0: off"),
            Parameter::new("presence_penalty", "presence-penalty", "A", presence)
                .help("Presence penalty on every token among the last ones; 0: off"),
        ]
    }

    fn acts(&self) -> bool {
        let neutral = self.repeat == 1.0 && self.frequency == 0.0 && self.presence == 0.0;
        self.last_n > 0 && !neutral
    }

    fn changes_scores(&self) -> bool {
        true
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        // One more than the window: a token enters before the oldest leaves. Doubled, since a map with removals and
        // insertions may otherwise grow to clean up its tombstones.
        let counts = HashMap::with_capacity(2 * (self.last_n + 1));
        Box::new(ActivePenalties { settings: self.clone(), window: Ring::new(self.last_n), counts })
    }

    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<Penalties> {
        use proptest::strategy::Strategy;
        (1usize..30, 0.8f32..1.5, -0.6f32..0.7, -0.6f32..0.7)
            .prop_map(|(last_n, repeat, frequency, presence)| Penalties {
                last_n,
                repeat,
                frequency,
                presence,
            })
            .boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, text: &[u32]) {
        let window = &text[text.len().saturating_sub(self.last_n)..];
        for (id, logit) in &mut chain.left {
            let count = window.iter().filter(|token| *token == id).count();
            if count > 0 {
                let repeat = f64::from(self.repeat);
                *logit = if *logit > 0.0 { *logit / repeat } else { *logit * repeat };
                *logit -= count as f64 * f64::from(self.frequency) + f64::from(self.presence);
            }
        }
    }
}

/// The penalties at work, with each token's number of occurrences in the window.
#[derive(Clone)]
struct ActivePenalties {
    settings: Penalties,
    window: Ring,
    counts: HashMap<u32, u32>,
}

impl ActivePenalties {
    fn enters(&mut self, token: u32) {
        *self.counts.entry(token).or_insert(0) += 1;
    }

    fn leaves(&mut self, token: u32) {
        if let Some(count) = self.counts.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&token);
            }
        }
    }
}

impl ActiveStage for ActivePenalties {
    fn change_scores(&mut self, scores: &mut [f32]) {
        for (&token, &count) in &self.counts {
            if let Some(score) = scores.get_mut(token as usize) {
                self.settings.penalize(score, count, 1.0);
            }
        }
    }

    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let scale = candidates.scale;
        for candidate in candidates.list.iter_mut() {
            let count = self.counts.get(&candidate.id).copied().unwrap_or(0);
            self.settings.penalize(&mut candidate.logit, count, scale);
        }
    }

    fn accept(&mut self, token: u32) {
        self.enters(token);
        if let Some(oldest) = self.window.push(token) {
            self.leaves(oldest);
        }
    }

    fn rewind(&mut self, n: usize) {
        for _ in 0..n {
            let Some((newest, back)) = self.window.pop() else { return };
            self.leaves(newest);
            if let Some(back) = back {
                self.enters(back);
            }
        }
    }

    fn clear(&mut self) {
        self.window.clear();
        self.counts.clear();
    }

    fn boxed(&self) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::neutral;
    use super::super::{Sampler, SamplerParams};
    use super::Penalties;

    proptest! {
        #[test]
        fn penalties_follow_their_formula(
            logits in prop::collection::vec(-8.0f32..8.0, 12), history in prop::collection::vec(0u32..12, 0..40),
            last_n in 0usize..20, repeat in 0.5f32..2.0, frequency in -1.0f32..1.0, presence in -1.0f32..1.0,
        ) {
            let params = SamplerParams { penalties: Penalties { last_n, repeat, frequency, presence }, ..neutral() };
            let mut sampler = Sampler::new(params, logits.len()).unwrap();
            history.iter().for_each(|&token| sampler.accept(token));
            let recent = &history[history.len().saturating_sub(last_n)..];
            for candidate in sampler.distribution(&logits).unwrap() {
                let count = recent.iter().filter(|&&token| token == candidate.id).count() as f32;
                let logit = logits[candidate.id as usize];
                let expected = match count {
                    0.0 => logit,
                    _ => (if logit > 0.0 { logit / repeat } else { logit * repeat }) - count * frequency - presence,
                };
                // Values stay below 64, and three operations round by at most 2^-24 of them each: 1.2e-5.
                prop_assert!((candidate.logit - expected).abs() < 1.2e-5, "{} is {}, not {}", candidate.id, candidate.logit, expected);
            }
        }
    }
}
