//! Rules that hold on a device whatever happens: no memory is freed under queued work or taken beyond the budget, no
//! plan accesses memory that is not its own, no failure leaks.

use std::sync::Arc;
use std::time::Duration;

use rfgraph::device::{Arg, Command};
use rfgraph::exec::{Budget, ExecError, Executor, HipExecutor, HipOptions, PlanId, WeightMap};
use rfgraph::graph::Graph;
use rfgraph::hip::api::{Runtime, hipErrorUnknown};
use rfgraph::hip::platform::sim::{Checks, Config};
use rfgraph::plan::{Plan, compile};
use rfgraph::tensor::{DType, Desc};

use crate::support::gpu::{self, Gpu, config, options};
use crate::support::product;

/// `y = relu(x · w) + c`, with rows kept in a state: one weight, constant and state, two outputs.
fn graph(executor: &HipExecutor) -> Plan {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [64, 2]);
    let h = x.mul(graph.weight("w", DType::F32, [64])).relu().add(graph.constant("c", &[0.5; 64], [64]));
    let slots = graph.input("slots", DType::I32, [2]);
    let rows = h.reshape([64, 1, 2]);
    graph.output("kept", graph.state("s", DType::F32, [64, 1, 4]).kv_write(rows, slots).relu());
    graph.output("y", h);
    compile(&graph.finish().unwrap(), &executor.device()).unwrap()
}

fn weights() -> Arc<WeightMap> {
    let mut weights = WeightMap::new();
    let desc = Desc::contiguous(DType::F32, [64]).unwrap();
    assert!(weights.insert("w", desc, bytemuck::cast_slice(&[2.0f32; 64])));
    Arc::new(weights)
}

fn write(executor: &mut HipExecutor, id: PlanId, shift: f32) -> Result<(), ExecError> {
    let x: Vec<f32> = (0..128).map(|i| i as f32 - 60.0 + shift).collect();
    executor.set(id, "x", &x)?;
    executor.set(id, "slots", &[3i32, 1])
}

fn expected(shift: f32) -> Vec<f32> {
    (0..128).map(|i| ((i as f32 - 60.0 + shift) * 2.0).max(0.0) + 0.5).collect()
}

/// Opens, loads, and runs three times: step by step, recorded, replayed.
fn whole_life(gpu: &Gpu, options: HipOptions) -> Result<(), ExecError> {
    let budget = Budget::gpu(1 << 30, 1 << 30, 0.7);
    let mut executor = HipExecutor::new(gpu.context.clone(), weights(), budget, options)?;
    let plan = graph(&executor);
    let id = executor.load(plan)?;
    for run in 0..3 {
        write(&mut executor, id, run as f32)?;
        let outputs = executor.run(id)?.wait()?;
        assert_eq!(outputs.get::<f32>("y")?, expected(run as f32), "run {run}");
        let kept = outputs.get::<f32>("kept")?;
        assert_eq!(kept[3 * 64..], expected(run as f32)[..64], "run {run}");
        assert_eq!(kept[..64], [0.0; 64], "a slot that nothing was written to");
    }
    Ok(())
}

#[test]
fn no_memory_is_leaked() {
    for seed in 0..20 {
        let gpu = Gpu::simulated(Config { seed, checks: Checks::Full, ..config(32) });
        for graphs in [true, false] {
            for trace in [true, false] {
                whole_life(&gpu, HipOptions { graphs, trace, ..options() }).unwrap();
            }
        }
        gpu.sim().assert_no_fault();
        gpu.sim().assert_no_leak();
        assert_eq!(gpu.sim().stalls(), 0, "something was freed while work was queued");
    }
}

