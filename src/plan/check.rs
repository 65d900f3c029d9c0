//! The legal form of a plan, stated without looking at how the passes came to it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::connect::overlap;
use super::data::{Edge, Operand, Place, Plan, Point};
use crate::tensor::{Desc, MAX_RANK};

/// What is illegal about a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFault {
    /// A description that is no tensor, or a place where no such tensor can lie.
    #[error("{what}: {desc} {reason}")]
    Layout {
        /// Which step, port or leaf.
        what: String,
        /// The description.
        desc: Desc,
        /// What is wrong with it.
        reason: &'static str,
    },
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
        /// Reads, writes as another output, or uses as scratch.
        how: &'static str,
    },
    /// Two accesses of which one writes, on different lanes, that no edge orders.
    #[error("nothing orders {first:?} before {second:?}{}, and both touch bytes {range:?} of {place:?}", across(.across_runs))]
    Race {
        /// The earlier one.
        first: Point,
        /// The later one.
        second: Point,
        /// Whether the later one is of the next run.
        across_runs: bool,
        /// The memory.
        place: Place,
        /// The bytes both touch.
        range: Range<usize>,
    },
    /// Two leaves or ports of one kind and name: what is bound by name would be one memory for both.
    #[error("two {what}s of the plan are named `{name}`, and names are what they are bound by")]
    Duplicate {
        /// Weight, state, input or output.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A step that writes nothing.
    #[error("step `{step}` has no output; a step writes one at least")]
    NoOutput {
        /// The step.
        step: String,
    },
    /// A step that writes a weight or a constant, or an input outside of the arena.
    #[error("{what} writes into {place:?}, which it may not")]
    ReadOnly {
        /// Which step or port.
        what: String,
        /// The memory.
        place: Place,
    },
}

fn across(across_runs: &bool) -> &'static str {
    if *across_runs { " of the next run" } else { "" }
}

/// Checks a plan.
pub fn check(plan: &Plan) -> Result<(), PlanFault> {
    names(plan)?;
    layouts(plan)?;
    bounds(plan)?;
    aliases(plan)?;
    contents(plan)?;
    races(plan)
}

/// What is bound by name must be the only one of that name: the bounds of one say nothing about another.
fn names(plan: &Plan) -> Result<(), PlanFault> {
    unique("weight", plan.weights.iter().map(|slot| &slot.name))?;
    unique("state", plan.states.iter().map(|slot| &slot.name))?;
    unique("input", plan.inputs.iter().map(|port| &port.name))?;
    unique("output", plan.outputs.iter().map(|port| &port.name))
}

fn unique<'p>(what: &'static str, mut names: impl Iterator<Item = &'p String>) -> Result<(), PlanFault> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(name) => Err(PlanFault::Duplicate { what, name: name.clone() }),
        None => Ok(()),
    }
}

/// A plan may come from a file. Everything after this relies on sizes that can be added up.
fn layouts(plan: &Plan) -> Result<(), PlanFault> {
    let fault = |what: String, desc: Desc, reason| Err(PlanFault::Layout { what, desc, reason });
    for (name, desc) in plan.leaves() {
        if let Err(reason) = extent(desc) {
            return fault(format!("leaf `{name}`"), *desc, reason);
        }
    }
    for port in plan.inputs.iter().chain(&plan.outputs) {
        if let Err(reason) = lies_well(&port.operand) {
            return fault(format!("port `{}`", port.name), port.operand.desc, reason);
        }
    }
    for step in &plan.steps {
        let what = || format!("step `{}`", step.name);
        for operand in step.inputs.iter().chain(&step.outputs) {
            if let Err(reason) = lies_well(operand) {
                return fault(what(), operand.desc, reason);
            }
        }
        let Some(first) = step.outputs.first() else {
            return Err(PlanFault::NoOutput { step: step.name.clone() });
        };
        if let Some((offset, bytes)) = step.scratch
            && (offset.checked_add(bytes).is_none() || !offset.is_multiple_of(plan.device.alignment))
        {
            return fault(what(), first.desc, "is made with scratch memory at no place for it");
        }
    }
    Ok(())
}

