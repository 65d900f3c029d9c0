//! The CPU executor: the plan's steps, one after another, each on all threads.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytemuck::Pod;
use smallvec::SmallVec;

use super::error::size_mismatch;
use super::operators::{Operators, check_scratch};
use super::{AlignedBuffer, Budget, ExecError, Executor, PlanId, Run, WeightSource};
use crate::cpu::{CpuStep, Isa, Pool, RawTensor, StepError};
use crate::graph::operator::{AnyOperator, OperatorRow};
use crate::plan::{DeviceDesc, Operand, Place, Plan, Step};
use crate::tensor::Desc;

/// Runs plans on the CPU, in one arena.
pub struct CpuExecutor {
    pool: Pool,
    isa: Isa,
    operators: Operators,
    weights: Arc<dyn WeightSource>,
    states: BTreeMap<String, (Desc, AlignedBuffer)>,
    budget: Budget,
    arena: AlignedBuffer,
    plans: Vec<Loaded>,
    /// The plan whose inputs lie in the arena.
    current: Option<usize>,
    timing: bool,
}

/// A plan with its addresses.
struct Loaded {
    plan: Plan,
    ops: Vec<Arc<dyn AnyOperator>>,
    steps: Vec<Bound>,
    /// Where its weights and constants lie.
    leaves: BTreeMap<Place, Leaf>,
    /// Which inputs were given since the arena last belonged to another plan.
    given: Vec<bool>,
    /// Time spent in each step, while timing is on.
    times: Vec<Duration>,
}

/// Where a weight or a constant lies.
enum Leaf {
    /// A constant, or a weight that is not aligned in its source.
    Copied(AlignedBuffer),
    /// In the source: the bytes that were checked when the plan was loaded. A source may answer
    /// otherwise when it is asked again, so it is not.
    Source(*mut u8),
}

// SAFETY: an address in the weight source, which any thread may read and which the executor keeps alive.
unsafe impl Send for Leaf {}
// SAFETY: no step writes a weight, which the check of the plan sees to.
unsafe impl Sync for Leaf {}

impl Leaf {
    fn address(&self) -> *mut u8 {
        match self {
            Leaf::Copied(buffer) => buffer.as_ptr(),
            Leaf::Source(address) => *address,
        }
    }
}

/// Who holds the copies in the budget.
const COPIES: &str = "copies of weights and constants";
/// Who holds the arena.
const ARENA: &str = "arena";
/// Who holds a larger arena while the one before is still there.
const LARGER_ARENA: &str = "a larger arena beside the one there is";

/// The addresses of a step.
struct Bound {
    inputs: SmallVec<[RawTensor; 8]>,
    output: RawTensor,
    scratch: (*mut u8, usize),
}

// SAFETY: the addresses point into memory that the executor owns or keeps alive (arena, states, owned
// copies, the weight source), none of which is tied to a thread.
unsafe impl Send for Bound {}
// SAFETY: a shared reference to a step lets nobody write through it; only `run`, which holds the
// executor mutably, does.
unsafe impl Sync for Bound {}

