//! Checks that a step makes of operators: safe code that misuses its step gets an error and never another operator's
//! memory; an error of one worker ends the step for all.

use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rfgraph::cpu::{CpuKernel, CpuStep, CpuTarget, Product, StepError};
use rfgraph::exec::{Budget, CpuExecutor, ExecError, Executor, WeightMap};
use rfgraph::graph::case::{Case, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, Graph, Memory, Operator, ShapeError};
use rfgraph::plan::compile;
use rfgraph::tensor::{DType, Desc};
use serde::{Deserialize, Serialize};

/// Sizes of the operator's value.
const ROW: usize = 4;
const ROWS: usize = 8;

/// The operator's behaviour.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Act {
    /// Adds one to every row, twice; the first deal fails in this row.
    FailThenDeal(usize),
    /// Like `FailThenDeal`, but swallows the error.
    DropError(usize),
    /// Like `FailThenDeal`, with tiles.
    FailTile(usize),
    DealWrongElement,
    DealBlocksAsBytes,
    DealInsideDeal,
    ScatterInsideDeal,
    ProductInsideDeal,
    LoadPastRow,
    LoadPastEnd,
    LoadSharedInput,
    RowOfSharedInput,
    RowOfWrongElement,
    RowWithGaps,
    BytesWithGaps,
    MissingInput,
    FillFromMissingInput,
    RowOfOtherTile,
    TileOfWrongElement,
    RowOfOtherPart,
    RowPastPart,
    PartOfWrongElement,
    PartsOfMissingOutput,
    PartsPastDimensions,
    MissingOutput,
    ScatterWrongElement,
    ScatterPastRows,
    ProductOfWrongSizes,
    ProductOfIntegers,
    ProductWithScratchTaken,
    /// Fills rows slowly, then adds one to each.
    ScatterThenDeal,
    /// Adds one to every row, in place or not.
    AddOne,
}

impl Act {
    fn in_place(self) -> bool {
        matches!(self, Act::LoadSharedInput | Act::RowOfSharedInput | Act::AddOne)
    }

    fn multiplies(self) -> bool {
        use Act::{ProductInsideDeal, ProductOfIntegers, ProductOfWrongSizes, ProductWithScratchTaken};
        matches!(self, ProductInsideDeal | ProductOfIntegers | ProductOfWrongSizes | ProductWithScratchTaken)
    }

