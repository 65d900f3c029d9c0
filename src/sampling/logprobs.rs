//! Log-probabilities of tokens.

use super::candidates::{Candidate, by_logit};
use super::top_k::largest as top_k;

/// Log-probabilities of a token and of the most probable tokens: the softmax of the raw logits, before any bias,
/// penalty, filter, temperature or grammar.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token that was chosen.
    pub token: u32,
    /// ln of its probability; −∞ for probability 0.
    pub logprob: f64,
    /// The most probable tokens with the ln of their probabilities, most probable first.
    pub top: Vec<(u32, f64)>,
}

impl TokenLogprobs {
    /// The log-probability of `token` and of the `n` most probable tokens. Sums are in f64.
    pub fn new(logits: &[f32], token: u32, n: usize) -> TokenLogprobs {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        let logprob = |logit: f32| f64::from(logit - largest) - sum.ln();
        let mut top: Vec<Candidate> = Vec::new();
        if n > 0 {
            top_k(logits, n.min(logits.len()), &mut top);
            // `top_k` returns a whole vocabulary in id order.
            top.sort_by(by_logit);
        }
        TokenLogprobs {
            token,
            logprob: logits.get(token as usize).map_or(f64::NEG_INFINITY, |&logit| logprob(logit)),
            top: top.iter().map(|candidate| (candidate.id, logprob(candidate.logit))).collect(),
        }
    }
}