/// Fails every call of the table once, at each of its uses: either the error names the call, or the executor does
/// without it; never a panic or a leak.
#[test]
fn every_call_may_fail() {
    let gpu = Gpu::simulated(config(32));
    whole_life(&gpu, options()).unwrap();
    let counts = gpu.sim().counts();
    let (mut failed, mut survived) = (0, Vec::new());
    for (call, count) in counts.into_iter().filter(|(call, _)| Runtime::NAMES.contains(call)) {
        // Failures of releasing calls are only logged, and leak.
        let releases = call.ends_with("Destroy") || call.ends_with("Free") || call == "hipModuleUnload";
        let opens = ["hipInit", "hipDeviceGetName", "hipDeviceGetAttribute"].contains(&call);
        if releases || opens {
            continue;
        }
        for nth in 0..count.min(8) {
            // A new device each time: a planted failure that was not reached must not affect the next run.
            let gpu = Gpu::simulated(config(32));
            gpu.sim().fail(call, nth, hipErrorUnknown);
            match whole_life(&gpu, options()) {
                Ok(()) => survived.push(call),
                Err(error) => {
                    failed += 1;
                    assert!(error.to_string().contains(call), "{call} {nth}: {error}");
                }
            }
            gpu.sim().assert_no_fault();
            let leaks = gpu.sim().leaks();
            assert!(leaks.is_empty(), "{call} {nth}: {leaks:?}");
        }
    }
    assert!(failed > 20, "{failed} calls failed");
    // Recordings and replays may be refused, and the BLAS library may fail to start.
    survived.dedup();
    assert!(
        survived.contains(&"hipStreamBeginCapture") && survived.contains(&"hipGraphLaunch"),
        "{survived:?}"
    );
}

#[test]
fn the_first_error_is_remembered() {
    let gpu = Gpu::simulated(config(32));
    let mut executor = gpu.executor(weights());
    let id = executor.load(graph(&executor)).unwrap();
    write(&mut executor, id, 0.0).unwrap();
    gpu.sim().fail("hipModuleLaunchKernel", 1, hipErrorUnknown);
    let first = executor.run(id).unwrap_err().to_string();
    for part in ["hipModuleLaunchKernel", "step 2 of", "blocks of", "F32["] {
        assert!(first.contains(part), "{first}");
    }
    let second = executor.run(id).unwrap_err().to_string();
    assert!(second.contains(&first) && second.contains("executor disabled"), "{second}");
    drop(executor);
    gpu.sim().assert_no_fault();
    gpu.sim().assert_no_leak();
}

/// Runs that are dropped without a wait, and executors that are dropped during a run.
#[test]
fn dropping_in_flight_work_waits_for_it() {
    for seed in 0..30 {
        let gpu = Gpu::simulated(Config { seed, ..config(32) });
        let mut executor = gpu.executor(weights());
        let id = executor.load(graph(&executor)).unwrap();
        for round in 0..4 {
            write(&mut executor, id, 1.0).unwrap();
            let run = executor.run(id).unwrap();
            match round {
                0 => drop(run),
                // The destructor never runs: the next call waits instead.
                _ => std::mem::forget(run),
            }
            if round == 1 {
                assert!(matches!(executor.output(id, 0), Err(ExecError::InFlight)));
            }
        }
        // A run is still in flight.
        drop(executor);
        gpu.sim().assert_no_fault();
        gpu.sim().assert_no_leak();
        assert_eq!(gpu.sim().stalls(), 0);
    }
}

#[cfg(feature = "demo")]
#[test]
fn dropping_a_session_in_flight_waits_for_its_run() {
    use rfgraph::model::{Model, Session, SessionExtras, SessionOptions};
    let gpu = Gpu::simulated(config(32));
    let options =
        SessionOptions { device: gpu.choice(), n_ctx: 64, ubatch: Some(8), ..SessionOptions::default() };
    let extras = SessionExtras { hip: gpu::options(), ..SessionExtras::default() };
    let mut session = Session::with(&Model::demo().unwrap(), &options, &extras).unwrap();
    let executor = session.hip().unwrap();
    let id = executor.load(graph_alone(executor)).unwrap();
    executor.set(id, "x", &[1.0f32; 64]).unwrap();
    std::mem::forget(executor.run(id).unwrap());
    assert!(gpu.sim().queued() > 0);
    drop(session);
    gpu.sim().assert_no_fault();
    gpu.sim().assert_no_leak();
}

/// A plan without weights.
fn graph_alone(executor: &HipExecutor) -> Plan {
    let graph = Graph::new();
    graph.output("y", graph.input("x", DType::F32, [64]).relu());
    compile(&graph.finish().unwrap(), &executor.device()).unwrap()
}

