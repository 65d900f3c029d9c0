//! 4-bit formats whose codes are points of an uneven scale: IQ4_NL, IQ4_XS.

use bytemuck::{Pod, Zeroable};

use super::planes::{OnDevice, Plane, plane_list};
use super::{Block, f16_field, groups};

/// The values that the sixteen codes of IQ4_NL and IQ4_XS stand for: dense near zero, where most
/// weights are.
pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// IQ4_NL, 32 elements in 18 bytes: `x[i] = d · IQ4_VALUES[q[i]]`, `q` of 4 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq4Nl {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Byte `j`: bits 0..4 hold `q[j]`, bits 4..8 hold `q[j + 16]`.
    pub qs: [u8; 16],
}

/// IQ4_XS, 256 elements in 136 bytes: `x[i] = d·scale[i / 32] · IQ4_VALUES[q[i]]`, `q` of 4 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq4Xs {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// High two bits of the eight 6-bit scales: a little-endian u16 with those of scale `g` in bits
    /// `2·g..2·g + 2`.
    pub scales_h: [u8; 2],
    /// Low four bits of the scales: byte `t` holds those of scale `2·t` in bits 0..4 and of scale
    /// `2·t + 1` in bits 4..8. The scales have an offset of 32.
    pub scales_l: [u8; 4],
    /// Element `i = 32·g + 16·k + j` (`g` < 8, `k` < 2, `j` < 16) is bits `4·k..4·k + 4` of byte
    /// `16·g + j`.
    pub qs: [u8; 128],
}

impl BlockIq4Xs {
    /// The eight scales, −32..32.
    #[inline(always)]
    pub fn unpack_scales(&self) -> [i8; 8] {
        let high = u16::from_le_bytes(self.scales_h);
        let mut scales = [0; 8];
        for (g, scale) in scales.iter_mut().enumerate() {
            let low = self.scales_l[g / 2] >> (g % 2 * 4) & 15;
            *scale = (low | ((high >> (2 * g) & 3) as u8) << 4) as i8 - 32;
        }
        scales
    }
}

/// The 32 values of sixteen bytes of codes: low nibbles first, then high ones.
#[inline(always)]
fn write_codes(out: &mut [f32; 32], scale: f32, bytes: &[u8]) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = scale * f32::from(IQ4_VALUES[usize::from(byte & 15)]);
        *high = scale * f32::from(IQ4_VALUES[usize::from(byte >> 4)]);
    }
}

impl OnDevice for BlockIq4Nl {
    const PLANES: &'static [Plane] = plane_list!(BlockIq4Nl: codes = qs, scale = d);
    const VECTORS: usize = 2;
}

impl Block<32> for BlockIq4Nl {
    fn dequantize(&self, out: &mut [f32; 32]) {
        write_codes(out, f16_field(self.d), &self.qs);
    }
}

impl OnDevice for BlockIq4Xs {
    const PLANES: &'static [Plane] = plane_list!(BlockIq4Xs: codes = qs, rest = d..scales_l);
    const VECTORS: usize = 2;
}

impl Block<256> for BlockIq4Xs {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = f16_field(self.d);
        let parts = groups::<32>(out).iter_mut().zip(self.qs.as_chunks::<16>().0);
        for ((out, bytes), scale) in parts.zip(self.unpack_scales()) {
            write_codes(out, d * f32::from(scale), bytes);
        }
    }
}
