//! Fuse for a GPU: for one token each launch costs about as much as reading a few megabytes, so products that read the
//! same activations become one step, and activations are quantized once for all of them.
//!
//! The rules, each a separate pass, apply to at most [`Project::MOST_ROWS`] tokens, or to any number in a deterministic
//! plan, since a fused norm adds in another order:
//!
//! - `gated(linear, linear)` of one `x` → `project` with the gate
//! - `linear`s of one `x`, for one token → `project` and slices of its result
//! - `project` and `linear` of quantized weights read `quantize(x)`
//! - `quantize(rms_norm(x))` → `norm_quantize`; `quantize` of the heads of a `gated_norm` → `gated_norm_quantize`

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::simplify::{remapped, simplify};
use super::{CompileError, DeviceDesc};
use crate::graph::{AnyOperator, GraphDef, Node, NodeId, NodeKind};
use crate::ops::{Gated, GatedNorm, GatedNormQuantize, Linear, NormQuantize, Project, Quantize};
use crate::ops::{Reshape, RmsNorm, Slice};
use crate::tensor::Desc;

/// The same outputs from fewer launches on a GPU; the unchanged graph for a CPU.
pub fn fuse_gpu(graph: GraphDef, device: &DeviceDesc) -> Result<GraphDef, CompileError> {
    if device.target.is_none() {
        return Ok(graph);
    }
    let most_rows = if device.deterministic { usize::MAX } else { Project::MOST_ROWS };
    let graph = simplify(&gates(&graph, most_rows))?;
    let graph = simplify(&shared(&graph))?;
    // Simplifying merges the quantizations of the same activations.
    let graph = simplify(&quantized(&graph, most_rows))?;
    simplify(&norms(&graph))
}

/// Rewrites a graph into a new one. Leaves come first, so that a step can take weights declared later in the old graph.
struct Rewrite<'g> {
    old: &'g GraphDef,
    new: GraphDef,
    moved: Vec<Option<NodeId>>,
}

