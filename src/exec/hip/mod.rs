//! The HIP executor: a plan's steps queued on one compute stream, uploads and downloads on a copy stream, one fence.
//!
//! All errors that can be detected before running are reported when a plan is loaded: its commands are checked, its
//! kernels compiled, its memory requested from the budget and its weights uploaded. A run then only queues. If replays
//! pay off and the platform supports it, a plan is recorded into a HIP graph and replayed with one call.
//!
//! Promise P3, nothing is freed under queued work: a run borrows the executor, any other use first waits for the fence,
//! and the memory of work that cannot be waited for is leaked.

mod bind;
mod blas_start;
mod fence;
mod flight;
mod load;
mod loaded;
mod ports;
mod queue;
mod recording;
mod states;
mod store;
mod upload;
mod waiting;

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use fence::FenceError;
use flight::Flight;
use loaded::{GpuPlan, Replay};
use queue::{Lanes, QueuedRun};
use store::Store;
use waiting::{Ended, wait_for};

use super::books::{self, Books, Plans};
use super::operators::Operators;
use super::{Budget, ExecError, Executor, PlanId, Run, SpanKind, Timeline, WeightSource};
use crate::graph::operator::OperatorRow;
use crate::hip::{Context, HipError, Jit, JitOptions, Priority};
use crate::plan::{DeviceDesc, Plan};

/// Options of the executor.
#[derive(Clone, Debug)]
pub struct HipOptions {
    /// The fence's deadline, after which the device counts as hung.
    pub timeout: Duration,
    /// Record plans and replay them as HIP graphs.
    pub graphs: bool,
    /// Make a hung run report its exact last step. Costs an event for each step, and turns replays off.
    pub trace: bool,
    /// Multiply large matrices with the BLAS library if it is present, else with rfgraph's own kernels.
    pub blas: bool,
    /// Make a row's bits independent of the other rows of its batch and of their number; see
    /// [`DeviceDesc::deterministic`].
    pub deterministic: bool,
    /// The priority of the executor's streams.
    pub priority: Priority,
    /// Options of the kernel compiler.
    pub jit: JitOptions,
}

impl Default for HipOptions {
    /// Two minutes, low priority, replays, the BLAS library, [`JitOptions::default`].
    fn default() -> HipOptions {
        HipOptions {
            timeout: Duration::from_secs(120),
            graphs: true,
            trace: false,
            blas: true,
            deterministic: false,
            priority: Priority::Low,
            jit: JitOptions::default(),
        }
    }
}

impl HipOptions {
    /// Options from the environment: `RFGRAPH_HIP_GRAPH=0` turns replays off, `RFGRAPH_HIP_BLAS=0` the BLAS library,
    /// `RFGRAPH_HIP_TRACE=1` turns tracing on; see also [`JitOptions::from_env`]. The rest is the default.
    pub fn from_env() -> HipOptions {
        let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
        HipOptions {
            graphs: !is("RFGRAPH_HIP_GRAPH", "0"),
            trace: is("RFGRAPH_HIP_TRACE", "1"),
            blas: !is("RFGRAPH_HIP_BLAS", "0"),
            jit: JitOptions::from_env(),
            ..HipOptions::default()
        }
    }
}

/// The progress of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loading {
    /// Compiled kernels, of a total.
    Kernels(usize, usize),
    /// Uploaded bytes of weights, of a total.
    Weights(u64, u64),
}

/// Receives the progress of a load.
pub type OnLoading = Arc<dyn Fn(Loading) + Send + Sync>;

/// Runs plans on a GPU, in one arena.
pub struct HipExecutor {
    context: Context,
    device: DeviceDesc,
    options: HipOptions,
    operators: Operators,
    jit: Jit,
    /// Not shared; kept in an `Arc` so that it can be leaked with work that cannot be waited for.
    lanes: Arc<Lanes>,
    store: Store,
    books: Books,
    plans: Plans<GpuPlan>,
    flight: Option<Flight>,
    /// The first error of a run. Nothing runs after it.
    failed: Option<String>,
    /// True if the refusal of replays was logged.
    told_of_refusal: bool,
    /// True if the BLAS library is started or not needed.
    blas_started: bool,
    unsteady_runs: u64,
    on_loading: Option<OnLoading>,
}

