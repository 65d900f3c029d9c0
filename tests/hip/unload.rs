//! Unloading plans on a GPU: memory comes back, nothing in flight is freed, and states stay.

use std::sync::Arc;

use rfgraph::exec::{Budget, ExecError, Executor, HipExecutor, PlanId, WeightMap};
use rfgraph::graph::Graph;
use rfgraph::hip::platform::sim::{Checks, Config};
use rfgraph::model::{CacheTypes, Output, RowOutput, Rows, Session, SessionExtras, SessionOptions};
use rfgraph::plan::{Plan, compile};
use rfgraph::tensor::{DType, Desc};

use crate::support::gpu::{self, Gpu, config, options};
use crate::support::tiny_llama::tiny_llama;

/// `y = x · w + c`, kept in a state, for `n` rows of 64.
fn plan(executor: &HipExecutor, n: usize) -> Plan {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [64, n]);
    let h = x.mul(graph.weight("w", DType::F32, [64])).add(graph.constant("c", &[0.5; 64], [64]));
    let slots = graph.input("slots", DType::I32, [n]);
    let kept = graph.state("s", DType::F32, [64, 1, 8]).kv_write(h.reshape([64, 1, n]), slots);
    graph.output("kept", kept.relu());
    compile(&graph.finish().unwrap(), &executor.device()).unwrap()
}

fn executor(gpu: &Gpu) -> HipExecutor {
    let mut weights = WeightMap::new();
    let desc = Desc::contiguous(DType::F32, [64]).unwrap();
    assert!(weights.insert("w", desc, bytemuck::cast_slice(&[2.0f32; 64])));
    let budget = Budget::gpu(1 << 30, 1 << 30, 0.7);
    HipExecutor::new(gpu.context.clone(), Arc::new(weights), budget, options()).unwrap()
}

fn write(executor: &mut HipExecutor, id: PlanId, n: usize, first_slot: i32) {
    executor.set(id, "x", &vec![3.0f32; 64 * n]).unwrap();
    let slots: Vec<i32> = (first_slot..).take(n).collect();
    executor.set(id, "slots", &slots).unwrap();
}

fn run(executor: &mut HipExecutor, id: PlanId, n: usize, first_slot: i32) -> Vec<f32> {
    write(executor, id, n, first_slot);
    executor.run(id).unwrap().wait().unwrap().get::<f32>("kept").unwrap().to_vec()
}

#[test]
fn unloading_frees_what_a_plan_took_and_keeps_states() {
    for seed in 0..8 {
        let gpu = Gpu::simulated(Config { seed, checks: Checks::Full, ..config(32) });
        let mut executor = executor(&gpu);
        let large = plan(&executor, 8);
        let first = executor.load(large.clone()).unwrap();
        let held = executor.budget().held();
        let rows = run(&mut executor, first, 8, 0);
        assert_eq!(rows, vec![6.5; 512]);
        let small = plan(&executor, 2);
        let frees = || ["hipFree", "hipHostFree", "hipGraphExecDestroy"].map(|call| gpu.sim().count(call));
        let mut ids = vec![first];
        for _ in 0..5 {
            let id = executor.load(small.clone()).unwrap();
            assert!(!ids.contains(&id), "ids are not used again");
            ids.push(id);
            assert!(executor.budget().held() > held);
            // Step by step, recorded, replayed.
            for _ in 0..3 {
                assert_eq!(run(&mut executor, id, 2, 3), rows, "the state that another plan wrote");
            }
            let before = frees();
            executor.unload(id).unwrap();
            let freed: Vec<u64> = frees().iter().zip(before).map(|(after, before)| after - before).collect();
            assert_eq!(freed, [1, 2, 1], "its constant, its inputs and outputs, its recording");
            assert_eq!(executor.budget().held(), held);
            assert_eq!(
                executor.unload(id).unwrap_err().to_string(),
                format!("there is no plan `{}`", ids.len() - 1)
            );
            assert!(matches!(executor.run(id), Err(ExecError::Unknown { .. })));
            assert!(executor.output(id, 0).is_err());
        }
        // The state outlives the last plan that used it, also if another plan is refused then.
        executor.unload(first).unwrap();
        let mut other = plan(&executor, 2);
        other.steps.truncate(1);
        assert!(executor.load(other).is_err());
        let id = executor.load(small).unwrap();
        assert_eq!(run(&mut executor, id, 2, 3), rows);
        drop(executor);
        assert_eq!(gpu.sim().stalls(), 0, "something was freed while work was queued");
        gpu.sim().assert_no_fault();
    }
}

/// A run that nobody waited for is still in flight when its plan is unloaded.
#[test]
fn unloading_waits_for_a_run_in_flight() {
    for seed in 0..8 {
        let gpu = Gpu::simulated(Config { seed, checks: Checks::Full, ..config(32) });
        let mut executor = executor(&gpu);
        let (large, small) = (plan(&executor, 8), plan(&executor, 2));
        let (a, b) = (executor.load(large).unwrap(), executor.load(small).unwrap());
        for in_flight in [a, b] {
            let n = if in_flight == a { 8 } else { 2 };
            write(&mut executor, in_flight, n, 0);
            std::mem::forget(executor.run(in_flight).unwrap());
            executor.unload(in_flight).unwrap();
        }
        assert_eq!(gpu.sim().stalls(), 0, "something was freed while work was queued");
        gpu.sim().assert_no_fault();
    }
}

/// The outputs of steps of changing sizes, in a session with room for `n_plans` plans.
fn steps(gpu: &Gpu, n_plans: usize) -> (Vec<Vec<u32>>, usize) {
    let options = SessionOptions {
        n_ctx: 64,
        n_sequences: 4,
        ubatch: Some(32),
        cache_types: CacheTypes::both(DType::F32),
        device: gpu.choice(),
        ..SessionOptions::default()
    };
    let extras = SessionExtras { hip: gpu::options(), want: Output::Argmax, ..SessionExtras::default() };
    let mut session = Session::with(&tiny_llama(1), &options, &extras).unwrap();
    session.keep_plans(n_plans);
    let n_first = session.n_plans();
    let ids = [(); 4].map(|()| session.open().unwrap());
    let mut found = Vec::new();
    for turn in 0..12 {
        let n = [2, 3, 2, 4][turn % 4];
        let wants = [Output::TopK(5), Output::Argmax, Output::Logits, Output::Hidden];
        let rows: Vec<Rows<'_>> =
            ids[..n].iter().zip(wants).map(|(id, want)| Rows::of(*id, &[7]).want(want)).collect();
        let outputs = session.step(&rows).unwrap();
        found.extend((0..n).map(|i| match outputs.last(i) {
            RowOutput::Logits(values) | RowOutput::Hidden(values) => {
                values.iter().map(|x| x.to_bits()).collect()
            }
            RowOutput::TopK(ids, _) => ids.iter().map(|&id| id as u32).collect(),
            RowOutput::Argmax(token) => vec![token],
            other => panic!("{other:?}"),
        }));
        assert!(session.n_plans() <= n_first + n_plans);
    }
    (found, session.n_plans() - n_first)
}

#[test]
fn a_size_whose_plan_was_unloaded_gives_the_same_bits() {
    let gpu = Gpu::simulated(config(32));
    let (all, n_all) = steps(&gpu, 64);
    assert!(n_all > 2, "{n_all} plans beside the first");
    for n_plans in [1, 2] {
        assert_eq!(steps(&gpu, n_plans), (all.clone(), n_plans));
    }
    gpu.sim().assert_no_fault();
}
