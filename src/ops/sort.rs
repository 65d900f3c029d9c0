//! `argmax`, `top_k`, `argsort`: where in a row the large and the small elements are.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::{CpuStep, StepError};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// The index of the largest element of each row of `F32[n, ...]`: `I32[1, ...]`. Of equal elements the
/// first; NaN counts as -∞.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Argmax {}

/// The indices of the `k` largest elements of each row of `F32[n, ...]`, the largest first:
/// `I32[k, ...]`. Of equal elements the first comes first; NaN counts as -∞.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// How many, `1..=n`.
    pub k: usize,
}

/// The indices of each row of `F32[n, ...]` in the order of its elements: `I32[n, ...]`. Of equal
/// elements the first comes first; NaN counts as -∞.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Argsort {
    /// Whether the largest comes first.
    pub descending: bool,
}

impl<'g> Tensor<'g> {
    /// The index of the largest element of each row, `I32[1, ...]`; of equal ones the first.
    #[track_caller]
    pub fn argmax(self) -> Tensor<'g> {
        self.graph().apply(Argmax {}, &[self])
    }

    /// The indices of the `k` largest elements of each row, the largest first: `I32[k, ...]`.
    #[track_caller]
    pub fn top_k(self, k: usize) -> Tensor<'g> {
        self.graph().apply(TopK { k }, &[self])
    }

    /// The indices of each row in the order of its elements, `I32[n, ...]`.
    #[track_caller]
    pub fn argsort(self, descending: bool) -> Tensor<'g> {
        self.graph().apply(Argsort { descending }, &[self])
    }
}

/// An output of `k` indices for each row of the only input.
fn indices(inputs: &[Desc], k: usize) -> Result<Desc, ShapeError> {
    let input = rule::one(inputs)?;
    rule::like_first(inputs)?;
    rule::whole_rows(inputs)?;
    if i32::try_from(input.shape.dim(0)).is_err() || !(1..=input.shape.dim(0)).contains(&k) {
        return Err(ShapeError::rule(format!("a row has no {k} elements that I32 can count"), inputs));
    }
    let [_, n1, n2, n3] = input.shape.ne();
    Ok(Desc::contiguous(DType::I32, [k, n1, n2, n3])?)
}

/// The order of two elements of a row, the larger first or last; of equal ones the first is first.
fn order(row: &[f32], descending: bool, a: i32, b: i32) -> Ordering {
    let key = |i: i32| {
        let x = row[i as usize];
        if x.is_nan() { f32::NEG_INFINITY } else { x }
    };
    let ascending = key(a).partial_cmp(&key(b)).unwrap_or(Ordering::Equal);
    let wanted = if descending { ascending.reverse() } else { ascending };
    wanted.then(a.cmp(&b))
}

impl Operator for Argmax {
    const NAME: &'static str = "argmax";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        indices(inputs, 1)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let x = step.input(0);
        step.for_rows(|row, out: &mut [i32]| {
            let row = x.row::<f32>(row);
            let (mut best, mut largest) = (0, f32::NEG_INFINITY);
            for (i, &x) in row.iter().enumerate() {
                if x > largest {
                    (best, largest) = (i as i32, x);
                }
            }
            out.fill(best);
            Ok(())
        })
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, inputs.first().map_or(0, |x| x.shape.elements() as u64))
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (input, n) = drawn(draw);
        let expected = sorted(&input, n, 1, |a, b| b.total_cmp(&a));
        Case::new(Argmax {}, vec![input], expected, 0.0)
    }
}

impl Operator for TopK {
    const NAME: &'static str = "top_k";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        indices(inputs, self.k)
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        CpuStep::scratch_for(inputs.first().map_or(0, |x| x.shape.dim(0)), threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let x = step.input(0);
        let all: &mut [i32] = bytemuck::cast_slice_mut(step.take_scratch());
        let all = &mut all[..x.dim(0)];
        step.for_rows(|row, out: &mut [i32]| {
            let row = x.row::<f32>(row);
            all.iter_mut().zip(0..).for_each(|(index, i)| *index = i);
            if self.k < all.len() {
                all.select_nth_unstable_by(self.k - 1, |&a, &b| order(row, true, a, b));
            }
            let best = &mut all[..self.k];
            best.sort_unstable_by(|&a, &b| order(row, true, a, b));
            out.copy_from_slice(best);
            Ok(())
        })
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, inputs.first().map_or(0, |x| x.shape.elements() as u64))
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (input, n) = drawn(draw);
        let k = draw.number(1..=n);
        let expected = sorted(&input, n, k, |a, b| b.total_cmp(&a));
        Case::new(TopK { k }, vec![input], expected, 0.0)
    }
}

impl Operator for Argsort {
    const NAME: &'static str = "argsort";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        indices(inputs, inputs.first().map_or(0, |x| x.shape.dim(0)))
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let x = step.input(0);
        step.for_rows(|row, out: &mut [i32]| {
            let row = x.row::<f32>(row);
            out.iter_mut().zip(0..).for_each(|(index, i)| *index = i);
            out.sort_unstable_by(|&a, &b| order(row, self.descending, a, b));
            Ok(())
        })
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let (n, rows) = (output.shape.dim(0) as u64, output.shape.rows() as u64);
        Cost::streaming(inputs, output, rows * n * u64::from(n.max(1).ilog2()))
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (input, n) = drawn(draw);
        let descending = draw.flag();
        let order = |a: f32, b: f32| if descending { b.total_cmp(&a) } else { a.total_cmp(&b) };
        let expected = sorted(&input, n, n, order);
        Case::new(Argsort { descending }, vec![input], expected, 0.0)
    }
}

/// Rows of few different values, so that many are equal.
fn drawn(draw: &mut Draw<'_>) -> (CaseInput, usize) {
    let (n, rows) = (draw.number(1..=60), draw.number(1..=4));
    let levels = draw.one_of(&[1000.0, 4.0]);
    // Adding 0 makes -0, which `total_cmp` tells from 0, into 0.
    let x: Vec<f32> = draw.values(n * rows, 1.0).iter().map(|x| (x * levels).round() + 0.0).collect();
    (CaseInput::f32([n, rows], &x), n)
}

/// The first `k` indices of each row by a stable sort.
fn sorted(input: &CaseInput, n: usize, k: usize, order: impl Fn(f32, f32) -> Ordering) -> Vec<f64> {
    let values: Vec<f32> = input.data.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
    let mut expected = Vec::new();
    for row in values.chunks(n) {
        let mut all: Vec<usize> = (0..n).collect();
        all.sort_by(|&a, &b| order(row[a], row[b]));
        expected.extend(all.iter().take(k).map(|&i| i as f64));
    }
    expected
}
