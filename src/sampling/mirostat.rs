//! Mirostat 2: controls the mean surprise of the text, in place of all stages but temperature.
//!
//! It drops the tokens whose surprise −log₂ p is above µ, draws, and moves µ by the learning rate so that the mean
//! surprise approaches τ. Basu et al. 2021 (arXiv 2007.14966).

use super::candidates::Candidates;
use super::{ParamError, Range, Stage};

/// The settings of Mirostat 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// τ: the target mean surprise of the text, in bits.
    pub tau: f32,
    /// η: the learning rate of µ.
    pub eta: f32,
}

impl Default for Mirostat {
    fn default() -> Mirostat {
        Mirostat { tau: 5.0, eta: 0.1 }
    }
}

impl Mirostat {
    /// The one stage that acts together with Mirostat.
    pub(super) const STAGE: Stage = Stage::Temperature;

    /// Refuses settings outside their ranges.
    pub(super) fn check(self) -> Result<(), ParamError> {
        for (name, value) in [("mirostat_tau", self.tau), ("mirostat_eta", self.eta)] {
            if !Range::NotNegative.contains(value) {
                let expected = Range::NotNegative.describe();
                return Err(ParamError::OutOfRange { name, value, expected });
            }
        }
        Ok(())
    }

    /// µ at the start: twice the target.
    pub(super) fn first_mu(self) -> f64 {
        2.0 * f64::from(self.tau)
    }

    /// µ after drawing a token of probability `p`.
    pub(super) fn next_mu(self, mu: f64, p: f64) -> f64 {
        mu - f64::from(self.eta) * (-p.log2() - f64::from(self.tau))
    }
}

/// Keeps the candidates whose surprise −log₂ p is at most `mu` bits, and always the most probable one.
pub(super) fn keep_at_most_surprising(candidates: &mut Candidates, mu: f64) {
    candidates.softmax();
    if candidates.list.iter().any(|candidate| -candidate.p.log2() <= mu) {
        candidates.list.retain(|candidate| -candidate.p.log2() <= mu);
    } else {
        candidates.keep_largest();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{ids, left, logits, neutral, probabilities};
    use super::super::{Rng, Sampler, SamplerParams};
    use super::Mirostat;

    proptest! {
        #[test]
        fn mirostat_drops_surprising_tokens(logits in logits(), tau in 0.0f32..4.0) {
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
    }

    /// µ moves by η times each token's deviation from τ, so the mean surprise over n tokens deviates by µ's total
    /// movement over ηn. µ stays between 0 and the largest surprise of a token: for 1000 logits within 4 of each other,
    /// log₂ 1000 + 4 log₂ e = 15.7 bits.
    #[test]
    fn mirostat_keeps_the_mean_surprise() {
        let mut rng = Rng::new(3);
        for (tau, eta) in [(2.0f32, 0.1f32), (5.0, 0.1), (5.0, 0.5)] {
            let mirostat = Some(Mirostat { tau, eta });
            let mut sampler = Sampler::new(SamplerParams { mirostat, ..neutral() }, 1000).unwrap();
            let n = 4000;
            let mut surprise = 0.0;
            for _ in 0..n {
                // About 9 bits of entropy: above τ.
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
}
