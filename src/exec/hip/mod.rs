//! The HIP executor: a plan's steps queued on one compute stream, uploads and downloads on a copy stream, one fence.
//!
//! Everything that can be refused is refused when a plan is loaded: there its commands are checked, its kernels
//! compiled, its memory asked of the budget and its weights uploaded. A run then only queues. A plan whose replays
//! pay is recorded into a HIP graph and replayed with one call, where the platform agrees.
//!
//! Promise P3, nothing is freed under queued work: a run borrows the executor, whatever else comes first
//! waits for the fence, and work that cannot be waited for keeps its memory for ever.

mod bind;
mod blas_start;
mod fence;
mod flight;
mod loaded;
mod ports;
mod queue;
mod recording;
mod states;
mod store;
mod upload;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use blas_start::BlasStart;
use fence::FenceError;
use flight::Flight;
use loaded::{Loaded, MARK_EVERY, Replay};
use queue::{Lanes, Work};
use store::Store;
use upload::Uploader;
use waiting::{Ended, wait_for};

use super::books::{self, Books};
use super::operators::Operators;
use super::{Budget, ExecError, Executor, PlanId, Run, Timeline, WeightSource, Work as Timed};
use crate::device::{Command, Variant};
use crate::graph::operator::OperatorRow;
use crate::hip::{Context, Function, HipError, Jit, JitOptions, Priority};
use crate::plan::{DeviceDesc, Plan};

/// How the executor works.
#[derive(Clone, Debug)]
pub struct HipOptions {
    /// How long the fence waits before it says that the device hangs.
    pub timeout: Duration,
    /// Whether plans are recorded and replayed as HIP graphs.
    pub graphs: bool,
    /// Whether a run that does not end can tell its last step exactly. Costs an event for each step, and replays.
    pub trace: bool,
    /// Whether the BLAS library, where it is, multiplies large matrices; otherwise rfgraph's own kernels do.
    pub blas: bool,
    /// Whether a row's bits depend neither on the other rows of its batch nor on their number; see
    /// [`DeviceDesc::deterministic`].
    pub deterministic: bool,
    /// Whose work goes first.
    pub priority: Priority,
    /// How kernels are compiled.
    pub jit: JitOptions,
}

impl Default for HipOptions {
    /// Two minutes, low priority, replays, the BLAS library; kernels as [`JitOptions::default`] has them.
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
    /// As the environment says: `RFGRAPH_HIP_GRAPH=0` turns replays off, `RFGRAPH_HIP_BLAS=0` the BLAS library,
    /// `RFGRAPH_HIP_TRACE=1` turns tracing on; kernels as [`JitOptions::from_env`] has them. The rest is the default.
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

/// What a long load is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loading {
    /// So many kernels are compiled, of so many.
    Kernels(usize, usize),
    /// So many bytes of weights are uploaded, of so many.
    Weights(u64, u64),
}

/// Told how far a load is.
pub type OnLoading = Arc<dyn Fn(Loading) + Send + Sync>;

/// Runs plans on a GPU, in one arena.
pub struct HipExecutor {
    context: Context,
    device: DeviceDesc,
    options: HipOptions,
    operators: Operators,
    jit: Jit,
    /// Shared with nobody, but for ever with work that cannot be waited for.
    lanes: Arc<Lanes>,
    store: Store,
    books: Books,
    /// By the numbers that the books give.
    plans: Vec<Loaded>,
    flight: Option<Flight>,
    /// The first error of a run, after which nothing runs any more.
    failed: Option<String>,
    /// Whether the user was told that replays are refused.
    told_of_refusal: bool,
    /// Whether the BLAS library has made its first product, or need not.
    blas_started: bool,
    unsteady_runs: u64,
    on_loading: Option<OnLoading>,
}

impl HipExecutor {
    /// An executor on an opened device that binds weights from this source.
    pub fn new(
        context: Context,
        weights: Arc<dyn WeightSource>,
        budget: Budget,
        options: HipOptions,
    ) -> Result<HipExecutor, ExecError> {
        let failed = |error| ExecError::gpu("the executor's streams and events", error);
        let compute = context.stream(options.priority).map_err(failed)?;
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
            plans: Vec::new(),
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

    /// Calls `on_loading` while kernels are compiled and weights uploaded; it may be called from any thread.
    pub fn set_on_loading(&mut self, on_loading: OnLoading) {
        self.on_loading = Some(on_loading);
    }

    /// How long the fence waits from now on before it says that the device hangs.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.options.timeout = timeout;
    }

    /// Makes a user's own operator known, so that plans may name it.
    pub fn register(&mut self, row: OperatorRow) {
        self.operators.register(row);
    }

    /// How many runs were not as fast as later ones of the same plan will be: the plan was to be recorded later, or was
    /// recorded in that run. While this number grows, what is measured is no steady state.
    pub fn unsteady_runs(&self) -> u64 {
        self.unsteady_runs
    }

