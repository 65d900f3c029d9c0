//! The text form: omitted attributes and line width.

use crate::graph::Graph;
use crate::ops::{Rope, RopeKind};
use crate::plan::{DeviceDesc, Plan, compile};
use crate::tensor::DType;

fn rope(rope: &Rope) -> Plan {
    let graph = Graph::new();
    let (x, positions) = (graph.input("x", DType::F32, [8, 2, 3]), graph.input("positions", DType::I32, [3]));
    graph.output("y", graph.apply(rope.clone(), &[x, positions]));
    compile(&graph.finish().unwrap(), &DeviceDesc::cpu(1)).unwrap()
}

#[test]
fn default_attributes_are_left_out() {
    let plain = Rope::new(RopeKind::Norm, 8, 10000.0);
    assert!(rope(&plain).to_string().contains("= rope[n_rot=8](x, positions)"), "{}", rope(&plain));
    let other = Rope { freq_base: 5e5, freq_scale: 0.25, ..plain };
    let text = rope(&other).to_string();
    assert!(text.contains("rope[freq_base=500000.0, freq_scale=0.25, n_rot=8](x"), "{text}");
}

#[test]
fn lines_wrap_between_parts() {
    let graph = Graph::new();
    let mut x = graph.input("x", DType::F32, [8, 2]);
    for length in [3, 30, 45, 70, 130] {
        x = x.mul(graph.weight("w".repeat(length), DType::F32, [8])).named("n".repeat(length));
    }
    graph.output("y", x);
    let plan = compile(&graph.finish().unwrap(), &DeviceDesc::cpu(1)).unwrap();
    let text = plan.to_string();
    for line in text.lines() {
        // A single part may be wider: names are never split.
        assert!(
            line.len() <= 120 || line.contains(&"n".repeat(130)) || line.contains(&"w".repeat(130)),
            "{line}"
        );
    }
    let joined = text.replace("\n           ", " ");
    let third = format!("binary[kind=mul]({}, weight {} F32[8]), 160 bytes", "n".repeat(30), "w".repeat(45));
    assert!(joined.contains(&third), "{joined}");
}
