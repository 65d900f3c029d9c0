//! The operators: one file each, and the table that lists them.
//!
//! A file holds an operator's attributes, its method on [`Tensor`](crate::graph::Tensor), its shape
//! rule, its CPU meaning and its parity cases. Operators know `graph` and `cpu`; they know no plan, no
//! model and no file. Nothing here is privileged: a user's operator implements the same trait.

mod binary;
#[cfg(test)]
mod direct;
mod views;

pub use binary::{Binary, BinaryKind};
pub use views::{Permute, Reshape, Slice};

use crate::graph::operator::OperatorRow;

/// The built-in operators, one line each.
pub const TABLE: &[OperatorRow] = &[
    OperatorRow::of::<Binary>(),
    OperatorRow::of::<Permute>(),
    OperatorRow::of::<Reshape>(),
    OperatorRow::of::<Slice>(),
];
