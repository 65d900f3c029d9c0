//! A custom operator with a state and two outputs: a running sum that decays, for several sequences at once. `y` is
//! fresh memory; the second output is the new content of the state, which the next run reads.
//!
//! `cargo run --release --example own_state` runs it on the CPU, and with `-- sim` on the simulated GPU, too.

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;

use rfgraph::cpu::{CpuStep, StepError};
use rfgraph::device::{Arg, Lower, LowerError, Variant, Which};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, FurtherOutput, FurtherOutputs, Memory, ShapeError};
use rfgraph::hip::Context;
use rfgraph::{
    Budget, CpuExecutor, DType, Desc, Executor, Graph, GraphDef, HipExecutor, HipOptions, Operator,
    PlatformKind, WeightMap, compile,
};
use serde::{Deserialize, Serialize};

/// `x` `F32[n, n_tokens]`, a state `F32[n, n_slots]`, and each token's slot, `I32[n_tokens]`. For each token in order,
/// `y = keep · state[slot] + x`, and `y` is stored in the slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Forget {
    keep: f32,
}

/// Threads of a block, each of which computes one channel.
const THREADS: usize = 64;

const KERNEL: &str = r#"
#include "platform.h"

KERNEL_OF(64, forget)(const float* x, const int* slots, float* y, float* state, int n, int n_tokens, int n_slots,
                      float keep) {
    int i = block_index_x() * 64 + thread_index();
    if (i >= n) return;
    for (int t = 0; t < n_tokens; ++t) {
        if (slots[t] < 0 || slots[t] >= n_slots) continue;
        float* kept = state + i + (i64)n * slots[t];
        *kept = keep * *kept + x[i + (i64)n * t];
        y[i + (i64)n * t] = *kept;
    }
}
"#;

impl Operator for Forget {
    const NAME: &'static str = "forget";