    fn gaps(self) -> bool {
        matches!(self, Act::RowWithGaps | Act::BytesWithGaps)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Probe {
    act: Act,
}

fn failure(row: usize) -> StepError {
    StepError::Index { what: "a row of the test", index: row as i64, limit: 0 }
}

fn add_one(step: &CpuStep<'_>, fails: Option<usize>) -> Result<(), StepError> {
    step.for_rows_of(0, |(row, _, _), out| {
        out.iter_mut().for_each(|x| *x += 1.0);
        if fails == Some(row) { Err(failure(row)) } else { Ok(()) }
    })
}

impl Operator for Probe {
    const NAME: &'static str = "probe";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x] = inputs else { return Err(ShapeError::Arity { wanted: "1", found: inputs.len() }) };
        let dtype = if matches!(self.act, Act::DealBlocksAsBytes) { DType::Q4_0 } else { DType::F32 };
        let row = if dtype == DType::F32 { x.shape.dim(0) } else { 32 };
        Ok(Desc::contiguous(dtype, [row, x.shape.dim(1)])?)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        if self.act.in_place() { Memory::InPlace(0) } else { Memory::Fresh }
    }

    fn cpu_scratch(&self, _: &[Desc], _: &Desc, threads: usize) -> usize {
        CpuStep::scratch_for(1024, threads)
    }

    fn cpu_kernel(&self, inputs: &[Desc], target: CpuTarget) -> Option<CpuKernel> {
        self.act.multiplies().then(|| CpuKernel::of_product(DType::F32, inputs[0].shape.dim(0), 1, target))
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let product = |weight, x| Product { weight, x, bias: None, residual: None };
        match self.act {
            Act::FailThenDeal(row) => {
                add_one(step, Some(row))?;
                add_one(step, None)
            }
            Act::DropError(row) => {
                let _ = add_one(step, Some(row));
                add_one(step, None).or(Ok(()))
            }
            Act::FailTile(row) => {
                step.for_tiles(
                    (1, 1),
                    |tile| {
                        if tile.i1().start == row { Err(failure(row)) } else { Ok(()) }
                    },
                )?;
                add_one(step, None)
            }
            Act::DealWrongElement => step.for_rows(|_, out: &mut [[f32; 2]]| {
                out.fill([1e9; 2]);
                Ok(())
            }),
            Act::DealBlocksAsBytes => step.for_rows(|_, out: &mut [[u16; 9]]| {
                out.fill([7; 9]);
                Ok(())
            }),
            Act::DealInsideDeal => step.for_rows(|_, _: &mut [f32]| {
                let _ = step.for_rows(|_, out: &mut [f32]| {
                    out.fill(0.0);
                    Ok(())
                });
                Ok(())
            }),
            Act::ScatterInsideDeal => step.for_rows(|_, _: &mut [f32]| {
                step.scatter_rows(ROWS, |i| Ok(Some(i)), |_, out: &mut [f32]| out.fill(0.0))
            }),
            Act::ProductInsideDeal => step.for_rows(|_, _: &mut [f32]| step.product(product(0, 0))),
            Act::LoadPastRow => step.input(0).load(1, (0, 0, 0), &mut [0.0; ROW]),
            Act::LoadPastEnd => step.input(0).load(usize::MAX, (ROWS - 1, 0, 0), &mut [0.0; 2]),
            Act::LoadSharedInput => step.for_rows(|row, out: &mut [f32]| step.input(0).load(0, row, out)),
            Act::RowOfSharedInput => step.for_rows(|row, out: &mut [f32]| {
                let same = step.input(0).row::<f32>(row);
                assert!(same.is_empty() || same.as_ptr() != out.as_ptr(), "one row, lent twice");
                Ok(())
            }),
            Act::RowOfWrongElement => {
                assert!(step.input(0).row::<u16>((0, 0, 0)).is_empty());
                Ok(())
            }
            Act::RowWithGaps => {
                assert!(step.input(0).row::<f32>((0, 0, 0)).is_empty());
                Ok(())
            }
            Act::BytesWithGaps => {
                assert!(step.input(0).bytes().is_empty() && step.input(0).all::<f32>().is_empty());
                Ok(())
            }
            Act::MissingInput => {
                let input = step.input(1);
                assert!(input.row::<f32>((0, 0, 0)).is_empty() && input.all::<f32>().is_empty());
                assert!(input.load(0, (0, 0, 0), &mut [0.0]).is_err());
                Ok(())
            }
            Act::FillFromMissingInput => step.for_spans(1, |_, _| Ok(())),
            Act::RowOfOtherTile => step.for_tiles((1, 1), |mut tile| {
                tile.row::<f32>(ROWS - 1 - tile.i1().start, 0).map(|row| row.fill(0.0))
            }),
            Act::TileOfWrongElement => step
                .for_tiles((1, 1), |mut tile| tile.row::<f64>(tile.i1().start, 0).map(|row| row.fill(0.0))),
            Act::RowOfOtherPart => step.for_parts([1], 1, |rows, [mut part]| {
                part.row::<f32>(ROWS - 1 - rows.start, 0, 0).map(|row| row.fill(0.0))
            }),
            Act::RowPastPart => {
                step.for_parts([0], 1, |_, [mut part]| part.row::<f32>(0, 1, 0).map(|row| row.fill(0.0)))
            }
            Act::PartOfWrongElement => {
                step.for_parts([0], 1, |_, [mut part]| part.row::<f64>(0, 0, 0).map(|row| row.fill(0.0)))
            }
            Act::PartsOfMissingOutput => step.for_parts([1, 1], 1, |_, _| Ok(())),
            Act::PartsPastDimensions => step.for_parts([4], 1, |_, _| Ok(())),
            Act::MissingOutput => {
                assert_eq!(step.output_at(1), step.output());
                Ok(())
            }
            Act::ScatterWrongElement => {
                step.scatter_rows(ROWS, |i| Ok(Some(i)), |_, out: &mut [f64]| out.fill(0.0))
            }
            Act::ScatterPastRows => {
                step.scatter_rows(ROWS, |i| Ok(Some(i + 1)), |_, out: &mut [f32]| out.fill(0.0))
            }
            Act::ProductOfWrongSizes | Act::ProductOfIntegers => step.product(product(0, 0)),
            Act::ProductWithScratchTaken => {
                step.take_scratch().fill(0.0);
                step.product(product(0, 0))
            }
            Act::ScatterThenDeal => {
                let slow = |i: usize, out: &mut [f32]| {
                    std::thread::sleep(Duration::from_millis(if i.is_multiple_of(2) { 4 } else { 0 }));
                    out.fill(i as f32);
                };
                step.scatter_rows(ROWS, |i| Ok(Some(i)), slow)?;
                step.for_rows(|_, out: &mut [f32]| {
                    out.iter_mut().for_each(|x| *x += 1.0);
                    Ok(())
                })
            }
            Act::AddOne => add_one(step, None),
        }
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(_: &mut Draw<'_>) -> Case {
        Case::new(Probe { act: Act::AddOne }, vec![], vec![], 0.0)
    }
}

/// Runs the operator twice on `0, 1, 2, …`, through graph, plan and executor.
fn run(act: Act, threads: usize) -> Result<Vec<f32>, ExecError> {
    let graph = Graph::new();
    let one = graph.constant("one", &[1.0], [1]);
    let sizes = match act {
        Act::ProductInsideDeal | Act::ProductWithScratchTaken => [ROW, ROW],
        _ => [ROW, ROWS],
    };
    let x = match act {
        Act::ProductOfIntegers => graph.input("x", DType::I32, sizes),
        _ => graph.input("x", DType::F32, sizes).mul(one),
    };
    let y = graph.apply(Probe { act }, &[if act.gaps() { x.permute([1, 0, 2, 3]) } else { x }]);
    graph.output("y", y);
    let budget = Budget::host(Budget::FRACTION);
    let threads = NonZeroUsize::new(threads).unwrap();
    let mut executor = CpuExecutor::new(threads, Arc::new(WeightMap::new()), budget)?;
    executor.register(OperatorRow::of::<Probe>());
    let id = executor.load(compile(&graph.finish().unwrap(), &executor.device()).unwrap())?;
    let values: Vec<f32> = (0..sizes[0] * sizes[1]).map(|i| i as f32).collect();
    executor.write(id, 0, bytemuck::cast_slice(&values))?;
    let first = executor.run(id).and_then(|run| run.wait()).map(|_| ());
    // A failed run must not change the next one.
    let second = executor.run(id)?.wait().map(|outputs| outputs.at::<f32>(0).map(<[f32]>::to_vec))?;
    first.and(second)
}

/// Like [`run`], but a run that never ends fails the test.
fn run_within_time(act: Act, threads: usize) -> Result<Vec<f32>, ExecError> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(run(act, threads)));
    receiver
        .recv_timeout(Duration::from_secs(20))
        .unwrap_or_else(|error| panic!("{act:?} on {threads} threads: {error}"))
}

