//! Errors of conversions between blocks and values.

use super::DType;

/// The reason why blocks or values were not converted. Nothing was written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The type holds no real numbers.
    #[error("{dtype} elements are not real numbers and have no dequantization")]
    NotReal {
        /// The element type.
        dtype: DType,
    },
    /// The bytes end inside a block.
    #[error("{bytes} bytes are not whole blocks of {dtype} ({block} bytes each)")]
    PartialBytes {
        /// The block format.
        dtype: DType,
        /// Bytes given.
        bytes: usize,
        /// Bytes of a block.
        block: usize,
    },
    /// The values end inside a block.
    #[error("{values} values do not fill whole blocks of {dtype} ({block} elements each)")]
    PartialValues {
        /// The block format.
        dtype: DType,
        /// Values given.
        values: usize,
        /// Elements of a block.
        block: usize,
    },
    /// The blocks and the values have different numbers of elements.
    #[error(
        "{blocks} blocks of {dtype} hold {elements} elements each, but there is room for {values} values"
    )]
    WrongLength {
        /// The block format.
        dtype: DType,
        /// Blocks given.
        blocks: usize,
        /// Elements of a block.
        elements: usize,
        /// Length of the output.
        values: usize,
    },
    /// The format can be read but not written.
    #[error("{dtype} can be read but not written")]
    NotWritable {
        /// The element type.
        dtype: DType,
    },
    /// A block's scale or offset does not fit an f16, or a value is infinite or NaN.
    #[error(
        "values {first} to {last} do not fit a block of {dtype}: not finite, or too large for its f16 scale"
    )]
    OutOfRange {
        /// The block format.
        dtype: DType,
        /// Index of the block's first value.
        first: usize,
        /// Index of the block's last value.
        last: usize,
    },
}
