//! Top-p (nucleus): keeps the most probable tokens until their probabilities reach a sum. Holtzman et al. 2020
//! (arXiv 1904.09751).

use super::candidates::Candidates;
use super::stage::{ActiveStage, Settings};
use super::{Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of top-p.
#[derive(Clone, Debug, PartialEq)]
pub struct TopP {
    /// The sum to reach, in [0, 1]; 1 keeps all.
    pub p: f32,
}

impl Default for TopP {
    fn default() -> TopP {
        TopP { p: 0.95 }
    }
}

impl Settings for TopP {
    fn name() -> &'static str {
        "top_p"
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let p = Parameter::new("top_p", "top-p", "P", Value::Number(&mut self.p, Range::Share)).common();
        vec![p.help("Keep the most probable tokens whose probabilities add up to P; 1: off")]
    }

    fn acts(&self) -> bool {
        self.p < 1.0
    }

    fn keeps_largest(&self) -> bool {
        true
    }

    fn sorts(&self) -> bool {
        true
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }

    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<TopP> {
        use proptest::strategy::Strategy;
        (0.1f32..1.0).prop_map(|p| TopP { p }).boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, _text: &[u32]) {
        let all = (0..chain.left.len()).collect();
        chain.until(all, self.p);
    }
}

impl ActiveStage for TopP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.softmax();
        let sum = f64::from(self.p);
        candidates.keep_until(|taken| taken >= sum, |candidate| -f64::from(candidate.logit));
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
    use super::TopP;

    proptest! {
        #[test]
        fn top_p_keeps_the_fewest_that_reach_the_sum(logits in logits(), sum in 0.0f32..1.0) {
            let p = probabilities(&logits);
            let expected = until(&p, sum, |id| -f64::from(logits[id]));
            // Sums in another order differ in their last bits, so a sum this close to the limit is not tested.
            let kept: f64 = expected.iter().map(|&id| p[id as usize]).sum();
            prop_assume!((kept - f64::from(sum)).abs() > 1e-12);
            let params = SamplerParams { top_p: TopP { p: sum }, ..neutral() };
            prop_assert_eq!(ids(&left(params, &logits)), expected);
        }
    }

    /// As in llama.cpp; typical sampling must exceed the sum.
    #[test]
    fn reaching_the_sum_is_enough() {
        assert_eq!(left(SamplerParams { top_p: TopP { p: 0.5 }, ..neutral() }, &[1.0; 4]).len(), 2);
    }
}