impl CpuExecutor {
    /// An executor with `threads` threads that binds weights from this source.
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
            states: BTreeMap::new(),
            budget,
            arena: buffer("arena", 0)?,
            plans: Vec::new(),
            current: None,
            timing: false,
        })
    }

    /// Makes a user's own operator known, so that plans may name it.
    pub fn register(&mut self, row: OperatorRow) {
        self.operators.register(row);
    }

    /// Uses another instruction set than the best one. Gives false if this machine does not have it.
    pub fn set_isa(&mut self, isa: Isa) -> bool {
        let available = isa.is_available();
        if available {
            self.isa = isa;
        }
        available
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The bytes of a state.
    pub fn state(&self, name: &str) -> Option<&[u8]> {
        self.states.get(name).map(|(_, buffer)| buffer.bytes())
    }

    /// Overwrites a state.
    pub fn set_state<T: Pod>(&mut self, name: &str, data: &[T]) -> Result<(), ExecError> {
        let unknown = || ExecError::Unknown { what: "state", name: name.into() };
        let (_, buffer) = self.states.get_mut(name).ok_or_else(unknown)?;
        let data: &[u8] = bytemuck::cast_slice(data);
        if data.len() != buffer.len() {
            return Err(size_mismatch("state", name, data.len(), buffer.len()));
        }
        buffer.bytes_mut().copy_from_slice(data);
        Ok(())
    }

    fn operator(&self, step: &Step) -> Result<Arc<dyn AnyOperator>, ExecError> {
        let (operator, inputs) = self.operators.of_step(step)?;
        check_scratch(step, operator.cpu_scratch(&inputs, &step.output.desc, self.pool.threads()))?;
        Ok(operator)
    }

    /// Finds a plan's weights and constants, and copies those that are not aligned where they lie.
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
            let missing = || ExecError::MissingWeight { name: slot.name.clone(), desc: slot.desc };
            let (desc, bytes) = self.weights.weight(&slot.name).ok_or_else(missing)?;
            if desc != slot.desc || bytes.len() < desc.extent() {
                let found = format!("{desc} in {} bytes", bytes.len());
                let wanted = slot.desc.to_string();
                return Err(ExecError::Mismatch { what: "weight", name: slot.name.clone(), found, wanted });
            }
            // Blocks are read byte by byte; plain elements through their type.
            let aligned = (bytes.as_ptr() as usize).is_multiple_of(desc.dtype.block_bytes());
            let leaf = match desc.dtype.is_plain() && !aligned {
                true => copy(&slot.name, bytes)?,
                false => Leaf::Source(bytes.as_ptr().cast_mut()),
            };
            leaves.insert(Place::Weight(i as u32), leaf);
        }
        Ok(leaves)
    }

    /// Bytes of all copies of all plans.
    fn copied(&self) -> u64 {
        let bytes = |leaf: &Leaf| match leaf {
            Leaf::Copied(buffer) => buffer.len() as u64,
            Leaf::Source(_) => 0,
        };
        self.plans.iter().flat_map(|plan| plan.leaves.values()).map(bytes).sum()
    }

    /// Makes the states that the plan needs and that are not there.
    fn make_states(&mut self, plan: &Plan) -> Result<(), ExecError> {
        let known = self.states.values().map(|(_, buffer)| buffer.len()).sum::<usize>();
        let mut bytes = known;
        for slot in &plan.states {
            match self.states.get(&slot.name) {
                Some((desc, _)) if *desc != slot.desc => {
                    let (found, wanted) = (desc.to_string(), slot.desc.to_string());
                    return Err(ExecError::Mismatch {
                        what: "state",
                        name: slot.name.clone(),
                        found,
                        wanted,
                    });
                }
                Some(_) => {}
                None => bytes = bytes.saturating_add(slot.desc.extent()),
            }
        }
        self.budget.hold("KV cache", bytes as u64)?;
        for slot in &plan.states {
            if !self.states.contains_key(&slot.name) {
                let buffer = buffer(&slot.name, slot.desc.extent())?;
                self.states.insert(slot.name.clone(), (slot.desc, buffer));
            }
        }
        Ok(())
    }

    /// Grows the arena, and tells every plan where it is now.
    fn grow_arena(&mut self, bytes: usize) -> Result<(), ExecError> {
        if bytes <= self.arena.len() {
            return Ok(());
        }
        // Steps point into the arena before, so it lives until all of them have their new addresses.
        let growing = if self.arena.is_empty() { ARENA } else { LARGER_ARENA };
        self.budget.hold(growing, bytes as u64)?;
        let grown = self.move_into(bytes);
        self.budget.hold(LARGER_ARENA, 0)?;
        self.budget.hold(ARENA, self.arena.len() as u64)?;
        grown
    }

    /// Moves all plans into an arena of this size. After an error all is as it was before.
    fn move_into(&mut self, bytes: usize) -> Result<(), ExecError> {
        let arena = buffer(ARENA, bytes)?;
        let steps = self.plans.iter().map(|plan| self.bind(plan, &arena)).collect::<Result<Vec<_>, _>>()?;
        for (plan, steps) in self.plans.iter_mut().zip(steps) {
            plan.steps = steps;
        }
        self.arena = arena;
        self.current = None;
        Ok(())
    }

    /// The addresses of every step of a plan, which the check of the plan has found to be in bounds.
    fn bind(&self, loaded: &Loaded, arena: &AlignedBuffer) -> Result<Vec<Bound>, ExecError> {
        let tensor = |operand: &Operand| -> Result<RawTensor, ExecError> {
            let base = self.base(loaded, operand.place, arena)?;
            Ok(RawTensor { desc: operand.desc, data: base.wrapping_add(operand.offset) })
        };
        let step = |step: &Step| {
            let (offset, bytes) = step.scratch.unwrap_or((0, 0));
            Ok(Bound {
                inputs: step.inputs.iter().map(tensor).collect::<Result<_, _>>()?,
                output: tensor(&step.output)?,
                scratch: (arena.as_ptr().wrapping_add(offset), bytes),
            })
        };
        loaded.plan.steps.iter().map(step).collect()
    }

    fn base(&self, loaded: &Loaded, place: Place, arena: &AlignedBuffer) -> Result<*mut u8, ExecError> {
        let unknown = |what, i: u32| ExecError::Unknown { what, name: i.to_string() };
        match place {
            Place::Arena => Ok(arena.as_ptr()),
            Place::Constant(i) | Place::Weight(i) => {
                let leaf = loaded.leaves.get(&place).ok_or_else(|| unknown("weight or constant", i))?;
                Ok(leaf.address())
            }
            Place::State(i) => {
                let slot = loaded.plan.states.get(i as usize).ok_or_else(|| unknown("state", i))?;
                let state = self.states.get(&slot.name).ok_or_else(|| unknown("state", i))?;
                Ok(state.1.as_ptr())
            }
        }
    }

    /// Runs every step on every thread. The first step that fails ends the run.
    fn run_steps(&mut self, index: usize) -> Result<(), ExecError> {
        let (isa, timing) = (self.isa, self.timing);
        let loaded = &mut self.plans[index];
        let times = Mutex::new(&mut loaded.times);
        // The number of the step that failed: workers stop after that step and no other, or one would
        // wait at a barrier that the others never reach.
        let failed_at = AtomicUsize::new(usize::MAX);
        let failure: Mutex<Option<(usize, StepError)>> = Mutex::new(None);
        // The same within a step: the number of the deal that failed.
        let failed_deal = AtomicUsize::new(usize::MAX);
        let (ops, steps) = (&loaded.ops, &loaded.steps);
        self.pool.run(|worker| {
            for (number, (op, bound)) in ops.iter().zip(steps).enumerate() {
                let start = (timing && worker.index() == 0).then(Instant::now);
                // SAFETY: `load` has checked that the plan's tensors lie inside their memory, that a
                // step's output shares none with its inputs but where the operator allows it, and that
                // the scratch is its own; `run` holds the executor mutably, so nobody else touches any
                // of it, and every worker gets the same step.
                let step = unsafe {
                    CpuStep::new(worker, isa, &bound.inputs, bound.output, bound.scratch, &failed_deal)
                };
                if let Err(error) = step.outcome(op.cpu(&step)) {
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    // Any other error says more than that there is one elsewhere.
                    if failure.as_ref().is_none_or(|(_, known)| *known == StepError::Elsewhere) {
                        *failure = Some((number, error));
                    }
                    failed_at.store(number, Ordering::Release);
                }
                worker.barrier();
                if let Some(start) = start {
                    times.lock().unwrap_or_else(PoisonError::into_inner)[number] += start.elapsed();
                }
                if failed_at.load(Ordering::Acquire) <= number {
                    return;
                }
            }
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => Ok(()),
            Some((number, error)) => {
                let step = &loaded.plan.steps[number];
                Err(ExecError::Step { step: step.name.clone(), op: step.op.clone(), error })
            }
        }
    }

    /// Gives a plan its memory and its addresses.
    fn place(&mut self, plan: Plan, ops: Vec<Arc<dyn AnyOperator>>) -> Result<Loaded, ExecError> {
        let leaves = self.leaves(&plan)?;
        self.make_states(&plan)?;
        self.grow_arena(plan.arena)?;
        let given = vec![false; plan.inputs.len()];
        let times = vec![Duration::ZERO; plan.steps.len()];
        let mut loaded = Loaded { plan, ops, steps: Vec::new(), leaves, given, times };
        loaded.steps = self.bind(&loaded, &self.arena)?;
        Ok(loaded)
    }

    fn loaded(&self, id: PlanId) -> Result<&Loaded, ExecError> {
        self.plans.get(id.0).ok_or_else(|| ExecError::Unknown { what: "plan", name: id.0.to_string() })
    }
}

