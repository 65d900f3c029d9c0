//! `copy`, `concat`, `cast`: the same numbers in another layout or type.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::pieces::{Pieces, are_flat};
use super::rule;
use crate::cpu::vector::Element;
use crate::cpu::{CpuStep, StepError};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc, Shape, blocks};

/// The elements of a plain tensor with any strides, made contiguous.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copy {}

/// Concatenates plain tensors of the same dtype along a dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concat {
    /// The dimension.
    pub dim: usize,
}

/// The elements as another dtype: rounded to the nearest, ties to even; to I32 towards zero. Block formats can only be
/// the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cast {
    /// F32, F16, BF16 or I32.
    pub dtype: DType,
}

impl<'g> Tensor<'g> {
    /// The same elements, contiguous, as `reshape` requires.
    #[track_caller]
    pub fn copy(self) -> Tensor<'g> {
        self.graph().apply(Copy {}, &[self])
    }

    /// `self`, then `others`, along dimension `dim`; all other sizes must be equal.
    #[track_caller]
    pub fn concat(self, others: &[Tensor<'g>], dim: usize) -> Tensor<'g> {
        let inputs: Vec<Tensor<'g>> = std::iter::once(self).chain(others.iter().copied()).collect();
        self.graph().apply(Concat { dim }, &inputs)
    }

    /// The elements as F32, F16, BF16 or I32.
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Tensor<'g> {
        self.graph().apply(Cast { dtype }, &[self])
    }
}

fn plain(inputs: &[Desc]) -> Result<(), ShapeError> {
    if inputs.iter().all(|input| input.dtype.is_plain()) {
        return Ok(());
    }
    Err(ShapeError::rule("blocks cannot be moved one by one (use `cast` to F32)", inputs))
}

impl Operator for Copy {
    const NAME: &'static str = "copy";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let input = rule::one(inputs)?;
        plain(inputs)?;
        Ok(Desc::contiguous(input.dtype, input.shape)?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        copy(step)
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        launch_copy(lower, 0, 0, are_flat(lower.inputs()))
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (dtype, sizes) = drawn_shape(draw);
        let (input, expected) = drawn(draw, dtype, sizes);
        Case::new(Copy {}, vec![input], expected, 0.0)
    }
}

/// Adds the kernel that copies input `i` to the output at byte `offset`. `flat` means that the input and its range of
/// the output are contiguous.
fn launch_copy(lower: &mut Lower<'_>, i: usize, offset: usize, flat: bool) -> Result<(), LowerError> {
    let Some(input) = lower.inputs().get(i) else { return Ok(()) };
    let bytes = input.dtype.block_bytes();
    // A thread moves 16 bytes.
    let pieces = Pieces::of(lower, input.shape, flat, 16 / bytes);
    let [n, per_row, flat] = pieces.args();
    let from = Which::Input(i as u32);
    let args = [
        ("from", Arg::Address(from, 0)),
        ("from_at", Arg::Layout(from)),
        ("to", Arg::Address(Which::Output, offset)),
        ("to_at", Arg::Layout(Which::Output)),
        n,
        per_row,
        flat,
        ("bytes", Arg::I32(bytes as i32)),
    ];
    pieces.launch(lower, Variant::new("rearrange", "copy_elements"), &args)
}

fn copy(step: &CpuStep<'_>) -> Result<(), StepError> {
    let input = step.input(0);
    match step.output().dtype.block_bytes() {
        2 => step.for_rows(|row, out: &mut [u16]| input.read(0, row, out)),
        _ => step.for_rows(|row, out: &mut [u32]| input.read(0, row, out)),
    }
}