/// A device that does not answer in time: the error says which step finished last, nothing waits again, nothing is
/// freed.
#[test]
fn the_watchdog_names_the_last_step() {
    // With some seeds the device is not ready at the only poll.
    let late = |rounds: usize, seed: u64| {
        let mut gpu = Gpu::simulated(Config { seed, ..config(32) });
        gpu.may_leak = true;
        let mut executor = gpu.executor(weights());
        let id = executor.load(graph(&executor)).unwrap();
        for _ in 0..rounds {
            write(&mut executor, id, 0.0).unwrap();
            executor.run(id).unwrap().wait().unwrap();
        }
        executor.set_timeout(Duration::ZERO);
        write(&mut executor, id, 0.0).unwrap();
        let text = executor.run(id).unwrap().wait().err()?.to_string();
        assert!(matches!(executor.run(id), Err(ExecError::Failed { .. })));
        drop(executor);
        // Freeing would have released memory under the queued work.
        gpu.sim().assert_no_fault();
        assert!(gpu.sim().leaks().iter().any(|leak| leak.contains("device memory")));
        Some(text)
    };
    for (rounds, wanted) in [(0, "finished, up to step"), (2, "it was a replay")] {
        let text = (0..30).find_map(|seed| late(rounds, seed)).unwrap();
        for part in ["did not finish", wanted, "runtime", "a longer timeout"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn the_budget_refuses_before_the_device_is_asked() {
    let gpu = Gpu::simulated(config(32));
    let executor = |bytes: u64| {
        let budget = Budget::gpu(bytes, bytes, 1.0);
        HipExecutor::new(gpu.context.clone(), weights(), budget, options()).unwrap()
    };
    let mut small = executor(200);
    gpu.sim().reset_counts();
    let error = small.load(graph(&small)).unwrap_err().to_string();
    assert!(
        error.contains("weights needs 256 bytes") && error.contains("fewer layers on the GPU"),
        "{error}"
    );
    assert_eq!((gpu.sim().count("hipMalloc"), gpu.sim().count("hipHostMalloc")), (0, 0));
    assert_eq!(small.budget().held(), 0);
    // A plan refused half way, staging included, frees everything.
    let most = {
        let mut large = executor(1 << 20);
        large.load(graph(&large)).unwrap();
        large.budget().held()
    };
    for bytes in (0..most).step_by(97) {
        let mut executor = executor(bytes);
        assert!(matches!(executor.load(graph(&executor)), Err(ExecError::Budget(_))), "{bytes} of {most}");
        assert_eq!(executor.budget().held(), 0);
    }
    drop(small);
    gpu.sim().assert_no_leak();
}

#[test]
fn the_device_may_have_less_memory_than_it_reported() {
    let gpu = Gpu::simulated(config(32));
    let mut executor = gpu.executor(weights());
    for most in [0, 255, 600, 1000] {
        gpu.sim().fail_alloc_above(Some(most));
        let error = executor.load(graph(&executor)).unwrap_err().to_string();
        assert!(error.contains("hipErrorOutOfMemory") && error.contains("bytes"), "{error}");
        assert_eq!(executor.budget().held(), 0, "after {most}");
    }
    gpu.sim().fail_alloc_above(None);
    let id = executor.load(graph(&executor)).unwrap();
    write(&mut executor, id, 0.0).unwrap();
    executor.run(id).unwrap().wait().unwrap();
    drop(executor);
    gpu.sim().assert_no_fault();
    gpu.sim().assert_no_leak();
}

/// Commands are data that may come from a file; only those that the operator itself emits are run.
#[test]
fn foreign_commands_are_refused() {
    let gpu = Gpu::simulated(config(32));
    let mut executor = gpu.executor(weights());
    let good = graph(&executor);
    let tampers: [fn(&mut Command); 3] = [
        |command| {
            if let Command::Launch(launch) = command {
                launch.grid[0] += 1;
            }
        },
        |command| {
            if let Command::Launch(launch) = command {
                for (_, arg) in &mut launch.args {
                    if let Arg::Address(_, offset) = arg {
                        *offset += 1 << 30;
                    }
                }
            }
        },
        |command| {
            if let Command::Launch(launch) = command {
                launch.args.pop();
            }
        },
    ];
    for (i, tamper) in tampers.iter().enumerate() {
        let mut plan = good.clone();
        plan.steps.iter_mut().flat_map(|step| &mut step.commands).for_each(tamper);
        let error = executor.load(plan).unwrap_err();
        assert!(error.to_string().contains("not those that the operator makes"), "{i}: {error}");
    }
    let mut plan = good.clone();
    plan.steps[0].commands.clear();
    assert!(matches!(executor.load(plan), Err(ExecError::BadStep { .. })));
    let cpu = compile_for_cpu();
    assert!(matches!(executor.load(cpu), Err(ExecError::Device { .. })));
    executor.load(good).unwrap();
}

fn compile_for_cpu() -> Plan {
    let graph = Graph::new();
    graph.output("y", graph.input("x", DType::F32, [4]).relu());
    compile(&graph.finish().unwrap(), &rfgraph::plan::DeviceDesc::cpu(1)).unwrap()
}

/// The library's first product is made while the plan is loaded, and may fail; its memory is freed.
#[test]
fn the_blas_library_starts_with_the_first_plan_that_needs_it() {
    let gpu = Gpu::simulated(config(32));
    product::a_product_and_a_copy_keep_their_order(&gpu, [16, 8], 1);
    assert_eq!(gpu.sim().count("hipblasGemmEx"), 2, "the first product, and the plan's");
    let without = Gpu::simulated(config(32));
    whole_life(&without, options()).unwrap();
    assert_eq!(without.sim().count("hipblasGemmEx"), 0, "no plan needs it");
    // The first allocation and the first fill of the load belong to the library's start; events are also the executor's
    // own.
    for (call, calls) in
        [("hipMalloc", 1), ("hipMemsetAsync", 1), ("hipEventRecord", 1), ("hipEventQuery", 1)]
    {
        for nth in 0..calls {
            let gpu = Gpu::simulated(config(32));
            gpu.sim().fail(call, nth, hipErrorUnknown);
            product::a_product_and_a_copy_keep_their_order(&gpu, [16, 8], 3);
            gpu.sim().assert_no_fault();
            gpu.sim().assert_no_leak();
            assert_eq!(gpu.sim().stalls(), 0, "freed while work was queued");
        }
    }
}

/// A first product that does not end, or whose end is not known, fails the load: memory under it is not freed.
#[test]
fn a_blas_library_that_does_not_start_fails_the_load() {
    let load = |seed: u64, prepare: &dyn Fn(&Gpu, &mut HipExecutor)| {
        let mut gpu = Gpu::simulated(Config { seed, ..config(32) });
        gpu.may_leak = true;
        let mut executor = gpu.executor(Arc::new(WeightMap::new()));
        let plan = product::product_and_copy(&mut executor, [16, 8]);
        prepare(&gpu, &mut executor);
        let error = executor.load(plan.clone()).err()?.to_string();
        assert!(error.contains("the BLAS library's first product"), "{error}");
        assert!(matches!(executor.load(plan), Err(ExecError::Failed { .. })));
        drop(executor);
        gpu.sim().assert_no_fault();
        Some(error)
    };
    // With some seeds the device is not ready at the only poll.
    let late = (0..30).filter_map(|seed| load(seed, &|_, executor| executor.set_timeout(Duration::ZERO)));
    assert!(late.inspect(|error| assert!(error.contains("did not finish"), "{error}")).count() > 0);
    let unknown = load(0, &|gpu, _| {
        (0..2).for_each(|nth| gpu.sim().fail("hipEventRecord", nth, hipErrorUnknown));
    });
    assert!(unknown.unwrap().contains("hipErrorUnknown"));
}

/// A plan with products by the BLAS library costs more to record, so it is run step by step more often first.
#[test]
fn recordings_wait_until_they_pay() {
    let recorded = |with_products: bool, runs: usize| {
        let gpu = Gpu::simulated(config(32));
        match with_products {
            true => product::a_product_and_a_copy_keep_their_order(&gpu, [16, 8], runs),
            false => {
                let mut executor = gpu.executor(Arc::new(WeightMap::new()));
                let id = executor.load(graph_alone(&executor)).unwrap();
                for _ in 0..runs {
                    executor.set(id, "x", &[1.0f32; 64]).unwrap();
                    executor.run(id).unwrap().wait().unwrap();
                }
                // The second run records; every run after it is steady.
                assert_eq!(executor.unsteady_runs(), runs.min(2) as u64);
            }
        }
        gpu.sim().count("hipStreamBeginCapture")
    };
    assert_eq!([1, 2, 8].map(|runs| recorded(false, runs)), [0, 1, 1]);
    assert_eq!([2, 3, 40].map(|runs| recorded(true, runs)), [0, 0, 1]);
}

/// A matrix product by the BLAS library, then a copy of its result: ten thousand times, in a hundred orders.
#[test]
fn a_product_and_a_copy_keep_their_order() {
    for seed in 0..100 {
        let gpu = Gpu::simulated(Config { seed, ..config(32) });
        product::a_product_and_a_copy_keep_their_order(&gpu, [16, 8], 100);
        gpu.sim().assert_no_fault();
        assert!(gpu.sim().count("hipblasGemmEx") > 0);
    }
}
