//! An operator of one's own: it enters graphs, plans and the parity test like a built-in one.
//!
//! `cargo run --release --example own_operator`

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;

use rfgraph::cpu::{CpuStep, StepError};
use rfgraph::exec::{Budget, CpuExecutor, Executor, WeightMap};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, Graph, Memory, Operator, ShapeError};
use rfgraph::plan::compile;
use rfgraph::tensor::{DType, Desc};
use serde::{Deserialize, Serialize};

/// `x` where it is above the threshold, zero elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Threshold {
    threshold: f32,
}

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

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = Threshold { threshold: draw.one_of(&[0.0, 0.5]) };
        let shape = [draw.number(1..=70), draw.number(1..=5)];
        let x = draw.values(shape[0] * shape[1], 2.0);
        let keep = |&x: &f32| if x > op.threshold { f64::from(x) } else { 0.0 };
        let expected = x.iter().map(keep).collect();
        // No arithmetic, no rounding.
        Case::new(op, vec![CaseInput::f32(shape, &x)], expected, 0.0)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [4]);
    let y = graph.apply(Threshold { threshold: 0.5 }, &[x.mul(x)]);
    graph.output("y", y);

    let threads = NonZeroUsize::MIN;
    let budget = Budget::host(Budget::FRACTION);
    let mut executor = CpuExecutor::new(threads, Arc::new(WeightMap::new()), budget)?;
    // A plan names its operators; the executor must know yours to read it.
    executor.register(OperatorRow::of::<Threshold>());
    let id = executor.load(compile(&graph.finish()?, &executor.device())?)?;
    executor.set(id, "x", &[-2.0f32, 0.5, 0.8, 3.0])?;
    let outputs = executor.run(id)?.wait()?;
    let y: &[f32] = outputs.get("y")?;
    println!("{y:?}");
    assert_eq!(y, [4.0, 0.0, 0.8 * 0.8, 9.0]);
    Ok(())
}
