use super::super::fuse::fuse;
use super::super::simplify::simplify;
use super::{graph, input, ops};
use crate::graph::{Graph, GraphDef, Tensor};
use crate::ops::{Gated, Linear, UnaryKind};
use crate::tensor::{DType, Shape};

/// The graph after fusing, without unused nodes.
fn fused(write: impl FnOnce(&Graph)) -> GraphDef {
    let fused = fuse(&graph(write));
    fused.check("fuse").unwrap();
    simplify(&fused).unwrap()
}

fn weight<'g>(g: &'g Graph, name: &str, shape: impl Into<Shape>) -> Tensor<'g> {
    g.weight(name, DType::F32, shape)
}

/// The names of the inputs of the first output's operator.
fn inputs_of_result(graph: &GraphDef) -> Vec<&str> {
    let result = graph.node(graph.outputs()[0].1);
    result.inputs().iter().map(|&id| graph.node(id).name.as_str()).collect()
}

#[test]
fn norm_absorbs_its_weight() {
    for swapped in [false, true] {
        let def = fused(|g| {
            // One row, so that each operand of the product could be the larger one.
            let norm = g.input("x", DType::F32, [8]).rms_norm_plain(1e-5);
            let w = weight(g, "w", [8]);
            g.output("y", if swapped { w.mul(norm) } else { norm.mul(w) });
        });
        assert_eq!((ops(&def), inputs_of_result(&def)), (vec!["rms_norm"], vec!["x", "w"]));
    }
}

#[test]
fn activation_absorbs_the_gated_factor() {
    for kind in [UnaryKind::Silu, UnaryKind::Gelu, UnaryKind::Relu] {
        for swapped in [false, true] {
            let def = fused(|g| {
                let (gate, up) = (input(g, "gate").unary(kind), input(g, "up"));
                g.output("y", if swapped { up.mul(gate) } else { gate.mul(up) });
            });
            assert_eq!((ops(&def), inputs_of_result(&def)), (vec!["gated"], vec!["gate", "up"]));
            let result = def.node(def.outputs()[0].1);
            assert_eq!(result.op_as::<Gated>().unwrap().activation, kind);
        }
    }
}

#[test]
fn gate_absorbs_the_norm_that_it_multiplies() {
    for (swapped, read_twice) in [(false, false), (true, false), (false, true)] {
        let def = fused(|g| {
            let (gate, norm) = (input(g, "gate").silu(), input(g, "x").rms_norm(weight(g, "w", [8]), 1e-5));
            g.output("y", if swapped { norm.mul(gate) } else { gate.mul(norm) });
            if read_twice {
                g.output("z", norm.relu());
            }
        });
        if read_twice {
            assert_eq!(ops(&def), ["rms_norm", "gated", "unary"]);
        } else {
            assert_eq!((ops(&def), inputs_of_result(&def)), (vec!["gated_norm"], vec!["x", "w", "gate"]));
        }
    }
}

#[test]
fn product_absorbs_bias_and_residual() {
    for (bias, residual, swapped) in [
        (true, false, false),
        (false, true, false),
        (false, true, true),
        (true, true, false),
        (true, true, true),
    ] {
        let def = fused(|g| {
            let mut y = input(g, "x").linear(weight(g, "w", [8, 5]));
            if bias {
                y = y.add(weight(g, "b", [5]));
            }
            let rest = g.input("r", DType::F32, [5, 3]).relu().named("rest");
            if residual {
                y = if swapped { rest.add(y) } else { y.add(rest) };
            }
            g.output("y", y);
        });
        let wanted: Vec<&str> =
            ["w", "x"].into_iter().chain(bias.then_some("b")).chain(residual.then_some("rest")).collect();
        assert_eq!(inputs_of_result(&def), wanted);
        let result = def.node(def.outputs()[0].1);
        assert_eq!(result.op_as::<Linear>(), Some(&Linear { bias, residual }));
    }
}

/// For one token, a bias and a residual have the same sizes.
#[test]
fn for_one_token_a_computed_term_is_a_residual() {
    let def = fused(|g| {
        let x = g.input("x", DType::F32, [8, 1]);
        let rest = x.relu().named("rest");
        g.output("y", x.linear(weight(g, "w", [8, 8])).add(weight(g, "b", [8])).add(rest));
    });
    assert_eq!(inputs_of_result(&def), ["w", "x", "b", "rest"]);
}

/// Cases that must not be fused, with the reasons.
#[test]
fn unsafe_cases_are_not_fused() {
    type Write = fn(&Graph);
    let cases: [(&str, Write, &[&str]); 9] = [
        (
            "the norm has another reader",
            |g| {
                let norm = input(g, "x").rms_norm_plain(1e-5);
                g.output("y", norm.mul(weight(g, "w", [8])));
                g.output("z", norm.relu());
            },
            &["rms_norm", "binary", "unary"],
        ),
        (
            "the activation is an output",
            |g| {
                let gate = input(g, "x").silu();
                g.output("gate", gate);
                g.output("y", gate.mul(input(g, "up")));
            },
            &["unary", "binary"],
        ),
        (
            "the product is read twice by one operator",
            |g| {
                let y = input(g, "x").linear(weight(g, "w", [8, 8]));
                g.output("y", y.add(y));
            },
            &["linear", "binary"],
        ),
        (
            "the weight is not one factor for each element of a row",
            |g| g.output("y", input(g, "x").rms_norm_plain(1e-5).mul(weight(g, "w", [8, 3]))),
            &["rms_norm", "binary"],
        ),
        (
            "the gate is repeated",
            |g| g.output("y", input(g, "up").mul(g.input("gate", DType::F32, [8]).silu())),
            &["unary", "binary"],
        ),
        (
            "the operands of a difference do not change places",
            |g| g.output("y", input(g, "r").sub(input(g, "x").linear(weight(g, "w", [8, 8])))),
            &["linear", "binary"],
        ),
        (
            "a bias would come after the residual",
            |g| {
                let y = input(g, "x").linear(weight(g, "w", [8, 8])).add(input(g, "r"));
                g.output("y", y.add(weight(g, "b", [8])));
            },
            &["linear", "binary"],
        ),
        (
            "the norm's weight is there already",
            |g| g.output("y", input(g, "x").rms_norm(weight(g, "v", [8]), 1e-5).mul(weight(g, "w", [8]))),
            &["rms_norm", "binary"],
        ),
        (
            "the larger operator would give another rank",
            |g| {
                let norm = g.input("x", DType::F32, [8, 1]).rms_norm_plain(1e-5);
                g.output("y", weight(g, "w", [8]).mul(norm));
            },
            &["rms_norm", "binary"],
        ),
    ];
    for (why, write, wanted) in cases {
        assert_eq!(ops(&fused(write)), wanted, "{why}");
    }
}

/// Absorbed by the product, the activation would read the state after it is written.
#[test]
fn a_reader_of_a_state_is_not_moved() {
    let def = graph(|g| {
        let slots = g.input("slots", DType::I32, [1]);
        let state = g.state("s", DType::F32, [4, 2, 8]);
        let before = state.silu();
        let after = state.kv_write(g.input("rows", DType::F32, [4, 2, 1]), slots);
        g.output("y", before.mul(after.relu()));
    });
    let fused = simplify(&fuse(&def)).unwrap();
    assert_eq!(ops(&fused), ops(&def));
    super::super::order::order(&fused).unwrap();
}
