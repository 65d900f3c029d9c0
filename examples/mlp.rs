//! A multilayer perceptron: build a graph, compile it, run it on the CPU, check it by hand.
//!
//! `cargo run --release --example mlp`

use std::error::Error;
use std::sync::Arc;

use rfgraph::{Budget, CpuExecutor, DType, Desc, Executor, Graph, WeightMap, compile, physical_cores};

const N_IN: usize = 8;
const N_HIDDEN: usize = 16;
const N_OUT: usize = 4;
const BATCH: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    // 1. Describe the computation. Shapes have the contiguous dimension first.
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [N_IN, BATCH]);
    let w1 = graph.weight("w1", DType::F32, [N_IN, N_HIDDEN]);
    let w2 = graph.weight("w2", DType::F32, [N_HIDDEN, N_OUT]);
    graph.output("y", x.linear(w1).relu().linear(w2));
    let graph = graph.finish()?;

    // 2. Provide the weights, and compile for the device.
    let (w1, w2) = (wave(N_IN * N_HIDDEN), wave(N_HIDDEN * N_OUT));
    let mut weights = WeightMap::new();
    weights.insert("w1", Desc::contiguous(DType::F32, [N_IN, N_HIDDEN])?, bytemuck::cast_slice(&w1));
    weights.insert("w2", Desc::contiguous(DType::F32, [N_HIDDEN, N_OUT])?, bytemuck::cast_slice(&w2));
    let budget = Budget::host(Budget::FRACTION);
    let mut executor = CpuExecutor::new(physical_cores(), Arc::new(weights), budget)?;
    let plan = compile(&graph, &executor.device())?;
    println!("{plan}");

    // 3. Run. Outputs are readable only after the fence.
    let id = executor.load(plan)?;
    let x = wave(N_IN * BATCH);
    executor.set(id, "x", &x)?;
    let outputs = executor.run(id)?.wait()?;
    let y: &[f32] = outputs.get("y")?;

    for (row, y) in y.chunks(N_OUT).enumerate() {
        let expected = by_hand(&x[row * N_IN..][..N_IN], &w1, &w2);
        println!("row {row}: {y:.4?}");
        // Sums of at most 16 products of numbers below 8, in F32: off by less than 16 · 64 · 2⁻²⁴.
        if y.iter().zip(&expected).any(|(a, b)| (a - b).abs() > 6.2e-5) {
            return Err(format!("row {row} should be {expected:?}").into());
        }
    }
    Ok(())
}

/// `n` numbers between -1 and 1.
fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.7).sin()).collect()
}

fn by_hand(x: &[f32], w1: &[f32], w2: &[f32]) -> Vec<f32> {
    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
    let hidden: Vec<f32> = w1.chunks(N_IN).map(|w| dot(w, x).max(0.0)).collect();
    w2.chunks(N_HIDDEN).map(|w| dot(w, &hidden)).collect()
}
