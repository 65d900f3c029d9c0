//! A pool of threads that all run the same function (single program, multiple data).
//!
//! [`Pool::run`] calls one closure on every thread; the caller is worker 0. Starting a run costs two atomic stores per
//! thread, without locks or allocations. Idle workers spin for some tens of microseconds, so that a closely following
//! run starts at once, and then sleep. On a busy machine fewer workers take part (`attendance`).

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::attendance::Attendance;

/// Rounds of spinning (about 20 ns each) before an idle worker sleeps.
const IDLE_SPINS: usize = 3_000;
/// Rounds of spinning before a thread that waits during a run yields its core.
const WAIT_SPINS: usize = 3_000;

/// The reason why a pool cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The system refused a thread.
    #[error("could not start thread {index} of {threads}; ask for fewer threads")]
    Spawn {
        /// The refused thread.
        index: usize,
        /// The number of requested threads.
        threads: usize,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Threads that run one function together. Dropping the pool ends them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// The closure of a run, with its lifetime erased; [`Pool::run`] outlives every use of it.
type Job = *const (dyn Fn(&Worker<'_>) + Sync);

/// A value on its own cache line, so that writes to neighbouring values do not slow it down.
#[repr(align(128))]
struct Line<T>(T);

struct Shared {
    /// The [`Epoch`]; a worker that takes part runs the job once for each value.
    epoch: Line<AtomicU64>,
    /// The number of workers of this run. A step may end with fewer ([`Worker::end_step`]).
    active: AtomicUsize,
    /// True if the next step of this run shall have fewer workers.
    leaves_out: AtomicBool,
    /// Nanoseconds that the caller waited in this run after it had stopped spinning.
    lost: AtomicU64,
    /// Other workers that have not finished the run.
    running: Line<AtomicUsize>,
    /// Workers that have arrived at the barrier.
    arrived: Line<AtomicUsize>,
    /// Number of barriers passed.
    passed: Line<AtomicUsize>,
    /// The next chunk for [`Worker::for_chunks`].
    next_chunk: Line<AtomicUsize>,
    /// True while a thread is inside [`Pool::run`].
    busy: AtomicBool,
    stop: AtomicBool,
    /// True if a worker panicked in this run, in which case waiting at a barrier would never end.
    poisoned: AtomicBool,
    /// The payload of the first panic. Only locked after a panic.
    payload: Mutex<Option<Box<dyn Any + Send>>>,
    /// Written by the caller before `epoch` grows, read by workers afterwards.
    job: UnsafeCell<Option<Job>>,
    /// Only locked by the caller of a run.
    attendance: Mutex<Attendance>,
}

/// A run's number, and the number of workers that take part in it, in one word: a worker that reads it late never mixes
/// two runs.
#[derive(Clone, Copy, PartialEq)]
struct Epoch(u64);

impl Epoch {
    const COUNT_BITS: u32 = 16;

    fn after(self, active: usize) -> Epoch {
        Epoch((((self.0 >> Self::COUNT_BITS) + 1) << Self::COUNT_BITS) | active as u64)
    }

    fn active(self) -> usize {
        (self.0 & ((1 << Self::COUNT_BITS) - 1)) as usize
    }
}

// SAFETY: `job` is the only field that is not `Sync`. The caller writes it while no worker that takes
// part is between the growth of `epoch` (release, acquire) and its decrement of `running` (release,
// acquire), and workers read it only there. The closure behind the pointer is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: access to `job` is synchronised as for `Sync`, and the pointer is not tied to a thread.
unsafe impl Send for Shared {}

/// The panic payload of a worker that was waiting for one that panicked.
struct Abandoned;

thread_local! {
    /// True while this thread runs the closure of a pool.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// A pool of `threads` threads, including the caller of [`Pool::run`].
    pub fn new(threads: NonZeroUsize) -> Result<Pool, PoolError> {
        let count = threads.get().min((1 << Epoch::COUNT_BITS) - 1);
        let shared = Arc::new(Shared {
            epoch: Line(AtomicU64::new(0)),
            active: AtomicUsize::new(count),
            leaves_out: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            running: Line(AtomicUsize::new(0)),
            arrived: Line(AtomicUsize::new(0)),
            passed: Line(AtomicUsize::new(0)),
            next_chunk: Line(AtomicUsize::new(0)),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            payload: Mutex::new(None),
            job: UnsafeCell::new(None),
            attendance: Mutex::new(Attendance::new(count)),
        });
        let mut pool = Pool { shared, threads: Vec::new() };
        for index in 1..count {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new()
                .name(format!("rfgraph-{index}"))
                .spawn(move || shared.serve(index))
                .map_err(|source| PoolError::Spawn { index, threads: count, source })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// The number of threads, including the caller.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `job` on every thread and returns when all calls have. While the system gives the threads too little time,
    /// only some of them take part ([`Worker::count`]).
    ///
    /// A second caller waits for the first. If `job` panics on a thread, the others stop waiting at barriers and the
    /// panic continues in the caller; the pool stays usable.
    ///
    /// # Panics
    /// If `job` panics, or if it calls `run` of this or another pool, as pools that wait for each other would deadlock.
    pub fn run(&self, job: impl Fn(&Worker<'_>) + Sync) {
        let shared = &*self.shared;
        assert!(!INSIDE.get(), "Pool::run was called from inside a run of a pool");
        wait_until(|| !shared.busy.swap(true, Ordering::Acquire));

        let job: &(dyn Fn(&Worker<'_>) + Sync) = &job;
        // SAFETY: only the lifetime changes. The reference is not used after this function returns, since it returns
        // (or unwinds) only after every worker has finished.
        let erased: Job = unsafe { std::mem::transmute::<&(dyn Fn(&Worker<'_>) + Sync), Job>(job) };
        // SAFETY: no worker reads `job` now, see the impl of `Sync`; `busy` keeps other callers out.
        unsafe { *shared.job.get() = Some(erased) };
        let begin = Instant::now();
        let active = shared.attendance().begin(begin);
        shared.running.0.store(active - 1, Ordering::Relaxed);
        shared.active.store(active, Ordering::Relaxed);
        shared.leaves_out.store(false, Ordering::Relaxed);
        // Only a caller writes it, and `busy` keeps others out.
        let epoch = Epoch(shared.epoch.0.load(Ordering::Relaxed)).after(active);
        shared.epoch.0.store(epoch.0, Ordering::Release);
        for thread in &self.threads[..active - 1] {
            thread.thread().unpark();
        }

        INSIDE.set(true);
        shared.call(0, active, job);
        let lost = wait_until(|| shared.running.0.load(Ordering::Acquire) == 0);
        INSIDE.set(false);

        let lost = lost + Duration::from_nanos(shared.lost.swap(0, Ordering::Relaxed));
        let end = Instant::now();
        shared.attendance().end(end, end - begin, lost, shared.active.load(Ordering::Relaxed));
        let panicked = shared.poisoned.load(Ordering::Relaxed).then(|| shared.recover());
        shared.busy.store(false, Ordering::Release);
        if let Some(payload) = panicked.flatten() {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let epoch = Epoch(self.shared.epoch.0.load(Ordering::Relaxed)).after(self.threads());
        self.shared.epoch.0.store(epoch.0, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A worker catches every panic of a job, so there is no error to report.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The main loop of worker `index`.
    fn serve(&self, index: usize) {
        INSIDE.set(true);
        let mut seen = Epoch(0);
        loop {
            seen = self.wait_for_epoch_after(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if index >= seen.active() {
                continue;
            }
            // SAFETY: `epoch` has grown and `running` still counts this worker, which takes part, so the caller has
            // written `job` and keeps the closure alive.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: `running` still counts this worker, so the caller keeps the closure alive.
                self.call(index, seen.active(), unsafe { &*job });
            }
            self.running.0.fetch_sub(1, Ordering::Release);
        }
    }

    fn wait_for_epoch_after(&self, seen: Epoch) -> Epoch {
        let epoch = || Some(Epoch(self.epoch.0.load(Ordering::Acquire))).filter(|epoch| *epoch != seen);
        for _ in 0..IDLE_SPINS {
            if let Some(epoch) = epoch() {
                return epoch;
            }
            std::hint::spin_loop();
        }
        loop {
            // An `unpark` between the test and `park` is not lost: `park` then returns at once.
            match epoch() {
                Some(epoch) => return epoch,
                None => thread::park(),
            }
        }
    }

    fn attendance(&self) -> MutexGuard<'_, Attendance> {
        self.attendance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the job as worker `index` and stores the payload of its panic.
    fn call(&self, index: usize, count: usize, job: &(dyn Fn(&Worker<'_>) + Sync)) {
        let worker = Worker { shared: self, index, count: Cell::new(count), begin: Instant::now() };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(&worker))) {
            if !payload.is::<Abandoned>() {
                self.payload.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
            self.poisoned.store(true, Ordering::Release);
        }
    }

    /// Notes that the caller, which began a run `ran` ago, waited `lost` at a barrier.
    fn note_lost(&self, ran: Duration, lost: Duration) {
        let nanos = u64::try_from(lost.as_nanos()).unwrap_or(u64::MAX);
        let lost = Duration::from_nanos(self.lost.fetch_add(nanos, Ordering::Relaxed).saturating_add(nanos));
        if self.attendance().is_starved_within_run(ran, lost) {
            self.leaves_out.store(true, Ordering::Relaxed);
        }
    }

    /// Leaves half of the workers out of the rest of the run, if they keep the caller waiting.
    fn leave_out(&self) {
        if self.leaves_out.load(Ordering::Relaxed) {
            self.leaves_out.store(false, Ordering::Relaxed);
            let active = self.active.load(Ordering::Relaxed);
            self.active.store(Attendance::fewer(active), Ordering::Relaxed);
        }
    }

    /// Makes the pool usable again after a panic, once every worker has finished, and returns the payload.
    fn recover(&self) -> Option<Box<dyn Any + Send>> {
        self.arrived.0.store(0, Ordering::Relaxed);
        self.next_chunk.0.store(0, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Relaxed);
        self.payload.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for every worker; the last one to arrive calls `last` before any continues.
    fn barrier(&self, worker: &Worker<'_>, last: impl FnOnce()) {
        let count = worker.count.get();
        if count == 1 {
            return last();
        }
        let passed = self.passed.0.load(Ordering::Relaxed);
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.0.store(0, Ordering::Relaxed);
            last();
            self.passed.0.store(passed.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut poisoned = false;
        let lost = wait_until(|| {
            let open = self.passed.0.load(Ordering::Acquire) != passed;
            poisoned = !open && self.poisoned.load(Ordering::Acquire);
            open || poisoned
        });
        if worker.index == 0 && !lost.is_zero() {
            self.note_lost(worker.begin.elapsed(), lost);
        }
        if poisoned {
            resume_unwind(Box::new(Abandoned));
        }
    }
}

/// One thread of a run.
pub struct Worker<'a> {
    shared: &'a Shared,
    index: usize,
    count: Cell<usize>,
    begin: Instant,
}

impl Worker<'_> {
    /// The number of this worker, `0..count()`; the caller of [`Pool::run`] is 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of workers of this run: the pool's, or fewer on a busy machine. Only [`end_step`](Self::end_step)
    /// changes it.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// A barrier that ends a step of the run's work. If workers keep the caller waiting, some of them leave the run here:
    /// false for those, which must return from the job; the others do the rest.
    #[must_use]
    pub fn end_step(&self) -> bool {
        self.shared.barrier(self, || self.shared.leave_out());
        // The last worker to arrive may have lowered it; it stays until the remaining workers arrive at the next barrier.
        self.count.set(self.shared.active.load(Ordering::Relaxed));
        self.index < self.count.get()
    }

    /// Waits until every worker has called this. All earlier writes are visible to all workers afterwards.
    pub fn barrier(&self) {
        self.shared.barrier(self, || ());
    }

    /// Assigns `0..total` in pieces of `chunk` (the last may be shorter) to free workers, and returns when all are
    /// done. Every worker must call this with the same numbers.
    ///
    /// The assignment of pieces to workers differs between runs; the pieces do not. So a result that depends only on
    /// its piece does not depend on the number of threads.
    pub fn for_chunks(&self, total: usize, chunk: usize, mut f: impl FnMut(Range<usize>)) {
        let chunk = chunk.max(1);
        let chunks = total.div_ceil(chunk);
        loop {
            let start = self.shared.next_chunk.0.fetch_add(1, Ordering::Relaxed);
            if start >= chunks {
                break;
            }
            let start = start * chunk;
            f(start..total.min(start.saturating_add(chunk)));
        }
        // The last worker to arrive resets the counter, when no worker takes chunks any more.
        self.shared.barrier(self, || self.shared.next_chunk.0.store(0, Ordering::Relaxed));
    }
}

/// Spins, then yields the core, until `done`. Returns the time after the spinning.
fn wait_until(mut done: impl FnMut() -> bool) -> Duration {
    for _ in 0..WAIT_SPINS {
        if done() {
            return Duration::ZERO;
        }
        std::hint::spin_loop();
    }
    let start = Instant::now();
    while !done() {
        // With more threads than free cores, the awaited thread may need this core.
        thread::yield_now();
    }
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A pool whose workers all take part, however busy the machine is.
    fn pool(threads: usize) -> Pool {
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
        pool.shared.attendance().fix(threads);
        pool
    }

    #[test]
    fn runs_with_fewer_workers_do_all_the_work() {
        let pool = pool(4);
        for round in 0..400 {
            let active = 1 + (round * 7 + round / 3) % 4;
            pool.shared.attendance().fix(active);
            let (sum, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
            pool.run(|worker| {
                assert!(worker.index() < active && worker.count() == active);
                calls.fetch_add(1, Ordering::Relaxed);
                worker.for_chunks(100, 7, |range| {
                    sum.fetch_add(range.sum::<usize>(), Ordering::Relaxed);
                });
            });
            assert_eq!((sum.into_inner(), calls.into_inner()), (4950, active));
        }
    }

    /// The workers of each step of a run in which worker 1 comes late to the first step.
    fn workers_by_step(threads: usize, late: Duration) -> Vec<Vec<usize>> {
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
        let steps: Vec<Mutex<Vec<usize>>> = (0..4).map(|_| Mutex::default()).collect();
        let sum = AtomicUsize::new(0);
        pool.run(|worker| {
            for (number, step) in steps.iter().enumerate() {
                step.lock().unwrap().push(worker.index());
                if number == 0 && worker.index() == 1 {
                    thread::sleep(late);
                }
                worker.for_chunks(100, 7, |range| {
                    sum.fetch_add(range.sum::<usize>(), Ordering::Relaxed);
                });
                if !worker.end_step() {
                    return;
                }
            }
        });
        assert_eq!(sum.into_inner(), 4 * 4950);
        let sorted = |step: Mutex<Vec<usize>>| {
            let mut workers = step.into_inner().unwrap();
            workers.sort_unstable();
            workers
        };
        steps.into_iter().map(sorted).collect()
    }

    #[test]
    fn late_workers_leave_the_run() {
        // Longer than the caller itself may be late on a busy machine.
        let late = Duration::from_millis(200);
        let found = workers_by_step(2, late);
        assert_eq!(found, [vec![0, 1], vec![0], vec![0], vec![0]]);
        let found = workers_by_step(4, late);
        assert_eq!((&found[0][..], &found[1][..2]), (&[0, 1, 2, 3][..], &[0, 1][..]));
        assert!(found[1].len() == 2, "half of the workers leave: {found:?}");
    }

    #[test]
    fn every_worker_runs_once() {
        for threads in [1, 2, 5] {
            let pool = pool(threads);
            let calls: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..200 {
                pool.run(|worker| {
                    assert_eq!(worker.count(), threads);
                    calls[worker.index()].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(calls.iter().all(|n| n.load(Ordering::Relaxed) == 200));
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = pool(3);
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(20));
            let calls = AtomicUsize::new(0);
            pool.run(|_| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), 3);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_cover_everything_once(threads in 1usize..5, total in 0usize..300, chunk in 0usize..40) {
            let pool = pool(threads);
            let seen: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|worker| {
                for round in 1..=3 {
                    worker.for_chunks(total, chunk, |range| {
                        for i in range {
                            seen[i].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    // The deal ends with a barrier, so no worker sees an unfinished round.
                    assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == round));
                    worker.barrier();
                }
            });
        }
    }

    #[test]
    fn panic_reaches_the_caller_and_the_pool_stays_usable() {
        let pool = pool(3);
        for culprit in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(|worker| {
                    if worker.index() == culprit {
                        std::panic::panic_any(culprit);
                    }
                    worker.for_chunks(10, 1, |_| ());
                });
            }));
            assert_eq!(result.unwrap_err().downcast_ref::<usize>(), Some(&culprit));
            let sum = AtomicUsize::new(0);
            pool.run(|worker| {
                worker.barrier();
                worker.for_chunks(100, 7, |range| {
                    sum.fetch_add(range.sum::<usize>(), Ordering::Relaxed);
                });
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn concurrent_runs_do_not_overlap() {
        let pool = pool(2);
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(|worker| {
                            if worker.index() == 0 {
                                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            }
                            worker.barrier();
                            if worker.index() == 0 {
                                inside.fetch_sub(1, Ordering::SeqCst);
                            }
                        });
                    }
                });
            }
        });
    }

    #[test]
    #[should_panic(expected = "inside a run")]
    fn a_run_inside_a_run_is_refused() {
        let pool = pool(1);
        pool.run(|_| pool.run(|_| ()));
    }

    #[test]
    fn pools_that_would_wait_for_each_other_are_refused() {
        let (a, b) = (pool(2), pool(2));
        let refused = catch_unwind(AssertUnwindSafe(|| {
            a.run(|worker| {
                if worker.index() == 1 {
                    b.run(|worker| {
                        if worker.index() == 1 {
                            a.run(|_| ());
                        }
                    });
                }
            });
        }));
        let message = refused.unwrap_err();
        assert!(message.downcast_ref::<&str>().is_some_and(|text| text.contains("inside a run")));
        for pool in [&a, &b] {
            let calls = AtomicUsize::new(0);
            pool.run(|_| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), 2);
        }
    }
}
