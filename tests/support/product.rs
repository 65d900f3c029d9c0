//! A product by the BLAS library, followed by a copy of its result.

use std::sync::Arc;

use rfgraph::cpu::{CpuStep, StepError};
use rfgraph::device::{Command, Gemm, Lower, LowerError, Which};
use rfgraph::exec::{Executor, HipExecutor, WeightMap};
use rfgraph::graph::case::{Case, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, Graph, Operator, ShapeError};
use rfgraph::plan::{Plan, compile};
use rfgraph::tensor::{DType, Desc};
use serde::{Deserialize, Serialize};

use super::gpu::Gpu;

/// A product that always uses the BLAS library, however small: `matmul` uses it for large ones only.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Product {}

impl Operator for Product {
    const NAME: &'static str = "test_product";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [a, b] = inputs else { return Err(ShapeError::Arity { wanted: "2", found: inputs.len() }) };
        Ok(Desc::contiguous(DType::F32, [b.shape.dim(1), a.shape.dim(1)])?)
    }

    fn cpu(&self, _: &CpuStep<'_>) -> Result<(), StepError> {
        Ok(())
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [a, b] = lower.inputs() else { return Ok(()) };
        let (m, n, k) = (a.shape.dim(1), b.shape.dim(1), a.shape.dim(0));
        let (a, b, c) = ((Which::Input(0), 0), (Which::Input(1), 0), (Which::Output, 0));
        lower.command(Command::Gemm(Gemm { m, n, k, dtype: DType::F32, a, b, c, accumulate: false }));
        Ok(())
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(_: &mut Draw<'_>) -> Case {
        Case::new(Product {}, vec![], vec![], 0.0)
    }
}

/// Runs a product of `F32[k, n]` with itself and a copy of its result over and over, and compares every result: a copy
/// that did not wait for the product would have the previous product. All numbers are integers below 2^24, so that sums
/// are exact in any order.
pub fn a_product_and_a_copy_keep_their_order(gpu: &Gpu, [k, n]: [usize; 2], runs: usize) {
    assert!(k * 100 < 1 << 24);
    let mut executor = gpu.executor(Arc::new(WeightMap::new()));
    let plan = product_and_copy(&mut executor, [k, n]);
    let id = executor.load(plan).unwrap();
    executor.set(id, "b", &vec![1.0f32; k * n]).unwrap();
    for run in 0..runs {
        let value = (run % 100) as f32;
        executor.set(id, "a", &vec![value; k * n]).unwrap();
        let outputs = executor.run(id).unwrap().wait().unwrap();
        let wanted = value * k as f32;
        for name in ["copied", "product"] {
            let found = outputs.get::<f32>(name).unwrap();
            assert_eq!(found.len(), n * n);
            let wrong = found.iter().position(|&x| x != wanted);
            assert!(wrong.is_none(), "run {run}, {name}: element {wrong:?} of {n}x{n} is not {wanted}");
        }
    }
}

/// The plan of a product of the inputs `a` and `b` by the BLAS library, and of a copy of the product.
pub fn product_and_copy(executor: &mut HipExecutor, [k, n]: [usize; 2]) -> Plan {
    executor.register(OperatorRow::of::<Product>());
    let graph = Graph::new();
    let (a, b) = (graph.input("a", DType::F32, [k, n]), graph.input("b", DType::F32, [k, n]));
    let product = graph.apply(Product {}, &[a, b]);
    graph.output("copied", product.permute([1, 0, 2, 3]).copy());
    graph.output("product", product);
    compile(&graph.finish().unwrap(), &executor.device()).unwrap()
}
