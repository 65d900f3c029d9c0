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
use crate::tensor::dtype::for_every_format;

/// One field of all blocks of a tensor, or a run of neighbouring fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    /// The name that kernels find it by.
    pub name: &'static str,
    /// The bytes of a block that it holds.
    pub bytes: Range<usize>,
}

/// How blocks lie on a device, and how kernels read them. Kernels are given all of it by the header that
/// [`device::tables`](crate::device::tables) writes.
pub trait OnDevice {
    /// The planes, in the order of falling alignment. A format whose blocks stay whole has one.
    const PLANES: &'static [Plane];
    /// A thread unpacks a *piece* at a time: so many runs of 16 neighbouring elements.
    const VECTORS: usize;
}

/// The planes of a block, each with its name and its field, or the first and the last of its fields:
/// `plane_list!(BlockQ4K: codes = qs, scales = scales, d = d..dmin)`.
macro_rules! plane_list {
    ($block:ident: $($name:ident = $first:ident $(..$last:ident)?),*) => {
        &[$($crate::tensor::blocks::Plane {
            name: stringify!($name),
            bytes: std::mem::offset_of!($block, $first)..plane_list!(@end $block, $first $(, $last)?),
        }),*]
    };
    (@end $block:ident, $first:ident, $last:ident) => { plane_list!(@end $block, $last) };
    (@end $block:ident, $last:ident) => {
        std::mem::offset_of!($block, $last)
            + $crate::tensor::blocks::planes::size_of_field(|block: &$block| &block.$last)
    };
}
pub(super) use plane_list;

/// Bytes of the field that a function finds.
pub(super) const fn size_of_field<B, F>(_: fn(&B) -> &F) -> usize {
    size_of::<F>()
}

/// The planes of a format. Plain types have one, and so does IQ1_M, whose 56 bytes keep every field aligned: the block as
/// it is.
pub fn planes(dtype: DType) -> &'static [Plane] {
    macro_rules! of {
        ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => {
            match dtype {
                DType::F32 | DType::I32 => &[Plane { name: "elements", bytes: 0..4 }],
                DType::F16 | DType::BF16 => &[Plane { name: "elements", bytes: 0..2 }],
                $(DType::$name => super::$block::PLANES,)*
            }
        };
    }
    for_every_format!(of)
}

/// Runs of 16 elements that a thread of a kernel unpacks at a time ([`OnDevice::VECTORS`]); `None` for plain types.
pub fn vectors(dtype: DType) -> Option<usize> {
    macro_rules! of {
        ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => {
            match dtype {
                DType::F32 | DType::F16 | DType::BF16 | DType::I32 => None,
                $(DType::$name => Some(super::$block::VECTORS),)*
            }
        };
    }
    for_every_format!(of)
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
        return write(first_block * plane.bytes.len(), blocks);
    }
    let mut start = 0;
    for Plane { bytes: plane, .. } in planes {
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
        for Plane { bytes: plane, .. } in planes(dtype) {
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
            let mut bytes: Vec<usize> = planes(dtype).iter().flat_map(|plane| plane.bytes.clone()).collect();
            bytes.sort_unstable();
            assert_eq!(bytes, (0..dtype.block_bytes()).collect::<Vec<_>>(), "{dtype}");
        }
    }

    #[test]
    fn planes_keep_the_alignment_that_kernels_load_with() {
        for dtype in DType::all().filter(|&dtype| planes(dtype).len() > 1) {
            let mut before = 0;
            for Plane { bytes: plane, .. } in planes(dtype) {
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
