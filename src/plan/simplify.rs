//! Simplify: removes unused nodes, merges equal nodes, and collapses views of views.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::CompileError;
use crate::graph::{GraphDef, Leaf, Memory, Node, NodeId, NodeKind};

/// The same outputs from fewer nodes.
pub fn simplify(graph: &GraphDef) -> Result<GraphDef, CompileError> {
    let needed = reachable(graph);
    let mut out = GraphDef::default();
    let mut moved: Vec<Option<NodeId>> = vec![None; graph.len()];
    let mut known: BTreeMap<Key, NodeId> = BTreeMap::new();
    for id in graph.ids().filter(|id| needed[id.index()]) {
        let node = remapped(graph.node(id), &moved);
        if let Some(same) = identity(graph, id, &node) {
            moved[id.index()] = Some(same);
            continue;
        }
        let key = key(graph, id, &node)?;
        let known_as = key.as_ref().and_then(|key| known.get(key)).copied();
        let new = known_as.unwrap_or_else(|| out.add(node));
        if let Some(key) = key {
            known.insert(key, new);
        }
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

/// Identifies equal values: operator, attributes and inputs; a further output's operator and number; or a constant's
/// bytes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: &'static str,
    attributes: String,
    bytes: Vec<u8>,
    inputs: SmallVec<[NodeId; 4]>,
}

fn key(graph: &GraphDef, id: NodeId, node: &Node) -> Result<Option<Key>, CompileError> {
    Ok(match &node.kind {
        NodeKind::Leaf(Leaf::Constant(bytes)) => Some(Key {
            kind: "constant",
            attributes: node.desc.to_string(),
            bytes: bytes.to_vec(),
            inputs: SmallVec::new(),
        }),
        NodeKind::Leaf(_) => None,
        // Writing twice differs from writing once.
        NodeKind::Op { .. } if graph.step_outputs(id).any(|output| graph.written_state(output).is_some()) => {
            None
        }
        NodeKind::Output { of, index } => Some(Key {
            kind: "output",
            attributes: index.to_string(),
            bytes: Vec::new(),
            inputs: SmallVec::from_slice(&[*of]),
        }),
        NodeKind::Op { op, inputs } => {
            let attributes = op.attributes().map_err(|error| CompileError::attributes(node, error))?;
            Some(Key {
                kind: op.name(),
                attributes: attributes.to_string(),
                bytes: Vec::new(),
                inputs: inputs.clone(),
            })
        }
    })
}
