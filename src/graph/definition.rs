//! A finished graph: the data that the passes of `plan` read and rewrite.

use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use smallvec::SmallVec;

use super::{AnyOperator, GraphError, Memory, Node, NodeId, NodeKind};
use crate::tensor::Desc;

/// A finished graph: nodes, each after its inputs, and the named outputs.
///
/// A petgraph directed graph inside; edges point from an input to its user. Passes build a new graph from an old one,
/// so every node always follows its inputs.
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

    /// Adds an operator with its outputs and returns the operator's node, which is the first output; the others follow
    /// it. `None` if `outputs` is empty.
    pub(crate) fn add_operator(
        &mut self,
        name: String,
        op: Arc<dyn AnyOperator>,
        inputs: SmallVec<[NodeId; 4]>,
        outputs: &[Desc],
    ) -> Option<NodeId> {
        let (&desc, further) = outputs.split_first()?;
        let of = self.add(Node { name: name.clone(), kind: NodeKind::Op { op, inputs }, desc });
        for (index, &desc) in (1..).zip(further) {
            let kind = NodeKind::Output { of, index };
            self.add(Node { name: format!("{name}.{index}"), kind, desc });
        }
        Some(of)
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

    /// True if the graph has no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A node of this graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.graph[NodeIndex::new(id.index())]
    }

    /// The ids of all nodes, inputs before users.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        (0..self.len() as u32).map(NodeId)
    }

    /// The nodes that read this one, once per operand.
    pub fn users(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.graph.neighbors(NodeIndex::new(id.index())).map(|index| NodeId(index.index() as u32))
    }

    /// The named outputs.
    pub fn outputs(&self) -> &[(String, NodeId)] {
        &self.outputs
    }

    /// The descriptions of a node's inputs.
    pub fn input_descs(&self, id: NodeId) -> SmallVec<[Desc; 4]> {
        self.node(id).inputs().iter().map(|&input| self.node(input).desc).collect()
    }

    /// The node whose step computes this value: the operator of a further output, otherwise the node itself.
    pub fn step_of(&self, id: NodeId) -> NodeId {
        match self.node(id).kind {
            NodeKind::Output { of, .. } => of,
            NodeKind::Leaf(_) | NodeKind::Op { .. } => id,
        }
    }

    /// An operator's node and its further outputs, in order.
    pub fn step_outputs(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let follows =
            move |next: &NodeId| matches!(self.node(*next).kind, NodeKind::Output { of, .. } if of == id);
        std::iter::once(id).chain((id.0 + 1..self.len() as u32).map(NodeId).take_while(follows))
    }

    /// The operator that makes this value; `None` for a leaf.
    pub fn operator(&self, id: NodeId) -> Option<&Arc<dyn AnyOperator>> {
        self.node(self.step_of(id)).op()
    }

    /// The inputs of the operator that makes this value, which [`Memory`] indexes; empty for a leaf.
    pub fn operands(&self, id: NodeId) -> &[NodeId] {
        self.node(self.step_of(id)).inputs()
    }

    /// Memory of the node's value; `None` for a leaf.
    pub fn memory(&self, id: NodeId) -> Option<Memory> {
        match &self.node(id).kind {
            NodeKind::Leaf(_) => None,
            NodeKind::Op { op, .. } => Some(op.memory(&self.input_descs(id))),
            NodeKind::Output { of, index } => {
                let further = self.node(*of).op()?.further_outputs(&self.input_descs(*of)).ok()?;
                further.get((*index as usize).checked_sub(1)?).map(|output| output.memory)
            }
        }
    }

    /// The state that this output writes, one of its operator's inputs; `None` if it does not write a state.
    pub fn written_state(&self, id: NodeId) -> Option<NodeId> {
        match self.memory(id)? {
            Memory::WritesState(input) => self.operands(id).get(input).copied(),
            Memory::Fresh | Memory::InPlace(_) | Memory::View { .. } => None,
        }
    }

    /// The node that owns the memory of this value, and the offset in it: views and state writers own none.
    pub fn root(&self, mut id: NodeId) -> (NodeId, usize) {
        let mut total = 0;
        loop {
            match self.memory(id) {
                Some(Memory::View { input, offset }) => {
                    total += offset;
                    id = self.operands(id)[input];
                }
                Some(Memory::WritesState(input)) => id = self.operands(id)[input],
                Some(Memory::Fresh | Memory::InPlace(_)) | None => return (id, total),
            }
        }
    }

    /// The node that produced this value's bytes: a view has the content of its input, a state writer makes new
    /// content.
    pub fn content(&self, mut id: NodeId) -> NodeId {
        while let Some(Memory::View { input, .. }) = self.memory(id) {
            id = self.operands(id)[input];
        }
        id
    }

    /// Checks the graph's invariants: inputs come before their users, further outputs directly after their operator,
    /// every description is the one that the operator infers, views stay inside their roots, and only states are
    /// written, each by one output of an operator.
    pub fn check(&self, pass: &'static str) -> Result<(), GraphError> {
        let illegal = |reason: String| GraphError::Illegal { pass, reason };
        for id in self.ids() {
            let node = self.node(id);
            if let Some(&late) = node.inputs().iter().find(|&&input| input >= id) {
                let reason = format!("`{}` reads node {} before it is made", node.name, late.index());
                return Err(illegal(reason));
            }
            match node.kind {
                NodeKind::Leaf(_) => continue,
                NodeKind::Op { .. } => self.check_outputs(id).map_err(illegal)?,
                NodeKind::Output { of, .. } => {
                    if !self.step_outputs(of).any(|output| output == id) {
                        return Err(illegal(format!("`{}` does not follow its operator", node.name)));
                    }
                }
            }
            self.check_place(id).map_err(illegal)?;
        }
        match self.outputs.iter().find(|(_, id)| id.index() >= self.len()) {
            Some((name, _)) => Err(illegal(format!("output `{name}` is not a node"))),
            None => Ok(()),
        }
    }

    /// The operator's outputs are the inferred ones, and no two of them write the same state.
    fn check_outputs(&self, id: NodeId) -> Result<(), String> {
        let node = self.node(id);
        let Some(op) = node.op() else { return Ok(()) };
        let inputs = self.input_descs(id);
        let wanted = op.outputs(&inputs).map_err(|error| format!("`{}`: {error}", node.name))?;
        let found: SmallVec<[NodeId; 2]> = self.step_outputs(id).collect();
        if found.len() != wanted.len() {
            return Err(format!(
                "`{}` has {} outputs, its operator says {}",
                node.name,
                found.len(),
                wanted.len()
            ));
        }
        for ((index, &output), desc) in (0..).zip(&found).zip(wanted) {
            let output = self.node(output);
            if output.desc != desc {
                return Err(format!("`{}` is {}, its operator says {desc}", output.name, output.desc));
            }
            if matches!(output.kind, NodeKind::Output { index: found, .. } if found != index) {
                return Err(format!("`{}` is not output {index} of `{}`", output.name, node.name));
            }
        }
        let views = matches!(op.memory(&inputs), Memory::View { .. });
        if views && found.len() > 1 {
            return Err(format!(
                "`{}` is a view, for which nothing runs, and has further outputs",
                node.name
            ));
        }
        let written: SmallVec<[NodeId; 2]> = found
            .iter()
            .filter_map(|&output| self.written_state(output))
            .map(|state| self.root(state).0)
            .collect();
        match (1..written.len()).find(|&i| written[..i].contains(&written[i])) {
            Some(i) => {
                Err(format!("two outputs of `{}` write into `{}`", node.name, self.node(written[i]).name))
            }
            None => Ok(()),
        }
    }

    /// A value stays inside its root; a further output shares memory only with a state, and only states are written.
    fn check_place(&self, id: NodeId) -> Result<(), String> {
        let (node, memory) = (self.node(id), self.memory(id));
        let is_further = matches!(node.kind, NodeKind::Output { .. });
        if is_further && !matches!(memory, Some(Memory::Fresh | Memory::WritesState(_))) {
            return Err(format!("`{}` is a further output, which must be fresh or write a state", node.name));
        }
        let (root, offset) = self.root(id);
        let root = self.node(root);
        let end = offset.checked_add(node.desc.extent());
        if end.is_none_or(|end| end > root.desc.extent()) {
            return Err(format!("`{}` reaches past the end of `{}`", node.name, root.name));
        }
        if matches!(memory, Some(Memory::WritesState(_))) && !root.is_state() {
            return Err(format!("`{}` writes into `{}`, which is not a state", node.name, root.name));
        }
        Ok(())
    }
}