impl Executor for CpuExecutor {
    fn device(&self) -> DeviceDesc {
        DeviceDesc::cpu(self.pool.threads())
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn start_timing(&mut self) {
        self.timing = true;
        self.plans.iter_mut().flat_map(|plan| &mut plan.times).for_each(|time| *time = Duration::ZERO);
    }

    fn times(&self, id: PlanId) -> &[Duration] {
        self.plans.get(id.0).map_or(&[], |plan| &plan.times)
    }

    fn load(&mut self, plan: Plan) -> Result<PlanId, ExecError> {
        let own = self.device();
        if plan.device != own {
            return Err(ExecError::Device { made_for: Box::new(plan.device), own: Box::new(own) });
        }
        plan.check()?;
        let ops = plan.steps.iter().map(|step| self.operator(step)).collect::<Result<Vec<_>, _>>()?;
        let placed = self.place(plan, ops);
        if placed.is_err() {
            // What was copied for it is gone again.
            let copied = self.copied();
            self.budget.hold(COPIES, copied)?;
        }
        self.plans.push(placed?);
        Ok(PlanId(self.plans.len() - 1))
    }

    fn plan(&self, id: PlanId) -> Result<&Plan, ExecError> {
        Ok(&self.loaded(id)?.plan)
    }

    fn write(&mut self, id: PlanId, input: usize, bytes: &[u8]) -> Result<(), ExecError> {
        let port = self.loaded(id)?.plan.inputs.get(input);
        let port = port.ok_or_else(|| ExecError::Unknown { what: "input", name: input.to_string() })?;
        let range = port.operand.range();
        if bytes.len() != range.len() {
            return Err(size_mismatch("input", &port.name, bytes.len(), range.len()));
        }
        if self.current != Some(id.0) {
            self.current = Some(id.0);
            self.plans[id.0].given.fill(false);
        }
        self.arena.bytes_mut()[range].copy_from_slice(bytes);
        self.plans[id.0].given[input] = true;
        Ok(())
    }

    fn run(&mut self, id: PlanId) -> Result<Run<'_>, ExecError> {
        let loaded = self.loaded(id)?;
        let current = self.current == Some(id.0);
        let missing = loaded.plan.inputs.iter().zip(&loaded.given).find(|(_, given)| !(current && **given));
        if let Some((port, _)) = missing {
            return Err(ExecError::MissingInput { name: port.name.clone() });
        }
        self.current = Some(id.0);
        self.run_steps(id.0)?;
        Ok(Run::new(self, id))
    }

    /// Nothing to wait for: the caller's thread is one of those that ran the steps.
    fn fence(&mut self) -> Result<(), ExecError> {
        Ok(())
    }

    fn output(&self, id: PlanId, output: usize) -> Result<&[u8], ExecError> {
        let loaded = self.loaded(id)?;
        let unknown = || ExecError::Unknown { what: "output", name: output.to_string() };
        let operand = loaded.plan.outputs.get(output).ok_or_else(unknown)?.operand;
        let base = self.base(loaded, operand.place, &self.arena)?;
        // SAFETY: the check of the plan has found the operand inside its memory, which lives as long as
        // the executor, and no run is in flight while it is borrowed.
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