impl HipExecutor {
    /// An executor on an opened device that takes its weights from `weights`.
    pub fn new(
        context: Context,
        weights: Arc<dyn WeightSource>,
        budget: Budget,
        options: HipOptions,
    ) -> Result<HipExecutor, ExecError> {
        let failed = |error| ExecError::gpu("the executor's streams and events", error);
        let compute = context.stream(options.priority).map_err(failed)?;
        if options.blas
            && let Some(problem) = context.blas_problem()
        {
            static SAID: Once = Once::new();
            SAID.call_once(|| tracing::warn!("{problem}; products use rfgraph's own kernels"));
        }
        let found = if options.blas { context.blas(&compute) } else { Ok(None) };
        let blas = found.unwrap_or_else(|error| {
            tracing::warn!("the BLAS library does not start ({error}); products use rfgraph's own kernels");
            None
        });
        let event = || context.event(false).map_err(failed);
        let lanes = Lanes {
            copy: context.stream(options.priority).map_err(failed)?,
            blas,
            uploaded: event()?,
            computed: event()?,
            done: event()?,
            compute,
        };
        let mut target = context.target().clone();
        target.blas = lanes.blas.is_some();
        let lanes_have_no_blas = lanes.blas.is_none();
        Ok(HipExecutor {
            device: DeviceDesc::hip(target).with_deterministic(options.deterministic),
            operators: Operators::built_in(),
            jit: Jit::new(&context, options.jit.clone()),
            store: Store::new(&context, weights, budget),
            lanes: Arc::new(lanes),
            books: Books::default(),
            plans: Plans::default(),
            flight: None,
            failed: None,
            told_of_refusal: false,
            blas_started: lanes_have_no_blas,
            unsteady_runs: 0,
            on_loading: None,
            options,
            context,
        })
    }

    /// Calls `on_loading` while kernels are compiled and weights uploaded, possibly from other threads.
    pub fn set_on_loading(&mut self, on_loading: OnLoading) {
        self.on_loading = Some(on_loading);
    }

