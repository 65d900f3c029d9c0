//! Locally typical sampling: keeps the tokens whose information −ln p is nearest the distribution's entropy, until
//! their probabilities exceed a sum. Meister et al. 2022 (arXiv 2202.00666).

use super::candidates::{Candidate, Candidates};
use super::stage::{ActiveStage, Settings};
use super::{Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of locally typical sampling.
#[derive(Clone, Debug, PartialEq)]
pub struct TypicalP {
    /// The sum to exceed, in (0, 1]; 1 keeps all.
    pub p: f32,
}

impl Default for TypicalP {
    fn default() -> TypicalP {
        TypicalP { p: 1.0 }
    }
}

impl Settings for TypicalP {
    fn name() -> &'static str {
        "typ_p"
    }

    fn aliases() -> &'static [&'static str] {
        &["typical", "typical_p"]
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let value = Value::Number(&mut self.p, Range::PositiveShare);
        let p = Parameter::new("typical_p", "typical-p", "P", value).alias("typical");
        vec![p.help("Keep the tokens of most typical information whose probabilities add up to P; 1: off")]
    }

    fn acts(&self) -> bool {
        self.p < 1.0
    }

    fn sorts(&self) -> bool {
        true
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }

    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<TypicalP> {
        use proptest::strategy::Strategy;
        (0.1f32..1.0).prop_map(|p| TypicalP { p }).boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, _text: &[u32]) {
        let p = &chain.p;
        let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        let distance: Vec<f64> = p.iter().map(|p| (-p.ln() - entropy).abs()).collect();
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| {
            distance[a].total_cmp(&distance[b]).then(chain.left[a].0.cmp(&chain.left[b].0))
        });
        let near = |w: &[usize]| p[w[0]] != p[w[1]] && distance[w[1]] - distance[w[0]] < super::tests::CLOSE;
        chain.close |= order.windows(2).any(near);
        chain.until(order, self.p);
    }
}

impl ActiveStage for TypicalP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.softmax();
        let entropy = candidates.entropy();
        let distance = |candidate: &Candidate| (-candidate.p.ln() - entropy).abs();
        let sum = f64::from(self.p);
        // Strictly more than the sum, as in llama.cpp.
        candidates.keep_until(|taken| taken > sum, distance);
    }

    fn boxed(&self) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SamplerParams;
    use super::super::tests::{ids, left, logits, neutral, probabilities, until};
    use super::TypicalP;

    proptest! {
        #[test]
        fn typical_keeps_tokens_nearest_the_entropy(logits in logits(), sum in 0.01f32..1.0) {
            let p = probabilities(&logits);
            let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
            let distance = |id: usize| (-p[id].ln() - entropy).abs();
            let expected = until(&p, sum, distance);
            let kept: f64 = expected.iter().map(|&id| p[id as usize]).sum();
            prop_assume!((kept - f64::from(sum)).abs() > 1e-12);
            // Distances on both sides of the entropy that are equal but for rounding are not tested.
            let mut distances: Vec<(f64, f64)> = (0..p.len()).map(|id| (distance(id), p[id])).collect();
            distances.sort_by(|a, b| a.partial_cmp(b).unwrap());
            prop_assume!(distances.windows(2).all(|d| d[0].1 == d[1].1 || d[1].0 - d[0].0 > 1e-12 || d[1].0.is_infinite()));
            let params = SamplerParams { typical_p: TypicalP { p: sum }, ..neutral() };
            prop_assert_eq!(ids(&left(params, &logits)), expected);
        }
    }

    /// As in llama.cpp; for top-p reaching the sum is enough.
    #[test]
    fn reaching_the_sum_is_not_enough() {
        assert_eq!(left(SamplerParams { typical_p: TypicalP { p: 0.5 }, ..neutral() }, &[1.0; 4]).len(), 3);
    }
}
