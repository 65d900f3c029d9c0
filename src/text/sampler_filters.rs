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
pub(super) fn top_k(scores: &[f32], k: usize, candidates: &mut Vec<Candidate>) {
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

/// Writes each candidate's probability at this temperature: the softmax over the candidates. Sums are
/// in f64, in the candidates' order.
pub(super) fn softmax(candidates: &mut [Candidate], temperature: f32) {
    let largest = candidates.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
    let scale = 1.0 / f64::from(temperature);
    let mut sum = 0.0;
    for candidate in candidates.iter_mut() {
        candidate.p = (f64::from(candidate.logit - largest) * scale).exp();
        sum += candidate.p;
    }
    candidates.iter_mut().for_each(|candidate| candidate.p /= sum);
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

/// Keeps candidates in the order of `key` until their probabilities reach `sum`; at least one. `heap` is
/// working memory, empty before and after.
fn take_until(
    candidates: &mut Vec<Candidate>,
    heap: &mut Vec<Keyed>,
    sum: f32,
    key: impl Fn(&Candidate) -> f64,
) {
    heap.extend(candidates.drain(..).map(|candidate| Keyed { key: key(&candidate), candidate }));
    let mut rest = BinaryHeap::from(std::mem::take(heap));
    let mut taken = 0.0;
    while let Some(Keyed { candidate, .. }) = rest.pop() {
        candidates.push(candidate);
        taken += candidate.p;
        if taken >= f64::from(sum) {
            break;
        }
    }
    *heap = rest.into_vec();
    heap.clear();
}

/// Keeps the most probable until their probabilities reach `top_p`.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, heap: &mut Vec<Keyed>, top_p: f32) {
    if top_p >= 1.0 {
        return;
    }
    softmax(candidates, 1.0);
    take_until(candidates, heap, top_p, |candidate| -f64::from(candidate.logit));
}

/// Keeps those whose information −ln p is nearest the entropy until their probabilities reach `typical_p`.
pub(super) fn typical(candidates: &mut Vec<Candidate>, heap: &mut Vec<Keyed>, typical_p: f32) {
    if typical_p >= 1.0 {
        return;
    }
    softmax(candidates, 1.0);
    let entropy: f64 = candidates.iter().filter(|c| c.p > 0.0).map(|c| -c.p * c.p.ln()).sum();
    take_until(candidates, heap, typical_p, |candidate| (-candidate.p.ln() - entropy).abs());
}

/// Keeps those at least `min_p` times as probable as the most probable.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, min_p: f32) {
    if min_p <= 0.0 {
        return;
    }
    let largest = candidates.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
    let lowest = f64::from(largest) + f64::from(min_p).ln();
    candidates.retain(|candidate| f64::from(candidate.logit) >= lowest);
}
