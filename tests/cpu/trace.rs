//! Timelines of the CPU: the spans of a run, and the trace written from them.

use std::num::NonZeroUsize;
use std::time::Instant;

use rfgraph::exec::{Budget, CpuExecutor, Executor, SpanKind, Timeline, Trace};
use rfgraph::graph::Graph;
use rfgraph::plan::compile;
use rfgraph::tensor::DType;

use crate::support::several::{ROWS, Recur};
use crate::support::timelines::{assert_whole, of_kind, plan, slices, trace, weights};

fn cpu(threads: usize) -> CpuExecutor {
    let budget = Budget::new(1 << 30, 1 << 30, 1.0);
    CpuExecutor::new(NonZeroUsize::new(threads).unwrap(), weights(), budget).unwrap()
}

#[test]
fn cpu_trace_has_every_step_and_thread() {
    for threads in [1, 2] {
        let mut executor = cpu(threads);
        let trace = trace(&mut executor, "", 3, 10_000);
        let plan = plan(&executor.device(), "");
        assert_whole(&trace, &plan, 3);
        let slices = slices(&trace);
        let shares = of_kind(&slices, "share");
        assert_eq!(shares.len(), 3 * threads * plan.steps.len());
        assert_eq!(of_kind(&slices, "copy").len(), 3, "inputs that are written");
    }
}

#[test]
fn trace_lists_all_outputs_of_a_step() {
    let mut executor = cpu(2);
    ROWS.into_iter().for_each(|row| executor.register(row));
    let graph = Graph::new();
    let (x, slots) = (graph.input("x", DType::F32, [4, 2, 3]), graph.input("slots", DType::I32, [3]));
    let state = graph.recurrent_state("s", DType::F32, [4, 2, 5]);
    let [_, _, sums] = graph.apply_several(Recur { keep: 0.5 }, &[x, state, slots]);
    graph.output("sums", sums);
    let id = executor.load(compile(&graph.finish().unwrap(), &executor.device()).unwrap()).unwrap();
    executor.start_timeline(Timeline::new(Instant::now(), 100));
    executor.set(id, "x", &[1.0f32; 24]).unwrap();
    executor.set(id, "slots", &[0i32, 1, 4]).unwrap();
    executor.run(id).unwrap().wait().unwrap();
    let mut out = Vec::new();
    Trace::new([&executor as &dyn Executor]).write(&mut out).unwrap();
    let trace = serde_json::from_slice(&out).unwrap();
    let slices = slices(&trace);
    let [step] = of_kind(&slices, "step")[..] else { panic!("{slices:?}") };
    let writes = step.args["writes"].as_str().unwrap();
    assert!(writes.contains(" and F32[4, 2, 5] recurrent state s and F32[4, 2] @"), "{writes}");
}

#[test]
fn trace_with_hostile_names_is_json() {
    let name = "\"}],\n\u{0}</script>\\";
    let mut executor = cpu(1);
    let trace = trace(&mut executor, name, 1, 10_000);
    assert!(slices(&trace).iter().any(|slice| slice.name == format!("{name}last")));
    assert_eq!(trace["otherData"]["model"], name);
}

#[test]
fn spans_over_the_limit_are_counted_and_runs_stay_whole() {
    let mut executor = cpu(1);
    let steps = plan(&executor.device(), "").steps.len();
    // A write, the run, and for each step of the plan the step and its only share.
    let spans = 2 + 2 * steps;
    let trace = trace(&mut executor, "", 5, 2 * spans + 3);
    let slices = slices(&trace);
    assert_eq!(of_kind(&slices, "step").len(), 2 * steps);
    let timeline = executor.timeline().unwrap();
    assert!(timeline.spans().len() <= timeline.limit());
    // Three runs lack their spans; their writes still fit.
    assert_eq!(timeline.left_out() as usize, 3 * (spans - 1));
    assert_eq!(trace["otherData"]["spans_left_out"], 3 * (spans - 1));
    let last = trace["traceEvents"].as_array().unwrap().last().unwrap();
    assert!(last["ph"] == "i" && last["name"].as_str().unwrap().contains("left out"), "{last}");
}

#[test]
fn timing_changes_no_output() {
    let mut executor = cpu(2);
    let plan = plan(&executor.device(), "");
    let id = executor.load(plan).unwrap();
    let run = |executor: &mut CpuExecutor| -> Vec<f32> {
        executor.set(id, "x", &[0.25f32; 64 * 4]).unwrap();
        executor.run(id).unwrap().wait().unwrap().get::<f32>("y").unwrap().to_vec()
    };
    let before = run(&mut executor);
    assert!(executor.timeline().is_none());
    executor.start_timeline(Timeline::new(Instant::now(), 1000));
    assert_eq!(run(&mut executor), before);
    assert!(executor.timeline().unwrap().spans().iter().any(|span| span.kind == SpanKind::Run));
    assert!(executor.times(id).iter().any(|time| !time.is_zero()));
}
