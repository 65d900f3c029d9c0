//! Lower: turns every node that runs into a step, and assembles the plan.

use std::collections::BTreeMap;

use super::CompileError;
use super::connect::connect;
use super::data::{DeviceDesc, LeafSlot, Operand, Place, Plan, Port, StateSlot, Step};
use super::demands::{Demands, demands};
use super::place::{Placement, steps};
use crate::device::{Command, Source, Variant};
use crate::graph::{GraphDef, Leaf, NodeId, NodeKind};

/// The plan of a graph with this order of nodes and this placement.
pub fn lower(
    graph: &GraphDef,
    order: &[NodeId],
    placement: &Placement,
    device: &DeviceDesc,
) -> Result<Plan, CompileError> {
    let mut plan = Plan {
        device: device.clone(),
        arena: placement.arena,
        lower_bound: placement.lower_bound,
        weights: Vec::new(),
        states: Vec::new(),
        constants: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        steps: Vec::new(),
        edges: Vec::new(),
    };
    let roots = leaves(graph, placement, &mut plan);
    let operand = |id: NodeId| operand(graph, &roots, id);
    for id in graph.ids() {
        if matches!(graph.node(id).kind, NodeKind::Leaf(Leaf::Input)) {
            plan.inputs.push(Port { name: graph.node(id).name.clone(), operand: operand(id) });
        }
    }
    for (name, id) in graph.outputs() {
        plan.outputs.push(Port { name: name.clone(), operand: operand(*id) });
    }
    for id in steps(graph, order) {
        let node = graph.node(id);
        let Some(op) = node.op() else { continue };
        let Demands { product, commands, .. } = demands(graph, id, device)?;
        let kernel = match (product, node.inputs().first()) {
            (Some(product), Some(&weight)) => {
                let dtype = graph.node(weight).desc.dtype.name().to_lowercase();
                format!("{}_{dtype}_{product}", op.name())
            }
            _ if device.target.is_none() => op.name().to_string(),
            _ => kernels(&commands),
        };
        plan.steps.push(Step {
            name: node.name.clone(),
            op: op.name().to_string(),
            kernel,
            product,
            attributes: op.attributes().map_err(|error| CompileError::attributes(node, error))?,
            inputs: node.inputs().iter().map(|&input| operand(input)).collect(),
            outputs: graph.step_outputs(id).map(operand).collect(),
            scratch: placement.scratch.get(&id).copied(),
            commands,
            cost: op.cost(&graph.input_descs(id), &node.desc),
        });
    }
    plan.edges = connect(&plan);
    Ok(plan)
}

/// The names of a step's kernels: `quantize_q8, linear_rows<q4_0>`.
fn kernels(commands: &[Command]) -> String {
    let word = |command: &Command| match command {
        Command::Launch(launch) => variant(&launch.variant),
        Command::Gemm(gemm) => format!("gemm<{}>", gemm.dtype.name().to_lowercase()),
        Command::Copy { .. } => "copy".into(),
    };
    commands.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn variant(variant: &Variant) -> String {
    let constants: Vec<&str> = variant.defines.values().map(String::as_str).collect();
    let source = match &variant.source {
        Source::BuiltIn(_) => "",
        Source::Own { .. } => "own ",
    };
    let entry = &variant.entry;
    if constants.is_empty() {
        format!("{source}{entry}")
    } else {
        format!("{source}{entry}<{}>", constants.join(", "))
    }
}

/// The place of each root; also fills the plan's tables of leaves.
fn leaves(graph: &GraphDef, placement: &Placement, plan: &mut Plan) -> BTreeMap<NodeId, (Place, usize)> {
    let mut roots: BTreeMap<NodeId, (Place, usize)> =
        placement.values.iter().map(|(&id, &offset)| (id, (Place::Arena, offset))).collect();
    for id in graph.ids() {
        let node = graph.node(id);
        let slot = LeafSlot { name: node.name.clone(), desc: node.desc };
        let place = match &node.kind {
            NodeKind::Leaf(Leaf::Weight) => {
                plan.weights.push(slot);
                Place::Weight(plan.weights.len() as u32 - 1)
            }
            NodeKind::Leaf(Leaf::State(kind)) => {
                plan.states.push(StateSlot { name: slot.name, desc: slot.desc, kind: *kind });
                Place::State(plan.states.len() as u32 - 1)
            }
            NodeKind::Leaf(Leaf::Constant(bytes)) => {
                plan.constants.push((slot, bytes.to_vec()));
                Place::Constant(plan.constants.len() as u32 - 1)
            }
            NodeKind::Leaf(Leaf::Input) | NodeKind::Op { .. } | NodeKind::Output { .. } => continue,
        };
        roots.insert(id, (place, 0));
    }
    roots
}

fn operand(graph: &GraphDef, roots: &BTreeMap<NodeId, (Place, usize)>, id: NodeId) -> Operand {
    let (root, offset) = graph.root(id);
    let (place, base) = roots.get(&root).copied().unwrap_or((Place::Arena, 0));
    let value = graph.content(id).index() as u32;
    Operand { value, place, offset: base + offset, desc: graph.node(id).desc }
}
