//! A session: a model with the states of its sequences, ready to take rows.
//!
//! All work goes through [`Session::step`]. The other files are short callers of it (`prompts`, `embed`, `shift`,
//! `prefix`), or assign parts of the model to devices (`placement`) and rows to a batch (`batch`, `plans`). A session
//! knows executors and plans, but no samplers and no text.

mod batch;
mod embed;
mod loaded;
mod memory;
mod options;
mod outputs;
mod placement;
mod plans;
mod prefix;
mod prompts;
mod rows;
mod shift;
mod ubatch;

use std::time::{Duration, Instant};

use batch::{BatchRows, RowLimits};
use bytemuck::Pod;
pub(crate) use embed::Pooled;
pub use embed::{Pooling, l2_normalize};
use loaded::LoadedPlans;
pub use memory::{MemoryNeed, StateNeed};
pub use options::{SessionExtras, SessionOptions};
pub use outputs::{Outputs, RowOutput};
pub use placement::DeviceChoice;
use placement::{Backend, Demand, Part, Placed, place};
use plans::{BatchPlan, PartPlan, steps_of};
pub use prompts::Logits;
pub use rows::Rows;
pub use shift::ContextShift;

use super::{
    BLOCK_SIZE, BatchShape, CacheLayout, CacheTypes, GraphRequest, Model, ModelError, ModelShape, Output,
    Rewind, SequenceId, States,
};
use crate::exec::{CpuExecutor, ExecError, Executor, HipExecutor, PlanId, Timeline};
use crate::graph::StateKind;
use crate::plan::{Plan, StateSlot};

/// A model with the states of its sequences, ready to take rows.
pub struct Session {
    model: Model,
    shape: ModelShape,
    /// The devices, in the order in which a batch visits them.
    parts: Vec<Part>,
    states: States,
    cache_types: CacheTypes,
    ubatch: usize,
    limits: RowLimits,
    /// Plans by the sizes that they are made for.
    plans: LoadedPlans,
    batch: BatchRows,
    /// The sizes of the last batch; `None` if it failed.
    last: Option<BatchShape>,
}

impl Session {
    /// The number of plans that are kept beside those made with the session.
    pub const PLANS: usize = 64;