/// Bytes from the first element to the end of the last, or why there are none.
fn extent(desc: &Desc) -> Result<usize, &'static str> {
    let (elements, bytes) = (desc.dtype.block_elements(), desc.dtype.block_bytes());
    if desc.shape.ne().contains(&0) {
        return Err("holds no element");
    }
    if !desc.shape.dim(0).is_multiple_of(elements) {
        return Err("does not hold whole blocks");
    }
    if desc.dtype.is_plain() && !desc.strides.iter().all(|stride| stride.is_multiple_of(bytes)) {
        return Err("has elements that are not aligned");
    }
    if !desc.dtype.is_plain() && !desc.rows_are_contiguous() {
        return Err("has gaps between the blocks of a row");
    }
    let last = |i: usize| {
        let n = if i == 0 { desc.shape.dim(0) / elements } else { desc.shape.dim(i) };
        (n - 1).checked_mul(desc.strides[i])
    };
    let end = (0..MAX_RANK).try_fold(bytes, |end, i| end.checked_add(last(i)?));
    end.filter(|&end| isize::try_from(end).is_ok()).ok_or("is too large to address")
}

fn lies_well(operand: &Operand) -> Result<(), &'static str> {
    let (extent, dtype) = (extent(&operand.desc)?, operand.desc.dtype);
    if dtype.is_plain() && !operand.offset.is_multiple_of(dtype.block_bytes()) {
        return Err("lies where its elements are not aligned");
    }
    // No operator makes such a view, and then no tensor has more elements than its memory has bytes.
    if overlaps_itself(&operand.desc) {
        return Err("has elements that share a byte");
    }
    operand.offset.checked_add(extent).map(|_| ()).ok_or("ends past every address")
}

/// Whether two elements may share a byte: a stride is shorter than what lies within it.
fn overlaps_itself(desc: &Desc) -> bool {
    let blocks = desc.shape.dim(0) / desc.dtype.block_elements();
    let mut dims = [0, 1, 2, 3].map(|i| (desc.strides[i], if i == 0 { blocks } else { desc.shape.dim(i) }));
    dims.sort_unstable();
    let mut end = desc.dtype.block_bytes();
    dims.into_iter().filter(|&(_, n)| n > 1).any(|(stride, n)| {
        let overlaps = stride < end;
        end += (n - 1) * stride;
        overlaps
    })
}

fn bounds(plan: &Plan) -> Result<(), PlanFault> {
    let size = |place: Place| match place {
        Place::Arena => plan.arena,
        Place::Weight(i) => plan.weights.get(i as usize).map_or(0, |slot| slot.desc.extent()),
        Place::State(i) => plan.states.get(i as usize).map_or(0, |slot| slot.desc.extent()),
        Place::Constant(i) => plan.constants.get(i as usize).map_or(0, |(_, bytes)| bytes.len()),
    };
    let inside = |what: String, place: Place, range: Range<usize>| {
        let size = size(place);
        if range.end <= size { Ok(()) } else { Err(PlanFault::Bounds { what, place, range, size }) }
    };
    for step in &plan.steps {
        for operand in step.inputs.iter().chain(&step.outputs) {
            inside(format!("step `{}`", step.name), operand.place, operand.range())?;
        }
        if let Some((offset, bytes)) = step.scratch {
            inside(format!("scratch of step `{}`", step.name), Place::Arena, offset..offset + bytes)?;
        }
        let read_only = |output: &&Operand| matches!(output.place, Place::Weight(_) | Place::Constant(_));
        if let Some(output) = step.outputs.iter().find(read_only) {
            let what = format!("step `{}`", step.name);
            return Err(PlanFault::ReadOnly { what, place: output.place });
        }
    }
    if let Some(port) = plan.inputs.iter().find(|port| port.operand.place != Place::Arena) {
        let what = format!("input `{}`", port.name);
        return Err(PlanFault::ReadOnly { what, place: port.operand.place });
    }
    for port in plan.inputs.iter().chain(&plan.outputs) {
        inside(format!("port `{}`", port.name), port.operand.place, port.operand.range())?;
    }
    Ok(())
}

/// An output may lie over one input, and only if the whole of both is the same bytes in the same layout; outputs after
/// the first only in a state. Outputs lie apart from each other, and scratch memory from everything.
fn aliases(plan: &Plan) -> Result<(), PlanFault> {
    for step in &plan.steps {
        let fault = |range: Range<usize>, how| Err(PlanFault::Alias { step: step.name.clone(), range, how });
        for (i, output) in step.outputs.iter().enumerate() {
            if step.outputs[..i].iter().any(|other| other.shares_memory(output)) {
                return fault(output.range(), "writes as another output");
            }
            let mut over = step.inputs.iter().filter(|input| input.shares_memory(output));
            let (first, second) = (over.next(), over.next());
            let Some(input) = first else { continue };
            let same = input.offset == output.offset && input.desc == output.desc;
            let may = i == 0 || output.place != Place::Arena;
            if !(same && may) || second.is_some() {
                return fault(second.unwrap_or(input).range(), "reads");
            }
        }
        let Some((offset, bytes)) = step.scratch else { continue };
        let scratch = offset..offset + bytes;
        let hits = |operand: &Operand| operand.place == Place::Arena && overlap(&operand.range(), &scratch);
        if step.inputs.iter().chain(&step.outputs).any(hits) {
            return fault(scratch, "uses as scratch");
        }
    }
    Ok(())
}

