//! Streams: queues of operations, and their order.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::module::Module;
use super::product::Product;

/// The number of operations of each lane that come before a point (a vector clock).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock(Vec<u64>);

impl Clock {
    pub fn of(&self, lane: usize) -> u64 {
        self.0.get(lane).copied().unwrap_or(0)
    }

    /// Adds an operation of a lane.
    pub fn tick(&mut self, lane: usize) -> u64 {
        if self.0.len() <= lane {
            self.0.resize(lane + 1, 0);
        }
        self.0[lane] += 1;
        self.0[lane]
    }

    /// Adds everything that comes before `other`.
    pub fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }
}

/// A point in a stream that an event refers to.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// The operations before it.
    pub clock: Clock,
    done: AtomicBool,
    /// Nanoseconds since the first query of the time.
    at: AtomicU64,
}

impl Recorded {
    pub fn new(clock: Clock) -> Arc<Recorded> {
        Arc::new(Recorded { clock, ..Recorded::default() })
    }

    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub fn finish(&self, nanoseconds: u64) {
        self.at.store(nanoseconds, Ordering::Relaxed);
        self.done.store(true, Ordering::Release);
    }

    pub fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }
}

/// Sixteen bytes with the largest alignment of an argument.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Word(pub [u8; 16]);

/// A kernel with its arguments at the time of queueing.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub module: Arc<Module>,
    pub kernel: usize,
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared: u32,
    /// The arguments' bytes, and the word at which each starts.
    pub words: Vec<Word>,
    pub starts: Vec<usize>,
    /// The arguments that are addresses.
    pub addresses: Vec<usize>,
}

/// The work of an operation.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Launch(Launch),
    /// A copy, with flags for the sides in host memory.
    Copy {
        to: usize,
        from: usize,
        bytes: usize,
        to_host: bool,
        from_host: bool,
        /// A checksum of the host's bytes when it was queued, if they must not change.
        sum: Option<u64>,
    },
    Fill {
        at: usize,
        byte: u8,
        bytes: usize,
    },
    Product(Product),
    Record {
        event: usize,
        point: Arc<Recorded>,
    },
    Wait {
        event: usize,
        point: Arc<Recorded>,
    },
}

/// An operation of a stream.
#[derive(Clone, Debug)]
pub(super) struct Op {
    /// Its number on the device.
    pub number: u64,
    pub lane: usize,
    /// Its number in its lane.
    pub count: u64,
    /// The operations before it.
    pub clock: Clock,
    /// The executable graph whose launch queued it.
    pub graph: Option<usize>,
    pub work: Work,
}

impl Op {
    /// True if it is known to use a range; for kernels, by their arguments.
    pub fn touches(&self, start: usize, bytes: usize) -> bool {
        let meets = |at: usize, n: usize| at < start + bytes && start < at + n;
        match &self.work {
            Work::Launch(launch) => launch.addresses.iter().any(|&at| meets(at, 1)),
            Work::Copy { to, from, bytes, .. } => meets(*to, *bytes) || meets(*from, *bytes),
            Work::Fill { at, bytes, .. } => meets(*at, *bytes),
            Work::Product(product) => product.ranges().iter().any(|&(at, n, _)| meets(at, n)),
            Work::Record { .. } | Work::Wait { .. } => false,
        }
    }

    /// True if it refers to an event.
    pub fn names_event(&self, handle: usize) -> bool {
        matches!(&self.work, Work::Record { event, .. } | Work::Wait { event, .. } if *event == handle)
    }

    /// True if it runs a kernel of a module.
    pub fn runs(&self, module: &Arc<Module>) -> bool {
        matches!(&self.work, Work::Launch(launch) if Arc::ptr_eq(&launch.module, module))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Launch(launch) => {
                let name = launch.module.kernels.get(launch.kernel).map_or("?", |kernel| &kernel.name);
                write!(f, "kernel `{name}`")?;
            }
            Work::Copy { to_host: true, .. } => f.write_str("copy to the host")?,
            Work::Copy { from_host: true, .. } => f.write_str("copy to the device")?,
            Work::Copy { .. } => f.write_str("copy")?,
            Work::Fill { .. } => f.write_str("fill")?,
            Work::Product(_) => f.write_str("hipblasGemmEx")?,
            Work::Record { .. } => f.write_str("hipEventRecord")?,
            Work::Wait { .. } => f.write_str("hipStreamWaitEvent")?,
        }
        write!(f, " (operation {}, stream {})", self.number, self.lane)
    }
}

/// A stream, or a branch of a graph.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub queue: VecDeque<Op>,
    /// The operations before the next one.
    pub clock: Clock,
    /// True if it belongs to a stream or a graph.
    pub taken: bool,
    /// The capture that records its calls.
    pub capture: Option<u64>,
}

impl Lane {
    /// True if its first operation can run.
    pub fn can_run(&self) -> bool {
        match self.queue.front() {
            None => false,
            Some(Op { work: Work::Wait { point, .. }, .. }) => point.is_done(),
            Some(_) => true,
        }
    }
}

/// Calls that are recorded into a graph instead of queued.
#[derive(Debug)]
pub(super) struct Capture {
    /// True if it can no longer become a graph.
    pub broken: bool,
    /// The operations of each participating lane, with the lane's number in the graph.
    pub work: Vec<(usize, Work)>,
    /// The device's lanes that participate, in the order in which they joined.
    pub lanes: Vec<usize>,
    /// The operations before the next one of each of those lanes.
    pub clocks: Vec<Clock>,
    /// The thread that began the capture.
    pub thread: std::thread::ThreadId,
}

impl Capture {
    /// Adds an operation of a lane of the device.
    pub fn add(&mut self, lane: usize, work: Work) -> Arc<Recorded> {
        let own = self.lanes.iter().position(|other| *other == lane).unwrap_or_else(|| {
            self.lanes.push(lane);
            self.clocks.push(Clock::default());
            self.lanes.len() - 1
        });
        if let Work::Wait { point, .. } = &work {
            self.clocks[own].join(&point.clock);
        }
        self.clocks[own].tick(own);
        let point = Recorded::new(self.clocks[own].clone());
        let work = match work {
            Work::Record { event, .. } => Work::Record { event, point: Arc::clone(&point) },
            work => work,
        };
        self.work.push((own, work));
        point
    }

    /// True if all branches were joined into the first one.
    pub fn is_joined(&self) -> bool {
        let Some(origin) = self.clocks.first() else { return true };
        (1..self.lanes.len()).all(|lane| origin.of(lane) >= self.clocks[lane].of(lane))
    }
}

/// A captured graph: operations by branch, in the order of their calls. Branch 0 is the stream of the launch.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub branches: usize,
    pub work: Vec<(usize, Work)>,
}

impl Graph {
    /// The operations for one launch. Every launch has its own points for the graph's events.
    pub fn unroll(&self, mut queue: impl FnMut(usize, Work) -> Option<Arc<Recorded>>) {
        let mut points: BTreeMap<*const Recorded, Arc<Recorded>> = BTreeMap::new();
        for (branch, work) in &self.work {
            match work {
                Work::Record { point, .. } => {
                    if let Some(now) = queue(*branch, work.clone()) {
                        points.insert(Arc::as_ptr(point), now);
                    }
                }
                Work::Wait { event, point } => {
                    if let Some(now) = points.get(&Arc::as_ptr(point)) {
                        queue(*branch, Work::Wait { event: *event, point: Arc::clone(now) });
                    }
                }
                other => {
                    queue(*branch, other.clone());
                }
            }
        }
    }
}
