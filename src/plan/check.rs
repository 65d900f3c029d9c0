//! The legal form of a plan, stated without looking at how the passes came to it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::connect::overlap;
use super::data::{Edge, Operand, Place, Plan, Point};

/// What is illegal about a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// A tensor that reaches past the end of its memory, or into memory that there is not.
    #[error("{what} reaches past the end of its memory: {place:?}, bytes {range:?} of {size}")]
    Bounds {
        /// Which step or port.
        what: String,
        /// Which memory.
        place: Place,
        /// The bytes it would touch.
        range: Range<usize>,
        /// The bytes there are.
        size: usize,
    },
    /// A step or port that would read other bytes than those meant for it.
    #[error("{what} reads value {wanted} at {range:?}, where {found} lies by then")]
    Content {
        /// Which step or port.
        what: String,
        /// The value that it means.
        wanted: u32,
        /// What lies there instead.
        found: String,
        /// The bytes it would read.
        range: Range<usize>,
    },
    /// Two tensors of one step that share bytes where one is written.
    #[error("step `{step}` writes bytes {range:?}, which it also {how}")]
    Alias {
        /// The step.
        step: String,
        /// The bytes shared.
        range: Range<usize>,
        /// Reads, or uses as scratch.
        how: &'static str,
    },
    /// Two accesses of which one writes, on different lanes, that no edge orders.
    #[error("nothing orders {first:?} before {second:?}{}, and both touch {range:?} of the arena", across(.across_runs))]
    Race {
        /// The earlier one.
        first: Point,
        /// The later one.
        second: Point,
        /// Whether the later one is of the next run.
        across_runs: bool,
        /// The bytes both touch.
        range: Range<usize>,
    },
    /// A step whose memory is not what its place allows.
    #[error("step `{step}` writes into {place:?}, which is only read")]
    ReadOnly {
        /// The step.
        step: String,
        /// The memory.
        place: Place,
    },
}

fn across(across_runs: &bool) -> &'static str {
    if *across_runs { " of the next run" } else { "" }
}

/// Checks a plan.
pub fn check(plan: &Plan) -> Result<(), PlanFault> {
    bounds(plan)?;
    aliases(plan)?;
    contents(plan)?;
    races(plan)
}

fn bounds(plan: &Plan) -> Result<(), PlanFault> {
    let slot = |slots: &[super::LeafSlot], i: u32| slots.get(i as usize).map(|slot| slot.desc.extent());
    let size = |place: Place| match place {
        Place::Arena => plan.arena,
        Place::Weight(i) => slot(&plan.weights, i).unwrap_or(0),
        Place::State(i) => slot(&plan.states, i).unwrap_or(0),
        Place::Constant(i) => plan.constants.get(i as usize).map_or(0, |(_, bytes)| bytes.len()),
    };
    let inside = |what: String, place: Place, range: Range<usize>| {
        let size = size(place);
        if range.end <= size { Ok(()) } else { Err(PlanFault::Bounds { what, place, range, size }) }
    };
    for step in &plan.steps {
        for operand in step.inputs.iter().chain([&step.output]) {
            inside(format!("step `{}`", step.name), operand.place, operand.range())?;
        }
        if let Some((offset, bytes)) = step.scratch {
            inside(format!("scratch of step `{}`", step.name), Place::Arena, offset..offset + bytes)?;
        }
        if matches!(step.output.place, Place::Weight(_) | Place::Constant(_)) {
            return Err(PlanFault::ReadOnly { step: step.name.clone(), place: step.output.place });
        }
    }
    for port in plan.inputs.iter().chain(&plan.outputs) {
        inside(format!("port `{}`", port.name), port.operand.place, port.operand.range())?;
    }
    Ok(())
}

/// A step may write over an input only if the whole of both is the same bytes in the same layout.
fn aliases(plan: &Plan) -> Result<(), PlanFault> {
    for step in &plan.steps {
        let out = &step.output;
        let fault = |range: Range<usize>, how| Err(PlanFault::Alias { step: step.name.clone(), range, how });
        let mut in_place = 0;
        for input in &step.inputs {
            let shares = input.shares_memory(out);
            let is_state = matches!(out.place, Place::State(_));
            if shares && !is_state {
                in_place += 1;
                if input.offset != out.offset || input.desc != out.desc || in_place > 1 {
                    return fault(input.range(), "reads");
                }
            }
        }
        let Some((offset, bytes)) = step.scratch else { continue };
        let scratch = offset..offset + bytes;
        let hits = |operand: &&Operand| operand.place == Place::Arena && overlap(&operand.range(), &scratch);
        if step.inputs.iter().chain([out]).any(|operand| hits(&operand)) {
            return fault(scratch, "uses as scratch");
        }
    }
    Ok(())
}

