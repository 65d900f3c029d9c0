//! Common to the 256-element formats whose codes are points of a lattice: IQ1, IQ2, IQ3.

use bytemuck::Pod;

use super::{Block, f16_field, groups};

/// A block of 256 elements, read eight at a time: `x[i] = scale · code[i]` with codes of 8 bits.
pub trait Lattice: Pod {
    /// True if a scale covers 16 elements instead of 32.
    const FINE: bool;

    /// The codes of elements `8·p..8·p + 8`, `p` < 32.
    fn codes(&self, p: usize) -> [i8; 8];

    /// The scale of the scales, an f16.
    fn scale_of_scales(&self) -> [u8; 2];

    /// The exact scale of elements `16·t..16·t + 16`, `t` < 16, for the scale of the scales `d`.
    fn scale(&self, d: f32, t: usize) -> f32;
}

impl<B: Lattice> Block<256> for B {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = f16_field(self.scale_of_scales());
        for (p, out) in groups::<8>(out).iter_mut().enumerate() {
            let scale = self.scale(d, p / 2);
            *out = self.codes(p).map(|code| scale * f32::from(code));
        }
    }
}
