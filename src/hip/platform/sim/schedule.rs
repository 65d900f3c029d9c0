//! Queues operations and runs them late: in the order that streams and events require, and otherwise at random.

use std::sync::Arc;

use super::config::{Config, Schedule};
use super::device::{Answer, State};
use super::execute::sum_of;
use super::memory::POISON;
use super::queue::{Graph, Op, Recorded, Work};
use crate::hip::api::{hipErrorNotReady, hipErrorStreamCaptureInvalidated};

impl State {
    /// Takes an unused lane.
    pub fn take_lane(&mut self) -> usize {
        let free = self.lanes.iter().position(|lane| !lane.taken && lane.queue.is_empty());
        let lane = free.unwrap_or_else(|| {
            self.lanes.push(super::queue::Lane::default());
            self.lanes.len() - 1
        });
        self.lanes[lane].taken = true;
        lane
    }

    /// Adds an operation to a stream, or to the stream's capture.
    pub fn submit(&mut self, lane: usize, work: Work, config: &Config) -> Answer {
        self.healthy()?;
        if let Some(id) = self.lanes[lane].capture {
            let Some(capture) = self.captures.get_mut(&id) else { return Ok(()) };
            if capture.broken {
                return Err(hipErrorStreamCaptureInvalidated);
            }
            let event = match &work {
                Work::Record { event, .. } => Some(*event),
                _ => None,
            };
            let point = capture.add(lane, work);
            if let Some(event) = event.and_then(|handle| self.events.get_mut(&handle)) {
                event.captured = Some((id, point));
            }
            return Ok(());
        }
        self.queue(lane, work, None);
        if config.schedule == Schedule::Eager {
            while self.step(config) {}
        }
        Ok(())
    }

    /// Adds an operation to a lane; returns the point in it, if it records an event.
    fn queue(&mut self, lane: usize, work: Work, graph: Option<usize>) -> Option<Arc<Recorded>> {
        let work = self.with_host(work);
        let number = self.n_ops;
        self.n_ops += 1;
        let entry = &mut self.lanes[lane];
        entry.clock.join(&self.host);
        if let Work::Wait { point, .. } = &work {
            entry.clock.join(&point.clock);
        }
        let count = entry.clock.tick(lane);
        let clock = entry.clock.clone();
        let mut recorded = None;
        let work = match work {
            Work::Record { event, .. } => {
                let point = Recorded::new(clock.clone());
                if let Some(event) = self.events.get_mut(&event) {
                    event.latest = Some(Arc::clone(&point));
                    event.captured = None;
                }
                recorded = Some(Arc::clone(&point));
                Work::Record { event, point }
            }
            work => work,
        };
        self.lanes[lane].queue.push_back(Op { number, lane, count, clock, graph, work });
        recorded
    }

    /// Prepares the host's side of a copy: the source gets a checksum, the destination is poisoned, so that reading it
    /// too early does not return plausible data.
    fn with_host(&mut self, work: Work) -> Work {
        let Work::Copy { to, from, bytes, to_host, from_host, .. } = work else { return work };
        let pinned = if to_host { to } else { from };
        let in_use = (to_host || from_host) && self.user_of(|op| op.touches(pinned, bytes)).is_some();
        let mut sum = None;
        if !in_use && matches!(self.pinned.place(pinned, bytes), super::memory::AddressState::Live(_)) {
            if from_host {
                // SAFETY: the range is in live pinned memory.
                sum = Some(unsafe { sum_of(from, bytes) });
            } else if to_host {
                // SAFETY: the range is in live pinned memory, and this copy will overwrite all of it.
                unsafe { std::ptr::write_bytes(to as *mut u8, POISON, bytes) };
            }
        }
        Work::Copy { to, from, bytes, to_host, from_host, sum }
    }

    /// Runs one operation that can run, drawn among the lanes; false if there is none.
    pub fn step(&mut self, config: &Config) -> bool {
        let ready: smallvec::SmallVec<[usize; 8]> =
            self.lanes.iter().enumerate().filter(|(_, lane)| lane.can_run()).map(|(lane, _)| lane).collect();
        let lane = match config.schedule {
            // In the order of the calls.
            Schedule::Eager => {
                let number = |lane: &&usize| self.lanes[**lane].queue.front().map(|op| op.number);
                ready.iter().min_by_key(number).copied()
            }
            Schedule::Late => ready.get(self.random.below(ready.len())).copied(),
        };
        let Some(op) = lane.and_then(|lane| self.lanes[lane].queue.pop_front()) else { return false };
        self.execute(&op, config);
        true
    }

    /// The result of `hipEventQuery` for a point: it may be not ready for a while, but makes progress.
    pub fn query(&mut self, point: &Arc<Recorded>, config: &Config) -> Answer {
        if !point.is_done() {
            // As on a real device, the host often queries too early.
            if config.schedule == Schedule::Late && self.random.below(3) == 0 {
                for _ in 0..self.random.below(4) {
                    self.step(config);
                }
                if !point.is_done() {
                    return Err(hipErrorNotReady);
                }
            }
            while !point.is_done() && self.step(config) {}
        }
        if !point.is_done() {
            return Err(hipErrorNotReady);
        }
        self.host.join(&point.clock);
        self.healthy()
    }

    /// Queues a graph: all of it after the stream's earlier work, and before its later work.
    pub fn queue_graph(&mut self, lane: usize, graph: &Graph, exec: usize, config: &Config) -> Answer {
        self.healthy()?;
        let of = Some(exec);
        let mut lanes = vec![lane];
        while lanes.len() < graph.branches {
            let branch = self.take_lane();
            let clock = self.lanes[lane].clock.clone();
            self.lanes[branch].clock.join(&clock);
            lanes.push(branch);
        }
        // Branches start after the stream's earlier work: by the clock, and by an event.
        if lanes.len() > 1 {
            let start = self.queue(lane, Work::Record { event: 0, point: Arc::default() }, of);
            for &branch in &lanes[1..] {
                if let Some(point) = &start {
                    self.queue(branch, Work::Wait { event: 0, point: Arc::clone(point) }, of);
                }
            }
        }
        graph.unroll(|branch, work| lanes.get(branch).copied().and_then(|lane| self.queue(lane, work, of)));
        for &branch in &lanes[1..] {
            if let Some(point) = self.queue(branch, Work::Record { event: 0, point: Arc::default() }, of) {
                self.queue(lane, Work::Wait { event: 0, point }, of);
            }
            self.lanes[branch].taken = false;
        }
        if config.schedule == Schedule::Eager {
            while self.step(config) {}
        }
        Ok(())
    }
}
