//! Top-n-sigma: keeps the tokens whose logits are within n standard deviations of the largest. Tang et al. 2024 (arXiv
//! 2411.07641). An earlier temperature has no effect: it scales the logits and the deviation alike.

use super::candidates::Candidates;
use super::stage::{ActiveStage, Settings};
use super::{Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of top-n-sigma.
#[derive(Clone, Debug, PartialEq)]
pub struct TopNSigma {
    /// Number of standard deviations of the candidates' logits. 0 and below keep all.
    pub n: f32,
}

impl Default for TopNSigma {
    fn default() -> TopNSigma {
        TopNSigma { n: -1.0 }
    }
}

impl Settings for TopNSigma {
    fn name() -> &'static str {
        "top_n_sigma"
    }

    fn aliases() -> &'static [&'static str] {
        &["top_nsigma"]
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let value = Value::Number(&mut self.n, Range::Finite);
        let n = Parameter::new("top_n_sigma", "top-n-sigma", "N", value).alias("top-nsigma");
        vec![n.help(
            "Keep the tokens whose logits are within N standard deviations of the largest; 0 or less: off",
        )]
    }

    fn acts(&self) -> bool {
        self.n > 0.0
    }

    fn keeps_largest(&self) -> bool {
        true
    }

    fn changes_scores(&self) -> bool {
        true
    }

    fn rules_out(&self) -> bool {
        true
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }

    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<TopNSigma> {
        use proptest::strategy::Strategy;
        (0.3f32..3.0).prop_map(|n| TopNSigma { n }).boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, _text: &[u32]) {
        let finite: Vec<f64> = chain.left.iter().map(|l| l.1).filter(|l| l.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let variance = finite.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / finite.len() as f64;
        let bar = chain.left[0].1 - f64::from(self.n) * variance.sqrt();
        chain.close |= chain.left.iter().any(|&(_, logit)| (logit - bar).abs() < super::tests::CLOSE);
        chain.left.retain(|&(_, logit)| logit >= bar);
    }
}

impl ActiveStage for TopNSigma {
    fn change_scores(&mut self, scores: &mut [f32]) {
        let possible = || scores.iter().copied().filter(|score| score.is_finite());
        let lowest = lowest_kept(possible, self.n);
        for score in scores.iter_mut().filter(|score| f64::from(**score) < lowest) {
            *score = f32::NEG_INFINITY;
        }
    }

    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let possible = || candidates.list.iter().map(|c| c.logit).filter(|logit| logit.is_finite());
        let lowest = lowest_kept(possible, self.n);
        candidates.list.retain(|candidate| f64::from(candidate.logit) >= lowest);
    }

    fn boxed(&self) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }
}

/// The lowest logit within `n` standard deviations of the largest.
fn lowest_kept<I: Iterator<Item = f32>>(possible: impl Fn() -> I, n: f32) -> f64 {
    let count = possible().count() as f64;
    let mean = possible().map(f64::from).sum::<f64>() / count;
    let variance = possible().map(|logit| (f64::from(logit) - mean).powi(2)).sum::<f64>() / count;
    let largest = possible().fold(f32::NEG_INFINITY, f32::max);
    f64::from(largest) - f64::from(n) * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SamplerParams;
    use super::super::tests::{ids, left, logits, neutral};
    use super::TopNSigma;

    proptest! {
        #[test]
        fn top_n_sigma_keeps_tokens_near_the_largest(logits in logits(), n in 0.01f32..3.0) {
            let finite: Vec<f64> = logits.iter().filter(|l| l.is_finite()).map(|&l| f64::from(l)).collect();
            let mean = finite.iter().sum::<f64>() / finite.len() as f64;
            let deviation = (finite.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / finite.len() as f64).sqrt();
            let bar = finite.iter().copied().fold(f64::MIN, f64::max) - f64::from(n) * deviation;
            prop_assume!(deviation == 0.0 || finite.iter().all(|l| (l - bar).abs() > 1e-9));
            let expected: Vec<u32> =
                (0..logits.len()).filter(|&id| f64::from(logits[id]) >= bar).map(|id| id as u32).collect();
            // Ruled out and dropped count as the same: the probability is 0.
            let mut left = left(SamplerParams { top_n_sigma: TopNSigma { n }, ..neutral() }, &logits);
            left.retain(|&(_, p)| p > 0.0);
            prop_assert_eq!(ids(&left), expected);
        }
    }
}
