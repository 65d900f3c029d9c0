//! What can be wrong with a graph.

use std::panic::Location;

use crate::tensor::{Desc, LayoutError};

/// Why an operator refuses its inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A wrong number of inputs.
    #[error("takes {wanted} inputs, was given {found}")]
    Arity {
        /// How many, in words: "2" or "2 or 3".
        wanted: &'static str,
        /// How many there were.
        found: usize,
    },
    /// A rule of the operator that the inputs break.
    #[error("{rule}; the inputs are {}", list(.inputs))]
    Rule {
        /// What the operator wants, with the numbers that matter.
        rule: String,
        /// The inputs as they are.
        inputs: Vec<Desc>,
    },
    /// The output is no tensor.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl ShapeError {
    /// A broken rule, with the inputs that break it.
    pub fn rule(rule: impl Into<String>, inputs: &[Desc]) -> ShapeError {
        ShapeError::Rule { rule: rule.into(), inputs: inputs.to_vec() }
    }
}

fn list(descs: &[Desc]) -> String {
    descs.iter().map(Desc::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a graph is not a graph.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An operator refused its inputs.
    #[error("`{operator}`{}: {error} (at {at})", named(.name))]
    Shape {
        /// The operator's name.
        operator: &'static str,
        /// The node's name, if it was given one before the error.
        name: Option<String>,
        /// The line that called the operator.
        at: &'static Location<'static>,
        /// What was wrong.
        #[source]
        error: ShapeError,
    },
    /// A leaf that is no tensor, or is declared twice.
    #[error("{leaf} `{name}`: {reason} (at {at})")]
    Leaf {
        /// What kind of leaf.
        leaf: &'static str,
        /// The leaf's name.
        name: String,
        /// The line that declared it.
        at: &'static Location<'static>,
        /// What was wrong.
        reason: String,
    },
    /// An operator that was asked for more or fewer outputs than it has.
    #[error("`{operator}` has {found} outputs, {wanted} are asked for (at {at})")]
    OutputCount {
        /// The operator's name.
        operator: &'static str,
        /// How many were asked for.
        wanted: usize,
        /// How many it has.
        found: usize,
        /// The line that called the operator.
        at: &'static Location<'static>,
    },
    /// Two outputs of one name.
    #[error("there is an output named `{name}` already (at {at})")]
    DuplicateOutput {
        /// The output's name.
        name: String,
        /// The line that declared it.
        at: &'static Location<'static>,
    },
    /// An output whose elements do not lie one after another.
    #[error("output `{name}` is a view with gaps, {desc}: make it contiguous with `copy` (at {at})")]
    OutputLayout {
        /// The output's name.
        name: String,
        /// The line that declared it.
        at: &'static Location<'static>,
        /// What it is.
        desc: Desc,
    },
    /// A graph that computes nothing.
    #[error("the graph has no output: call `graph.output(name, tensor)` before `finish`")]
    NoOutput,
    /// A graph that breaks its own rules; a defect of the pass that made it.
    #[error("the graph is not legal after `{pass}`: {reason}")]
    Illegal {
        /// The pass that ran last.
        pass: &'static str,
        /// The broken rule.
        reason: String,
    },
}

fn named(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default()
}
