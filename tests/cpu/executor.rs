//! Guarantees of the CPU executor for any plan, weights and budget.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rfgraph::cpu::ProductKernel;
use rfgraph::exec::{Budget, CpuExecutor, ExecError, Executor, PlanId, WeightMap, WeightSource};
use rfgraph::graph::Graph;
use rfgraph::plan::{DeviceDesc, Place, Plan, PlanFault, compile};
use rfgraph::tensor::{DType, Desc};

const MIB: u64 = 1 << 20;

fn executor(weights: impl WeightSource + 'static, bytes: u64) -> CpuExecutor {
    let budget = Budget::new(bytes, bytes, 1.0);
    CpuExecutor::new(NonZeroUsize::MIN, Arc::new(weights), budget).unwrap()
}

fn plan(write: impl FnOnce(&Graph)) -> Plan {
    let graph = Graph::new();
    write(&graph);
    compile(&graph.finish().unwrap(), &DeviceDesc::cpu(1)).unwrap()
}

/// A plan whose arena holds its input and its output.
fn relu_of(bytes: u64) -> Plan {
    let plan = plan(|g| g.output("y", g.input("x", DType::F32, [bytes as usize / 8]).relu()));
    assert_eq!(plan.arena as u64, bytes);
    plan
}

/// Checks the outputs of `relu_of(bytes)`.
fn runs(executor: &mut CpuExecutor, id: PlanId, bytes: u64) {
    let x: Vec<f32> = (0..bytes / 8).map(|i| i as f32 - 5.0).collect();
    executor.set(id, "x", &x).unwrap();
    let outputs = executor.run(id).unwrap().wait().unwrap();
    assert!(outputs.get::<f32>("y").unwrap().iter().zip(&x).all(|(y, x)| *y == x.max(0.0)));
}

/// The owner whose memory was refused.
fn refused(result: Result<PlanId, ExecError>) -> String {
    match result {
        Err(ExecError::Budget(error)) => error.what,
        other => panic!("{other:?}"),
    }
}

fn held(executor: &CpuExecutor, name: &str) -> Option<u64> {
    executor.budget().holders().iter().find(|(holder, _)| holder == name).map(|(_, bytes)| *bytes)
}

fn four(value: f32) -> WeightMap {
    let mut weights = WeightMap::new();
    let desc = Desc::contiguous(DType::F32, [4]).unwrap();
    assert!(weights.insert("w", desc, bytemuck::cast_slice(&[value; 4])));
    weights
}

/// A weight source that returns another answer on the second call.
struct Fickle {
    first: WeightMap,
    later: WeightMap,
    calls: AtomicUsize,
}

impl WeightSource for Fickle {
    fn weight(&self, name: &str) -> Option<(Desc, &[u8])> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => self.first.weight(name),
            _ => self.later.weight(name),
        }
    }
}

