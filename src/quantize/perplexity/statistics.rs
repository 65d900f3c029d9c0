//! Means and their standard errors, of likelihoods and of the divergence of two models.

use serde::Serialize;

/// The sums of numbers and of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    squares: f64,
    count: usize,
}

/// A number with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The number.
    pub value: f64,
    /// Its standard error; 0 if there are too few numbers.
    pub error: f64,
}

impl Summary {
    /// `f` of the number; its error is scaled by `slope`, the derivative of `f`.
    fn map(self, f: impl Fn(f64) -> f64, slope: f64) -> Summary {
        Summary { value: f(self.value), error: slope.abs() * self.error }
    }

    /// The exponential.
    fn exp(self) -> Summary {
        self.map(f64::exp, self.value.exp())
    }
}

impl Mean {
    /// Counts a number.
    pub fn add(&mut self, x: f64) {
        self.sum += x;
        self.squares += x * x;
        self.count += 1;
    }

    /// The number of counted numbers.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean. Its standard error is the root of the variance over `count − 1`.
    pub fn summary(&self) -> Summary {
        let n = self.count as f64;
        let value = if self.count == 0 { 0.0 } else { self.sum / n };
        let variance = self.squares / n - value * value;
        let known = self.count > 1 && variance > 0.0;
        Summary { value, error: if known { (variance / (n - 1.0)).sqrt() } else { 0.0 } }
    }
}

/// Log-probabilities of all tokens of the vocabulary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogProbs(Vec<f64>);

impl LogProbs {
    /// Replaces the log-probabilities by those of the logits.
    pub fn set(&mut self, logits: impl IntoIterator<Item = f64>) {
        self.0.clear();
        self.0.extend(logits);
        let largest = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.0.iter().map(|x| (x - largest).exp()).sum();
        let log_sum = largest + sum.ln();
        self.0.iter_mut().for_each(|x| *x -= log_sum);
    }

    /// Replaces the log-probabilities by those of the logits.
    pub fn set_logits(&mut self, logits: &[f32]) {
        self.set(logits.iter().map(|&x| f64::from(x)));
    }

    /// All log-probabilities, one for each token.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The log-probability of a token; negative infinity outside of the vocabulary.
    pub fn of(&self, token: u32) -> f64 {
        self.0.get(token as usize).copied().unwrap_or(f64::NEG_INFINITY)
    }

    /// The token with the largest log-probability, the first of equal ones.
    fn top(&self) -> usize {
        (0..self.0.len()).fold(0, |best, i| if self.0[i] > self.0[best] { i } else { best })
    }
}

/// The likelihood of a text's tokens under a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood(Mean);

impl Likelihood {
    /// Counts a token, given the model's log-probabilities before it.
    pub fn add(&mut self, probs: &LogProbs, token: u32) {
        self.0.add(-probs.of(token));
    }

    /// The number of tokens.
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// The mean negative log-likelihood of a token, in nats.
    pub fn nll(&self) -> Summary {
        self.0.summary()
    }

    /// The perplexity: the exponential of the mean negative log-likelihood. Its error follows from that of the mean.
    pub fn perplexity(&self) -> Summary {
        self.nll().exp()
    }
}

/// The divergence of a model from a base model on a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Divergences {
    base: Likelihood,
    /// Difference of both models' negative log-likelihoods, token by token, so that the variance of the text cancels.
    nll: Mean,
    kl: Mean,
    /// The divergence of each token, for the quantiles.
    all_kl: Vec<f64>,
    p: Mean,
    p_squared: Mean,
    same_top: Mean,
}

