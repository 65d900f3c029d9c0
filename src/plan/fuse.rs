//! Fuse: replaces neighbouring operators by one with a faster kernel.
//!
//! A rule looks at one node and returns the larger operator that can replace it; an operator that is absorbed must have
//! no other reader. Rules:
//!
//! - `rms_norm · weight` → `rms_norm` with the weight
//! - `silu(gate) · rms_norm(x)` with a weight, and every other activation → `gated_norm`
//! - `silu(gate) · up`, and every other activation → `gated`
//! - `linear + bias`, `linear + residual` → `linear` with both

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::simplify::remapped;
use crate::graph::{AnyOperator, GraphDef, NodeId, NodeKind};
use crate::ops::{Binary, BinaryKind, Gated, GatedNorm, Linear, RmsNorm, Unary};

/// The same outputs from fewer, larger operators. Leaves unused nodes behind.
pub fn fuse(graph: &GraphDef) -> GraphDef {
    let mut out = GraphDef::default();
    let mut moved: Vec<Option<NodeId>> = vec![None; graph.len()];
    for id in graph.ids() {
        let mut node = remapped(graph.node(id), &moved);
        let matcher = Matcher { old: graph, new: &out };
        if let Some((op, inputs)) = matcher.larger(id, &node.kind) {
            node.kind = NodeKind::Op { op, inputs };
        }
        moved[id.index()] = Some(out.add(node));
    }
    for (name, id) in graph.outputs() {
        if let Some(id) = moved[id.index()] {
            out.add_output(name.clone(), id);
        }
    }
    out
}

/// An operator and its inputs in the new graph.
type Replacement = (Arc<dyn AnyOperator>, SmallVec<[NodeId; 4]>);

struct Matcher<'g> {
    old: &'g GraphDef,
    new: &'g GraphDef,
}

impl Matcher<'_> {
    /// The replacement of node `id` of the old graph, whose inputs in the new one are in `kind`.
    fn larger(&self, id: NodeId, kind: &NodeKind) -> Option<Replacement> {
        let binary = self.old.node(id).op_as::<Binary>()?;
        let NodeKind::Op { inputs, .. } = kind else { return None };
        let [a, b] = *inputs.as_slice() else { return None };
        let [old_a, old_b] = *self.old.node(id).inputs() else { return None };
        match binary.kind {
            // Multiplication and addition are commutative.
            BinaryKind::Mul => {
                let one = |[old, old_other]: [NodeId; 2], factor, other| {
                    self.norm(id, old, factor, other)
                        .or_else(|| self.gated_norm(id, [old, old_other], factor, other))
                        .or_else(|| self.gate(id, old, factor, other))
                };
                one([old_a, old_b], a, b).or_else(|| one([old_b, old_a], b, a))
            }
            BinaryKind::Add => self.sum(id, old_a, a, b).or_else(|| self.sum(id, old_b, b, a)),
            BinaryKind::Sub | BinaryKind::Div => None,
        }
    }

    /// `rms_norm(x) · weight`.
    fn norm(&self, id: NodeId, old: NodeId, norm: NodeId, weight: NodeId) -> Option<Replacement> {
        let op = self.new.node(norm).op_as::<RmsNorm>()?;
        let [x] = *self.new.node(norm).inputs() else { return None };
        let fits = self.read_once(old) && self.replaces(id, op, &[x, weight]);
        fits.then(|| (Arc::new(op.clone()) as Arc<dyn AnyOperator>, smallvec![x, weight]))
    }

    /// `activation(gate) · up`.
    fn gate(&self, id: NodeId, old: NodeId, activation: NodeId, up: NodeId) -> Option<Replacement> {
        let op = Gated { activation: self.new.node(activation).op_as::<Unary>()?.kind };
        let [gate] = *self.new.node(activation).inputs() else { return None };
        let fits = self.read_once(old) && self.replaces(id, &op, &[gate, up]);
        fits.then(|| (Arc::new(op) as Arc<dyn AnyOperator>, smallvec![gate, up]))
    }

    /// `activation(gate) · rms_norm(x, weight)`.
    fn gated_norm(
        &self,
        id: NodeId,
        old: [NodeId; 2],
        activation: NodeId,
        norm: NodeId,
    ) -> Option<Replacement> {
        let (unary, norm_op) =
            (self.new.node(activation).op_as::<Unary>()?, self.new.node(norm).op_as::<RmsNorm>()?);
        let ([gate], [x, weight]) = (self.new.node(activation).inputs(), self.new.node(norm).inputs()) else {
            return None;
        };
        let op = GatedNorm { activation: unary.kind, eps: norm_op.eps };
        let inputs = [*x, *weight, *gate];
        let fits = old.iter().all(|&old| self.read_once(old)) && self.replaces(id, &op, &inputs);
        fits.then(|| (Arc::new(op) as Arc<dyn AnyOperator>, inputs.into_iter().collect()))
    }

    /// `linear(x) + bias` or `linear(x) + residual`.
    fn sum(&self, id: NodeId, old: NodeId, linear: NodeId, term: NodeId) -> Option<Replacement> {
        let op = self.new.node(linear).op_as::<Linear>()?;
        let mut inputs: SmallVec<[NodeId; 4]> = self.new.node(linear).inputs().into();
        inputs.push(term);
        // The bias is added before the residual, so a linear that has its residual cannot take a bias any more. For one
        // token both have the output's sizes; then a computed term is the residual, since the product may run in its
        // place.
        let (bias, residual) = (Linear { bias: true, ..op.clone() }, Linear { residual: true, ..op.clone() });
        let computed = !self.new.node(term).is_leaf();
        let candidates = if computed { [residual, bias] } else { [bias, residual] };
        let fits = |new: &Linear| *new != *op && !op.residual && self.replaces(id, new, &inputs);
        let new = candidates.into_iter().find(fits).filter(|_| self.read_once(old))?;
        Some((Arc::new(new), inputs))
    }

    /// True if the operator of a value may be absorbed by the value's only reader: the value is not an output and not a
    /// state, and its operator can run later. (It cannot if it reads a state: a dependency of the reader may write that
    /// state.)
    fn read_once(&self, old: NodeId) -> bool {
        let output = self.old.outputs().iter().any(|(_, id)| *id == old);
        let writes = self.old.written_state(old).is_some();
        let in_state = |id: NodeId| self.old.node(self.old.root(id).0).is_state();
        let reads_state = self.old.node(old).inputs().iter().any(|&input| in_state(input));
        self.old.users(old).count() == 1 && !output && !writes && !reads_state
    }

    /// True if the operator infers exactly the description of node `id`.
    fn replaces(&self, id: NodeId, op: &impl AnyOperator, inputs: &[NodeId]) -> bool {
        let descs: SmallVec<[_; 4]> = inputs.iter().map(|&id| self.new.node(id).desc).collect();
        op.infer(&descs).is_ok_and(|desc| desc == self.old.node(id).desc)
    }
}
