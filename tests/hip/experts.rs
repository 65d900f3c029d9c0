//! Products with chosen experts, for cases that the parity tests do not draw: invalid expert numbers, and many experts
//! with many rows. Shared memory is checked for races.

use std::num::NonZeroUsize;
use std::sync::Arc;

use half::f16;
use rfgraph::exec::{Budget, CpuExecutor, ExecError, Executor, WeightMap};
use rfgraph::graph::Graph;
use rfgraph::graph::case::Draw;
use rfgraph::hip::platform::sim::{Checks, Config};
use rfgraph::plan::compile;
use rfgraph::tensor::DType;

use crate::support::gpu::{Gpu, config};

const K: usize = 40;
const N_OUT: usize = 70;
const N_USED: usize = 4;

/// Products of integers, whose sums are exact in any order and with F16 operands.
struct Case {
    n_expert: usize,
    n_tokens: usize,
    weight: Vec<f16>,
    x: Vec<f32>,
    ids: Vec<i32>,
}

impl Case {
    fn new(n_expert: usize, n_tokens: usize, known: bool) -> Case {
        let mut draw = Draw::new(&[7]);
        let mut whole =
            |n: usize| (0..n).map(|_| (draw.unit() * 9.0).floor() as f32 - 4.0).collect::<Vec<f32>>();
        let weight = whole(K * N_OUT * n_expert).into_iter().map(f16::from_f32).collect();
        let x = whole(K * n_tokens);
        let mut ids: Vec<i32> =
            (0..N_USED * n_tokens).map(|_| (draw.unit() * n_expert as f64) as i32).collect();
        if !known {
            (ids[1], ids[5], ids[6]) = (-1, n_expert as i32, i32::MIN);
        }
        Case { n_expert, n_tokens, weight, x, ids }
    }

    /// The expected result: NaN for rows with an invalid expert number.
    fn answer(&self) -> Vec<f32> {
        let row = |(row, &id): (usize, &i32)| {
            let x = &self.x[row / N_USED * K..][..K];
            let expert = usize::try_from(id).ok().and_then(|id| self.weight.chunks(K * N_OUT).nth(id));
            match expert {
                Some(expert) => expert
                    .chunks(K)
                    .map(|w| w.iter().zip(x).map(|(w, x)| w.to_f32() * x).sum())
                    .collect::<Vec<f32>>(),
                None => vec![f32::NAN; N_OUT],
            }
        };
        self.ids.iter().enumerate().flat_map(row).collect()
    }

    fn run(&self, executor: &mut impl Executor) -> Result<Vec<f32>, ExecError> {
        let graph = Graph::new();
        let weight = graph.input("weight", DType::F16, [K, N_OUT, self.n_expert]);
        let x = graph.input("x", DType::F32, [K, 1, self.n_tokens]);
        let ids = graph.input("ids", DType::I32, [N_USED, self.n_tokens]);
        graph.output("y", x.linear_id(weight, ids));
        let plan = compile(&graph.finish().unwrap(), &executor.device()).unwrap();
        let id = executor.load(plan)?;
        executor.set(id, "weight", &self.weight)?;
        executor.set(id, "x", &self.x)?;
        executor.set(id, "ids", &self.ids)?;
        Ok(executor.run(id)?.wait()?.get("y")?.to_vec())
    }
}

fn assert_same(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!(
            found == wanted || (found.is_nan() && wanted.is_nan()),
            "element {i} is {found}, not {wanted}"
        );
    }
}

/// Few rows, read one by one; and many rows, grouped by expert: more than one tile, more threads than one.
fn cases() -> Vec<Case> {
    let sizes = [(3, 2), (9, 60), (3, 90), (90, 100)];
    sizes
        .iter()
        .flat_map(|&(n_expert, n_tokens)| [true, false].map(|known| Case::new(n_expert, n_tokens, known)))
        .collect()
}

fn check(wave: u32) {
    let gpu = Gpu::simulated(Config { checks: Checks::Full, ..config(wave) });
    let mut executor = gpu.executor(Arc::new(WeightMap::new()));
    for case in cases() {
        assert_same(&case.run(&mut executor).unwrap(), &case.answer());
    }
    drop(executor);
    gpu.sim().assert_no_fault();
}

#[test]
fn waves_of_32_group_rows_by_their_experts() {
    check(32);
}

#[test]
fn waves_of_64_group_rows_by_their_experts() {
    check(64);
}

#[test]
fn invalid_expert_number_fails_the_run_on_the_cpu() {
    for case in cases() {
        let budget = Budget::host(Budget::FRACTION);
        let mut executor =
            CpuExecutor::new(NonZeroUsize::new(3).unwrap(), Arc::new(WeightMap::new()), budget).unwrap();
        let answer = case.answer();
        match case.run(&mut executor) {
            Ok(found) => assert_same(&found, &answer),
            Err(error) => {
                assert!(answer.iter().any(|x| x.is_nan()), "{error}");
                assert!(error.to_string().contains("the chosen expert is -1, outside of 0.."), "{error}");
            }
        }
    }
}
