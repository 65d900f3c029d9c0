//! Tests of each pass by itself.

mod check;
mod connect;
mod fuse;
mod fuse_gpu;
mod order;
mod page;
mod several;
mod simplify;
mod stages;
mod text;

use crate::graph::{Graph, GraphDef, NodeId, Tensor};
use crate::tensor::DType;

/// The graph that `write` builds.
fn graph(write: impl FnOnce(&Graph)) -> GraphDef {
    let graph = Graph::new();
    write(&graph);
    graph.finish().unwrap()
}

fn input<'g>(graph: &'g Graph, name: &str) -> Tensor<'g> {
    graph.input(name, DType::F32, [8, 3])
}

/// The operators' names, in order.
fn ops(graph: &GraphDef) -> Vec<&'static str> {
    graph.ids().filter_map(|id| graph.node(id).op().map(|op| op.name())).collect()
}

fn named(graph: &GraphDef, name: &str) -> NodeId {
    graph.ids().find(|&id| graph.node(id).name == name).unwrap()
}
