//! Validity of a plan, defined independently of the passes.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::connect::overlap;
use super::data::{Edge, Operand, Place, Plan, Point};
use crate::tensor::{Desc, MAX_RANK};

/// An invalid part of a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFault {
    /// An invalid description, or an invalid place for the tensor.
    #[error("{what}: {desc} {reason}")]
    Layout {
        /// The step, port or leaf.
        what: String,
        /// The description.
        desc: Desc,
        /// The fault.
        reason: &'static str,
    },
    /// A tensor that extends past the end of its memory, or is in memory that does not exist.
    #[error("{what} reaches past the end of its memory: {place:?}, bytes {range:?} of {size}")]
    Bounds {
        /// The step or port.
        what: String,
        /// The memory.
        place: Place,
        /// The bytes it would access.
        range: Range<usize>,
        /// Size of the memory.
        size: usize,
    },
    /// A step or port would read other bytes than its value's.
    #[error("{what} reads value {wanted} at {range:?}, where {found} lies by then")]
    Content {
        /// The step or port.
        what: String,
        /// The value to read.
        wanted: u32,
        /// The actual content.
        found: String,
        /// The bytes it would read.
        range: Range<usize>,
    },
    /// Two tensors of one step share bytes and one of them is written.
    #[error("step `{step}` writes bytes {range:?}, which it also {how}")]
    Alias {
        /// The step.
        step: String,
        /// The shared bytes.
        range: Range<usize>,
        /// Verb phrase: reads, writes as another output, or uses as scratch.
        how: &'static str,
    },
    /// Two accesses on different lanes, at least one of them a write, that no edge orders.
    #[error("nothing orders {first:?} before {second:?}{}, and both touch bytes {range:?} of {place:?}", across(.across_runs))]
    Race {
        /// The earlier access.
        first: Point,
        /// The later access.
        second: Point,
        /// True if the later access belongs to the next run.
        across_runs: bool,
        /// The memory.
        place: Place,
        /// The bytes that both access.
        range: Range<usize>,
    },
    /// Two leaves or ports of the same kind and name: binding by name would give both the same memory.
    #[error("two {what}s of the plan are named `{name}`, and names are what they are bound by")]
    Duplicate {
        /// Weight, state, input or output.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A step without outputs.
    #[error("step `{step}` has no output; a step writes one at least")]
    NoOutput {
        /// The step.
        step: String,
    },
    /// A write to a weight or a constant, or an input outside the arena.
    #[error("{what} writes into {place:?}, which it may not")]
    ReadOnly {
        /// The step or port.
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

/// Names used for binding must be unique, since tensors of the same name may differ in size.
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

/// A plan may come from a file. All later checks rely on sizes whose sums do not overflow.
fn layouts(plan: &Plan) -> Result<(), PlanFault> {
    let fault = |what: String, desc: Desc, reason| Err(PlanFault::Layout { what, desc, reason });
    for (name, desc) in plan.leaves() {
        if let Err(reason) = extent(desc) {
            return fault(format!("leaf `{name}`"), *desc, reason);
        }
    }
    for port in plan.inputs.iter().chain(&plan.outputs) {
        if let Err(reason) = check_operand(&port.operand) {
            return fault(format!("port `{}`", port.name), port.operand.desc, reason);
        }
    }
    for step in &plan.steps {
        let what = || format!("step `{}`", step.name);
        for operand in step.inputs.iter().chain(&step.outputs) {
            if let Err(reason) = check_operand(operand) {
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

/// Bytes from the first element to the end of the last, or the reason why the description is invalid.
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

fn check_operand(operand: &Operand) -> Result<(), &'static str> {
    let (extent, dtype) = (extent(&operand.desc)?, operand.desc.dtype);
    if dtype.is_plain() && !operand.offset.is_multiple_of(dtype.block_bytes()) {
        return Err("lies where its elements are not aligned");
    }
    // No operator makes such a view; without it, a tensor has at most as many elements as its memory has bytes.
    if overlaps_itself(&operand.desc) {
        return Err("has elements that share a byte");
    }
    operand.offset.checked_add(extent).map(|_| ()).ok_or("ends past every address")
}

/// True if two elements may share a byte: a stride is shorter than the extent of the dimensions within it.
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

/// The first output may share memory with one input, and only if both cover exactly the same bytes in the same layout;
/// later outputs only with a state. Outputs must not overlap each other, and scratch memory must not overlap anything.
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

/// Walks the steps, and tracks the last value written to each byte of the arena and the content of each state.
fn contents(plan: &Plan) -> Result<(), PlanFault> {
    let mut arena = Contents::default();
    let mut states = StateContents(BTreeMap::new());
    for port in &plan.inputs {
        arena.write(port.operand.range(), port.operand.value);
    }
    for step in &plan.steps {
        for input in &step.inputs {
            arena.expect_value(|| format!("step `{}`", step.name), input)?;
            states.expect_value(|| format!("step `{}`", step.name), input)?;
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
    // An input keeps its value until it is set again, perhaps for many runs.
    for port in plan.inputs.iter().chain(&plan.outputs) {
        arena.expect_value(|| format!("port `{}` after the run", port.name), &port.operand)?;
        states.expect_value(|| format!("port `{}` after the run", port.name), &port.operand)?;
    }
    Ok(())
}

/// The content of each state. The first value read is the content from before the run.
struct StateContents(BTreeMap<Place, u32>);

impl StateContents {
    fn expect_value(&mut self, what: impl Fn() -> String, operand: &Operand) -> Result<(), PlanFault> {
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

/// The values in memory: disjoint ranges by their start.
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

    fn expect_value(&self, what: impl Fn() -> String, operand: &Operand) -> Result<(), PlanFault> {
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

/// Accesses of the same memory on different lanes must be ordered if one of them writes.
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
            // Within a run, uploads come first and downloads last; across runs the opposite.
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

/// True if an edge, together with the order of each lane, orders `first` before `second`.
fn ordered(edges: &HashSet<Edge>, first: Point, second: Point, across_runs: bool) -> bool {
    let after = |lane: Point, from: Point| rank(from).0 == rank(lane).0 && rank(from) >= rank(lane);
    let before = |lane: Point, to: Point| rank(to).0 == rank(lane).0 && rank(to) <= rank(lane);
    edges
        .iter()
        .any(|edge| edge.across_runs == across_runs && after(first, edge.from) && before(second, edge.to))
}

/// The lane, and the position in it.
fn rank(point: Point) -> (u8, u8, u32) {
    match point {
        Point::Upload(i) => (0, 0, i),
        Point::Download(i) => (0, 1, i),
        Point::Step(i) => (1, 0, i),
    }
}
