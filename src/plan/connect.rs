//! Connect: the event edges between the copy lane and the compute lane, within a run and across consecutive runs that
//! share memory.

use std::ops::Range;

use super::data::{Edge, Operand, Place, Plan, Point, Port};

/// The edges of a plan with final steps, inputs and outputs.
pub fn connect(plan: &Plan) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (i, input) in plan.inputs.iter().enumerate() {
        let upload = Point::Upload(i as u32);
        // The first reader waits for the upload; the next run's upload waits for the last reader.
        let readers: Vec<usize> = touching(plan, input, false);
        if let (Some(&first), Some(&last)) = (readers.first(), readers.last()) {
            edges.push(Edge { from: upload, to: Point::Step(first as u32), across_runs: false });
            edges.push(Edge { from: Point::Step(last as u32), to: upload, across_runs: true });
        }
        for (o, output) in plan.outputs.iter().enumerate() {
            if input.operand.shares_memory(&output.operand) {
                edges.push(Edge { from: Point::Download(o as u32), to: upload, across_runs: true });
            }
        }
    }
    for (o, output) in plan.outputs.iter().enumerate() {
        let download = Point::Download(o as u32);
        let writers = touching(plan, output, true);
        if let (Some(&first), Some(&last)) = (writers.first(), writers.last()) {
            edges.push(Edge { from: Point::Step(last as u32), to: download, across_runs: false });
            edges.push(Edge { from: download, to: Point::Step(first as u32), across_runs: true });
        }
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// The steps that access a port's memory: only those that write it (as output or scratch), or all.
fn touching(plan: &Plan, port: &Port, only_writers: bool) -> Vec<usize> {
    let hits = |other: &Operand| other.shares_memory(&port.operand);
    (0..plan.steps.len())
        .filter(|&i| {
            let step = &plan.steps[i];
            step.outputs.iter().any(hits)
                || step.scratch.is_some_and(|(offset, bytes)| overlaps_arena(&port.operand, offset, bytes))
                || !only_writers && step.inputs.iter().any(hits)
        })
        .collect()
}

fn overlaps_arena(operand: &Operand, offset: usize, bytes: usize) -> bool {
    operand.place == Place::Arena && overlap(&operand.range(), &(offset..offset + bytes))
}

pub(super) fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}
