//! Temperature: divides the candidates' logits by a fixed number, or by one that follows their entropy.

use super::candidates::{Candidate, Candidates};
use super::stage::{ActiveStage, Settings};
use super::{Needs, Parameter, Range, Rng, Value};
use crate::text::Tokenizer;

/// The settings of the temperature.
///
/// With a range r above 0 the temperature follows the entropy H of the n candidates: max(0, t − r) + (t + r − max(0, t
/// − r)) · (H / ln n)^exponent.
#[derive(Clone, Debug, PartialEq)]
pub struct Temperature {
    /// Divisor of the logits. At least 0; 0 (with a range of 0) always takes the most probable token.
    pub value: f32,
    /// Largest deviation of the temperature from the value. At least 0; 0 fixes the temperature.
    pub range: f32,
    /// The exponent of the dynamic temperature. Above 0.
    pub exponent: f32,
}

impl Default for Temperature {
    fn default() -> Temperature {
        Temperature { value: 0.8, range: 0.0, exponent: 1.0 }
    }
}

impl Temperature {
    /// A constant temperature.
    pub fn fixed(value: f32) -> Temperature {
        Temperature { value, range: 0.0, ..Temperature::default() }
    }

    /// The temperature for these candidates.
    fn of(&self, candidates: &mut Candidates) -> f64 {
        let (fixed, range) = (f64::from(self.value), f64::from(self.range));
        let possible = candidates.list.iter().filter(|candidate| candidate.logit.is_finite()).count();
        if range == 0.0 || possible < 2 {
            return fixed;
        }
        candidates.softmax();
        // Rounding may lift the share above 1 for a uniform distribution.
        let share = (candidates.entropy() / (possible as f64).ln()).clamp(0.0, 1.0);
        let (low, high) = ((fixed - range).max(0.0), fixed + range);
        low + (high - low) * share.powf(f64::from(self.exponent))
    }
}

impl Settings for Temperature {
    fn name() -> &'static str {
        "temperature"
    }

    fn aliases() -> &'static [&'static str] {
        &["temp"]
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let value = Value::Number(&mut self.value, Range::NotNegative);
        let range = Value::Number(&mut self.range, Range::NotNegative);
        let exponent = Value::Number(&mut self.exponent, Range::Positive);
        vec![
            Parameter::new("temperature", "temp", "T", value).common().help(
                "Temperature: above 1 flattens the distribution, below 1 sharpens it, 0 or less is greedy",
            ),
            Parameter::new("dynatemp_range", "dynatemp-range", "R", range)
                .help("Dynamic temperature: follow the entropy within R of --temp; 0: off"),
            Parameter::new("dynatemp_exponent", "dynatemp-exp", "E", exponent)
                .help("Exponent of the dynamic temperature"),
        ]
    }

    fn acts(&self) -> bool {
        self.value != 1.0 || self.range > 0.0
    }

    fn takes_largest(&self) -> bool {
        self.value == 0.0 && self.range == 0.0
    }

    fn gathers(&self, _n_vocab: usize) -> Option<(usize, usize)> {
        self.takes_largest().then_some((1, 0))
    }

    fn needs(&self, _n_vocab: usize) -> Needs {
        if self.takes_largest() { Needs::Largest } else { Needs::Logits }
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }

    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<Temperature> {
        use proptest::prelude::*;
        let range = prop_oneof![Just(0.0f32), 0.05f32..0.3];
        (0.3f32..2.0, range, 0.5f32..2.0)
            .prop_map(|(value, range, exponent)| Temperature { value, range, exponent })
            .boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, _text: &[u32]) {
        let (t, range) = (f64::from(self.value), f64::from(self.range));
        let p = &chain.p;
        let possible = p.iter().filter(|&&p| p > 0.0).count() as f64;
        let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
        let mut temperature = t;
        if range > 0.0 && possible >= 2.0 {
            let (low, high) = ((t - range).max(0.0), t + range);
            let share = (entropy / possible.ln()).min(1.0);
            temperature = low + (high - low) * share.powf(f64::from(self.exponent));
        }
        chain.left.iter_mut().for_each(|(_, logit)| *logit /= temperature);
    }
}

impl ActiveStage for Temperature {
    /// Makes the first of the largest scores the only candidate.
    fn gather(&mut self, scores: &[f32], candidates: &mut Candidates) {
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let first = scores.iter().zip(0..).find(|&(&score, _)| score == largest);
        candidates.list.clear();
        candidates.list.extend(first.map(|(&logit, id)| Candidate { id, logit, p: 1.0 }));
    }

    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        match self.of(candidates) {
            0.0 => candidates.keep_largest(),
            temperature => candidates.scale /= temperature,
        }
    }

    fn boxed(&self) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{left, logits, neutral, probabilities, softmax};
    use super::super::{Sampler, SamplerParams};
    use super::Temperature;

    proptest! {
        #[test]
        fn greedy_is_the_first_of_the_largest(logits in logits()) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let expected = logits.iter().position(|&logit| logit == largest).unwrap() as u32;
            let greedy = SamplerParams { temperature: Temperature::fixed(0.0), ..neutral() };
            let mut sampler = Sampler::new(greedy, logits.len()).unwrap();
            prop_assert_eq!(sampler.sample(&logits).unwrap(), expected);
        }

        #[test]
        fn temperature_divides_the_logits(logits in logits(), temperature in 0.05f32..5.0) {
            let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / f64::from(temperature)).collect();
            let expected = softmax(&scaled);
            let params = SamplerParams { temperature: Temperature::fixed(temperature), ..neutral() };
            // Exponents are below 400, each with at most two roundings of 2^-53: 400 * 2^-52 = 9e-14.
            for (id, p) in left(params, &logits) {
                prop_assert!((p - expected[id as usize]).abs() < 1e-12, "{} is {}, not {}", id, p, expected[id as usize]);
            }
        }

        #[test]
        fn dynamic_temperature_follows_the_entropy(
            logits in logits(), value in 0.5f32..2.0, range in 0.01f32..0.5, exponent in 0.2f32..3.0,
        ) {
            let p = probabilities(&logits);
            let possible = p.iter().filter(|&&p| p > 0.0).count();
            prop_assume!(possible > 1);
            let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
            let share = (entropy / (possible as f64).ln()).min(1.0);
            let low = f64::from(value) - f64::from(range);
            let dynamic = low + 2.0 * f64::from(range) * share.powf(f64::from(exponent));
            let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / dynamic).collect();
            let expected = softmax(&scaled);
            let params = SamplerParams { temperature: Temperature { value, range, exponent }, ..neutral() };
            // The share has some rounding errors of 2^-53, and the exponents, below 40 / 0.01, as many relative ones.
            for (id, p) in left(params, &logits) {
                prop_assert!((p - expected[id as usize]).abs() < 1e-10, "{} is {}, not {}", id, p, expected[id as usize]);
            }
        }
    }
}
