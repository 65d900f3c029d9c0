//! A session: a model with its KV cache, ready to take tokens.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Duration;

use super::batch::{Batch, BatchKind, BatchPlan, PartPlan, bucket, chunk, steps_of};
use super::builder::{Request, Want};
use super::kv_cache::BLOCK_SIZE;
use super::placement::{Backend, Demand, DeviceChoice, Part, Setup, place};
use super::{CacheLayout, CacheTypes, KvCache, Model, ModelError, ModelShape, SequenceId};
use crate::exec::{Budget, CpuExecutor, Executor, HipExecutor, PlanId};
use crate::plan::Plan;
use crate::text::Needs;

/// How a session is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOptions {
    /// Tokens that one sequence may hold; 0: as many as the model was trained for.
    pub n_ctx: usize,
    /// Sequences at a time.
    pub n_sequences: usize,
    /// Tokens of a prompt that are computed at once.
    pub ubatch: usize,
    /// Threads; `None`: one for each physical core.
    pub threads: Option<NonZeroUsize>,
    /// Types of the KV cache.
    pub cache_types: CacheTypes,
    /// The share of the free memory that may be taken, of each device.
    pub memory_fraction: f64,
    /// Where to compute.
    pub device: DeviceChoice,
    /// The layers that a GPU computes, counted from the last, with the head; `None`: as many as its budget holds. The
    /// CPU computes the others.
    pub gpu_layers: Option<usize>,
    /// How long the GPU may take for a batch; `None`: as [`HipOptions`](crate::exec::HipOptions) says.
    pub timeout: Option<Duration>,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            n_ctx: 4096,
            n_sequences: 1,
            ubatch: 512,
            threads: None,
            cache_types: CacheTypes::default(),
            memory_fraction: Budget::FRACTION,
            device: DeviceChoice::Cpu,
            gpu_layers: None,
            timeout: None,
        }
    }
}

/// The logits of a batch's wanted tokens.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'s> {
    values: &'s [f32],
    n_vocab: usize,
}

impl<'s> Logits<'s> {
    /// The logits of wanted token `i`, one for each token of the vocabulary; empty past the last.
    pub fn row(&self, i: usize) -> &'s [f32] {
        self.values.chunks_exact(self.n_vocab).nth(i).unwrap_or(&[])
    }

    /// All rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'s [f32]> + use<'s> {
        self.values.chunks_exact(self.n_vocab)
    }
}

/// What is known of the next token, as [`Session::decode_for`] was asked.
#[derive(Clone, Copy, Debug)]
pub enum Next<'s> {
    /// All logits.
    Logits(&'s [f32]),
    /// The token of the largest logit.
    Largest(u32),
    /// Tokens with the largest logits and these, the largest first.
    Top(&'s [i32], &'s [f32]),
}

/// A model with its KV cache, ready to take tokens.
pub struct Session {
    model: Model,
    shape: ModelShape,
    /// The devices, in the order in which a batch visits them.
    parts: Vec<Part>,
    cache: KvCache,
    cache_types: CacheTypes,
    ubatch: usize,
    /// Plans by what they are made for.
    plans: BTreeMap<BatchKind, BatchPlan>,
    batch: Batch,
    last: Option<Last>,
}

/// The last batch.
#[derive(Clone, Copy, Debug)]
struct Last {
    plan: BatchPlan,
    /// The plan that gives the outputs.
    id: PlanId,
    want: Want,
    /// The rows of the outputs that mean something.
    rows: usize,
}

/// The tokens of a batch that something is wanted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Last,
    All,
}

