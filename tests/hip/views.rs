//! Elementwise and row kernels on a GPU, for cases that the parity test does not draw: inputs that are views (permuted,
//! or a part of a larger tensor at any offset), rows of many blocks, NaN and infinity. Shared memory is checked for
//! races.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use half::{bf16, f16};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rfgraph::exec::{Executor, HipExecutor, WeightMap};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::{Graph, Tensor};
use rfgraph::hip::platform::sim::{Checks, Config};
use rfgraph::ops::{self, Argmax, Argsort, Cast, TopK, Unary, UnaryKind};
use rfgraph::plan::compile;
use rfgraph::tensor::{DType, Desc};

use crate::support::gpu::{Gpu, config};
use crate::support::numbers::numbers;

/// Operators that take at least some inputs with gaps.
const OPERATORS: [&str; 14] = [
    "argmax",
    "binary",
    "cast",
    "clamped_swiglu",
    "concat",
    "copy",
    "expert_weights",
    "gated",
    "matmul",
    "scale",
    "select_experts",
    "top_k",
    "unary",
    "weighted_sum",
];

fn watched(wave: u32) -> Gpu {
    Gpu::simulated(Config { checks: Checks::Full, ..config(wave) })
}

/// The place of an input in the tensor that it is a view of.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Dimension `i` of the tensor is dimension `order[i]` of the view.
    order: [usize; 4],
    /// The number of elements before the view in each dimension of the tensor.
    before: [usize; 4],
}

impl Way {
    fn drawn(draw: &mut Draw<'_>) -> Way {
        let mut order = [0, 1, 2, 3];
        // Some operators take only whole rows.
        let first = draw.number(0..=1);
        for i in first..4 {
            order.swap(i, draw.number(i..=3));
        }
        Way { order, before: [(); 4].map(|()| draw.number(0..=2)) }
    }

    /// The tensor's sizes.
    fn sizes(self, view: [usize; 4]) -> [usize; 4] {
        [0, 1, 2, 3].map(|i| view[self.order[i]] + self.before[i])
    }

    /// The bytes of a tensor whose view has the input's data; bytes outside the view are not zero.
    fn bytes(self, input: &CaseInput) -> Vec<u8> {
        let (view, size) = (input.desc.shape.ne(), input.desc.dtype.block_bytes());
        let sizes = self.sizes(view);
        let mut bytes = vec![0x3F; sizes.iter().product::<usize>() * size];
        for (i, element) in input.data.chunks_exact(size).enumerate() {
            let index = [i % view[0], i / view[0] % view[1], i / view[0] / view[1] % view[2]];
            let index = [index[0], index[1], index[2], i / view[0] / view[1] / view[2]];
            let places = (0..4).rev().map(|d| (index[self.order[d]] + self.before[d], sizes[d]));
            let at = places.fold(0, |at, (i, n)| at * n + i);
            bytes[at * size..][..size].copy_from_slice(element);
        }
        bytes
    }

