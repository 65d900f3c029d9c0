//! Formats whose groups have an integer scale and an integer min: Q2_K, Q4_K, Q5_K.
//!
//! Each group is fitted alone; then the block's `d` and `dmin` map the largest scale and min to the last integer, and
//! each group takes the pair of integers near its own scale and min with the smallest error. For given integers and
//! levels, `d` and `dmin` solve a least-squares problem of two unknowns; integers and both numbers are improved
//! alternately.

use super::fit::{OffsetGrid, scale_and_offset};
use super::levels::{Group, Levels, Whole, inverse};
use super::*;

/// The most alternating improvements of the block's numbers and the groups' integers.
const ROUNDS: usize = 5;

/// A block's `d` and `dmin`, the groups' integer scales and mins, and all codes.
struct Fitted<const G: usize> {
    d: Field,
    dmin: Field,
    pairs: [Pair; G],
    codes: [u8; 256],
}

/// Integer scale and min of a group.
type Pair = [f32; 2];

/// `G` groups of `N` values each.
struct Groups<'a, const G: usize, const N: usize> {
    values: &'a Scaled<256>,
    w: &'a [f32; 256],
}

/// The pairs for `d` and `dmin`, their error, and the `d` and `dmin` that are best for them.
struct Round<const G: usize> {
    pairs: [Pair; G],
    error: f32,
    next: [f32; 2],
}

/// Sums of the least-squares problem `x ≈ d·a − dmin·b`, with `a` the scale times the level and `b` the min.
#[derive(Default)]
struct Sums {
    aa: f32,
    ab: f32,
    bb: f32,
    xa: f32,
    xb: f32,
}

impl Sums {
    /// `d` and `dmin`, neither below 0; `None` if the sums do not determine them.
    fn solve(&self) -> Option<[f32; 2]> {
        let Sums { aa, ab, bb, xa, xb } = *self;
        let determinant = aa * bb - ab * ab;
        if determinant > f32::EPSILON * aa * bb {
            let both = [(xa * bb - xb * ab) / determinant, (xa * ab - xb * aa) / determinant];
            if both.iter().all(|&x| x >= 0.0) {
                return Some(both);
            }
        }
        (aa > 0.0).then(|| [(xa / aa).max(0.0), 0.0])
    }
}

impl<const G: usize, const N: usize> Groups<'_, G, N> {
    fn group(&self, g: usize) -> Group<'_, N> {
        Group { x: &self.values.x.as_chunks().0[g], w: &self.w.as_chunks().0[g] }
    }

    /// Selects for each group the best of nine pairs around the wanted one.
    fn round<L: Levels>(&self, [d, dmin]: [f32; 2], wanted: [Pair; G], most: f32) -> Round<G> {
        let mut round = Round { pairs: [[0.0; 2]; G], error: 0.0, next: [d, dmin] };
        let mut sums = Sums::default();
        for (g, wanted) in wanted.into_iter().enumerate() {
            let group = self.group(g);
            let [scale, min] = wanted.map(f32::round);
            let mut lowest = f32::INFINITY;
            for (ds, dm) in NEAR {
                let pair = [(scale + ds).clamp(0.0, most), (min + dm).clamp(0.0, most)];
                let error = group.error::<L>(d * pair[0], -dmin * pair[1]);
                if error < lowest {
                    (round.pairs[g], lowest) = (pair, error);
                }
            }
            let [scale, min] = round.pairs[g];
            let m = group.moments::<L>(inverse(d * scale), -dmin * min);
            sums.aa += scale * scale * m.ll;
            sums.ab += scale * min * m.l;
            sums.bb += min * min * m.w;
            sums.xa += scale * m.xl;
            sums.xb += min * m.x;
            round.error += lowest;
        }
        round.next = sums.solve().unwrap_or(round.next);
        round
    }

    fn fit<L: Levels>(&self, grid: OffsetGrid, most: f32, starts: &[[f32; 2]]) -> Option<Fitted<G>> {
        let alone: [Pair; G] = std::array::from_fn(|g| {
            let (scale, offset) = scale_and_offset::<L, N>(&self.group(g), 0.0, grid);
            [scale, -offset]
        });
        let plain: [Pair; G] = std::array::from_fn(|g| {
            let (least, greatest) = self.group(g).range();
            let least = least.min(0.0);
            [(greatest - least).max(0.0) / L::MOST, -least]
        });
        let zero = self.values.field(0.0)?;
        let mut best = (zero, zero, [[0.0; 2]; G]);
        let mut lowest = f32::INFINITY;
        let mut fits = false;
        // Start from the plain scheme, too: the result is never worse.
        let starts = starts.iter().map(|start| (alone, *start)).chain([(plain, [1.0; 2])]);
        for (pairs, start) in starts {
            let largest = |k: usize| pairs.iter().fold(0.0f32, |largest, pair| largest.max(pair[k]));
            let mut next = [largest(0) / most * start[0], largest(1) / most * start[1]];
            let stored = self.values.field(next[0]).zip(self.values.field(next[1]));
            let Some((d, dmin)) = stored else { continue };
            let mut wanted = pairs.map(|pair| [pair[0] * inverse(d.value), pair[1] * inverse(dmin.value)]);
            let mut before = f32::INFINITY;
            for _ in 0..ROUNDS {
                let (Some(d), Some(dmin)) = (self.values.field(next[0]), self.values.field(next[1])) else {
                    break;
                };
                fits = true;
                let round = self.round::<L>([d.value, dmin.value], wanted, most);
                if round.error >= before {
                    break;
                }
                before = round.error;
                if round.error < lowest {
                    (best, lowest) = ((d, dmin, round.pairs), round.error);
                }
                (next, wanted) = (round.next, round.pairs);
            }
        }
        let (d, dmin, pairs) = best;
        let mut codes = [0; 256];
        for (g, codes) in codes.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            *codes = self.group(g).codes::<L>(d.value * pairs[g][0], -dmin.value * pairs[g][1]);
        }
        fits.then_some(Fitted { d, dmin, pairs, codes })
    }
}