fn step_error(act: Act, threads: usize) -> StepError {
    match run_within_time(act, threads) {
        Err(ExecError::Step { op, error, .. }) => {
            assert_eq!(op, Probe::NAME);
            error
        }
        other => panic!("{act:?} on {threads} threads: {other:?}"),
    }
}

#[test]
fn an_error_of_one_worker_ends_the_step_for_all() {
    for threads in 1..=3 {
        for row in 0..ROWS {
            for act in [Act::FailThenDeal(row), Act::DropError(row), Act::FailTile(row)] {
                assert_eq!(step_error(act, threads), failure(row), "{act:?} on {threads} threads");
            }
        }
    }
}

#[test]
fn a_misused_step_is_an_error() {
    let acts = [
        (Act::DealWrongElement, "elements of another size"),
        (Act::DealBlocksAsBytes, "elements of another size"),
        (Act::DealInsideDeal, "inside of a deal"),
        (Act::ScatterInsideDeal, "inside of a deal"),
        (Act::ProductInsideDeal, "inside of a deal"),
        (Act::LoadPastRow, "past the end of a row"),
        (Act::LoadPastEnd, "past the end of a row"),
        (Act::LoadSharedInput, "memory is the output's"),
        (Act::RowOfSharedInput, "memory is the output's"),
        (Act::RowOfWrongElement, "elements of another size"),
        (Act::RowWithGaps, "with gaps"),
        (Act::BytesWithGaps, "with gaps"),
        (Act::MissingInput, "input that the step does not have"),
        (Act::FillFromMissingInput, "input that the step does not have"),
        (Act::RowOfOtherTile, "not of its tile"),
        (Act::TileOfWrongElement, "elements of another size"),
        (Act::RowOfOtherPart, "not of its part"),
        (Act::RowPastPart, "not of its part"),
        (Act::PartOfWrongElement, "elements of another size"),
        (Act::PartsOfMissingOutput, "outputs that are too few"),
        (Act::PartsPastDimensions, "a dimension above 3"),
        (Act::MissingOutput, "output that the step does not have"),
        (Act::ScatterWrongElement, "elements of another size"),
        (Act::ProductOfWrongSizes, "do not fit"),
        (Act::ProductOfIntegers, "do not fit"),
        (Act::ProductWithScratchTaken, "scratch memory"),
    ];
    for threads in 1..=3 {
        for (act, message) in acts {
            let error = step_error(act, threads);
            assert!(error.to_string().contains(message), "{act:?} on {threads} threads: {error}");
            assert!(matches!(error, StepError::Misuse { .. }), "{error:?}");
        }
    }
}

#[test]
fn rows_scattered_past_the_output_are_an_error() {
    for threads in 1..=3 {
        let error = step_error(Act::ScatterPastRows, threads);
        assert!(
            matches!(error, StepError::Index { index, limit: ROWS, .. } if index == ROWS as i64),
            "{error:?}"
        );
    }
}

#[test]
fn a_deal_waits_for_scattered_rows() {
    let expected: Vec<f32> = (0..ROWS).flat_map(|row| [row as f32 + 1.0; ROW]).collect();
    for threads in 1..=3 {
        assert_eq!(run_within_time(Act::ScatterThenDeal, threads).unwrap(), expected, "{threads} threads");
    }
}

#[test]
fn an_output_may_be_computed_in_place_of_its_input() {
    let expected: Vec<f32> = (0..ROW * ROWS).map(|i| i as f32 + 1.0).collect();
    for threads in 1..=3 {
        assert_eq!(run_within_time(Act::AddOne, threads).unwrap(), expected);
    }
}
