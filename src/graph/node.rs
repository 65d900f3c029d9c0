//! A node: a leaf or an operator with its inputs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::AnyOperator;
use crate::tensor::Desc;

/// Names a node within its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// The node's place in the graph's table of nodes.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node without inputs: what its memory is.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// Given anew for a run, and kept until it is given again.
    Input,
    /// Bound by name when an executor is made; read only.
    Weight,
    /// Bytes that are part of the graph.
    Constant(Arc<[u8]>),
    /// Memory that outlives a run and is written by operators that say so (a KV cache).
    State,
}

impl Leaf {
    /// The kind in one word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Leaf::Input => "input",
            Leaf::Weight => "weight",
            Leaf::Constant(_) => "constant",
            Leaf::State => "state",
        }
    }
}

/// What a node is.
#[derive(Clone, Debug)]
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
}

/// A node of a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// A name for people: given by the model code, or made of the operator's name and a number.
    pub name: String,
    /// Leaf or operator.
    pub kind: NodeKind,
    /// Dtype, shape and strides of the value.
    pub desc: Desc,
}

impl Node {
    /// The inputs; none for a leaf.
    pub fn inputs(&self) -> &[NodeId] {
        match &self.kind {
            NodeKind::Leaf(_) => &[],
            NodeKind::Op { inputs, .. } => inputs,
        }
    }

    /// The operator, if the node is one.
    pub fn op(&self) -> Option<&Arc<dyn AnyOperator>> {
        match &self.kind {
            NodeKind::Leaf(_) => None,
            NodeKind::Op { op, .. } => Some(op),
        }
    }

    /// The operator, if the node is one of this type.
    pub fn op_as<T: 'static>(&self) -> Option<&T> {
        self.op().and_then(|op| op.as_any().downcast_ref())
    }
}