    /// Makes a session: allocates the states and the arena, and compiles the plans for whole chunks of a prompt and for
    /// one token of one or of all sequences. Batches of these sizes allocate nothing later. The first batch of another
    /// size compiles its plan, which may grow the arena within the budget, and unloads the least recently used plan if there
    /// are too many ([`Session::keep_plans`]).
    ///
    /// # Errors
    /// [`ModelError`] if the model or the options are invalid, or the memory exceeds the budget.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Session, ModelError> {
        Session::with(model, options, &SessionExtras::default())
    }

    /// As [`Session::new`], with settings for GPUs, custom operators and progress.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with(
        model: &Model,
        options: &SessionOptions,
        extras: &SessionExtras,
    ) -> Result<Session, ModelError> {
        options.cache_types.check()?;
        if options.ubatch == Some(0) {
            return Err(ModelError::EmptyUbatch);
        }
        let shape = model.architecture().shape();
        let n_ctx = shape.context(options.n_ctx)?;
        let layout = CacheLayout::pooled(n_ctx, options.n_sequences, options.n_tokens)?;
        let Placed { parts, ubatch } = place(&Demand { model, options, layout, want: extras.want }, extras)?;
        let max_rows = ubatch.max(layout.n_sequences);
        let whole_logits = matches!(parts.last(), Some(Part { backend: Backend::Cpu(_), .. }));
        let mut session = Session {
            states: States::new(layout, shape.n_ctx_train),
            cache_types: options.cache_types,
            ubatch,
            limits: RowLimits {
                n_vocab: shape.n_vocab,
                n_embd: shape.n_embd,
                n_pos: shape.n_pos,
                max_rows,
                whole_logits,
            },
            plans: LoadedPlans::new(),
            batch: BatchRows::new(max_rows, layout.n_sequences),
            last: None,
            model: model.clone(),
            parts,
            shape,
        };
        session.make_first_plans(extras.want)?;
        session.plans.all_stay();
        session.plans.keep(Session::PLANS);
        Ok(session)
    }

    /// Makes the widest plans first, so that the arena has its final size before anything runs.
    fn make_first_plans(&mut self, want: Output) -> Result<(), ModelError> {
        let want = if self.limits.whole_logits { Output::Logits } else { want };
        let n_sequences = self.states.layout().n_sequences;
        for shape in BatchShape::first(self.ubatch, n_sequences, want, self.limits.n_vocab) {
            self.make_plan(shape)?;
        }
        if self.state_slots()?.any(|state| state.kind == StateKind::Recurrent) {
            self.states.with_recurrent();
        }
        Ok(())
    }

    /// The states of all devices. Every plan lists all states of its part of the model.
    fn state_slots(&self) -> Result<impl Iterator<Item = &StateSlot>, ModelError> {
        let plan = self.plans.values().next().ok_or_else(nothing_computed)?;
        let plans = self.parts.iter().zip(&plan.parts);
        let plans: Result<Vec<&Plan>, ExecError> =
            plans.map(|(part, plan)| part.backend.executor().plan(plan.id)).collect();
        Ok(plans?.into_iter().flat_map(|plan| &plan.states))
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The executors, in the order in which a batch visits them: one, or the CPU's and then the GPU's.
    pub fn executors(&self) -> impl Iterator<Item = &dyn Executor> {
        self.parts.iter().map(|part| part.backend.executor())
    }

    /// The CPU's executor, if the CPU has a part of the model.
    pub fn cpu(&mut self) -> Option<&mut CpuExecutor> {
        self.parts.iter_mut().find_map(|part| match &mut part.backend {
            Backend::Cpu(executor) => Some(&mut **executor),
            Backend::Hip(_) => None,
        })
    }

    /// The GPU's executor, if a GPU has a part of the model.
    pub fn hip(&mut self) -> Option<&mut HipExecutor> {
        self.parts.iter_mut().find_map(|part| match &mut part.backend {
            Backend::Cpu(_) => None,
            Backend::Hip(executor) => Some(&mut **executor),
        })
    }

    /// Turns on the timing of the plans' steps on all devices, and discards the times so far.
    pub fn start_timing(&mut self) {
        self.parts.iter_mut().for_each(|part| part.backend.executor_mut().start_timing());
    }

    /// Begins a timeline on each device, of at most `limit` spans from `origin` on; see [`Executor::start_timeline`].
    pub fn start_timelines(&mut self, origin: Instant, limit: usize) {
        let start =
            |part: &mut Part| part.backend.executor_mut().start_timeline(Timeline::new(origin, limit));
        self.parts.iter_mut().for_each(start);
    }

    /// The plans of the last batch, one for each executor, each with the times of its steps.
    ///
    /// # Errors
    /// [`ModelError::NothingComputed`] if nothing was computed.
    pub fn last_plans(&self) -> Result<Vec<(&Plan, &[Duration])>, ModelError> {
        let plan = self.last_plan()?;
        let plans = self.parts.iter().zip(&plan.parts);
        plans.map(|(part, plan)| steps_of(part.backend.executor(), plan.id)).collect()
    }

    /// Every loaded plan that ran since [`Session::start_timing`], with the times of its steps.
    ///
    /// # Errors
    /// [`ModelError::Exec`] if an executor does not know a plan of its own.
    pub fn timed_plans(&self) -> Result<Vec<(&Plan, &[Duration])>, ModelError> {
        let plans = self.plans.values().flat_map(|plan| self.parts.iter().zip(&plan.parts));
        let all = plans.map(|(part, plan)| steps_of(part.backend.executor(), plan.id));
        let ran = |(_, times): &(&Plan, &[Duration])| times.iter().any(|time| !time.is_zero());
        all.filter(|plan| plan.as_ref().map_or(true, ran)).collect()
    }

    /// The number of sizes of batches that have a loaded plan.
    pub fn n_plans(&self) -> usize {
        self.plans.len()
    }

    /// Keeps at most `n` plans, at least one, beside those made with the session; the default is [`Session::PLANS`]. The
    /// first batch of another size unloads the least recently used ones, whose sizes are compiled again when they recur.
    pub fn keep_plans(&mut self, n: usize) {
        self.plans.keep(n);
    }

    /// The sequences and their tokens, blocks and slots.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// The most rows of one step: the ubatch, or one for each sequence if that is more.
    pub fn max_rows(&self) -> usize {
        self.limits.max_rows
    }

    /// The most tokens of a prompt in one batch.
    pub fn ubatch(&self) -> usize {
        self.ubatch
    }

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// [`ModelError::NoFreeSequence`] if all sequences of the session are open.
    pub fn open(&mut self) -> Result<SequenceId, ModelError> {
        self.states.open()
    }

    /// Closes a sequence. Its memory is free, and [`Session::open_with`] finds its blocks until the memory is needed.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if it is not open.
    pub fn close(&mut self, id: SequenceId) -> Result<(), ModelError> {
        self.states.close(id)
    }

    /// Forgets all tokens of a sequence from `to` on, as far as its state can be cut: see [`Rewind`].
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if it is not open.
    pub fn rewind(&mut self, id: SequenceId, to: usize) -> Result<Rewind, ModelError> {
        self.states.rewind(id, to)
    }

    /// Keeps the present recurrent state, so that [`Session::rewind`] can return to this point until the next mark.
    /// Call it before rows that are guesses. It copies nothing.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub fn mark(&mut self, id: SequenceId) -> Result<(), ModelError> {
        self.states.mark(id)
    }

    /// Computes rows of any sequences in one batch, with one fence, and returns the wanted outputs. Rows of one
    /// sequence are appended to it in their order; each row has its own wanted output.
    ///
    /// After an error the sequences hold the tokens that they held before, except that a sequence with recurrent state
    /// is empty if a device failed while it computed. Refused rows, which are invalid or do not fit, leave the outputs
    /// of the step before ([`Session::outputs`]).
    ///
    /// # Errors
    /// [`ModelError::Rows`] for rows that do not form a step, such as none or more than [`Session::max_rows`].
    /// [`ModelError::ClosedSequence`], [`ModelError::Token`], [`ModelError::ContextFull`], [`ModelError::CacheFull`];
    /// or the error of compiling or running a plan.
    pub fn step(&mut self, rows: &[Rows<'_>]) -> Result<Outputs<'_>, ModelError> {
        self.run(rows.iter().copied())?;
        self.outputs()
    }

    /// Computes rows, as [`Session::step`].
    fn run<'a>(&mut self, rows: impl Iterator<Item = Rows<'a>> + Clone) -> Result<(), ModelError> {
        let shape = self.batch.measure(rows.clone(), &self.states, &self.limits)?;
        if let Err(error) = self.reserve() {
            self.abandon(false);
            return Err(error);
        }
        self.batch.pack(rows, &self.states, &self.limits, &shape);
        // After an error there are no outputs, instead of those of the batch before.
        self.last = None;
        if let Err(error) = self.make_plan(shape) {
            self.abandon(false);
            return Err(error);
        }
        if let Err(error) = self.compute(&shape) {
            self.abandon(true);
            return Err(error);
        }
        for (id, _) in self.batch.present() {
            self.states.advance(id, self.batch.names(id));
        }
        self.last = Some(shape);
        Ok(())
    }

    /// Makes room for the rows of the batch.
    fn reserve(&mut self) -> Result<(), ModelError> {
        self.batch.present().try_for_each(|(id, n)| self.states.reserve(id, n))
    }

    /// Releases the reserved room. `ran` is true if devices may have computed.
    fn abandon(&mut self, ran: bool) {
        self.batch.present().for_each(|(id, _)| self.states.abandon(id, ran));
    }

    /// Runs the batch on one device after another, with one fence each.
    fn compute(&mut self, shape: &BatchShape) -> Result<(), ModelError> {
        let plan = self.plans.get(shape).ok_or_else(nothing_computed)?;
        let mut before: Option<(&Part, PlanId)> = None;
        for (part, plan) in self.parts.iter_mut().zip(&plan.parts) {
            let passed = match before {
                Some((part, id)) => Some(part.backend.executor().output(id, 0)?),
                None => None,
            };
            let executor = part.backend.executor_mut();
            plan.write(executor, (&self.batch, &self.states), passed)?;
            executor.run(plan.id)?.wait()?;
            before = Some((part, plan.id));
        }
        Ok(())
    }

    /// The outputs of the last step that was not refused.
    ///
    /// # Errors
    /// [`ModelError::NothingComputed`] if no step was computed, or that step failed.
    pub fn outputs(&self) -> Result<Outputs<'_>, ModelError> {
        let shape = self.last.ok_or_else(nothing_computed)?;
        let numbers = self.last_plan()?.parts.last().ok_or_else(nothing_computed)?;
        let (id, numbers) = (numbers.id, numbers.outputs);
        let part = self.parts.last().ok_or_else(nothing_computed)?;
        let executor = part.backend.executor();
        let top = numbers.top.unzip();
        Ok(Outputs {
            batch: &self.batch,
            n_vocab: self.shape.n_vocab,
            n_embd: self.shape.n_embd,
            logits: elements(executor, id, numbers.logits)?,
            top: (elements(executor, id, top.0)?, elements(executor, id, top.1)?, shape.outputs.k),
            argmax: elements(executor, id, numbers.argmax)?,
            hidden: elements(executor, id, numbers.hidden)?,
        })
    }

    fn last_plan(&self) -> Result<&BatchPlan, ModelError> {
        let last = self.last.and_then(|shape| self.plans.get(&shape));
        last.ok_or_else(nothing_computed)
    }

    /// Compiles the plans for batches of these sizes, unless they exist. Older plans are unloaded if there are too many, or
    /// as long as the new ones lack memory.
    fn make_plan(&mut self, shape: BatchShape) -> Result<(), ModelError> {
        if self.plans.touch(&shape) {
            return Ok(());
        }
        while self.plans.is_full() && self.unload_oldest()? {}
        let plan = loop {
            match self.load_plan(shape) {
                Ok(plan) => break plan,
                Err(error) => {
                    let lacks_memory = matches!(&error, ModelError::Exec(error) if error.is_out_of_memory());
                    if !lacks_memory || !self.unload_oldest()? {
                        return Err(error);
                    }
                }
            }
        };
        self.plans.add(shape, plan);
        Ok(())
    }

    fn load_plan(&mut self, shape: BatchShape) -> Result<BatchPlan, ModelError> {
        let (cache, cache_types, n_pos) = (self.states.layout(), self.cache_types, self.shape.n_pos);
        let mut plan = BatchPlan { parts: Vec::with_capacity(self.parts.len()) };
        for part in &mut self.parts {
            let request = GraphRequest { shape, n_pos, cache, cache_types, portion: part.portion.clone() };
            match PartPlan::load(part.backend.executor_mut(), &self.model, &request) {
                Ok(loaded) => plan.parts.push(loaded),
                Err(error) => {
                    self.unload(&plan)?;
                    return Err(error);
                }
            }
        }
        Ok(plan)
    }

    /// Unloads the least recently used plan. False if no plan may be unloaded.
    fn unload_oldest(&mut self) -> Result<bool, ModelError> {
        let Some(plan) = self.plans.remove_oldest() else { return Ok(false) };
        self.unload(&plan)?;
        Ok(true)
    }

    fn unload(&mut self, plan: &BatchPlan) -> Result<(), ModelError> {
        let mut parts = self.parts.iter_mut().zip(&plan.parts);
        Ok(parts.try_for_each(|(part, plan)| part.backend.executor_mut().unload(plan.id))?)
    }
}

/// The elements of a plan's output; none if the plan does not have this output.
fn elements<T: Pod>(executor: &dyn Executor, id: PlanId, number: Option<usize>) -> Result<&[T], ModelError> {
    match number {
        Some(number) => Ok(bytemuck::cast_slice(executor.output(id, number)?)),
        None => Ok(&[]),
    }
}

fn nothing_computed() -> ModelError {
    ModelError::NothingComputed
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.model).field("n_ctx", &self.states.n_ctx()).finish()
    }
}
