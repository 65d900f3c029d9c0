//! The CPU executor: the plan's steps, one after another, each on all threads.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytemuck::Pod;
use smallvec::SmallVec;

use super::books::{self, Books, Plans, STATES, States, ask_for_arena, settle_arena};
use super::error::size_mismatch;
use super::operators::{Operators, bad_step, check_scratch};
use super::timeline::{Ticks, WorkerClocks};
use super::{AlignedBuffer, Budget, ExecError, Executor, PlanId, Run, SpanKind, Timeline, WeightSource};
use crate::cpu::{CpuStep, Isa, Pool, ProductKernel, RawTensor, StepError};
use crate::graph::operator::{AnyOperator, OperatorRow};
use crate::plan::{DeviceDesc, Operand, Place, Plan, Step};

/// Runs plans on the CPU, in one arena.
pub struct CpuExecutor {
    pool: Pool,
    isa: Isa,
    operators: Operators,
    weights: Arc<dyn WeightSource>,
    states: States<AlignedBuffer>,
    budget: Budget,
    arena: AlignedBuffer,
    books: Books,
    plans: Plans<CpuPlan>,
    deterministic: bool,
}

/// A plan that is loaded for the CPU: its operators, steps with addresses, and leaves.
struct CpuPlan {
    plan: Arc<Plan>,
    ops: Vec<Arc<dyn AnyOperator>>,
    steps: Vec<Bound>,
    /// The memory of its weights and constants.
    leaves: BTreeMap<Place, Leaf>,
}

/// The memory of a weight or constant.
enum Leaf {
    /// A constant, or a weight that is not aligned in its source.
    Copied(AlignedBuffer),
    /// In the source, at the address that was checked on loading. The source is not queried again, as a later answer
    /// might differ.
    Source(*mut u8),
}

// SAFETY: an address in the weight source, which any thread may read and which the executor keeps alive.
unsafe impl Send for Leaf {}
// SAFETY: no step writes a weight; the check of the plan ensures that.
unsafe impl Sync for Leaf {}

impl Leaf {
    fn address(&self) -> *mut u8 {
        match self {
            Leaf::Copied(buffer) => buffer.as_ptr(),
            Leaf::Source(address) => *address,
        }
    }
}

/// The copies' name as a holder in the budget.
const COPIES: &str = "copies of weights and constants";

/// The addresses of a step.
struct Bound {
    inputs: SmallVec<[RawTensor; 8]>,
    output: RawTensor,
    further: SmallVec<[RawTensor; 2]>,
    product: Option<ProductKernel>,
    scratch: (*mut u8, usize),
}

// SAFETY: the addresses point into memory that the executor owns or keeps alive (arena, states, owned
// copies, the weight source), and nothing in it is tied to a thread.
unsafe impl Send for Bound {}
// SAFETY: a step cannot be written through a shared reference; only `run`, which holds the executor mutably, writes.
unsafe impl Sync for Bound {}

impl CpuExecutor {
    /// An executor with `threads` threads that takes its weights from `weights`.
    pub fn new(
        threads: NonZeroUsize,
        weights: Arc<dyn WeightSource>,
        budget: Budget,
    ) -> Result<CpuExecutor, ExecError> {
        Ok(CpuExecutor {
            pool: Pool::new(threads)?,
            isa: Isa::detect(),
            operators: Operators::built_in(),
            weights,
            states: States::default(),
            budget,
            arena: buffer("arena", 0)?,
            books: Books::default(),
            plans: Plans::default(),
            deterministic: false,
        })
    }

    /// Registers a custom operator, so that plans may name it.
    pub fn register(&mut self, row: OperatorRow) {
        self.operators.register(row);
    }

    /// Selects an instruction set other than the best one. False if this machine does not support it.
    pub fn set_isa(&mut self, isa: Isa) -> bool {
        let available = isa.is_available();
        if available {
            self.isa = isa;
        }
        available
    }

