//! Promise P11 for operators: in a deterministic plan a row has the same bits alone and in any batch, on the CPU with
//! every instruction set and on simulated GPUs with waves of 32 and of 64 lanes.
//!
//! Cases come from the operator table. The rows of a batch are the last dimension of the output and of each input,
//! except inputs that a case marks as shared; `Case::with_rows_in` names another dimension.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rfgraph::cpu::Isa;
use rfgraph::exec::{Budget, CpuExecutor, Executor, HipExecutor, HipOptions, WeightMap};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Graph, GraphDef, Memory};
use rfgraph::ops;
use rfgraph::plan::compile;
use rfgraph::tensor::{DType, Desc, Shape};

use crate::support::gpu::{self, Gpu, config};
use crate::support::several;
use crate::support::skipped::skipped;

/// The bytes of each output.
type Outputs = Vec<Vec<u8>>;

/// The graph of a case with `inputs`, whose names begin with `name`.
fn graph_of(case: &Case, inputs: &[CaseInput], name: &str) -> GraphDef {
    let graph = Graph::new();
    let mut tensors = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let name = format!("{name}{i}");
        tensors.push(match input.is_state {
            true => graph.state(name, input.desc.dtype, input.desc.shape),
            false => graph.input(name, input.desc.dtype, input.desc.shape),
        });
    }
    for (i, output) in graph.apply_any(case.op.clone(), &tensors).outputs().into_iter().enumerate() {
        graph.output(format!("out.{i}"), output);
    }
    graph.finish().unwrap()
}

/// Sets the inputs of a loaded plan that are not states, runs it, and returns its outputs.
fn run_loaded(
    executor: &mut dyn Executor,
    id: rfgraph::exec::PlanId,
    inputs: &[CaseInput],
    name: &str,
) -> Outputs {
    let n = executor.plan(id).unwrap().outputs.len();
    for (i, input) in inputs.iter().enumerate().filter(|(_, input)| !input.is_state) {
        if let Some((number, _)) = executor.plan(id).unwrap().input(&format!("{name}{i}")) {
            executor.write(id, number, &input.data).unwrap();
        }
    }
    let outputs = executor.run(id).unwrap().wait().unwrap();
    (0..n).map(|i| outputs.at::<u8>(i).unwrap().to_vec()).collect()
}

fn cpu(isa: Isa, threads: usize) -> CpuExecutor {
    let threads = NonZeroUsize::new(threads).unwrap();
    let budget = Budget::host(Budget::FRACTION);
    let mut executor = CpuExecutor::new(threads, Arc::new(WeightMap::new()), budget).unwrap();
    assert!(executor.set_isa(isa));
    executor.set_deterministic(true);
    executor
}

fn run_on_cpu(case: &Case, inputs: &[CaseInput], isa: Isa) -> Outputs {
    let mut executor = cpu(isa, 2);
    let id = executor.load(compile(&graph_of(case, inputs, "input"), &executor.device()).unwrap()).unwrap();
    for (i, input) in inputs.iter().enumerate().filter(|(_, input)| input.is_state) {
        executor.set_state(&format!("input{i}"), &input.data).unwrap();
    }
    run_loaded(&mut executor, id, inputs, "input")
}

fn run_on_gpu(executor: &mut HipExecutor, case: &Case, inputs: &[CaseInput], number: usize) -> Outputs {
    let name = format!("run {number}: input ");
    let plan = compile(&graph_of(case, inputs, &name), &executor.device()).unwrap();
    let id = executor.load(plan).unwrap_or_else(|error| panic!("{:?}: {error}", case.op));
    for (i, input) in inputs.iter().enumerate().filter(|(_, input)| input.is_state) {
        executor.set_state(&format!("{name}{i}"), &input.data).unwrap();
    }
    run_loaded(executor, id, inputs, &name)
}

/// The dimension of a tensor whose size is the number of rows of a batch.
fn row_dim(case: &Case, desc: &Desc) -> usize {
    case.row_dim.unwrap_or_else(|| desc.shape.rank().max(1) - 1)
}

