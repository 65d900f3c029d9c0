//! A session: a model with its KV cache, ready to take tokens.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{CacheLayout, GgufWeights, KvCache, Model, ModelBuilder, ModelError, ModelShape, SequenceId};
use crate::exec::{Budget, CpuExecutor, ExecError, Executor, PlanId};
use crate::graph::{Graph, GraphDef};
use crate::plan::{Plan, compile};
use crate::tensor::DType;

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
    /// Type of the KV cache: F16, BF16 or F32.
    pub cache_type: DType,
    /// The share of the free memory that may be taken.
    pub memory_fraction: f64,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            n_ctx: 4096,
            n_sequences: 1,
            ubatch: 512,
            threads: None,
            cache_type: DType::F16,
            memory_fraction: Budget::FRACTION,
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

/// A model with its KV cache, ready to take tokens.
pub struct Session {
    model: Model,
    shape: ModelShape,
    executor: CpuExecutor,
    cache: KvCache,
    cache_type: DType,
    ubatch: usize,
    /// Plans by the number of tokens and of outputs.
    plans: BTreeMap<(usize, usize), BatchPlan>,
    batch: Batch,
    /// The plan of the last batch and the rows of its output that mean something.
    last: Option<(PlanId, usize)>,
}

/// A loaded plan and the numbers of its inputs.
#[derive(Clone, Copy, Debug)]
struct BatchPlan {
    id: PlanId,
    tokens: usize,
    positions: usize,
    slots: usize,
    sequences: usize,
    block_table: usize,
    wanted: Option<usize>,
}

/// What goes into a batch, in buffers that are made once.
#[derive(Debug)]
struct Batch {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    slots: Vec<i32>,
    sequences: Vec<i32>,
}

/// Which logits of a batch are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Last,
    All,
}

impl Session {
    /// A session on the CPU. The KV cache and the arena are made here, and refused here if they do not
    /// fit the budget, as are the plans for whole chunks of a prompt and for one token of one or of all
    /// sequences: batches of these sizes allocate nothing later. A batch of another size makes its plan
    /// when it first comes. That may grow the arena, for which the budget is asked again.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Session, ModelError> {
        if !matches!(options.cache_type, DType::F16 | DType::BF16 | DType::F32) {
            let reason = format!("the KV cache is F16, BF16 or F32, not {}", options.cache_type);
            return Err(ModelError::Session(reason));
        }
        if options.ubatch == 0 {
            return Err(ModelError::Session("a ubatch of 0 tokens computes nothing; give at least 1".into()));
        }
        let shape = model.architecture().shape();
        let n_ctx = if options.n_ctx == 0 { shape.n_ctx_train } else { options.n_ctx };
        let layout = CacheLayout::new(n_ctx, options.n_sequences)?;
        let threads = options.threads.unwrap_or_else(crate::cpu::physical_cores);
        let weights = Arc::new(GgufWeights(Arc::clone(model.gguf())));
        let ubatch = options.ubatch.min(n_ctx);
        let widest = bucket(ubatch.max(layout.n_sequences));
        let mut budget = Budget::host(options.memory_fraction);
        let tables = layout.table_bytes() + Batch::bytes(widest);
        budget.hold("block tables and batch", tables as u64).map_err(ExecError::from)?;
        let mut session = Session {
            executor: CpuExecutor::new(threads, weights, budget)?,
            cache: KvCache::new(layout, n_ctx, shape.n_ctx_train),
            cache_type: options.cache_type,
            ubatch,
            plans: BTreeMap::new(),
            batch: Batch::with_capacity(widest),
            last: None,
            model: model.clone(),
            shape,
        };
        // The widest plans first: the arena is as large as it will get before anything runs.
        session.batch_plan(bucket(ubatch), 1)?;
        session.batch_plan(1, 1)?;
        if layout.n_sequences > 1 {
            session.batch_plan(bucket(layout.n_sequences), bucket(layout.n_sequences))?;
        }
        Ok(session)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The executor, for its budget and its times.
    pub fn executor(&mut self) -> &mut CpuExecutor {
        &mut self.executor
    }