impl Operator for Concat {
    const NAME: &'static str = "concat";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let Some(first) = inputs.first() else {
            return Err(ShapeError::Arity { wanted: "1 or more", found: 0 });
        };
        plain(inputs)?;
        let mut sizes = first.shape.ne();
        let Some(size) = sizes.get_mut(self.dim) else {
            return Err(ShapeError::rule(format!("there is no dimension {}", self.dim), inputs));
        };
        *size = 0;
        for input in inputs {
            let same = |i: usize| i == self.dim || input.shape.dim(i) == first.shape.dim(i);
            if input.dtype != first.dtype || !(0..4).all(same) {
                let rule = format!("dtype and all sizes but that of dimension {} must be the same", self.dim);
                return Err(ShapeError::rule(rule, inputs));
            }
            sizes[self.dim] += input.shape.dim(self.dim);
        }
        let rank = first.shape.rank().max(self.dim + 1);
        let shape = Shape::new(&sizes[..rank]);
        let shape = shape.ok_or_else(|| ShapeError::rule("the output is too large to address", inputs))?;
        Ok(Desc::contiguous(first.dtype, shape)?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        match step.output().dtype.block_bytes() {
            2 => self.run::<u16>(step),
            _ => self.run::<u32>(step),
        }
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let (inputs, output) = (lower.inputs(), lower.output());
        // Each input is one run of the output if the dimensions above the concatenated one have size 1.
        let one_run = (self.dim + 1..4).all(|i| output.shape.dim(i) == 1);
        let mut start = 0;
        for (i, input) in inputs.iter().enumerate() {
            launch_copy(lower, i, start * output.strides[self.dim], one_run && input.is_contiguous())?;
            start += input.shape.dim(self.dim);
        }
        Ok(())
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (dtype, sizes) = drawn_shape(draw);
        let dim = draw.number(0..=3);
        let parts: Vec<(CaseInput, Vec<f64>)> = (0..draw.number(1..=3))
            .map(|_| {
                let mut sizes = sizes;
                sizes[dim] = draw.number(1..=4);
                drawn(draw, dtype, sizes)
            })
            .collect();
        // Above the concatenated dimension, each part is a number of runs of elements, and the parts' runs alternate.
        let inner: usize = sizes[..dim].iter().product();
        let outer: usize = sizes[dim + 1..].iter().product();
        let mut expected = Vec::new();
        for i in 0..outer {
            for (input, values) in &parts {
                let run = inner * input.desc.shape.dim(dim);
                expected.extend(&values[i * run..(i + 1) * run]);
            }
        }
        // The batch's rows are never along the concatenated dimension.
        let rows_in = if dim == 3 { 2 } else { 3 };
        let inputs = parts.into_iter().map(|(input, _)| input).collect();
        Case::new(Concat { dim }, inputs, expected, 0.0).with_rows_in(rows_in)
    }
}

impl Concat {
    fn run<T: bytemuck::Pod>(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        step.for_rows(|(i1, i2, i3), out: &mut [T]| {
            let mut index = [0, i1, i2, i3];
            let mut rest = out;
            for input in (0..step.n_inputs()).map(|i| step.input(i)) {
                let size = input.dim(self.dim);
                if self.dim == 0 {
                    let (piece, left) = std::mem::take(&mut rest).split_at_mut(size);
                    input.read(0, (i1, i2, i3), piece)?;
                    rest = left;
                } else if index[self.dim] < size {
                    input.read(0, (index[1], index[2], index[3]), rest)?;
                    break;
                } else {
                    index[self.dim] -= size;
                }
            }
            Ok(())
        })
    }
}