impl Session {
    /// A session. The KV cache and the arena are made here, and refused here if they do not
    /// fit the budget, as are the plans for whole chunks of a prompt and for one token of one or of all
    /// sequences: batches of these sizes allocate nothing later. A batch of another size makes its plan
    /// when it first comes. That may grow the arena, for which the budget is asked again.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Session, ModelError> {
        Session::with(model, options, &Setup::default())
    }

    /// As [`Session::new`], with a say in how a GPU is used.
    pub fn with(model: &Model, options: &SessionOptions, setup: &Setup) -> Result<Session, ModelError> {
        options.cache_types.check()?;
        if options.ubatch == 0 {
            return Err(ModelError::Session("a ubatch of 0 tokens computes nothing; give at least 1".into()));
        }
        let shape = model.architecture().shape();
        let n_ctx = shape.context(options.n_ctx)?;
        let layout = CacheLayout::new(n_ctx, options.n_sequences)?;
        let ubatch = options.ubatch.min(n_ctx);
        let widest = bucket(ubatch.max(layout.n_sequences));
        let tables = (layout.table_bytes() + Batch::bytes(widest)) as u64;
        let mut session = Session {
            parts: place(&Demand { model, options, layout, ubatch, tables }, setup)?,
            cache: KvCache::new(layout, n_ctx, shape.n_ctx_train),
            cache_types: options.cache_types,
            ubatch,
            plans: BTreeMap::new(),
            batch: Batch::with_capacity(widest),
            last: None,
            model: model.clone(),
            shape,
        };
        // The widest plans first: the arena is as large as it will get before anything runs.
        session.batch_plan(bucket(ubatch), 1, Want::LOGITS)?;
        session.batch_plan(1, 1, Want::LOGITS)?;
        session.batch_plan(1, 1, Want::Next(session.want(setup.want)))?;
        if layout.n_sequences > 1 {
            let several = bucket(layout.n_sequences);
            session.batch_plan(several, several, Want::LOGITS)?;
            // For what is computed again of a block that sequences shared.
            session.batch_plan(bucket(session.again()), 1, Want::LOGITS)?;
        }
        Ok(session)
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

    /// Turns on the timing of steps on all devices, and forgets the times so far.
    pub fn start_timing(&mut self) {
        self.parts.iter_mut().for_each(|part| part.backend.executor_mut().start_timing());
    }

    /// The plans of the last batch, one for each executor, and the time of each of their steps.
    pub fn last_plans(&self) -> Result<Vec<(&Plan, &[Duration])>, ModelError> {
        let last = self.last.ok_or_else(nothing_computed)?;
        let plans = self.parts.iter().zip(last.plan.parts);
        plans.filter_map(|(part, plan)| Some(steps_of(part.backend.executor(), plan?.id))).collect()
    }

    /// The cache's sizes and what each sequence holds.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The cache, for what changes its sequences without computing anything.
    pub(super) fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// Opens an empty sequence.
    pub fn open(&mut self) -> Result<SequenceId, ModelError> {
        self.cache.open()
    }

    /// Closes a sequence. Its part of the cache is free, and can be found by [`Session::open_with`] until it is needed.
    pub fn close(&mut self, id: SequenceId) -> Result<(), ModelError> {
        self.cache.close(id)
    }

    /// Forgets all tokens of a sequence from `len` on.
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), ModelError> {
        self.cache.truncate(id, len)
    }

    /// Appends tokens to a sequence, in chunks of at most `ubatch`, and gives the logits after the last.
    pub fn prefill(&mut self, id: SequenceId, tokens: &[u32]) -> Result<&[f32], ModelError> {
        // The closure never ends the work early.
        let _ = self.prefill_with(id, tokens, |_| ControlFlow::Continue(()))?;
        Ok(self.logits()?.row(0))
    }

    /// As [`Session::prefill`]; after each chunk `progress` is told how many tokens are done, and may end
    /// the work there. The tokens done so far then stay in the sequence. [`Session::logits`] has the logits
    /// after the last.
    pub fn prefill_with(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ModelError> {
        if tokens.is_empty() {
            return Err(ModelError::Session("a prompt of no tokens has no logits".into()));
        }
        self.check_tokens(tokens)?;
        self.reserve(id, tokens.len())?;
        let mut done = 0;
        while done < tokens.len() {
            let n = chunk(tokens.len() - done, self.ubatch);
            self.append(id, &tokens[done..done + n], Wanted::Last, Want::LOGITS)?;
            done += n;
            if progress(done).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Appends tokens to a sequence and gives each one's logits to `f`, in order.
    pub fn all_logits(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        f: impl FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        self.each_row(id, tokens, (Want::LOGITS, self.shape.n_vocab), f)
    }

    /// Appends tokens to a sequence and gives each one's row of what is wanted to `f`, in order.
    pub(super) fn each_row(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        (want, width): (Want, usize),
        mut f: impl FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        self.check_tokens(tokens)?;
        self.reserve(id, tokens.len())?;
        let mut rest = tokens;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rest.len(), self.ubatch));
            self.append(id, now, Wanted::All, want)?;
            self.rows(want, width)?.chunks_exact(width).for_each(&mut f);
            rest = later;
        }
        Ok(())
    }

    /// Appends one token to each of several sequences and gives the logits after each, in their order.
    pub fn decode(&mut self, next: &[(SequenceId, u32)]) -> Result<Logits<'_>, ModelError> {
        let room = self.cache.layout().n_sequences;
        if next.is_empty() || next.len() > room {
            let reason = format!("{} sequences at once; the session has 1 to {room}", next.len());
            return Err(ModelError::Session(reason));
        }
        let twice = |i: usize| next[..i].iter().any(|(other, _)| *other == next[i].0);
        if (0..next.len()).any(twice) {
            return Err(ModelError::Session("a sequence takes one token at a time when decoding".into()));
        }
        for &(id, _) in next {
            self.reserve(id, 1)?;
        }
        self.batch.clear();
        for &(id, token) in next {
            self.push(id, token, self.cache.len(id)?)?;
        }
        self.run(Wanted::All, Want::LOGITS)?;
        for (&(id, _), token) in next.iter().zip(self.batch.tokens.chunks(1)) {
            self.cache.advance(id, token);
        }
        self.logits()
    }

    /// What is wanted where the logits are: the CPU gives all of them.
    fn want(&self, want: Needs) -> Needs {
        let on_gpu = matches!(self.parts.last(), Some(Part { backend: Backend::Hip(_), .. }));
        if on_gpu { want } else { Needs::Logits }
    }

    /// Appends one token to a sequence and gives what is wanted of the logits after it. On a GPU the choice is made
    /// there, and only its result comes back; the CPU gives all logits.
    pub fn decode_for(&mut self, id: SequenceId, token: u32, want: Needs) -> Result<Next<'_>, ModelError> {
        let want = self.want(want);
        self.reserve(id, 1)?;
        self.batch.clear();
        self.push(id, token, self.cache.len(id)?)?;
        self.run(Wanted::All, Want::Next(want))?;
        self.cache.advance(id, &self.batch.tokens[..1]);
        let last = self.last.ok_or_else(nothing_computed)?;
        let output = |number| self.output(last.id, number);
        match want {
            Needs::Logits => Ok(Next::Logits(self.logits()?.row(0))),
            Needs::Largest => {
                let ids: &[i32] = bytemuck::cast_slice(output(0)?);
                Ok(Next::Largest(ids.first().map_or(0, |&id| id as u32)))
            }
            Needs::Top(_) => {
                Ok(Next::Top(bytemuck::cast_slice(output(0)?), bytemuck::cast_slice(output(1)?)))
            }
        }
    }

    /// The logits that the last batch was asked for.
    pub fn logits(&self) -> Result<Logits<'_>, ModelError> {
        let n_vocab = self.shape.n_vocab;
        Ok(Logits { values: self.rows(Want::LOGITS, n_vocab)?, n_vocab })
    }

    /// The rows of `width` that the last batch gave, if it was asked for these.
    fn rows(&self, want: Want, width: usize) -> Result<&[f32], ModelError> {
        let last = self.last.filter(|last| last.want == want).ok_or_else(nothing_computed)?;
        let values: &[f32] = bytemuck::cast_slice(self.output(last.id, 0)?);
        Ok(values.get(..last.rows * width).unwrap_or_default())
    }

    /// An output of the last part's plan.
    fn output(&self, id: PlanId, number: usize) -> Result<&[u8], ModelError> {
        let part = self.parts.last().ok_or_else(nothing_computed)?;
        Ok(part.backend.executor().output(id, number)?)
    }

    /// Makes room for `n` more tokens of a sequence.
    fn reserve(&mut self, id: SequenceId, n: usize) -> Result<(), ModelError> {
        let mut again = [0; BLOCK_SIZE];
        // In place of a block that others go on to hold.
        let lost = self.cache.reserve(id, n, &mut again)?;
        // Of one size, for which there is a plan.
        let n = self.again();
        for tokens in again[..lost].chunks(n) {
            self.append_in(bucket(n), id, tokens, Wanted::Last, Want::LOGITS)?;
        }
        Ok(())
    }

    /// Tokens of a shared block that are computed again at once.
    fn again(&self) -> usize {
        BLOCK_SIZE.min(self.ubatch)
    }

    fn append(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        wanted: Wanted,
        want: Want,
    ) -> Result<(), ModelError> {
        self.append_in(bucket(tokens.len()), id, tokens, wanted, want)
    }

    /// Appends tokens to a sequence in a batch of `width`.
    fn append_in(
        &mut self,
        width: usize,
        id: SequenceId,
        tokens: &[u32],
        wanted: Wanted,
        want: Want,
    ) -> Result<(), ModelError> {
        let first = self.cache.len(id)?;
        self.batch.clear();
        for (i, &token) in tokens.iter().enumerate() {
            self.push(id, token, first + i)?;
        }
        self.run_in(width, wanted, want)?;
        self.cache.advance(id, &self.batch.tokens[..tokens.len()]);
        Ok(())
    }

    /// All of a prompt is checked before any of it is computed.
    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let n_vocab = self.shape.n_vocab;
        match tokens.iter().find(|&&token| token as usize >= n_vocab) {
            Some(&token) => Err(ModelError::Token { token, n_vocab }),
            None => Ok(()),
        }
    }

    fn push(&mut self, id: SequenceId, token: u32, position: usize) -> Result<(), ModelError> {
        self.check_tokens(&[token])?;
        self.batch.push(token as i32, position as i32, self.cache.slot(id, position), id.0 as i32);
        Ok(())
    }

    /// Runs the batch, padded to the next of the sizes that plans are made for.
    fn run(&mut self, wanted: Wanted, want: Want) -> Result<(), ModelError> {
        self.run_in(bucket(self.batch.tokens.len()), wanted, want)
    }

    /// Runs the batch, padded to `n` tokens: one fence on each device.
    fn run_in(&mut self, n: usize, wanted: Wanted, want: Want) -> Result<(), ModelError> {
        // After an error there are no logits, rather than those of the batch before.
        self.last = None;
        let live = self.batch.tokens.len();
        let plan = self.batch_plan(n, if wanted == Wanted::All { n } else { 1 }, want)?;
        self.batch.pad(n);
        let mut before: Option<(&Part, PlanId)> = None;
        for (part, plan) in self.parts.iter_mut().zip(plan.parts) {
            let Some(plan) = plan else { continue };
            let executor = part.backend.executor_mut();
            plan.write(executor, &self.batch, &self.cache, live as i32 - 1)?;
            if let (Some((part, id)), Some(hidden)) = (before, plan.hidden) {
                executor.write(plan.id, hidden, part.backend.executor().output(id, 0)?)?;
            }
            executor.run(plan.id)?.wait()?;
            before = Some((part, plan.id));
        }
        let id = before.ok_or_else(nothing_computed)?.1;
        self.last = Some(Last { plan, id, want, rows: if wanted == Wanted::All { live } else { 1 } });
        Ok(())
    }

    /// The plans for `n_tokens` of which `n_outputs` have their logits wanted, made when first needed.
    fn batch_plan(&mut self, n_tokens: usize, n_outputs: usize, want: Want) -> Result<BatchPlan, ModelError> {
        let kind = BatchKind { n_tokens, n_outputs, want };
        if let Some(plan) = self.plans.get(&kind) {
            return Ok(*plan);
        }
        let (cache, cache_types) = (self.cache.layout(), self.cache_types);
        let mut plan = BatchPlan { parts: [None; _] };
        for (part, place) in self.parts.iter_mut().zip(&mut plan.parts) {
            let portion = part.portion.clone();
            let request = Request { n_tokens, n_outputs, cache, cache_types, portion };
            *place = Some(PartPlan::load(part.backend.executor_mut(), &self.model, &request, want)?);
        }
        self.plans.insert(kind, plan);
        Ok(plan)
    }
}

fn nothing_computed() -> ModelError {
    ModelError::Session("nothing was computed yet".into())
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.model).field("n_ctx", &self.cache.n_ctx()).finish()
    }
}
