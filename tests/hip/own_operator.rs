//! A user's own operator with its own kernel runs on a GPU like a built-in one: on the simulated device, in serialized
//! plans, beside built-in kernels. Its possible mistakes are errors with a clear message.

use std::cell::RefCell;
use std::sync::Arc;

use proptest::prelude::*;
use rfgraph::cpu::{CpuStep, StepError};
use rfgraph::device::{Arg, Lower, LowerError, Variant, Which};
use rfgraph::exec::{Executor, HipExecutor, WeightMap};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, Graph, GraphDef, Operator, ShapeError};
use rfgraph::plan::compile;
use rfgraph::tensor::{DType, Desc};
use serde::{Deserialize, Serialize};

use crate::support::gpu::{Gpu, config};

/// `Σ xᵖ` of each row of `F32[n, ...]`, any strides: `F32[1, ...]`. It uses everything a kernel can be given: strides,
/// a compile-time constant, shared memory, a header of `kernels/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PowerSum {
    power: u32,
}

const KERNEL: &str = r#"
#include "elements.h"

// A block sums a row: each thread every `block_size()`th element, then halves of the threads in turn.
KERNEL(power_sum)(const float* x, Layout x_at, float* out) {
    DYNAMIC_SHARED(float, sums);
    const u8* row = (const u8*)x + row_offset(x_at, row_index(x_at, (u32)block_index_x()));
    int t = thread_index();
    float sum = 0.0f;
    for (i64 i = t; i < x_at.ne[0]; i += block_size()) {
        float value = *(const float*)(row + i * x_at.nb[0]), power = 1.0f;
        for (int p = 0; p < POWER; ++p) power *= value;
        sum += power;
    }
    sums[t] = sum;
    for (int half = block_size() / 2; half > 0; half /= 2) {
        barrier();
        if (t < half) sums[t] += sums[t + half];
    }
    if (t == 0) out[block_index_x()] = sums[0];
}
"#;

/// A power of two, so that the number of threads can be halved.
const THREADS: usize = 64;

impl Operator for PowerSum {
    const NAME: &'static str = "power_sum";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        match inputs {
            [x] if x.dtype == DType::F32 => {
                let [_, n1, n2, n3] = x.shape.ne();
                Ok(Desc::contiguous(DType::F32, [1, n1, n2, n3])?)
            }
            _ => Err(ShapeError::rule("the input must be F32", inputs)),
        }
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let x = step.input(0);
        let mut row = vec![0.0; x.dim(0)];
        step.for_rows(|index, out: &mut [f32]| {
            x.load(0, index, &mut row)?;
            out.fill(row.iter().map(|x| x.powi(self.power as i32)).sum());
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let variant = match self.power {
            // Mistakes that a user may make.
            7 => Variant::own("power_sum", "int x;\nint y = z;\n", "power_sum"),
            8 => Variant::own("power_sum", KERNEL, "power_product").define("POWER", 8),
            9 => return Err(lower.unsupported("the ninth power is too large")),
            power => Variant::own("power_sum", KERNEL, "power_sum").define("POWER", power),
        };
        let input = Which::Input(0);
        let args = [
            ("x", Arg::Address(input, 0)),
            ("x_at", Arg::Layout(input)),
            ("out", Arg::Address(Which::Output, 0)),
        ];
        let rows = lower.output().shape.elements();
        lower.launch_shared(variant, [rows, 1, 1], THREADS, THREADS * size_of::<f32>(), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = PowerSum { power: draw.one_of(&[1, 2, 3]) };
        let sizes = [draw.one_of(&[1, 5, 63, 64, 65, 1000]), draw.number(1..=3), draw.number(1..=3)];
        let x = draw.values(sizes.iter().product(), 2.0);
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for row in x.chunks(sizes[0]) {
            let powers = row.iter().map(|&x| f64::from(x).powi(op.power as i32));
            expected.push(powers.clone().sum());
            // One rounding for every product and every addition, relative to the sum of magnitudes.
            let size: f64 = powers.map(f64::abs).sum();
            tolerance.push(size * (sizes[0] + 3) as f64 * 2f64.powi(-24) + 1e-37);
        }
        Case::with_tolerances(op, vec![CaseInput::f32(sizes, &x)], expected, tolerance)
    }
}

fn executor() -> (Gpu, HipExecutor) {
    let gpu = Gpu::simulated(config(32));
    let executor = gpu.executor(Arc::new(WeightMap::new()));
    (gpu, executor)
}

/// `y = Σ xᵖ`, of the transposed `x` if `turned`.
fn graph(op: PowerSum, sizes: [usize; 4], turned: bool) -> GraphDef {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, sizes);
    let x = if turned { x.permute([1, 2, 0, 3]) } else { x };
    graph.output("y", graph.apply(op, &[x]));
    graph.finish().unwrap()
}

