//! Formats whose groups have an integer scale below the block's scale: Q3_K, Q6_K, IQ4_XS.
//!
//! Each group is fitted alone; then the block's scale `d` maps the largest of the groups' scales to the last integer,
//! and each group takes the integer near its own scale with the smallest error. For given integers and levels, `d`
//! solves a least-squares problem of one unknown; integers and `d` are improved alternately.

use super::fit::{ScaleGrid, scale};
use super::levels::{Group, Iq4, Levels, Whole, inverse};
use super::simple::{GRID_IQ4, iq4_weights, pack_nibbles};
use super::*;

/// The most alternating improvements of the block's scale and the groups' scales.
const ROUNDS: usize = 4;

/// The least and greatest integer scale of a group.
type Integers = (f32, f32);

/// A block's scale, its groups' integers and all codes.
struct Fitted<const G: usize> {
    d: Field,
    integers: [i8; G],
    codes: [u8; 256],
}

/// `G` groups of `N` values each.
struct Groups<'a, const G: usize, const N: usize> {
    values: &'a Scaled<256>,
    w: &'a [f32; 256],
}

/// The integers for a scale `d`, their error, and the `d` that is best for them.
struct Round<const G: usize> {
    integers: [f32; G],
    error: f32,
    next: f32,
}

impl<const G: usize, const N: usize> Groups<'_, G, N> {
    fn group(&self, g: usize) -> Group<'_, N> {
        Group { x: &self.values.x.as_chunks().0[g], w: &self.w.as_chunks().0[g] }
    }

    /// Selects for each group the best of three integers around the wanted one.
    fn round<L: Levels>(&self, d: f32, wanted: [f32; G], (least, most): Integers) -> Round<G> {
        let mut round = Round { integers: [0.0; G], error: 0.0, next: d };
        let (mut up, mut down) = (0.0, 0.0);
        for (g, wanted) in wanted.into_iter().enumerate() {
            let group = self.group(g);
            let mut lowest = f32::INFINITY;
            for near in [0.0, -1.0, 1.0] {
                let integer = (wanted.round() + near).clamp(least, most);
                let error = group.error::<L>(d * integer, 0.0);
                if error < lowest {
                    (round.integers[g], lowest) = (integer, error);
                }
            }
            let integer = round.integers[g];
            let moments = group.moments::<L>(inverse(d * integer), 0.0);
            up += integer * moments.xl;
            down += integer * integer * moments.ll;
            round.error += lowest;
        }
        if down > 0.0 {
            round.next = up / down;
        }
        round
    }

    fn fit<L: Levels>(&self, grid: ScaleGrid, integers: Integers, starts: &[f32]) -> Option<Fitted<G>> {
        let scales: [f32; G] = std::array::from_fn(|g| scale::<L, N>(&self.group(g), grid));
        let plain: [f32; G] = std::array::from_fn(|g| self.group(g).extreme() / L::LEAST);
        let mut best = (self.values.field(0.0)?, [0.0; G]);
        let mut lowest = f32::INFINITY;
        let mut fits = false;
        // Start from the plain scheme, too: the result is never worse.
        let starts = starts.iter().map(|start| (scales, *start)).chain([(plain, 1.0)]);
        for (scales, start) in starts {
            // The integer of largest magnitude gets the scale of largest magnitude.
            let mut next = furthest(&scales) / integers.0 * start;
            let Some(stored) = self.values.field(next) else { continue };
            let mut wanted = scales.map(|scale| scale * inverse(stored.value));
            for _ in 0..ROUNDS {
                let Some(d) = self.values.field(next) else { break };
                fits = true;
                let round = self.round::<L>(d.value, wanted, integers);
                if round.error >= lowest {
                    break;
                }
                (best, lowest) = ((d, round.integers), round.error);
                (next, wanted) = (round.next, round.integers);
            }
        }
        let (d, integers) = best;
        let mut codes = [0; 256];
        for (g, codes) in codes.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            *codes = self.group(g).codes::<L>(d.value * integers[g], 0.0);
        }
        fits.then(|| Fitted { d, integers: integers.map(|integer| integer as i8), codes })
    }
}

/// The number of largest magnitude; the first of several.
fn furthest(scales: &[f32]) -> f32 {
    scales.iter().fold(0.0f32, |furthest, scale| if scale.abs() > furthest.abs() { *scale } else { furthest })
}

const GRID_Q3: ScaleGrid = ScaleGrid { from: 2.5, to: 5.5, step: 0.1 };
const GRID_Q6: ScaleGrid = ScaleGrid { from: 29.0, to: 36.0, step: 0.25 };

impl Quantize<256> for BlockQ3K {
    fn quantize(values: &Scaled<256>) -> Option<Self> {
        let groups = Groups::<16, 16> { values, w: &EVEN };
        let fitted = groups.fit::<Whole<-4, 3>>(GRID_Q3, (-32.0, 31.0), &[1.0, 0.95, 1.05])?;
        let mut block = BlockQ3K { hmask: [0; 32], qs: [0; 64], scales: [0; 12], d: fitted.d.bytes };
        for (i, code) in fitted.codes.into_iter().enumerate() {
            block.hmask[i % 32] |= (code >> 2) << (i / 32);
            block.qs[i / 128 * 32 + i % 32] |= (code & 3) << (i / 32 % 4 * 2);
        }
        for (g, integer) in fitted.integers.into_iter().enumerate() {
            let scale = (integer + 32) as u8;
            block.scales[g % 8] |= (scale & 15) << (g / 8 * 4);
            block.scales[8 + g % 4] |= (scale >> 4) << (g / 4 * 2);
        }
        Some(block)
    }
}

impl Quantize<256> for BlockQ6K {
    fn quantize(values: &Scaled<256>) -> Option<Self> {
        let groups = Groups::<16, 16> { values, w: &EVEN };
        let Fitted { d, integers, codes } = groups.fit::<Whole<-32, 31>>(GRID_Q6, (-128.0, 127.0), &[1.0])?;
        let mut block = BlockQ6K { ql: [0; 128], qh: [0; 64], scales: integers, d: d.bytes };
        for (i, code) in codes.into_iter().enumerate() {
            block.ql[i / 128 * 64 + i % 64] |= (code & 15) << (i / 64 % 2 * 4);
            block.qh[i / 128 * 32 + i % 32] |= (code >> 4) << (i / 32 % 4 * 2);
        }
        Some(block)
    }
}

impl Quantize<256> for BlockIq4Xs {
    fn quantize(values: &Scaled<256>) -> Option<Self> {
        let w = iq4_weights(&values.x);
        let groups = Groups::<8, 32> { values, w: &w };
        let fitted = groups.fit::<Iq4>(GRID_IQ4, (-32.0, 31.0), &[1.0, 0.95, 1.05])?;
        let mut block = BlockIq4Xs { d: fitted.d.bytes, scales_h: [0; 2], scales_l: [0; 4], qs: [0; 128] };
        for (codes, qs) in fitted.codes.as_chunks::<32>().0.iter().zip(block.qs.as_chunks_mut::<16>().0) {
            *qs = pack_nibbles(codes);
        }
        for (g, integer) in fitted.integers.into_iter().enumerate() {
            let scale = (integer + 32) as u8;
            block.scales_l[g / 2] |= (scale & 15) << (g % 2 * 4);
            block.scales_h[g / 4] |= (scale >> 4) << (g % 4 * 2);
        }
        Some(block)
    }
}
