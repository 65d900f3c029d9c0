//! The number of a pool's workers that take part in a run: fewer while the system has no cores for them.
//!
//! Every step of a run waits for its last worker. On a busy machine the last worker is one that the system has suspended, and the
//! others wait a time slice for a few microseconds of work: with two threads on two cores under a load of 8, 400
//! questions took 42 s, and 6 s with one thread. So the pool measures the time that it waits in this way; if it is most of
//! a window, half of the workers are left out for a while, and then tried again. A window may end within a run, which would
//! wait a slice in each of its many steps: then workers leave the run.

use std::time::{Duration, Instant};

/// The time of runs that is judged at a time.
const WINDOW: Duration = Duration::from_millis(20);
/// The share of it that may be waiting. Uneven steps alone stay below it.
const MOST_LOST: f64 = 0.5;
/// The first and the longest time that workers are left out. A trial costs a window and some slices, in the end 2 % of the time.
const FIRST_HOLD: Duration = Duration::from_millis(25);
const LONGEST_HOLD: Duration = Duration::from_secs(2);

/// Decides how many workers take part.
#[derive(Debug)]
pub(super) struct Attendance {
    count: usize,
    active: usize,
    ran: Duration,
    lost: Duration,
    hold: Duration,
    /// The time of the next trial with more workers.
    until: Option<Instant>,
    /// Tests of the pool decide themselves, whatever the machine does.
    #[cfg(test)]
    is_fixed: bool,
}

impl Attendance {
    pub fn new(count: usize) -> Attendance {
        let (ran, lost) = (Duration::ZERO, Duration::ZERO);
        Attendance {
            count,
            active: count,
            ran,
            lost,
            hold: FIRST_HOLD,
            until: None,
            #[cfg(test)]
            is_fixed: false,
        }
    }

    /// Lets this many workers take part from now on.
    #[cfg(test)]
    pub fn fix(&mut self, active: usize) {
        (self.active, self.is_fixed) = (active, true);
    }

    /// The number of workers of a run that begins now.
    pub fn begin(&mut self, now: Instant) -> usize {
        if self.until.is_some_and(|until| now >= until) {
            self.active = (self.active * 2).min(self.count);
            self.until = None;
            (self.ran, self.lost) = (Duration::ZERO, Duration::ZERO);
        }
        self.active
    }

    /// True if half of the workers should leave the current run: it has taken `ran`, of which the caller waited `lost`.
    pub fn is_starved_within_run(&self, ran: Duration, lost: Duration) -> bool {
        #[cfg(test)]
        if self.is_fixed {
            return false;
        }
        let (ran, lost) = (self.ran + ran, self.lost + lost);
        ran >= WINDOW && is_starved(ran, lost)
    }

    /// The number of workers after some were left out.
    pub fn fewer(active: usize) -> usize {
        active.div_ceil(2)
    }

    /// Notes a run that took `ran` and ended now with `active` workers; the caller waited `lost` of it for workers that
    /// did not come.
    pub fn end(&mut self, now: Instant, ran: Duration, lost: Duration, active: usize) {
        (self.ran, self.lost) = (self.ran + ran, self.lost + lost);
        #[cfg(test)]
        if self.is_fixed {
            return;
        }
        let has_left = active < self.active;
        if !has_left && (self.active == 1 || self.ran < WINDOW) {
            return;
        }
        let is_starved = has_left || is_starved(self.ran, self.lost);
        (self.ran, self.lost) = (Duration::ZERO, Duration::ZERO);
        if is_starved {
            self.active = if has_left { active } else { Attendance::fewer(self.active) };
            self.until = Some(now + self.hold);
            self.hold = (self.hold * 2).min(LONGEST_HOLD);
        } else if self.active == self.count {
            self.hold = FIRST_HOLD;
        } else if self.until.is_none() {
            self.until = Some(now + self.hold);
        }
    }
}

fn is_starved(ran: Duration, lost: Duration) -> bool {
    lost.as_secs_f64() > MOST_LOST * ran.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of 1 ms from `now` on, of which `lost` are lost while more than `cores` workers take part.
    fn run(attendance: &mut Attendance, now: &mut Instant, n: usize, cores: usize) -> Vec<usize> {
        let took = Duration::from_millis(1);
        let one = |_| {
            let active = attendance.begin(*now);
            *now += took;
            let lost = if active > cores { took.mul_f64(0.8) } else { took.mul_f64(0.2) };
            attendance.end(*now, took, lost, active);
            active
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn idle_machines_keep_all_workers() {
        let (mut attendance, mut now) = (Attendance::new(16), Instant::now());
        assert!(run(&mut attendance, &mut now, 10_000, 16).iter().all(|&n| n == 16));
    }

    #[test]
    fn busy_machines_leave_workers_out_and_try_again() {
        for (count, cores, least) in [(2, 1, 1), (16, 5, 4), (3, 1, 1), (16, 8, 8)] {
            let (mut attendance, mut now) = (Attendance::new(count), Instant::now());
            let active = run(&mut attendance, &mut now, 20_000, cores);
            let late = &active[10_000..];
            assert!(late.iter().all(|&n| n >= least), "{count} workers on {cores} cores");
            // No more than one window in two seconds, plus one per halving.
            let trials = late.iter().filter(|&&n| n > cores).count();
            assert!(
                (1..=late.len() / 20).contains(&trials),
                "{count} on {cores}: {trials} of {}",
                late.len()
            );
            let again = run(&mut attendance, &mut now, 20_000, count);
            assert_eq!(again.last(), Some(&count), "the cores are free again");
        }
    }
}