    /// The view of a tensor.
    fn of(self, tensor: Tensor<'_>, view: [usize; 4]) -> Tensor<'_> {
        let cut = (0..4).fold(tensor, |t, d| t.slice(d, self.before[d], view[self.order[d]]));
        let mut back = [0; 4];
        self.order.iter().enumerate().for_each(|(d, &of)| back[of] = d);
        cut.permute(back)
    }
}

/// Runs a case with its inputs laid out in these ways; `None` if the operator does not accept the layout.
fn run(
    executor: &mut HipExecutor,
    case: &Case,
    ways: Option<&[Way]>,
    number: usize,
) -> Option<(Desc, Vec<u8>)> {
    let graph = Graph::new();
    let name = |i: usize| format!("case {number}: input {i}");
    let mut inputs = Vec::new();
    for (i, input) in case.inputs.iter().enumerate() {
        let (dtype, view) = (input.desc.dtype, input.desc.shape.ne());
        inputs.push(match ways {
            Some(ways) => ways[i].of(graph.input(name(i), dtype, ways[i].sizes(view)), view),
            None => graph.input(name(i), dtype, view),
        });
    }
    let descs: Vec<Desc> = inputs.iter().filter_map(|input| input.desc()).collect();
    case.op.infer(&descs).ok()?;
    graph.output("out", graph.apply_any(case.op.clone(), &inputs));
    let plan = compile(&graph.finish().unwrap(), &executor.device()).unwrap();
    let desc = plan.outputs[0].operand.desc;
    let id = executor.load(plan).unwrap();
    for (i, input) in case.inputs.iter().enumerate() {
        let bytes = ways.map_or_else(|| input.data.clone(), |ways| ways[i].bytes(input));
        let (port, _) = executor.plan(id).unwrap().input(&name(i)).unwrap();
        executor.write(id, port, &bytes).unwrap();
    }
    let outputs = executor.run(id).unwrap().wait().unwrap();
    Some((desc, outputs.at::<u8>(0).unwrap().to_vec()))
}

fn assert_right(case: &Case, (desc, bytes): &(Desc, Vec<u8>), what: &dyn std::fmt::Debug) {
    let found = numbers(desc.dtype, bytes);
    assert_eq!(found.len(), case.expected.len(), "{:?}", case.op);
    let tolerances = case.device_tolerance.as_ref().unwrap_or(&case.tolerance);
    for (i, (found, expected)) in found.iter().zip(&case.expected).enumerate() {
        let tolerance = tolerances[i.min(tolerances.len() - 1)];
        let same = found == expected || (found.is_nan() && expected.is_nan());
        assert!(
            same || (found - expected).abs() <= tolerance,
            "{:?} of {what:?}: element {i} is {found}, should be {expected} within {tolerance:e}",
            case.op
        );
    }
}

#[test]
fn operators_read_views() {
    let gpu = watched(32);
    for row in ops::TABLE.iter().filter(|row| OPERATORS.contains(&row.name)) {
        let executor = RefCell::new(gpu.executor(Arc::new(WeightMap::new())));
        let (number, ran) = (Cell::new(0), Cell::new(0));
        let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let choices =
            (prop::collection::vec(any::<u32>(), 0..40), prop::collection::vec(any::<u32>(), 0..40));
        let result = TestRunner::new_with_rng(config, rng).run(&choices, |(choices, ways)| {
            let case = (row.case)(&mut Draw::new(&choices));
            // A view cannot cut blocks.
            prop_assume!(case.inputs.iter().all(|input| input.desc.dtype.is_plain()));
            let mut draw = Draw::new(&ways);
            let ways: Vec<Way> = case.inputs.iter().map(|_| Way::drawn(&mut draw)).collect();
            number.set(number.get() + 1);
            if let Some(output) = run(&mut executor.borrow_mut(), &case, Some(&ways), number.get()) {
                ran.set(ran.get() + 1);
                assert_right(&case, &output, &ways);
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{}: {error}", row.name);
        }
        assert!(ran.get() >= 4, "{} took {} of {} views", row.name, ran.get(), number.get());
    }
}

/// The indices of a row in order, NaN as -∞.
fn sorted(row: &[f32], descending: bool) -> Vec<f64> {
    let key = |i: usize| if row[i].is_nan() { f32::NEG_INFINITY } else { row[i] };
    let mut all: Vec<usize> = (0..row.len()).collect();
    all.sort_by(|&a, &b| {
        let ascending = key(a).partial_cmp(&key(b)).unwrap();
        if descending { ascending.reverse() } else { ascending }
    });
    all.into_iter().map(|i| i as f64).collect()
}

#[test]
fn long_rows_with_nan_and_infinity_are_sorted() {
    let strange = [0.0, -0.0, f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 1e-40, -1e-40, -2.5];
    for (wave, n) in [(32, 5000), (64, 4097)] {
        let gpu = watched(wave);
        let mut executor = gpu.executor(Arc::new(WeightMap::new()));
        let seed = [n as u32];
        let mut draw = Draw::new(&seed);
        let few: Vec<f32> = (0..n).map(|_| strange[(draw.unit() * strange.len() as f64) as usize]).collect();
        let rows = [few, vec![f32::NAN; n], draw.values(n, 100.0)];
        let mut number = 0;
        for row in &rows {
            let input = || vec![CaseInput::f32([n], row)];
            let (down, up) = (sorted(row, true), sorted(row, false));
            let mut cases = vec![
                Case::new(Argmax {}, input(), down[..1].to_vec(), 0.0),
                Case::new(Argsort { descending: true }, input(), down.clone(), 0.0),
                Case::new(Argsort { descending: false }, input(), up, 0.0),
            ];
            // Several rounds, the largest number of rounds, and the beginning of the whole order.
            let counts = [1, 40, 1024, 2000];
            cases.extend(counts.map(|k| Case::new(TopK { k }, input(), down[..k].to_vec(), 0.0)));
            for case in &cases {
                number += 1;
                let output = run(&mut executor, case, None, number).unwrap();
                assert_right(case, &output, &n);
            }
        }
    }
}

#[test]
fn argmax_of_a_vocabulary_is_the_first_largest() {
    let gpu = Gpu::simulated(config(32));
    let mut executor = gpu.executor(Arc::new(WeightMap::new()));
    let mut row = Draw::new(&[1]).values(128_256, 10.0);
    for (number, at) in [128_255, 70_000, 0].into_iter().enumerate() {
        // The first of two equal elements.
        (row[at], row[128_255]) = (11.0, 11.0);
        let case = Case::new(Argmax {}, vec![CaseInput::f32([row.len()], &row)], vec![at as f64], 0.0);
        assert_right(&case, &run(&mut executor, &case, None, number).unwrap(), &at);
    }
}

#[test]
fn nan_casts_match_cpu() {
    let gpu = watched(32);
    let mut executor = gpu.executor(Arc::new(WeightMap::new()));
    let large =
        [3e9, -3e9, 2_147_483_520.0, -2_147_483_648.0, 65_519.9, 65_520.0, -1e6, 1e-41, 3e-8, -0.9, 0.99];
    let x: Vec<f32> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().chain(large).collect();
    type Rounded = (DType, fn(f32) -> f64);
    let casts: [Rounded; 3] = [
        (DType::I32, |x| f64::from(x as i32)),
        (DType::F16, |x| f16::from_f32(x).into()),
        (DType::BF16, |x| bf16::from_f32(x).into()),
    ];
    for (number, (dtype, cast)) in casts.into_iter().enumerate() {
        let expected = x.iter().map(|&x| cast(x)).collect();
        let case = Case::new(Cast { dtype }, vec![CaseInput::f32([x.len()], &x)], expected, 0.0);
        assert_right(&case, &run(&mut executor, &case, None, number).unwrap(), &x);
    }
}

#[test]
fn activations_have_the_same_limits_as_on_the_cpu() {
    let gpu = watched(64);
    let mut executor = gpu.executor(Arc::new(WeightMap::new()));
    let x = [f32::NAN, 1e4, -1e4, 0.0];
    let nan = f64::NAN;
    let limits = [
        (UnaryKind::Silu, [nan, 1e4, 0.0, 0.0]),
        (UnaryKind::Gelu, [nan, 1e4, 0.0, 0.0]),
        (UnaryKind::GeluErf, [nan, 1e4, 0.0, 0.0]),
        (UnaryKind::GeluQuick, [nan, 1e4, 0.0, 0.0]),
        (UnaryKind::Relu, [nan, 1e4, 0.0, 0.0]),
        (UnaryKind::Sigmoid, [nan, 1.0, 0.0, 0.5]),
        (UnaryKind::Tanh, [nan, 1.0, -1.0, 0.0]),
        (UnaryKind::Exp, [nan, f64::INFINITY, 0.0, 1.0]),
        (UnaryKind::Softplus, [nan, 1e4, 0.0, f64::from(2f32.ln())]),
    ];
    for (number, (kind, expected)) in limits.into_iter().enumerate() {
        let case = Case::new(Unary { kind }, vec![CaseInput::f32([4], &x)], expected.to_vec(), 0.0);
        assert_right(&case, &run(&mut executor, &case, None, number).unwrap(), &x);
    }
}

#[test]
fn a_view_that_cuts_blocks_is_refused() {
    let gpu = Gpu::simulated(config(32));
    let executor = gpu.executor(Arc::new(WeightMap::new()));
    let graph = Graph::new();
    let weight = graph.input("weight", DType::Q4_0, [64, 4]);
    graph.output("part", weight.slice(1, 1, 2).cast(DType::F32));
    let error = compile(&graph.finish().unwrap(), &executor.device()).unwrap_err().to_string();
    assert!(error.contains("cast") && error.contains("a part of a Q4_0 tensor"), "{error}");
}