/// Walks the steps and keeps, for every byte of the arena, which value was written there last.
fn contents(plan: &Plan) -> Result<(), PlanFault> {
    let mut arena = Contents::default();
    for port in &plan.inputs {
        arena.write(port.operand.range(), port.operand.value);
    }
    for step in &plan.steps {
        for input in step.inputs.iter().filter(|input| input.place == Place::Arena) {
            arena.demand(|| format!("step `{}`", step.name), input)?;
        }
        if let Some((offset, bytes)) = step.scratch {
            arena.clear(offset..offset + bytes);
        }
        if step.output.place == Place::Arena {
            arena.write(step.output.range(), step.output.value);
        }
    }
    for port in plan.outputs.iter().filter(|port| port.operand.place == Place::Arena) {
        arena.demand(|| format!("output `{}`", port.name), &port.operand)?;
    }
    Ok(())
}

/// Which value lies where: disjoint ranges by their start.
#[derive(Default)]
struct Contents(BTreeMap<usize, (usize, u32)>);

impl Contents {
    fn clear(&mut self, range: Range<usize>) {
        let before = self.0.range(..range.start).next_back().map(|(&start, &(end, _))| (start, end));
        let first = before.filter(|&(_, end)| end > range.start).map_or(range.start, |(start, _)| start);
        let hit: Vec<usize> = self.0.range(first..range.end).map(|(&start, _)| start).collect();
        for start in hit {
            let Some((end, value)) = self.0.remove(&start) else { continue };
            if start < range.start {
                self.0.insert(start, (range.start, value));
            }
            if end > range.end {
                self.0.insert(range.end, (end, value));
            }
        }
    }

    fn write(&mut self, range: Range<usize>, value: u32) {
        self.clear(range.clone());
        self.0.insert(range.start, (range.end, value));
    }

    fn demand(&self, what: impl Fn() -> String, operand: &Operand) -> Result<(), PlanFault> {
        let range = operand.range();
        let mut at = range.start;
        while at < range.end {
            let here = self.0.range(..=at).next_back().filter(|(_, (end, _))| *end > at);
            match here {
                Some((_, &(end, value))) if value == operand.value => at = end,
                other => {
                    let found = other.map_or("nothing".into(), |(_, (_, value))| format!("value {value}"));
                    return Err(PlanFault::Content { what: what(), wanted: operand.value, found, range });
                }
            }
        }
        Ok(())
    }
}

/// Every two accesses of the arena on different lanes, one of them a write, must be ordered.
fn races(plan: &Plan) -> Result<(), PlanFault> {
    let edges: HashSet<Edge> = plan.edges.iter().copied().collect();
    let accesses = accesses(plan);
    let copies = accesses.iter().filter(|access| !matches!(access.point, Point::Step(_)));
    for copy in copies {
        for step in accesses.iter().filter(|access| matches!(access.point, Point::Step(_))) {
            if !(copy.writes || step.writes) || !overlap(&copy.range, &step.range) {
                continue;
            }
            let is_upload = matches!(copy.point, Point::Upload(_));
            // Within a run an upload comes before, a download after; across runs the other way round.
            for (first, second, across_runs) in
                [(copy.point, step.point, !is_upload), (step.point, copy.point, is_upload)]
            {
                if !ordered(&edges, first, second, across_runs) {
                    let range = copy.range.clone();
                    return Err(PlanFault::Race { first, second, across_runs, range });
                }
            }
        }
    }
    Ok(())
}

struct Access {
    point: Point,
    range: Range<usize>,
    writes: bool,
}

fn accesses(plan: &Plan) -> Vec<Access> {
    let mut all = Vec::new();
    let mut add = |point, operand: &Operand, writes| {
        if operand.place == Place::Arena {
            all.push(Access { point, range: operand.range(), writes });
        }
    };
    for (i, port) in plan.inputs.iter().enumerate() {
        add(Point::Upload(i as u32), &port.operand, true);
    }
    for (i, step) in plan.steps.iter().enumerate() {
        let point = Point::Step(i as u32);
        step.inputs.iter().for_each(|input| add(point, input, false));
        add(point, &step.output, true);
    }
    for (i, port) in plan.outputs.iter().enumerate() {
        add(Point::Download(i as u32), &port.operand, false);
    }
    for (i, step) in plan.steps.iter().enumerate() {
        if let Some((offset, bytes)) = step.scratch {
            all.push(Access { point: Point::Step(i as u32), range: offset..offset + bytes, writes: true });
        }
    }
    all
}

/// Whether an edge, with the order of each lane, puts `first` before `second`.
fn ordered(edges: &HashSet<Edge>, first: Point, second: Point, across_runs: bool) -> bool {
    let after = |lane: Point, from: Point| rank(from).0 == rank(lane).0 && rank(from) >= rank(lane);
    let before = |lane: Point, to: Point| rank(to).0 == rank(lane).0 && rank(to) <= rank(lane);
    edges
        .iter()
        .any(|edge| edge.across_runs == across_runs && after(first, edge.from) && before(second, edge.to))
}

/// Lane, and place on the lane.
fn rank(point: Point) -> (u8, u8, u32) {
    match point {
        Point::Upload(i) => (0, 0, i),
        Point::Download(i) => (0, 1, i),
        Point::Step(i) => (1, 0, i),
    }
}
