//! A finished graph: what the passes of `plan` read and rewrite.

use petgraph::graph::{DiGraph, NodeIndex};

use super::{GraphError, Leaf, Memory, Node, NodeId, NodeKind};
use crate::tensor::Desc;

/// A finished graph: nodes, each after its inputs, and the named outputs.
///
/// It is a petgraph directed graph inside; edges point from an input to its user. Passes build a
/// new graph from an old one, so every node always stands after its inputs.
#[derive(Clone, Debug, Default)]
pub struct GraphDef {
    graph: DiGraph<Node, (), u32>,
    outputs: Vec<(String, NodeId)>,
}

impl GraphDef {
    /// Adds a node after all others. Its inputs must be nodes of this graph.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let inputs = node.inputs().to_vec();
        let index = self.graph.add_node(node);
        for input in inputs {
            self.graph.add_edge(NodeIndex::new(input.index()), index, ());
        }
        NodeId(index.index() as u32)
    }

    pub(crate) fn add_output(&mut self, name: String, id: NodeId) {
        self.outputs.push((name, id));
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.graph[NodeIndex::new(id.index())]
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A node of this graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.graph[NodeIndex::new(id.index())]
    }

    /// Every node's name for it, inputs before users.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        (0..self.len() as u32).map(NodeId)
    }

    /// The nodes that read this one, once for each operand that they read.
    pub fn users(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.graph.neighbors(NodeIndex::new(id.index())).map(|index| NodeId(index.index() as u32))
    }

    /// The named outputs.
    pub fn outputs(&self) -> &[(String, NodeId)] {
        &self.outputs
    }

    /// The descriptions of a node's inputs.
    pub fn input_descs(&self, id: NodeId) -> smallvec::SmallVec<[Desc; 4]> {
        self.node(id).inputs().iter().map(|&input| self.node(input).desc).collect()
    }

    /// What the node's value is in memory; `None` for a leaf.
    pub fn memory(&self, id: NodeId) -> Option<Memory> {
        self.node(id).op().map(|op| op.memory(&self.input_descs(id)))
    }

    /// The node whose memory this value lies in, and the offset in it: views and writers of a state
    /// have none of their own.
    pub fn root(&self, mut id: NodeId) -> (NodeId, usize) {
        let mut total = 0;
        loop {
            match self.memory(id) {
                Some(Memory::View { input, offset }) => {
                    total += offset;
                    id = self.node(id).inputs()[input];
                }
                Some(Memory::WritesState(input)) => id = self.node(id).inputs()[input],
                Some(Memory::Fresh | Memory::InPlace(_)) | None => return (id, total),
            }
        }
    }

    /// The node that made this value's bytes what they are: a view has the content of what it looks at, a
    /// writer of a state makes a new one.
    pub fn content(&self, mut id: NodeId) -> NodeId {
        while let Some(Memory::View { input, .. }) = self.memory(id) {
            id = self.node(id).inputs()[input];
        }
        id
    }

    /// Checks the legal form: inputs stand before their users, every description is what the
    /// operator infers, views stay inside their roots, and only states are written.
    pub fn check(&self, pass: &'static str) -> Result<(), GraphError> {
        let illegal = |reason: String| Err(GraphError::Illegal { pass, reason });
        for id in self.ids() {
            let node = self.node(id);
            if let Some(&late) = node.inputs().iter().find(|&&input| input >= id) {
                return illegal(format!("`{}` reads node {} before it is made", node.name, late.index()));
            }
            let NodeKind::Op { op, .. } = &node.kind else { continue };
            match op.infer(&self.input_descs(id)) {
                Ok(desc) if desc == node.desc => {}
                Ok(desc) => {
                    return illegal(format!("`{}` is {}, its operator says {desc}", node.name, node.desc));
                }
                Err(error) => return illegal(format!("`{}`: {error}", node.name)),
            }
            let (root, offset) = self.root(id);
            let end = offset.checked_add(node.desc.extent());
            if end.is_none_or(|end| end > self.node(root).desc.extent()) {
                return illegal(format!(
                    "`{}` reaches past the end of `{}`",
                    node.name,
                    self.node(root).name
                ));
            }
            let is_state = matches!(self.node(root).kind, NodeKind::Leaf(Leaf::State));
            if matches!(self.memory(id), Some(Memory::WritesState(_))) && !is_state {
                return illegal(format!(
                    "`{}` writes into `{}`, which is no state",
                    node.name,
                    self.node(root).name
                ));
            }
        }
        match self.outputs.iter().find(|(_, id)| id.index() >= self.len()) {
            Some((name, _)) => illegal(format!("output `{name}` is no node")),
            None => Ok(()),
        }
    }
}
