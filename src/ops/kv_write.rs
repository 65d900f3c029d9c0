//! `kv_write`: writes the keys or values of new tokens into the cache.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::vector::Element;
use crate::cpu::{CpuStep, StepError};
use crate::device::constants::KV_WRITE_THREADS;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::blocks::{BlockQ4_0, BlockQ8_0, Store};
use crate::tensor::{DType, Desc};

/// Writes the heads of each token of `F32[head_dim, n_head_kv, n_tokens]` into a state `[head_dim, n_head_kv, n_slots]`
/// of one of [`KvWrite::TYPES`], at the slots `I32[n_tokens]`. A token with a negative slot is skipped. Values are
/// rounded to the nearest, ties to even; to blocks as `tensor::blocks::Store` does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KvWrite {}

impl KvWrite {
    /// The supported types of keys and values. Rows of Q8_0 and Q4_0 are whole blocks of 32 elements.
    pub const TYPES: [DType; 5] = [DType::F16, DType::BF16, DType::F32, DType::Q8_0, DType::Q4_0];
}

impl<'g> Tensor<'g> {
    /// Writes `rows`, `F32[head_dim, n_head_kv, n_tokens]`, into `self`, a state `[head_dim, n_head_kv, n_slots]`, at
    /// `slots`, `I32[n_tokens]`; a token with a negative slot is skipped. Returns the state after the write, which
    /// later operators must read.
    #[track_caller]
    pub fn kv_write(self, rows: Tensor<'g>, slots: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(KvWrite {}, &[self, rows, slots])
    }
}

impl Operator for KvWrite {
    const NAME: &'static str = "kv_write";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [state, rows, _] = inputs else {
            return Err(ShapeError::Arity { wanted: "3", found: inputs.len() });
        };
        let same = |i: usize| state.shape.dim(i) == rows.shape.dim(i);
        if !(same(0) && same(1)) || state.shape.dim(3) * rows.shape.dim(3) != 1 {
            let rule =
                "state and rows must be [head_dim, n_head_kv, n_slots] and [head_dim, n_head_kv, n_tokens]";
            return Err(ShapeError::rule(rule, inputs));
        }
        if !KvWrite::TYPES.contains(&state.dtype) || rows.dtype != DType::F32 {
            let rule = "the state must be F32, F16, BF16, Q8_0 or Q4_0, the rows F32";
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::vector(inputs, 2, DType::I32, rows.shape.dim(2), "the slots")?;
        rule::whole_rows(inputs)?;
        Ok(*state)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::WritesState(0)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        match step.output().dtype {
            DType::F16 => write::<f16>(step),
            DType::BF16 => write::<bf16>(step),
            DType::Q8_0 => write_blocks::<BlockQ8_0>(step),
            DType::Q4_0 => write_blocks::<BlockQ4_0>(step),
            _ => write::<f32>(step),
        }
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let n_tokens = lower.inputs().get(1).map_or(0, |rows| rows.shape.dim(2));
        if n_tokens == 0 {
            return Ok(());
        }
        let args = [
            ("state", Arg::Address(Which::Output, 0)),
            ("state_at", Arg::Layout(Which::Output)),
            ("type", Arg::I32(lower.output().dtype.number())),
            ("rows", Arg::Address(Which::Input(1), 0)),
            ("rows_at", Arg::Layout(Which::Input(1))),
            ("slots", Arg::Address(Which::Input(2), 0)),
        ];
        let entry = if lower.output().dtype.is_plain() { "kv_write" } else { "kv_write_blocks" };
        lower.launch(Variant::new("kv_write", entry), [n_tokens, 1, 1], KV_WRITE_THREADS, &args)
    }

    fn reads_state_blocks(&self, input: usize) -> bool {
        input == 0
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let rows = inputs.get(1).map_or(0, |rows| rows.data_bytes());
        let blocks = rows / size_of::<f32>() / output.dtype.block_elements();
        Cost { bytes: (rows + blocks * output.dtype.block_bytes()) as u64, flops: 0 }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let dtype = draw.one_of(&[DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0]);
        let (head_dim, n_head, n_slots) = (draw.number(1..=20), draw.number(1..=3), draw.number(1..=9));
        let head_dim = if dtype.is_plain() { head_dim } else { (head_dim / 4 + 1) * dtype.block_elements() };
        let n = draw.number(1..=6);
        // Some slots are repeated: the later token wins.
        let slots: Vec<i32> = (0..n).map(|_| draw.number(0..=n_slots) as i32 - 1).collect();
        let token = head_dim * n_head;
        let before =
            CaseInput::bytes(dtype, [head_dim, n_head, n_slots], draw.blocks(dtype, token * n_slots));
        let mut rows = draw.values(token * n, 100.0);
        if !dtype.is_plain() && draw.flag() {
            // A value that cannot be stored in a block makes the whole block NaN.
            rows[draw.number(0..=token * n - 1)] = draw.one_of(&[f32::NAN, f32::INFINITY]);
        }
        let (expected, bounds): (Vec<f64>, Vec<f64>) = rounded(dtype, &rows).into_iter().unzip();
        let mut after: Vec<f64> = before.to_f32().iter().map(|&x| f64::from(x)).collect();
        let mut tolerance = vec![0.0; after.len()];
        for (i, &slot) in slots.iter().enumerate() {
            if let Ok(slot) = usize::try_from(slot) {
                let (from, to) = (i * token..(i + 1) * token, slot * token..(slot + 1) * token);
                after.splice(to.clone(), expected[from.clone()].iter().copied());
                tolerance.splice(to, bounds[from].iter().copied());
            }
        }
        let inputs =
            vec![before.state(), CaseInput::f32([head_dim, n_head, n], &rows), CaseInput::i32([n], &slots)];
        Case::with_tolerances(KvWrite {}, inputs, after, tolerance)
    }
}