    /// Sets the fence's deadline, after which the device counts as hung.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.options.timeout = timeout;
    }

    /// Registers a custom operator, so that plans may name it.
    pub fn register(&mut self, row: OperatorRow) {
        self.operators.register(row);
    }

    /// The number of runs that were slower than later runs of the same plan will be: those before its recording, and
    /// the run that recorded it. While this number grows, measurements are not of a steady state.
    pub fn unsteady_runs(&self) -> u64 {
        self.unsteady_runs
    }

    /// The device.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Assigns the arena to this plan; the plan's inputs in it are lost.
    fn make_current(&mut self, id: PlanId) -> Result<(), ExecError> {
        if self.books.make_current(id) {
            self.plans.get_mut(id)?.fresh.fill(false);
        }
        Ok(())
    }

    /// Waits for a run in flight, and refuses if an earlier run failed.
    fn ready(&mut self) -> Result<(), ExecError> {
        if self.flight.is_some() {
            self.fence()?;
        }
        match &self.failed {
            Some(first) => Err(ExecError::Failed { first: first.clone() }),
            None => Ok(()),
        }
    }

    /// Stores the first error, after which the content of the device's memory is unknown.
    fn fail(&mut self, error: ExecError) -> ExecError {
        self.failed.get_or_insert_with(|| error.to_string());
        error
    }

    /// Queues a run of a plan. It is in flight from here on, even after an error.
    fn launch(&mut self, id: PlanId) -> Result<(), ExecError> {
        let timing = self.books.is_timing();
        if timing {
            self.plans.get_mut(id)?.make_clocks(&self.context)?;
        }
        let asked = Instant::now();
        self.flight = Some(Flight { plan: id, replayed: false, timing, asked, start: asked });
        match self.queue(id, timing) {
            Ok(replayed) => {
                self.flight = Some(Flight { plan: id, replayed, timing, asked, start: Instant::now() });
                self.plans.get_mut(id)?.fresh.fill(false);
                if !replayed && self.may_replay(timing) {
                    self.record_if_it_pays(id)?;
                }
                Ok(())
            }
            Err(error) => {
                self.drain();
                Err(self.fail(error))
            }
        }
    }

    /// Replays the run if it was recorded, and else queues it step by step. Returns true if the run was replayed.
    fn queue(&mut self, id: PlanId, timing: bool) -> Result<bool, ExecError> {
        let done = |lanes: &Lanes, stream: &crate::hip::Stream| {
            stream.record(&lanes.done).map_err(|error| ExecError::gpu("the fence's event", error))
        };
        if self.may_replay(timing) && self.replay(id)? {
            done(&self.lanes, &self.lanes.compute)?;
            return Ok(true);
        }
        let work =
            QueuedRun { loaded: self.plans.get(id)?, arena: self.store.arena(), recorded: false, timing };
        // SAFETY: the executor owns the plan's memory, is borrowed until the fence, and waits before it frees.
        unsafe { self.lanes.queue(&work)? };
        done(&self.lanes, &self.lanes.copy)?;
        Ok(false)
    }

    /// True if runs may be replayed. A run whose steps are timed or traced is queued step by step.
    fn may_replay(&self, timing: bool) -> bool {
        self.options.graphs && !timing && !self.options.trace
    }

    /// Replays the run if it is recorded. Returns true if it was replayed.
    fn replay(&mut self, id: PlanId) -> Result<bool, ExecError> {
        let Replay::Recorded(graph) = &self.plans.get(id)?.replay else { return Ok(false) };
        // SAFETY: the recording refers to memory that the executor still owns, as moving the arena drops recordings.
        // The executor is borrowed until the fence.
        match unsafe { self.lanes.compute.launch_graph(graph) } {
            Ok(()) => Ok(true),
            Err(error) => {
                self.plans.get_mut(id)?.replay = self.refuse_replay("replayed", &error.to_string());
                Ok(false)
            }
        }
    }

    /// Records the plan for later runs if that pays off now. A run of it has just been queued step by step, and the
    /// device computes it while the host records.
    fn record_if_it_pays(&mut self, id: PlanId) -> Result<(), ExecError> {
        let loaded = self.plans.get_mut(id)?;
        let Replay::StepByStep { runs } = &mut loaded.replay else { return Ok(()) };
        self.unsteady_runs += 1;
        if *runs < loaded.runs_before_recording {
            *runs += 1;
            return Ok(());
        }
        let replay = match self.record(id) {
            Ok(graph) => Replay::Recorded(graph),
            Err(error) => self.refuse_replay("recorded", &error.to_string()),
        };
        self.plans.get_mut(id)?.replay = replay;
        Ok(())
    }

    fn refuse_replay(&mut self, what: &str, error: &str) -> Replay {
        if !self.told_of_refusal {
            tracing::warn!("a plan could not be {what} as a HIP graph ({error}); it runs step by step");
        }
        self.told_of_refusal = true;
        Replay::Refused
    }

    /// Records a run. The streams can be used afterwards, whatever the result.
    fn record(&self, id: PlanId) -> Result<crate::hip::GraphExec, ExecError> {
        let failed = |error: HipError| ExecError::gpu("the recording of a plan", error);
        let (loaded, arena) = (self.plans.get(id)?, self.store.arena());
        self.lanes.copy.begin_capture().map_err(failed)?;
        let work = QueuedRun { loaded, arena, recorded: true, timing: false };
        // SAFETY: recorded work does not run; replays are queued under the same guarantees. The streams' earlier work is
        // not part of the recording.
        let queued = unsafe { self.lanes.queue(&work) };
        let graph = self.lanes.copy.end_capture();
        if graph.is_err() {
            // Ends the capture if the failed call left the stream recording; otherwise this call is refused,
            // harmlessly.
            drop(self.lanes.copy.end_capture());
        }
        queued.and(graph.map_err(failed))
    }

    /// Waits for work that was queued before an error.
    fn drain(&mut self) {
        self.flight = None;
        // Retry once: a call may fail transiently.
        let joined = self.lanes.join_all().or_else(|_| self.lanes.join_all());
        let late = || matches!(wait_for(&self.lanes.done, self.options.timeout), Ended::Late);
        if joined.is_err() || late() {
            self.store.lost = true;
        }
    }
}

impl Executor for HipExecutor {
    fn device(&self) -> DeviceDesc {
        self.device.clone()
    }

    fn budget(&self) -> &Budget {
        &self.store.budget
    }

