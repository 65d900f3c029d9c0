//! `argmax`, `top_k`, `argsort`: indices of a row's elements by size.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::{CpuStep, StepError};
use crate::device::constants::SORT_THREADS as THREADS;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// The index of the largest element of each row of `F32[n, ...]`: `I32[1, ...]`. The first of equal elements; NaN
/// counts as -∞.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Argmax {}

/// The indices of the `k` largest elements of each row of `F32[n, ...]`, the largest first: `I32[k, ...]`. Equal
/// elements are ordered by index; NaN counts as -∞.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// The number of indices, `1..=n`.
    pub k: usize,
}

/// The indices that sort each row of `F32[n, ...]`: `I32[n, ...]`. Equal elements are ordered by index; NaN counts as
/// -∞.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Argsort {
    /// Sort from largest to smallest.
    pub descending: bool,
}

impl<'g> Tensor<'g> {
    /// The index of the largest element of each row, `I32[1, ...]`; the first of equal elements.
    #[track_caller]
    pub fn argmax(self) -> Tensor<'g> {
        self.graph().apply(Argmax {}, &[self])
    }

    /// The indices of the `k` largest elements of each row, the largest first: `I32[k, ...]`.
    #[track_caller]
    pub fn top_k(self, k: usize) -> Tensor<'g> {
        self.graph().apply(TopK { k }, &[self])
    }

    /// The indices that sort each row, `I32[n, ...]`.
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

/// The order of two elements of a row; `descending` puts the larger one first. Equal elements are ordered by index.
pub(super) fn order(row: &[f32], descending: bool, a: i32, b: i32) -> Ordering {
    let key = |i: i32| {
        let x = row[i as usize];
        if x.is_nan() { f32::NEG_INFINITY } else { x }
    };
    let ascending = key(a).partial_cmp(&key(b)).unwrap_or(Ordering::Equal);
    let wanted = if descending { ascending.reverse() } else { ascending };
    wanted.then(a.cmp(&b))
}

/// Elements that one block searches: eight for each thread, so that their loads run together.
const ARGMAX_PART: usize = 8 * THREADS;
/// Elements that one block sorts in shared memory, 16 KiB of keys. A power of two.
const SORT_PART: usize = 2048;
/// Bytes of a key: element and index.
const KEY: usize = 8;
/// The largest `k` that is found part by part; each round keeps at most half of its input.
const KEPT: usize = SORT_PART / 2;

/// The number of rows of the only input, and their elements; `None` if it is empty.
fn rows(lower: &Lower<'_>) -> Option<(usize, usize)> {
    let shape = lower.inputs().first()?.shape;
    (shape.elements() > 0).then(|| (shape.rows(), shape.dim(0)))
}

/// A number as an `int` argument of a kernel.
fn int(lower: &Lower<'_>, n: usize) -> Result<Arg, LowerError> {
    let n = i32::try_from(n).map_err(|_| lower.unsupported(format!("{n} is more than a kernel counts")))?;
    Ok(Arg::I32(n))
}

/// `a · b` blocks, or a number that every grid refuses.
fn blocks(a: usize, b: usize) -> [usize; 3] {
    [a.saturating_mul(b), 1, 1]
}

/// Adds the kernels that find the first `k` elements of each row: every block sorts a part and keeps `k` of it, until
/// one part is left.
fn launch_first(lower: &mut Lower<'_>, k: usize) -> Result<(), LowerError> {
    let Some((rows, mut n)) = rows(lower) else { return Ok(()) };
    let mut source = None;
    loop {
        let parts = n.div_ceil(SORT_PART);
        let last = parts == 1;
        let size = if last { n.next_power_of_two() } else { SORT_PART };
        let firsts = match last {
            true => Arg::Null,
            false => scratch(lower, rows, parts * k)?,
        };
        let mut args = match source {
            None => {
                vec![("x", Arg::Address(Which::Input(0), 0)), ("x_at", Arg::Layout(Which::Input(0)))]
            }
            Some(keys) => vec![("x", keys)],
        };
        args.extend([("n", Arg::I64(n as i64)), ("parts", int(lower, parts)?), ("size", int(lower, size)?)]);
        args.extend(source.is_none().then_some(("descending", Arg::I32(1))));
        args.extend([
            ("keep", int(lower, k)?),
            ("firsts", firsts),
            ("out", Arg::Address(Which::Output, 0)),
            ("last", Arg::I32(last.into())),
        ]);
        let entry = if source.is_none() { "sort_elements" } else { "sort_keys" };
        let grid = blocks(rows, parts);
        lower.launch_shared(Variant::new("sort", entry), grid, THREADS, size * KEY, &args)?;
        if last {
            return Ok(());
        }
        (source, n) = (Some(firsts), parts * k);
    }
}

