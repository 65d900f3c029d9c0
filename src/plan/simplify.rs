//! Simplify: removes unused nodes, merges equal nodes, and collapses views of views.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use smallvec::SmallVec;

use super::CompileError;
use crate::graph::{AnyOperator, GraphDef, Leaf, Memory, Node, NodeId, NodeKind};

/// The same outputs from fewer nodes.
pub fn simplify(graph: &GraphDef) -> Result<GraphDef, CompileError> {
    let needed = reachable(graph);
    let mut out = GraphDef::default();
    let mut moved: Vec<Option<NodeId>> = vec![None; graph.len()];
    let mut known: BTreeMap<Key, SmallVec<[NodeId; 1]>> = BTreeMap::new();
    for id in graph.ids().filter(|id| needed[id.index()]) {
        let node = remapped(graph.node(id), &moved);
        if let Some(same) = identity(graph, id, &node) {
            moved[id.index()] = Some(same);
            continue;
        }
        let Some(key) = key(graph, id, &node) else {
            moved[id.index()] = Some(out.add(node));
            continue;
        };
        let alike = known.entry(key).or_default();
        let mut equal = None;
        for &other in &*alike {
            if are_equal(out.node(other), &node)? {
                equal = Some(other);
                break;
            }
        }
        let new = equal.unwrap_or_else(|| {
            let new = out.add(node);
            alike.push(new);
            new
        });
        moved[id.index()] = Some(new);
    }
    for (name, id) in graph.outputs() {
        if let Some(id) = moved[id.index()] {
            out.add_output(name.clone(), id);
        }
    }
    Ok(out)
}

/// A node with its inputs mapped to their new ids.
pub(super) fn remapped(node: &Node, moved: &[Option<NodeId>]) -> Node {
    let mut node = node.clone();
    // Inputs come before their users, so each already has its new id.
    let new = |input: &mut NodeId| *input = moved[input.index()].unwrap_or(*input);
    match &mut node.kind {
        NodeKind::Leaf(_) => {}
        NodeKind::Op { inputs, .. } => inputs.iter_mut().for_each(new),
        NodeKind::Output { of, .. } => new(of),
    }
    node
}

/// The nodes that are needed: those that an output reads, those that write a state (an effect that persists after the
/// run), and all inputs, so that a caller can set every declared one. An operator keeps all of its outputs.
pub(super) fn reachable(graph: &GraphDef) -> Vec<bool> {
    let mut needed = vec![false; graph.len()];
    let writes = |id: NodeId| graph.written_state(id).is_some();
    let mut open: Vec<NodeId> = graph.outputs().iter().map(|(_, id)| *id).collect();
    let is_input = |id: NodeId| matches!(graph.node(id).kind, NodeKind::Leaf(Leaf::Input));
    open.extend(graph.ids().filter(|&id| writes(id) || is_input(id)));
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut needed[id.index()], true) {
            open.extend(graph.node(id).inputs());
            open.extend(graph.step_outputs(id));
        }
    }
    needed
}

/// The input that a node is identical to: the node is a view that changes nothing.
fn identity(graph: &GraphDef, id: NodeId, node: &Node) -> Option<NodeId> {
    match graph.memory(id)? {
        Memory::View { input, offset: 0 } => {
            let source = graph.node(*graph.node(id).inputs().get(input)?);
            (source.desc == node.desc).then(|| node.inputs()[input])
        }
        _ => None,
    }
}

/// Equal values have equal keys. Attributes are not part of it: to serialize those of every operator took a third of the
/// time of this pass, and few nodes have the same operator and inputs.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: &'static str,
    inputs: SmallVec<[NodeId; 4]>,
    /// The number of a further output, or a hash of a constant's bytes.
    number: u64,
}

/// `None` for a node that is never merged with another.
fn key(graph: &GraphDef, id: NodeId, node: &Node) -> Option<Key> {
    match &node.kind {
        NodeKind::Leaf(Leaf::Constant(bytes)) => {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            Some(Key { kind: "constant", inputs: SmallVec::new(), number: hasher.finish() })
        }
        NodeKind::Leaf(_) => None,
        // Writing twice differs from writing once.
        NodeKind::Op { .. } if graph.step_outputs(id).any(|output| graph.written_state(output).is_some()) => {
            None
        }
        NodeKind::Output { of, index } => {
            Some(Key { kind: "output", inputs: SmallVec::from_slice(&[*of]), number: u64::from(*index) })
        }
        NodeKind::Op { op, inputs } => Some(Key { kind: op.name(), inputs: inputs.clone(), number: 0 }),
    }
}

/// True if two nodes with the same key are equal.
fn are_equal(a: &Node, b: &Node) -> Result<bool, CompileError> {
    let attributes = |node: &Node, op: &dyn AnyOperator| {
        op.attributes().map_err(|error| CompileError::attributes(node, error))
    };
    Ok(match (&a.kind, &b.kind) {
        (NodeKind::Leaf(Leaf::Constant(of_a)), NodeKind::Leaf(Leaf::Constant(of_b))) => {
            a.desc == b.desc && of_a == of_b
        }
        (NodeKind::Op { op: of_a, .. }, NodeKind::Op { op: of_b, .. }) => {
            attributes(a, &**of_a)? == attributes(b, &**of_b)?
        }
        (NodeKind::Output { .. }, NodeKind::Output { .. }) => true,
        _ => false,
    })
}
