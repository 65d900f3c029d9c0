//! Shape rules that several operators share.

use crate::graph::ShapeError;
use crate::tensor::{DType, Desc};

/// The only input.
pub fn one(inputs: &[Desc]) -> Result<Desc, ShapeError> {
    match inputs {
        [input] => Ok(*input),
        _ => Err(ShapeError::Arity { wanted: "1", found: inputs.len() }),
    }
}

/// A contiguous F32 output with the shape of the first input, which must be F32.
pub fn like_first(inputs: &[Desc]) -> Result<Desc, ShapeError> {
    match inputs.first() {
        Some(x) if x.dtype == DType::F32 => Ok(Desc::contiguous(DType::F32, x.shape)?),
        _ => Err(ShapeError::rule("the first input must be F32 (use `cast`)", inputs)),
    }
}

/// Checks that an input is one row of `n` elements of the dtype.
pub fn vector(
    inputs: &[Desc],
    i: usize,
    dtype: DType,
    n: usize,
    what: &'static str,
) -> Result<(), ShapeError> {
    match inputs.get(i) {
        Some(x) if x.dtype == dtype && x.shape.dim(0) == n && x.shape.rows() == 1 && x.is_contiguous() => {
            Ok(())
        }
        _ => Err(ShapeError::rule(format!("{what} must be {dtype}[{n}] without gaps"), inputs)),
    }
}

/// Checks that the rows of all inputs are contiguous.
pub fn whole_rows(inputs: &[Desc]) -> Result<(), ShapeError> {
    if inputs.iter().all(Desc::rows_are_contiguous) {
        return Ok(());
    }
    Err(ShapeError::rule("rows must lie without gaps (use `copy`)", inputs))
}
