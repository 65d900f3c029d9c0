//! The graphs of batches, and their plans on each device.

use std::time::Duration;

use super::batch::BatchRows;
use crate::exec::{ExecError, Executor, PlanId};
use crate::graph::{Graph, GraphDef};
use crate::model::build::{ARGMAX, HIDDEN, LOGITS, PASSED, TOP_IDS, TOP_LOGITS};
use crate::model::{
    BatchShape, CacheLayout, CacheTypes, GraphRequest, Model, ModelBuilder, ModelError, Output, Portion,
    States,
};
use crate::plan::{Plan, compile};

/// An input of a batch's graph.
#[derive(Clone, Copy, Debug)]
enum Input {
    Tokens,
    Positions,
    RowPositions,
    Slots,
    Sequences,
    BlockTable,
    Wanted,
    Embeddings,
    EmbeddingOfRow,
    Runs,
}

/// The inputs with their names in the graph, without the hidden states from the previous part.
const INPUTS: [(&str, Input); 10] = [
    ("tokens", Input::Tokens),
    ("positions", Input::Positions),
    ("row_positions", Input::RowPositions),
    ("slots", Input::Slots),
    ("sequences", Input::Sequences),
    ("block_table", Input::BlockTable),
    ("wanted", Input::Wanted),
    ("embeddings", Input::Embeddings),
    ("embedding_of_row", Input::EmbeddingOfRow),
    ("runs", Input::Runs),
];

impl Input {
    fn bytes<'b>(self, batch: &'b BatchRows, states: &'b States) -> &'b [u8] {
        bytemuck::cast_slice(match self {
            Input::Tokens => &batch.tokens,
            Input::Positions => &batch.positions,
            Input::RowPositions => &batch.row_positions,
            Input::Slots => &batch.slots,
            Input::Sequences => &batch.sequences,
            Input::BlockTable => states.tables(),
            Input::Wanted => &batch.wanted,
            Input::EmbeddingOfRow => &batch.embedding_of_row,
            Input::Runs => &batch.runs,
            Input::Embeddings => return bytemuck::cast_slice(&batch.embeddings),
        })
    }
}

/// The plans of a batch, one for each part of the model.
#[derive(Debug)]
pub(super) struct BatchPlan {
    pub parts: Vec<PartPlan>,
}

/// A loaded plan, and the numbers of its inputs and outputs.
#[derive(Debug)]
pub(super) struct PartPlan {
    pub id: PlanId,
    inputs: Vec<(usize, Input)>,
    /// The input for the hidden states of the previous part.
    passed: Option<usize>,
    pub outputs: OutputNumbers,
}

/// The numbers of a plan's outputs; `None` for those that it does not have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OutputNumbers {
    pub logits: Option<usize>,
    pub top: Option<(usize, usize)>,
    pub argmax: Option<usize>,
    pub hidden: Option<usize>,
}

impl PartPlan {
    /// Compiles and loads the plan of a portion.
    pub fn load(
        executor: &mut dyn Executor,
        model: &Model,
        request: &GraphRequest,
    ) -> Result<PartPlan, ModelError> {
        let plan = compile(&graph_of(model, request)?, &executor.device())?;
        let input = |name: &str| plan.input(name).map(|(number, _)| number);
        let output = |name: &str| plan.output(name).map(|(number, _)| number);
        let inputs = INPUTS.iter().filter_map(|(name, kind)| Some((input(name)?, *kind))).collect();
        let outputs = OutputNumbers {
            logits: output(LOGITS),
            top: output(TOP_IDS).zip(output(TOP_LOGITS)),
            argmax: output(ARGMAX),
            hidden: output(HIDDEN),
        };
        let passed = input(PASSED);
        Ok(PartPlan { id: executor.load(plan)?, inputs, passed, outputs })
    }

    /// Writes the plan's inputs; `passed` holds the hidden states of the previous part.
    pub fn write(
        &self,
        executor: &mut dyn Executor,
        (batch, states): (&BatchRows, &States),
        passed: Option<&[u8]>,
    ) -> Result<(), ExecError> {
        for &(number, input) in &self.inputs {
            executor.write(self.id, number, input.bytes(batch, states))?;
        }
        match self.passed.zip(passed) {
            Some((number, bytes)) => executor.write(self.id, number, bytes),
            None => Ok(()),
        }
    }
}