    // The first output, `y`.
    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, state, slots] = inputs else {
            return Err(ShapeError::Arity { wanted: "3", found: inputs.len() });
        };
        let types = [x.dtype, state.dtype, slots.dtype] == [DType::F32, DType::F32, DType::I32];
        let sizes = x.shape.dim(0) == state.shape.dim(0) && slots.shape.ne() == [x.shape.dim(1), 1, 1, 1];
        if !(types && sizes && inputs.iter().all(Desc::is_contiguous)) {
            let rule =
                "x, state and slots must be F32[n, n_tokens], F32[n, n_slots], I32[n_tokens], without gaps";
            return Err(ShapeError::rule(rule, inputs));
        }
        Ok(*x)
    }

    // The second output: the state, written in place.
    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let state = FurtherOutput { desc: inputs[1], memory: Memory::WritesState(1) };
        Ok(FurtherOutputs::from_slice(&[state]))
    }

    // Each worker computes up to 64 channels of both outputs. Its part of the state holds the old content until it is
    // written; `step.input(1)` gives no elements, since other workers write to the state.
    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (x, slots) = (step.input(0), step.input(2).all::<i32>());
        let n_slots = step.output_at(1).shape.dim(1);
        step.for_parts([0, 0], THREADS, |channels, [mut y, mut state]| {
            for (t, &slot) in slots.iter().enumerate() {
                let slot = StepError::check("a slot", slot, n_slots)?;
                let y = y.row::<f32>(t, 0, 0)?;
                x.load(channels.start, (t, 0, 0), y)?;
                for (y, kept) in y.iter_mut().zip(state.row::<f32>(slot, 0, 0)?) {
                    *y += self.keep * *kept;
                    *kept = *y;
                }
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [n, n_tokens, ..] = lower.output().shape.ne();
        let n_slots = lower.output_at(1).map_or(0, |state| state.shape.dim(1));
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("slots", Arg::Address(Which::Input(2), 0)),
            ("y", Arg::Address(Which::Output, 0)),
            ("state", Arg::Address(Which::OutputAt(1), 0)),
            ("n", Arg::I32(n as i32)),
            ("n_tokens", Arg::I32(n_tokens as i32)),
            ("n_slots", Arg::I32(n_slots as i32)),
            ("keep", Arg::F32(self.keep)),
        ];
        let blocks = n.div_ceil(THREADS);
        lower.launch(Variant::own("forget", KERNEL, "forget"), [blocks, 1, 1], THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 2 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = Forget { keep: 0.5 };
        let (n, n_slots, n_tokens) = (draw.number(1..=130), draw.number(1..=3), draw.number(1..=4));
        let (x, before) = (draw.values(n * n_tokens, 2.0), draw.values(n * n_slots, 2.0));
        let slots: Vec<i32> = (0..n_tokens).map(|_| draw.number(0..=n_slots - 1) as i32).collect();
        let mut y: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let mut state: Vec<f64> = before.iter().copied().map(f64::from).collect();
        for (y, &slot) in y.chunks_mut(n).zip(&slots) {
            let kept = &mut state[slot as usize * n..][..n];
            y.iter_mut().zip(&*kept).for_each(|(y, kept)| *y += f64::from(op.keep) * kept);
            kept.copy_from_slice(y);
        }
        // Four roundings of numbers below 4; halving is exact.
        let tolerance = vec![4.0 * 4.0 * 2f64.powi(-24)];
        let inputs = vec![
            CaseInput::f32([n, n_tokens], &x),
            CaseInput::f32([n, n_slots], &before).state(),
            CaseInput::i32([n_tokens], &slots),
        ];
        Case::with_tolerances(op, inputs, y, tolerance.clone()).and(state, tolerance)
    }
}

/// Two tokens of one sequence and one of another.
fn graph() -> Result<GraphDef, Box<dyn Error>> {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [2, 3]);
    let (state, slots) =
        (graph.recurrent_state("sums", DType::F32, [2, 4]), graph.input("slots", DType::I32, [3]));
    // `sums` is the state's content after the step; `state` is the content before it.
    let [y, sums] = graph.apply_several(Forget { keep: 0.5 }, &[x, state, slots]);
    graph.output("y", y);
    graph.output("sums", sums);
    Ok(graph.finish()?)
}

fn run(mut executor: impl Executor, device: &str) -> Result<(), Box<dyn Error>> {
    let id = executor.load(compile(&graph()?, &executor.device())?)?;
    executor.set(id, "x", &[1.0f32, 2.0, 1.0, 2.0, 4.0, 4.0])?;
    executor.set(id, "slots", &[0, 0, 3])?;
    executor.run(id)?.wait()?;
    // The second run continues from the state that the first one has left.
    let outputs = executor.run(id)?.wait()?;
    let (y, sums): (&[f32], &[f32]) = (outputs.get("y")?, outputs.get("sums")?);
    println!("{device}: y {y:?}, sums {sums:?}");
    assert_eq!(y, [1.75, 3.5, 1.875, 3.75, 6.0, 6.0]);
    assert_eq!(sums, [1.875, 3.75, 0.0, 0.0, 0.0, 0.0, 6.0, 6.0]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let weights = Arc::new(WeightMap::new());
    let mut executor = CpuExecutor::new(NonZeroUsize::MIN, weights.clone(), Budget::host(Budget::FRACTION))?;
    executor.register(OperatorRow::of::<Forget>());
    run(executor, "CPU")?;
    if std::env::args().nth(1).as_deref() != Some("sim") {
        return Ok(());
    }
    let context = Context::open(PlatformKind::Sim, 0)?;
    let device = context.name().to_string();
    let (free, total) = context.memory_info()?;
    let budget = Budget::gpu(free, total, Budget::FRACTION);
    let mut executor = HipExecutor::new(context, weights, budget, HipOptions::from_env())?;
    executor.register(OperatorRow::of::<Forget>());
    run(executor, &device)
}