/// The rows of a contiguous tensor with these numbers; a tensor with fewer rows repeats them.
fn rows_of(case: &Case, input: &CaseInput, rows: &[usize]) -> CaseInput {
    let (dim, desc) = (row_dim(case, &input.desc), &input.desc);
    let mut sizes = desc.shape.ne();
    // Rows are whole blocks; a vector's elements have a plain dtype.
    let inner = if dim == 0 {
        desc.dtype.block_bytes()
    } else {
        desc.dtype.row_bytes(sizes[0]).unwrap() * sizes[1..dim].iter().product::<usize>()
    };
    let mut data = Vec::new();
    for outer in input.data.chunks(inner * sizes[dim]) {
        for row in rows {
            data.extend_from_slice(&outer[row % sizes[dim] * inner..][..inner]);
        }
    }
    sizes[dim] = rows.len();
    CaseInput {
        data,
        ..CaseInput::bytes(desc.dtype, Shape::new(&sizes[..desc.shape.rank()]).unwrap(), vec![])
    }
}

/// The inputs of a case, reduced to some of its rows.
fn inputs_of(case: &Case, rows: &[usize]) -> Vec<CaseInput> {
    let part = |input: &CaseInput| if input.is_shared { input.clone() } else { rows_of(case, input, rows) };
    case.inputs.iter().map(part).collect()
}

/// Rows `0..n` cut into pieces, whose lengths repeat `lengths`.
fn pieces(n: usize, lengths: &[usize]) -> Vec<Vec<usize>> {
    let (mut first, mut pieces) = (0, Vec::new());
    for length in lengths.iter().cycle() {
        if first == n {
            return pieces;
        }
        let end = n.min(first + length);
        pieces.push((first..end).collect());
        first = end;
    }
    pieces
}

/// Runs a case as a whole and in pieces with `run`, and compares the rows' bits.
fn check(
    case: &Case,
    lengths: &[usize],
    mut run: impl FnMut(&Case, &[CaseInput]) -> Outputs,
) -> Result<(), TestCaseError> {
    if let Some(runs) = case.inputs.iter().position(|input| input.is_runs) {
        return check_runs(case, runs, lengths, run);
    }
    let mut run = |case: &Case, inputs: &[CaseInput]| run(case, inputs).swap_remove(0);
    let descs: Vec<Desc> = case.inputs.iter().map(|input| input.desc).collect();
    let (output, memory) = (case.op.infer(&descs).unwrap(), case.op.memory(&descs));
    if matches!(memory, Memory::View { .. }) {
        // A view runs nothing.
        return Ok(());
    }
    let own = case.inputs.iter().filter(|input| !input.is_shared);
    let n = own.map(|input| input.desc.shape.dim(row_dim(case, &input.desc))).max().unwrap_or(0);
    let whole = run(case, &case.inputs);
    if let Memory::WritesState(state) = memory {
        let mut bytes = case.inputs[state].data.clone();
        for rows in pieces(n, lengths) {
            let mut inputs = inputs_of(case, &rows);
            inputs[state].data = bytes;
            bytes = run(case, &inputs);
        }
        prop_assert!(bytes == whole, "{:?}: the state differs in pieces of {lengths:?}", case.op);
        return Ok(());
    }
    let whole = CaseInput::bytes(output.dtype, output.shape, whole);
    prop_assert_eq!(
        output.shape.dim(row_dim(case, &output)),
        n,
        "{:?}: the output has other rows than its inputs; mark inputs that all rows share with `CaseInput::shared`, \
         or name the dimension with `Case::with_rows_in`",
        case.op
    );
    let mut parts = pieces(n, lengths);
    // Rows with other neighbours than in the whole case.
    parts.push((0..n).step_by(2).collect());
    for rows in parts {
        let (found, wanted) = (run(case, &inputs_of(case, &rows)), rows_of(case, &whole, &rows));
        prop_assert!(
            found == wanted.data,
            "{:?} of {:?}: rows {:?} of {} have other bits alone",
            case.op,
            descs.iter().map(Desc::to_string).collect::<Vec<_>>(),
            rows,
            n
        );
    }
    Ok(())
}

/// Runs of rows, `[first, count, source, target]`, reduced to those of a range, which starts at row 0 then. A run that
/// began before the range goes on with the state that it has written.
fn clipped(runs: &[i32], range: &[usize]) -> Vec<i32> {
    let (start, end) = (range[0] as i32, range[range.len() - 1] as i32 + 1);
    let clip = |run: &[i32]| {
        let (first, last) = (run[0].max(start), (run[0] + run[1]).min(end));
        let source = if first == run[0] { run[2] } else { run[3] };
        if first < last { [first - start, last - first, source, run[3]] } else { [0; 4] }
    };
    runs.chunks(4).flat_map(clip).collect()
}