/// Scratch memory for `keys` keys of each row.
fn scratch(lower: &mut Lower<'_>, rows: usize, keys: usize) -> Result<Arg, LowerError> {
    let bytes = rows.checked_mul(keys).and_then(|n| n.checked_mul(KEY));
    let bytes = bytes.ok_or_else(|| lower.unsupported("its keys are more than memory has addresses"))?;
    let (which, offset) = lower.scratch(bytes);
    Ok(Arg::Address(which, offset))
}

/// Adds the kernels that sort each row and return its first `k` indices: first parts in shared memory, then runs of
/// doubling length, whose steps use device memory as long as partners are further apart than a part.
fn launch_sort(lower: &mut Lower<'_>, descending: bool, k: usize) -> Result<(), LowerError> {
    let Some((rows, n)) = rows(lower) else { return Ok(()) };
    let padded = n.next_power_of_two();
    let size = padded.min(SORT_PART);
    let parts = padded / size;
    let out = Arg::Address(Which::Output, 0);
    let keys = if parts == 1 { Arg::Null } else { scratch(lower, rows, padded)? };
    let (shared, grid) = (size * KEY, blocks(rows, parts));
    let [n_parts, part] = [int(lower, parts)?, int(lower, size)?];
    let keep = int(lower, if parts == 1 { k } else { size })?;
    let args = [
        ("x", Arg::Address(Which::Input(0), 0)),
        ("x_at", Arg::Layout(Which::Input(0))),
        ("n", Arg::I64(n as i64)),
        ("parts", n_parts),
        ("size", part),
        ("descending", Arg::I32(descending.into())),
        ("keep", keep),
        ("firsts", keys),
        ("out", out),
        ("last", Arg::I32((parts == 1).into())),
    ];
    lower.launch_shared(Variant::new("sort", "sort_elements"), grid, THREADS, shared, &args)?;
    let pairs = rows * padded / 2;
    let mut half = size;
    while half < padded {
        let mut distance = half;
        while distance >= size {
            let flip = Arg::I32((distance == half).into());
            let args = [
                ("keys", keys),
                ("pairs", Arg::I64(pairs as i64)),
                ("half", Arg::I64(distance as i64)),
                ("flip", flip),
            ];
            lower.launch(
                Variant::new("sort", "merge_far"),
                blocks(pairs.div_ceil(THREADS), 1),
                THREADS,
                &args,
            )?;
            distance /= 2;
        }
        half *= 2;
        let args = [
            ("keys", keys),
            ("parts", n_parts),
            ("size", part),
            ("keep", int(lower, k)?),
            ("out", out),
            ("last", Arg::I32((half == padded).into())),
        ];
        lower.launch_shared(Variant::new("sort", "merge_near"), grid, THREADS, shared, &args)?;
    }
    Ok(())
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

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let Some((rows, n)) = rows(lower) else { return Ok(()) };
        let parts = n.div_ceil(ARGMAX_PART);
        let out = Arg::Address(Which::Output, 0);
        let firsts = if parts == 1 { Arg::Null } else { scratch(lower, rows, parts)? };
        let n_parts = int(lower, parts)?;
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("x_at", Arg::Layout(Which::Input(0))),
            ("n", Arg::I64(n as i64)),
            ("parts", n_parts),
            ("part", Arg::I32(ARGMAX_PART as i32)),
            ("firsts", firsts),
            ("out", out),
        ];
        lower.launch(Variant::new("sort", "argmax_parts"), blocks(rows, parts), THREADS, &args)?;
        if parts > 1 {
            let args = [("firsts", firsts), ("parts", n_parts), ("out", out)];
            lower.launch(Variant::new("sort", "argmax_join"), blocks(rows, 1), THREADS, &args)?;
        }
        Ok(())
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, inputs.first().map_or(0, |x| x.shape.elements() as u64))
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (input, n) = drawn(draw);
        let expected = sorted(&input, n, 1, |a, b| b.total_cmp(&a));
        Case::new(Argmax {}, vec![input], expected, 0.0).with_rows_in(1)
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

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        if self.k <= KEPT { launch_first(lower, self.k) } else { launch_sort(lower, true, self.k) }
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, inputs.first().map_or(0, |x| x.shape.elements() as u64))
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (input, n) = drawn(draw);
        let k = draw.number(1..=n);
        let expected = sorted(&input, n, k, |a, b| b.total_cmp(&a));
        Case::new(TopK { k }, vec![input], expected, 0.0).with_rows_in(1)
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

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let n = lower.output().shape.dim(0);
        launch_sort(lower, self.descending, n)
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
        Case::new(Argsort { descending }, vec![input], expected, 0.0).with_rows_in(1)
    }
}

/// Rows of few different values, so that many are equal.
fn drawn(draw: &mut Draw<'_>) -> (CaseInput, usize) {
    // Some rows are longer than a part of one block.
    let more = draw.one_of(&[0, 0, 0, SORT_PART]);
    let (n, rows) = (draw.number(1..=60) + more, draw.number(1..=if more == 0 { 4 } else { 2 }));
    let levels = draw.one_of(&[1000.0, 4.0]);
    // Adding 0 turns -0, which `total_cmp` distinguishes from 0, into 0.
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
