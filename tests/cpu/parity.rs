//! Parity: every operator of the table agrees with f64 arithmetic, through graph, plan and executor; and any number of
//! threads, every instruction set, in place or not, give the same bits.

use std::num::NonZeroUsize;
use std::sync::Arc;

use proptest::prelude::*;
use rfgraph::cpu::Isa;
use rfgraph::exec::{Budget, CpuExecutor, Executor, WeightMap};
use rfgraph::graph::Graph;
use rfgraph::graph::case::{Case, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::ops;
use rfgraph::plan::compile;
use rfgraph::tensor::{DType, Desc};

use crate::support::numbers::numbers;
use crate::support::several;

/// The settings of one run of a case.
#[derive(Clone, Copy, Debug)]
struct Setting {
    threads: usize,
    isa: Isa,
    /// The first input dies in the step, so that the step may run in its place.
    in_place: bool,
}

/// The outputs of a case as bytes.
fn run(case: &Case, setting: Setting) -> Vec<(Desc, Vec<u8>)> {
    let graph = Graph::new();
    let one = graph.constant("one", &[1.0], [1]);
    let mut inputs = Vec::new();
    for (i, input) in case.inputs.iter().enumerate() {
        let name = format!("input.{i}");
        let tensor = match input.is_state {
            true => graph.state(name, input.desc.dtype, input.desc.shape),
            false => graph.input(name, input.desc.dtype, input.desc.shape),
        };
        let dies = setting.in_place && i == 0 && !input.is_state && input.desc.dtype == DType::F32;
        inputs.push(if dies { tensor.mul(one) } else { tensor });
    }
    for (i, result) in graph.apply_any(case.op.clone(), &inputs).outputs().into_iter().enumerate() {
        let gaps = result.desc().is_some_and(|desc| !desc.is_contiguous());
        graph.output(format!("out.{i}"), if gaps { result.mul(one) } else { result });
    }
    let graph = graph.finish().unwrap();

    let threads = NonZeroUsize::new(setting.threads).unwrap();
    let budget = Budget::host(Budget::FRACTION);
    let mut executor = CpuExecutor::new(threads, Arc::new(WeightMap::new()), budget).unwrap();
    assert!(executor.set_isa(setting.isa));
    several::ROWS.into_iter().for_each(|row| executor.register(row));
    let plan = compile(&graph, &executor.device()).unwrap();
    let written = serde_json::to_string(&plan).unwrap();
    assert_eq!(plan, serde_json::from_str(&written).unwrap(), "a plan survives being written down");
    let descs: Vec<Desc> = plan.outputs.iter().map(|port| port.operand.desc).collect();
    let id = executor.load(plan).unwrap();
    for (i, input) in case.inputs.iter().enumerate() {
        let name = format!("input.{i}");
        match input.is_state {
            true => executor.set_state(&name, &input.data).unwrap(),
            false => {
                let (number, _) = executor.plan(id).unwrap().input(&name).unwrap();
                executor.write(id, number, &input.data).unwrap();
            }
        }
    }
    let outputs = executor.run(id).unwrap().wait().unwrap();
    (descs.into_iter().enumerate()).map(|(i, desc)| (desc, outputs.at::<u8>(i).unwrap().to_vec())).collect()
}

fn check(row: &OperatorRow, choices: &[u32]) -> Result<(), TestCaseError> {
    let case = (row.case)(&mut Draw::new(choices));
    prop_assert_eq!(case.op.name(), row.name);
    let best = Setting { threads: 2, isa: Isa::detect(), in_place: false };
    let outputs = run(&case, best);
    let answers = case.answers();
    prop_assert_eq!(outputs.len(), answers.len(), "{:?}", case.op);
    for (number, ((desc, bytes), answer)) in outputs.iter().zip(&answers).enumerate() {
        let found = numbers(desc.dtype, bytes);
        prop_assert_eq!(found.len(), answer.expected.len(), "{:?}", case.op);
        for (i, (found, expected)) in found.iter().zip(&answer.expected).enumerate() {
            let tolerance = answer.tolerance[i.min(answer.tolerance.len() - 1)];
            let same = found == expected || (found.is_nan() && expected.is_nan());
            prop_assert!(
                same || (found - expected).abs() <= tolerance,
                "{:?}: element {} of output {} is {}, should be {} within {:e}",
                case.op,
                i,
                number,
                found,
                expected,
                tolerance
            );
        }
    }
    let mut settings = vec![
        Setting { threads: 1, ..best },
        Setting { threads: 3, ..best },
        Setting { in_place: true, ..best },
    ];
    settings.extend(Isa::available().into_iter().map(|isa| Setting { isa, ..best }));
    for setting in settings {
        prop_assert_eq!(&run(&case, setting), &outputs, "{:?} differs with {:?}", case.op, setting);
    }
    Ok(())
}

/// Draws `RFGRAPH_PARITY_CASES` cases evenly from the table and the tests' operators with several outputs, or from the
/// one operator that `RFGRAPH_PARITY_ONLY` names.
#[test]
fn every_operator_gives_the_same_everywhere() {
    let only = several::parity_only();
    let cases = std::env::var("RFGRAPH_PARITY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    for row in ops::TABLE
        .iter()
        .chain(&several::ROWS)
        .filter(|row| only.as_ref().is_none_or(|only| only == row.name))
    {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(choices in prop::collection::vec(any::<u32>(), 0..40))| {
            check(row, &choices)?;
        });
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = ops::TABLE.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ops::TABLE.len());
}
