//! `kv_write`: the keys or values of new tokens go into the cache.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::vector::Element;
use crate::cpu::{CpuStep, StepError};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::hip::{Arg, Lower, LowerError, Variant, Which};
use crate::tensor::{DType, Desc};

/// Writes the heads of each token of `F32[head_dim, n_head_kv, n_tokens]` into a state
/// `[head_dim, n_head_kv, n_slots]` of F32, F16 or BF16, at the slots `I32[n_tokens]`. A negative slot
/// leaves the token out. Values are rounded to the nearest, ties to even.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KvWrite {}

impl<'g> Tensor<'g> {
    /// Writes `rows`, `F32[head_dim, n_head_kv, n_tokens]`, into `self`, a state
    /// `[head_dim, n_head_kv, n_slots]`, at `slots`, `I32[n_tokens]`; a negative slot leaves the token
    /// out. What comes back is the state afterwards: read that.
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
        if !matches!(state.dtype, DType::F32 | DType::F16 | DType::BF16) || rows.dtype != DType::F32 {
            return Err(ShapeError::rule("the state must be F32, F16 or BF16, the rows F32", inputs));
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
            _ => write::<f32>(step),
        }
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let n_tokens = lower.inputs().get(1).map_or(0, |rows| rows.shape.dim(2));
        if n_tokens == 0 {
            return Ok(());
        }
        let args = [
            Arg::Address(Which::Output, 0),
            Arg::Layout(Which::Output),
            Arg::I32(lower.output().dtype as i32),
            Arg::Address(Which::Input(1), 0),
            Arg::Layout(Which::Input(1)),
            Arg::Address(Which::Input(2), 0),
        ];
        lower.launch(Variant::new("kv_write", "kv_write"), [n_tokens, 1, 1], 256, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let rows = inputs.get(1).map_or(0, |rows| rows.data_bytes());
        let written = rows / size_of::<f32>() * output.dtype.block_bytes();
        Cost { bytes: (rows + written) as u64, flops: 0 }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let dtype = draw.one_of(&[DType::F32, DType::F16, DType::BF16]);
        let (head_dim, n_head, n_slots) = (draw.number(1..=20), draw.number(1..=3), draw.number(1..=9));
        let n = draw.number(1..=6);
        // Some slots are repeated: the later token wins.
        let slots: Vec<i32> = (0..n).map(|_| draw.number(0..=n_slots) as i32 - 1).collect();
        let token = head_dim * n_head;
        let (before, rows) = (draw.values(token * n_slots, 1.0), draw.values(token * n, 100.0));
        let (mut after, mut tolerance) = (Vec::new(), Vec::new());
        let data: Vec<u8> = match dtype {
            DType::F16 => before.iter().flat_map(|&x| f16::from_f32(x).to_ne_bytes()).collect(),
            DType::BF16 => before.iter().flat_map(|&x| bf16::from_f32(x).to_ne_bytes()).collect(),
            _ => bytemuck::cast_slice(&before).to_vec(),
        };
        // Half a unit in the last place, of 11 and 8 bits; below 2⁻¹⁴ F16 has a fixed step of 2⁻²⁴.
        let (half_unit, smallest) = match dtype {
            DType::F16 => (2f64.powi(-11), 2f64.powi(-25)),
            DType::BF16 => (2f64.powi(-8), 1e-40),
            _ => (0.0, 0.0),
        };
        after.extend(before.iter().map(|&x| f64::from(x)));
        for (i, &slot) in slots.iter().enumerate() {
            if let Ok(slot) = usize::try_from(slot) {
                let values = rows[i * token..(i + 1) * token].iter().map(|&x| f64::from(x));
                after.splice(slot * token..(slot + 1) * token, values);
            }
        }
        tolerance.extend(after.iter().map(|x: &f64| x.abs() * half_unit + smallest));
        let inputs = vec![
            CaseInput::bytes(dtype, [head_dim, n_head, n_slots], data).state(),
            CaseInput::f32([head_dim, n_head, n], &rows),
            CaseInput::i32([n], &slots),
        ];
        Case::with_tolerances(KvWrite {}, inputs, after, tolerance)
    }
}

fn write<T: Element>(step: &CpuStep<'_>) -> Result<(), StepError> {
    let (rows, slots) = (step.input(1), step.input(2).all::<i32>());
    let (n_head, n_slots) = (rows.dim(1), step.output().shape.dim(2));
    let place = |i: usize| match slots[i / n_head] {
        slot if slot < 0 => Ok(None),
        slot => Ok(Some(StepError::check("a slot of the cache", slot, n_slots)? * n_head + i % n_head)),
    };
    step.scatter_rows(n_head * rows.dim(2), place, |i, out: &mut [T]| {
        T::round(rows.row((i % n_head, i / n_head, 0)), out);
    })
}