/// [`check`] for an operator with recurrent state: a batch that is cut into pieces, whose sequences go on with the state
/// of the piece before, and each sequence alone.
fn check_runs(
    case: &Case,
    number: usize,
    lengths: &[usize],
    mut run: impl FnMut(&Case, &[CaseInput]) -> Outputs,
) -> Result<(), TestCaseError> {
    let state = case.inputs.iter().position(|input| input.is_state).unwrap();
    let descs: Vec<Desc> = case.inputs.iter().map(|input| input.desc).collect();
    let output = case.op.infer(&descs).unwrap();
    let n = output.shape.dim(row_dim(case, &output));
    let words = case.inputs[number].data.as_chunks::<4>().0;
    let runs: Vec<i32> = words.iter().map(|&bytes| i32::from_ne_bytes(bytes)).collect();
    let whole = run(case, &case.inputs);
    let all = CaseInput::bytes(output.dtype, output.shape, whole[0].clone());
    let mut alone: Vec<(Vec<usize>, Vec<u8>)> = Vec::new();
    for run in runs.chunks(4).filter(|run| run[1] > 0) {
        alone
            .push(((run[0] as usize..(run[0] + run[1]) as usize).collect(), case.inputs[state].data.clone()));
    }
    let mut bytes = case.inputs[state].data.clone();
    let mut part = |rows: &[usize], before: &[u8]| {
        let mut inputs = inputs_of(case, rows);
        inputs[state].data = before.to_vec();
        inputs[number].data = bytemuck::cast_slice(&clipped(&runs, rows)).to_vec();
        run(case, &inputs)
    };
    for (rows, before) in &alone {
        let found = part(rows, before);
        prop_assert!(found[0] == rows_of(case, &all, rows).data, "{:?}: rows {:?} alone", case.op, rows);
    }
    for rows in pieces(n, lengths) {
        let found = part(&rows, &bytes);
        prop_assert!(
            found[0] == rows_of(case, &all, &rows).data,
            "{:?}: rows {:?} of {} have other bits in pieces of {:?}",
            case.op,
            rows,
            n,
            lengths
        );
        bytes.clone_from(&found[1]);
    }
    prop_assert!(bytes == whole[1], "{:?}: the state differs in pieces of {lengths:?}", case.op);
    Ok(())
}

/// Draws the choices of a case, and the lengths of pieces.
fn draws() -> impl Strategy<Value = (Vec<u32>, Vec<usize>)> {
    (prop::collection::vec(any::<u32>(), 0..40), prop::collection::vec(1usize..=10, 1..4))
}

fn cases_of(default: u32) -> u32 {
    std::env::var("RFGRAPH_PARITY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn table() -> impl Iterator<Item = &'static OperatorRow> {
    let only = several::parity_only();
    ops::TABLE.iter().filter(move |row| only.as_ref().is_none_or(|only| only == row.name))
}

/// The same cases every time, so that the kernel cache has their kernels.
fn runner(cases: u32) -> TestRunner {
    let config =
        ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::with_source_file(file!()) };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn row_bits_do_not_depend_on_the_batch_on_the_cpu() {
    for row in table() {
        let isas = Isa::available();
        let turn = Cell::new(0);
        let result = runner(cases_of(24)).run(&draws(), |(choices, lengths)| {
            // The instruction sets take turns: all of them must agree.
            check(&(row.case)(&mut Draw::new(&choices)), &lengths, |case, inputs| {
                turn.set(turn.get() + 1);
                run_on_cpu(case, inputs, isas[turn.get() % isas.len()])
            })
        });
        result.unwrap_or_else(|error| panic!("{}: {error}", row.name));
    }
}

fn gpu_executor(gpu: &Gpu, weights: WeightMap) -> HipExecutor {
    gpu.executor_with(Arc::new(weights), HipOptions { deterministic: true, ..gpu::options() })
}

fn rows_have_their_own_bits_on(gpu: &Gpu) {
    for row in table() {
        let executor = RefCell::new(gpu_executor(gpu, WeightMap::new()));
        let number = Cell::new(0);
        let result = runner(cases_of(6)).run(&draws(), |(choices, lengths)| {
            check(&(row.case)(&mut Draw::new(&choices)), &lengths, |case, inputs| {
                number.set(number.get() + 1);
                run_on_gpu(&mut executor.borrow_mut(), case, inputs, number.get())
            })
        });
        result.unwrap_or_else(|error| panic!("{}: {error}", row.name));
    }
}

#[test]
fn row_bits_do_not_depend_on_the_batch_on_waves_of_32() {
    rows_have_their_own_bits_on(&Gpu::simulated(config(32)));
}

#[test]
fn row_bits_do_not_depend_on_the_batch_on_waves_of_64() {
    rows_have_their_own_bits_on(&Gpu::simulated(config(64)));
}

#[test]
fn row_bits_do_not_depend_on_the_batch_on_a_real_device() {
    match Gpu::real() {
        Some(gpu) => rows_have_their_own_bits_on(&gpu),
        None => skipped("RFGRAPH_HIP_PLATFORM names no real device"),
    }
}

/// Elements of a row, and of a row of the feed-forward layer.
const WIDTH: usize = 256;
const INNER: usize = 512;

/// A layer's products with everything that fusing for a GPU joins: norms, products of one input, a gate, a residual.
fn layer(dtype: DType, n: usize) -> GraphDef {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, [WIDTH, n]);
    let matrix = |name: &str, k: usize, n_out: usize| graph.weight(name, dtype, [k, n_out]);
    let norm = || graph.weight("norm", DType::F32, [WIDTH]);
    let h = x.rms_norm(norm(), 1e-5);
    let (q, k) = (h.linear(matrix("q", WIDTH, WIDTH)), h.linear(matrix("k", WIDTH, WIDTH)));
    let y = q.add(k).linear(matrix("o", WIDTH, WIDTH)).add(x);
    let h = y.rms_norm(graph.weight("ffn_norm", DType::F32, [WIDTH]), 1e-5);
    let gated = h.linear(matrix("gate", WIDTH, INNER)).silu().mul(h.linear(matrix("up", WIDTH, INNER)));
    graph.output("out", gated.linear(matrix("down", INNER, WIDTH)).add(y));
    graph.finish().unwrap()
}

