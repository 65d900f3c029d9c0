//! Queues a run: uploads, steps, downloads, on two streams that are joined at the plan's edges.

use super::loaded::GpuPlan;
use super::ports::Transfer;
use crate::exec::ExecError;
use crate::hip::{BlasHandle, Event, HipError, Stream};

/// The two streams, and the events that join them.
#[derive(Debug)]
pub(super) struct Lanes {
    pub compute: Stream,
    pub copy: Stream,
    pub blas: Option<BlasHandle>,
    /// After the uploads of a run and all earlier copies.
    pub uploaded: Event,
    /// After the steps of a run.
    pub computed: Event,
    /// After the whole run; the fence waits for it.
    pub done: Event,
}

/// A run to queue.
pub(super) struct QueuedRun<'a> {
    pub loaded: &'a GpuPlan,
    pub arena: u64,
    /// Upload all inputs and use both streams from the first step on, as a recording requires.
    pub recorded: bool,
    /// Time the steps.
    pub timing: bool,
}

impl Lanes {
    /// Queues a run on both streams; all of it is done when the copy stream is.
    ///
    /// # Safety
    /// The plan's memory stays valid, and no other run is in flight, until a fence after this.
    pub unsafe fn queue(&self, run: &QueuedRun<'_>) -> Result<(), ExecError> {
        let loaded = run.loaded;
        let uploads = loaded.ports.uploads(|input| run.recorded || loaded.fresh[input]);
        self.tick_copies(run, 0)?;
        // SAFETY: guaranteed by the caller; the pinned memory is the plan's.
        unsafe { self.upload(run, &uploads)? };
        self.tick_copies(run, 1)?;
        let join = if run.recorded { Some(0) } else { loaded.first_join.filter(|_| !uploads.is_empty()) };
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
            self.tick(run, number)?;
            for (i, command) in step.iter().enumerate() {
                // SAFETY: guaranteed by the caller.
                unsafe { command.queue(&self.compute, self.blas.as_ref()) }
                    .map_err(|error| ExecError::gpu(loaded.command_title(number, i), error))?;
            }
            self.mark(run, number)?;
        }
        self.tick(run, loaded.steps.len())?;
        if !loaded.steps.is_empty() || join.is_some() {
            self.compute.record(&self.computed).map_err(|error| failed("the end of the steps", error))?;
            self.copy.wait(&self.computed).map_err(|error| failed("the downloads' wait", error))?;
        }
        self.tick_copies(run, 2)?;
        // SAFETY: guaranteed by the caller; the pinned memory is the plan's.
        unsafe { self.download(run)? };
        self.tick_copies(run, 3)
    }

    /// Makes later steps start after the uploads.
    fn join_compute(&self) -> Result<(), ExecError> {
        self.compute.wait(&self.uploaded).map_err(|error| failed("the steps' wait for uploads", error))
    }

    unsafe fn upload(&self, run: &QueuedRun<'_>, uploads: &[Transfer]) -> Result<(), ExecError> {
        let Some(memory) = &run.loaded.ports.memory else { return Ok(()) };
        for &Transfer { pinned, device, bytes } in uploads {
            let from = memory.inputs.as_ptr().wrapping_add(pinned);
            // SAFETY: all inputs are at these offsets of the pinned memory and the arena; the caller keeps both alive.
            unsafe { self.copy.copy_to_device(run.arena + device, from, bytes) }
                .map_err(|error| failed(&format!("an upload of {bytes} bytes of inputs"), error))?;
        }
        Ok(())
    }

    unsafe fn download(&self, run: &QueuedRun<'_>) -> Result<(), ExecError> {
        let Some(memory) = &run.loaded.ports.memory else { return Ok(()) };
        let ports = run.loaded.plan.outputs.iter().zip(run.loaded.ports.downloads());
        for (port, &Transfer { pinned, device, bytes }) in ports {
            let to = memory.outputs.as_ptr().wrapping_add(pinned);
            // SAFETY: all outputs are at these offsets of the pinned memory, and each output is inside its memory by
            // the check of the plan; the caller keeps both alive.
            unsafe { self.copy.copy_to_host(to, device, bytes) }
                .map_err(|error| failed(&format!("the download of `{}`", port.name), error))?;
        }
        Ok(())
    }

    /// Records the clock before step `number`, or after the last step.
    fn tick(&self, run: &QueuedRun<'_>, number: usize) -> Result<(), ExecError> {
        match run.loaded.clocks.get(number).filter(|_| run.timing) {
            Some(clock) => self.compute.record(clock).map_err(|error| failed("the time of a step", error)),
            None => Ok(()),
        }
    }

    /// Records a clock of the copies: before and after uploads, before and after downloads.
    fn tick_copies(&self, run: &QueuedRun<'_>, number: usize) -> Result<(), ExecError> {
        match run.loaded.copy_clocks.get(number).filter(|_| run.timing) {
            Some(clock) => self.copy.record(clock).map_err(|error| failed("the time of a copy", error)),
            None => Ok(()),
        }
    }

    fn mark(&self, run: &QueuedRun<'_>, number: usize) -> Result<(), ExecError> {
        let mark = run.loaded.marks.iter().find(|(step, _)| *step == number && !run.recorded);
        match mark {
            Some((_, event)) => self.compute.record(event).map_err(|error| failed("a step's mark", error)),
            None => Ok(()),
        }
    }

    /// Makes `done` follow everything that is queued on both streams, even if some of it failed.
    pub fn join_all(&self) -> Result<(), HipError> {
        self.compute.record(&self.computed)?;
        self.copy.wait(&self.computed)?;
        self.copy.record(&self.done)
    }
}

fn failed(what: &str, error: HipError) -> ExecError {
    ExecError::gpu(what, error)
}
