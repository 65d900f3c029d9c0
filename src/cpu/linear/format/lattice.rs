//! The formats whose codes are points of a lattice: IQ1, IQ2 and IQ3. A block is a chunk.

use super::{Format, Unpacked};
use crate::tensor::DType;
use crate::tensor::blocks::{
    BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs, Lattice,
};

/// Makes codes, which are signed bytes, unsigned.
const OFFSET: u8 = 128;

macro_rules! formats {
    ($($block:ident $name:ident,)*) => {
        $(impl Format for $block {
            const DTYPE: DType = DType::$name;
            const OFFSET: u8 = OFFSET;
            const FINE: bool = <$block as Lattice>::FINE;
            const MIN: bool = false;
            type Chunk = $block;

            #[inline(always)]
            fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
                unpack(chunk, out, half(chunk.scale_of_scales()));
            }
        })*
    };
}

formats! {
    BlockIq1S IQ1_S,
    BlockIq1M IQ1_M,
    BlockIq2Xxs IQ2_XXS,
    BlockIq2Xs IQ2_XS,
    BlockIq2S IQ2_S,
    BlockIq3Xxs IQ3_XXS,
    BlockIq3S IQ3_S,
}

/// Unpacks a block whose scales are multiplied by `d`.
#[inline(always)]
fn unpack<B: Lattice>(block: &B, out: &mut Unpacked, d: f32) {
    for (p, q) in out.q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *q = block.codes(p).map(|code| code as u8 ^ OFFSET);
    }
    if B::FINE {
        out.scale = std::array::from_fn(|t| block.scale(d, t));
    } else {
        for (g, scale) in out.scale[..8].iter_mut().enumerate() {
            *scale = block.scale(d, 2 * g);
        }
    }
}
