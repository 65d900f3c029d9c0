//! The outputs of a step for its requests: each chooses its next token.
//!
//! Choosing from all logits of a large vocabulary takes a while (0.2 ms for 128,256 tokens, where a whole step of 32
//! answers takes 13 ms on an H200), so many of them share some threads.

use std::time::Duration;

use super::job::Job;
use crate::model::Outputs;

/// The logits that a thread must have to itself to be worth its start of some 20 µs.
#[cfg(not(test))]
const LEAST_LOGITS: usize = 1 << 18;
/// Two answers of the demo model share threads in tests.
#[cfg(test)]
const LEAST_LOGITS: usize = 1 << 10;

/// The most threads, also on machines with more cores.
const MOST_THREADS: usize = 8;

/// A request's rows of a step.
pub(super) struct Delivery<'j> {
    /// The request's place in the list of active ones.
    pub at: usize,
    job: &'j mut Job,
    /// The number of its rows in the step.
    number: usize,
    n: usize,
    /// The tokens that it chose.
    pub n_chosen: usize,
    /// The request is over.
    pub is_over: bool,
}

/// The deliveries of a step, in the order of the active requests. `chosen` has the place and the number of rows of each
/// request.
pub(super) fn deliveries<'j>(active: &'j mut [Job], chosen: &[(usize, usize)]) -> Vec<Delivery<'j>> {
    let mut places = vec![None; active.len()];
    for (number, &(at, n)) in chosen.iter().enumerate() {
        places[at] = Some((number, n));
    }
    let mut list = Vec::with_capacity(chosen.len());
    for (at, (job, place)) in active.iter_mut().zip(places).enumerate() {
        if let Some((number, n)) = place {
            list.push(Delivery { at, job, number, n, n_chosen: 0, is_over: false });
        }
    }
    list
}

/// Gives each request its outputs. The order does not matter: requests do not know each other.
pub(super) fn deliver(
    deliveries: &mut [Delivery<'_>],
    outputs: Outputs<'_>,
    n_vocab: usize,
    n_ctx: usize,
    now: Duration,
) {
    let give = |delivery: &mut Delivery<'_>| {
        let before = delivery.job.n_generated();
        delivery.is_over = delivery.job.take(outputs, delivery.number, delivery.n, n_ctx, now);
        delivery.n_chosen = delivery.job.n_generated() - before;
    };
    let whole = deliveries.iter().filter(|delivery| delivery.job.reads_all_logits()).count();
    let threads = threads_for(whole.saturating_mul(n_vocab)).min(deliveries.len());
    if threads <= 1 {
        return deliveries.iter_mut().for_each(give);
    }
    std::thread::scope(|scope| {
        let mut parts = deliveries.chunks_mut(deliveries.len().div_ceil(threads));
        let own = parts.next();
        parts.for_each(|part| drop(scope.spawn(|| part.iter_mut().for_each(give))));
        own.into_iter().flatten().for_each(give);
    });
}

/// The number of threads that share so many logits.
fn threads_for(logits: usize) -> usize {
    // Other programs may have half of the machine.
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get() / 2).clamp(2, MOST_THREADS);
    match logits / LEAST_LOGITS {
        0 | 1 => 1,
        n => n.min(cores()),
    }
}
