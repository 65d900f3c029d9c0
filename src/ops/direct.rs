//! Runs the parity cases of operators without a graph, so that a fault is the operator's own.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::TABLE;
use crate::cpu::{CpuStep, Isa, Pool, RawTensor, StepError};
use crate::graph::case::{Case, Draw};
use crate::graph::{Memory, ShapeError};
use crate::tensor::DType;

/// Owned bytes, aligned to 64.
struct Buffer {
    lines: Vec<Line>,
}

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

impl Buffer {
    /// The bytes, and at least `len` of them.
    fn new(bytes: &[u8], len: usize) -> Buffer {
        let mut buffer = Buffer { lines: vec![Line([0xA5; 64]); bytes.len().max(len).div_ceil(64)] };
        for (line, bytes) in buffer.lines.iter_mut().zip(bytes.chunks(64)) {
            line.0[..bytes.len()].copy_from_slice(bytes);
        }
        buffer
    }

    fn data(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }
}

/// A raw tensor that may go to other threads.
struct Raw(RawTensor);
// SAFETY: the workers keep the promises of `CpuStep::new`, which is what the pointer is for.
unsafe impl Sync for Raw {}

#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Step(#[from] StepError),
}

/// The output of a case's operator, in element order; I32 elements as they are.
pub fn output(case: &Case, threads: usize, isa: Isa, in_place: bool) -> Result<Vec<f64>, DirectError> {
    let descs: Vec<_> = case.inputs.iter().map(|input| input.desc).collect();
    let desc = case.op.infer(&descs)?;
    let mut buffers: Vec<Buffer> = case.inputs.iter().map(|input| Buffer::new(&input.data, 1)).collect();
    let raw: Vec<RawTensor> = buffers
        .iter_mut()
        .zip(&descs)
        .map(|(buffer, &desc)| RawTensor { desc, data: buffer.data() })
        .collect();
    let scratch_bytes = case.op.cpu_scratch(&descs, &desc, threads);
    let (mut own, mut scratch) = (Buffer::new(&[], desc.extent()), Buffer::new(&[], scratch_bytes));
    let data = match case.op.memory(&descs) {
        Memory::Fresh => own.data(),
        Memory::InPlace(i) if in_place && descs[i] == desc => raw[i].data,
        Memory::InPlace(_) => own.data(),
        // SAFETY: the operator's promise, that a view lies inside its input.
        Memory::View { input, offset } => unsafe { raw[input].data.add(offset) },
        Memory::WritesState(i) => raw[i].data,
    };
    let output = Raw(RawTensor { desc, data });
    let scratch = Raw(RawTensor { desc, data: scratch.data() });
    let inputs: Vec<Raw> = raw.into_iter().map(Raw).collect();
    let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    let result = std::sync::Mutex::new(Ok(()));
    pool.run(|worker| {
        let inputs: Vec<RawTensor> = inputs.iter().map(|Raw(raw)| *raw).collect();
        let (Raw(output), Raw(scratch)) = (&output, &scratch);
        // SAFETY: the buffers outlive the run, nobody else uses them, and every worker has the same.
        let step = unsafe { CpuStep::new(worker, isa, &inputs, *output, (scratch.data, scratch_bytes)) };
        if let Err(error) = case.op.cpu(&step) {
            *result.lock().unwrap() = Err(error);
        }
    });
    result.into_inner().unwrap()?;
    Ok(elements(&output.0))
}

fn elements(raw: &RawTensor) -> Vec<f64> {
    let desc = &raw.desc;
    let mut all = Vec::new();
    for row in 0..desc.shape.rows() {
        let (i1, i2, i3) = desc.row_index(row);
        for i in 0..desc.shape.dim(0) {
            let offset = desc.row_offset(i1, i2, i3) + i * desc.strides[0];
            // SAFETY: the element lies inside the tensor.
            let at = unsafe { raw.data.add(offset) };
            // SAFETY: as above, and the read needs no alignment.
            all.push(match desc.dtype {
                DType::F16 => unsafe { at.cast::<half::f16>().read_unaligned() }.to_f64(),
                // SAFETY: as above.
                DType::BF16 => unsafe { at.cast::<half::bf16>().read_unaligned() }.to_f64(),
                // SAFETY: as above.
                DType::I32 => f64::from(unsafe { at.cast::<i32>().read_unaligned() }),
                // SAFETY: as above.
                _ => f64::from(unsafe { at.cast::<f32>().read_unaligned() }),
            });
        }
    }
    all
}

/// Whether the output is what the case expects.
fn compare(case: &Case, found: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), case.expected.len());
    for (i, (&found, &expected)) in found.iter().zip(&case.expected).enumerate() {
        let tolerance = case.tolerance[if case.tolerance.len() == 1 { 0 } else { i }];
        let same = found == expected || (found.is_nan() && expected.is_nan());
        prop_assert!(
            same || (found - expected).abs() <= tolerance,
            "element {} of {:?} is {}, expected {} within {}; inputs {:?}",
            i,
            case.op,
            found,
            expected,
            tolerance,
            case.inputs.iter().map(|input| input.desc).collect::<Vec<_>>()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_operator_does_what_its_cases_say(choices in prop::collection::vec(any::<u32>(), 0..24)) {
        let only = std::env::var("RFGRAPH_OP").ok();
        for row in TABLE.iter().filter(|row| only.as_deref().is_none_or(|name| name == row.name)) {
            let case = (row.case)(&mut Draw::new(&choices));
            let run = |threads, isa, in_place| {
                output(&case, threads, isa, in_place)
                    .map_err(|error| TestCaseError::fail(format!("{:?}: {error}", case.op)))
            };
            let first = run(1, Isa::Plain, false)?;
            compare(&case, &first)?;
            let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for (threads, in_place) in [(1, true), (2, false), (3, true)] {
                for isa in Isa::available() {
                    let other = run(threads, isa, in_place)?;
                    let same = bits(&other) == bits(&first);
                    prop_assert!(same, "{:?} differs on {} {}: {:?} {:?}", case.op, threads, isa, first, other);
                }
            }
        }
    }
}
