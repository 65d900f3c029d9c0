//! Runs with a timeline, and checks of their traces that hold on every device.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of this; a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rfgraph::exec::{Executor, Timeline, Trace, WeightMap};
use rfgraph::graph::Graph;
use rfgraph::plan::{DeviceDesc, Plan, compile};
use rfgraph::tensor::{DType, Desc};
use serde_json::Value;

/// A plan of two layers, in which the names of the steps begin with `name`.
pub fn plan(device: &DeviceDesc, name: &str) -> Plan {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [64, 4]);
    let w = graph.weight("w", DType::F32, [64, 64]);
    let mut h = x;
    for il in 0..2 {
        h = h.linear(w).named(format!("{name}blk.{il}.up")).relu().named(format!("{name}blk.{il}.act"));
    }
    graph.output("y", h.scale(2.0).named(format!("{name}last")));
    compile(&graph.finish().unwrap(), device).unwrap()
}

/// The weight of [`plan`].
pub fn weights() -> Arc<WeightMap> {
    let mut weights = WeightMap::new();
    let desc = Desc::contiguous(DType::F32, [64, 64]).unwrap();
    weights.insert("w", desc, bytemuck::cast_slice(&[0.01f32; 64 * 64]));
    Arc::new(weights)
}

/// Runs the plan `runs` times with a timeline of at most `limit` spans, and returns the trace.
pub fn trace(executor: &mut dyn Executor, name: &str, runs: usize, limit: usize) -> Value {
    let plan = plan(&executor.device(), name);
    let id = executor.load(plan).unwrap();
    executor.start_timeline(Timeline::new(Instant::now(), limit));
    for _ in 0..runs {
        executor.write(id, 0, bytemuck::cast_slice(&[1.0f32; 64 * 4])).unwrap();
        executor.run(id).unwrap().wait().unwrap();
    }
    let mut out = Vec::new();
    Trace::new([&*executor]).about("model", name).write(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// A slice: name, category, track, start and end in nanoseconds.
#[derive(Debug)]
pub struct Slice<'t> {
    pub name: &'t str,
    pub cat: &'t str,
    pub track: (u64, u64),
    pub start: u64,
    pub end: u64,
    pub args: &'t Value,
}

/// The slices of a trace, in order.
pub fn slices(trace: &Value) -> Vec<Slice<'_>> {
    let ns = |value: &Value| (value.as_f64().unwrap() * 1e3).round() as u64;
    let events = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
    let slice = |event: &'_ Value| -> (u64, u64) { (ns(&event["ts"]), ns(&event["ts"]) + ns(&event["dur"])) };
    events
        .map(|event| Slice {
            name: event["name"].as_str().unwrap(),
            cat: event["cat"].as_str().unwrap(),
            track: (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap()),
            start: slice(event).0,
            end: slice(event).1,
            args: &event["args"],
        })
        .collect()
}

/// Asserts that the slices of each track follow each other or are nested, with the outer one written first.
fn assert_nested(slices: &[Slice<'_>]) {
    let mut tracks: BTreeMap<(u64, u64), Vec<&Slice<'_>>> = BTreeMap::new();
    slices.iter().for_each(|slice| tracks.entry(slice.track).or_default().push(slice));
    for slices in tracks.values() {
        let mut open: Vec<&Slice<'_>> = Vec::new();
        for slice in slices {
            while open
                .last()
                .is_some_and(|outer| outer.end <= slice.start && outer.start < slice.start.max(1))
            {
                open.pop();
            }
            if let Some(outer) = open.last().filter(|outer| outer.end > slice.start) {
                assert!(outer.start <= slice.start && slice.end <= outer.end, "{slice:?} crosses {outer:?}");
            }
            open.push(slice);
        }
    }
}

/// The slices of one category.
pub fn of_kind<'s, 't>(slices: &'s [Slice<'t>], cat: &str) -> Vec<&'s Slice<'t>> {
    slices.iter().filter(|slice| slice.cat == cat).collect()
}

/// Asserts what holds on every device: every step is in each run, in order, with its cost.
pub fn assert_whole(trace: &Value, plan: &Plan, runs: usize) {
    let slices = slices(trace);
    assert_nested(&slices);
    let steps = of_kind(&slices, "step");
    let names: Vec<&str> = steps.iter().map(|slice| slice.name).collect();
    let wanted: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, wanted.repeat(runs));
    let whole: Vec<_> = slices.iter().filter(|slice| slice.name.starts_with("run ")).collect();
    assert_eq!(whole.len(), runs);
    for (run, steps) in whole.iter().zip(steps.chunks(plan.steps.len())) {
        assert!(run.start <= steps[0].start && steps.last().unwrap().end <= run.end, "{run:?} {steps:?}");
        // The same clock reading ends a step and begins the next.
        assert!(steps.windows(2).all(|pair| pair[0].end == pair[1].start), "{steps:?}");
        for (slice, step) in steps.iter().zip(&plan.steps) {
            assert_eq!(slice.args["bytes"], step.cost.bytes);
            assert_eq!(slice.args["flops"], step.cost.flops);
            let rate = step.cost.bytes as f64 / (slice.end - slice.start).max(1) as f64;
            let told = slice.args["GB/s"].as_f64();
            assert!(slice.end == slice.start || (told.unwrap() - rate).abs() < 0.001, "{slice:?}");
        }
    }
    assert_eq!(of_kind(&slices, "layer").len(), 2 * runs);
    assert_eq!(trace["otherData"]["spans_left_out"], 0);
}
