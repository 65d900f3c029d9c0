//! Errors of a graph.

use std::panic::Location;

use crate::tensor::{Desc, LayoutError};

/// Reason why an operator refuses its inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A wrong number of inputs.
    #[error("takes {wanted} inputs, was given {found}")]
    Arity {
        /// Expected count, in words: "2" or "2 or 3".
        wanted: &'static str,
        /// Number of inputs given.
        found: usize,
    },
    /// A rule of the operator that the inputs break.
    #[error("{rule}; the inputs are {}", list(.inputs))]
    Rule {
        /// The rule, with the numbers that matter.
        rule: String,
        /// The given inputs.
        inputs: Vec<Desc>,
    },
    /// The output's dtype and shape do not form a tensor.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl ShapeError {
    /// A broken rule with the inputs that break it.
    pub fn rule(rule: impl Into<String>, inputs: &[Desc]) -> ShapeError {
        ShapeError::Rule { rule: rule.into(), inputs: inputs.to_vec() }
    }
}

fn list(descs: &[Desc]) -> String {
    descs.iter().map(Desc::to_string).collect::<Vec<_>>().join(", ")
}

/// Reason why a graph is invalid.
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
        /// The operator's error.
        #[source]
        error: ShapeError,
    },
    /// A leaf with an invalid description, or declared twice.
    #[error("{leaf} `{name}`: {reason} (at {at})")]
    Leaf {
        /// Kind of leaf.
        leaf: &'static str,
        /// The leaf's name.
        name: String,
        /// The line that declared it.
        at: &'static Location<'static>,
        /// Description of the fault.
        reason: String,
    },
    /// An operator has more or fewer outputs than requested.
    #[error("`{operator}` has {found} outputs, {wanted} are asked for (at {at})")]
    OutputCount {
        /// The operator's name.
        operator: &'static str,
        /// Number of outputs requested.
        wanted: usize,
        /// Number of outputs that the operator has.
        found: usize,
        /// The line that called the operator.
        at: &'static Location<'static>,
    },
    /// Two outputs of the same name.
    #[error("there is an output named `{name}` already (at {at})")]
    DuplicateOutput {
        /// The output's name.
        name: String,
        /// The line that declared it.
        at: &'static Location<'static>,
    },
    /// An output that is not contiguous.
    #[error("output `{name}` is a view with gaps, {desc}: make it contiguous with `copy` (at {at})")]
    OutputLayout {
        /// The output's name.
        name: String,
        /// The line that declared it.
        at: &'static Location<'static>,
        /// The output's description.
        desc: Desc,
    },
    /// A graph that computes nothing.
    #[error("the graph has no output: call `graph.output(name, tensor)` before `finish`")]
    NoOutput,
    /// A graph that breaks its own invariants; a bug in the pass that made it.
    #[error("the graph is not legal after `{pass}`: {reason}")]
    Illegal {
        /// The pass that ran last.
        pass: &'static str,
        /// The broken invariant.
        reason: String,
    },
}

fn named(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default()
}