    /// The device.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Compiles the kernels of a plan, and gives those of each step's launches.
    fn kernels(&self, plan: &Plan) -> Result<Vec<Vec<Function>>, ExecError> {
        let variants = |step: &crate::plan::Step| -> Vec<Variant> {
            let launches = step.commands.iter().filter_map(|command| match command {
                Command::Launch(launch) => Some(launch.variant.clone()),
                Command::Gemm(_) | Command::Copy { .. } => None,
            });
            launches.collect()
        };
        let steps: Vec<Vec<Variant>> = plan.steps.iter().map(variants).collect();
        let mut all: Vec<Variant> = steps.iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        let on_loading = self.on_loading.clone();
        let progress = move |done, total| {
            if let Some(on_loading) = &on_loading {
                on_loading(Loading::Kernels(done, total));
            }
        };
        self.jit.prepare(&all, &progress)?;
        let functions = |step: &Vec<Variant>| step.iter().map(|variant| self.jit.function(variant)).collect();
        Ok(steps.iter().map(functions).collect::<Result<_, _>>()?)
    }

    /// Gives a plan its memory and its addresses.
    fn place(&mut self, plan: Arc<Plan>, functions: Vec<Vec<Function>>) -> Result<Loaded, ExecError> {
        let on_loading = self.on_loading.clone();
        let progress = move |done, total| {
            if let Some(on_loading) = &on_loading {
                on_loading(Loading::Weights(done, total));
            }
        };
        let (context, stream, timeout) = (&self.context, &self.lanes.copy, self.options.timeout);
        let uploader = Uploader { context, stream, timeout, progress: Some(&progress) };
        let start = match self.blas_started {
            true => None,
            false => BlasStart::of(&plan, context, &mut self.store.budget),
        };
        let leaves = match start {
            None => self.store.leaves(&plan, &uploader),
            Some(start) => {
                self.blas_started = true;
                let (leaves, is_over) =
                    start.beside(&self.lanes, timeout, || self.store.leaves(&plan, &uploader));
                self.store.lost |= !is_over;
                start.end(&mut self.store.budget, !self.store.lost);
                leaves
            }
        }?;
        let mark_every = if self.options.trace { 1 } else { MARK_EVERY };
        let mut loaded = Loaded::new(plan, functions, leaves, &self.context, mark_every)?;
        let held = self.port_bytes();
        let result = self.fit(&mut loaded, held);
        if let Err(error) = result {
            self.store.drop_constants(std::mem::take(&mut loaded.leaves.constants))?;
            drop(loaded);
            self.store.budget.hold(store::PORTS, held)?;
            self.store.forget_unused()?;
            return Err(error);
        }
        Ok(loaded)
    }

    fn fit(&mut self, loaded: &mut Loaded, held: u64) -> Result<(), ExecError> {
        self.store.budget.hold(store::PORTS, held.saturating_add(loaded.ports.bytes()))?;
        loaded.ports.allocate(&self.context)?;
        self.grow_arena(loaded.plan.arena)?;
        let start = self.store.arena();
        loaded.rebind(loaded.bound(start)?, start)
    }

    /// Bytes of pinned memory of all plans.
    fn port_bytes(&self) -> u64 {
        self.plans.iter().map(|plan| plan.ports.bytes()).sum()
    }

    /// Grows the arena, and tells every plan where it is now. Nothing is in flight.
    fn grow_arena(&mut self, bytes: usize) -> Result<(), ExecError> {
        if !self.store.must_grow(bytes) {
            return Ok(());
        }
        let grown = self.move_into(bytes);
        self.store.settle_arena()?;
        grown
    }

    /// Moves all plans into an arena of this size.
    fn move_into(&mut self, bytes: usize) -> Result<(), ExecError> {
        let arena = self.store.larger_arena(bytes)?;
        let start = arena.address();
        let bound = self.plans.iter().map(|plan| plan.bound(start)).collect::<Result<Vec<_>, _>>()?;
        for (plan, steps) in self.plans.iter_mut().zip(bound) {
            plan.rebind(steps, start)?;
        }
        self.books.arena_moved();
        self.store.take_arena(arena);
        Ok(())
    }

    /// The arena belongs to this plan from here on: what lay there of its inputs is gone.
    fn make_current(&mut self, id: PlanId) {
        if self.books.make_current(id) {
            self.plans[id.0].fresh.fill(false);
        }
    }

    /// Ends a flight that was left, and refuses if something failed before.
    fn ready(&mut self) -> Result<(), ExecError> {
        if self.flight.is_some() {
            self.fence()?;
        }
        match &self.failed {
            Some(first) => Err(ExecError::Failed { first: first.clone() }),
            None => Ok(()),
        }
    }

    /// Remembers the first error: what the device holds is not known any more.
    fn fail(&mut self, error: ExecError) -> ExecError {
        self.failed.get_or_insert_with(|| error.to_string());
        error
    }