/// Walks the steps and keeps, for every byte of the arena, which value was written there last, and for
/// every state, which content it has.
fn contents(plan: &Plan) -> Result<(), PlanFault> {
    let mut arena = Contents::default();
    let mut states = StateContents(BTreeMap::new());
    for port in &plan.inputs {
        arena.write(port.operand.range(), port.operand.value);
    }
    for step in &plan.steps {
        for input in &step.inputs {
            arena.demand(|| format!("step `{}`", step.name), input)?;
            states.demand(|| format!("step `{}`", step.name), input)?;
        }
        if let Some((offset, bytes)) = step.scratch {
            arena.clear(offset..offset + bytes);
        }
        for output in &step.outputs {
            match output.place {
                Place::Arena => arena.write(output.range(), output.value),
                place => _ = states.0.insert(place, output.value),
            }
        }
    }
    // An input stays until it is given again, perhaps for many runs.
    for port in plan.inputs.iter().chain(&plan.outputs) {
        arena.demand(|| format!("port `{}` after the run", port.name), &port.operand)?;
        states.demand(|| format!("port `{}` after the run", port.name), &port.operand)?;
    }
    Ok(())
}

/// The content of each state. What is read first is what was there before the run.
struct StateContents(BTreeMap<Place, u32>);

impl StateContents {
    fn demand(&mut self, what: impl Fn() -> String, operand: &Operand) -> Result<(), PlanFault> {
        if !matches!(operand.place, Place::State(_)) {
            return Ok(());
        }
        match *self.0.entry(operand.place).or_insert(operand.value) {
            value if value == operand.value => Ok(()),
            value => Err(PlanFault::Content {
                what: what(),
                wanted: operand.value,
                found: format!("value {value}"),
                range: operand.range(),
            }),
        }
    }
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
        if operand.place != Place::Arena {
            return Ok(());
        }
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

/// Every two accesses of the same memory on different lanes, one of them a write, must be ordered.
fn races(plan: &Plan) -> Result<(), PlanFault> {
    let edges: HashSet<Edge> = plan.edges.iter().copied().collect();
    let accesses = accesses(plan);
    let copies = accesses.iter().filter(|access| !matches!(access.point, Point::Step(_)));
    for copy in copies {
        for step in accesses.iter().filter(|access| matches!(access.point, Point::Step(_))) {
            let apart = copy.place != step.place || !overlap(&copy.range, &step.range);
            if !(copy.writes || step.writes) || apart {
                continue;
            }
            let is_upload = matches!(copy.point, Point::Upload(_));
            // Within a run an upload comes before, a download after; across runs the other way round.
            for (first, second, across_runs) in
                [(copy.point, step.point, !is_upload), (step.point, copy.point, is_upload)]
            {
                if !ordered(&edges, first, second, across_runs) {
                    let (place, range) = (copy.place, copy.range.clone());
                    return Err(PlanFault::Race { first, second, across_runs, place, range });
                }
            }
        }
    }
    Ok(())
}

struct Access {
    point: Point,
    place: Place,
    range: Range<usize>,
    writes: bool,
}

fn accesses(plan: &Plan) -> Vec<Access> {
    let mut all = Vec::new();
    let mut add = |point, operand: &Operand, writes| {
        all.push(Access { point, place: operand.place, range: operand.range(), writes });
    };
    for (i, port) in plan.inputs.iter().enumerate() {
        add(Point::Upload(i as u32), &port.operand, true);
    }
    for (i, step) in plan.steps.iter().enumerate() {
        let point = Point::Step(i as u32);
        step.inputs.iter().for_each(|input| add(point, input, false));
        step.outputs.iter().for_each(|output| add(point, output, true));
    }
    for (i, port) in plan.outputs.iter().enumerate() {
        add(Point::Download(i as u32), &port.operand, false);
    }
    for (i, step) in plan.steps.iter().enumerate() {
        if let Some((offset, bytes)) = step.scratch {
            let (point, place) = (Point::Step(i as u32), Place::Arena);
            all.push(Access { point, place, range: offset..offset + bytes, writes: true });
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
