//! A custom operator with its own GPU kernel: it is used in graphs, plans and the parity test like a built-in one.
//!
//! `cargo run --release --example own_operator` runs it on the CPU; with `-- amd`, `-- nvidia` or `-- sim` also on the
//! first GPU of that platform, or on the simulated one.

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;

use rfgraph::cpu::{CpuStep, StepError};
use rfgraph::device::{Arg, Lower, LowerError, Variant, Which};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, Memory, ShapeError};
use rfgraph::hip::Context;
use rfgraph::{
    Budget, CpuExecutor, DType, Desc, Executor, Graph, GraphDef, HipExecutor, HipOptions, Operator,
    PlatformKind, WeightMap, compile,
};
use serde::{Deserialize, Serialize};

/// `x` where it is above the threshold, zero elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Threshold {
    threshold: f32,
}

/// Threads of a block.
const THREADS: usize = 256;

/// The kernel: plain C++17 and the functions that `kernels/platform.h` lists. Each thread computes one element; the
/// last block may reach past the end. A thread reads only the element that it writes, so input and output may be the
/// same memory.
const KERNEL: &str = r#"
#include "platform.h"

KERNEL_OF(256, threshold)(const float* x, float* out, i64 n, float threshold) {
    i64 i = (i64)block_index_x() * 256 + thread_index();
    if (i < n) out[i] = x[i] <= threshold ? 0.0f : x[i];
}
"#;

impl Operator for Threshold {
    const NAME: &'static str = "threshold";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        match inputs {
            [x] if x.dtype == DType::F32 => Ok(Desc::contiguous(DType::F32, x.shape)?),
            [_] => Err(ShapeError::rule("the input must be F32", inputs)),
            _ => Err(ShapeError::Arity { wanted: "1", found: inputs.len() }),
        }
    }

    // The output may take the input's memory: `for_spans` below works either way.
    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        step.for_spans(0, |_, x| {
            x.iter_mut().filter(|x| **x <= self.threshold).for_each(|x| *x = 0.0);
            Ok(())
        })
    }

    // Without this function, the operator runs on the CPU alone.
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        if !lower.inputs().iter().all(Desc::is_contiguous) {
            return Err(lower.unsupported("the input must lie without gaps (use `copy`)"));
        }
        let n = lower.output().shape.elements();
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("out", Arg::Address(Which::Output, 0)),
            ("n", Arg::I64(n as i64)),
            ("threshold", Arg::F32(self.threshold)),
        ];
        let blocks = n.div_ceil(THREADS);
        lower.launch(Variant::own("threshold", KERNEL, "threshold"), [blocks, 1, 1], THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = Threshold { threshold: draw.one_of(&[0.0, 0.5]) };
        let shape = [draw.number(1..=70), draw.number(1..=5)];
        let x = draw.values(shape[0] * shape[1], 2.0);
        let keep = |&x: &f32| if x > op.threshold { f64::from(x) } else { 0.0 };
        let expected = x.iter().map(keep).collect();
        // No arithmetic, so no rounding.
        Case::new(op, vec![CaseInput::f32(shape, &x)], expected, 0.0)
    }
}

/// Squares four numbers and sets results up to a half to zero.
fn graph() -> Result<GraphDef, Box<dyn Error>> {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [4]);
    let y = graph.apply(Threshold { threshold: 0.5 }, &[x.mul(x)]);
    graph.output("y", y);
    Ok(graph.finish()?)
}

fn run(mut executor: impl Executor, device: &str) -> Result<(), Box<dyn Error>> {
    let id = executor.load(compile(&graph()?, &executor.device())?)?;
    executor.set(id, "x", &[-2.0f32, 0.5, 0.8, 3.0])?;
    let outputs = executor.run(id)?.wait()?;
    let y: &[f32] = outputs.get("y")?;
    println!("{device}: {y:?}");
    assert_eq!(y, [4.0, 0.0, 0.8 * 0.8, 9.0]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let weights = Arc::new(WeightMap::new());
    let budget = Budget::host(Budget::FRACTION);
    let mut executor = CpuExecutor::new(NonZeroUsize::MIN, weights.clone(), budget)?;
    // A plan names its operators; an executor must know yours to load the plan.
    executor.register(OperatorRow::of::<Threshold>());
    run(executor, "CPU")?;

    let platform = match std::env::args().nth(1).as_deref() {
        None => return Ok(()),
        Some("amd") => PlatformKind::Amd,
        Some("nvidia") => PlatformKind::Nvidia,
        Some("sim") => PlatformKind::Sim,
        Some(other) => return Err(format!("`{other}` is no platform; there are amd, nvidia and sim").into()),
    };
    let context = Context::open(platform, 0)?;
    let device = context.name().to_string();
    let (free, total) = context.memory_info()?;
    let budget = Budget::gpu(free, total, Budget::FRACTION);
    let mut executor = HipExecutor::new(context, weights, budget, HipOptions::from_env())?;
    executor.register(OperatorRow::of::<Threshold>());
    run(executor, &device)
}
