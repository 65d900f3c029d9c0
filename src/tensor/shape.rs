//! Shapes and strides, in GGUF's order: the first dimension is the contiguous one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum rank of a tensor, as in GGUF.
pub const MAX_RANK: usize = 4;

/// The sizes of a tensor, `ne[0]` (a row's length) first. Dimensions past the rank are 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Shape {
    ne: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// A shape from its sizes; `None` for more than [`MAX_RANK`] sizes or a product that overflows. An empty slice is a
    /// single element.
    pub fn new(sizes: &[usize]) -> Option<Shape> {
        if sizes.len() > MAX_RANK {
            return None;
        }
        sizes.iter().try_fold(1usize, |product, &n| product.checked_mul(n))?;
        let mut ne = [1; MAX_RANK];
        ne[..sizes.len()].copy_from_slice(sizes);
        Some(Shape { ne, rank: sizes.len().max(1) as u8 })
    }

    /// All four sizes, padded with 1.
    pub fn ne(&self) -> [usize; MAX_RANK] {
        self.ne
    }

    /// The size of dimension `i`; 1 past the rank.
    pub fn dim(&self, i: usize) -> usize {
        self.ne.get(i).copied().unwrap_or(1)
    }

    /// The number of given dimensions.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// The given sizes.
    pub fn sizes(&self) -> &[usize] {
        &self.ne[..self.rank()]
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.ne.iter().product()
    }

    /// The number of rows: elements over the first size.
    pub fn rows(&self) -> usize {
        self.ne[1..].iter().product()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.sizes())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// A shape literal. More than [`MAX_RANK`] sizes do not compile.
    fn from(sizes: [usize; N]) -> Shape {
        const { assert!(N <= MAX_RANK, "a tensor has at most four dimensions") };
        let mut ne = [1; MAX_RANK];
        ne[..N].copy_from_slice(&sizes);
        Shape { ne, rank: N.max(1) as u8 }
    }
}

impl TryFrom<Vec<usize>> for Shape {
    type Error = String;
    fn try_from(sizes: Vec<usize>) -> Result<Shape, String> {
        Shape::new(&sizes).ok_or_else(|| format!("{sizes:?} is not a shape of at most {MAX_RANK} sizes"))
    }
}

impl From<Shape> for Vec<usize> {
    fn from(shape: Shape) -> Vec<usize> {
        shape.sizes().to_vec()
    }
}

/// The distance in bytes between neighbours along each dimension. Along dimension 0 it is the
/// distance between neighbouring *blocks* of a block format.
pub type Strides = [usize; MAX_RANK];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_past_the_rank_are_one() {
        let shape = Shape::new(&[8, 3]).unwrap();
        assert_eq!((shape.rank(), shape.dim(0), shape.dim(3), shape.dim(9)), (2, 8, 1, 1));
        assert_eq!((shape.elements(), shape.rows()), (24, 3));
        assert_eq!(shape.to_string(), "[8, 3]");
    }

    #[test]
    fn too_many_or_too_large_sizes_are_refused() {
        assert!(Shape::new(&[1, 2, 3, 4, 5]).is_none());
        assert!(Shape::new(&[usize::MAX, 2]).is_none());
    }
}
