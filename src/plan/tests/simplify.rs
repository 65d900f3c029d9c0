use super::super::simplify::simplify;
use super::{graph, input, ops};
use crate::graph::{GraphDef, Leaf, NodeKind};
use crate::tensor::DType;

fn leaves(graph: &GraphDef) -> Vec<&str> {
    let is_leaf = |id: &_| matches!(graph.node(*id).kind, NodeKind::Leaf(_));
    graph.ids().filter(is_leaf).map(|id| graph.node(id).name.as_str()).collect()
}

#[test]
fn unused_nodes_are_removed() {
    let simple = simplify(&graph(|g| {
        let x = input(g, "x");
        x.silu().linear(g.weight("dead weight", DType::F32, [8, 4]));
        g.constant("dead constant", &[1.0; 8], [8]);
        g.output("y", x.relu());
    }));
    let simple = simple.unwrap();
    assert_eq!((ops(&simple), leaves(&simple)), (vec!["unary"], vec!["x"]));
}

#[test]
fn unused_inputs_are_kept() {
    let simple = simplify(&graph(|g| {
        input(g, "unread");
        g.output("y", input(g, "x").relu());
    }));
    assert_eq!(leaves(&simple.unwrap()), ["unread", "x"]);
}

#[test]
fn equal_nodes_are_merged() {
    let simple = simplify(&graph(|g| {
        let (x, y) = (input(g, "x"), input(g, "y"));
        let one = x.add(y).silu();
        let other = x.add(y).silu();
        g.output("z", one.mul(other));
    }));
    let simple = simple.unwrap();
    assert_eq!(ops(&simple), ["binary", "unary", "binary"]);
    let product = simple.outputs()[0].1;
    assert_eq!(simple.node(product).inputs()[0], simple.node(product).inputs()[1]);
}

#[test]
fn different_nodes_are_not_merged() {
    let simple = simplify(&graph(|g| {
        let (x, y) = (input(g, "x"), input(g, "y"));
        // Different inputs, order of inputs, attributes, or operator.
        for (i, value) in
            [x.sub(y), y.sub(x), x.add(y), x.scale(2.0), x.scale(3.0), y.scale(2.0)].into_iter().enumerate()
        {
            g.output(format!("{i}"), value);
        }
    }));
    assert_eq!(ops(&simple.unwrap()).len(), 6);
}

#[test]
fn constants_of_the_same_bytes_and_shape_are_merged() {
    let simple = simplify(&graph(|g| {
        let x = input(g, "x");
        let [a, b] = ["a", "b"].map(|name| g.constant(name, &[1.0; 8], [8]));
        let c = g.constant("other shape", &[1.0; 8], [8, 1]);
        let d = g.constant("other bytes", &[2.0; 8], [8]);
        g.output("y", x.add(a).add(b).add(c).add(d));
    }));
    assert_eq!(leaves(&simple.unwrap()), ["x", "a", "other shape", "other bytes"]);
}

#[test]
fn identity_views_are_removed() {
    let simple = simplify(&graph(|g| {
        let x = input(g, "x");
        let same = x.reshape([8, 3]).slice(1, 0, 3);
        g.output("y", same.relu());
        g.output("part", x.slice(1, 1, 2));
        g.output("whole", x.reshape([24]));
    }));
    let simple = simple.unwrap();
    let mut found = ops(&simple);
    found.sort_unstable();
    assert_eq!(found, ["reshape", "slice", "unary"]);
}

#[test]
fn state_writers_are_kept_and_not_merged() {
    let simple = simplify(&graph(|g| {
        let rows = g.input("rows", DType::F32, [4, 2, 1]);
        let slots = g.input("slots", DType::I32, [1]);
        let state = g.state("s", DType::F32, [4, 2, 8]);
        // The state has no reader, and the second write equals the first.
        state.kv_write(rows, slots).kv_write(rows, slots);
        let unread = g.state("unread", DType::F32, [4, 2, 8]);
        unread.relu();
        g.output("y", rows.relu());
    }));
    let simple = simple.unwrap();
    assert_eq!(ops(&simple), ["kv_write", "kv_write", "unary"]);
    let states: Vec<_> = simple
        .ids()
        .filter(|&id| matches!(simple.node(id).kind, NodeKind::Leaf(Leaf::State(_))))
        .map(|id| simple.node(id).name.as_str())
        .collect();
    assert_eq!(states, ["s"]);
}

#[test]
fn simplifying_twice_changes_nothing() {
    let once = simplify(&graph(|g| {
        let x = input(g, "x");
        g.output("y", x.silu().mul(x.silu()).reshape([24]).reshape([24]));
    }));
    let once = once.unwrap();
    let twice = simplify(&once).unwrap();
    let text = |graph: &GraphDef| graph.ids().map(|id| format!("{:?}", graph.node(id))).collect::<Vec<_>>();
    assert_eq!(text(&once), text(&twice));
}