    fn load(&mut self, plan: Plan) -> Result<PlanId, ExecError> {
        self.ready()?;
        books::check_plan(&plan, self.device.clone())?;
        plan.steps.iter().try_for_each(|step| bind::check(&self.operators, &self.device, step))?;
        let functions = self.kernels(&plan)?;
        let plan = Arc::new(plan);
        match self.place(Arc::clone(&plan), functions) {
            Ok(loaded) => {
                let id = self.books.add(plan);
                self.plans.insert(id, loaded);
                Ok(id)
            }
            Err(error) if self.store.lost => Err(self.fail(error)),
            Err(error) => Err(error),
        }
    }

    fn unload(&mut self, id: PlanId) -> Result<(), ExecError> {
        self.ready()?;
        self.free(id)
    }

    fn plan(&self, id: PlanId) -> Result<&Plan, ExecError> {
        self.books.plan(id)
    }

    fn write(&mut self, id: PlanId, input: usize, bytes: &[u8]) -> Result<(), ExecError> {
        self.ready()?;
        self.books.input(id, input, bytes.len())?;
        self.make_current(id)?;
        let start = self.books.timeline().map(|_| Instant::now());
        let loaded = self.plans.get_mut(id)?;
        loaded.ports.write(input, bytes);
        loaded.fresh[input] = true;
        self.books.mark_given(id, input);
        if let Some(start) = start {
            self.books.add_spans(id, &[(SpanKind::Write(input as u32), start, Instant::now())]);
        }
        Ok(())
    }

    fn run(&mut self, id: PlanId) -> Result<Run<'_>, ExecError> {
        self.ready()?;
        self.books.check_inputs(id)?;
        self.make_current(id)?;
        self.launch(id)?;
        Ok(Run::new(self, id))
    }

    fn fence(&mut self) -> Result<(), ExecError> {
        let Some(flight) = self.flight.take() else { return Ok(()) };
        let loaded = self.plans.get_mut(flight.plan)?;
        let begin = Instant::now();
        let ended = fence::wait(&self.context, &self.lanes, flight, loaded, self.options.timeout);
        let fence = (begin, Instant::now());
        let timed = ended
            .and_then(|()| take_times(&mut self.books, loaded, flight, fence).map_err(FenceError::of_ended));
        timed.map_err(|FenceError { error, lost }| {
            self.store.lost |= lost;
            self.fail(*error)
        })
    }

    fn output(&self, id: PlanId, output: usize) -> Result<&[u8], ExecError> {
        if self.flight.is_some() {
            return Err(ExecError::InFlight);
        }
        // The device may still write the outputs, or never have written them.
        if let Some(first) = &self.failed {
            return Err(ExecError::Failed { first: first.clone() });
        }
        let port = self.books.output(id, output)?;
        let unknown = || ExecError::Unknown { what: "memory of output", name: port.name.clone() };
        self.plans.get(id)?.ports.output(output).ok_or_else(unknown)
    }

    fn start_timing(&mut self) {
        self.books.start_timing();
    }

    fn times(&self, id: PlanId) -> &[Duration] {
        self.books.times(id)
    }

    fn start_timeline(&mut self, timeline: Timeline) {
        self.books.start_timeline(timeline);
    }

    fn timeline(&self) -> Option<&Timeline> {
        self.books.timeline()
    }
}

/// Records the times of a run after its fence, if it was timed.
fn take_times(
    books: &mut Books,
    loaded: &GpuPlan,
    flight: Flight,
    fence: (Instant, Instant),
) -> Result<(), ExecError> {
    if !flight.timing {
        return Ok(());
    }
    loaded.add_times(books.times_mut(flight.plan))?;
    if books.timeline().is_some() {
        let spans = loaded.clock_times()?.spans((flight.asked, flight.start), fence);
        books.add_spans(flight.plan, &spans);
    }
    Ok(())
}

impl Drop for HipExecutor {
    fn drop(&mut self) {
        if let Err(error) = self.fence() {
            tracing::error!("a run that nobody waited for failed: {error}");
        }
        if self.store.lost {
            // Freeing would wait for the device, which does not respond, or free memory that it still uses.
            tracing::error!("the GPU may still be at work: its memory is kept until the process ends");
            std::mem::forget(std::mem::take(&mut self.plans));
            std::mem::forget(Arc::clone(&self.lanes));
            self.store.leak();
        }
    }
}

impl std::fmt::Debug for HipExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HipExecutor")
            .field("context", &self.context)
            .field("plans", &self.plans.len())
            .finish_non_exhaustive()
    }
}
