//! Data flow: the writer of each value that is read.

use std::collections::BTreeMap;

use serde::Serialize;

use super::data::{Operand, Plan, Point, Step};

/// For each operand that is read, the input or step that last wrote its value. Values that no step writes (weights,
/// constants, a state's content from before the run) have no source.
#[derive(Debug, Serialize)]
pub(super) struct Flow {
    /// For each step, the sources of its inputs.
    pub reads: Vec<Vec<Option<Point>>>,
    /// The sources of the plan's outputs.
    pub results: Vec<Option<Point>>,
}

impl Flow {
    pub fn of(plan: &Plan) -> Flow {
        let uploads = plan.inputs.iter().enumerate();
        let mut written: BTreeMap<u32, Point> =
            uploads.map(|(i, port)| (port.operand.value, Point::Upload(i as u32))).collect();
        let mut reads = Vec::with_capacity(plan.steps.len());
        for (i, step) in plan.steps.iter().enumerate() {
            reads.push(step.inputs.iter().map(|input| written.get(&input.value).copied()).collect());
            written.extend(step.outputs.iter().map(|output| (output.value, Point::Step(i as u32))));
        }
        let results = plan.outputs.iter().map(|port| written.get(&port.operand.value).copied()).collect();
        Flow { reads, results }
    }

    /// Source, reader and operand of each read.
    pub fn edges<'p>(&self, plan: &'p Plan) -> Vec<(Point, Point, &'p Operand)> {
        let step = |(i, (step, sources)): (usize, (&'p Step, &Vec<Option<Point>>))| -> Vec<_> {
            let reads = step.inputs.iter().zip(sources);
            reads.filter_map(|(input, from)| Some(((*from)?, Point::Step(i as u32), input))).collect()
        };
        let ports = plan.outputs.iter().zip(&self.results).enumerate();
        let results =
            ports.filter_map(|(i, (port, from))| Some(((*from)?, Point::Download(i as u32), &port.operand)));
        plan.steps.iter().zip(&self.reads).enumerate().flat_map(step).chain(results).collect()
    }
}