    /// The plan of the last batch, whose steps the executor can show and time.
    pub fn last_plan(&self) -> Result<PlanId, ModelError> {
        let none = || ModelError::Session("nothing was computed yet".into());
        self.last.map(|(plan, _)| plan).ok_or_else(none)
    }

    /// The cache's sizes and what each sequence holds.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Opens an empty sequence.
    pub fn open(&mut self) -> Result<SequenceId, ModelError> {
        self.cache.open()
    }

    /// Closes a sequence and frees its part of the cache.
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
        self.cache.reserve(id, tokens.len())?;
        let mut done = 0;
        while done < tokens.len() {
            let n = chunk(tokens.len() - done, self.ubatch);
            self.append(id, &tokens[done..done + n], Wanted::Last)?;
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
        mut f: impl FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        self.check_tokens(tokens)?;
        self.cache.reserve(id, tokens.len())?;
        let mut rest = tokens;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rest.len(), self.ubatch));
            self.append(id, now, Wanted::All)?;
            self.logits()?.rows().for_each(&mut f);
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
        self.batch.clear();
        for &(id, token) in next {
            self.cache.reserve(id, 1)?;
            self.push(id, token, self.cache.len(id)?)?;
        }
        self.run(Wanted::All)?;
        for &(id, _) in next {
            self.cache.advance(id, 1);
        }
        self.logits()
    }

    /// The logits that the last batch was asked for.
    pub fn logits(&self) -> Result<Logits<'_>, ModelError> {
        let none = || ModelError::Session("nothing was computed yet".into());
        let (plan, rows) = self.last.ok_or_else(none)?;
        let values = bytemuck::cast_slice(self.executor.output(plan, 0)?);
        let n_vocab = self.shape.n_vocab;
        Ok(Logits { values: &values[..rows * n_vocab], n_vocab })
    }

    fn append(&mut self, id: SequenceId, tokens: &[u32], wanted: Wanted) -> Result<(), ModelError> {
        let first = self.cache.len(id)?;
        self.batch.clear();
        for (i, &token) in tokens.iter().enumerate() {
            self.push(id, token, first + i)?;
        }
        self.run(wanted)?;
        self.cache.advance(id, tokens.len());
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

    /// Runs the batch, padded to a size that there is a plan for.
    fn run(&mut self, wanted: Wanted) -> Result<(), ModelError> {
        // After an error there are no logits, rather than those of the batch before.
        self.last = None;
        let live = self.batch.tokens.len();
        let n = bucket(live);
        let plan = self.batch_plan(n, if wanted == Wanted::All { n } else { 1 })?;
        self.batch.pad(n);
        let last = [live as i32 - 1];
        let executor = &mut self.executor;
        executor.write(plan.id, plan.tokens, bytemuck::cast_slice(&self.batch.tokens))?;
        executor.write(plan.id, plan.positions, bytemuck::cast_slice(&self.batch.positions))?;
        executor.write(plan.id, plan.slots, bytemuck::cast_slice(&self.batch.slots))?;
        executor.write(plan.id, plan.sequences, bytemuck::cast_slice(&self.batch.sequences))?;
        executor.write(plan.id, plan.block_table, bytemuck::cast_slice(self.cache.tables()))?;
        if let Some(wanted) = plan.wanted {
            executor.write(plan.id, wanted, bytemuck::cast_slice(&last))?;
        }
        executor.run(plan.id)?.wait()?;
        self.last = Some((plan.id, if wanted == Wanted::All { live } else { 1 }));
        Ok(())
    }

    /// The plan for `n_tokens` of which `n_outputs` have their logits wanted, made when first needed.
    fn batch_plan(&mut self, n_tokens: usize, n_outputs: usize) -> Result<BatchPlan, ModelError> {
        if let Some(plan) = self.plans.get(&(n_tokens, n_outputs)) {
            return Ok(*plan);
        }
        let graph = graph_of(&self.model, n_tokens, n_outputs, self.cache.layout(), self.cache_type)?;
        let plan = compile(&graph, &self.executor.device())?;
        let batch = BatchPlan::load(&mut self.executor, plan)?;
        self.plans.insert((n_tokens, n_outputs), batch);
        Ok(batch)
    }
}

