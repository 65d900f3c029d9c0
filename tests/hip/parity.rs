//! Parity: every operator of the table agrees on a GPU with f64 arithmetic, in place or not, and gives the same bits
//! every time: run step by step, while recorded, and replayed.
//!
//! Tests use simulated devices with waves of 32 and of 64 lanes, and the real device that `RFGRAPH_HIP_PLATFORM` names,
//! if any.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rfgraph::device::LowerError;
use rfgraph::exec::{Executor, HipExecutor, WeightMap};
use rfgraph::graph::Graph;
use rfgraph::graph::case::{Answer, Case, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::ops;
use rfgraph::plan::{CompileError, compile};
use rfgraph::tensor::{DType, Desc};

use crate::support::gpu::{Gpu, config};
use crate::support::numbers::numbers;
use crate::support::several;
use crate::support::skipped::skipped;

/// Operators that run on the CPU alone, each with the reason.
const WITHOUT_KERNEL: &[(&str, &str)] = &[];

/// Cases of each operator.
fn cases() -> u32 {
    std::env::var("RFGRAPH_PARITY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(16)
}

/// The result of a case.
enum Found {
    Outputs(Vec<(Desc, Vec<u8>)>),
    NoKernel(String),
}

/// Runs a case three times, checks that its outputs do not change, and returns them.
fn run(executor: &mut HipExecutor, case: &Case, number: usize, in_place: bool) -> Found {
    let graph = Graph::new();
    let one = graph.constant("one", &[1.0], [1]);
    let name = |i: usize| format!("case {number}: input {i}");
    let mut inputs = Vec::new();
    for (i, input) in case.inputs.iter().enumerate() {
        let tensor = match input.is_state {
            true => graph.state(name(i), input.desc.dtype, input.desc.shape),
            false => graph.input(name(i), input.desc.dtype, input.desc.shape),
        };
        let dies = in_place && i == 0 && !input.is_state && input.desc.dtype == DType::F32;
        inputs.push(if dies { tensor.mul(one) } else { tensor });
    }
    for (i, result) in graph.apply_any(case.op.clone(), &inputs).outputs().into_iter().enumerate() {
        let gaps = result.desc().is_some_and(|desc| !desc.is_contiguous());
        graph.output(format!("out.{i}"), if gaps { result.mul(one) } else { result });
    }
    let plan = match compile(&graph.finish().unwrap(), &executor.device()) {
        Ok(plan) => plan,
        Err(CompileError::Lower { error: LowerError::NoKernel { op }, .. }) => return Found::NoKernel(op),
        Err(error) => panic!("{:?}: {error}", case.op),
    };
    let written = serde_json::to_string(&plan).unwrap();
    assert_eq!(plan, serde_json::from_str(&written).unwrap(), "a plan survives being written down");
    let descs: Vec<Desc> = plan.outputs.iter().map(|port| port.operand.desc).collect();
    let id = executor.load(plan).unwrap_or_else(|error| panic!("{:?}: {error}", case.op));
    let mut outputs = Vec::new();
    for _ in 0..3 {
        for (i, input) in case.inputs.iter().enumerate() {
            if input.is_state {
                executor.set_state(&name(i), &input.data).unwrap();
            } else if let Some((number, _)) = executor.plan(id).unwrap().input(&name(i)) {
                executor.write(id, number, &input.data).unwrap();
            }
        }
        let run = executor.run(id).and_then(|run| run.wait());
        let run = run.unwrap_or_else(|error| panic!("{:?}: {error}", case.op));
        let bytes = |i: usize| run.at::<u8>(i).unwrap().to_vec();
        outputs.push(descs.iter().enumerate().map(|(i, desc)| (*desc, bytes(i))).collect::<Vec<_>>());
    }
    assert!(outputs[0] == outputs[1], "{:?}: recorded, the bits differ", case.op);
    assert!(outputs[0] == outputs[2], "{:?}: replayed, the bits differ", case.op);
    Found::Outputs(outputs.remove(0))
}

fn compare(case: &Case, answer: &Answer, desc: Desc, bytes: &[u8]) -> Result<(), TestCaseError> {
    let found = numbers(desc.dtype, bytes);
    prop_assert_eq!(found.len(), answer.expected.len(), "{:?}", case.op);
    let tolerances = answer.device_tolerance.as_ref().unwrap_or(&answer.tolerance);
    for (i, (found, expected)) in found.iter().zip(&answer.expected).enumerate() {
        let tolerance = tolerances[i.min(tolerances.len() - 1)];
        let same = found == expected || (found.is_nan() && expected.is_nan());
        prop_assert!(
            same || (found - expected).abs() <= tolerance,
            "{:?} of {:?}: element {} is {}, should be {} within {:e}",
            case.op,
            case.inputs.iter().map(|input| input.desc.to_string()).collect::<Vec<_>>(),
            i,
            found,
            expected,
            tolerance
        );
    }
    Ok(())
}

/// Draws every row of the table and the tests' operators with several outputs equally often, and checks the list of
/// operators without a kernel.
fn check_table(gpu: &Gpu) {
    let only = several::parity_only();
    let mut missing = BTreeSet::new();
    for row in ops::TABLE
        .iter()
        .chain(&several::ROWS)
        .filter(|row| only.as_ref().is_none_or(|only| only == row.name))
    {
        let started = std::time::Instant::now();
        missing.extend(check_row(gpu, row));
        println!("{}: {:.1} s", row.name, started.elapsed().as_secs_f64());
    }
    let known: BTreeSet<String> = WITHOUT_KERNEL.iter().map(|(name, _)| (*name).to_string()).collect();
    assert_eq!(missing, known, "operators without a kernel for a GPU");
}

fn check_row(gpu: &Gpu, row: &OperatorRow) -> BTreeSet<String> {
    let executor = RefCell::new(gpu.executor(Arc::new(WeightMap::new())));
    several::ROWS.into_iter().for_each(|row| executor.borrow_mut().register(row));
    let (number, missing) = (Cell::new(0), RefCell::new(BTreeSet::new()));
    let config = ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::with_source_file(file!())
    };
    // The same cases every time, so that the kernel cache has their kernels.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&prop::collection::vec(any::<u32>(), 0..40), |choices| {
        let case = (row.case)(&mut Draw::new(&choices));
        for in_place in [false, true] {
            number.set(number.get() + 1);
            match run(&mut executor.borrow_mut(), &case, number.get(), in_place) {
                Found::Outputs(outputs) => {
                    let answers = case.answers();
                    prop_assert_eq!(outputs.len(), answers.len(), "{:?}", case.op);
                    for ((desc, bytes), answer) in outputs.iter().zip(&answers) {
                        compare(&case, answer, *desc, bytes)?;
                    }
                }
                Found::NoKernel(op) => _ = missing.borrow_mut().insert(op),
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        let faults = gpu.sim.as_ref().map(|sim| sim.faults()).unwrap_or_default();
        panic!("{} on {}: {error}\n{faults:#?}", row.name, gpu.context.target().arch);
    }
    missing.into_inner()
}

#[test]
fn operators_agree_on_waves_of_32() {
    check_table(&Gpu::simulated(config(32)));
}

#[test]
fn operators_agree_on_waves_of_64() {
    check_table(&Gpu::simulated(config(64)));
}

#[test]
fn operators_agree_on_a_real_device() {
    match Gpu::real() {
        Some(gpu) => check_table(&gpu),
        None => skipped("RFGRAPH_HIP_PLATFORM names no real device"),
    }
}
