//! Capturing calls into a graph, and the calls that are forbidden meanwhile.

use std::sync::Arc;

use super::config::Config;
use super::device::{Answer, State};
use super::fault::FaultKind;
use super::queue::{Capture, Clock, Graph, Work};
use crate::hip::api::{
    hipError_t, hipErrorInvalidHandle, hipErrorStreamCaptureInvalidated, hipErrorStreamCaptureUnsupported,
};

/// `hipErrorIllegalState`: the stream is not capturing, or is already.
const ILLEGAL_STATE: hipError_t = 401;
/// `hipErrorStreamCaptureUnmatched`: the capture began on another stream.
const CAPTURE_UNMATCHED: hipError_t = 903;
/// `hipErrorStreamCaptureUnjoined`: a branch was not joined.
const CAPTURE_UNJOINED: hipError_t = 904;
/// `hipErrorStreamCaptureIsolation`: an event from outside the capture.
const CAPTURE_ISOLATION: hipError_t = 905;
/// `hipErrorCapturedEvent`: the event was recorded inside a capture.
const CAPTURED_EVENT: hipError_t = 907;

impl State {
    /// Refuses a call that is forbidden while this thread captures, and invalidates the capture.
    pub fn outside_capture(&mut self) -> Answer {
        let thread = std::thread::current().id();
        let mut capturing = false;
        for capture in self.captures.values_mut().filter(|capture| capture.thread == thread) {
            capture.broken = true;
            capturing = true;
        }
        if capturing { Err(hipErrorStreamCaptureUnsupported) } else { Ok(()) }
    }

    pub fn begin_capture(&mut self, lane: usize) -> Answer {
        if self.lanes[lane].capture.is_some() {
            return Err(ILLEGAL_STATE);
        }
        let id = self.next_capture;
        self.next_capture += 1;
        self.lanes[lane].capture = Some(id);
        let thread = std::thread::current().id();
        let clocks = vec![Clock::default()];
        let capture = Capture { broken: false, work: Vec::new(), lanes: vec![lane], clocks, thread };
        self.captures.insert(id, capture);
        Ok(())
    }

    pub fn end_capture(&mut self, lane: usize) -> Answer<Graph> {
        let id = self.lanes[lane].capture.ok_or(ILLEGAL_STATE)?;
        let of_other = |capture: &Capture| capture.lanes.first() != Some(&lane);
        if self.captures.get(&id).is_some_and(of_other) {
            return Err(CAPTURE_UNMATCHED);
        }
        let capture = self.captures.remove(&id).ok_or(ILLEGAL_STATE)?;
        for &lane in &capture.lanes {
            self.lanes[lane].capture = None;
        }
        if capture.broken {
            return Err(hipErrorStreamCaptureInvalidated);
        }
        if !capture.is_joined() {
            return Err(CAPTURE_UNJOINED);
        }
        Ok(Graph { branches: capture.lanes.len(), work: capture.work })
    }

    fn break_capture(&mut self, id: u64) {
        if let Some(capture) = self.captures.get_mut(&id) {
            capture.broken = true;
        }
    }

    /// `hipStreamWaitEvent`: waits, joins the capture that the event was recorded in, or does nothing.
    pub fn wait_event(&mut self, lane: usize, handle: usize, config: &Config) -> Answer {
        let event = self.events.get(&handle).cloned().ok_or(hipErrorInvalidHandle)?;
        let own = self.lanes[lane].capture;
        if let Some((id, point)) = event.captured {
            if !self.captures.contains_key(&id) {
                return Err(CAPTURED_EVENT);
            }
            match own {
                Some(own) if own != id => {
                    self.break_capture(own);
                    self.break_capture(id);
                    return Err(CAPTURE_ISOLATION);
                }
                Some(_) => {}
                None => self.lanes[lane].capture = Some(id),
            }
            return self.submit(lane, Work::Wait { event: handle, point }, config);
        }
        let Some(point) = event.latest else { return Ok(()) };
        if let Some(id) = own {
            self.break_capture(id);
            return Err(CAPTURE_ISOLATION);
        }
        self.submit(lane, Work::Wait { event: handle, point: Arc::clone(&point) }, config)
    }

    /// `hipEventQuery`.
    pub fn query_event(&mut self, handle: usize, config: &Config) -> Answer {
        let event = self.events.get(&handle).cloned().ok_or(hipErrorInvalidHandle)?;
        if let Some((id, _)) = event.captured {
            self.break_capture(id);
            return Err(CAPTURED_EVENT);
        }
        match event.latest {
            None => self.healthy(),
            Some(point) => self.query(&point, config),
        }
    }

    /// `hipEventElapsedTime`: milliseconds between two events that have happened.
    pub fn elapsed(&mut self, start: usize, end: usize) -> Answer<f32> {
        let mut points = [start, end].map(|handle| self.events.get(&handle).cloned());
        let [Some(start), Some(end)] = points.each_mut().map(Option::take) else {
            return Err(hipErrorInvalidHandle);
        };
        if !start.timing || !end.timing {
            let text = "hipEventElapsedTime of an event that was made without timing";
            return Err(self.fault(FaultKind::BadHandle, text));
        }
        let (Some(start), Some(end)) = (start.latest, end.latest) else { return Err(hipErrorInvalidHandle) };
        if !start.is_done() || !end.is_done() {
            return Err(crate::hip::api::hipErrorNotReady);
        }
        Ok((end.at() as f64 - start.at() as f64) as f32 / 1e6)
    }
}