    /// Makes plans for this executor deterministic or not from now on; see [`DeviceDesc::deterministic`]. Loaded plans
    /// do not change.
    pub fn set_deterministic(&mut self, deterministic: bool) {
        self.deterministic = deterministic;
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The thread pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The bytes of a state.
    pub fn state(&self, name: &str) -> Option<&[u8]> {
        self.states.get(name).ok().map(AlignedBuffer::bytes)
    }

    /// Overwrites a state.
    pub fn set_state<T: Pod>(&mut self, name: &str, data: &[T]) -> Result<(), ExecError> {
        let buffer = self.states.get_mut(name)?;
        let data: &[u8] = bytemuck::cast_slice(data);
        if data.len() != buffer.len() {
            return Err(size_mismatch("state", name, data.len(), buffer.len()));
        }
        buffer.bytes_mut().copy_from_slice(data);
        Ok(())
    }

    fn operator(&self, step: &Step) -> Result<Arc<dyn AnyOperator>, ExecError> {
        let (operator, inputs) = self.operators.of_step(step)?;
        let output = operator.infer(&inputs).map_err(|error| bad_step(step, error))?;
        let chosen = operator.cpu_kernel(&inputs, self.device().cpu_target());
        let product = chosen.map(|kernel| kernel.product);
        if step.product != product {
            let name = |kernel: Option<ProductKernel>| kernel.map_or("none", ProductKernel::name);
            let (found, wanted) = (name(step.product), name(product));
            let reason =
                format!("the plan names the kernel {found} for its product, the operator chooses {wanted}");
            return Err(bad_step(step, reason));
        }
        let scratch = || operator.cpu_scratch(&inputs, &output, self.pool.threads());
        check_scratch(step, chosen.map_or_else(scratch, |kernel| kernel.scratch))?;
        Ok(operator)
    }

    /// Finds a plan's weights and constants, and copies those that are not aligned in their source.
    fn leaves(&mut self, plan: &Plan) -> Result<BTreeMap<Place, Leaf>, ExecError> {
        let mut copied = self.copied();
        let budget = &mut self.budget;
        let mut copy = |name: &str, bytes: &[u8]| -> Result<Leaf, ExecError> {
            copied = copied.saturating_add(bytes.len() as u64);
            budget.hold(COPIES, copied)?;
            Ok(Leaf::Copied(copy_of(name, bytes)?))
        };
        let mut leaves = BTreeMap::new();
        for (i, (slot, bytes)) in plan.constants.iter().enumerate() {
            leaves.insert(Place::Constant(i as u32), copy(&slot.name, bytes)?);
        }
        for (i, slot) in plan.weights.iter().enumerate() {
            let bytes = books::weight(&*self.weights, slot)?;
            let dtype = slot.desc.dtype;
            // Blocks are read bytewise; plain elements through their type.
            let aligned = (bytes.as_ptr() as usize).is_multiple_of(dtype.block_bytes());
            let leaf = match dtype.is_plain() && !aligned {
                true => copy(&slot.name, bytes)?,
                false => Leaf::Source(bytes.as_ptr().cast_mut()),
            };
            leaves.insert(Place::Weight(i as u32), leaf);
        }
        Ok(leaves)
    }

    /// Bytes of the copies of all plans.
    fn copied(&self) -> u64 {
        let bytes = |leaf: &Leaf| match leaf {
            Leaf::Copied(buffer) => buffer.len() as u64,
            Leaf::Source(_) => 0,
        };
        self.plans.values().flat_map(|plan| plan.leaves.values()).map(bytes).sum()
    }

    /// Creates the plan's missing states.
    fn make_states(&mut self, plan: &Plan) -> Result<(), ExecError> {
        let missing = self.states.missing(plan)?;
        self.budget.hold(STATES, self.states.bytes_with(&missing))?;
        for slot in missing {
            self.states.insert(slot, buffer(&slot.name, slot.desc.extent())?);
        }
        Ok(())
    }

    /// Grows the arena and rebinds every plan to it.
    fn grow_arena(&mut self, bytes: usize) -> Result<(), ExecError> {
        if bytes <= self.arena.len() {
            return Ok(());
        }
        // Steps point into the old arena, so it lives until all of them are rebound.
        ask_for_arena(&mut self.budget, self.arena.len(), bytes)?;
        let grown = self.move_into(bytes);
        settle_arena(&mut self.budget, self.arena.len())?;
        grown
    }

    /// Moves all plans into an arena of `bytes` bytes. An error leaves everything unchanged.
    fn move_into(&mut self, bytes: usize) -> Result<(), ExecError> {
        let arena = buffer("arena", bytes)?;
        let steps = self.plans.values().map(|plan| self.bind(plan, &arena)).collect::<Result<Vec<_>, _>>()?;
        for (plan, steps) in self.plans.values_mut().zip(steps) {
            plan.steps = steps;
        }
        self.arena = arena;
        self.books.arena_moved();
        Ok(())
    }

    /// The addresses of every step of a plan, which the check of the plan found to be in bounds.
    fn bind(&self, loaded: &CpuPlan, arena: &AlignedBuffer) -> Result<Vec<Bound>, ExecError> {
        let tensor = |operand: &Operand| -> Result<RawTensor, ExecError> {
            let base = self.base(loaded, operand.place, arena)?;
            Ok(RawTensor { desc: operand.desc, data: base.wrapping_add(operand.offset) })
        };
        let step = |step: &Step| {
            let (offset, bytes) = step.scratch.unwrap_or((0, 0));
            let (output, further) =
                step.outputs.split_first().ok_or_else(|| bad_step(step, "it has no output"))?;
            Ok(Bound {
                inputs: step.inputs.iter().map(tensor).collect::<Result<_, _>>()?,
                output: tensor(output)?,
                further: further.iter().map(tensor).collect::<Result<_, _>>()?,
                product: step.product,
                scratch: (arena.as_ptr().wrapping_add(offset), bytes),
            })
        };
        loaded.plan.steps.iter().map(step).collect()
    }

    fn base(&self, loaded: &CpuPlan, place: Place, arena: &AlignedBuffer) -> Result<*mut u8, ExecError> {
        let unknown = |what, i: u32| ExecError::Unknown { what, name: i.to_string() };
        match place {
            Place::Arena => Ok(arena.as_ptr()),
            Place::Constant(i) | Place::Weight(i) => {
                let leaf = loaded.leaves.get(&place).ok_or_else(|| unknown("weight or constant", i))?;
                Ok(leaf.address())
            }
            Place::State(i) => {
                let slot = loaded.plan.states.get(i as usize).ok_or_else(|| unknown("state", i))?;
                Ok(self.states.get(&slot.name)?.as_ptr())
            }
        }
    }

    /// Runs every step on every thread. The first step that fails ends the run.
    fn run_steps(&mut self, id: PlanId) -> Result<(), ExecError> {
        let (isa, timing, begin) = (self.isa, self.books.is_timing(), Instant::now());
        let loaded = self.plans.get(id)?;
        let clocks = self.books.timeline();
        let clocks = clocks.map(|_| WorkerClocks::new(self.pool.threads(), loaded.steps.len()));
        let times = Mutex::new(self.books.times_mut(id));
        // The number of the failed step. All workers stop after that same step, as otherwise one would wait at a
        // barrier that the others never reach.
        let failed_at = AtomicUsize::new(usize::MAX);
        let failure: Mutex<Option<(usize, StepError)>> = Mutex::new(None);
        // The number of the failed deal within a step, for the same reason.
        let failed_deal = AtomicUsize::new(usize::MAX);
        let (ops, steps) = (&loaded.ops, &loaded.steps);
        self.pool.run(|worker| {
            let timing = timing && (worker.index() == 0 || clocks.is_some());
            // One clock reading ends a step and starts the next, so the times have no gaps.
            let mut start = timing.then(Instant::now);
            for (number, (op, bound)) in ops.iter().zip(steps).enumerate() {
                // SAFETY: `load` has checked that the plan's tensors are inside their memory, that a step's outputs do
                // not overlap each other, nor its inputs except where the operator allows it, and that its scratch is
                // exclusive. `run` holds the executor mutably, so nothing else accesses this memory, and every worker
                // gets the same step.
                let step = unsafe {
                    let Bound { inputs, output, further, product, scratch } = bound;
                    CpuStep::new(worker, isa, inputs, (*output, further), *product, *scratch, &failed_deal)
                };
                if let Err(error) = step.outcome(op.cpu(&step)) {
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    // `Elsewhere` only says that another worker failed; any other error replaces it.
                    if failure.as_ref().is_none_or(|(_, known)| *known == StepError::Elsewhere) {
                        *failure = Some((number, error));
                    }
                    failed_at.store(number, Ordering::Release);
                }
                let done = clocks.as_ref().map(|_| Instant::now());
                let takes_part = worker.end_step();
                if let Some(start) = &mut start {
                    let end = Instant::now();
                    if let (Some(clocks), Some(done)) = (&clocks, done) {
                        clocks.note(worker.index(), Ticks { start: *start, done, end });
                    }
                    if worker.index() == 0 {
                        times.lock().unwrap_or_else(PoisonError::into_inner)[number] += end - *start;
                    }
                    *start = end;
                }
                if failed_at.load(Ordering::Acquire) <= number || !takes_part {
                    return;
                }
            }
        });
        if let Some(clocks) = clocks {
            self.books.add_spans(id, &clocks.spans(begin, Instant::now()));
        }
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => Ok(()),
            Some((number, error)) => {
                let step = &loaded.plan.steps[number];
                Err(ExecError::Step { step: step.name.clone(), op: step.op.clone(), error })
            }
        }
    }

