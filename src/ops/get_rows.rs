//! `get_rows`: rows of a table by index, such as the embeddings of tokens.

use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::{CpuStep, StepError};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc, blocks};

/// Rows of a table `[n_embd, n_rows]` of any dtype, by the indices `I32[n]`: `F32[n_embd, n]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GetRows {}

impl<'g> Tensor<'g> {
    /// The rows `ids`, `I32[n]`, of `self`, `[n_embd, n_rows]` of any dtype: `F32[n_embd, n]`. An index out of range
    /// fails the run.
    #[track_caller]
    pub fn get_rows(self, ids: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(GetRows {}, &[self, ids])
    }
}

impl Operator for GetRows {
    const NAME: &'static str = "get_rows";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [table, ids] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        if table.shape.dim(2) * table.shape.dim(3) != 1 {
            return Err(ShapeError::rule("the table must have two dimensions", inputs));
        }
        rule::vector(inputs, 1, DType::I32, ids.shape.dim(0), "the row numbers")?;
        Ok(Desc::contiguous(DType::F32, [table.shape.dim(0), ids.shape.dim(0)])?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (table, ids) = (step.input(0), step.input(1).all::<i32>());
        step.for_rows(|(i, _, _), out: &mut [f32]| {
            let id = ids.get(i).copied().unwrap_or(-1);
            table.load(0, (StepError::check("a row of the table", id, table.dim(1))?, 0, 0), out)
        })
    }

    /// A GPU kernel cannot fail: an index out of range gives a row of NaN.
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        const THREADS: usize = 256;
        let [table, ..] = lower.inputs() else { return Ok(()) };
        let [n, rows, ..] = lower.output().shape.ne();
        if n * rows == 0 {
            return Ok(());
        }
        if !table.dtype.is_plain() && !table.is_contiguous() {
            return Err(lower.unsupported(format!("a table of {table}: blocks must lie without gaps")));
        }
        let pieces = n.div_ceil(8 * THREADS);
        let args = [
            ("table", Arg::Address(Which::Input(0), 0)),
            ("table_at", Arg::Layout(Which::Input(0))),
            ("n_blocks", Arg::I64((table.shape.elements() / table.dtype.block_elements()) as i64)),
            ("ids", Arg::Address(Which::Input(1), 0)),
            ("ids_at", Arg::Layout(Which::Input(1))),
            ("out", Arg::Address(Which::Output, 0)),
            ("n", Arg::I64(n as i64)),
            ("pieces", Arg::I32(pieces as i32)),
        ];
        let variant = Variant::new("get_rows", "get_rows").define("FORMAT", table.dtype);
        lower.launch(variant, [pieces * rows, 1, 1], THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let row = inputs.first().and_then(|table| table.dtype.row_bytes(table.shape.dim(0))).unwrap_or(0);
        let ids = output.shape.dim(1);
        Cost { bytes: (ids * (row + size_of::<i32>()) + output.data_bytes()) as u64, flops: 0 }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let formats: Vec<DType> = DType::all().collect();
        let dtype = draw.one_of(&formats);
        let (blocks, n_rows, n) = (draw.number(1..=3), draw.number(1..=9), draw.number(1..=12));
        let n_embd = blocks * dtype.block_elements();
        let (data, values) = table(draw, dtype, n_embd * n_rows);
        let ids: Vec<i32> = (0..n).map(|_| draw.number(0..=n_rows - 1) as i32).collect();
        let rows = ids.iter().flat_map(|&id| &values[id as usize * n_embd..][..n_embd]);
        let expected = rows.map(|&x| f64::from(x)).collect();
        let inputs =
            vec![CaseInput::bytes(dtype, [n_embd, n_rows], data).shared(), CaseInput::i32([n], &ids)];
        // Rows are only copied; the decoding of blocks is covered by the formats' own tests.
        Case::new(GetRows {}, inputs, expected, 0.0)
    }
}

/// Bytes of `n` elements and their values.
fn table(draw: &mut Draw<'_>, dtype: DType, n: usize) -> (Vec<u8>, Vec<f32>) {
    let values = draw.values(n, 4.0);
    match dtype {
        DType::F32 => (bytemuck::cast_slice(&values).to_vec(), values),
        DType::I32 => {
            let numbers: Vec<i32> = values.iter().map(|x| (x * 1000.0) as i32).collect();
            (bytemuck::cast_slice(&numbers).to_vec(), numbers.iter().map(|&x| x as f32).collect())
        }
        DType::F16 => {
            let halves: Vec<half::f16> = values.iter().map(|&x| half::f16::from_f32(x)).collect();
            (bytemuck::cast_slice(&halves).to_vec(), halves.iter().map(|x| x.to_f32()).collect())
        }
        DType::BF16 => {
            let halves: Vec<half::bf16> = values.iter().map(|&x| half::bf16::from_f32(x)).collect();
            (bytemuck::cast_slice(&halves).to_vec(), halves.iter().map(|x| x.to_f32()).collect())
        }
        dtype => {
            let bytes = n / dtype.block_elements() * dtype.block_bytes();
            let data: Vec<u8> = (0..bytes).map(|_| (draw.unit() * 256.0) as u8).collect();
            let mut values = vec![0.0; n];
            match blocks::dequantize(dtype, &data, &mut values) {
                Ok(()) => (data, values),
                Err(_) => (data, vec![f32::NAN; n]),
            }
        }
    }
}
