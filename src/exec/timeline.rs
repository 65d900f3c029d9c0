//! What ran when: spans that an executor measures while it is asked to.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PlanId;

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
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
    /// What one thread of the CPU does of a step, without its wait for the others.
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

/// A stretch of time. Spans of one kind follow each other; those of a run's parts lie inside of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it is of.
    pub work: Work,
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
}

impl Timeline {
    /// A timeline that starts at `origin` and takes at most `limit` spans. Timelines of one origin can be shown together.
    pub fn new(origin: Instant, limit: usize) -> Timeline {
        Timeline { origin, limit, spans: Vec::new(), left_out: 0 }
    }

    /// The spans so far.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The most spans that it takes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many spans were left out because of the limit.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Adds spans, all or none: half of a run would look like a short one.
    pub(super) fn add(&mut self, plan: PlanId, spans: &[(Work, Instant, Instant)]) {
        if self.limit - self.spans.len().min(self.limit) < spans.len() {
            self.left_out += spans.len() as u64;
            return;
        }
        let since = |at: Instant| at.saturating_duration_since(self.origin).as_nanos() as u64;
        let spans =
            spans.iter().map(|&(work, start, end)| Span { work, plan, start: since(start), end: since(end) });
        self.spans.extend(spans);
    }
}

/// The clocks of a run on the CPU, one for each thread.
#[derive(Debug)]
pub(super) struct WorkerClocks(Vec<Mutex<Vec<Ticks>>>);

/// A step as one thread saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    /// It began.
    pub start: Instant,
    /// The thread's own share was done.
    pub done: Instant,
    /// All threads' shares were: the next step begins.
    pub end: Instant,
}

impl WorkerClocks {
    /// Clocks for so many threads and steps.
    pub fn new(threads: usize, steps: usize) -> WorkerClocks {
        WorkerClocks((0..threads).map(|_| Mutex::new(Vec::with_capacity(steps))).collect())
    }

    /// Notes the next step of a thread. Each thread has a lock of its own, for which nobody waits.
    pub fn note(&self, worker: usize, ticks: Ticks) {
        if let Some(clock) = self.0.get(worker) {
            clock.lock().unwrap_or_else(PoisonError::into_inner).push(ticks);
        }
    }

    /// The run's spans: the run, its steps as the first thread saw them, every thread's share of each.
    pub fn spans(self, start: Instant, end: Instant) -> Vec<(Work, Instant, Instant)> {
        let mut spans = vec![(Work::Run, start, end)];
        for (worker, clock) in (0u32..).zip(self.0) {
            let ticks = clock.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (step, Ticks { start, done, end }) in (0u32..).zip(ticks) {
                if worker == 0 {
                    spans.push((Work::Step(step), start, end));
                }
                spans.push((Work::Share { step, worker }, start, done));
            }
        }
        spans
    }
}

/// The clocks of a run on a GPU, whose events tell times between each other: lengths of its steps and copies, in
/// milliseconds from the first of them.
#[derive(Debug, Default)]
pub(super) struct DeviceClocks {
    /// Before each step, and after the last.
    pub steps: Vec<f64>,
    /// Start and end of the uploads and of the downloads.
    pub uploads: Option<(f64, f64)>,
    pub downloads: Option<(f64, f64)>,
}

impl DeviceClocks {
    /// The run's spans. The device's first event is taken to have happened when the host began to queue, and
    /// nothing of the run after its fence: the two clocks are tied together no better than that.
    pub fn spans(
        &self,
        queue: (Instant, Instant),
        fence: (Instant, Instant),
    ) -> Vec<(Work, Instant, Instant)> {
        let (begin, end) = (queue.0, fence.1);
        let at = |ms: f64| (begin + Duration::from_secs_f64(ms.max(0.0) / 1e3)).min(end);
        let mut spans = vec![
            (Work::Run, begin, end),
            (Work::Queue, queue.0, queue.1),
            (Work::Fence, fence.0.max(queue.1), fence.1),
        ];
        spans.extend(self.uploads.map(|(from, to)| (Work::Uploads, at(from), at(to))));
        spans.extend(
            (0u32..).zip(self.steps.windows(2)).map(|(i, pair)| (Work::Step(i), at(pair[0]), at(pair[1]))),
        );
        spans.extend(self.downloads.map(|(from, to)| (Work::Downloads, at(from), at(to))));
        spans
    }
}