fn run(executor: &mut HipExecutor, graph: &GraphDef, x: &[f32]) -> Vec<f32> {
    let plan = compile(graph, &executor.device()).unwrap();
    let written = serde_json::to_string(&plan).unwrap();
    assert_eq!(plan, serde_json::from_str(&written).unwrap(), "a plan survives being written down");
    let id = executor.load(plan).unwrap();
    executor.set(id, "x", x).unwrap();
    let outputs = executor.run(id).unwrap().wait().unwrap();
    outputs.get::<f32>("y").unwrap().to_vec()
}

#[test]
fn own_operator_agrees_with_its_exact_answer() {
    for wave in [32, 64] {
        check_parity(wave);
    }
}

fn check_parity(wave: u32) {
    let gpu = Gpu::simulated(config(wave));
    let executor = RefCell::new(gpu.executor(Arc::new(WeightMap::new())));
    executor.borrow_mut().register(OperatorRow::of::<PowerSum>());
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(choices in prop::collection::vec(any::<u32>(), 0..8))| {
        let case = PowerSum::case(&mut Draw::new(&choices));
        let op = case.op.as_any().downcast_ref::<PowerSum>().unwrap();
        let x: Vec<f32> = case.inputs[0].data.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        let found = run(&mut executor.borrow_mut(), &graph(op.clone(), case.inputs[0].desc.shape.ne(), false), &x);
        prop_assert_eq!(found.len(), case.expected.len());
        for ((found, expected), tolerance) in found.iter().zip(&case.expected).zip(&case.tolerance) {
            prop_assert!((f64::from(*found) - expected).abs() <= *tolerance, "{} is not {}", found, expected);
        }
    });
}

#[test]
fn own_operator_reads_strided_inputs() {
    let (_gpu, mut executor) = executor();
    executor.register(OperatorRow::of::<PowerSum>());
    // Rows of the transposed tensor are columns of this one: 0 + 3, 1 + 4, 2 + 5.
    let found =
        run(&mut executor, &graph(PowerSum { power: 1 }, [3, 2, 1, 1], true), &[0., 1., 2., 3., 4., 5.]);
    assert_eq!(found, [3.0, 5.0, 7.0]);
}

#[test]
fn an_unregistered_operator_is_an_error() {
    let (_gpu, mut executor) = executor();
    let plan = compile(&graph(PowerSum { power: 2 }, [4, 1, 1, 1], false), &executor.device()).unwrap();
    let error = executor.load(plan).unwrap_err().to_string();
    assert!(error.contains("power_sum"), "{error}");
}

#[test]
fn a_lowering_error_is_a_compile_error() {
    let (_gpu, executor) = executor();
    let refused = graph(PowerSum { power: 9 }, [4, 1, 1, 1], false);
    let error = compile(&refused, &executor.device()).unwrap_err().to_string();
    assert!(error.contains("power_sum") && error.contains("the ninth power is too large"), "{error}");
}

#[test]
fn a_kernel_that_does_not_compile_shows_its_lines() {
    let (_gpu, mut executor) = executor();
    executor.register(OperatorRow::of::<PowerSum>());
    let plan = compile(&graph(PowerSum { power: 7 }, [4, 1, 1, 1], false), &executor.device()).unwrap();
    let error = executor.load(plan).unwrap_err().to_string();
    assert!(error.contains("power_sum") && error.contains("int y = z;"), "{error}");
}

#[test]
fn a_missing_kernel_is_named() {
    let (_gpu, mut executor) = executor();
    executor.register(OperatorRow::of::<PowerSum>());
    let plan = compile(&graph(PowerSum { power: 8 }, [4, 1, 1, 1], false), &executor.device()).unwrap();
    let error = executor.load(plan).unwrap_err().to_string();
    assert!(error.contains("power_product"), "{error}");
}
