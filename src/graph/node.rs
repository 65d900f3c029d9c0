//! A node: a leaf or an operator with its inputs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::AnyOperator;
use crate::tensor::Desc;

/// Identifies a node within its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// The node's index in the graph's node table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Assignment of a state's slots, which its last dimension counts, to sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateKind {
    /// One position per slot, assigned to sequences by block tables: keys and values.
    Paged,
    /// One sequence or snapshot per slot: a convolution's last inputs, the matrix of a scan.
    Recurrent,
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateKind::Paged => "paged",
            StateKind::Recurrent => "recurrent",
        })
    }
}

/// A node without inputs, by the origin of its memory.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Leaf {
    /// Set for a run, and kept until it is set again.
    Input,
    /// Bound by name when an executor is made; read-only.
    Weight,
    /// Bytes that are part of the graph.
    Constant(Arc<[u8]>),
    /// Memory that persists between runs and is written by operators that declare it.
    State(StateKind),
}

impl Leaf {
    /// The kind in one word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Leaf::Input => "input",
            Leaf::Weight => "weight",
            Leaf::Constant(_) => "constant",
            Leaf::State(_) => "state",
        }
    }
}

/// Kind of a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NodeKind {
    /// A node without inputs.
    Leaf(Leaf),
    /// An operator and its inputs, in the operator's order.
    Op {
        /// The operator with its attributes.
        op: Arc<dyn AnyOperator>,
        /// Its inputs.
        inputs: SmallVec<[NodeId; 4]>,
    },
    /// A further output of an operator with several outputs. The operator's own node is its first output; the others
    /// follow it directly, in order, and run nothing themselves.
    Output {
        /// The operator's node.
        of: NodeId,
        /// The output's number, counted from 1.
        index: u32,
    },
}

/// A node of a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// A human-readable name: given by the model code, or the operator's name and a number.
    pub name: String,
    /// Leaf, operator or further output.
    pub kind: NodeKind,
    /// Dtype, shape and strides of the value.
    pub desc: Desc,
}

impl Node {
    /// The nodes that this one depends on: an operator's inputs, a further output's operator; empty for a leaf.
    pub fn inputs(&self) -> &[NodeId] {
        match &self.kind {
            NodeKind::Leaf(_) => &[],
            NodeKind::Op { inputs, .. } => inputs,
            NodeKind::Output { of, .. } => std::slice::from_ref(of),
        }
    }

    /// The operator, if the node is one; `None` for a further output: see
    /// [`GraphDef::operator`](super::GraphDef::operator).
    pub fn op(&self) -> Option<&Arc<dyn AnyOperator>> {
        match &self.kind {
            NodeKind::Op { op, .. } => Some(op),
            NodeKind::Leaf(_) | NodeKind::Output { .. } => None,
        }
    }

    /// True if the node is a state.
    pub fn is_state(&self) -> bool {
        matches!(self.kind, NodeKind::Leaf(Leaf::State(_)))
    }

    /// True if the node is a leaf.
    pub fn is_leaf(&self) -> bool {
        matches!(self.kind, NodeKind::Leaf(_))
    }

    /// The operator, if the node is one of this type.
    pub fn op_as<T: 'static>(&self) -> Option<&T> {
        self.op().and_then(|op| op.as_any().downcast_ref())
    }
}
