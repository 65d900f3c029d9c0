//! Validity of the stages between graph and plan: an order and a placement. Checked in debug builds; `check` checks the
//! finished plan.

use super::connect::overlap;
use super::place::{Placement, steps};
use crate::graph::{GraphDef, GraphError, Memory, NodeId};

/// An order is valid if it contains every node once, after all of its inputs.
pub fn check_order(graph: &GraphDef, order: &[NodeId]) -> Result<(), GraphError> {
    let illegal = |reason: String| Err(GraphError::Illegal { pass: "order", reason });
    let mut done = vec![false; graph.len()];
    for &id in order {
        let node = graph.node(id);
        if let Some(&input) = node.inputs().iter().find(|input| !done[input.index()]) {
            return illegal(format!("`{}` runs before its input `{}`", node.name, graph.node(input).name));
        }
        if std::mem::replace(&mut done[id.index()], true) {
            return illegal(format!("`{}` runs twice", node.name));
        }
    }
    match graph.ids().find(|id| !done[id.index()]) {
        Some(id) => illegal(format!("`{}` never runs", graph.node(id).name)),
        None => Ok(()),
    }
}

/// A placement is valid if everything is inside the arena, and no step overwrites bytes that a later step, or an
/// output, reads as another value.
pub fn check_placement(graph: &GraphDef, order: &[NodeId], placement: &Placement) -> Result<(), GraphError> {
    let illegal = |reason: String| Err(GraphError::Illegal { pass: "place", reason });
    let steps = steps(graph, order);
    // The last step that reads each value: past all steps for outputs, and for inputs, which are kept.
    let mut last: Vec<usize> = vec![0; graph.len()];
    for (step, id) in steps.iter().enumerate() {
        graph.node(*id).inputs().iter().for_each(|&input| last[graph.root(input).0.index()] = step);
    }
    let outputs = graph.outputs().iter().map(|(_, id)| graph.root(*id).0);
    let inputs = graph.ids().filter(|&id| graph.node(id).is_leaf());
    outputs.chain(inputs).for_each(|root| last[root.index()] = usize::MAX);

    let range = |root: NodeId| {
        let bytes = graph.node(root).desc.extent();
        placement.values.get(&root).map(|&offset| offset..offset + bytes)
    };
    let mut alive: Vec<NodeId> =
        placement.values.keys().copied().filter(|&id| graph.node(id).is_leaf()).collect();
    for (step, &id) in steps.iter().enumerate() {
        let name = &graph.node(id).name;
        let made: Vec<NodeId> =
            graph.step_outputs(id).filter(|output| placement.values.contains_key(output)).collect();
        let scratch = placement.scratch.get(&id).map(|&(offset, bytes)| (None, offset..offset + bytes));
        let outputs = made.iter().filter_map(|&output| Some((Some(output), range(output)?)));
        let written: Vec<_> = outputs.chain(scratch).collect();
        for (i, (output, bytes)) in written.iter().enumerate() {
            if bytes.end > placement.arena {
                return illegal(format!("`{name}` reaches past the arena's {} bytes", placement.arena));
            }
            if written[..i].iter().any(|(_, other)| overlap(other, bytes)) {
                return illegal(format!(
                    "`{name}` writes two of its outputs, or scratch memory, over each other"
                ));
            }
            let in_place = output.is_some_and(|id| matches!(graph.memory(id), Some(Memory::InPlace(_))));
            let hit = alive.iter().find(|&&other| {
                let kept = if in_place { last[other.index()] > step } else { last[other.index()] >= step };
                kept && range(other).is_some_and(|other| overlap(&other, bytes))
            });
            if let Some(&other) = hit {
                let other = &graph.node(other).name;
                return illegal(format!("`{name}` writes over `{other}`, which is still read"));
            }
        }
        alive.retain(|other| last[other.index()] > step);
        alive.extend(made);
    }
    Ok(())
}
