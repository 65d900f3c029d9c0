//! Blocks on a device: the same bytes, field by field instead of block by block.
//!
//! Most blocks have a size that no wide load likes: 18, 34 or 210 bytes. A kernel wants its codes 16 bytes at
//! a time from aligned addresses. So a tensor of `n` blocks of such a format lies on a device in *planes*: a
//! plane is one field (or a run of fields) of all `n` blocks, one after another; the planes follow each other
//! without gaps. No byte is added, so a tensor keeps its size, and where a field lies is arithmetic: field
//! bytes `a..b` of block `i` start at `n · (bytes of the planes before) + i · (b − a)`. Planes are in the order
//! of falling alignment, so that codes start at multiples of 16 bytes, scales at multiples of 4 or 2.

use std::ops::Range;

use crate::tensor::DType;

/// The planes of a format: for each, which bytes of a block it holds. Plain types have one, and so does IQ1_M, whose
/// 56 bytes keep every field aligned: the block as it is.
///
/// The device's side of this table is `kernels/formats.h`.
pub fn planes(dtype: DType) -> &'static [Range<usize>] {
    match dtype {
        // Codes, scale.
        DType::Q4_0 | DType::IQ4_NL => &[2..18, 0..2],
        DType::Q8_0 => &[2..34, 0..2],
        // Codes, scale and offset.
        DType::Q4_1 => &[4..20, 0..4],
        // Low bits, high bits, scale, or scale and offset.
        DType::Q5_0 => &[6..22, 2..6, 0..2],
        DType::Q5_1 => &[8..24, 4..8, 0..4],
        // Codes, scales and mins, `d` and `dmin`.
        DType::Q2_K => &[16..80, 0..16, 80..84],
        // Low bits, high bits, scales, `d`.
        DType::Q3_K => &[32..96, 0..32, 96..108, 108..110],
        // Codes, scales and mins, `d` and `dmin`.
        DType::Q4_K => &[16..144, 4..16, 0..4],
        // Low bits, high bits, scales and mins, `d` and `dmin`.
        DType::Q5_K => &[48..176, 16..48, 4..16, 0..4],
        // Low bits, high bits, scales, `d`.
        DType::Q6_K => &[0..128, 128..192, 192..208, 208..210],
        // Codes, all else.
        DType::IQ4_XS => &[8..136, 0..8],
        // Codes, scale or scales.
        DType::MXFP4 => &[1..17, 0..1],
        DType::NVFP4 => &[4..36, 0..4],
        DType::Q1_0 | DType::Q2_0 => &[2..18, 0..2],
        DType::TQ2_0 => &[0..64, 64..66],
        // Bytes of five digits, bytes of four, `d`.
        DType::TQ1_0 => &[0..48, 48..52, 52..54],
        // Indices, signs and scales, `d`.
        DType::IQ2_XXS => &[2..66, 0..2],
        // Indices and signs, scales, `d`.
        DType::IQ2_XS => &[2..66, 66..74, 0..2],
        // Indices and signs, high bits of the indices and scales, `d`.
        DType::IQ2_S => &[2..66, 66..82, 0..2],
        // Indices, signs and scales, `d`.
        DType::IQ3_XXS => &[2..66, 66..98, 0..2],
        // Low bits of the indices, signs, high bits, scales, `d`.
        DType::IQ3_S => &[2..66, 74..106, 66..74, 106..110, 0..2],
        // Indices, all else but `d`, `d`.
        DType::IQ1_S => &[2..34, 34..50, 0..2],
        _ => whole_block(dtype.block_bytes()),
    }
}

/// One plane of so many bytes; sizes that no type has give none.
fn whole_block(bytes: usize) -> &'static [Range<usize>] {
    macro_rules! of {
        ($($bytes:literal)*) => { match bytes { $($bytes => &[0..$bytes],)* _ => &[] } };
    }
    of!(2 4 56)
}

