//! Edges, and placement in the arena.

use super::super::data::{Edge, Place, Plan, Point};
use super::super::{DeviceDesc, compile};
use super::{graph, input};
use crate::graph::Graph;
use crate::tensor::DType;

fn plan(write: impl FnOnce(&Graph)) -> Plan {
    compile(&graph(write), &DeviceDesc::cpu(1)).unwrap()
}

fn edge(from: Point, to: Point, across_runs: bool) -> Edge {
    Edge { from, to, across_runs }
}

#[test]
fn edges_join_the_lanes_within_a_run_and_across() {
    let plan = plan(|g| {
        let (x, y) = (input(g, "x"), input(g, "y"));
        let h = x.relu().sigmoid();
        g.output("a", h.add(y));
        g.output("b", h.mul(x));
    });
    let reads = |value: u32| {
        let reads = |i: &usize| plan.steps[*i].inputs.iter().any(|input| input.value == value);
        (0..plan.steps.len()).filter(reads).map(|i| Point::Step(i as u32)).collect::<Vec<_>>()
    };
    for (i, port) in plan.inputs.iter().enumerate() {
        let (upload, readers) = (Point::Upload(i as u32), reads(port.operand.value));
        assert!(plan.edges.contains(&edge(upload, readers[0], false)), "the first reader waits");
        let last = readers[readers.len() - 1];
        assert!(plan.edges.contains(&edge(last, upload, true)), "the next upload waits for the last reader");
    }
    for (i, port) in plan.outputs.iter().enumerate() {
        let maker = plan.steps.iter().position(|step| step.outputs[0].value == port.operand.value).unwrap();
        let (download, maker) = (Point::Download(i as u32), Point::Step(maker as u32));
        assert!(plan.edges.contains(&edge(maker, download, false)), "the download waits for its maker");
        let next = |e: &&Edge| e.from == download && e.across_runs;
        assert_eq!(plan.edges.iter().filter(next).count(), 1, "the next run waits for the download");
    }
}

#[test]
fn input_that_is_an_output_is_uploaded_after_its_download() {
    let plan = plan(|g| {
        let x = input(g, "x");
        g.output("same", x);
        g.output("y", x.relu());
    });
    assert!(plan.edges.contains(&edge(Point::Download(0), Point::Upload(0), true)));
    assert_eq!(plan.inputs[0].operand, plan.outputs[0].operand);
}

#[test]
fn chain_reuses_one_place() {
    let plan = plan(|g| g.output("y", input(g, "x").add(input(g, "z")).relu().scale(2.0).sigmoid()));
    let places: Vec<_> = plan.steps.iter().map(|step| step.outputs[0].offset).collect();
    assert!(places.windows(2).all(|pair| pair[0] == pair[1]), "{places:?}");
    assert_eq!(plan.arena, 3 * 128, "two inputs of 96 bytes, and the chain");
}

#[test]
fn inputs_weights_and_values_read_later_are_not_overwritten() {
    let plan = plan(|g| {
        let h = input(g, "x").relu();
        g.output("kept", h.sigmoid());
        g.output("late", h.silu().add(h));
        g.output("of weight", g.weight("w", DType::F32, [8]).relu());
    });
    for step in &plan.steps {
        let shares = step.inputs.iter().any(|input| input.shares_memory(&step.outputs[0]));
        let dies = step.op == "binary" || step.name == plan.steps[plan.steps.len() - 1].name;
        assert!(!shares || dies, "{} runs over a value that is needed", step.name);
    }
    let x = plan.inputs[0].operand;
    assert!(plan.steps.iter().all(|step| !step.outputs[0].shares_memory(&x)));
}

#[test]
fn views_share_the_memory_of_their_source() {
    let plan = plan(|g| {
        let h = input(g, "x").relu();
        g.output("y", h.slice(1, 1, 2).sigmoid());
        g.output("rows", h.slice(1, 2, 1));
    });
    let (relu, neg) = (&plan.steps[0], &plan.steps[1]);
    assert_eq!(plan.steps.len(), 2, "views do not run");
    assert_eq!(
        (neg.inputs[0].offset, neg.inputs[0].value),
        (relu.outputs[0].offset + 32, relu.outputs[0].value)
    );
    assert_eq!(plan.outputs[1].operand.offset, relu.outputs[0].offset + 64);
    assert!(plan.steps.iter().all(|step| step.outputs[0].place == Place::Arena));
}