#[test]
fn the_weight_that_was_checked_is_the_one_that_is_read() {
    let times_w =
        || plan(|g| g.output("y", g.input("x", DType::F32, [4]).mul(g.weight("w", DType::F32, [4]))));
    let weights = Fickle { first: four(2.0), later: four(3.0), calls: AtomicUsize::new(0) };
    let mut executor = executor(weights, MIB);
    let result = |id, executor: &mut CpuExecutor| {
        executor.set(id, "x", &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        executor.run(id).unwrap().wait().unwrap().get::<f32>("y").unwrap().to_vec()
    };
    let first = executor.load(times_w()).unwrap();
    assert_eq!(result(first, &mut executor), [2.0, 4.0, 6.0, 8.0]);
    // A second plan may get the other answer; its arena moves the first plan.
    let second = executor.load(times_w()).unwrap();
    executor.load(relu_of(MIB / 2)).unwrap();
    assert_eq!(result(second, &mut executor), [3.0, 6.0, 9.0, 12.0]);
    assert_eq!(result(first, &mut executor), [2.0, 4.0, 6.0, 8.0]);
}

/// The second state would be bound to the memory of the first, which is smaller.
#[test]
fn two_states_of_one_name_are_refused() {
    let mut plan = plan(|g| {
        let (rows, slots) = (g.input("rows", DType::F32, [4, 2, 1]), g.input("slots", DType::I32, [1]));
        g.output("y", g.state("s", DType::F32, [4, 2, 8]).kv_write(rows, slots).sigmoid());
    });
    let mut larger = plan.states[0].clone();
    larger.desc = Desc::contiguous(DType::F32, [4, 2, 8 << 20]).unwrap();
    plan.states.push(larger);
    for step in &mut plan.steps {
        for operand in step.inputs.iter_mut().chain(&mut step.outputs) {
            if operand.place == Place::State(0) {
                (operand.place, operand.offset) = (Place::State(1), 128 << 20);
            }
        }
    }
    match executor(WeightMap::new(), 1 << 30).load(plan) {
        Err(ExecError::Plan(fault)) => {
            assert_eq!(*fault, PlanFault::Duplicate { what: "state", name: "s".into() });
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_old_arena_stays_usable_after_a_larger_one_is_refused() {
    let mut executor = executor(WeightMap::new(), 3 * MIB);
    assert_eq!(refused(executor.load(relu_of(4 * MIB))), "arena");
    assert_eq!(executor.budget().held(), 0);
    let small = executor.load(relu_of(MIB)).unwrap();
    // Both arenas are alive while the plans move to the larger one.
    let beside = 5 * MIB / 2;
    assert_eq!(refused(executor.load(relu_of(beside))), "a larger arena beside the one there is");
    assert_eq!(executor.budget().holders(), [("arena".to_string(), MIB)]);
    runs(&mut executor, small, MIB);
    let larger = executor.load(relu_of(2 * MIB)).unwrap();
    assert_eq!(executor.budget().holders(), [("arena".to_string(), 2 * MIB)]);
    runs(&mut executor, larger, 2 * MIB);
    runs(&mut executor, small, MIB);
}

#[test]
fn an_unloaded_plan_is_refused_and_the_others_run() {
    let mut executor = executor(WeightMap::new(), 8 * MIB);
    let (a, b) = (executor.load(relu_of(MIB)).unwrap(), executor.load(relu_of(2 * MIB)).unwrap());
    runs(&mut executor, a, MIB);
    executor.unload(a).unwrap();
    for error in [executor.unload(a).err(), executor.run(a).err(), executor.output(a, 0).err()] {
        assert_eq!(error.unwrap().to_string(), "there is no plan `0`");
    }
    let c = executor.load(relu_of(4 * MIB)).unwrap();
    assert!(c != a, "ids are not used again");
    runs(&mut executor, b, 2 * MIB);
    runs(&mut executor, c, 4 * MIB);
}

/// The weight at an odd address.
struct Crooked(Vec<u64>);

impl WeightSource for Crooked {
    fn weight(&self, _: &str) -> Option<(Desc, &[u8])> {
        let bytes = bytemuck::cast_slice(&self.0).get(1..=MIB as usize)?;
        Some((Desc::contiguous(DType::F32, [bytes.len() / 4]).ok()?, bytes))
    }
}

#[test]
fn copies_are_held_in_the_budget() {
    let n = MIB as usize / 4;
    let with_constant = |arena: u64| {
        plan(|g| {
            let sum = g.constant("c", &vec![1.0; n], [n]).relu();
            g.output("sum", sum);
            g.output("y", g.input("x", DType::F32, [arena as usize / 8]).relu());
        })
    };
    let copies = "copies of weights and constants";
    let mut small = executor(WeightMap::new(), MIB / 2);
    assert_eq!(refused(small.load(with_constant(64))), copies);
    assert_eq!(small.budget().held(), 0);

    let mut large = executor(WeightMap::new(), 6 * MIB);
    large.load(with_constant(64)).unwrap();
    assert_eq!(held(&large, copies), Some(MIB));
    // Copies made for a plan that is refused later are freed.
    assert_eq!(refused(large.load(with_constant(8 * MIB))), "a larger arena beside the one there is");
    assert_eq!(held(&large, copies), Some(MIB));
    let second = large.load(with_constant(64)).unwrap();
    assert_eq!(held(&large, copies), Some(2 * MIB));
    large.unload(second).unwrap();
    assert_eq!(held(&large, copies), Some(MIB));

    let crooked = || Crooked(vec![0; MIB as usize / 8 + 1]);
    let of_weight = || plan(|g| g.output("y", g.weight("w", DType::F32, [n]).relu()));
    assert_eq!(refused(executor(crooked(), MIB - 1).load(of_weight())), copies);
    let mut executor = executor(crooked(), 8 * MIB);
    executor.load(of_weight()).unwrap();
    assert_eq!(held(&executor, copies), Some(MIB));
}

#[test]
fn a_cache_is_refused_before_it_is_made() {
    let cache = plan(|g| g.output("y", g.state("s", DType::F32, [4, 1 << 20]).slice(1, 0, 1).relu()));
    let mut executor = executor(WeightMap::new(), MIB);
    assert_eq!(refused(executor.load(cache)), "KV cache");
    assert_eq!((executor.budget().held(), executor.state("s")), (0, None));
}

/// The plan decides the kernel of a product (P5): one that names another kernel, or none, is not run.
#[test]
fn a_plan_with_another_product_kernel_is_refused() {
    let good =
        plan(|g| g.output("y", g.input("x", DType::F32, [4, 2]).linear(g.weight("w", DType::F32, [4, 1]))));
    let step = good.steps.iter().position(|step| step.product.is_some()).unwrap();
    let chosen = good.steps[step].product;
    let others = [ProductKernel::Rows, ProductKernel::Panels, ProductKernel::ByExpert].map(Some);
    for product in others.into_iter().chain([None]) {
        let mut plan = good.clone();
        plan.steps[step].product = product;
        let mut weights = WeightMap::new();
        let desc = Desc::contiguous(DType::F32, [4, 1]).unwrap();
        assert!(weights.insert("w", desc, bytemuck::cast_slice(&[1.0f32; 4])));
        match executor(weights, MIB).load(plan) {
            Ok(_) => assert_eq!(product, chosen),
            Err(ExecError::BadStep { reason, .. }) => {
                assert!(product != chosen && reason.to_string().contains("kernel"), "{product:?}: {reason}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}