/// Takes a run of blocks of a tensor apart: calls `write` once for each plane, with where its bytes go, counted
/// from the tensor's start, and the bytes.
///
/// The tensor has `n_blocks` blocks; `blocks` holds whole ones without gaps, of which the first is number
/// `first_block`. `buffer` is working memory, kept by the caller from run to run. A format of one plane is
/// handed on without a copy.
pub fn to_planes(
    dtype: DType,
    first_block: usize,
    n_blocks: usize,
    blocks: &[u8],
    buffer: &mut Vec<u8>,
    mut write: impl FnMut(usize, &[u8]),
) {
    let planes = planes(dtype);
    if let [plane] = planes {
        return write(first_block * plane.len(), blocks);
    }
    let mut start = 0;
    for plane in planes {
        gather(dtype.block_bytes(), plane, blocks, buffer);
        write(start + first_block * plane.len(), buffer);
        start += n_blocks * plane.len();
    }
}

/// The bytes of one plane.
fn gather(block_bytes: usize, plane: &Range<usize>, blocks: &[u8], out: &mut Vec<u8>) {
    /// Fields of `N` bytes; a constant length makes each a move of a register or two.
    fn fields<const N: usize>(block_bytes: usize, start: usize, blocks: &[u8], out: &mut Vec<u8>) {
        out.resize(blocks.len() / block_bytes * N, 0);
        let places = out.as_chunks_mut::<N>().0;
        for (place, block) in places.iter_mut().zip(blocks.chunks_exact(block_bytes)) {
            if let Some(field) = block.get(start..).and_then(|rest| rest.first_chunk()) {
                *place = *field;
            }
        }
    }
    macro_rules! of {
        ($($n:literal)*) => {
            match plane.len() {
                $($n => fields::<$n>(block_bytes, plane.start, blocks, out),)*
                _ => {
                    out.clear();
                    blocks.chunks_exact(block_bytes).for_each(|block| out.extend(&block[plane.clone()]));
                }
            }
        };
    }
    of!(1 2 4 8 12 16 32 48 64 128)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The blocks that a tensor in planes is made of.
    fn from_planes(dtype: DType, tensor: &[u8]) -> Vec<u8> {
        let n_blocks = tensor.len() / dtype.block_bytes();
        let mut blocks = vec![0; tensor.len()];
        let mut start = 0;
        for plane in planes(dtype) {
            for (i, block) in blocks.chunks_exact_mut(dtype.block_bytes()).enumerate() {
                block[plane.clone()].copy_from_slice(&tensor[start + i * plane.len()..][..plane.len()]);
            }
            start += n_blocks * plane.len();
        }
        blocks
    }

    #[test]
    fn planes_hold_every_byte_once() {
        for dtype in DType::all() {
            let mut bytes: Vec<usize> = planes(dtype).iter().cloned().flatten().collect();
            bytes.sort_unstable();
            assert_eq!(bytes, (0..dtype.block_bytes()).collect::<Vec<_>>(), "{dtype}");
        }
    }

    #[test]
    fn planes_keep_the_alignment_that_kernels_load_with() {
        for dtype in DType::all().filter(|&dtype| planes(dtype).len() > 1) {
            let mut before = 0;
            for plane in planes(dtype) {
                // A field is read in words of its own alignment, at most 16 bytes each.
                let word = (1 << plane.len().trailing_zeros()).min(16);
                assert_eq!(before % word, 0, "{dtype}: plane {plane:?} starts at {before}·n");
                before += plane.len();
            }
        }
    }

    proptest! {
        #[test]
        fn blocks_come_back_however_they_are_cut(
            dtype in proptest::sample::select(DType::all().collect::<Vec<_>>()),
            bytes in vec(any::<u8>(), 256),
            n_blocks in 0usize..9,
            cut in 0usize..9,
        ) {
            let blocks: Vec<u8> = bytes.into_iter().cycle().take(n_blocks * dtype.block_bytes()).collect();
            let cut = cut.min(n_blocks);
            let (head, tail) = blocks.split_at(cut * dtype.block_bytes());
            let mut tensor = vec![0xEE; blocks.len()];
            let mut written = 0;
            let mut buffer = Vec::new();
            for (first, run) in [(0, head), (cut, tail)] {
                to_planes(dtype, first, n_blocks, run, &mut buffer, |offset, bytes| {
                    tensor[offset..offset + bytes.len()].copy_from_slice(bytes);
                    written += bytes.len();
                });
            }
            prop_assert_eq!(written, blocks.len());
            prop_assert_eq!(from_planes(dtype, &tensor), blocks);
        }
    }
}
