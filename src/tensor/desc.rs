//! A tensor's description: dtype, shape and strides, and the arithmetic on them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{DType, MAX_RANK, Shape, Strides};

/// Dtype, shape and strides of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Desc {
    /// Type of the elements.
    pub dtype: DType,
    /// Sizes, contiguous dimension first.
    pub shape: Shape,
    /// Bytes between neighbours along each dimension.
    pub strides: Strides,
}

/// Reason why a dtype and a shape do not form a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A row is not a whole number of blocks.
    #[error("rows of {row} elements do not fill whole blocks of {dtype} ({block} elements each)")]
    PartialBlock {
        /// The block format.
        dtype: DType,
        /// Elements in a row.
        row: usize,
        /// Elements in a block.
        block: usize,
    },
    /// The size in bytes overflows an address.
    #[error("a {dtype} tensor of shape {shape} is too large to address")]
    TooLarge {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Shape,
    },
}

impl Desc {
    /// A tensor whose elements follow one another without gaps.
    pub fn contiguous(dtype: DType, shape: impl Into<Shape>) -> Result<Desc, LayoutError> {
        let shape = shape.into();
        let row = shape.dim(0);
        if !row.is_multiple_of(dtype.block_elements()) {
            return Err(LayoutError::PartialBlock { dtype, row, block: dtype.block_elements() });
        }
        let too_large = || LayoutError::TooLarge { dtype, shape };
        let mut strides = [dtype.block_bytes(); MAX_RANK];
        let mut step = dtype.row_bytes(row).ok_or_else(too_large)?;
        for (stride, &n) in strides[1..].iter_mut().zip(&shape.ne()[1..]) {
            *stride = step;
            step = step.checked_mul(n).ok_or_else(too_large)?;
        }
        Ok(Desc { dtype, shape, strides })
    }

    /// Bytes from the first element to the end of the last one; 0 for an empty tensor.
    pub fn extent(&self) -> usize {
        if self.shape.elements() == 0 {
            return 0;
        }
        let blocks = self.shape.dim(0) / self.dtype.block_elements();
        let row = (blocks - 1) * self.strides[0] + self.dtype.block_bytes();
        (1..MAX_RANK).fold(row, |sum, i| sum + (self.shape.dim(i) - 1) * self.strides[i])
    }

    /// Bytes of the elements without gaps.
    pub fn data_bytes(&self) -> usize {
        self.shape.elements() / self.dtype.block_elements() * self.dtype.block_bytes()
    }

    /// True if the elements follow one another without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut step = self.dtype.row_bytes(self.shape.dim(0));
        self.rows_are_contiguous()
            && (1..MAX_RANK).all(|i| {
                let n = self.shape.dim(i);
                let fits = n <= 1 || Some(self.strides[i]) == step;
                step = step.and_then(|step| step.checked_mul(n));
                fits
            })
    }

    /// True if each row is contiguous; there may be gaps between rows.
    pub fn rows_are_contiguous(&self) -> bool {
        self.shape.dim(0) <= self.dtype.block_elements() || self.strides[0] == self.dtype.block_bytes()
    }

    /// Byte offset of the row with these indices of dimensions 1, 2 and 3.
    pub fn row_offset(&self, i1: usize, i2: usize, i3: usize) -> usize {
        i1 * self.strides[1] + i2 * self.strides[2] + i3 * self.strides[3]
    }

    /// The indices of dimensions 1, 2 and 3 of row number `row`; dimension 1 varies fastest.
    pub fn row_index(&self, row: usize) -> (usize, usize, usize) {
        let (n1, n2) = (self.shape.dim(1), self.shape.dim(2));
        (row % n1, row / n1 % n2, row / n1 / n2)
    }
}

impl fmt::Display for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)?;
        if !self.is_contiguous() {
            write!(f, " strides {:?}", &self.strides[..self.shape.rank()])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_of_blocks() {
        let desc = Desc::contiguous(DType::Q4_0, [64, 3, 2]).unwrap();
        assert_eq!(desc.strides, [18, 36, 108, 216]);
        assert_eq!((desc.extent(), desc.data_bytes()), (216, 216));
        assert!(desc.is_contiguous() && desc.rows_are_contiguous());
        assert!(Desc::contiguous(DType::Q4_0, [33, 3]).is_err());
    }

    #[test]
    fn a_transposed_view_is_not_contiguous() {
        let mut desc = Desc::contiguous(DType::F32, [4, 3]).unwrap();
        desc.shape = Shape::from([3, 4]);
        desc.strides = [16, 4, 48, 48];
        assert!(!desc.is_contiguous() && !desc.rows_are_contiguous());
        assert_eq!(desc.extent(), 48);
        assert_eq!(desc.to_string(), "F32[3, 4] strides [16, 4]");
    }
}
