//! Element types: the plain ones and every ggml block format that rfgraph reads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Calls a macro with the rows of the block formats: the name, the number in GGUF files, elements and bytes of a block, and
/// the struct of [`blocks`](super::blocks) that says what its bytes mean. One row is one format: all lists of formats follow from these.
///
/// Source: the GGUF specification's `ggml_type` and ggml's block definitions.
macro_rules! for_every_format {
    ($call:ident) => {
        $call! {
            Q4_0 2 32 18 BlockQ4_0,
            Q4_1 3 32 20 BlockQ4_1,
            Q5_0 6 32 22 BlockQ5_0,
            Q5_1 7 32 24 BlockQ5_1,
            Q8_0 8 32 34 BlockQ8_0,
            Q2_K 10 256 84 BlockQ2K,
            Q3_K 11 256 110 BlockQ3K,
            Q4_K 12 256 144 BlockQ4K,
            Q5_K 13 256 176 BlockQ5K,
            Q6_K 14 256 210 BlockQ6K,
            IQ1_S 19 256 50 BlockIq1S,
            IQ1_M 29 256 56 BlockIq1M,
            IQ2_XXS 16 256 66 BlockIq2Xxs,
            IQ2_XS 17 256 74 BlockIq2Xs,
            IQ2_S 22 256 82 BlockIq2S,
            IQ3_XXS 18 256 98 BlockIq3Xxs,
            IQ3_S 21 256 110 BlockIq3S,
            IQ4_NL 20 32 18 BlockIq4Nl,
            IQ4_XS 23 256 136 BlockIq4Xs,
            TQ1_0 34 256 54 BlockTq1_0,
            TQ2_0 35 256 66 BlockTq2_0,
            MXFP4 39 32 17 BlockMxfp4,
            NVFP4 40 64 36 BlockNvfp4,
            Q1_0 41 128 18 BlockQ1_0,
            Q2_0 42 64 18 BlockQ2_0,
        }
    };
}
pub(crate) use for_every_format;

/// Name, number in GGUF files, elements and bytes of a block.
struct Row {
    dtype: DType,
    name: &'static str,
    ggml_id: u32,
    elements: usize,
    bytes: usize,
}

const fn row(dtype: DType, name: &'static str, ggml_id: u32, elements: usize, bytes: usize) -> Row {
    Row { dtype, name, ggml_id, elements, bytes }
}

macro_rules! element_types {
    ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => {
        /// The type of a tensor's elements.
        ///
        /// A *block format* packs a fixed number of neighbouring elements of a row into a fixed number of
        /// bytes. Plain types are block formats with one element a block.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[allow(non_camel_case_types, reason = "the formats' own names, as GGUF files and users write them")]
        #[allow(missing_docs, reason = "a variant is its format's name; the table says the rest")]
        #[non_exhaustive]
        pub enum DType {
            F32,
            F16,
            BF16,
            I32,
            $($name),*
        }

        /// In the order of the enum.
        const TABLE: &[Row] = &[
            row(DType::F32, "F32", 0, 1, 4),
            row(DType::F16, "F16", 1, 1, 2),
            row(DType::BF16, "BF16", 30, 1, 2),
            row(DType::I32, "I32", 26, 1, 4),
            $(row(DType::$name, stringify!($name), $ggml_id, $elements, $bytes)),*
        ];
    };
}
for_every_format!(element_types);

impl DType {
    /// Every element type, in the order of the enum.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.dtype)
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name in GGUF files and options: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The number that kernels know the type by: its place in the table.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The type of a name, in any case of letters.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(name)).map(|row| row.dtype)
    }

    /// The type's number in GGUF files.
    pub fn ggml_id(self) -> u32 {
        self.row().ggml_id
    }

    /// The type of a number in a GGUF file; `None` for removed and unknown numbers.
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        TABLE.iter().find(|row| row.ggml_id == id).map(|row| row.dtype)
    }

    /// Elements in one block; 1 for plain types.
    pub fn block_elements(self) -> usize {
        self.row().elements
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().bytes
    }

    /// True for single elements (F32, F16, BF16, I32), false for block formats.
    pub fn is_plain(self) -> bool {
        self.block_elements() == 1
    }

    /// True for real numbers; false for I32 only.
    pub fn is_float(self) -> bool {
        self != DType::I32
    }

    /// Bytes of a row of `elements` values; `None` if they do not fill whole blocks or the size overflows.
    pub fn row_bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_the_enum() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.dtype as usize, index, "{}", row.name);
            assert_eq!(row.name, format!("{:?}", row.dtype));
        }
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for dtype in DType::all() {
            assert_eq!(DType::from_name(&dtype.name().to_lowercase()), Some(dtype));
            assert_eq!(DType::from_ggml_id(dtype.ggml_id()), Some(dtype));
        }
        assert_eq!(DType::from_ggml_id(4), None);
    }

    #[test]
    fn row_bytes_requires_whole_blocks() {
        assert_eq!(DType::Q4_0.row_bytes(64), Some(36));
        assert_eq!(DType::Q4_0.row_bytes(33), None);
        assert_eq!(DType::F32.row_bytes(usize::MAX), None);
    }
}
