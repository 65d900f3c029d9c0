//! The filters of sampling: each keeps some candidates and drops the others, never all.
//!
//! None sorts a whole vocabulary: top-k sorts only what it keeps, and the filters by probability take
//! candidates from a heap until they have enough.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Candidate;

/// The most probable first, the lowest id among equals. A total order: logits here are never NaN.
fn by_logit(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// How many candidates [`top_k`] holds at most, for a vocabulary of this size.
pub(super) fn room(k: usize, n_vocab: usize) -> usize {
    if k == 0 { n_vocab } else { k.saturating_mul(2).min(n_vocab) }
}

/// Makes the `k` largest scores candidates, the largest first; with `k` = 0 all of them, by id.
///
/// Most scores cost one comparison: candidates gather in twice the room they need, and each time that is
/// full the worse half goes, and its best is the bar for all that follow.
pub(in crate::text) fn top_k(scores: &[f32], k: usize, candidates: &mut Vec<Candidate>) {
    candidates.clear();
    let all = scores.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit, p: 0.0 });
    if k == 0 || k >= scores.len() {
        candidates.extend(all);
        return;
    }
    let room = room(k, scores.len());
    let mut bar = None;
    for candidate in all {
        // Ids ascend, so an equal score behind k others is worse than all of them.
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

/// Keeps the `k` candidates with the largest logits.
pub(super) fn keep_top(candidates: &mut Vec<Candidate>, k: usize) {
    if k < candidates.len() {
        candidates.sort_unstable_by(by_logit);
        candidates.truncate(k);
    }
}

/// The largest logit.
fn largest(candidates: &[Candidate]) -> f32 {
    candidates.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
}

/// Writes each candidate's probability, its logits times `scale`: the softmax over the candidates. Sums are
/// in f64, in the candidates' order.
pub(super) fn softmax(candidates: &mut [Candidate], scale: f64) {
    let largest = largest(candidates);
    let mut sum = 0.0;
    for candidate in candidates.iter_mut() {
        candidate.p = (f64::from(candidate.logit - largest) * scale).exp();
        sum += candidate.p;
    }
    candidates.iter_mut().for_each(|candidate| candidate.p /= sum);
}

/// The entropy of the candidates' probabilities, in nats.
pub(super) fn entropy(candidates: &[Candidate]) -> f64 {
    candidates.iter().filter(|c| c.p > 0.0).map(|c| -c.p * c.p.ln()).sum()
}

/// A candidate with the key it is taken by: the smallest key first, then the lowest id.
pub(super) struct Keyed {
    key: f64,
    candidate: Candidate,
}

impl Ord for Keyed {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.total_cmp(&self.key).then(other.candidate.id.cmp(&self.candidate.id))
    }
}

impl PartialOrd for Keyed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Keyed {}

/// How much the filters by probability keep.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    /// What the logits are multiplied by.
    pub(super) scale: f64,
    /// The fewest candidates to leave, if there are so many.
    pub(super) at_least: usize,
}

/// Keeps candidates in the order of `key` until the sum of their probabilities is `enough`; at least one. `heap` is
/// working memory, empty before and after.
fn take_until(
    candidates: &mut Vec<Candidate>,
    heap: &mut Vec<Keyed>,
    enough: impl Fn(f64) -> bool,
    at_least: usize,
    key: impl Fn(&Candidate) -> f64,
) {
    heap.extend(candidates.drain(..).map(|candidate| Keyed { key: key(&candidate), candidate }));
    let mut rest = BinaryHeap::from(std::mem::take(heap));
    let mut taken = 0.0;
    while let Some(Keyed { candidate, .. }) = rest.pop() {
        candidates.push(candidate);
        taken += candidate.p;
        if enough(taken) && candidates.len() >= at_least {
            break;
        }
    }
    *heap = rest.into_vec();
    heap.clear();
}

