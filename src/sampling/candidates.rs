//! The tokens that may come next, and what several stages do with them.
//!
//! Nothing here sorts a whole vocabulary: top-k sorts only what it keeps, and the filters by probability take candidates
//! from a heap until they have enough.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::{Deref, DerefMut};

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit after the bias and the penalties.
    pub logit: f32,
    /// Its probability among the candidates that are left.
    pub p: f64,
}

/// The most probable first, the lowest id among equals. A total order: logits here are never NaN.
pub(super) fn by_logit(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Working memory. A clone has as much room, and nothing in it.
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

/// The candidates that are left.
#[derive(Clone)]
pub(super) struct Candidates {
    pub(super) list: Scratch<Candidate>,
    /// The factor of the logits: 1 over the temperature, once that acted.
    pub(super) scale: f64,
    /// The fewest that filters by probability leave, if there are so many.
    pub(super) min_keep: usize,
    heap: Scratch<Keyed>,
}

impl Candidates {
    /// Room for so many candidates, and for so many that are taken in an order.
    pub(super) fn with_room(candidates: usize, in_order: usize, min_keep: usize) -> Candidates {
        Candidates {
            list: Scratch::with_capacity(candidates),
            scale: 1.0,
            min_keep,
            heap: Scratch::with_capacity(in_order),
        }
    }

    /// Makes candidates of all scores, by id.
    pub(super) fn take_all(&mut self, scores: &[f32]) {
        self.list.clear();
        self.list.extend(scores.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit, p: 0.0 }));
    }

    /// The largest logit.
    pub(super) fn largest(&self) -> f32 {
        self.list.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Writes each candidate's probability: the softmax over the candidates of their logits times the scale. Sums are in
    /// f64, in the candidates' order.
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

    /// Keeps the first of the largest alone.
    pub(super) fn keep_largest(&mut self) {
        if let Some(best) = self.list.iter().copied().min_by(by_logit) {
            self.list.clear();
            self.list.push(Candidate { p: 1.0, ..best });
        }
    }

    /// Keeps candidates in the order of `key` until the sum of their probabilities is `enough`; at least one, and
    /// `min_keep`.
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

/// A candidate with the key it is taken by: the smallest key first, then the lowest id.
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

/// Takes from a logit, if its token is possible.
pub(super) fn subtract(logit: &mut f32, penalty: f64) {
    if *logit > f32::NEG_INFINITY {
        // Extreme settings overflow; within f32 they still order tokens.
        *logit = (f64::from(*logit) - penalty).clamp(f32::MIN.into(), f32::MAX.into()) as f32 + 0.0;
    }
}
