//! Batches: what goes into a graph, the graphs for each size, and their plans.

use super::builder::{HIDDEN, Portion, Request, Want};
use super::{CacheLayout, CacheTypes, KvCache, Model, ModelBuilder, ModelError};
use crate::exec::{ExecError, Executor, PlanId};
use crate::graph::{Graph, GraphDef, Tensor};
use crate::plan::{Plan, compile};
use crate::text::Needs;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchKind {
    pub n_tokens: usize,
    pub n_outputs: usize,
    pub want: Want,
}

/// The most devices that a model is spread over.
pub(super) const MAX_PARTS: usize = 2;

/// The plans of a batch, one on each device that has a part of the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchPlan {
    pub parts: [Option<PartPlan>; MAX_PARTS],
}

/// A loaded plan and the numbers of its inputs, as far as it has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PartPlan {
    pub id: PlanId,
    tokens: Option<usize>,
    positions: Option<usize>,
    slots: Option<usize>,
    sequences: Option<usize>,
    block_table: Option<usize>,
    wanted: Option<usize>,
    /// What the part before gives.
    pub hidden: Option<usize>,
}

impl PartPlan {
    /// Compiles and loads the plan of a portion.
    pub fn load(
        executor: &mut dyn Executor,
        model: &Model,
        request: &Request,
        want: Want,
    ) -> Result<PartPlan, ModelError> {
        let plan = compile(&graph_of(model, request, want)?, &executor.device())?;
        let input = |name: &str| plan.input(name).map(|(number, _)| number);
        let part = PartPlan {
            id: PlanId::default(),
            tokens: input("tokens"),
            positions: input("positions"),
            slots: input("slots"),
            sequences: input("sequences"),
            block_table: input("block_table"),
            wanted: input("wanted"),
            hidden: input(HIDDEN),
        };
        Ok(PartPlan { id: executor.load(plan)?, ..part })
    }

    /// Gives the plan its inputs, but for what the part before gives.
    pub fn write(
        &self,
        executor: &mut dyn Executor,
        batch: &Batch,
        cache: &KvCache,
        last: i32,
    ) -> Result<(), ExecError> {
        let inputs: [(Option<usize>, &[i32]); 6] = [
            (self.tokens, &batch.tokens),
            (self.positions, &batch.positions),
            (self.slots, &batch.slots),
            (self.sequences, &batch.sequences),
            (self.block_table, cache.tables()),
            (self.wanted, &[last]),
        ];
        for (number, values) in inputs {
            if let Some(number) = number {
                executor.write(self.id, number, bytemuck::cast_slice(values))?;
            }
        }
        Ok(())
    }
}

/// What goes into a batch, in buffers that are made once.
#[derive(Debug)]
pub(super) struct Batch {
    pub tokens: Vec<i32>,
    positions: Vec<i32>,
    slots: Vec<i32>,
    sequences: Vec<i32>,
}

impl Batch {
    /// Bytes of the buffers for `n` tokens.
    pub fn bytes(n: usize) -> usize {
        4 * n * size_of::<i32>()
    }

    pub fn with_capacity(n: usize) -> Batch {
        let buffer = || Vec::with_capacity(n);
        Batch { tokens: buffer(), positions: buffer(), slots: buffer(), sequences: buffer() }
    }

    pub fn clear(&mut self) {
        for buffer in [&mut self.tokens, &mut self.positions, &mut self.slots, &mut self.sequences] {
            buffer.clear();
        }
    }

    pub fn push(&mut self, token: i32, position: i32, slot: i32, sequence: i32) {
        self.tokens.push(token);
        self.positions.push(position);
        self.slots.push(slot);
        self.sequences.push(sequence);
    }

    /// Fills up with tokens that are written nowhere and belong to no sequence.
    pub fn pad(&mut self, n: usize) {
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
pub(super) fn chunk(left: usize, ubatch: usize) -> usize {
    let n = left.min(ubatch);
    let fits = bucket(n);
    if n <= 32 || fits - n <= n / 8 {
        return n;
    }
    // The largest size below n.
    let power = fits.next_power_of_two();
    if fits == power { power / 4 * 3 } else { power / 2 }
}

/// The graph of a batch on a whole model.
pub(super) fn whole_graph(
    model: &Model,
    n_tokens: usize,
    n_outputs: usize,
    cache: CacheLayout,
    cache_types: CacheTypes,
    want: Needs,
) -> Result<GraphDef, ModelError> {
    let portion = Portion::whole(model.architecture().shape().layers.len());
    graph_of(model, &Request { n_tokens, n_outputs, cache, cache_types, portion }, Want::Next(want))
}

/// The graph of a batch on a portion of the model: the architecture's, which must use all of the file's tensors if
/// it is all of the model, up to the logits.
pub(super) fn graph_of(model: &Model, request: &Request, want: Want) -> Result<GraphDef, ModelError> {
    let graph = Graph::new();
    let unused = {
        let builder = ModelBuilder::new(&graph, model.gguf(), request, want);
        let result = model.architecture().build(&builder);
        match (request.portion.head, want) {
            (false, _) => graph.output(HIDDEN, result),
            (true, Want::States) => graph.output("states", result),
            (true, Want::Next(Needs::Logits)) => graph.output("logits", result),
            (true, Want::Next(Needs::Largest)) => graph.output("largest", result.argmax()),
            (true, Want::Next(Needs::Top(k))) => top(&graph, result, k),
        }
        builder.unused()
    };
    let def = graph.finish()?;
    if unused.is_empty() || !request.portion.is_whole() || want == Want::States {
        return Ok(def);
    }
    let architecture = model.architecture_name().to_string();
    Err(ModelError::UnknownTensors { architecture, names: unused.into_iter().take(5).collect() })
}

/// Ids and values of the `k` largest logits of one token.
fn top<'g>(graph: &'g Graph, logits: Tensor<'g>, k: usize) {
    let ids = logits.top_k(k);
    graph.output("top_ids", ids);
    let values = logits.reshape([1, logits.dim(0)]).get_rows(ids.reshape([k]));
    graph.output("top_logits", values);
}

/// A plan for messages and profiles: the steps with their times.
pub(super) fn steps_of(
    executor: &dyn Executor,
    id: PlanId,
) -> Result<(&Plan, &[std::time::Duration]), ModelError> {
    Ok((executor.plan(id)?, executor.times(id)))
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
