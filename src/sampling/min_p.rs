//! Min-p: keeps the tokens whose probability is at least a share of the largest one. Nguyen et al. 2024 (arXiv
//! 2407.01082).

use super::candidates::{Candidate, Candidates, by_logit};
use super::stage::{ActiveStage, Settings};
use super::{Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of min-p.
#[derive(Clone, Debug, PartialEq)]
pub struct MinP {
    /// Share of the most probable token's probability, in [0, 1]; 0 keeps all.
    pub p: f32,
}

impl Default for MinP {
    fn default() -> MinP {
        MinP { p: 0.05 }
    }
}

impl Settings for MinP {
    fn name() -> &'static str {
        "min_p"
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let p = Parameter::new("min_p", "min-p", "P", Value::Number(&mut self.p, Range::Share)).common();
        vec![p.help("Keep the tokens with at least P times the probability of the most probable one; 0: off")]
    }

    fn acts(&self) -> bool {
        self.p > 0.0
    }

    fn keeps_largest(&self) -> bool {
        true
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }

    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<MinP> {
        use proptest::strategy::Strategy;
        (0.001f32..0.5).prop_map(|p| MinP { p }).boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, _text: &[u32]) {
        let bar = f64::from(self.p) * chain.p[0];
        chain.close |= chain.p.iter().any(|p| (p / bar - 1.0).abs() < super::tests::CLOSE);
        let enough = chain.p.iter().filter(|&&p| p >= bar).count();
        chain.left.truncate(enough.max(chain.min_keep));
    }
}

impl ActiveStage for MinP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let lowest = f64::from(candidates.largest()) + f64::from(self.p).ln() / candidates.scale;
        let probable = |candidate: &Candidate| f64::from(candidate.logit) >= lowest;
        if candidates.list.iter().filter(|candidate| probable(candidate)).count() >= candidates.min_keep {
            candidates.list.retain(probable);
        } else {
            candidates.list.sort_unstable_by(by_logit);
            candidates.list.truncate(candidates.min_keep);
        }
    }

    fn boxed(&self) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SamplerParams;
    use super::super::tests::{ids, left, logits, neutral, probabilities};
    use super::MinP;

    proptest! {
        #[test]
        fn min_p_keeps_tokens_near_the_largest(logits in logits(), min_p in 0.001f32..1.0) {
            let p = probabilities(&logits);
            let largest = p.iter().copied().fold(0.0, f64::max);
            prop_assume!(p.iter().all(|p| (p / largest / f64::from(min_p) - 1.0).abs() > 1e-9));
            let expected: Vec<u32> =
                (0..p.len()).filter(|&id| p[id] >= f64::from(min_p) * largest).map(|id| id as u32).collect();
            let params = SamplerParams { min_p: MinP { p: min_p }, ..neutral() };
            prop_assert_eq!(ids(&left(params, &logits)), expected);
        }
    }
}