/// The values that are read back after writing, with their allowed errors.
fn rounded(dtype: DType, values: &[f32]) -> Vec<(f64, f64)> {
    // Half a unit in the last place, of 11 and 8 bits; below 2⁻¹⁴ F16 has a fixed step of 2⁻²⁴.
    let half_unit = |x: f64| (x.abs() * 2f64.powi(-11)).max(2f64.powi(-25));
    let plain = |bound: fn(f64) -> f64| {
        let with_bound = |&x: &f32| (f64::from(x), bound(f64::from(x)));
        values.iter().map(with_bound).collect()
    };
    // Q8_0 and Q4_0: half a step, and the scale's own rounding times the largest code. On the side opposite to the
    // extreme, Q4_0 has no code for the last step (see `tensor::blocks::quantize`). The arithmetic in between may move
    // a value by a few roundings.
    let (largest, sign) = match dtype {
        DType::F16 => return plain(|x| x.abs() * 2f64.powi(-11) + 2f64.powi(-25)),
        DType::BF16 => return plain(|x| x.abs() * 2f64.powi(-8) + 1e-40),
        DType::Q8_0 => (127.0, None),
        DType::Q4_0 => (8.0, Some(-1.0)),
        _ => return plain(|_| 0.0),
    };
    let block = |values: &[f32]| -> Vec<(f64, f64)> {
        let farther = |a: f64, &x: &f32| if f64::from(x).abs() > a.abs() { x.into() } else { a };
        let extreme = values.iter().fold(0.0, farther);
        let finite = values.iter().all(|x| x.is_finite());
        let d = extreme / largest * sign.unwrap_or(1.0);
        let with_bound = |&x: &f32| {
            let x = f64::from(x);
            let step = if sign.is_some() && x / d > 7.5 { d.abs() } else { d.abs() / 2.0 };
            let bound = step + largest * (half_unit(d) + d.abs() * 2f64.powi(-22));
            (if finite { x } else { f64::NAN }, bound)
        };
        values.iter().map(with_bound).collect()
    };
    values.chunks(dtype.block_elements()).flat_map(block).collect()
}

/// The row of the state for head `i` of the new tokens, counted in order.
fn place(step: &CpuStep<'_>, i: usize) -> Result<Option<usize>, StepError> {
    let (rows, slots) = (step.input(1), step.input(2).all::<i32>());
    let (n_head, n_slots) = (rows.dim(1), step.output().shape.dim(2));
    match slots[i / n_head] {
        slot if slot < 0 => Ok(None),
        slot => Ok(Some(StepError::check("a slot of the cache", slot, n_slots)? * n_head + i % n_head)),
    }
}

fn write<T: Element>(step: &CpuStep<'_>) -> Result<(), StepError> {
    let rows = step.input(1);
    let n_head = rows.dim(1);
    step.scatter_rows(
        n_head * rows.dim(2),
        |i| place(step, i),
        |i, out: &mut [T]| T::round(rows.row((i % n_head, i / n_head, 0)), out),
    )
}

fn write_blocks<B: Store<32>>(step: &CpuStep<'_>) -> Result<(), StepError> {
    let rows = step.input(1);
    let n_head = rows.dim(1);
    step.scatter_rows(
        n_head * rows.dim(2),
        |i| place(step, i),
        |i, out: &mut [B]| {
            let values = rows.row::<f32>((i % n_head, i / n_head, 0)).as_chunks().0;
            out.iter_mut().zip(values).for_each(|(block, values)| *block = B::store(values));
        },
    )
}
