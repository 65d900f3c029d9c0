//! Events: points in a stream's work that can be queried, waited for and timed.

use std::thread;
use std::time::{Duration, Instant};

use super::api::{self, hipEvent_t};
use super::context::Context;
use super::error::HipError;

/// The time that a wait spins before it yields the processor. Most steps of a decode end sooner.
const SPIN: Duration = Duration::from_micros(200);
/// The first and the longest sleep between two queries.
const SLEEP: (Duration, Duration) = (Duration::from_micros(20), Duration::from_micros(100));

/// A point in a stream's work.
#[derive(Debug)]
pub struct Event {
    context: Context,
    raw: hipEvent_t,
}

// SAFETY: the runtime accepts an event from any thread.
unsafe impl Send for Event {}
// SAFETY: the runtime accepts an event from any thread and locks its own state.
unsafe impl Sync for Event {}

impl Context {
    /// Makes an event. `Event::elapsed_ms` needs events made with `timing`, which cost more to record.
    ///
    /// # Errors
    /// The runtime refuses the event.
    pub fn event(&self, timing: bool) -> Result<Event, HipError> {
        let flags = if timing { api::hipEventDefault } else { api::hipEventDisableTiming };
        let mut raw: hipEvent_t = std::ptr::null_mut();
        // SAFETY: `raw` is valid for a write.
        let code = unsafe { (self.runtime()?.hipEventCreateWithFlags)(&mut raw, flags) };
        self.check("hipEventCreateWithFlags", code)?;
        Ok(Event { context: self.clone(), raw })
    }
}

impl Event {
    pub(super) fn raw(&self) -> hipEvent_t {
        self.raw
    }

    /// True if the work before the event has finished, or if the event was never recorded.
    ///
    /// # Errors
    /// The work failed.
    pub fn is_done(&self) -> Result<bool, HipError> {
        // SAFETY: the event is alive.
        match unsafe { (self.context.runtime()?.hipEventQuery)(self.raw) } {
            api::hipErrorNotReady => Ok(false),
            code => self.context.check("hipEventQuery", code).map(|()| true),
        }
    }

    /// Waits until the work before the event has finished; false if `deadline` passed first.
    ///
    /// # Errors
    /// The work failed.
    pub fn wait_until(&self, deadline: Duration) -> Result<bool, HipError> {
        let start = Instant::now();
        let mut sleep = SLEEP.0;
        loop {
            if self.is_done()? {
                return Ok(true);
            }
            let waited = start.elapsed();
            if waited >= deadline {
                return Ok(false);
            }
            if waited < SPIN {
                std::hint::spin_loop();
            } else {
                thread::sleep(sleep.min(deadline - waited));
                sleep = (sleep * 2).min(SLEEP.1);
            }
        }
    }

    /// Milliseconds from this event to `end`; both must be done and made with timing.
    ///
    /// # Errors
    /// One of the events is not done, was not recorded, or was made without timing.
    pub fn elapsed_ms(&self, end: &Event) -> Result<f32, HipError> {
        let mut milliseconds = 0.0;
        let runtime = self.context.runtime()?;
        // SAFETY: both events are alive, and `milliseconds` is valid for a write.
        let code = unsafe { (runtime.hipEventElapsedTime)(&mut milliseconds, self.raw, end.raw) };
        self.context.check("hipEventElapsedTime", code)?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `hipEventCreateWithFlags`, destroyed once; a queued record keeps what it needs.
        self.context.release("hipEventDestroy", |runtime| unsafe { (runtime.hipEventDestroy)(self.raw) });
    }
}