impl<'g> Rewrite<'g> {
    fn new(old: &'g GraphDef) -> Rewrite<'g> {
        let mut rewrite = Rewrite { old, new: GraphDef::default(), moved: vec![None; old.len()] };
        for id in old.ids().filter(|&id| old.node(id).is_leaf()) {
            rewrite.moved[id.index()] = Some(rewrite.new.add(old.node(id).clone()));
        }
        rewrite
    }

    /// Copies every operator with its further outputs, or replaces it as `replace` says. `replace` must not replace an
    /// operator with several outputs.
    fn run(mut self, mut replace: impl FnMut(&mut Rewrite<'g>, NodeId) -> Option<NodeId>) -> GraphDef {
        for id in self.old.ids().filter(|&id| !self.old.node(id).is_leaf()) {
            let replaced = replace(&mut self, id);
            let new = replaced.unwrap_or_else(|| self.keep(id));
            self.moved[id.index()] = Some(new);
        }
        for (name, id) in self.old.outputs() {
            if let Some(id) = self.moved[id.index()] {
                self.new.add_output(name.clone(), id);
            }
        }
        self.new
    }

    /// Copies an operator. A view of a product that became a slice gets the slice's strides.
    fn keep(&mut self, id: NodeId) -> NodeId {
        let mut node = remapped(self.old.node(id), &self.moved);
        // An operator that does not accept these strides fails the graph's check.
        if let Some(desc) = self.inferred(&node) {
            node.desc = desc;
        }
        self.new.add(node)
    }

    /// The description that the operator infers for a node of the new graph.
    fn inferred(&self, node: &Node) -> Option<Desc> {
        match &node.kind {
            NodeKind::Leaf(_) => None,
            NodeKind::Op { op, inputs } => {
                let descs: SmallVec<[Desc; 4]> = inputs.iter().map(|&id| self.new.node(id).desc).collect();
                op.infer(&descs).ok()
            }
            NodeKind::Output { of, index } => {
                let outputs = self.new.operator(*of)?.outputs(&self.new.input_descs(*of)).ok()?;
                outputs.get(*index as usize).copied()
            }
        }
    }

    /// Adds an operator; `None` if it refuses these inputs, given by their ids in the new graph.
    fn add(&mut self, name: String, op: impl AnyOperator + 'static, inputs: &[NodeId]) -> Option<NodeId> {
        let descs: SmallVec<[Desc; 4]> = inputs.iter().map(|&id| self.new.node(id).desc).collect();
        let desc = op.infer(&descs).ok()?;
        let kind = NodeKind::Op { op: Arc::new(op), inputs: inputs.into() };
        Some(self.new.add(Node { name, kind, desc }))
    }

    /// The new ids of old nodes.
    fn moved(&self, ids: &[NodeId]) -> Option<SmallVec<[NodeId; 4]>> {
        ids.iter().map(|id| self.moved[id.index()]).collect()
    }

    fn name(&self, id: NodeId) -> String {
        self.old.node(id).name.clone()
    }

    /// `x` and the weight of a product without bias or residual.
    fn plain_linear(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        let node = self.old.node(id);
        let linear = node.op_as::<Linear>().filter(|linear| !linear.bias && !linear.residual);
        let [weight, x] = *node.inputs() else { return None };
        linear.map(|_| (x, weight))
    }

    /// True if exactly one node reads this one and it is not an output.
    fn read_once(&self, id: NodeId) -> bool {
        self.old.users(id).count() == 1 && !self.old.outputs().iter().any(|(_, output)| *output == id)
    }

    fn is_leaf(&self, id: NodeId) -> bool {
        self.old.node(id).is_leaf()
    }
}

/// `gated(linear(x), linear(x))`.
fn gates(graph: &GraphDef, most_rows: usize) -> GraphDef {
    Rewrite::new(graph).run(|rewrite, id| {
        let activation = graph.node(id).op_as::<Gated>()?.activation;
        let [gate, up] = *graph.node(id).inputs() else { return None };
        let ((x, w_gate), (x_up, w_up)) = (rewrite.plain_linear(gate)?, rewrite.plain_linear(up)?);
        let few = graph.node(id).desc.shape.rows() <= most_rows;
        let fits = few && x == x_up && rewrite.read_once(gate) && rewrite.read_once(up);
        let inputs = rewrite.moved(&[x, w_gate, w_up]).filter(|_| fits)?;
        rewrite.add(rewrite.name(id), Project { gate: Some(activation), residual: false }, &inputs)
    })
}

/// Products of one `x` for one token become one step; each product is a slice of its result.
fn shared(graph: &GraphDef) -> GraphDef {
    let rewrite = Rewrite::new(graph);
    let mut groups: BTreeMap<(NodeId, crate::tensor::DType), Vec<NodeId>> = BTreeMap::new();
    for id in graph.ids().filter(|&id| graph.node(id).desc.shape.rows() == 1) {
        if let Some((x, weight)) = rewrite.plain_linear(id).filter(|(_, weight)| rewrite.is_leaf(*weight)) {
            groups.entry((x, graph.node(weight).desc.dtype)).or_default().push(id);
        }
    }
    // For each product, the first product of its step and the number of rows before its own.
    let mut made: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let mut place: BTreeMap<NodeId, (NodeId, usize)> = BTreeMap::new();
    let mut members: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for group in
        groups.values().flat_map(|group| group.chunks(Project::MOST_WEIGHTS)).filter(|group| group.len() > 1)
    {
        let mut rows = 0;
        for &id in group {
            place.insert(id, (group[0], rows));
            rows += graph.node(id).desc.shape.dim(0);
        }
        members.insert(group[0], group.to_vec());
    }
    rewrite.run(|rewrite, id| {
        let &(first, start) = place.get(&id)?;
        let step = match made.get(&first) {
            Some(&step) => step,
            None => {
                let (x, _) = rewrite.plain_linear(first)?;
                let group = members.get(&first)?;
                let mut inputs: SmallVec<[NodeId; 4]> = smallvec![x];
                for &member in group {
                    inputs.push(rewrite.plain_linear(member)?.1);
                }
                let inputs = rewrite.moved(&inputs)?;
                let names: Vec<String> = group.iter().map(|&id| rewrite.name(id)).collect();
                let step = rewrite.add(names.join("+"), Project::default(), &inputs)?;
                made.insert(first, step);
                step
            }
        };
        let len = graph.node(id).desc.shape.dim(0);
        rewrite.add(rewrite.name(id), Slice { dim: 0, start, len }, &[step])
    })
}

/// Products of quantized weights share activations that are quantized once.
fn quantized(graph: &GraphDef, most_rows: usize) -> GraphDef {
    Rewrite::new(graph).run(|rewrite, id| {
        let node = graph.node(id);
        let few = node.desc.shape.rows() <= most_rows;
        let (op, inputs): (Project, SmallVec<[NodeId; 4]>) =
            match (node.op_as::<Project>(), node.op_as::<Linear>()) {
                (Some(project), _) => (project.clone(), node.inputs().into()),
                (_, Some(linear)) if !linear.bias => {
                    let (weight, x) = (node.inputs()[0], node.inputs()[1]);
                    let rest = &node.inputs()[2..];
                    (
                        Project { gate: None, residual: linear.residual },
                        [x, weight].iter().chain(rest).copied().collect(),
                    )
                }
                _ => return None,
            };
        let fits = few && Project::takes_quantized(graph.node(inputs[1]).desc.dtype);
        let mut inputs = rewrite.moved(&inputs).filter(|_| fits)?;
        let name = format!("{}.q8", rewrite.new.node(inputs[0]).name);
        inputs[0] = rewrite.add(name, Quantize {}, &[inputs[0]])?;
        rewrite.add(rewrite.name(id), op, &inputs)
    })
}

/// `quantize(rms_norm(x))` and `quantize` of the heads of a `gated_norm`, if the norm has no other reader.
fn norms(graph: &GraphDef) -> GraphDef {
    Rewrite::new(graph).run(|rewrite, id| {
        graph.node(id).op_as::<Quantize>()?;
        let norm = graph.node(id).inputs()[0];
        if graph.node(norm).op_as::<Reshape>().is_some() {
            return heads(rewrite, id, norm);
        }
        let eps = graph.node(norm).op_as::<RmsNorm>()?.eps;
        let inputs = rewrite.moved(graph.node(norm).inputs()).filter(|_| rewrite.read_once(norm))?;
        rewrite.add(rewrite.name(id), NormQuantize { eps }, &inputs)
    })
}

/// `quantize(reshape(gated_norm(x)))`, if the reshaped rows are the heads of one token each.
fn heads(rewrite: &mut Rewrite<'_>, id: NodeId, reshape: NodeId) -> Option<NodeId> {
    let graph = rewrite.old;
    let norm = graph.node(reshape).inputs()[0];
    let op = GatedNormQuantize { norm: graph.node(norm).op_as::<GatedNorm>()?.clone() };
    let inputs = rewrite.moved(graph.node(norm).inputs())?;
    let fits = rewrite.read_once(reshape) && rewrite.read_once(norm);
    let descs: SmallVec<[Desc; 4]> = inputs.iter().map(|&id| rewrite.new.node(id).desc).collect();
    let same = op.infer(&descs).is_ok_and(|desc| desc.shape.ne() == graph.node(id).desc.shape.ne());
    if fits && same { rewrite.add(rewrite.name(id), op, &inputs) } else { None }
}
