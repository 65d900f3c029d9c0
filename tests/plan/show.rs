//! Plans printed as text and as a drawing.

use rfgraph::graph::Graph;
use rfgraph::plan::{DeviceDesc, Plan, compile};
use rfgraph::tensor::DType;

/// `(x·s + b)²`: a weight whose name needs quoting, a constant, a step in place of its input.
fn small() -> Plan {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [8, 2]);
    let scale = graph.weight("scale \"s\"", DType::F32, [8]);
    let bias = graph.constant("bias", &[0.5; 8], [8]);
    let h = x.mul(scale).named("h").add(bias).named("shifted");
    graph.output("y", h.mul(h).named("square"));
    compile(&graph.finish().unwrap(), &DeviceDesc::cpu(2)).unwrap()
}

#[test]
fn a_small_plan_as_text() {
    insta::assert_snapshot!(small());
}

#[test]
fn a_small_plan_as_a_drawing() {
    insta::assert_snapshot!(small().dot());
}

#[test]
fn equal_plans_have_equal_text_and_drawings() {
    assert_eq!(small().to_string(), small().to_string());
    assert_eq!(small().dot().to_string(), small().dot().to_string());
}