impl Operator for Cast {
    const NAME: &'static str = "cast";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let input = rule::one(inputs)?;
        if !self.dtype.is_plain() {
            return Err(ShapeError::rule(
                format!("casts to F32, F16, BF16 and I32, not {}", self.dtype),
                inputs,
            ));
        }
        Ok(Desc::contiguous(self.dtype, input.shape)?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        if step.input(0).desc().dtype == self.dtype {
            return copy(step);
        }
        match self.dtype {
            DType::F16 => cast::<f16>(step),
            DType::BF16 => cast::<bf16>(step),
            DType::I32 => cast::<i32>(step),
            _ => cast::<f32>(step),
        }
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [input] = lower.inputs() else { return Ok(()) };
        let flat = are_flat(lower.inputs());
        if input.dtype == self.dtype {
            return launch_copy(lower, 0, 0, flat);
        }
        if !input.dtype.is_plain() {
            return self.launch_blocks(lower, input);
        }
        let pieces = Pieces::of(lower, input.shape, flat, 4);
        let [n, per_row, flat] = pieces.args();
        let args = [
            ("from", Arg::Address(Which::Input(0), 0)),
            ("from_at", Arg::Layout(Which::Input(0))),
            ("from_type", Arg::I32(input.dtype.number())),
            ("to", Arg::Address(Which::Output, 0)),
            ("to_type", Arg::I32(self.dtype.number())),
            n,
            per_row,
            flat,
        ];
        pieces.launch(lower, Variant::new("rearrange", "cast_elements"), &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let dtype = draw.one_of(&PLAIN);
        let (plain, mut sizes) = drawn_shape(draw);
        sizes[0] = draw.one_of(&[1, 5, 256, 700]);
        let formats: Vec<DType> = DType::all().filter(|dtype| !dtype.is_plain()).collect();
        let (input, values) = if draw.flag() {
            sizes[0] = draw.one_of(&[256, 512]);
            let format = draw.one_of(&formats);
            drawn_blocks(draw, format, sizes)
        } else {
            drawn(draw, plain, sizes)
        };
        let expected: Vec<f64> =
            values.iter().map(|x| if dtype == DType::I32 { x.trunc() } else { *x }).collect();
        // Half a unit in the last place of 8, 11 or 24 bits, or half the smallest step near zero.
        let (unit, smallest) = match dtype {
            DType::F16 => (2f64.powi(-11), 2f64.powi(-25)),
            DType::BF16 => (2f64.powi(-8), 1e-40),
            _ => (0.0, 0.0),
        };
        let tolerance = expected.iter().map(|x| x.abs() * unit + smallest).collect();
        Case::with_tolerances(Cast { dtype }, vec![input], expected, tolerance)
    }
}

impl Cast {
    /// Adds the kernel that reads a block format, which is one of its constants.
    fn launch_blocks(&self, lower: &mut Lower<'_>, input: &Desc) -> Result<(), LowerError> {
        if !input.is_contiguous() {
            return Err(lower.unsupported("blocks must lie without gaps; `cast` first, then take a view"));
        }
        let n = input.shape.elements();
        if n == 0 {
            return Ok(());
        }
        let args = [
            ("from", Arg::Address(Which::Input(0), 0)),
            ("n_blocks", Arg::I64((n / input.dtype.block_elements()) as i64)),
            ("to", Arg::Address(Which::Output, 0)),
            ("n", Arg::I64(n as i64)),
        ];
        let variant = Variant::new("dequantize", "dequantize").define("FORMAT", input.dtype);
        // A thread reads eight elements.
        let blocks = n.div_ceil(8 * THREADS);
        lower.launch(variant.define("TO", self.dtype.number()), [blocks, 1, 1], THREADS, &args)
    }
}

/// Threads of a block of `kernels/dequantize.hip`.
const THREADS: usize = 256;

/// Elements of a row that are converted at once: a whole number of blocks of every format.
const PIECE: usize = 256;

fn cast<T: Element>(step: &CpuStep<'_>) -> Result<(), StepError> {
    let input = step.input(0);
    step.for_rows(|row, out: &mut [T]| {
        for (i, out) in out.chunks_mut(PIECE).enumerate() {
            let mut piece = [0.0; PIECE];
            let piece = &mut piece[..out.len()];
            input.load(i * PIECE, row, piece)?;
            T::round(piece, out);
        }
        Ok(())
    })
}

const PLAIN: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::I32];

fn drawn_shape(draw: &mut Draw<'_>) -> (DType, [usize; 4]) {
    (draw.one_of(&PLAIN), [(); 4].map(|()| draw.number(1..=4)))
}

/// A tensor of a block format and its values in F32.
fn drawn_blocks(draw: &mut Draw<'_>, dtype: DType, sizes: [usize; 4]) -> (CaseInput, Vec<f64>) {
    let n = sizes.iter().product();
    let data = draw.blocks(dtype, n);
    let mut values = vec![0.0; n];
    let read = blocks::dequantize(dtype, &data, &mut values);
    debug_assert!(read.is_ok(), "drawn blocks can be read");
    (CaseInput::bytes(dtype, sizes, data), values.into_iter().map(f64::from).collect())
}

/// A tensor of a plain dtype and its values.
fn drawn(draw: &mut Draw<'_>, dtype: DType, sizes: [usize; 4]) -> (CaseInput, Vec<f64>) {
    let values = draw.values(sizes.iter().product(), 200.0);
    let (bytes, exact): (Vec<u8>, Vec<f64>) = match dtype {
        DType::F16 => {
            let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
            (bytemuck::cast_slice(&halves).to_vec(), halves.iter().map(|x| x.to_f64()).collect())
        }
        DType::BF16 => {
            let halves: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
            (bytemuck::cast_slice(&halves).to_vec(), halves.iter().map(|x| x.to_f64()).collect())
        }
        DType::I32 => {
            let numbers: Vec<i32> = values.iter().map(|&x| x as i32).collect();
            (bytemuck::cast_slice(&numbers).to_vec(), numbers.iter().map(|&x| x.into()).collect())
        }
        _ => (bytemuck::cast_slice(&values).to_vec(), values.iter().map(|&x| x.into()).collect()),
    };
    (CaseInput::bytes(dtype, sizes, bytes), exact)
}