    /// Binds a plan to its memory.
    fn place(&mut self, plan: Arc<Plan>, ops: Vec<Arc<dyn AnyOperator>>) -> Result<CpuPlan, ExecError> {
        let leaves = self.leaves(&plan)?;
        self.make_states(&plan)?;
        self.grow_arena(plan.arena)?;
        let mut loaded = CpuPlan { plan, ops, steps: Vec::new(), leaves };
        loaded.steps = self.bind(&loaded, &self.arena)?;
        Ok(loaded)
    }
}

impl Executor for CpuExecutor {
    fn device(&self) -> DeviceDesc {
        DeviceDesc::cpu(self.pool.threads()).with_deterministic(self.deterministic)
    }

    fn budget(&self) -> &Budget {
        &self.budget
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

    fn load(&mut self, plan: Plan) -> Result<PlanId, ExecError> {
        books::check_plan(&plan, self.device())?;
        let ops = plan.steps.iter().map(|step| self.operator(step)).collect::<Result<Vec<_>, _>>()?;
        let plan = Arc::new(plan);
        let placed = self.place(Arc::clone(&plan), ops);
        if placed.is_err() {
            // The copies for the refused plan were dropped.
            let copied = self.copied();
            self.budget.hold(COPIES, copied)?;
        }
        let (loaded, id) = (placed?, self.books.add(plan));
        self.plans.insert(id, loaded);
        Ok(id)
    }

    fn unload(&mut self, id: PlanId) -> Result<(), ExecError> {
        self.books.remove(id)?;
        drop(self.plans.remove(id)?);
        let copied = self.copied();
        Ok(self.budget.hold(COPIES, copied)?)
    }

    fn plan(&self, id: PlanId) -> Result<&Plan, ExecError> {
        self.books.plan(id)
    }

    fn write(&mut self, id: PlanId, input: usize, bytes: &[u8]) -> Result<(), ExecError> {
        let range = self.books.input(id, input, bytes.len())?.operand.range();
        self.books.make_current(id);
        let start = self.books.timeline().map(|_| Instant::now());
        self.arena.bytes_mut()[range].copy_from_slice(bytes);
        self.books.mark_given(id, input);
        if let Some(start) = start {
            self.books.add_spans(id, &[(SpanKind::Write(input as u32), start, Instant::now())]);
        }
        Ok(())
    }

    fn run(&mut self, id: PlanId) -> Result<Run<'_>, ExecError> {
        self.books.check_inputs(id)?;
        self.books.make_current(id);
        self.run_steps(id)?;
        Ok(Run::new(self, id))
    }

