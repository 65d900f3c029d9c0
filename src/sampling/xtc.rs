//! XTC ("exclude top choices"): of the tokens above a probability threshold, keeps only the least probable, for a
//! random share of the draws. p-e-w 2024.

use super::candidates::{Candidate, Candidates, by_logit};
use super::stage::{ActiveStage, Settings};
use super::{Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of XTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Xtc {
    /// Probability that XTC acts on a draw, in [0, 1].
    pub probability: f32,
    /// Smallest probability of a top choice, in [0, 1]; above 0.5 there is at most one, so XTC is off.
    pub threshold: f32,
}

impl Default for Xtc {
    fn default() -> Xtc {
        Xtc { probability: 0.0, threshold: 0.1 }
    }
}

impl Settings for Xtc {
    fn name() -> &'static str {
        "xtc"
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let probability = Value::Number(&mut self.probability, Range::Share);
        let threshold = Value::Number(&mut self.threshold, Range::Share);
        vec![
            Parameter::new("xtc_probability", "xtc-probability", "P", probability)
                .help("XTC: probability of removing all top choices but the least probable one; 0: off"),
            Parameter::new("xtc_threshold", "xtc-threshold", "P", threshold)
                .help("XTC: smallest probability of a top choice; above 0.5: off"),
        ]
    }

    fn acts(&self) -> bool {
        self.probability > 0.0 && self.threshold <= 0.5
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }

    /// XTC always acts, so that its reference needs no random numbers.
    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<Xtc> {
        use proptest::strategy::Strategy;
        (0.0f32..0.5).prop_map(|threshold| Xtc { probability: 1.0, threshold }).boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, _text: &[u32]) {
        let (p, threshold) = (&chain.p, f64::from(self.threshold));
        chain.close |= p.iter().any(|p| (p - threshold).abs() < super::tests::CLOSE);
        let top = p.iter().filter(|&&p| p >= threshold).count();
        if top >= 2 && p.len() - (top - 1) >= chain.min_keep {
            chain.left.drain(..top - 1);
        }
    }
}

impl ActiveStage for Xtc {
    fn apply(&mut self, candidates: &mut Candidates, rng: &mut Rng) {
        if candidates.list.len() < 2 || rng.next_unit() >= f64::from(self.probability) {
            return;
        }
        candidates.softmax();
        // With a threshold of 0, all possible tokens are top choices.
        let top = |candidate: &Candidate| candidate.p > 0.0 && candidate.p >= f64::from(self.threshold);
        let list = &mut candidates.list;
        let n_top = list.iter().filter(|candidate| top(candidate)).count();
        let Some(stays) = list.iter().filter(|c| top(c)).copied().max_by(by_logit) else { return };
        if n_top >= 2 && list.len() - (n_top - 1) >= candidates.min_keep {
            list.retain(|candidate| !top(candidate) || candidate.id == stays.id);
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
    use super::super::tests::{assert_drawn_as, ids, left, logits, neutral, probabilities};
    use super::Xtc;

    proptest! {
        #[test]
        fn xtc_drops_all_top_choices_but_the_last(logits in logits(), threshold in 0.0f32..0.5) {
            let p = probabilities(&logits);
            prop_assume!(p.iter().all(|p| (p - f64::from(threshold)).abs() > 1e-9));
            let mut top: Vec<usize> = (0..p.len()).filter(|&id| p[id] >= f64::from(threshold)).collect();
            top.sort_by(|&a, &b| p[b].partial_cmp(&p[a]).unwrap().then(a.cmp(&b)));
            top.pop();
            let expected: Vec<u32> = (0..p.len()).filter(|id| !top.contains(id)).map(|id| id as u32).collect();
            let always = SamplerParams { xtc: Xtc { probability: 1.0, threshold }, ..neutral() };
            prop_assert_eq!(ids(&left(always, &logits)), expected);
        }
    }

    /// The draws are a mixture of both distributions.
    #[test]
    fn xtc_acts_on_its_share_of_the_tokens() {
        let logits: Vec<f32> = (0..8u8).map(|n| f32::from(n) * 0.4).collect();
        let xtc = |probability| SamplerParams { xtc: Xtc { probability, threshold: 0.1 }, ..neutral() };
        let (never, always) = (left(xtc(0.0), &logits), left(xtc(1.0), &logits));
        assert!(always.len() < never.len());
        let excluded = |id| always.iter().find(|&&(other, _)| other == id).map_or(0.0, |&(_, p)| p);
        let mixed: Vec<(u32, f64)> =
            never.iter().map(|&(id, p)| (id, 0.7 * p + 0.3 * excluded(id))).collect();
        assert_drawn_as(&mixed, xtc(0.3), &logits);
    }
}
