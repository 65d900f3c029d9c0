//! Queueing a run: uploads, steps, downloads, on two streams that are joined where the plan's edges join them.

use super::loaded::Loaded;
use super::ports::Transfer;
use crate::exec::ExecError;
use crate::hip::{BlasHandle, Event, HipError, Stream};

/// Where work is queued, and the events that join the two streams.
#[derive(Debug)]
pub(super) struct Lanes {
    pub compute: Stream,
    pub copy: Stream,
    pub blas: Option<BlasHandle>,
    /// The uploads of a run, and all copies before them, are done.
    pub uploaded: Event,
    /// The steps of a run are done.
    pub computed: Event,
    /// All of it is done: what the fence waits for.
    pub done: Event,
}

/// A run to be queued.
pub(super) struct Work<'a> {
    pub loaded: &'a Loaded,
    pub arena: u64,
    /// Everything is uploaded, and both streams take part from the first step on, as a recording needs it.
    pub recorded: bool,
    /// Steps are timed.
    pub timing: bool,
}

impl Lanes {
    /// Queues a run on both streams; all of it is done when what is on the copy stream is.
    ///
    /// # Safety
    /// The plan's memory stays, and no other run is in flight, until a fence after this.
    pub unsafe fn queue(&self, work: &Work<'_>) -> Result<(), ExecError> {
        let loaded = work.loaded;
        let uploads = loaded.ports.uploads(|input| work.recorded || loaded.fresh[input]);
        self.tick_copies(work, 0)?;
        // SAFETY: the caller's promise; the pinned memory is the plan's.
        unsafe { self.upload(work, &uploads)? };
        self.tick_copies(work, 1)?;
        let join = if work.recorded { Some(0) } else { loaded.first_join.filter(|_| !uploads.is_empty()) };
        if join.is_some() {
            self.copy.record(&self.uploaded).map_err(|error| failed("the end of the uploads", error))?;
        }
        if loaded.steps.is_empty() && join.is_some() {
            self.join_compute()?;
        }
        for (number, step) in loaded.steps.iter().enumerate() {
            if join == Some(number) {
                self.join_compute()?;
            }
            self.tick(work, number)?;
            for (i, command) in step.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { command.queue(&self.compute, self.blas.as_ref()) }
                    .map_err(|error| ExecError::gpu(loaded.command_title(number, i), error))?;
            }
            self.mark(work, number)?;
        }
        self.tick(work, loaded.steps.len())?;
        if !loaded.steps.is_empty() || join.is_some() {
            self.compute.record(&self.computed).map_err(|error| failed("the end of the steps", error))?;
            self.copy.wait(&self.computed).map_err(|error| failed("the downloads' wait", error))?;
        }
        self.tick_copies(work, 2)?;
        // SAFETY: the caller's promise; the pinned memory is the plan's.
        unsafe { self.download(work)? };
        self.tick_copies(work, 3)
    }

    /// Steps from here on start after the uploads.
    fn join_compute(&self) -> Result<(), ExecError> {
        self.compute.wait(&self.uploaded).map_err(|error| failed("the steps' wait for uploads", error))
    }

    unsafe fn upload(&self, work: &Work<'_>, uploads: &[Transfer]) -> Result<(), ExecError> {
        let Some(memory) = &work.loaded.ports.memory else { return Ok(()) };
        for &Transfer { pinned, device, bytes } in uploads {
            let from = memory.inputs.as_ptr().wrapping_add(pinned);
            // SAFETY: the pinned memory holds all inputs at these offsets, the arena at those; the caller keeps both.
            unsafe { self.copy.copy_to_device(work.arena + device, from, bytes) }
                .map_err(|error| failed(&format!("an upload of {bytes} bytes of inputs"), error))?;
        }
        Ok(())
    }

    unsafe fn download(&self, work: &Work<'_>) -> Result<(), ExecError> {
        let Some(memory) = &work.loaded.ports.memory else { return Ok(()) };
        let ports = work.loaded.plan.outputs.iter().zip(work.loaded.ports.downloads());
        for (port, &Transfer { pinned, device, bytes }) in ports {
            let to = memory.outputs.as_ptr().wrapping_add(pinned);
            // SAFETY: the pinned memory holds all outputs at these offsets, and the output is inside its memory by the
            // check of the plan; the caller keeps both.
            unsafe { self.copy.copy_to_host(to, device, bytes) }
                .map_err(|error| failed(&format!("the download of `{}`", port.name), error))?;
        }
        Ok(())
    }

    /// The clock before step `number`, or after the last.
    fn tick(&self, work: &Work<'_>, number: usize) -> Result<(), ExecError> {
        match work.loaded.clocks.get(number).filter(|_| work.timing) {
            Some(clock) => self.compute.record(clock).map_err(|error| failed("the time of a step", error)),
            None => Ok(()),
        }
    }

    /// The clock of the copies: before and after uploads, before and after downloads.
    fn tick_copies(&self, work: &Work<'_>, number: usize) -> Result<(), ExecError> {
        match work.loaded.copy_clocks.get(number).filter(|_| work.timing) {
            Some(clock) => self.copy.record(clock).map_err(|error| failed("the time of a copy", error)),
            None => Ok(()),
        }
    }

    fn mark(&self, work: &Work<'_>, number: usize) -> Result<(), ExecError> {
        let mark = work.loaded.marks.iter().find(|(step, _)| *step == number && !work.recorded);
        match mark {
            Some((_, event)) => self.compute.record(event).map_err(|error| failed("a step's mark", error)),
            None => Ok(()),
        }
    }

    /// Makes `done` stand for everything that is queued on both streams, though some of it failed.
    pub fn join_all(&self) -> Result<(), HipError> {
        self.compute.record(&self.computed)?;
        self.copy.wait(&self.computed)?;
        self.copy.record(&self.done)
    }
}

fn failed(what: &str, error: HipError) -> ExecError {
    ExecError::gpu(what, error)
}
