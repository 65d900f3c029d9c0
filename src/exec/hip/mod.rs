//! The HIP executor: a plan's steps queued on one compute stream, uploads and downloads on a copy stream, one fence.
//!
//! Everything that can be refused is refused when a plan is loaded: there its commands are checked, its kernels
//! compiled, its memory asked of the budget and its weights uploaded. A run then only queues. From its
//! second run on a plan is recorded into a HIP graph and replayed with one call, where the platform agrees.
//!
//! Promise P3, nothing is freed under queued work: a run borrows the executor, whatever else comes first
//! waits for the fence, and work that cannot be waited for keeps its memory for ever.

mod bind;
mod chain;
mod fence;
mod loaded;
mod ports;
mod queue;
mod states;
mod store;
mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use chain::{ChainInputs, ChainOutputs};
use fence::{Ended, FenceError, Flight, wait_for};
pub use loaded::Feed;
use loaded::{Loaded, MARK_EVERY, Replay, ReplayState};
use queue::{Lanes, Work};
use store::{Bring, Store};

use super::operators::Operators;
use super::{Budget, ExecError, Executor, PlanId, Run, WeightSource};
use crate::graph::operator::OperatorRow;
use crate::hip::{Command, Context, Function, HipError, Jit, JitOptions, Priority, Variant};
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
    /// Whose work goes first.
    pub priority: Priority,
    /// How kernels are compiled.
    pub jit: JitOptions,
}

impl Default for HipOptions {
    /// Two minutes, low priority; `RFGRAPH_HIP_GRAPH=0` turns replays off, `RFGRAPH_HIP_BLAS=0` the BLAS library,
    /// `RFGRAPH_HIP_TRACE=1` turns tracing on.
    fn default() -> HipOptions {
        let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
        HipOptions {
            timeout: Duration::from_secs(120),
            graphs: !is("RFGRAPH_HIP_GRAPH", "0"),
            trace: is("RFGRAPH_HIP_TRACE", "1"),
            blas: !is("RFGRAPH_HIP_BLAS", "0"),
            priority: Priority::Low,
            jit: JitOptions::from_env(),
        }
    }
}

