//! Top-k: keeps the k most probable tokens. Fan et al. 2018 (arXiv 1805.04833).

use super::candidates::{Candidate, Candidates, by_logit};
use super::stage::{ActiveStage, Settings};
use super::{Needs, Parameter, Rng, Value};
use crate::text::Tokenizer;

/// The settings of top-k.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopK {
    /// Number of tokens to keep; 0 keeps all.
    pub k: usize,
}

impl Default for TopK {
    fn default() -> TopK {
        TopK { k: 40 }
    }
}

/// The most candidates that are worth selecting on the device.
pub(super) const MOST_NEEDED: usize = 256;

impl Settings for TopK {
    fn name() -> &'static str {
        "top_k"
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        let k = Parameter::new("top_k", "top-k", "K", Value::Count(&mut self.k, usize::MAX));
        vec![k.common().help("Keep the K most probable tokens; 0: off")]
    }

    fn acts(&self) -> bool {
        self.k > 0
    }

    fn keeps_largest(&self) -> bool {
        true
    }

    fn gathers(&self, n_vocab: usize) -> Option<(usize, usize)> {
        Some((room(self.k, n_vocab), self.k.min(n_vocab)))
    }

    fn needs(&self, n_vocab: usize) -> Needs {
        match self.k.min(n_vocab) {
            k if k <= MOST_NEEDED => Needs::Top(k),
            _ => Needs::Logits,
        }
    }

    fn start(&self, _tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }

    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<TopK> {
        use proptest::strategy::Strategy;
        (1usize..60).prop_map(|k| TopK { k }).boxed()
    }

    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, _text: &[u32]) {
        chain.left.truncate(self.k);
    }
}

impl ActiveStage for TopK {
    fn gather(&mut self, scores: &[f32], candidates: &mut Candidates) {
        largest(scores, self.k, &mut candidates.list);
    }

    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.keep_top(self.k);
    }

    fn boxed(&self) -> Box<dyn ActiveStage> {
        Box::new(self.clone())
    }
}

/// The most candidates that [`largest`] holds at once, for this vocabulary size.
fn room(k: usize, n_vocab: usize) -> usize {
    k.saturating_mul(2).min(n_vocab)
}

/// Makes candidates of the `k` > 0 largest scores, largest first; of all scores in id order if there are no more than
/// `k`.
///
/// Most scores cost one comparison: candidates collect in a buffer of 2k, and each time it is full the worse half is
/// dropped; the best dropped one is the bar for all later scores.
pub(super) fn largest(scores: &[f32], k: usize, candidates: &mut Vec<Candidate>) {
    candidates.clear();
    let all = scores.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit, p: 0.0 });
    if k >= scores.len() {
        candidates.extend(all);
        return;
    }
    let room = room(k, scores.len());
    let mut bar = None;
    for candidate in all {
        // Ids ascend, so a score equal to the bar is worse than all k candidates.
        if bar.is_some_and(|bar| candidate.logit <= bar) {
            continue;
        }
        candidates.push(candidate);
        if candidates.len() == room {
            candidates.select_nth_unstable_by(k - 1, by_logit);
            candidates.truncate(k);
            bar = candidates.last().map(|candidate| candidate.logit);
        }
    }
    candidates.sort_unstable_by(by_logit);
    candidates.truncate(k);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SamplerParams;
    use super::super::tests::{ids, left, logits, neutral};
    use super::TopK;

    proptest! {
        #[test]
        fn top_k_keeps_the_k_largest(logits in logits(), k in 1usize..90) {
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap().then(a.cmp(&b)));
            order.truncate(k);
            order.sort_unstable();
            prop_assert_eq!(ids(&left(SamplerParams { top_k: TopK { k }, ..neutral() }, &logits)), order);
        }
    }
}
