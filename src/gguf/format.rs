//! Constants of the format, and rules that reader and writer share.

use std::ops::RangeInclusive;

/// The first four bytes of a file.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Supported versions. Version 2 has version 3's layout; version 3 only added big endian files.
pub(super) const READ_VERSIONS: RangeInclusive<u32> = 2..=3;

/// The version of written files.
pub(super) const WRITTEN_VERSION: u32 = 3;

/// The key of the alignment of tensor data.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of a file without that key.
pub(super) const DEFAULT_ALIGNMENT: usize = 32;

/// Range of accepted alignments, which must be powers of two. The specification requires a multiple of 8; the upper
/// bound keeps padding small compared with any real tensor.
pub(super) const ALIGNMENTS: RangeInclusive<usize> = 8..=65536;

/// Required alignment of a file's first byte in memory.
pub(super) const BASE_ALIGNMENT: usize = 8;

/// Limit of header, metadata and tensor table together, in bytes. The largest vocabularies take some ten megabytes; the
/// limit keeps a sparse file from exhausting memory.
pub(super) const MAX_HEADER_BYTES: usize = 1 << 30;

/// The longest key in bytes, from the specification.
pub(super) const MAX_KEY_BYTES: usize = 65535;

/// The longest tensor name in bytes, from the specification.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// The minimum size of a key-value pair: a length, one byte of key, a type, one byte of value.
pub(super) const MIN_PAIR_BYTES: usize = 8 + 1 + 4 + 1;

/// The minimum size of a row of the tensor table: a length, one byte of name, a rank of zero, a type, an offset.
pub(super) const MIN_TENSOR_BYTES: usize = 8 + 1 + 4 + 4 + 8;

/// True if `alignment` is valid for tensor data.
pub(super) fn is_alignment(alignment: usize) -> bool {
    alignment.is_power_of_two() && ALIGNMENTS.contains(&alignment)
}

/// The first multiple of `alignment` (a power of two) at or after `offset`.
pub(super) fn align_up(offset: usize, alignment: usize) -> Option<usize> {
    offset.checked_next_multiple_of(alignment)
}

/// The name of an element type that ggml has or had and rfgraph does not support.
pub(super) fn unread_type_name(id: u32) -> Option<&'static str> {
    Some(match id {
        4 => "Q4_2, removed from the format",
        5 => "Q4_3, removed from the format",
        9 => "Q8_1",
        15 => "Q8_K",
        24 => "I8",
        25 => "I16",
        27 => "I64",
        28 => "F64",
        31 => "Q4_0_4_4, removed from the format",
        32 => "Q4_0_4_8, removed from the format",
        33 => "Q4_0_8_8, removed from the format",
        36 => "IQ4_NL_4_4, removed from the format",
        37 => "IQ4_NL_4_8, removed from the format",
        38 => "IQ4_NL_8_8, removed from the format",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn each_type_is_either_read_or_named_as_unread() {
        for id in 0..64 {
            assert!(DType::from_ggml_id(id).is_none() || unread_type_name(id).is_none(), "{id}");
        }
        for id in 0..=42 {
            assert!(DType::from_ggml_id(id).is_some() || unread_type_name(id).is_some(), "{id}");
        }
    }

    #[test]
    fn alignments_are_powers_of_two_within_bounds() {
        let accepted: Vec<usize> = (0..200_000).filter(|&n| is_alignment(n)).collect();
        assert_eq!((accepted.first(), accepted.last(), accepted.len()), (Some(&8), Some(&65536), 14));
        assert_eq!((align_up(0, 32), align_up(33, 32), align_up(usize::MAX, 32)), (Some(0), Some(64), None));
    }
}