/// What a long load is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    plans: Vec<Loaded>,
    /// The plan whose inputs lie in the arena.
    current: Option<usize>,
    flight: Option<Flight>,
    timing: bool,
    /// The first error of a run, after which nothing runs any more.
    failed: Option<String>,
    /// Whether the user was told that replays are refused.
    told_of_refusal: bool,
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
        Ok(HipExecutor {
            device: DeviceDesc::hip(target),
            operators: Operators::built_in(),
            jit: Jit::new(&context, options.jit.clone()),
            store: Store::new(&context, weights, budget),
            lanes: Arc::new(lanes),
            plans: Vec::new(),
            current: None,
            flight: None,
            timing: false,
            failed: None,
            told_of_refusal: false,
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
    fn place(&mut self, plan: Plan, functions: Vec<Vec<Function>>) -> Result<Loaded, ExecError> {
        let on_loading = self.on_loading.clone();
        let progress = move |done, total| {
            if let Some(on_loading) = &on_loading {
                on_loading(Loading::Weights(done, total));
            }
        };
        let (stream, timeout) = (&self.lanes.copy, self.options.timeout);
        let bring = Bring { stream, timeout, progress: Some(&progress) };
        let leaves = self.store.leaves(&plan, &bring)?;
        let mark_every = if self.options.trace { 1 } else { MARK_EVERY };
        let arena = plan.arena;
        let mut loaded = Loaded::new(plan, functions, leaves, &self.context, mark_every)?;
        let held = self.port_bytes();
        let result = self.fit(&mut loaded, arena, held);
        if let Err(error) = result {
            self.store.drop_constants(std::mem::take(&mut loaded.leaves.constants))?;
            drop(loaded);
            self.store.budget.hold(store::PORTS, held)?;
            self.store.forget_unused()?;
            return Err(error);
        }
        Ok(loaded)
    }

    fn fit(&mut self, loaded: &mut Loaded, arena: usize, held: u64) -> Result<(), ExecError> {
        loaded.prepare(1, false, &self.context, &mut self.store, held)?;
        self.grow_arena(arena)?;
        let start = self.store.arena();
        loaded.rebind(loaded.bound(start)?, start)
    }

    /// Bytes of pinned memory of all plans.
    fn port_bytes(&self) -> u64 {
        self.plans.iter().map(|plan| plan.ports.bytes()).sum()
    }

    /// Grows the arena, and tells every plan where it is now. Nothing is in flight.
    fn grow_arena(&mut self, bytes: usize) -> Result<(), ExecError> {
        let Some(arena) = self.store.larger_arena(bytes)? else { return Ok(()) };
        let start = arena.address();
        let bound = self.plans.iter().map(|plan| plan.bound(start)).collect::<Result<Vec<_>, _>>()?;
        for (plan, steps) in self.plans.iter_mut().zip(bound) {
            plan.rebind(steps, start)?;
        }
        self.current = None;
        self.store.take_arena(arena)
    }

    fn loaded(&self, id: PlanId) -> Result<&Loaded, ExecError> {
        self.plans.get(id.0).ok_or_else(|| ExecError::Unknown { what: "plan", name: id.0.to_string() })
    }

    /// The arena belongs to this plan from here on: what lay there of its inputs is gone.
    fn make_current(&mut self, id: PlanId) {
        if self.current != Some(id.0) {
            self.current = Some(id.0);
            self.plans[id.0].forget_inputs();
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

    /// Queues so many runs of a plan. In flight from here on, even after an error.
    fn launch(&mut self, id: PlanId, runs: usize, feed: &[Feed]) -> Result<(), ExecError> {
        let held = self.port_bytes() - self.loaded(id)?.ports.bytes();
        let plan = &mut self.plans[id.0];
        plan.prepare(runs, self.timing, &self.context, &mut self.store, held)?;
        let timing = self.timing;
        self.flight = Some(Flight { plan: id.0, runs, replayed: false, timing, start: Instant::now() });
        match self.queue(id.0, runs, feed) {
            Ok(replayed) => {
                self.flight = Some(Flight { plan: id.0, runs, replayed, timing, start: Instant::now() });
                self.plans[id.0].fresh.fill(false);
                Ok(())
            }
            Err(error) => {
                self.drain();
                Err(self.fail(error))
            }
        }
    }

    /// Replays the runs if they were recorded, records them if they were run before, and queues them one by one
    /// otherwise. Gives whether they were replayed.
    fn queue(&mut self, plan: usize, runs: usize, feed: &[Feed]) -> Result<bool, ExecError> {
        let done = |lanes: &Lanes, stream: &crate::hip::Stream| {
            stream.record(&lanes.done).map_err(|error| ExecError::gpu("the fence's event", error))
        };
        if self.options.graphs && !self.timing && !self.options.trace && self.replay(plan, runs, feed)? {
            done(&self.lanes, &self.lanes.compute)?;
            return Ok(true);
        }
        let (loaded, arena) = (&self.plans[plan], self.store.arena());
        let work = Work { loaded, arena, runs, feed, recorded: false, timing: self.timing };
        // SAFETY: the executor owns the plan's memory, is borrowed until the fence, and waits before it frees.
        unsafe { self.lanes.queue(&work)? };
        done(&self.lanes, &self.lanes.copy)?;
        Ok(false)
    }

    /// Replays the runs, if they are recorded or can be now. Gives whether they were.
    fn replay(&mut self, plan: usize, runs: usize, feed: &[Feed]) -> Result<bool, ExecError> {
        let same = |replay: &Replay| replay.runs == runs && replay.feed == feed;
        let Some(at) = self.plans[plan].replays.iter().position(same) else {
            let replay = Replay { runs, feed: feed.to_vec(), state: ReplayState::Ran };
            self.plans[plan].replays.push(replay);
            return Ok(false);
        };
        if matches!(self.plans[plan].replays[at].state, ReplayState::Ran) {
            let state = match self.record(plan, runs, feed) {
                Ok(graph) => ReplayState::Recorded(graph),
                Err(error) => self.refuse_replay("recorded", &error.to_string()),
            };
            self.plans[plan].replays[at].state = state;
        }
        let ReplayState::Recorded(graph) = &self.plans[plan].replays[at].state else { return Ok(false) };
        // SAFETY: what was recorded names memory that the executor still owns: moving the arena forgets
        // recordings. It is borrowed until the fence.
        match unsafe { self.lanes.compute.launch_graph(graph) } {
            Ok(()) => Ok(true),
            Err(error) => {
                let refused = self.refuse_replay("replayed", &error.to_string());
                self.plans[plan].replays[at].state = refused;
                Ok(false)
            }
        }
    }

    fn refuse_replay(&mut self, what: &str, error: &str) -> ReplayState {
        if !self.told_of_refusal {
            tracing::warn!("a plan could not be {what} as a HIP graph ({error}); it runs step by step");
        }
        self.told_of_refusal = true;
        ReplayState::Refused
    }

    /// Records the runs. The streams can be used afterwards, whatever the result.
    fn record(&self, plan: usize, runs: usize, feed: &[Feed]) -> Result<crate::hip::GraphExec, ExecError> {
        let failed = |error: HipError| ExecError::gpu("the recording of a plan", error);
        let (loaded, arena) = (&self.plans[plan], self.store.arena());
        self.lanes.copy.begin_capture().map_err(failed)?;
        let work = Work { loaded, arena, runs, feed, recorded: true, timing: false };
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
        if plan.device != self.device {
            let (made_for, own) = (Box::new(plan.device), Box::new(self.device.clone()));
            return Err(ExecError::Device { made_for, own });
        }
        plan.check()?;
        plan.steps.iter().try_for_each(|step| bind::check(&self.operators, &self.device, step))?;
        let functions = self.kernels(&plan)?;
        match self.place(plan, functions) {
            Ok(loaded) => self.plans.push(loaded),
            Err(error) if self.store.lost => return Err(self.fail(error)),
            Err(error) => return Err(error),
        }
        Ok(PlanId(self.plans.len() - 1))
    }

    fn plan(&self, id: PlanId) -> Result<&Plan, ExecError> {
        Ok(&self.loaded(id)?.plan)
    }

    fn write(&mut self, id: PlanId, input: usize, bytes: &[u8]) -> Result<(), ExecError> {
        self.ready()?;
        let port = self.loaded(id)?.plan.inputs.get(input);
        let port = port.ok_or_else(|| ExecError::Unknown { what: "input", name: input.to_string() })?;
        let wanted = port.operand.desc.extent();
        if bytes.len() != wanted {
            return Err(super::error::size_mismatch("input", &port.name, bytes.len(), wanted));
        }
        self.make_current(id);
        let loaded = &mut self.plans[id.0];
        loaded.ports.write(0, input, bytes);
        (loaded.given[input], loaded.fresh[input]) = (true, true);
        Ok(())
    }

    fn run(&mut self, id: PlanId) -> Result<Run<'_>, ExecError> {
        self.ready()?;
        self.loaded(id)?;
        self.make_current(id);
        self.loaded(id)?.missing_input()?;
        self.launch(id, 1, &[])?;
        Ok(Run::new(self, id))
    }

    fn fence(&mut self) -> Result<(), ExecError> {
        let Some(flight) = self.flight.take() else { return Ok(()) };
        let Some(loaded) = self.plans.get_mut(flight.plan) else { return Ok(()) };
        let ended = fence::wait(&self.context, &self.lanes, flight, loaded, self.options.timeout);
        ended.map_err(|FenceError { error, lost }| {
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
        let unknown = || ExecError::Unknown { what: "output", name: output.to_string() };
        self.loaded(id)?.ports.output(0, output).ok_or_else(unknown)
    }

    fn start_timing(&mut self) {
        self.timing = true;
        self.plans.iter_mut().flat_map(|plan| &mut plan.times).for_each(|time| *time = Duration::ZERO);
    }

    fn times(&self, id: PlanId) -> &[Duration] {
        self.plans.get(id.0).map_or(&[], |plan| &plan.times)
    }
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