fn weights(dtype: DType) -> WeightMap {
    let mut draw = Draw::new(&[7]);
    let mut weights = WeightMap::new();
    for name in ["norm", "ffn_norm"] {
        let values = draw.values(WIDTH, 1.0);
        weights.insert(name, Desc::contiguous(DType::F32, [WIDTH]).unwrap(), bytemuck::cast_slice(&values));
    }
    let sizes = [("q", WIDTH, WIDTH), ("k", WIDTH, WIDTH), ("o", WIDTH, WIDTH)];
    let more = [("gate", WIDTH, INNER), ("up", WIDTH, INNER), ("down", INNER, WIDTH)];
    for (name, k, n_out) in sizes.into_iter().chain(more) {
        let desc = Desc::contiguous(dtype, [k, n_out]).unwrap();
        weights.insert(name, desc, &draw.blocks(dtype, k * n_out));
    }
    weights
}

/// The outputs of a layer for a range of its 20 rows.
fn run_layer(executor: &mut dyn Executor, dtype: DType, rows: std::ops::Range<usize>) -> Vec<u8> {
    let x = Draw::new(&[11]).values(WIDTH * 20, 1.0);
    let plan = compile(&layer(dtype, rows.len()), &executor.device()).unwrap();
    let id = executor.load(plan).unwrap();
    executor.write(id, 0, bytemuck::cast_slice(&x[rows.start * WIDTH..rows.end * WIDTH])).unwrap();
    let outputs = executor.run(id).unwrap().wait().unwrap();
    outputs.at::<u8>(0).unwrap().to_vec()
}

fn layers_are_the_same_in_pieces(mut executor: impl FnMut(WeightMap) -> Box<dyn Executor>) {
    for dtype in [DType::Q4_0, DType::Q5_K, DType::F16, DType::F32] {
        let mut executor = executor(weights(dtype));
        let whole = run_layer(&mut *executor, dtype, 0..20);
        for (first, end) in [(0, 1), (1, 2), (2, 4), (4, 7), (7, 15), (3, 20)] {
            let piece = run_layer(&mut *executor, dtype, first..end);
            let row = 4 * WIDTH;
            assert!(
                piece == whole[first * row..end * row],
                "{dtype}: rows {first} to {end} have other bits alone"
            );
        }
    }
}

#[test]
fn layers_are_the_same_in_pieces_on_the_cpu() {
    layers_are_the_same_in_pieces(|weights| {
        let budget = Budget::host(Budget::FRACTION);
        let threads = NonZeroUsize::new(2).unwrap();
        let mut executor = CpuExecutor::new(threads, Arc::new(weights), budget).unwrap();
        executor.set_deterministic(true);
        Box::new(executor)
    });
}

#[test]
fn layers_are_the_same_in_pieces_on_gpus() {
    for wave in [32, 64] {
        let gpu = Gpu::simulated(config(wave));
        layers_are_the_same_in_pieces(|weights| Box::new(gpu_executor(&gpu, weights)));
    }
}
