//! Tensor descriptions: element types and their block formats, shapes, strides.
//!
//! The lowest folder: it knows no file, no graph and no device. The byte layout of every block format is defined here
//! and nowhere else.

pub mod blocks;
mod desc;
pub(crate) mod dtype;
mod shape;

pub use desc::{Desc, LayoutError};
pub use dtype::DType;
pub use shape::{MAX_RANK, Shape, Strides};
