//! The cost of a body on one input, and the limits that are promised for it.
//!
//! The program that includes this file sets `counting::Counting` as its allocator.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[path = "../tests/memory/counting.rs"]
#[allow(dead_code, reason = "only the peak of the process is used")]
pub mod counting;

/// The longest time of an input, in a release build.
pub const TIME: Duration = Duration::from_secs(1);

/// Bytes of memory for each byte of the input, and for any input.
pub const MEMORY: (usize, usize) = (64, 64 << 20);

/// The time that this process had a processor, to 10 ms; none where the system does not tell.
fn processor_time() -> Option<Duration> {
    let status = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may contain spaces. Times are the 14th and 15th field, in hundredths.
    let fields: Vec<&str> = status.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

/// Time and memory of a body on one input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Length of the input.
    pub input: usize,
    /// Time by the clock, or beyond [`TIME`] that of the processor.
    pub time: Duration,
    /// The most memory held at once, in bytes.
    pub memory: usize,
    /// The input was accepted.
    pub accepted: bool,
}

impl Cost {
    /// Measures a body on an input.
    pub fn of(input: &[u8], body: impl Fn(&[u8]) -> bool) -> Cost {
        let (start, before) = (Instant::now(), processor_time());
        let (accepted, memory) = counting::peak(|| body(input));
        let mut time = start.elapsed();
        // Other processes share the machine; what counts where it matters is the time that the body had a processor.
        if let (true, Some(before), Some(after)) = (time > TIME, before, processor_time()) {
            time = time.min(after.saturating_sub(before));
        }
        Cost { input: input.len(), time, memory, accepted }
    }

    /// True if the cost is within the limits, `time` being the longest time.
    pub fn is_within(&self, time: Duration) -> bool {
        self.time <= time && self.memory <= MEMORY.0 * self.input + MEMORY.1
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { input, time, memory, .. } = self;
        write!(f, "{input} bytes of input: {time:.1?}, {:.2} MiB", *memory as f64 / f64::from(1 << 20))
    }
}

/// Sums of a target's inputs.
#[derive(Debug, Default)]
pub struct Sums {
    inputs: u64,
    accepted: u64,
    slowest: Duration,
    largest: usize,
}

/// Held while a body is measured: the counter is of the process. It guards the sums of each target.
pub static TURN: Mutex<BTreeMap<&str, Sums>> = Mutex::new(BTreeMap::new());

/// Inputs between two reports of the sums.
const REPORT: u64 = 10_000;

/// The folder in which the slowest and the largest input of each target are kept; none without it.
const FOLDER: &str = "RFGRAPH_FUZZ_RECORDS";

/// Writes an input to the folder of [`FOLDER`], if there is one.
pub fn keep(target: &str, name: &str, input: &[u8]) {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = Path::new(&folder).join(format!("{target}.{name}"));
    if let Err(error) = std::fs::write(&path, input) {
        eprintln!("{} is not written: {error}", path.display());
    }
}

/// Runs a target's body on an input, and panics beyond the limits, `longest` being the longest time. Reports each highest
/// cost, and the sums from time to time.
pub fn run(target: &'static str, input: &[u8], body: impl Fn(&[u8]) -> bool, longest: Duration) {
    let mut turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cost = Cost::of(input, body);
    let record = |kind: &str| {
        eprintln!("{target}, {kind}: {cost}");
        keep(target, kind, input);
    };
    let sums = turn.entry(target).or_default();
    sums.inputs += 1;
    sums.accepted += u64::from(cost.accepted);
    if cost.time > sums.slowest {
        sums.slowest = cost.time;
        record("slowest");
    }
    if cost.memory > sums.largest {
        sums.largest = cost.memory;
        record("largest");
    }
    if sums.inputs.is_multiple_of(REPORT) {
        eprintln!("{target}: {sums:?}");
    }
    assert!(cost.is_within(longest), "beyond the limits: {cost}");
}
