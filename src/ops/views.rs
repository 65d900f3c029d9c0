//! `reshape`, `permute`, `slice`: views of the same bytes, without any work.

use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::{CpuStep, StepError};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc, MAX_RANK, Shape};

/// The same elements in another shape; the input must be contiguous.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reshape {
    /// The new shape.
    pub shape: Shape,
}

/// Permuted dimensions: dimension `i` of the output is dimension `order[i]` of the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permute {
    /// The input's dimension for each dimension of the output.
    pub order: [usize; MAX_RANK],
}

/// A range of one dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The dimension.
    pub dim: usize,
    /// The first element of the range.
    pub start: usize,
    /// The number of elements.
    pub len: usize,
}

impl<'g> Tensor<'g> {
    /// The same elements in another shape. The tensor must be contiguous.
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Tensor<'g> {
        self.graph().apply(Reshape { shape: shape.into() }, &[self])
    }

    /// Permutes dimensions: dimension `i` of the result is dimension `order[i]` of `self`.
    #[track_caller]
    pub fn permute(self, order: [usize; MAX_RANK]) -> Tensor<'g> {
        self.graph().apply(Permute { order }, &[self])
    }

    /// Elements `start..start + len` of dimension `dim`.
    #[track_caller]
    pub fn slice(self, dim: usize, start: usize, len: usize) -> Tensor<'g> {
        self.graph().apply(Slice { dim, start, len }, &[self])
    }
}

impl Operator for Reshape {
    const NAME: &'static str = "reshape";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let input = rule::one(inputs)?;
        if !input.is_contiguous() {
            return Err(ShapeError::rule("only a contiguous tensor can be reshaped (use `copy`)", inputs));
        }
        if input.shape.elements() != self.shape.elements() {
            return Err(ShapeError::rule(format!("{} holds another number of elements", self.shape), inputs));
        }
        Ok(Desc::contiguous(input.dtype, self.shape)?)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::View { input: 0, offset: 0 }
    }

    fn cpu(&self, _: &CpuStep<'_>) -> Result<(), StepError> {
        Ok(())
    }

    fn cost(&self, _: &[Desc], _: &Desc) -> Cost {
        Cost::default()
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let sizes = [(); 3].map(|()| draw.number(1..=6));
        let values = draw.values(sizes.iter().product(), 1.0);
        let op = Reshape { shape: [sizes[0] * sizes[2], sizes[1]].into() };
        view_case(op, CaseInput::f32(sizes, &values), values.clone())
    }
}

impl Operator for Permute {
    const NAME: &'static str = "permute";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let input = rule::one(inputs)?;
        let mut seen = [false; MAX_RANK];
        for &dim in &self.order {
            match seen.get_mut(dim) {
                Some(seen) if !*seen => *seen = true,
                _ => {
                    let rule = format!("{:?} is not an order of the dimensions 0 to 3", self.order);
                    return Err(ShapeError::rule(rule, inputs));
                }
            }
        }
        if !input.dtype.is_plain() && self.order[0] != 0 {
            return Err(ShapeError::rule("blocks lie along dimension 0, which must stay", inputs));
        }
        let sizes = self.order.map(|dim| input.shape.dim(dim));
        Ok(Desc {
            dtype: input.dtype,
            shape: sizes.into(),
            strides: self.order.map(|dim| input.strides[dim]),
        })
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::View { input: 0, offset: 0 }
    }

    fn cpu(&self, _: &CpuStep<'_>) -> Result<(), StepError> {
        Ok(())
    }

    fn cost(&self, _: &[Desc], _: &Desc) -> Cost {
        Cost::default()
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let mut order = [0, 1, 2, 3];
        for i in 0..MAX_RANK {
            order.swap(i, draw.number(i..=MAX_RANK - 1));
        }
        let sizes = [(); 4].map(|()| draw.number(1..=4));
        let values = draw.values(sizes.iter().product(), 1.0);
        let out = order.map(|dim| sizes[dim]);
        let mut expected = Vec::new();
        for i in 0..values.len() {
            let mut index = [0; 4];
            let mut rest = i;
            for (dim, n) in order.iter().zip(out) {
                index[*dim] = rest % n;
                rest /= n;
            }
            let at = index.iter().zip(sizes).rev().fold(0, |at, (i, n)| at * n + i);
            expected.push(values[at]);
        }
        view_case(Permute { order }, CaseInput::f32(sizes, &values), expected)
    }
}

impl Operator for Slice {
    const NAME: &'static str = "slice";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let input = rule::one(inputs)?;
        let end = self.start.checked_add(self.len);
        if self.dim >= MAX_RANK || self.len == 0 || end.is_none_or(|end| end > input.shape.dim(self.dim)) {
            let (start, len, dim) = (self.start, self.len, self.dim);
            let rule = format!("there are no {len} elements from {start} on in dimension {dim}");
            return Err(ShapeError::rule(rule, inputs));
        }
        let block = input.dtype.block_elements();
        if self.dim == 0 && !(self.start.is_multiple_of(block) && self.len.is_multiple_of(block)) {
            let rule = format!("a range of dimension 0 must be whole blocks of {block} elements");
            return Err(ShapeError::rule(rule, inputs));
        }
        let mut sizes = input.shape.ne();
        sizes[self.dim] = self.len;
        let rank = input.shape.rank().max(self.dim + 1);
        let shape = Shape::new(&sizes[..rank]).unwrap_or(input.shape);
        Ok(Desc { dtype: input.dtype, shape, strides: input.strides })
    }

    fn memory(&self, inputs: &[Desc]) -> Memory {
        let offset = inputs.first().map_or(0, |input| {
            let start = if self.dim == 0 { self.start / input.dtype.block_elements() } else { self.start };
            start * input.strides[self.dim]
        });
        Memory::View { input: 0, offset }
    }

    fn cpu(&self, _: &CpuStep<'_>) -> Result<(), StepError> {
        Ok(())
    }

    fn cost(&self, _: &[Desc], _: &Desc) -> Cost {
        Cost::default()
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let sizes = [(); 3].map(|()| draw.number(1..=6));
        let dim = draw.number(0..=2);
        let start = draw.number(0..=sizes[dim] - 1);
        let len = draw.number(1..=sizes[dim] - start);
        let values = draw.values(sizes.iter().product(), 1.0);
        let inside = |i: usize| {
            let index = [i % sizes[0], i / sizes[0] % sizes[1], i / sizes[0] / sizes[1]];
            (start..start + len).contains(&index[dim])
        };
        let expected = (0..values.len()).filter(|&i| inside(i)).map(|i| values[i]).collect();
        view_case(Slice { dim, start, len }, CaseInput::f32(sizes, &values), expected)
    }
}

/// A view changes no value, so every element must be exact.
fn view_case(op: impl Operator, input: CaseInput, expected: Vec<f32>) -> Case {
    debug_assert_eq!(input.desc.dtype, DType::F32);
    Case::new(op, vec![input], expected.into_iter().map(f64::from).collect(), 0.0)
}
