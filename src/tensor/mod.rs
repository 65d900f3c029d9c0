//! What a tensor is: element types and their block formats, shapes, strides.
//!
//! This folder is the bottom of the house. It knows no file, no graph and no device. The byte
//! layout of every block format is written down here and nowhere else.

pub mod blocks;
mod desc;
mod dtype;
mod shape;

pub use desc::{Desc, LayoutError};
pub use dtype::DType;
pub use shape::{MAX_RANK, Shape, Strides};
