//! The end of a model: the final norm, the output matrix, and the outputs of the wanted rows.

use super::ModelBuilder;
use super::shape::OutputCounts;
use crate::graph::{Graph, Tensor};
use crate::ops::ChosenWeights;

/// The end of a model's graph, made by [`ModelBuilder::head`].
#[derive(Clone, Copy, Debug)]
#[must_use = "an architecture gives its end to the session"]
pub struct Head<'g> {
    /// The input of the next portion.
    passed: Option<Tensor<'g>>,
    /// Logits of the rows that need them, F32 `[n_vocab, rows]`.
    logits: Option<Tensor<'g>>,
    /// Hidden states after the last norm, F32 `[n_embd, rows]`.
    hidden: Option<Tensor<'g>>,
}

/// The name of a portion's output for the next portion, and of that portion's input.
pub(in crate::model) const PASSED: &str = "hidden";

/// The names of a graph's outputs.
pub(in crate::model) const LOGITS: &str = "logits";
pub(in crate::model) const TOP_IDS: &str = "top_ids";
pub(in crate::model) const TOP_LOGITS: &str = "top_logits";
pub(in crate::model) const ARGMAX: &str = "largest";
pub(in crate::model) const HIDDEN: &str = "states";

impl<'g> ModelBuilder<'g, '_> {
    /// The end of a model: `norm` computes the final hidden states from the last layer's output, and `output` computes
    /// logits, F32 `[n_vocab, rows]`, from the hidden states. Only the outputs that the batch's rows want are computed;
    /// a portion that is not the model's last passes its layers' output on.
    pub fn head(
        &self,
        x: Tensor<'g>,
        norm: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
        output: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
    ) -> Head<'g> {
        if !self.portion.head {
            return Head { passed: Some(x), logits: None, hidden: None };
        }
        let (states, outputs) = (norm(x), self.shape.outputs);
        if outputs.rows == 0 {
            return Head { passed: None, logits: None, hidden: Some(states) };
        }
        if outputs.hidden == 0 {
            return Head { passed: None, logits: Some(output(states)), hidden: None };
        }
        let hidden = states.slice(1, outputs.rows, outputs.hidden);
        Head { passed: None, logits: Some(output(states.slice(1, 0, outputs.rows))), hidden: Some(hidden) }
    }
}

impl Head<'_> {
    /// The graph has logits: only then it uses all tensors of a file.
    pub(in crate::model) fn has_logits(&self) -> bool {
        self.logits.is_some()
    }

    /// Names the graph's outputs.
    pub(in crate::model) fn give(&self, graph: &Graph, counts: OutputCounts) {
        if let Some(x) = self.passed {
            graph.output(PASSED, x);
        }
        if let Some(hidden) = self.hidden {
            graph.output(HIDDEN, hidden);
        }
        let Some(logits) = self.logits else { return };
        if counts.logits > 0 {
            let all = counts.logits == counts.rows;
            graph.output(LOGITS, if all { logits } else { logits.slice(1, 0, counts.logits) });
        }
        if counts.k > 0 {
            let ids = logits.top_k(counts.k);
            graph.output(TOP_IDS, ids);
            graph.output(TOP_LOGITS, logits.expert_weights(ids, ChosenWeights::Given, 1.0));
        }
        if counts.argmax {
            graph.output(ARGMAX, logits.argmax());
        }
    }
}