/// Keeps the most probable until their probabilities reach `top_p`.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, heap: &mut Vec<Keyed>, top_p: f32, keep: Keep) {
    softmax(candidates, keep.scale);
    let enough = |taken| taken >= f64::from(top_p);
    take_until(candidates, heap, enough, keep.at_least, |candidate| -f64::from(candidate.logit));
}

/// Keeps those whose information −ln p is nearest the entropy until their probabilities exceed `typical_p`, as llama.cpp
/// has it.
pub(super) fn typical(candidates: &mut Vec<Candidate>, heap: &mut Vec<Keyed>, typical_p: f32, keep: Keep) {
    softmax(candidates, keep.scale);
    let entropy = entropy(candidates);
    let distance = |candidate: &Candidate| (-candidate.p.ln() - entropy).abs();
    take_until(candidates, heap, |taken| taken > f64::from(typical_p), keep.at_least, distance);
}

/// Keeps those at least `min_p` times as probable as the most probable.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, min_p: f32, keep: Keep) {
    let lowest = f64::from(largest(candidates)) + f64::from(min_p).ln() / keep.scale;
    let probable = |candidate: &Candidate| f64::from(candidate.logit) >= lowest;
    if candidates.iter().filter(|candidate| probable(candidate)).count() >= keep.at_least {
        return candidates.retain(probable);
    }
    candidates.sort_unstable_by(by_logit);
    candidates.truncate(keep.at_least);
}

/// Keeps those whose logits are within `n` standard deviations of the largest. A temperature changes nothing here: it
/// scales both.
pub(super) fn top_n_sigma(candidates: &mut Vec<Candidate>, n: f32) {
    let possible = || candidates.iter().map(|c| c.logit).filter(|logit| logit.is_finite());
    let lowest = sigma_bar(possible, n);
    candidates.retain(|candidate| f64::from(candidate.logit) >= lowest);
}

/// The lowest logit that [`top_n_sigma`] keeps.
pub(super) fn sigma_bar<I: Iterator<Item = f32>>(possible: impl Fn() -> I, n: f32) -> f64 {
    let count = possible().count() as f64;
    let mean = possible().map(f64::from).sum::<f64>() / count;
    let variance = possible().map(|logit| (f64::from(logit) - mean).powi(2)).sum::<f64>() / count;
    let largest = possible().fold(f32::NEG_INFINITY, f32::max);
    f64::from(largest) - f64::from(n) * variance.sqrt()
}

/// Drops all that are at least `threshold` probable but the least probable of them; nothing if there are fewer than
/// two, or too few would be left.
pub(super) fn xtc(candidates: &mut Vec<Candidate>, threshold: f32, keep: Keep) {
    softmax(candidates, keep.scale);
    // A threshold of 0 makes a top choice of all that is possible.
    let top = |candidate: &Candidate| candidate.p > 0.0 && candidate.p >= f64::from(threshold);
    let n_top = candidates.iter().filter(|candidate| top(candidate)).count();
    let Some(stays) = candidates.iter().filter(|c| top(c)).copied().max_by(by_logit) else { return };
    if n_top >= 2 && candidates.len() - (n_top - 1) >= keep.at_least {
        candidates.retain(|candidate| !top(candidate) || candidate.id == stays.id);
    }
}

/// Keeps the first of the largest alone.
pub(super) fn keep_largest(candidates: &mut Vec<Candidate>) {
    if let Some(best) = candidates.iter().copied().min_by(by_logit) {
        candidates.clear();
        candidates.push(Candidate { p: 1.0, ..best });
    }
}

/// Mirostat's filter: keeps those whose surprise −log₂ p is at most `mu` bits; at least the most probable.
pub(super) fn at_most_surprising(candidates: &mut Vec<Candidate>, mu: f64, scale: f64) {
    softmax(candidates, scale);
    if candidates.iter().any(|candidate| -candidate.p.log2() <= mu) {
        candidates.retain(|candidate| -candidate.p.log2() <= mu);
    } else {
        keep_largest(candidates);
    }
}