impl BatchPlan {
    fn load(executor: &mut CpuExecutor, plan: Plan) -> Result<BatchPlan, ModelError> {
        let input = |name: &str| plan.input(name).map(|(number, _)| number);
        let unused = |name: &str| ModelError::Session(format!("the graph has no input `{name}`"));
        let need = |name: &str| input(name).ok_or_else(|| unused(name));
        let batch = BatchPlan {
            id: PlanId::default(),
            tokens: need("tokens")?,
            positions: need("positions")?,
            slots: need("slots")?,
            sequences: need("sequences")?,
            block_table: need("block_table")?,
            wanted: input("wanted"),
        };
        Ok(BatchPlan { id: executor.load(plan)?, ..batch })
    }
}

impl Batch {
    /// Bytes of the buffers for `n` tokens.
    fn bytes(n: usize) -> usize {
        4 * n * size_of::<i32>()
    }

    fn with_capacity(n: usize) -> Batch {
        let buffer = || Vec::with_capacity(n);
        Batch { tokens: buffer(), positions: buffer(), slots: buffer(), sequences: buffer() }
    }

    fn clear(&mut self) {
        for buffer in [&mut self.tokens, &mut self.positions, &mut self.slots, &mut self.sequences] {
            buffer.clear();
        }
    }

    fn push(&mut self, token: i32, position: i32, slot: i32, sequence: i32) {
        self.tokens.push(token);
        self.positions.push(position);
        self.slots.push(slot);
        self.sequences.push(sequence);
    }

    /// Fills up with tokens that are written nowhere and belong to no sequence.
    fn pad(&mut self, n: usize) {
        while self.tokens.len() < n {
            self.push(0, 0, -1, -1);
        }
    }
}

/// The sizes that plans are made for: powers of two, and one and a half times those. A batch is padded
/// by a third at most.
pub(super) fn bucket(n: usize) -> usize {
    let power = n.next_power_of_two();
    let between = power / 4 * 3;
    if between >= n && power >= 4 { between } else { power }
}

/// How many of `left` tokens to compute next. A long rest is cut where a plan fits it with little padding;
/// a short one is padded, since each further batch reads all weights again.
fn chunk(left: usize, ubatch: usize) -> usize {
    let n = left.min(ubatch);
    let fits = bucket(n);
    if n <= 32 || fits - n <= n / 8 {
        return n;
    }
    // The largest size below n.
    let power = fits.next_power_of_two();
    if fits == power { power / 4 * 3 } else { power / 2 }
}

/// The graph of a batch: the architecture's, checked to use all of the file's tensors.
pub(super) fn graph_of(
    model: &Model,
    n_tokens: usize,
    n_outputs: usize,
    cache: CacheLayout,
    cache_type: DType,
) -> Result<GraphDef, ModelError> {
    let graph = Graph::new();
    let unused = {
        let builder = ModelBuilder::new(&graph, model.gguf(), n_tokens, n_outputs, cache, cache_type);
        graph.output("logits", model.architecture().build(&builder));
        builder.unused()
    };
    let def = graph.finish()?;
    if unused.is_empty() {
        return Ok(def);
    }
    let architecture = model.architecture_name().to_string();
    Err(ModelError::UnknownTensors { architecture, names: unused.into_iter().take(5).collect() })
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.model).field("n_ctx", &self.cache.n_ctx()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_padded_by_a_third_at_most() {
        for n in 1..5000 {
            let bucket = bucket(n);
            assert!(bucket >= n && bucket - n <= n / 2, "{n} is padded to {bucket}");
            assert_eq!(super::bucket(bucket), bucket);
        }
        assert_eq!([1, 3, 5, 7, 100, 129].map(bucket), [1, 3, 6, 8, 128, 192]);
    }

    #[test]
    fn chunks_end_and_waste_little() {
        for ubatch in [1, 7, 32, 512] {
            for prompt in 1..2000usize {
                let (mut left, mut computed) = (prompt, 0);
                while left > 0 {
                    let n = chunk(left, ubatch);
                    assert!((1..=ubatch.min(left)).contains(&n), "{n} of {left}");
                    computed += bucket(n);
                    left -= n;
                }
                assert!(
                    prompt < 64 || ubatch < 32 || computed <= prompt + prompt / 7,
                    "{prompt}: {computed}"
                );
            }
        }
    }
}
