//! A GPU's memory bandwidth and rate of F16 matrix products, measured by ordinary plans. They bound the speed of decode
//! and of prefill.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::exec::{Budget, Executor, HipExecutor, HipOptions, WeightMap};
use crate::graph::{Graph, GraphDef};
use crate::plan::compile;
use crate::tensor::{DType, Desc};

/// Runs per size. The fastest counts, since other work can only slow a run down.
const RUNS: usize = 10;
/// The longest time that a step may occupy the device, which may also drive a display.
const LONGEST: Duration = Duration::from_millis(50);

/// Elements of a row that one thread block sums: as many as its threads load before they add.
const ROW: usize = 4 << 10;
/// Rows to read. The largest size, 1 GiB, exceeds any cache of a GPU.
const ROWS: [usize; 4] = [64, 1 << 10, 16 << 10, 64 << 10];
/// Rows and depth of the product; it has four times as many columns, so that the rounding of activations to F16, which
/// a model's products also do, takes little of the time.
const SIDES: [usize; 4] = [64, 256, 1024, 4096];

/// The error of any part of a measurement; it is only shown.
type Failure = Box<dyn Error>;

/// A GPU's rates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    pub read_bytes_per_second: f64,
    pub matrix_flops_per_second: f64,
}

impl Ceilings {
    /// Measures the device of an executor, within the rest of its budget.
    ///
    /// # Errors
    /// The rest of the budget is too small for the smallest size, or the device fails.
    pub fn measure(executor: &HipExecutor) -> Result<Ceilings, Failure> {
        Ok(Ceilings {
            read_bytes_per_second: read_rate(executor)?,
            matrix_flops_per_second: matrix_rate(executor)?,
        })
    }
}

/// Bytes per second of the largest size that fits the budget and the time limit.
fn read_rate(executor: &HipExecutor) -> Result<f64, Failure> {
    let mut found = Err(None);
    for (i, rows) in ROWS.into_iter().enumerate() {
        let graph = Graph::new();
        graph.output("sums", graph.state("buffer", DType::F32, [ROW, 1, rows]).sum_rows());
        let bytes = (ROW * rows * size_of::<f32>()) as f64;
        match fastest(executor, graph.finish()?, WeightMap::new()) {
            Ok(time) => {
                found = Ok(bytes / time.as_secs_f64());
                let growth = ROWS.get(i + 1).map_or(1, |next| next / rows);
                if time * growth as u32 > LONGEST {
                    break;
                }
            }
            Err(error) => {
                found = found.map_err(|_: Option<Failure>| Some(error));
                break;
            }
        }
    }
    found.map_err(|error| error.unwrap_or_else(nothing))
}

/// Operations per second of the fastest size that fits the budget and the time limit.
fn matrix_rate(executor: &HipExecutor) -> Result<f64, Failure> {
    let mut found: Result<f64, Option<Failure>> = Err(None);
    for (i, side) in SIDES.into_iter().enumerate() {
        let columns = 4 * side;
        let graph = Graph::new();
        let weight = graph.weight("w", DType::F16, [side, columns]);
        // Sums, so that little is copied to the host.
        graph.output("sums", graph.weight("x", DType::F32, [side, side]).linear(weight).sum_rows());
        let flops = (2 * side * side * columns) as f64;
        match fastest(executor, graph.finish()?, matrices(side, columns)?) {
            Ok(time) => {
                let rate = flops / time.as_secs_f64();
                found = Ok(found.map_or(rate, |before| before.max(rate)));
                let growth = SIDES.get(i + 1).map_or(1, |next| (next / side).pow(3));
                if time * growth as u32 > LONGEST {
                    break;
                }
            }
            Err(error) => {
                found = found.map_err(|_| Some(error));
                break;
            }
        }
    }
    found.map_err(|error| error.unwrap_or_else(nothing))
}

fn nothing() -> Failure {
    "nothing was measured".into()
}

/// The matrices of a product, with values like a model's: a device that multiplies zeros draws less power and may run
/// faster.
fn matrices(side: usize, columns: usize) -> Result<WeightMap, Failure> {
    // A prime number of distinct values, so that rows differ.
    let value = |i: usize| ((i % 4093) as f32 * 0.618).fract() - 0.5;
    let x: Vec<f32> = (0..side * side).map(value).collect();
    let w: Vec<half::f16> = (0..side * columns).map(|i| half::f16::from_f32(value(i))).collect();
    let mut map = WeightMap::new();
    let desc = |dtype, rows| Desc::contiguous(dtype, [side, rows]);
    map.insert("x", desc(DType::F32, side)?, bytemuck::cast_slice(&x));
    map.insert("w", desc(DType::F16, columns)?, bytemuck::cast_slice(&w));
    Ok(map)
}

/// The time of a graph's first step in its fastest run, on a temporary executor.
fn fastest(of: &HipExecutor, graph: GraphDef, weights: WeightMap) -> Result<Duration, Failure> {
    let left = of.budget().available();
    let options = HipOptions { graphs: false, ..HipOptions::from_env() };
    let mut executor =
        HipExecutor::new(of.context().clone(), Arc::new(weights), Budget::gpu(left, left, 1.0), options)?;
    let plan = compile(&graph, &executor.device())?;
    let id = executor.load(plan)?;
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        executor.start_timing();
        executor.run(id)?.wait()?;
        best = best.min(executor.times(id).first().copied().unwrap_or(Duration::MAX));
    }
    // The time may be below the clock's resolution.
    Ok(best.max(Duration::from_nanos(1)))
}
