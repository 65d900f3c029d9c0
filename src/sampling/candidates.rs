//! The candidates for the next token, and operations that several stages share.
//!
//! The whole vocabulary is never sorted: top-k sorts only the tokens it keeps, and filters by probability pop
//! candidates from a heap until they have enough.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::{Deref, DerefMut};

/// A token that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit after the bias and the penalties.
    pub logit: f32,
    /// Its probability among the remaining candidates.
    pub p: f64,
}

/// Most probable first; the lowest id first among equals. A total order: logits are never NaN here.
pub(super) fn by_logit(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Working memory. A clone has the same capacity and is empty.
pub(super) struct Scratch<T>(Vec<T>);

impl<T> Scratch<T> {
    pub(super) fn with_capacity(capacity: usize) -> Scratch<T> {
        Scratch(Vec::with_capacity(capacity))
    }
}

impl<T> Clone for Scratch<T> {
    fn clone(&self) -> Scratch<T> {
        Scratch::with_capacity(self.0.capacity())
    }
}

impl<T> Deref for Scratch<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

/// The remaining candidates.
#[derive(Clone)]
pub(super) struct Candidates {
    pub(super) list: Scratch<Candidate>,
    /// Factor of the logits: 1 over the temperature, once the temperature stage has run.
    pub(super) scale: f64,
    /// Filters by probability keep at least this many candidates, if there are so many.
    pub(super) min_keep: usize,
    heap: Scratch<Keyed>,
}

impl Candidates {
    /// Reserves room for `candidates` candidates, and a heap for `in_order` of them.
    pub(super) fn with_room(candidates: usize, in_order: usize, min_keep: usize) -> Candidates {
        Candidates {
            list: Scratch::with_capacity(candidates),
            scale: 1.0,
            min_keep,
            heap: Scratch::with_capacity(in_order),
        }
    }

    /// Makes every score a candidate, in id order.
    pub(super) fn take_all(&mut self, scores: &[f32]) {
        self.list.clear();
        self.list.extend(scores.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit, p: 0.0 }));
    }

    /// The largest logit.
    pub(super) fn largest(&self) -> f32 {
        self.list.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Sets each candidate's probability: the softmax of the scaled logits. Sums are in f64, in the candidates' order.
    pub(super) fn softmax(&mut self) {
        let largest = self.largest();
        let mut sum = 0.0;
        for candidate in self.list.iter_mut() {
            candidate.p = (f64::from(candidate.logit - largest) * self.scale).exp();
            sum += candidate.p;
        }
        self.list.iter_mut().for_each(|candidate| candidate.p /= sum);
    }

    /// The entropy of the candidates' probabilities, in nats.
    pub(super) fn entropy(&self) -> f64 {
        self.list.iter().filter(|c| c.p > 0.0).map(|c| -c.p * c.p.ln()).sum()
    }

    /// Keeps the `k` candidates with the largest logits.
    pub(super) fn keep_top(&mut self, k: usize) {
        if k < self.list.len() {
            self.list.sort_unstable_by(by_logit);
            self.list.truncate(k);
        }
    }

    /// Keeps only the largest logit, of equal ones the lowest id.
    pub(super) fn keep_largest(&mut self) {
        if let Some(best) = self.list.iter().copied().min_by(by_logit) {
            self.list.clear();
            self.list.push(Candidate { p: 1.0, ..best });
        }
    }

    /// Keeps candidates in the order of `key` until the sum of their probabilities is `enough`: at least one, and at
    /// least `min_keep`.
    pub(super) fn keep_until(&mut self, enough: impl Fn(f64) -> bool, key: impl Fn(&Candidate) -> f64) {
        self.heap.extend(self.list.drain(..).map(|candidate| Keyed { key: key(&candidate), candidate }));
        let mut rest = BinaryHeap::from(std::mem::take(&mut self.heap.0));
        let mut taken = 0.0;
        while let Some(Keyed { candidate, .. }) = rest.pop() {
            self.list.push(candidate);
            taken += candidate.p;
            if enough(taken) && self.list.len() >= self.min_keep {
                break;
            }
        }
        self.heap.0 = rest.into_vec();
        self.heap.clear();
    }
}

/// A candidate with its sort key: smallest key first, then lowest id.
struct Keyed {
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

/// Subtracts from a logit, unless it is −∞.
pub(super) fn subtract(logit: &mut f32, penalty: f64) {
    if *logit > f32::NEG_INFINITY {
        // Extreme settings overflow; clamping to f32 keeps the order.
        *logit = (f64::from(*logit) - penalty).clamp(f32::MIN.into(), f32::MAX.into()) as f32 + 0.0;
    }
}
