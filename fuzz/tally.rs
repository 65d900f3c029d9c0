//! The costs of many inputs, by target.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::limits::{Cost, MEMORY, TIME};

/// A process's report on an input.
pub struct Line {
    /// The input's number.
    pub index: u64,
    /// Its cost.
    pub cost: Cost,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { input, time, memory, accepted } = self.cost;
        write!(f, "{} {input} {} {memory} {}", self.index, time.as_nanos(), u8::from(accepted))
    }
}

impl Line {
    /// The line that was written; none if it is another text.
    pub fn parse(line: &str) -> Option<Line> {
        let mut numbers = line.split(' ').map(|word| word.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let (index, input, time, memory, accepted) = (next()?, next()?, next()?, next()?, next()?);
        let time = Duration::from_nanos(time);
        Some(Line {
            index,
            cost: Cost { input: input as usize, time, memory: memory as usize, accepted: accepted == 1 },
        })
    }
}

/// Sums of a target, and its worst inputs by number.
#[derive(Default)]
struct Sums {
    n: u64,
    accepted: u64,
    time: Duration,
    slowest: (Duration, u64),
    largest: (usize, u64),
    /// Share of the memory that is allowed.
    fullest: (f64, u64),
    /// Inputs beyond the limits, or that ended their process: number and reason.
    failed: Vec<(u64, String)>,
}

/// Sums of each target.
#[derive(Default)]
pub struct Tally(BTreeMap<&'static str, Sums>);

impl Tally {
    /// Counts an input.
    pub fn add(&mut self, target: &'static str, line: &Line) {
        let (sums, cost) = (self.0.entry(target).or_default(), &line.cost);
        sums.n += 1;
        sums.accepted += u64::from(cost.accepted);
        sums.time += cost.time;
        if cost.time > sums.slowest.0 {
            sums.slowest = (cost.time, line.index);
        }
        if cost.memory > sums.largest.0 {
            sums.largest = (cost.memory, line.index);
        }
        let share = cost.memory as f64 / (MEMORY.0 * cost.input + MEMORY.1) as f64;
        if share > sums.fullest.0 {
            sums.fullest = (share, line.index);
        }
        if !cost.is_within(TIME) {
            self.fail(target, line.index, format!("beyond the limits: {cost}"));
        }
    }

    /// Notes an input that is against the promise, and says so at once.
    pub fn fail(&mut self, target: &'static str, index: u64, why: String) {
        eprintln!("{target} {index}: {why}");
        self.0.entry(target).or_default().failed.push((index, why));
    }

    /// True if no input is against the promise.
    pub fn is_clean(&self) -> bool {
        self.0.values().all(|sums| sums.failed.is_empty())
    }

    /// The inputs that are worth keeping.
    pub fn worst(&self) -> Vec<(&'static str, u64)> {
        let worst = |(&target, sums): (&&'static str, &Sums)| {
            let failed = sums.failed.iter().map(|&(index, _)| index);
            let all = [sums.slowest.1, sums.largest.1, sums.fullest.1].into_iter().chain(failed);
            all.map(|index| (target, index)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(worst).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| target | inputs | accepted | inputs/s of a core | slowest (input) | most memory (input) | most of the memory allowed (input) | against the promise |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for (target, sums) in &self.0 {
            let Sums { n, slowest, largest, fullest, .. } = sums;
            let accepted = 100.0 * sums.accepted as f64 / (*n).max(1) as f64;
            let speed = *n as f64 / sums.time.as_secs_f64();
            let mib = largest.0 as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "| `{target}` | {n} | {accepted:.0}% | {speed:.0} | {:.3} s ({}) | {mib:.2} MiB ({}) | {:.0}% ({}) | {} |",
                slowest.0.as_secs_f64(),
                slowest.1,
                largest.1,
                100.0 * fullest.0,
                fullest.1,
                sums.failed.len(),
            )?;
        }
        Ok(())
    }
}