    /// Does nothing: the run ended before `run` returned, as the caller's thread is one of the workers.
    fn fence(&mut self) -> Result<(), ExecError> {
        Ok(())
    }

    fn output(&self, id: PlanId, output: usize) -> Result<&[u8], ExecError> {
        let operand = self.books.output(id, output)?.operand;
        let base = self.base(self.plans.get(id)?, operand.place, &self.arena)?;
        // SAFETY: the check of the plan found the operand inside its memory, which lives as long as the executor, and
        // no run is in flight while the executor is borrowed.
        let bytes = unsafe { std::slice::from_raw_parts(base.add(operand.offset), operand.desc.extent()) };
        Ok(bytes)
    }
}

impl std::fmt::Debug for CpuExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuExecutor").field("isa", &self.isa).field("plans", &self.plans.len()).finish()
    }
}

fn buffer(what: &str, bytes: usize) -> Result<AlignedBuffer, ExecError> {
    AlignedBuffer::zeroed(bytes).ok_or_else(|| ExecError::OutOfMemory { what: what.into(), bytes })
}

fn copy_of(what: &str, bytes: &[u8]) -> Result<AlignedBuffer, ExecError> {
    let mut copy = buffer(what, bytes.len())?;
    copy.bytes_mut().copy_from_slice(bytes);
    Ok(copy)
}