    /// Queues a run of a plan. In flight from here on, even after an error.
    fn launch(&mut self, id: PlanId) -> Result<(), ExecError> {
        let timing = self.books.is_timing();
        if timing {
            self.plans[id.0].make_clocks(&self.context)?;
        }
        let asked = Instant::now();
        self.flight = Some(Flight { plan: id, replayed: false, timing, asked, start: asked });
        match self.queue(id, timing) {
            Ok(replayed) => {
                self.flight = Some(Flight { plan: id, replayed, timing, asked, start: Instant::now() });
                self.plans[id.0].fresh.fill(false);
                Ok(())
            }
            Err(error) => {
                self.drain();
                Err(self.fail(error))
            }
        }
    }

    /// Replays the run if it was recorded, records it if that pays now, and queues it step by step otherwise. Gives whether
    /// it was replayed.
    fn queue(&mut self, id: PlanId, timing: bool) -> Result<bool, ExecError> {
        let done = |lanes: &Lanes, stream: &crate::hip::Stream| {
            stream.record(&lanes.done).map_err(|error| ExecError::gpu("the fence's event", error))
        };
        if self.options.graphs && !timing && !self.options.trace && self.replay(id)? {
            done(&self.lanes, &self.lanes.compute)?;
            return Ok(true);
        }
        let work = Work { loaded: &self.plans[id.0], arena: self.store.arena(), recorded: false, timing };
        // SAFETY: the executor owns the plan's memory, is borrowed until the fence, and waits before it frees.
        unsafe { self.lanes.queue(&work)? };
        done(&self.lanes, &self.lanes.copy)?;
        Ok(false)
    }

    /// Replays the run, if it is recorded or can be now. Gives whether it was.
    fn replay(&mut self, id: PlanId) -> Result<bool, ExecError> {
        let loaded = &mut self.plans[id.0];
        if let Replay::StepByStep { runs } = &mut loaded.replay {
            let wanted = loaded.runs_before_recording;
            self.unsteady_runs += 1;
            if *runs < wanted {
                *runs += 1;
                return Ok(false);
            }
            self.plans[id.0].replay = match self.record(id) {
                Ok(graph) => Replay::Recorded(graph),
                Err(error) => self.refuse_replay("recorded", &error.to_string()),
            };
        }
        let Replay::Recorded(graph) = &self.plans[id.0].replay else { return Ok(false) };
        // SAFETY: what was recorded names memory that the executor still owns: moving the arena forgets
        // recordings. It is borrowed until the fence.
        match unsafe { self.lanes.compute.launch_graph(graph) } {
            Ok(()) => Ok(true),
            Err(error) => {
                self.plans[id.0].replay = self.refuse_replay("replayed", &error.to_string());
                Ok(false)
            }
        }
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
        let (loaded, arena) = (&self.plans[id.0], self.store.arena());
        self.lanes.copy.begin_capture().map_err(failed)?;
        let work = Work { loaded, arena, recorded: true, timing: false };
        // SAFETY: nothing is done while it is recorded; replays are queued under the same promise.
        let queued = unsafe { self.lanes.queue(&work) };
        let graph = self.lanes.copy.end_capture();
        if graph.is_err() {
            // A call that failed before it did anything leaves the stream recording; otherwise this one is refused.
            drop(self.lanes.copy.end_capture());
        }
        queued.and(graph.map_err(failed))
    }

    /// Waits for what was queued before an error.
    fn drain(&mut self) {
        self.flight = None;
        // A call may fail once.
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
            Ok(loaded) => self.plans.push(loaded),
            Err(error) if self.store.lost => return Err(self.fail(error)),
            Err(error) => return Err(error),
        }
        Ok(self.books.add(plan))
    }

    fn plan(&self, id: PlanId) -> Result<&Plan, ExecError> {
        self.books.plan(id)
    }

    fn write(&mut self, id: PlanId, input: usize, bytes: &[u8]) -> Result<(), ExecError> {
        self.ready()?;
        self.books.input(id, input, bytes.len())?;
        self.make_current(id);
        let start = Instant::now();
        let loaded = &mut self.plans[id.0];
        loaded.ports.write(input, bytes);
        loaded.fresh[input] = true;
        self.books.mark_given(id, input);
        self.books.add_spans(id, &[(Timed::Write(input as u32), start, Instant::now())]);
        Ok(())
    }

    fn run(&mut self, id: PlanId) -> Result<Run<'_>, ExecError> {
        self.ready()?;
        self.books.check_inputs(id)?;
        self.make_current(id);
        self.launch(id)?;
        Ok(Run::new(self, id))
    }

    fn fence(&mut self) -> Result<(), ExecError> {
        let Some(flight) = self.flight.take() else { return Ok(()) };
        let loaded = &mut self.plans[flight.plan.0];
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
        // The device may still write to where they lie, or has never.
        if let Some(first) = &self.failed {
            return Err(ExecError::Failed { first: first.clone() });
        }
        let port = self.books.output(id, output)?;
        let unknown = || ExecError::Unknown { what: "memory of output", name: port.name.clone() };
        self.plans[id.0].ports.output(output).ok_or_else(unknown)
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

/// Takes down the times of a run whose fence is over, if it was timed.
fn take_times(
    books: &mut Books,
    loaded: &Loaded,
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
            // Freeing would wait for the device, which does not answer, or pull memory from under its work.
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
