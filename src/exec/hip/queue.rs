//! Queueing runs: uploads, steps, downloads, on two streams that are joined where the plan's edges join them.

use super::loaded::{Feed, Loaded};
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

/// What is queued at once.
pub(super) struct Work<'a> {
    pub loaded: &'a Loaded,
    pub arena: u64,
    /// So many runs, one after another, each in its slot.
    pub runs: usize,
    /// Outputs of a run that become inputs of the next.
    pub feed: &'a [Feed],
    /// Everything is uploaded, and both streams take part from the first step on, as a recording needs it.
    pub recorded: bool,
    /// Steps are timed.
    pub timing: bool,
}

impl Lanes {
    /// Queues runs on both streams; all of it is done when what is on the copy stream is.
    ///
    /// # Safety
    /// The plan's memory stays, and no other run is in flight, until a fence after this.
    pub unsafe fn queue(&self, work: &Work<'_>) -> Result<(), ExecError> {
        for run in 0..work.runs {
            // SAFETY: the caller's promise.
            unsafe { self.queue_run(work, run)? };
        }
        Ok(())
    }

    unsafe fn queue_run(&self, work: &Work<'_>, run: usize) -> Result<(), ExecError> {
        let loaded = work.loaded;
        let fed = |input: usize| run > 0 && work.feed.iter().any(|(_, to)| *to == input);
        let all = work.recorded || run > 0;
        let uploads = loaded.ports.uploads(|input| !fed(input) && (all || loaded.fresh[input]));
        // SAFETY: the caller's promise; the pinned memory is the plan's.
        unsafe { self.upload(work, run, &uploads)? };
        // A run behind another: its first step may write over what is still being downloaded.
        let join = if all { Some(0) } else { loaded.first_join.filter(|_| !uploads.is_empty()) };
        if join.is_some() {
            self.copy.record(&self.uploaded).map_err(|error| failed("the end of the uploads", error))?;
        }
        if loaded.steps.is_empty() && join.is_some() {
            self.join_compute()?;
        }
        if run > 0 {
            self.join_compute()?;
            // SAFETY: the caller's promise; outputs and inputs are apart, since both last for the whole run.
            unsafe { self.feed(work)? };
        }
        for (number, step) in loaded.steps.iter().enumerate() {
            if join == Some(number) && run == 0 {
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
        // SAFETY: the caller's promise; the pinned memory is the plan's.
        unsafe { self.download(work, run) }
    }

    /// Steps from here on start after the uploads.
    fn join_compute(&self) -> Result<(), ExecError> {
        self.compute.wait(&self.uploaded).map_err(|error| failed("the steps' wait for uploads", error))
    }

    unsafe fn upload(&self, work: &Work<'_>, run: usize, uploads: &[Transfer]) -> Result<(), ExecError> {
        let Some(slot) = work.loaded.ports.slots.get(run) else { return Ok(()) };
        for &Transfer { pinned, device, bytes } in uploads {
            let from = slot.inputs.as_ptr().wrapping_add(pinned);
            // SAFETY: the slot holds all inputs at these offsets, the arena at those; the caller keeps both.
            unsafe { self.copy.copy_to_device(work.arena + device, from, bytes) }
                .map_err(|error| failed(&format!("an upload of {bytes} bytes of inputs"), error))?;
        }
        Ok(())
    }

    unsafe fn download(&self, work: &Work<'_>, run: usize) -> Result<(), ExecError> {
        let Some(slot) = work.loaded.ports.slots.get(run) else { return Ok(()) };
        let ports = work.loaded.plan.outputs.iter().zip(work.loaded.ports.downloads());
        for (port, &Transfer { pinned, device, bytes }) in ports {
            let to = slot.outputs.as_ptr().wrapping_add(pinned);
            // SAFETY: the slot holds all outputs at these offsets, and the output is inside its memory by the
            // check of the plan; the caller keeps both.
            unsafe { self.copy.copy_to_host(to, device, bytes) }
                .map_err(|error| failed(&format!("the download of `{}`", port.name), error))?;
        }
        Ok(())
    }

    /// Copies outputs of the run before to inputs of the next one.
    unsafe fn feed(&self, work: &Work<'_>) -> Result<(), ExecError> {
        for &(output, input) in work.feed {
            let from = work.loaded.ports.downloads().get(output);
            let to = work.loaded.plan.inputs.get(input);
            if let (Some(from), Some(to)) = (from, to) {
                let to = work.arena + to.operand.offset as u64;
                // SAFETY: both are tensors of the plan and of one size, which the caller has checked.
                unsafe { self.compute.copy_within(to, from.device, from.bytes) }
                    .map_err(|error| failed("an output that becomes an input", error))?;
            }
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
