//! Faults in the middle of work: an allocation that is refused after others succeeded, a thread that panics, a fence
//! that fails, a slow run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rfgraph::device::Command;
use rfgraph::exec::Loading;
use rfgraph::exec::{Budget, ExecError, Executor, HipExecutor, HipOptions, WeightMap};
use rfgraph::graph::Graph;
use rfgraph::hip::api::hipErrorOutOfMemory;
use rfgraph::hip::platform::sim::{Config, Schedule};
use rfgraph::plan::{Plan, compile};
use rfgraph::tensor::{DType, Desc};

use crate::support::gpu::{Gpu, config, options};

/// The number of slots of a state.
const SLOTS: usize = 256;

/// `y = relu(x) + c`, with its row stored in two states.
fn two_states(executor: &HipExecutor) -> Plan {
    let graph = Graph::new();
    let h = graph.input("x", DType::F32, [64, 1]).relu().add(graph.constant("c", &[0.5; 64], [64]));
    let slot = graph.input("slot", DType::I32, [1]);
    for (state, kept) in [("s", "kept s"), ("t", "kept t")] {
        let state = graph.state(state, DType::F32, [64, 1, SLOTS]);
        graph.output(kept, state.kv_write(h.reshape([64, 1, 1]), slot).relu());
    }
    graph.output("y", h);
    compile(&graph.finish().unwrap(), &executor.device()).unwrap()
}

/// `y = relu(x)`.
fn relu(executor: &HipExecutor) -> Plan {
    let graph = Graph::new();
    graph.output("y", graph.input("x", DType::F32, [64]).relu());
    compile(&graph.finish().unwrap(), &executor.device()).unwrap()
}

fn no_weights() -> Arc<WeightMap> {
    Arc::new(WeightMap::new())
}

/// Constants, states and the arena are refused in turn: nothing may be freed under queued work.
#[test]
fn an_allocation_refused_in_the_middle_of_a_load_leaves_nothing() {
    let mut refused = 0;
    for nth in 0..5 {
        for seed in 0..5 {
            let gpu = Gpu::simulated(Config { seed, ..config(32) });
            let mut executor = gpu.executor(no_weights());
            let plan = two_states(&executor);
            gpu.sim().fail("hipMalloc", nth, hipErrorOutOfMemory);
            if let Err(error) = executor.load(plan) {
                refused += 1;
                assert!(error.to_string().contains("hipMalloc"), "{nth}: {error}");
                assert_eq!(executor.budget().held(), 0, "{nth}");
            }
            gpu.sim().assert_no_fault();
            assert_eq!(gpu.sim().stalls(), 0, "{nth}: freed while work was queued");
            drop(executor);
            gpu.sim().assert_no_leak();
        }
    }
    assert_eq!(refused, 4 * 5, "a constant, two states and the arena");
}

/// The progress callback of an upload may panic, on one thread or on several.
#[test]
fn a_panic_during_an_upload_fails_the_load() {
    for rows in [1, 64 << 10] {
        let mut gpu = Gpu::simulated(config(32));
        // The copies of the panicked thread were not waited for.
        gpu.may_leak = true;
        let mut weights = WeightMap::new();
        let desc = Desc::contiguous(DType::F32, [64, rows]).unwrap();
        assert!(weights.insert("w", desc, bytemuck::cast_slice(&vec![2.0f32; 64 * rows])));
        let mut executor = gpu.executor(Arc::new(weights));
        executor.set_on_loading(Arc::new(|loading| {
            assert!(!matches!(loading, Loading::Weights(..)), "the teller's own fault");
        }));
        let graph = Graph::new();
        graph.output("y", graph.weight("w", DType::F32, [64, rows]).relu());
        let plan = compile(&graph.finish().unwrap(), &executor.device()).unwrap();
        let error = executor.load(plan.clone()).unwrap_err().to_string();
        assert!(error.contains("the teller's own fault"), "{error}");
        assert!(matches!(executor.load(plan), Err(ExecError::Failed { .. })));
        drop(executor);
        gpu.sim().assert_no_fault();
    }
}

/// After a run that did not end, the device may still write its outputs; the error says how to learn more.
#[test]
fn a_run_that_failed_has_no_outputs() {
    let mut late = 0;
    // A simulated device is late for some seeds only.
    for seed in 0..20 {
        let mut gpu = Gpu::simulated(Config { seed, ..config(32) });
        // Memory of unfinished work is not freed.
        gpu.may_leak = true;
        let mut executor = gpu.executor(no_weights());
        let id = executor.load(relu(&executor)).unwrap();
        executor.set(id, "x", &[1.0f32; 64]).unwrap();
        for _ in 0..2 {
            executor.run(id).unwrap().wait().unwrap();
        }
        assert!(executor.output(id, 0).is_ok());
        executor.set_timeout(Duration::ZERO);
        let ended = executor.run(id).unwrap().wait().map(|_| ());
        let Err(error) = ended.map_err(|error| error.to_string()) else { continue };
        assert!(error.contains("it was a replay") && error.contains("RFGRAPH_HIP_TRACE=1"), "{error}");
        let failed = executor.output(id, 0);
        assert!(matches!(&failed, Err(ExecError::Failed { first }) if *first == error), "{failed:?}");
        late += 1;
    }
    assert!(late > 0, "no run was late");
}

