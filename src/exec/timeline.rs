//! Timelines: spans of time that an executor measures on request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PlanId;
use crate::plan::Plan;

/// The work whose time a span measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanKind {
    /// The host copies the bytes of this input.
    Write(u32),
    /// A run, from its first command to the end of its fence.
    Run,
    /// The host queues the commands of a run.
    Queue,
    /// The host waits for the end of a run.
    Fence,
    /// A step.
    Step(u32),
    /// One thread's work on a step on the CPU, without its wait for the other threads.
    Share {
        /// The step.
        step: u32,
        /// The thread.
        worker: u32,
    },
    /// The uploads of a run, on the copy stream.
    Uploads,
    /// The downloads of a run, on the copy stream.
    Downloads,
}

/// A span of time. Spans of one kind do not overlap; spans of a run's parts are inside the run's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The kind of work.
    pub kind: SpanKind,
    /// The plan.
    pub plan: PlanId,
    /// Nanoseconds from the timeline's start.
    pub start: u64,
    /// Nanoseconds from the timeline's start.
    pub end: u64,
}

/// The spans of an executor, up to a limit.
#[derive(Debug)]
pub struct Timeline {
    origin: Instant,
    limit: usize,
    spans: Vec<Span>,
    left_out: u64,
    /// Plans with spans that were unloaded.
    unloaded: BTreeMap<PlanId, Arc<Plan>>,
}

impl Timeline {
    /// A timeline that starts at `origin` and holds at most `limit` spans. Timelines of one origin can be shown
    /// together.
    pub fn new(origin: Instant, limit: usize) -> Timeline {
        Timeline { origin, limit, spans: Vec::new(), left_out: 0, unloaded: BTreeMap::new() }
    }

    /// The spans so far.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The largest number of spans that it holds.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The number of spans that were left out because of the limit.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Keeps a plan that is unloaded, if it has spans: they refer to its steps.
    pub(super) fn keep(&mut self, id: PlanId, plan: Arc<Plan>) {
        if self.spans.iter().any(|span| span.plan == id) {
            self.unloaded.insert(id, plan);
        }
    }

    /// A plan with spans that was unloaded.
    pub(super) fn unloaded(&self, id: PlanId) -> Option<&Plan> {
        self.unloaded.get(&id).map(|plan| &**plan)
    }

    /// Adds all spans or none, as half of a run would look like a short run.
    pub(super) fn add(&mut self, plan: PlanId, spans: &[(SpanKind, Instant, Instant)]) {
        if self.limit - self.spans.len().min(self.limit) < spans.len() {
            self.left_out += spans.len() as u64;
            return;
        }
        let since = |at: Instant| at.saturating_duration_since(self.origin).as_nanos() as u64;
        let spans =
            spans.iter().map(|&(kind, start, end)| Span { kind, plan, start: since(start), end: since(end) });
        self.spans.extend(spans);
    }
}

/// The clocks of a run on the CPU, one for each thread.
#[derive(Debug)]
pub(super) struct WorkerClocks(Vec<Mutex<Vec<Ticks>>>);

/// A step as timed by one thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    /// The step's start.
    pub start: Instant,
    /// The end of the thread's own share.
    pub done: Instant,
    /// The end of all threads' shares, which is the start of the next step.
    pub end: Instant,
}

impl WorkerClocks {
    /// Clocks for `threads` threads and `steps` steps.
    pub fn new(threads: usize, steps: usize) -> WorkerClocks {
        WorkerClocks((0..threads).map(|_| Mutex::new(Vec::with_capacity(steps))).collect())
    }

    /// Records the next step of a thread. Each thread has its own lock, so there is no contention.
    pub fn note(&self, worker: usize, ticks: Ticks) {
        if let Some(clock) = self.0.get(worker) {
            clock.lock().unwrap_or_else(PoisonError::into_inner).push(ticks);
        }
    }

    /// The run's spans: the run, its steps as timed by the first thread, and every thread's share of each step.
    pub fn spans(self, start: Instant, end: Instant) -> Vec<(SpanKind, Instant, Instant)> {
        let mut spans = vec![(SpanKind::Run, start, end)];
        for (worker, clock) in (0u32..).zip(self.0) {
            let ticks = clock.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (step, Ticks { start, done, end }) in (0u32..).zip(ticks) {
                if worker == 0 {
                    spans.push((SpanKind::Step(step), start, end));
                }
                spans.push((SpanKind::Share { step, worker }, start, done));
            }
        }
        spans
    }
}

/// The clocks of a run on a GPU. Events give the times of its steps and copies in milliseconds since the first event.
#[derive(Debug, Default)]
pub(super) struct DeviceClocks {
    /// Before each step, and after the last.
    pub steps: Vec<f64>,
    /// Start and end of the uploads and of the downloads.
    pub uploads: Option<(f64, f64)>,
    pub downloads: Option<(f64, f64)>,
}

impl DeviceClocks {
    /// The run's spans. The two clocks are aligned only approximately: the device's first event is placed at the time
    /// when the host began to queue, and everything is clipped at the fence.
    pub fn spans(
        &self,
        queue: (Instant, Instant),
        fence: (Instant, Instant),
    ) -> Vec<(SpanKind, Instant, Instant)> {
        let (begin, end) = (queue.0, fence.1);
        let at = |ms: f64| (begin + Duration::from_secs_f64(ms.max(0.0) / 1e3)).min(end);
        let mut spans = vec![
            (SpanKind::Run, begin, end),
            (SpanKind::Queue, queue.0, queue.1),
            (SpanKind::Fence, fence.0.max(queue.1), fence.1),
        ];
        spans.extend(self.uploads.map(|(from, to)| (SpanKind::Uploads, at(from), at(to))));
        spans.extend(
            (0u32..)
                .zip(self.steps.windows(2))
                .map(|(i, pair)| (SpanKind::Step(i), at(pair[0]), at(pair[1]))),
        );
        spans.extend(self.downloads.map(|(from, to)| (SpanKind::Downloads, at(from), at(to))));
        spans
    }
}