/// The number of tokens, out of `left`, in the next batch. A long rest is cut to a size that a plan fits with little
/// padding; a short one is padded, since each further batch reads all weights again.
pub(super) fn chunk(left: usize, ubatch: usize) -> usize {
    let n = left.min(ubatch);
    let fits = padded(n);
    if n <= 32 || fits - n <= n / 8 {
        return n;
    }
    // The largest size below n.
    let power = fits.next_power_of_two();
    if fits == power { power / 4 * 3 } else { power / 2 }
}

/// The rows that a chunk of `n` is padded to.
fn padded(n: usize) -> usize {
    BatchShape::prompt(n, Output::Nothing).rounded(0).n_rows()
}

/// The graph of a batch for a portion of the model, as the architecture builds it. A graph of the whole model with
/// logits must use all of the file's tensors.
pub(in crate::model) fn graph_of(model: &Model, request: &GraphRequest) -> Result<GraphDef, ModelError> {
    let graph = Graph::new();
    let unused = {
        let builder = ModelBuilder::new(&graph, model.gguf(), request);
        let head = model.architecture().build(&builder);
        head.give(&graph, request.shape.outputs);
        if head.has_logits() && request.portion.is_whole() { builder.unused() } else { Vec::new() }
    };
    let def = graph.finish()?;
    if unused.is_empty() {
        return Ok(def);
    }
    let architecture = model.architecture_name().to_string();
    Err(ModelError::UnknownTensors { architecture, names: unused.into_iter().take(5).collect() })
}

/// The graph of a batch for the whole model.
pub(super) fn whole_graph(
    model: &Model,
    shape: BatchShape,
    cache: CacheLayout,
    cache_types: CacheTypes,
) -> Result<GraphDef, ModelError> {
    let sizes = model.architecture().shape();
    let portion = Portion::whole(sizes.n_layer);
    graph_of(model, &GraphRequest { shape, n_pos: sizes.n_pos, cache, cache_types, portion })
}

impl Model {
    /// The graph of a batch of `n_rows` with the logits of `n_outputs` of them. If all rows have logits, each belongs
    /// to a sequence of its own; otherwise the rows are one prompt's, with the logits of the last ones.
    ///
    /// # Errors
    /// [`ModelError::Graph`] if the file's tensors do not fit the graph, [`ModelError::UnknownTensors`] if the graph
    /// does not use all of them.
    pub fn graph(
        &self,
        n_rows: usize,
        n_outputs: usize,
        cache: CacheLayout,
        cache_types: CacheTypes,
    ) -> Result<GraphDef, ModelError> {
        let shape = match n_outputs == n_rows {
            true => BatchShape::decode(n_rows, Output::Logits),
            false => BatchShape {
                outputs: crate::model::OutputCounts::of(Output::Logits, n_outputs),
                ..BatchShape::prompt(n_rows, Output::Logits)
            },
        };
        whole_graph(self, shape, cache, cache_types)
    }

    /// The graphs of every batch that a session of one sequence makes plans for: prompts of up to `ubatch` tokens, and
    /// one token with each of the outputs `wants`.
    ///
    /// # Errors
    /// As [`Model::graph`].
    pub fn graphs_of_session(
        &self,
        ubatch: usize,
        cache: CacheLayout,
        cache_types: CacheTypes,
        wants: &[Output],
    ) -> Result<Vec<GraphDef>, ModelError> {
        let n_vocab = self.architecture().shape().n_vocab;
        let prompts = (1..=ubatch).map(|n| BatchShape::prompt(n, Output::Logits));
        let decoding = wants.iter().map(|&want| BatchShape::decode(1, want));
        let mut shapes: Vec<_> = prompts.chain(decoding).map(|shape| shape.rounded(n_vocab)).collect();
        shapes.dedup();
        shapes.into_iter().map(|shape| whole_graph(self, shape, cache, cache_types)).collect()
    }
}

/// A plan and the times of its steps, for messages and profiles.
pub(super) fn steps_of(executor: &dyn Executor, id: PlanId) -> Result<(&Plan, &[Duration]), ModelError> {
    Ok((executor.plan(id)?, executor.times(id)))
}

#[cfg(test)]
mod tests {
    use super::{chunk, padded};

    #[test]
    fn chunks_cover_a_prompt_with_little_padding() {
        for ubatch in [1, 7, 32, 512] {
            for prompt in 1..2000usize {
                let (mut left, mut computed) = (prompt, 0);
                while left > 0 {
                    let n = chunk(left, ubatch);
                    assert!((1..=ubatch.min(left)).contains(&n), "{n} of {left}");
                    computed += padded(n);
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
