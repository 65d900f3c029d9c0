use super::super::order::order;
use super::super::place::{place, steps};
use super::super::{CompileError, DeviceDesc, compile};
use super::{graph, input, named};
use crate::graph::{Graph, GraphDef, NodeId, Tensor};
use crate::tensor::DType;

fn cache(g: &Graph) -> (Tensor<'_>, Tensor<'_>, Tensor<'_>) {
    let rows = g.input("rows", DType::F32, [4, 2, 1]);
    (g.state("s", DType::F32, [4, 2, 8]), rows, g.input("slots", DType::I32, [1]))
}

/// The position of a node in the order.
fn at(graph: &GraphDef, order: &[NodeId], name: &str) -> usize {
    order.iter().position(|&id| id == named(graph, name)).unwrap()
}

#[test]
fn readers_of_old_content_come_before_the_writer() {
    let def = graph(|g| {
        let (state, rows, slots) = cache(g);
        state.kv_write(rows, slots).named("write").kv_write(rows, slots).named("again");
        // Declared after the writers, directly and through a view of a view.
        g.output("a", state.relu().named("direct"));
        g.output("b", state.slice(2, 1, 4).permute([1, 0, 2, 3]).relu().named("view"));
    });
    let order = order(&def).unwrap();
    for reader in ["direct", "view"] {
        assert!(at(&def, &order, reader) < at(&def, &order, "write"), "{reader}");
    }
    assert!(at(&def, &order, "write") < at(&def, &order, "again"));
    compile(&def, &DeviceDesc::cpu(1)).unwrap();
}

/// A writer may take a part of a state; readers of the whole still come first.
#[test]
fn a_writer_of_a_part_waits_for_readers_of_the_whole() {
    let def = graph(|g| {
        let (state, rows, slots) = cache(g);
        state.slice(2, 4, 4).kv_write(rows, slots).named("write");
        g.output("y", state.relu().named("reader"));
    });
    let order = order(&def).unwrap();
    assert!(at(&def, &order, "reader") < at(&def, &order, "write"));
    compile(&def, &DeviceDesc::cpu(1)).unwrap();
}

#[test]
fn cycle_through_a_state_is_an_error() {
    let old_with_new = graph(|g| {
        let (state, rows, slots) = cache(g);
        g.output("y", state.add(state.kv_write(rows, slots)));
    });
    let two_writers = graph(|g| {
        let (state, rows, slots) = cache(g);
        g.output("a", state.kv_write(rows, slots));
        g.output("b", state.kv_write(rows.relu(), slots));
    });
    for def in [old_with_new, two_writers] {
        let error = compile(&def, &DeviceDesc::cpu(1)).unwrap_err();
        assert!(matches!(error, CompileError::Order { .. }), "{error}");
        assert!(error.to_string().contains("waits for itself"), "{error}");
    }
}

#[test]
fn an_output_that_is_overwritten_is_an_error() {
    for view in [false, true] {
        let def = graph(|g| {
            let (state, rows, slots) = cache(g);
            state.kv_write(rows, slots).named("write");
            g.output("old", if view { state.slice(2, 0, 4) } else { state });
        });
        let error = compile(&def, &DeviceDesc::cpu(1)).unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"output `old` is gone by the end of the run, where outputs are read: `write` writes over it");
        }
    }
}

/// Eight large values, created first and each reduced later: interleaved they need one at a time.
#[test]
fn the_order_with_the_lower_peak_wins() {
    let def = graph(|g| {
        let x = g.input("x", DType::F32, [64]);
        let large: Vec<_> =
            (0..8).map(|i| x.linear(g.weight(format!("up.{i}"), DType::F32, [64, 4096]))).collect();
        let small: Vec<_> = large
            .into_iter()
            .enumerate()
            .map(|(i, y)| y.linear(g.weight(format!("down.{i}"), DType::F32, [4096, 64])))
            .collect();
        g.output("sum", small.into_iter().reduce(|a, b| a.add(b)).unwrap());
    });
    let device = DeviceDesc::cpu(1);
    let written: Vec<NodeId> = def.ids().collect();
    let placed = |order: &[NodeId]| place(&def, order, &device).unwrap();
    let (before, after) = (placed(&written), placed(&order(&def).unwrap()));
    assert!(after.lower_bound * 4 < before.lower_bound, "{} of {}", after.lower_bound, before.lower_bound);
}

#[test]
fn the_written_order_wins_a_tie() {
    let def = graph(|g| {
        let x = input(g, "x");
        g.output("a", x.relu());
        g.output("b", x.silu());
    });
    let order = order(&def).unwrap();
    assert_eq!(order, def.ids().collect::<Vec<_>>());
    assert_eq!(steps(&def, &order).len(), 2, "leaves do not run");
}