impl Divergences {
    /// Counts a token, given the log-probabilities of the base model and of the model before it. `base_nll` is the
    /// token's negative log-likelihood by the base model, which `base` may have rounded.
    pub fn add(&mut self, base: &LogProbs, base_nll: f64, probs: &LogProbs, token: u32) {
        // A token without probability adds 0, whatever its probability in the other model is.
        let term = |(&p, &q): (&f64, &f64)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) };
        let kl: f64 = base.values().iter().zip(probs.values()).map(term).sum();
        self.kl.add(kl);
        self.all_kl.push(kl);
        self.base.0.add(base_nll);
        self.nll.add(-probs.of(token) - base_nll);
        let difference = probs.of(token).exp() - (-base_nll).exp();
        self.p.add(difference);
        self.p_squared.add(difference * difference);
        self.same_top.add(f64::from(u8::from(base.top() == probs.top())));
    }

    /// The base model's perplexity.
    pub fn base_perplexity(&self) -> Summary {
        self.base.perplexity()
    }

    /// The model's perplexity over the base model's.
    pub fn perplexity_ratio(&self) -> Summary {
        self.nll.summary().exp()
    }

    /// The mean Kullback-Leibler divergence of the model's distribution from the base model's, `Σ p ln(p / q)`, in nats.
    pub fn mean_kl(&self) -> Summary {
        self.kl.summary()
    }

    /// The divergences below which these shares of the tokens are, between 0 and 1: 0.5 for the median, 1 for the
    /// largest. Interpolated between two tokens; 0 if no token was counted.
    pub fn kl_quantiles<const N: usize>(&self, shares: [f64; N]) -> [f64; N] {
        let mut sorted = self.all_kl.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let at = |i: usize| sorted.get(i.min(last)).copied().unwrap_or(0.0);
        shares.map(|share| {
            let place = share.clamp(0.0, 1.0) * last as f64;
            let (below, part) = (place as usize, place.fract());
            at(below) * (1.0 - part) + at(below + 1) * part
        })
    }

    /// The share of tokens before which both models have the same most likely token.
    pub fn same_top(&self) -> Summary {
        self.same_top.summary()
    }

    /// The mean difference of the two models' probabilities of the text's tokens.
    pub fn mean_p_difference(&self) -> Summary {
        self.p.summary()
    }

    /// The root of the mean square of that difference.
    pub fn rms_p_difference(&self) -> Summary {
        let square = self.p_squared.summary();
        let root = square.value.sqrt();
        square.map(f64::sqrt, if root > 0.0 { 0.5 / root } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probs(logits: &[f32]) -> LogProbs {
        let mut probs = LogProbs::default();
        probs.set_logits(logits);
        probs
    }

    proptest! {
        #[test]
        fn means_have_the_errors_of_their_definition(xs in proptest::collection::vec(-5f64..5.0, 2..50)) {
            let mut mean = Mean::default();
            xs.iter().for_each(|&x| mean.add(x));
            let n = xs.len() as f64;
            let value = xs.iter().sum::<f64>() / n;
            let variance = xs.iter().map(|x| (x - value).powi(2)).sum::<f64>() / n;
            let summary = mean.summary();
            // Sums of at most 50 squares up to 25: rounding is far below the tolerance.
            prop_assert!((summary.value - value).abs() < 1e-12);
            prop_assert!((summary.error.powi(2) - variance / (n - 1.0)).abs() < 1e-12);
        }

        #[test]
        fn divergence_of_equal_models_is_zero_and_of_others_positive(
            a in proptest::collection::vec(-20f32..20.0, 2..40), shift in -50f32..50.0
        ) {
            let shifted: Vec<f32> = a.iter().map(|x| x + shift).collect();
            let reversed: Vec<f32> = a.iter().rev().copied().collect();
            let of = |other: &[f32]| {
                let mut all = Divergences::default();
                all.add(&probs(&a), -probs(&a).of(0), &probs(other), 0);
                all.mean_kl().value
            };
            // A shift of all logits changes no probability, but rounds them: by at most 70 · 2⁻²⁴ each.
            prop_assert!(of(&shifted).abs() < 1e-4);
            prop_assert!(of(&reversed) > -1e-12);
        }
    }

    #[test]
    fn statistics_agree_with_values_computed_by_hand() {
        let (half, quarter) = (probs(&[0.0, 0.0]), probs(&[0.0, 3f32.ln()]));
        let mut all = Divergences::default();
        all.add(&half, 2f64.ln(), &quarter, 0);
        all.add(&half, 2f64.ln(), &half, 1);
        let kl = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((all.mean_kl().value - kl / 2.0).abs() < 1e-7);
        let [least, median, most] = all.kl_quantiles([0.0, 0.5, 1.0]);
        assert!(least.abs() < 1e-7 && (median - kl / 2.0).abs() < 1e-7 && (most - kl).abs() < 1e-7);
        assert!((all.mean_p_difference().value + 0.125).abs() < 1e-7);
        assert!((all.rms_p_difference().value - 0.0625f64.sqrt() / 2f64.sqrt()).abs() < 1e-7);
        assert_eq!(all.same_top().value, 0.5);
        assert!((all.base_perplexity().value - 2.0).abs() < 1e-12);
        // The first token is half as likely, the second as likely: the mean is the root of two.
        assert!((all.perplexity_ratio().value - 2f64.sqrt()).abs() < 1e-7);
        assert_eq!(Divergences::default().kl_quantiles([0.5]), [0.0]);
    }
}