/// Offsets of the candidate pairs from the wanted pair, which comes first.
const NEAR: [(f32, f32); 9] = [
    (0.0, 0.0),
    (-1.0, 0.0),
    (1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (-1.0, -1.0),
    (1.0, 1.0),
    (-1.0, 1.0),
    (1.0, -1.0),
];

/// Integers up to 15 are coarse: clamping the largest scale or min may reduce the error of the others more.
const STARTS_Q2: [[f32; 2]; 4] = [[1.0, 1.0], [0.9, 1.0], [1.0, 0.9], [0.85, 0.85]];

const GRID_Q2: OffsetGrid = &[-0.3, -0.15, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75];
const GRID_Q4: OffsetGrid = &[-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0];

/// The twelve bytes of eight 6-bit scales and mins; see
/// [`unpack_scales_mins`](super::super::k_quants::unpack_scales_mins).
fn pack_scales_mins(pairs: &[Pair; 8]) -> [u8; 12] {
    let pair = |g: usize| pairs[g].map(|x| x as u8);
    let mut packed = [0; 12];
    for t in 0..4 {
        let ([scale, min], [late_scale, late_min]) = (pair(t), pair(t + 4));
        packed[t] = scale | (late_scale >> 4) << 6;
        packed[t + 4] = min | (late_min >> 4) << 6;
        packed[t + 8] = (late_scale & 15) | (late_min & 15) << 4;
    }
    packed
}

/// Low four bits of the codes of Q4_K and Q5_K.
fn pack_low_bits(codes: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|at| {
        let first = at / 32 * 64 + at % 32;
        codes[first] & 15 | codes[first + 32] << 4
    })
}

impl Quantize<256> for BlockQ2K {
    fn quantize(values: &Scaled<256>) -> Option<Self> {
        let groups = Groups::<16, 16> { values, w: &EVEN };
        let fitted = groups.fit::<Whole<0, 3>>(GRID_Q2, 15.0, &STARTS_Q2)?;
        let (d, dmin) = (fitted.d.bytes, fitted.dmin.bytes);
        let scales = fitted.pairs.map(|[scale, min]| scale as u8 | (min as u8) << 4);
        let mut block = BlockQ2K { scales, qs: [0; 64], d, dmin };
        for (i, code) in fitted.codes.into_iter().enumerate() {
            block.qs[i / 128 * 32 + i % 32] |= code << (i / 32 % 4 * 2);
        }
        Some(block)
    }
}

impl Quantize<256> for BlockQ4K {
    fn quantize(values: &Scaled<256>) -> Option<Self> {
        let Fitted { d, dmin, pairs, codes } =
            Groups::<8, 32> { values, w: &EVEN }.fit::<Whole<0, 15>>(GRID_Q4, 63.0, &[[1.0; 2]])?;
        let scales = pack_scales_mins(&pairs);
        Some(Self { d: d.bytes, dmin: dmin.bytes, scales, qs: pack_low_bits(&codes) })
    }
}

impl Quantize<256> for BlockQ5K {
    fn quantize(values: &Scaled<256>) -> Option<Self> {
        let Fitted { d, dmin, pairs, codes } =
            Groups::<8, 32> { values, w: &EVEN }.fit::<Whole<0, 31>>(GRID_Q4, 63.0, &[[1.0; 2]])?;
        let mut qh = [0; 32];
        for (i, code) in codes.into_iter().enumerate() {
            qh[i % 32] |= (code >> 4) << (i / 32);
        }
        let scales = pack_scales_mins(&pairs);
        Some(Self { d: d.bytes, dmin: dmin.bytes, scales, qh, qs: pack_low_bits(&codes) })
    }
}