/// A host that was late at one fence does not delay the fences after it.
#[test]
fn a_slow_run_does_not_slow_later_runs() {
    const SLOW: Duration = Duration::from_millis(400);
    for slow in [0, 3] {
        let gpu = Gpu::simulated(Config { schedule: Schedule::Eager, ..config(32) });
        let hip = HipOptions { graphs: false, ..options() };
        let mut executor = gpu.executor_with(no_weights(), hip);
        let id = executor.load(relu(&executor)).unwrap();
        let mut fastest = Duration::MAX;
        for run in 0..8 {
            executor.set(id, "x", &[1.0f32; 64]).unwrap();
            let start = Instant::now();
            let flight = executor.run(id).unwrap();
            if run == slow {
                std::thread::sleep(SLOW);
            }
            flight.wait().unwrap();
            if run > slow {
                fastest = fastest.min(start.elapsed());
            }
        }
        assert!(fastest < SLOW / 8, "{fastest:?} after run {slow} was slow");
    }
}

/// A product adds its residual in place, without a copy of the residual.
#[test]
fn a_residual_in_place_is_not_copied() {
    const TOKENS: usize = 16;
    let gpu = Gpu::simulated(config(32));
    let mut weights = WeightMap::new();
    let desc = Desc::contiguous(DType::F32, [64, 64]).unwrap();
    assert!(weights.insert("w", desc, bytemuck::cast_slice(&[0.5f32; 64 * 64])));
    let hip = HipOptions { graphs: false, blas: true, ..options() };
    let mut executor = gpu.executor_with(Arc::new(weights), hip);
    let graph = Graph::new();
    let (x, r) = (graph.input("x", DType::F32, [64, TOKENS]), graph.input("r", DType::F32, [64, TOKENS]));
    graph.output("y", x.linear(graph.weight("w", DType::F32, [64, 64])).add(r.abs()));
    let plan = compile(&graph.finish().unwrap(), &executor.device()).unwrap();
    let copies = plan.steps.iter().filter(|step| {
        let in_place = step
            .inputs
            .iter()
            .any(|input| input.place == step.outputs[0].place && input.offset == step.outputs[0].offset);
        in_place && step.commands.iter().any(|command| matches!(command, Command::Copy { .. }))
    });
    assert_eq!(copies.count(), 1, "{:?}", plan.steps);
    let id = executor.load(plan).unwrap();
    executor.set(id, "x", &[1.0f32; 64 * TOKENS]).unwrap();
    executor.set(id, "r", &[-3.0f32; 64 * TOKENS]).unwrap();
    executor.run(id).unwrap().wait().unwrap();
    // A run with unchanged inputs uploads nothing.
    gpu.sim().reset_counts();
    let outputs = executor.run(id).unwrap().wait().unwrap();
    assert_eq!(outputs.get::<f32>("y").unwrap(), [35.0; 64 * TOKENS]);
    assert_eq!(gpu.sim().count("hipMemcpyAsync"), 1, "the download");
    gpu.sim().assert_no_fault();
}

/// The pinned memory through which states are copied counts in the budget, and is freed.
#[test]
fn state_staging_is_counted_in_the_budget() {
    const BYTES: usize = 4 * 64 * SLOTS;
    let gpu = Gpu::simulated(config(32));
    let executor = |bytes: u64| {
        let budget = Budget::gpu(bytes, bytes, 1.0);
        HipExecutor::new(gpu.context.clone(), no_weights(), budget, options()).unwrap()
    };
    let mut large = executor(1 << 24);
    large.load(two_states(&large)).unwrap();
    let held = large.budget().held();
    let data: Vec<f32> = (0..64 * SLOTS).map(|i| i as f32).collect();
    large.set_state("s", &data).unwrap();
    assert_eq!(large.state("s").unwrap(), bytemuck::cast_slice::<f32, u8>(&data));
    assert_eq!(large.budget().held(), held);

    let mut small = executor(held + BYTES as u64 / 2);
    small.load(two_states(&small)).unwrap();
    gpu.sim().reset_counts();
    assert!(matches!(small.state("s"), Err(ExecError::Budget(_))));
    assert!(matches!(small.set_state("s", &data), Err(ExecError::Budget(_))));
    assert_eq!((gpu.sim().count("hipHostMalloc"), small.budget().held()), (0, held));
}

/// The pinned memory of a plan that is refused half way is freed, and its part of the budget too.
#[test]
fn pinned_memory_of_a_refused_plan_is_freed() {
    let gpu = Gpu::simulated(config(32));
    let mut executor = gpu.executor(no_weights());
    let plan = relu(&executor);
    executor.load(plan.clone()).unwrap();
    let held = executor.budget().held();
    for nth in 0..2 {
        gpu.sim().fail("hipHostMalloc", nth, hipErrorOutOfMemory);
        let error = executor.load(plan.clone()).unwrap_err().to_string();
        assert!(error.contains("hipHostMalloc"), "{nth}: {error}");
        assert_eq!(executor.budget().held(), held, "{nth}");
    }
    executor.load(plan).unwrap();
    drop(executor);
    gpu.sim().assert_no_fault();
    gpu.sim().assert_no_leak();
}
